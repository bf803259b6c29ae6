//! A place for results of one's own: a warehouse, a topic, a table.
//!
//! Implement [`take`](ResultSink::take) so that results that come twice do no harm:
//! [`StoredResult::delivery_id`] is the same each time. Name the sink in a job's `deliver` and give it to the deliverer
//! under that name. `testing::contract::result_sink` checks one.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_domain::Batch;

use super::{
    StoredResult,
    cause::{Cause, error_chain},
};

/// Takes the results of batches that are over, of jobs whose `deliver` names it as `{"sink": NAME}`.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ResultSink: Send + Sync {
    /// Takes some results of a batch, in the order of its chunks and tenants; `last` with the last of them.
    ///
    /// They come at least once: after a failure, or the end of the process, the same ones come again. A batch without
    /// results, for example one that was cancelled, brings none, as its last ones. [`StoredResult::delivery_id`] tells a
    /// result from all others.
    ///
    /// Calls for one sink come one after the other in each process, and other deliveries go on meanwhile. A call may take
    /// four minutes; one that takes longer is dropped at any `await`, and one that panics is caught. Both count as retryable
    /// errors.
    ///
    /// # Errors
    /// [`SinkError`] says whether another attempt makes sense. After a retryable one the results come again, with growing
    /// waits, until the delivery expires; after a permanent one the delivery is given up at once.
    async fn take(
        &self,
        batch: &Batch,
        results: &[StoredResult],
        last: bool,
    ) -> Result<(), SinkError>;
}

#[async_trait]
impl<T: ResultSink + ?Sized> ResultSink for Arc<T> {
    async fn take(
        &self,
        batch: &Batch,
        results: &[StoredResult],
        last: bool,
    ) -> Result<(), SinkError> {
        (**self).take(batch, results, last).await
    }
}

/// Failure of a sink to take results.
///
/// Any error becomes a retryable one by `?`. Therefore it does not implement [`Error`] itself; [`source`](Self::source)
/// gives the error it was made from. Its text is stored and shown, so it must hold no secret: leave the URL out of an HTTP
/// client's error.
#[derive(Debug, Clone)]
pub struct SinkError {
    message: String,
    retryable: bool,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

impl SinkError {
    /// A later attempt may succeed.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retryable: true,
            retry_after: None,
            cause: None,
        }
    }

    /// No later attempt makes sense: the delivery is given up.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            retryable: false,
            ..Self::retryable(message)
        }
    }

    /// The same, with the least time until the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = retry_after.into();
        self
    }

    /// The same, with the error that caused it. `message` should contain its text.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }

    /// Whether a later attempt may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The least time until the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The error that caused it.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for SinkError {
    fn from(error: E) -> Self {
        Self::retryable(error_chain(&error)).with_source(error)
    }
}
