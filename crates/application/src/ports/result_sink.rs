//! A place for results of one's own: a warehouse, a topic, a table.

use async_trait::async_trait;
use punctual_domain::Batch;

use super::StoredResult;

/// Takes the results of batches that are over, of jobs whose `deliver` names it as `{"sink": NAME}`.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ResultSink: Send + Sync {
    /// Takes some results of a batch, in the order of its chunks and tenants; `last` with the last of them.
    ///
    /// They come at least once: after a failure, or the end of the process, the same ones come again. The job, the tenant
    /// and the occurrence tell a result from all others.
    ///
    /// # Errors
    /// Why they cannot be taken now. They come again, with growing waits, for about three days.
    async fn take(&self, batch: &Batch, results: &[StoredResult], last: bool)
    -> Result<(), String>;
}
