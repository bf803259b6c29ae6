//! When a failed item is retried: exponential backoff with full jitter, in this one layer.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    backoff::Backoff,
    ports::{HandlerError, HandlerErrorKind},
};

/// Number of extra retries of an item that the remote endpoint refuses because of its rate limit.
const EXTRA_THROTTLED_RETRIES: u32 = 20;
/// Longest wait, whatever the remote endpoint asks for.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Longest waits, before jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), MAX_DELAY);

/// How often, and after what wait, a failed item is retried.
#[derive(Clone)]
pub struct RetryPolicy {
    limit: u32,
    random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl RetryPolicy {
    /// At most `limit` retries after the first attempt. `random` gives numbers from 0 up to 1.
    pub fn new(limit: u32, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self {
            limit,
            random: Arc::new(random),
        }
    }

    /// The same policy with a job's own limit, where it has one.
    pub(crate) fn with_limit(&self, limit: Option<u32>) -> Self {
        Self {
            limit: limit.unwrap_or(self.limit),
            random: Arc::clone(&self.random),
        }
    }

    /// How long to wait after `attempt` (from 1) failed with `error`; `None` when it was the last. `refusals` attempts
    /// so far, this one included, were refused because of a rate limit: those are not failures of the item.
    pub(crate) fn delay_before_retry(
        &self,
        attempt: u32,
        refusals: u32,
        error: &HandlerError,
    ) -> Option<Duration> {
        let exhausted = match error.kind {
            HandlerErrorKind::Permanent => true,
            HandlerErrorKind::Retryable => attempt.saturating_sub(refusals) > self.limit,
            HandlerErrorKind::Throttled => {
                attempt > self.limit.saturating_add(EXTRA_THROTTLED_RETRIES)
            }
        };
        if exhausted {
            return None;
        }
        let ceiling = BACKOFF.after(attempt);
        let jittered = ceiling.mul_f64((self.random)().clamp(0.0, 1.0));
        Some(
            error
                .retry_after
                .map_or(jittered, |asked| jittered.max(asked))
                .min(MAX_DELAY),
        )
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(random: f64, error: &HandlerError) -> Vec<Option<u64>> {
        let policy = RetryPolicy::new(3, move || random);
        (1..=4)
            .map(|attempt| {
                policy
                    .delay_before_retry(attempt, 0, error)
                    .map(|d| d.as_millis() as u64)
            })
            .collect()
    }

    #[test]
    fn waits_double_are_jittered_from_zero_and_end_with_the_limit() {
        let error = HandlerError::retryable("busy");
        assert_eq!(
            delays(1.0, &error),
            [Some(500), Some(1000), Some(2000), None]
        );
        assert_eq!(
            delays(0.5, &error),
            [Some(250), Some(500), Some(1000), None]
        );
        assert_eq!(delays(0.0, &error), [Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn a_refusal_leaves_the_retries_of_an_item_alone() {
        let policy = RetryPolicy::new(3, || 0.0);
        let (refused, failed) = (
            HandlerError::throttled("slow down", None),
            HandlerError::retryable("x"),
        );
        assert!(policy.delay_before_retry(23, 23, &refused).is_some());
        assert!(policy.delay_before_retry(24, 24, &refused).is_none());
        assert!(
            policy.delay_before_retry(23, 20, &failed).is_some(),
            "the third failure"
        );
        assert!(
            policy.delay_before_retry(24, 20, &failed).is_none(),
            "the fourth"
        );
    }

    #[test]
    fn a_permanent_error_is_not_retried_and_a_hint_is_kept_within_bounds() {
        assert_eq!(delays(1.0, &HandlerError::permanent("no")), [None; 4]);
        let hint = |secs| HandlerError::retryable("").with_retry_after(Duration::from_secs(secs));
        assert_eq!(delays(0.0, &hint(7))[0], Some(7_000));
        assert_eq!(delays(0.0, &hint(86_400))[0], Some(60_000));
    }
}
