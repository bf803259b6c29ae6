//! What the API answers with: the types that the server writes, that `/openapi.json` describes, and that the agent's
//! commands read. What an operator's action answers with stands beside the action, in `punctual-application`.
//!
//! To add an answer, write its type here (or beside its action), name it in the endpoint's `#[utoipa::path]`, and add it
//! to the snapshots of `tests.rs`.

use chrono::{DateTime, Utc};
use punctual_application::{
    DueItems, JobView, Quarantined, RestoredStore, ScheduleInZone, Severity, ZoneInUse,
    ports::{
        self, AuditEntry, DeliveryState, OperatorKey, PastRun, StoredAlert, StoredDelivery,
        StoredResult, Suppression,
    },
};
use punctual_domain::{
    self as domain, AtDeadline, BatchStatus, DeadLetter, EmailAddress, FeatureType, ItemId, JobId,
    Occurrence, PurposeId, TenantId, Trigger, WaitingStatus,
};
pub use punctual_web::health::{Liveness, Readiness, Version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The jobs in effect.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    /// The jobs, in the order of their file.
    pub jobs: Vec<JobView>,
    /// Time until which everything due has been planned; `null` before the first plan.
    pub planned_until: Option<DateTime<Utc>>,
}

/// Whether a job is paused now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PausedJob {
    /// The job.
    pub job_id: JobId,
    /// Whether it is paused.
    pub paused: bool,
}

/// Upcoming items.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Upcoming {
    /// Start of the period, exclusive.
    pub from: DateTime<Utc>,
    /// End of the period, inclusive.
    pub until: DateTime<Utc>,
    /// What falls due, by instant and job.
    pub upcoming: Vec<DueItems>,
}

/// Time zones that tenants are scheduled in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Zones {
    /// The version of the time zone database in effect.
    pub tzdb: String,
    /// The zones, by name.
    pub zones: Vec<ZoneInUse>,
}

/// Tenants that are scheduled in a time zone.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ZoneSchedules {
    /// The zone.
    pub zone: String,
    /// What tenants have chosen in it, by job and time.
    pub schedules: Vec<ScheduleInZone>,
}

/// Preferences that cannot be used.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Quarantine {
    /// Preferences that a job cannot use, and entries of the Config Database that cannot be read.
    pub quarantine: Vec<Quarantined>,
    /// Number of them.
    pub count: usize,
}

/// A batch: one job falling due for one slot at one instant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Id of the batch.
    pub batch_id: Uuid,
    /// The job.
    pub job_id: JobId,
    /// The slot in words, or `manual`, `replay` or the schedule of a job that has one.
    pub slot: String,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// Trigger of the batch.
    pub trigger: Trigger,
    /// Status of the batch.
    pub status: BatchStatus,
    /// Numbers of its items, by outcome.
    pub progress: BatchProgress,
    /// When the batch was queued.
    pub created_at: DateTime<Utc>,
    /// Time at which its last item was done; `null`: some are not.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Numbers of a batch's items, by outcome.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchProgress {
    /// Number of items.
    pub total: u64,
    /// Number of items that have an outcome.
    pub processed: u64,
    /// Number of items that succeeded.
    pub succeeded: u64,
    /// Number of items that failed for good.
    pub failed: u64,
    /// Number of those that failed and have been replayed since.
    pub replayed: u64,
    /// Number of items that were not run, for a reason.
    pub skipped: u64,
    /// Number of items that there was nothing to do for.
    pub nothing_to_do: u64,
    /// Number of items whose work goes on elsewhere; they have no outcome yet.
    #[serde(default)]
    pub waiting: u64,
    /// Part of the items that have an outcome, 0.0 to 100.0, cut to tenths.
    pub percentage: f64,
}

impl From<&domain::Batch> for Batch {
    fn from(batch: &domain::Batch) -> Self {
        Self {
            batch_id: batch.batch_id,
            job_id: batch.job_id.clone(),
            slot: batch.slot.clone(),
            scheduled_at: batch.scheduled_at,
            trigger: batch.trigger,
            status: batch.status,
            progress: batch.into(),
            created_at: batch.created_at,
            finished_at: batch.finished_at,
        }
    }
}

