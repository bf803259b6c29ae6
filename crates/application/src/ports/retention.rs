//! Removes what has been kept for long enough, in portions so small that nothing else has to wait for them.
//!
//! A run is removed as a whole or not at all: when the last of its batches fell due longer ago than its job keeps it, all of them are
//! over, and what they deliver has been delivered or given up. Results that are kept the shorter time go first; batches, chunks and
//! counts of failures stay as long as the failures. Deliveries go before the first of them: made again, they would deliver what is
//! left as if it were all. What may still be asked of a run that was removed is kept: the last date of
//! such a run ([`Retention::removed_to`]), after which it is not known who ran, and the last success of each item, which
//! [`BatchStore::previous`](super::BatchStore::previous) still finds.
//!
//! `testing::contract::retention` checks what an implementation keeps to.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_domain::{BatchConfig, JobId, KeepDays};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// Removes what has been kept for long enough.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Retention: Send + Sync {
    /// Removes one portion of about `rows` rows in one transaction. A pass over the store is many calls: each goes on where the
    /// last one of this process has stopped.
    async fn remove(
        &self,
        policy: &RetentionPolicy,
        rows: u32,
        now: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError>;

    /// What a pass would remove now, by job and kind; of results, what their batches have counted.
    async fn removable(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError>;

    /// The last date of a job's runs of which results have been removed; `None`: of none. Of a run on a later date everything is
    /// there.
    async fn removed_to(&self, job_id: &JobId) -> Result<Option<NaiveDate>, StoreError>;

    /// Before when nothing is to be removed; `None`: it may begin.
    async fn begins_at(&self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Whether batches that fell due after `since` are not over.
    async fn is_busy(&self, since: DateTime<Utc>) -> Result<bool, StoreError>;
}

/// How long the runs of each job are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// Days, by job.
    pub jobs: BTreeMap<JobId, KeepDays>,
}

impl RetentionPolicy {
    /// How long the audit log is kept.
    pub const AUDIT_LOG: TimeDelta = TimeDelta::days(365);

    /// That of these jobs.
    #[must_use]
    pub fn of(config: &BatchConfig) -> Self {
        let jobs = config.jobs.iter();
        Self {
            jobs: jobs.map(|job| (job.job_id.clone(), job.keep)).collect(),
        }
    }

    /// How long the runs of a job are kept: the usual time where it is none of the policy's.
    #[must_use]
    pub fn of_job(&self, job_id: &JobId) -> KeepDays {
        self.jobs.get(job_id).copied().unwrap_or_default()
    }

    /// The longest time for which results of any job are kept.
    #[must_use]
    pub fn longest(&self) -> TimeDelta {
        let usual = KeepDays::default().longest();
        let jobs = self.jobs.values().map(|keep| keep.longest());
        jobs.fold(usual, TimeDelta::max)
    }
}

/// What one transaction has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemovedPortion {
    /// Number of rows, by kind.
    pub rows: BTreeMap<RemovedKind, u64>,
    /// How long it kept others from writing.
    pub held: Duration,
    /// Whether the pass is over.
    pub is_last: bool,
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RemovedKind {
    /// Results of items.
    Results,
    /// Items that were skipped.
    SkippedItems,
    /// Dead letters.
    DeadLetters,
    /// Deliveries that are over.
    Deliveries,
    /// Chunks, with what they consisted of.
    Chunks,
    /// Batches.
    Batches,
    /// Runs.
    Runs,
    /// What the first of two purposes has made.
    KeptOutputs,
    /// What was prepared and never taken.
    PreparedOutputs,
    /// Provider batches that are over, or are of purposes that do not exist any more.
    ProviderBatches,
    /// Contents of preferences that no result refers to any more.
    Preferences,
    /// Last successes that are too old to be asked for.
    LastSuccesses,
    /// Entries of the audit log.
    AuditLog,
    /// Requests under idempotency keys.
    Requests,
}

impl RemovedKind {
    /// The word in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::SkippedItems => "skipped_items",
            Self::DeadLetters => "dead_letters",
            Self::Deliveries => "deliveries",
            Self::Chunks => "chunks",
            Self::Batches => "batches",
            Self::Runs => "runs",
            Self::KeptOutputs => "kept_outputs",
            Self::PreparedOutputs => "prepared_outputs",
            Self::ProviderBatches => "provider_batches",
            Self::Preferences => "preferences",
            Self::LastSuccesses => "last_successes",
            Self::AuditLog => "audit_log",
            Self::Requests => "requests",
        }
    }
}

/// Rows of one kind that a pass would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Removable {
    /// The job; `null`: they are of no job.
    pub job_id: Option<JobId>,
    /// What they are.
    pub kind: RemovedKind,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes, estimated.
    pub bytes: u64,
    /// When the oldest of them fell due or was written.
    pub oldest: Option<DateTime<Utc>>,
}
