//! Batches and results: claimed and committed by the processor, read by the API.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{
    Batch, BatchStatus, Chunk, ItemResult, ItemStatus, JobId, Occurrence, TenantId,
};
use uuid::Uuid;

/// Keeps batches and the result of every item.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait BatchStore: Send + Sync {
    /// Claims the items of a chunk that still have to run, under `token`. Items with an outcome, and items
    /// that another batch ran or is running for the same occurrence, are not claimed. Claiming a chunk again
    /// takes its unfinished items away from the earlier token.
    async fn claim(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Vec<TenantId>, StoreError>;

    /// Commits results of a chunk's items. Returns how many were taken: results of items that `token` no
    /// longer holds are dropped.
    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<usize, StoreError>;

    /// Marks a chunk as done, if all its items have an outcome; the last one completes its batch.
    async fn finish(&self, chunk: &Chunk, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Batches, newest first.
    async fn batches(
        &self,
        filter: &BatchFilter,
        page: &Page,
    ) -> Result<(Vec<Batch>, Option<String>), StoreError>;

    /// One batch.
    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError>;

    /// Results of a batch, by tenant.
    async fn results(
        &self,
        filter: &ResultFilter,
        page: &Page,
    ) -> Result<(Vec<StoredResult>, Option<String>), StoreError>;

    /// Runs of a tenant, newest first.
    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<(Vec<StoredResult>, Option<String>), StoreError>;
}

/// Which batches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchFilter {
    /// Of this job only.
    pub job_id: Option<JobId>,
    /// In this status only.
    pub status: Option<BatchStatus>,
}

/// Which results of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultFilter {
    /// Of which batch.
    pub batch_id: Uuid,
    /// In this status only.
    pub status: Option<ItemStatus>,
}

/// Whose runs.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRuns {
    /// Of which tenant.
    pub tenant_id: TenantId,
    /// Of this job only.
    pub job_id: Option<JobId>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Where the last page ended, as it said.
    pub cursor: Option<String>,
    /// How many entries, at most 1,000.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            cursor: None,
            limit: 100,
        }
    }
}

/// A result as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResult {
    /// Which job.
    pub job_id: JobId,
    /// Which batch ran it.
    pub batch_id: Uuid,
    /// Which run.
    pub occurrence: Occurrence,
    /// When it fell due.
    pub scheduled_at: DateTime<Utc>,
    /// The outcome.
    pub result: ItemResult,
}

/// Why the store failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What happened.
    pub message: String,
    /// Whether the caller gave something wrong (a cursor that is none), rather than the store failing.
    pub invalid_input: bool,
}

impl StoreError {
    /// The store failed; trying later may help.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            invalid_input: false,
        }
    }

    /// The caller asked for something that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            invalid_input: true,
        }
    }
}