impl From<&domain::Batch> for BatchProgress {
    fn from(batch: &domain::Batch) -> Self {
        let (total, processed) = (batch.total, batch.processed());
        let permille = (processed * 1000).checked_div(total).unwrap_or(1000);
        Self {
            total,
            processed,
            succeeded: batch.succeeded,
            failed: batch.failed,
            replayed: batch.replayed,
            skipped: batch.skipped,
            nothing_to_do: batch.nothing_to_do,
            waiting: batch.waiting,
            percentage: permille as f64 / 10.0,
        }
    }
}

impl Batch {
    /// A word for how it stands, for people: one that waits because its job is paused, or for work elsewhere, is not running.
    #[must_use]
    pub fn state(&self, is_paused: bool) -> &'static str {
        match (self.finished_at, self.status) {
            (None, BatchStatus::Queued | BatchStatus::Running) if is_paused => "paused",
            (None, BatchStatus::Running) if self.progress.only_waits() => "waiting",
            (_, status) => status.as_str(),
        }
    }
}

impl BatchProgress {
    /// Whether all that is left are items whose work goes on elsewhere.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        self.waiting > 0 && self.processed + self.waiting >= self.total
    }
}

/// An event of the stream of batches.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchEvent {
    /// Always `batch`.
    pub event: String,
    /// The batch, as `GET /api/v1/batches/{batch_id}` shows it.
    pub data: Batch,
}

/// A page of batches.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Batches {
    /// The batches, newest first.
    pub batches: Vec<Batch>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// A batch that has been cancelled.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CancelledBatch {
    /// The batch.
    pub batch_id: Uuid,
    /// Always `cancelled`.
    pub status: BatchStatus,
}

/// A page of the results of a batch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Results {
    /// The batch.
    pub batch_id: Uuid,
    /// The results, chunk by chunk, by tenant.
    pub results: Vec<StoredResult>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// A page of the runs of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Runs {
    /// The runs, newest first, those that are running now included.
    pub runs: Vec<StoredResult>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// What has run for a tenant for a feature, as the tenant may see it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PastRuns {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The feature.
    pub feature_type: FeatureType,
    /// The newest runs of the last 90 days that have ended, newest first. Of an occurrence that was skipped and has been run
    /// since, only the run is listed.
    pub runs: Vec<PastRun>,
}

/// A page of the items that wait.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WaitingCalls {
    /// The calls whose items wait, the longest first.
    pub waiting: Vec<WaitingCall>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// A call whose item, or the items of an aggregate, wait because the work goes on elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitingCall {
    /// The tenant or item, or the items of an aggregate.
    pub tenant_ids: Vec<ItemId>,
    /// The job.
    pub job_id: JobId,
    /// The batch.
    pub batch_id: Uuid,
    /// The run of the job.
    pub occurrence: Occurrence,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// The purpose that was called.
    pub purpose_id: PurposeId,
    /// Number of attempts at the purpose.
    pub attempts: u32,
    /// Since when it waits, until when, and how far the work has come.
    #[serde(flatten)]
    pub waiting: WaitingStatus,
    /// What happens at the deadline: `retry` or `fail`.
    pub at_deadline: AtDeadline,
    /// When its handler asks for the state of the work; `null`: never.
    pub poll_at: Option<DateTime<Utc>>,
    /// Whether its batch has been cancelled: it only waits to be skipped.
    pub cancelled: bool,
}

/// Without its id and the state of its handler.
impl From<ports::WaitingCall> for WaitingCall {
    fn from(call: ports::WaitingCall) -> Self {
        Self {
            tenant_ids: call.items,
            job_id: call.job_id,
            batch_id: call.batch_id,
            occurrence: call.occurrence,
            scheduled_at: call.scheduled_at,
            purpose_id: call.purpose_id,
            attempts: call.attempts.made,
            waiting: WaitingStatus {
                since: call.since,
                until: call.waiting.until,
                progress: call.progress,
            },
            at_deadline: call.waiting.at_deadline,
            poll_at: call.waiting.poll_at,
            cancelled: call.is_cancelled,
        }
    }
}

