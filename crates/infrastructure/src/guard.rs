//! Calls of ports that embedders implement. A call that panics or hangs is an error of that call: it is counted, and
//! its caller logs it and tries again. A call that blocks its thread instead of awaiting cannot be interrupted: such work
//! belongs into `spawn_blocking`.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It panicked, with this message.
    Panicked(String),
    /// It took longer than this.
    TimedOut(Duration),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked ({message})"),
            Self::TimedOut(limit) => write!(f, "did not answer within {} s", limit.as_secs()),
        }
    }
}

/// Awaits a call of the method `call`, for example `ResultSink::take`, for at most `limit`.
pub(crate) async fn guarded<T>(
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, Unanswered> {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let (unanswered, reason) = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(panic)) => (Unanswered::Panicked(message_of(panic.as_ref())), "panic"),
        Err(_) => (Unanswered::TimedOut(limit), "timeout"),
    };
    metrics::counter!("punctual_unanswered_calls_total", "call" => call, "reason" => reason)
        .increment(1);
    Err(unanswered)
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned())
        .unwrap_or_else(|| "see the log".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_panics_or_hangs_is_an_error_of_that_call() {
        let limit = Duration::from_secs(60);
        assert_eq!(guarded("call", limit, async { 7 }).await, Ok(7));
        let panics = guarded("call", limit, async { panic!("number {}", 7) }).await;
        let panics: Result<(), _> = panics;
        assert_eq!(panics.unwrap_err().to_string(), "panicked (number 7)");
        let hangs = guarded("call", limit, std::future::pending::<()>()).await;
        assert_eq!(hangs.unwrap_err().to_string(), "did not answer within 60 s");
    }
}
