//! A clock for tests: a fixed start plus the time tokio says has passed, so that one
//! `tokio::time::advance` moves the wall clock and every timer together.

use std::sync::Mutex;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
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
    ///
    /// # Panics
    /// After a panic in another thread that held the clock.
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
        let now = start + TimeDelta::from_std(self.origin.elapsed()).unwrap_or(TimeDelta::MAX);
        now.trunc_subsecs(6)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::testing::contract;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_contract() {
        let clock = ManualClock::starting_at("2026-03-01T09:00:00.123456789Z");
        tokio::time::advance(Duration::from_nanos(1_234_567)).await;
        contract::clock(&clock).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_timers_and_steps_without_them() {
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let sleeper = Arc::clone(&clock);
        let woken = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            sleeper.now()
        });
        tokio::task::yield_now().await;
        clock.step(TimeDelta::hours(1));
        tokio::task::yield_now().await;
        assert!(!woken.is_finished(), "a step wakes no sleeper");
        tokio::time::advance(Duration::from_mins(1)).await;
        let woken = woken.await.expect("no panic").to_rfc3339();
        assert_eq!(woken, "2026-03-01T10:01:00+00:00");
    }
}