/// A page of dead letters.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetters {
    /// Items that failed for good, newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// What is wrong.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FindingList {
    /// What is wrong: what is acknowledged last, and the worst first.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The same for the same cause, such as `paused/posts`.
    pub id: String,
    /// Changes with the cause: an acknowledgement holds for one state.
    pub state: Uuid,
    /// How bad it is.
    pub severity: Severity,
    /// Description in words.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when; `null`: it is not known.
    pub since: Option<DateTime<Utc>>,
    /// The operator who knows of it, and since when; `null`: none does.
    pub acknowledged: Option<Acknowledged>,
}

/// That an operator knows of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// Who acknowledged it.
    pub by: String,
    /// Time of the acknowledgement.
    pub at: DateTime<Utc>,
}

/// What an operator says about a finding.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeRequest {
    /// Id of the finding.
    pub id: String,
    /// The state of the finding that is acknowledged. It is refused when the finding has another one by now.
    pub state: Uuid,
    /// Whether it is known (the default); `false` withdraws the acknowledgement.
    #[serde(default = "yes")]
    pub known: bool,
}

fn yes() -> bool {
    true
}

impl Finding {
    pub(crate) fn of(finding: &punctual_application::Finding, remedy: String) -> Self {
        let known = finding.acknowledged.as_ref();
        Self {
            id: finding.id(),
            state: finding.state(),
            severity: finding.severity,
            what: finding.in_full(),
            remedy,
            since: finding.since,
            acknowledged: known.map(|known| Acknowledged {
                by: known.by.clone(),
                at: known.at,
            }),
        }
    }
}

/// A page of deliveries.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Deliveries {
    /// Deliveries of batches that are over, newest first.
    pub deliveries: Vec<Delivery>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// The results of a batch on their way to one place.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Number of the delivery.
    pub id: i64,
    /// Batch whose results are delivered.
    pub batch_id: Uuid,
    /// The job.
    pub job_id: JobId,
    /// Where they go, such as `file out.ndjson`. What may be secret of a URL is left out.
    pub target: String,
    /// `open`, `done` or `given_up`.
    pub state: DeliveryState,
    /// Number of failures in a row.
    pub tries: u32,
    /// Next try; `null`: there is none.
    pub next_try: Option<DateTime<Utc>>,
    /// Reason of the last failure; `null`: there was none.
    pub reason: Option<String>,
}

impl From<StoredDelivery> for Delivery {
    fn from(stored: StoredDelivery) -> Self {
        Self {
            id: stored.id,
            batch_id: stored.batch_id,
            job_id: stored.job_id,
            target: stored.target.to_string(),
            state: stored.state,
            tries: stored.tries,
            next_try: stored.next_try,
            reason: stored.reason,
        }
    }
}

/// Whether a restored store waits for a decision.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Restore {
    /// The store, and what it lacks; `null`: it is not held.
    pub restored: Option<RestoredStore>,
}

/// A page of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditLog {
    /// Actions of operators, newest first.
    pub entries: Vec<AuditEntry>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// The channels that alerts go out by, and a page of the alerts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    /// The channels; none: no alert goes out.
    pub channels: Vec<AlertChannel>,
    /// Hours of the day in which only critical findings are reported, such as `22:00-07:00`; `null`: there are none.
    pub quiet_hours: Option<String>,
    /// The alerts, newest first.
    pub alerts: Vec<StoredAlert>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// A channel that alerts go out by.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AlertChannel {
    /// Name of the channel.
    pub name: String,
    /// Where it leads, without anything secret; `null`: it does not say.
    pub target: Option<String>,
}

/// The keys of operators that have not expired.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OperatorKeys {
    /// The keys, by name.
    pub keys: Vec<OperatorKey>,
}

/// A page of the suppression list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Suppressions {
    /// Addresses that no e-mail is sent to, newest first.
    pub suppressions: Vec<Suppression>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// An address that was taken off the suppression list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Unsuppressed {
    /// The address.
    #[schema(value_type = String)]
    pub address: EmailAddress,
}
