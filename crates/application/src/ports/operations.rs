//! What operators see beside single batches: how each job does, who works on what, and what operators have done.
//!
//! `testing::contract::operations` checks what an implementation keeps: the audit log and idempotency keys.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::JobId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Page, Paged, StoreError};

/// Sums up what runs, and keeps the audit log.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait OperatorStore: Send + Sync {
    /// How the jobs have done with what fell due since then, by job.
    async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<JobActivity>, StoreError>;

    /// The processes that hold work now, by name.
    async fn replica_leases(&self) -> Result<Vec<ReplicaLease>, StoreError>;

    /// The leader, and when its lease ends; `None` where the store is not shared, or no process holds the lease.
    async fn leader(&self) -> Result<Option<(String, DateTime<Utc>)>, StoreError>;

    /// The deliveries that have failed more than once in a row, and those of batches that ended after
    /// `given_up_since` that were given up, by job.
    async fn failing_deliveries(
        &self,
        given_up_since: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError>;

    /// Adds an entry to the audit log.
    async fn record(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// The request of an operator under this key, or, where there is none that is younger than a day, a new one.
    async fn request(&self, new: &NewRequest, now: DateTime<Utc>) -> Result<Request, StoreError>;

    /// Keeps what a request was answered with; without an answer, forgets the request.
    async fn answer(&self, request: Uuid, answer: Option<Value>) -> Result<(), StoreError>;

    /// What operators have asked for, newest first.
    async fn audit_log(&self, page: &Page) -> Result<Paged<AuditEntry>, StoreError>;
}

/// What an operator asks for under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// The call and the job.
    pub scope: String,
    /// The key, as it was sent.
    pub key: String,
    /// What is asked for, so that another request under the same key is noticed.
    pub fingerprint: String,
}

/// A request under an idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Drawn for its first attempt, and the same for each repetition.
    pub id: Uuid,
    /// Time of its first attempt.
    pub at: DateTime<Utc>,
    /// Fingerprint of what was asked for.
    pub fingerprint: String,
    /// What it was answered with; `None`: it is being dealt with, or was when its process ended.
    pub answer: Option<Value>,
}

/// How a job has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobActivity {
    /// The job.
    pub job_id: JobId,
    /// Batches that fell due.
    pub batches: u64,
    /// Items in those that are over.
    pub items: u64,
    /// Items of them that succeeded.
    pub succeeded: u64,
    /// Items of them that failed for good.
    pub failed: u64,
    /// The longest that one whose slot fell due came into the queue after it, in milliseconds.
    pub worst_lateness_ms: u64,
}

/// Deliveries of a job that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FailingDeliveries {
    /// The job.
    pub job_id: JobId,
    /// Whether they were given up; otherwise they are retried.
    pub given_up: bool,
    /// Number of deliveries.
    pub deliveries: u64,
    /// When the oldest of their batches ended.
    pub since: DateTime<Utc>,
    /// Reason of the last failure of one of them.
    pub reason: String,
}

/// Work that a process has claimed, and its last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicaLease {
    /// The process, by the name it claims with.
    pub process: String,
    /// Chunks it has claimed and not ended.
    pub chunks: u64,
    /// The jobs they are of.
    pub jobs: u64,
    /// Time at which it claimed the oldest of its chunks.
    pub since: DateTime<Utc>,
    /// Time of the last heartbeat; `None`: unknown.
    pub last_seen: Option<DateTime<Utc>>,
}

impl ReplicaLease {
    /// How long a process that holds work may be silent before it counts as unresponsive. Others have taken
    /// its work over by then, unless its job is paused or no other process is left.
    pub const UNRESPONSIVE_AFTER: TimeDelta = TimeDelta::seconds(15);

    /// Whether it still holds work and its last heartbeat is too old or unknown.
    #[must_use]
    pub fn is_unresponsive(&self, now: DateTime<Utc>) -> bool {
        self.last_seen
            .is_none_or(|seen| now - seen > Self::UNRESPONSIVE_AFTER)
    }
}

/// An action of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Time of the request.
    pub at: DateTime<Utc>,
    /// The interface, `page` or `api`, and the address of the caller.
    pub by: String,
    /// Action: `pause`, `resume`, `trigger`, `backfill`, `cancel`, `replay`, `discard` or `sign_out`.
    pub action: String,
    /// Job, batch or dead letters that the action was about.
    pub subject: String,
    /// Further parts of the request, in words.
    pub detail: String,
}
