//! When the next call may begin by a rate of calls and by a rate of tokens.

use std::time::Duration;

use tokio::time::Instant;

const SECONDS_PER_MINUTE: f64 = 60.0;

/// The longest pause for tokens, however many an endpoint says that it used.
const MAX_TOKEN_PAUSE: Duration = Duration::from_hours(24);

/// When the next call may begin, by the rate of calls, and by the rate of tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    next_call_by_requests: Instant,
    next_call_by_tokens: Instant,
}

impl Rates {
    /// The next call may begin at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_call_by_requests: now,
            next_call_by_tokens: now,
        }
    }

    /// When the next call may begin.
    pub(super) fn due(&self) -> Instant {
        self.next_call_by_requests.max(self.next_call_by_tokens)
    }

    /// Counts a call.
    pub(super) fn begin(&mut self, per_minute: Option<u32>, now: Instant) {
        if let Some(per_minute) = per_minute {
            self.next_call_by_requests =
                self.next_call_by_requests.max(now) + time_of_call(per_minute);
        }
    }

    /// Does not count a call that was not made.
    pub(super) fn refund(&mut self, per_minute: Option<u32>) {
        let earlier = per_minute.and_then(|per_minute| {
            self.next_call_by_requests
                .checked_sub(time_of_call(per_minute))
        });
        self.next_call_by_requests = earlier.unwrap_or(self.next_call_by_requests);
    }

    /// Counts the tokens that a call has used.
    pub(super) fn add_tokens(&mut self, tokens: u64, per_minute: Option<u32>, now: Instant) {
        if let Some(per_minute) = per_minute {
            let cost = tokens as f64 * SECONDS_PER_MINUTE / f64::from(per_minute.max(1));
            let most = MAX_TOKEN_PAUSE.as_secs_f64();
            let next = self.next_call_by_tokens.max(now) + Duration::from_secs_f64(cost.min(most));
            self.next_call_by_tokens = next.min(now + MAX_TOKEN_PAUSE);
        }
    }
}

fn time_of_call(per_minute: u32) -> Duration {
    Duration::from_secs_f64(SECONDS_PER_MINUTE / f64::from(per_minute.max(1)))
}
