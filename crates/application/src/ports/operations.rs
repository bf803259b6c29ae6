//! What operators see beside single batches: how each job does, who works on what, and what operators have done.
//!
//! `testing::contract::operations` checks what an implementation keeps: the audit log and idempotency keys.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Delivery, JobId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Page, Paged, StoreError};

/// Sums up what runs, and keeps the audit log.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait OperatorStore: Send + Sync {
    /// How the jobs have done with what fell due since then, by job. A failed item that was replayed counts as its replay ended.
    async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<JobActivity>, StoreError>;

    /// The processes that hold work now, by name.
    async fn replica_leases(&self) -> Result<Vec<ReplicaLease>, StoreError>;

    /// The leader, and when its lease ends; `None` where the store is not shared, or no process holds the lease.
    async fn leader(&self) -> Result<Option<(String, DateTime<Utc>)>, StoreError>;

    /// The deliveries that a filter by [`DeliveryFilter::failing_since`] with this instant selects, in sum, by job.
    async fn failing_deliveries(
        &self,
        given_up_since: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError>;

    /// The open dead letters in sum, by job.
    async fn open_dead_letters(&self) -> Result<Vec<OpenDeadLetters>, StoreError>;

    /// Items that were skipped since then because they had not begun in time, in sum, by job. What was skipped in the hour of that
    /// instant counts as a whole.
    async fn expired_items(&self, since: DateTime<Utc>) -> Result<Vec<ExpiredItems>, StoreError>;

    /// Items that have ended since the beginning of the hour of that instant, of one job or of all, by the hour in which their batch
    /// ended, oldest first. Hours in which no batch ended are left out, and those from more than 31 days ago may be.
    async fn outcomes_by_hour(
        &self,
        since: DateTime<Utc>,
        job_id: Option<JobId>,
    ) -> Result<Vec<HourlyOutcomes>, StoreError>;

    /// Batches that were due and in the queue by then, and have not begun, in sum, by job: of those that have been due longest, at
    /// most [`WaitingWork::MAX_BATCHES`] of jobs that are paused, and as many of others.
    async fn waiting_work(&self, due_before: DateTime<Utc>)
    -> Result<Vec<WaitingWork>, StoreError>;

    /// Deliveries of batches that are over, newest first.
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Paged<StoredDelivery>, StoreError>;

    /// Makes deliveries due at `now` that have failed or were given up, with a new period of retries from `asked_at` on. Those that
    /// are done, or on their way, stay as they are. Returns how many are due.
    async fn deliver_again(
        &self,
        deliveries: &[Redelivery],
        asked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// Stores that an operator knows of a finding, in place of an earlier acknowledgement of it.
    async fn acknowledge(&self, acknowledgement: &Acknowledgement) -> Result<(), StoreError>;

    /// Forgets this acknowledgement, unless another one of the finding has taken its place.
    async fn withdraw_acknowledgement(
        &self,
        acknowledgement: &Acknowledgement,
    ) -> Result<(), StoreError>;

    /// What operators have acknowledged.
    async fn acknowledgements(&self) -> Result<Vec<Acknowledgement>, StoreError>;

    /// Adds an entry to the audit log.
    async fn record(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// The request of an operator under this key, or, where there is none that is younger than a day, a new one.
    async fn request(&self, new: &NewRequest, now: DateTime<Utc>) -> Result<Request, StoreError>;

    /// Keeps what a request was answered with; without an answer, forgets the request.
    async fn answer(&self, request: Uuid, answer: Option<Value>) -> Result<(), StoreError>;

    /// What operators have asked for, newest first.
    async fn audit_log(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<AuditEntry>, StoreError>;
}

/// Selects entries of the audit log; the default selects all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Only this action, such as `pause`.
    pub action: Option<String>,
    /// Only entries about this subject, such as a job.
    pub subject: Option<String>,
}

/// The open dead letters of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenDeadLetters {
    /// The job.
    pub job_id: JobId,
    /// Number of dead letters.
    pub count: u64,
    /// When the oldest of them failed.
    pub first_failed_at: DateTime<Utc>,
    /// The batch of the newest of them.
    pub batch_id: Uuid,
    /// The five most frequent reasons of the newest 1,000 of them, with how many failed so; the most frequent first.
    pub reasons: Vec<(String, u64)>,
}

impl OpenDeadLetters {
    /// Number of dead letters whose reasons are looked at.
    pub const SEARCHED: u32 = 1_000;
    /// Number of reasons.
    pub const MAX_REASONS: u32 = 5;
}

/// Items of a job that were skipped because they had not begun in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredItems {
    /// The job.
    pub job_id: JobId,
    /// Number of items.
    pub items: u64,
    /// When the first of them was skipped.
    pub since: DateTime<Utc>,
    /// A number that grows with each item that expires, also while `items` shrinks because older ones have dropped out.
    pub mark: u64,
}

impl ExpiredItems {
    /// The [`mark`](Self::mark) of the newest hour, counted since 1970, in which so many items were skipped.
    #[must_use]
    pub fn mark_of(hour: u64, items: u64) -> u64 {
        hour * 1_000_000_000 + items
    }
}

