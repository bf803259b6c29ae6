//! What the port [`Clock`] promises: whole microseconds, and time that passes as tokio's does.

use std::time::Duration;

use chrono::{SubsecRound, TimeDelta};

use crate::ports::Clock;

/// Checks a clock that is not stepped meanwhile, in tokio's time as it is, paused or not.
///
/// # Panics
/// It breaks a promise.
pub async fn clock(clock: &dyn Clock) {
    let mut last = clock.now();
    for _ in 0..1_000 {
        let now = clock.now();
        assert!(now >= last, "{now} comes after {last}");
        assert_eq!(now, now.trunc_subsecs(6), "whole microseconds");
        last = now;
    }
    let wait = TimeDelta::milliseconds(3);
    tokio::time::sleep(Duration::from_millis(3)).await;
    let passed = clock.now() - last;
    // The machine's clock is slewed now and then.
    assert!(passed > wait / 2, "{passed} passed in a sleep of {wait}");
}
