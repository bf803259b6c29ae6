//! The one back-off: waits that double. Who waits decides what a failure is, when to give up, and what a remote endpoint
//! that asks for more time gets; [`Backoff`] says only how long.

use std::time::Duration;

/// Waits between attempts: each is twice the one before, up to a longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits from `first` up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after `failures` in a row, from 1.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        let wait = 2_u32
            .checked_pow(doublings)
            .and_then(|times| self.first.checked_mul(times));
        wait.unwrap_or(self.longest).min(self.longest)
    }
}

/// `wait`, or as little as half of it by `random`, from 0 up to 1: processes that failed together do not all return
/// together.
#[must_use]
pub fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_however_many_failures_there_were() {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_mins(1));
        let waits = [0, 1, 2, 3, 7, 8, 33, u32::MAX].map(|n| backoff.after(n).as_millis());
        assert_eq!(
            waits,
            [500, 500, 1_000, 2_000, 32_000, 60_000, 60_000, 60_000]
        );
        let short = Backoff::new(Duration::from_secs(5), Duration::from_secs(2));
        assert_eq!(short.after(1), Duration::from_secs(2));
    }

    #[test]
    fn at_least_half_of_a_wait_is_waited() {
        let waits = [0.0, 0.5, 1.0, 7.0].map(|random| jittered(Duration::from_secs(4), random));
        assert_eq!(waits.map(|wait| wait.as_secs()), [2, 3, 4, 4]);
    }
}
