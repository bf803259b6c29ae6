//! Where the schedulers put what fell due.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Firing, JobId, NewBatch, Progress};

use super::StoreError;

/// Takes one tick's firing and remembers how far each job has been planned.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// How far a job has been planned; `None` before its first tick.
    async fn progress(&self, job_id: &JobId) -> Result<Option<Progress>, StoreError>;

    /// The jobs that are paused.
    async fn paused(&self) -> Result<BTreeSet<JobId>, StoreError>;

    /// Pauses a job, or lets it go on: nothing of a paused job falls due.
    async fn set_paused(
        &self,
        job_id: &JobId,
        paused: bool,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Stores the batches, their chunks and the progress in one transaction. A batch that is already there
    /// is left as it is, and `furthest_until` never goes back: another agent may have been further.
    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError>;
}

/// What [`WorkQueue::enqueue`] stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Enqueued {
    /// The batches that were new.
    pub batches: Vec<NewBatch>,
}
