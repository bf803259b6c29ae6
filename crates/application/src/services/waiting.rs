//! What both processors keep to when an item waits: what a handler may ask for, and what is known of earlier calls.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{AtDeadline, ItemId, MAX_WAIT, MAX_WAITING_STATE_BYTES, Outcome, Waiting};

use crate::ports::{Attempts, Claim, HandlerError};

/// A handler is polled at most so often.
const MIN_POLL_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// The outcome of a call or a poll. A deadline and a time to poll that are too near or too far are brought within bounds;
/// to wait until the past, or with too much state, is a failure.
pub(crate) fn accepted(
    outcome: Result<Outcome, HandlerError>,
    now: DateTime<Utc>,
) -> Result<Outcome, HandlerError> {
    let mut waiting = match outcome {
        Ok(Outcome::Waiting(waiting)) => waiting,
        outcome => return outcome,
    };
    let bytes = waiting.state.to_string().len();
    if bytes > MAX_WAITING_STATE_BYTES {
        return Err(HandlerError::permanent(format!(
            "the handler's state for the time it waits is {bytes} bytes of JSON; at most {MAX_WAITING_STATE_BYTES} are kept"
        )));
    }
    if waiting.until <= now {
        return Err(deadline_passed(&waiting));
    }
    waiting.until = waiting.until.min(now + MAX_WAIT);
    waiting.poll_at = waiting.poll_at.map(|at| at.max(now + MIN_POLL_INTERVAL));
    Ok(Outcome::Waiting(waiting))
}

/// The failure of a call that was not completed until its deadline.
pub(crate) fn deadline_passed(waiting: &Waiting) -> HandlerError {
    let until = waiting.until.format("%Y-%m-%d %H:%M:%S UTC");
    let message = format!("no completion by {until}");
    match waiting.at_deadline {
        AtDeadline::Retry => HandlerError::retryable(message),
        AtDeadline::Fail => HandlerError::permanent(message),
    }
}

/// The attempts at an item in calls that waited, and when the first began. Those of an aggregate are those of any of its
/// recipients.
pub(crate) fn resumed(claim: &Claim, item_id: &ItemId) -> Option<(Attempts, DateTime<Utc>)> {
    let own = claim.resumed.get(item_id);
    let of_recipient = || {
        let mut resumed = claim.resumed.values();
        resumed.next().filter(|_| item_id.is_aggregate())
    };
    own.or_else(of_recipient).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ports::HandlerErrorKind;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_handler_asks_for_is_brought_within_bounds() {
        let now = at("2026-03-01T09:00:00Z");
        let asked =
            Waiting::until(at("2027-03-01T09:00:00Z")).polled_at(at("2026-01-01T00:00:00Z"));
        let Ok(Outcome::Waiting(waiting)) = accepted(Ok(Outcome::Waiting(asked)), now) else {
            panic!("it waits");
        };
        assert_eq!(waiting.until, at("2026-03-31T09:00:00Z"));
        assert_eq!(waiting.poll_at, Some(at("2026-03-01T09:00:01Z")));
    }

    #[test]
    fn too_much_state_and_a_deadline_in_the_past_are_failures() {
        let now = at("2026-03-01T09:00:00Z");
        let failure = |waiting| accepted(Ok(Outcome::Waiting(waiting)), now).unwrap_err();
        let state = json!("x".repeat(MAX_WAITING_STATE_BYTES));
        let error = failure(Waiting::until(at("2026-03-02T09:00:00Z")).with_state(state));
        assert_eq!(error.kind, HandlerErrorKind::Permanent);
        assert!(error.message.contains("262146 bytes"), "{error}");
        let passed = Waiting::until(now);
        let error = failure(passed.clone());
        assert_eq!(error.message, "no completion by 2026-03-01 09:00:00 UTC");
        assert_eq!(error.kind, HandlerErrorKind::Retryable);
        let error = failure(passed.at_deadline(AtDeadline::Fail));
        assert_eq!(error.kind, HandlerErrorKind::Permanent);
    }
}
