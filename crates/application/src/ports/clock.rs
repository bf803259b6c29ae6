//! The time, as a port, so that tests and simulations can set it.
//!
//! In tests, `testing::ManualClock` shows a fixed start plus tokio's time, paused or not.

use chrono::{DateTime, SubsecRound, Utc};

/// Tells the time. Waiting is tokio's business: its paused time moves together with a manual clock.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
pub trait Clock: Send + Sync {
    /// The time now, in whole microseconds: the finest that every store keeps.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}
