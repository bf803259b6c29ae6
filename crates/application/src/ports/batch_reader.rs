//! What has been run, is running and has failed, for the API, the display and commands.
//!
//! Lists are paged by a cursor that the implementation chooses; it refuses one of another list with
//! [`StoreErrorKind::InvalidCursor`](super::StoreErrorKind::InvalidCursor). An implementation is one of four ports of a
//! store; `testing::contract::store` checks them together.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{
    Batch, BatchStatus, DeadLetter, DeadLetterState, FailureKind, ItemId, ItemResult, ItemStatus,
    JobId, KeyForm, Occurrence,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::StoreError;

/// A page of a list, and where the next one begins.
pub type Paged<T> = (Vec<T>, Option<String>);

/// Reads batches, results and dead letters.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait BatchReader: Send + Sync {
    /// Tells when batches may have begun, progressed or ended, or a job was paused or resumed. Progress of other processes may
    /// come without it.
    fn changes(&self) -> watch::Receiver<()>;

    /// Batches, newest first.
    async fn batches(&self, filter: &BatchFilter, page: &Page) -> Result<Paged<Batch>, StoreError>;

    /// One batch.
    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError>;

    /// Results of a batch, chunk by chunk, by tenant.
    async fn results(
        &self,
        filter: &ResultFilter,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError>;

    /// Runs of a tenant, newest first, those that are running now included. What prepares a run is not among them.
    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError>;

    /// Those of the items whose occurrence of a job has succeeded, failed, had nothing to do, is running, or was
    /// [erased](super::TenantRecords::erase): none of them runs when it is queued again. What was skipped is not among them: it does.
    async fn started_items(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        items: &[ItemId],
    ) -> Result<BTreeSet<ItemId>, StoreError>;

    /// Dead letters, newest first.
    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Paged<DeadLetter>, StoreError>;

    /// Number of dead letters.
    async fn dead_letter_count(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError>;
}

/// Selects batches; the default selects all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchFilter {
    /// Only this job.
    pub job_id: Option<JobId>,
    /// Only batches in this status.
    pub status: Option<BatchStatus>,
}

/// Selects results of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultFilter {
    /// The batch.
    pub batch_id: Uuid,
    /// Only results in this status.
    pub status: Option<ItemStatus>,
}

/// Selects runs of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRuns {
    /// The tenant, or the item of a plain job.
    pub item_id: ItemId,
    /// Only this job.
    pub job_id: Option<JobId>,
    /// Only runs that fell due at this instant or later.
    pub since: Option<DateTime<Utc>>,
}

/// Selects dead letters; the default selects all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeadLetterFilter {
    /// Only this job.
    pub job_id: Option<JobId>,
    /// Only this tenant.
    pub item_id: Option<ItemId>,
    /// Only dead letters in this state.
    pub state: Option<DeadLetterState>,
    /// Only failures of this kind.
    pub failure_kind: Option<FailureKind>,
    /// Only those with an id of at most this.
    pub up_to: Option<i64>,
    /// Only these ids.
    pub ids: Option<BTreeSet<i64>>,
    /// Only those that were settled at this instant.
    pub settled_at: Option<DateTime<Utc>>,
    /// Only those that were settled later than this.
    pub settled_after: Option<DateTime<Utc>>,
    /// Only those that were last opened again at this instant.
    pub reopened_at: Option<DateTime<Utc>>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Cursor that the previous page returned; `None`: the first page.
    pub cursor: Option<String>,
    /// Maximum number of entries, 1 to 1,000 (default: 100).
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

/// A result as it stands in the store, and as it is shown and delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredResult {
    /// The job that ran.
    pub job_id: JobId,
    /// The batch that ran it.
    pub batch_id: Uuid,
    /// The run of the job for this tenant.
    pub occurrence: Occurrence,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// The outcome.
    #[serde(flatten)]
    pub result: ItemResult,
    /// How its idempotency key is written.
    #[serde(skip)]
    pub key_form: KeyForm,
}

impl StoredResult {
    /// Tells this result from every other one, and is the same each time that it is delivered. A run whose failure was
    /// delivered has another one when a replay succeeds.
    #[must_use]
    pub fn delivery_id(&self) -> String {
        let item = &self.result.item_id;
        let key = self.key_form.key(&self.job_id, item, self.occurrence);
        match self.key_form {
            KeyForm::Colons => key,
            KeyForm::Slashes => format!("{key}/{}", self.batch_id),
        }
    }
}
