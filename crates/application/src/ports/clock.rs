//! The time, as a port, so that tests and simulations can set it.
//!
//! In tests, `testing::ManualClock` shows a fixed start plus tokio's time, paused or not. `testing::contract::clock` checks
//! an implementation.

use chrono::{DateTime, SubsecRound, Utc};

/// Tells the time. Waiting is tokio's business: its paused time moves together with a manual clock.
///
/// It goes on as tokio's time does, and may step in either direction, as the machine's clock does when somebody sets it.
/// Code that needs to know how long something took asks tokio's `Instant`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract;

    #[tokio::test]
    async fn the_clock_of_the_machine_keeps_the_contract() {
        contract::clock(&SystemClock).await;
    }
}