/// Items whose batches ended in the same hour. One that was replayed counts each time that it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourlyOutcomes {
    /// Begin of the hour, in UTC.
    pub hour: DateTime<Utc>,
    /// Items that succeeded or had nothing to do.
    pub succeeded: u64,
    /// Items that failed for good.
    pub failed: u64,
    /// The longest that a batch whose slot fell due came into the queue after it, in milliseconds.
    pub worst_lateness_ms: u64,
}

/// Batches of a job that are due and have not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingWork {
    /// The job.
    pub job_id: JobId,
    /// Number of batches.
    pub batches: u64,
    /// Number of their items.
    pub items: u64,
    /// Since when the first of them has been due and in the queue.
    pub since: DateTime<Utc>,
    /// Whether another batch of the job has begun and is not over.
    pub others_run: bool,
    /// Number of processes, of all jobs, that sent a heartbeat within [`ReplicaLease::UNRESPONSIVE_AFTER`].
    pub live_processes: u64,
}

impl WaitingWork {
    /// Number of batches that are looked at.
    pub const MAX_BATCHES: u32 = 10_000;
}

/// Selects deliveries; the default selects all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeliveryFilter {
    /// Only this delivery.
    pub id: Option<i64>,
    /// Only results of this job.
    pub job_id: Option<JobId>,
    /// Only results of these batches.
    pub batch_ids: Option<BTreeSet<Uuid>>,
    /// Only deliveries whose last try failed, or that were given up.
    pub failed: bool,
    /// Only deliveries that have failed at least twice in a row, and those that were given up, of batches that ended at this
    /// instant or later.
    pub failing_since: Option<DateTime<Utc>>,
    /// Only deliveries that an operator last had made again at this instant.
    pub asked_at: Option<DateTime<Utc>>,
}

impl DeliveryFilter {
    /// How long after their batch deliveries that were given up are reported.
    pub const GIVEN_UP_REPORTED_FOR: TimeDelta = TimeDelta::days(7);

    /// The deliveries that fail at `now`, as the findings report them: those that have failed at least twice in a row, and those
    /// that were given up, of batches of the last seven days.
    #[must_use]
    pub fn failing(now: DateTime<Utc>) -> Self {
        Self {
            failing_since: Some(now - Self::GIVEN_UP_REPORTED_FOR),
            ..Self::default()
        }
    }
}

/// A delivery that is to be made again.
#[derive(Debug, Clone, PartialEq)]
pub struct Redelivery {
    /// Number of the delivery.
    pub id: i64,
    /// Where it goes from now on.
    pub target: Delivery,
    /// Whether that is another place, which gets all results from the first one on; otherwise it goes on where it has come to.
    pub from_start: bool,
}

/// A delivery as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDelivery {
    /// Number of the delivery.
    pub id: i64,
    /// Batch whose results are delivered.
    pub batch_id: Uuid,
    /// The job.
    pub job_id: JobId,
    /// Where they go.
    pub target: Delivery,
    /// How far it is.
    pub state: DeliveryState,
    /// Number of failures in a row.
    pub tries: u32,
    /// Next try; `None`: there is none.
    pub next_try: Option<DateTime<Utc>>,
    /// Reason of the last failure; `None`: the last try succeeded, or there was none.
    pub reason: Option<String>,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Results are still to be delivered.
    Open,
    /// All results have arrived.
    Done,
    /// It is not retried any more.
    GivenUp,
}

impl DeliveryState {
    /// Its word, as it is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::GivenUp => "given_up",
        }
    }
}

/// That an operator knows of a finding, until it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Id of the finding.
    pub finding: String,
    /// The state of the finding that was acknowledged. It holds for no other state.
    pub state: Uuid,
    /// What the finding was about, as [`Operator`](crate::Operator) writes it: it does not hold for more.
    pub covers: String,
    /// Time of the acknowledgement.
    pub at: DateTime<Utc>,
    /// Who acknowledged it.
    pub by: String,
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
    /// Whether it was there already: this is a repetition.
    pub is_known: bool,
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
    /// Items of them that are over: those that succeeded, failed, had nothing to do or were skipped.
    pub items: u64,
    /// Items that succeeded.
    pub succeeded: u64,
    /// Items that failed for good.
    pub failed: u64,
    /// Items that there was nothing to do for.
    pub nothing_to_do: u64,
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
    /// The name of the operator and the way they came, such as `ann (key)` or `ann@shop.example (OIDC)`. Where no one is asked for a
    /// key: the interface, `page` or `api`, and the address of the caller.
    pub by: String,
    /// Action: `pause`, `resume`, `trigger`, `backfill`, `cancel`, `replay`, `discard`, `reopen`, `deliver_again`,
    /// `acknowledge`, `unacknowledge`, `suppress`, `unsuppress`, `erase_tenant`, `export_tenant`, `restore`, `add_key`, `revoke_key` or
    /// `sign_out`.
    pub action: String,
    /// Job, batch or dead letters that the action was about.
    pub subject: String,
    /// Further parts of the request, in words.
    pub detail: String,
    /// Why, in the words of the operator; `null`: they gave no reason.
    #[serde(default)]
    pub reason: Option<String>,
}
