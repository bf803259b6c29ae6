//! A clock for tests: a fixed start plus the time tokio says has passed, so that one
//! `tokio::time::advance` moves the wall clock and every timer together.

use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::ports::Clock;

/// A clock that starts where a test says. Under tokio's paused time it stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    origin: Instant,
    start: Mutex<DateTime<Utc>>,
}

impl ManualClock {
    /// A clock that shows `start` now.
    ///
    /// # Panics
    /// If `start` is not RFC 3339.
    #[must_use]
    pub fn starting_at(start: &str) -> Self {
        let start = start.parse().expect("a test gives an instant in RFC 3339");
        Self {
            origin: Instant::now(),
            start: Mutex::new(start),
        }
    }

    /// Steps the wall clock without moving any timer, as an operator or NTP would.
    pub fn step(&self, by: TimeDelta) {
        *self
            .start
            .lock()
            .expect("nothing panics while it holds the lock") += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        let start = *self
            .start
            .lock()
            .expect("nothing panics while it holds the lock");
        start + TimeDelta::from_std(self.origin.elapsed()).unwrap_or(TimeDelta::MAX)
    }
}
