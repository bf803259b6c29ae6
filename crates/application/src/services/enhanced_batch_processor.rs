//! The processor for work that follows preferences. It owns a [`BatchProcessor`] and adds what that one does
//! not know: each tenant's own parameters at the moment the item starts, a limit over the whole process,
//! retries, and the end of the process.

mod prepare;
mod retry;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use punctual_domain::{Chunk, Item, ItemResult, ItemStatus, Zone};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use self::prepare::Prepared;
pub use self::retry::RetryPolicy;
use crate::{
    ports::{ConfigDatabase, ItemSource},
    services::{
        batch_processor::{BatchProcessor, ChunkReport, ProcessError},
        jobs::Jobs,
    },
};

/// How much runs at once, and how failures are retried.
#[derive(Clone)]
pub struct Limits {
    /// Items running at one time in the whole process, over all chunks; at least 1.
    pub max_concurrent_items: usize,
    /// Retries of a failed item.
    pub retry: RetryPolicy,
}

/// Runs chunks of any job with every tenant's own parameters.
#[derive(Clone)]
pub struct EnhancedBatchProcessor {
    base: BatchProcessor,
    config_database: Arc<dyn ConfigDatabase>,
    item_source: Arc<dyn ItemSource>,
    jobs: Jobs,
    default_zone: Zone,
    retry: RetryPolicy,
    permits: Arc<Semaphore>,
    max_concurrent_items: usize,
    stopping: watch::Receiver<bool>,
}

impl EnhancedBatchProcessor {
    /// A processor of these jobs, on top of `base`. Once `stopping` turns true, no further item
    /// begins.
    pub fn new(
        base: BatchProcessor,
        config_database: Arc<dyn ConfigDatabase>,
        item_source: Arc<dyn ItemSource>,
        jobs: impl Into<Jobs>,
        default_zone: Zone,
        limits: Limits,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let max_concurrent_items = limits.max_concurrent_items.max(1);
        Self {
            base,
            config_database,
            item_source,
            jobs: jobs.into(),
            default_zone,
            retry: limits.retry,
            permits: Arc::new(Semaphore::new(max_concurrent_items)),
            max_concurrent_items,
            stopping,
        }
    }

    /// The time on the clock that results are stamped with.
    #[must_use]
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.base.clock().now()
    }

    /// Runs what is left to run of a chunk.
    ///
    /// # Errors
    /// [`ProcessError`]; the chunk must be delivered again. What was committed before stays.
    pub async fn process(&self, chunk: &Chunk) -> Result<ChunkReport, ProcessError> {
        let claimed = self.base.claim(chunk).await?;
        let prepared = self.prepare(chunk, &claimed.items).await?;
        let retry_limit = self
            .jobs
            .current()
            .job(&chunk.job_id)
            .and_then(|job| job.retry_limit);
        let policy = self.retry.with_limit(retry_limit);
        let results = stream::iter(prepared)
            .take_while(|_| std::future::ready(!*self.stopping.borrow()))
            .map(|prepared| async {
                match prepared {
                    Prepared::Skip(result) => Some(result),
                    Prepared::Run(item) => self.run(item, &policy).await,
                }
            })
            .buffer_unordered(self.max_concurrent_items);
        let report = self.base.commit_all(chunk, &claimed, results).await?;
        info!(
            chunk_id = %chunk.chunk_id, job_id = %chunk.job_id, succeeded = report.succeeded,
            failed = report.failed, skipped = report.skipped,
            "Chunk {} of {} is done: {} succeeded, {} failed, {} skipped",
            chunk.chunk_id, chunk.job_id, report.succeeded, report.failed, report.skipped
        );
        Ok(report)
    }

    /// Runs one item to its end. `None` when the process stops between two attempts.
    async fn run(&self, mut item: Item, policy: &RetryPolicy) -> Option<ItemResult> {
        let mut started_at = None;
        loop {
            let permit = self.permits.acquire().await.ok()?;
            let began = *started_at.get_or_insert_with(|| self.base.clock().now());
            let outcome = self.base.attempt(&item).await;
            drop(permit);
            let delay = match &outcome {
                Err(error) => policy.delay_before_retry(item.attempt, error),
                Ok(_) => None,
            };
            let Some(delay) = delay else {
                let result = self.base.result(&item, began, outcome);
                if let (ItemStatus::Failed, Some(error)) = (result.status, &result.error) {
                    warn!(tenant_id = %item.tenant_id, job_id = %item.job_id, attempts = item.attempt,
                        error, "Item of {} in {} failed for good after {} attempts: {error}",
                        item.tenant_id, item.job_id, item.attempt);
                }
                return Some(result);
            };
            self.wait(delay).await?;
            item.attempt += 1;
        }
    }

    /// Waits, unless the process stops before the time is over.
    async fn wait(&self, delay: Duration) -> Option<()> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = tokio::time::sleep(delay) => Some(()),
            Ok(_) = stopping.wait_for(|stopping| *stopping) => None,
        }
    }
}

#[cfg(test)]
mod tests;
