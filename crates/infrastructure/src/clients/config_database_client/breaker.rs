//! The circuit breaker: after some failures in a row, calls fail at once for a moment instead of each waiting for its own
//! timeout, and the server can come back without them.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Failures in a row that open the circuit.
const FAILURES_BEFORE_OPEN: u32 = 5;
/// How long no call is made then, and after each call that finds the server still failing.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// Counts failures over all calls.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Failures since the last success.
    failures: u32,
    /// The last failure since the last success, in words.
    reason: Option<String>,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made. While the circuit is open, one call in every [`OPEN_FOR`] may: it finds out whether the
    /// server works again.
    pub(super) fn allows(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match state.open_until {
            Some(until) if now < until => return false,
            Some(_) => state.open_until = Some(now + OPEN_FOR),
            None => {}
        }
        true
    }

    /// Why calls fail; `None`: they do not.
    pub(super) fn reason(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.reason.clone()
    }

    /// A call has ended, with this failure if it failed.
    pub(super) fn note(&self, failure: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            *state = State::default();
            return;
        }
        state.reason = failure;
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_BEFORE_OPEN {
            state.open_until = Some(Instant::now() + OPEN_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_lets_one_call_through_now_and_then_until_one_succeeds() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_BEFORE_OPEN {
            assert!(breaker.allows());
            breaker.note(Some("down".to_owned()));
        }
        assert!(!breaker.allows(), "it is open");
        assert_eq!(breaker.reason().as_deref(), Some("down"));
        tokio::time::advance(OPEN_FOR).await;
        let allowed = [breaker.allows(), breaker.allows()];
        assert_eq!(allowed, [true, false], "one finds out");
        tokio::time::advance(OPEN_FOR).await;
        assert!(breaker.allows(), "the one before may have been dropped");
        breaker.note(Some("down".to_owned()));
        assert!(!breaker.allows(), "it failed");
        tokio::time::advance(OPEN_FOR).await;
        assert!(breaker.allows());
        breaker.note(None);
        assert!(breaker.allows() && breaker.allows(), "it is closed");
        assert_eq!(breaker.reason(), None);
        for _ in 1..FAILURES_BEFORE_OPEN {
            breaker.note(Some("down".to_owned()));
        }
        breaker.note(None);
        breaker.note(Some("down".to_owned()));
        assert!(breaker.allows(), "a success between starts anew");
    }
}
