//! Dead letters: items that failed for good, kept until somebody runs them again or lets them go.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::{ItemId, JobId},
    input::words::words,
    time::occurrence::Occurrence,
    work::{item::KeyForm, outcome::FailureKind},
};

/// An item that failed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// Id, in the order of the failures.
    pub id: i64,
    /// The job.
    pub job_id: JobId,
    /// The tenant, or the item of a job with a fixed schedule.
    #[serde(rename = "tenant_id")]
    pub item_id: ItemId,
    /// The run of the job for this tenant.
    pub occurrence: Occurrence,
    /// The batch in which it failed.
    pub batch_id: Uuid,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// Number of attempts in the last delivery of its chunk, also those that ended before the handler was called.
    pub attempts: u32,
    /// Kind of the failure.
    #[serde(default)]
    pub failure_kind: FailureKind,
    /// Error of the last attempt.
    pub reason: String,
    /// When the item failed.
    pub failed_at: DateTime<Utc>,
    /// Whether it is open, replayed or discarded.
    pub state: DeadLetterState,
    /// When it was replayed or discarded.
    pub settled_at: Option<DateTime<Utc>>,
    /// How its idempotency key was written; a replay has the same.
    #[serde(skip)]
    pub key_form: KeyForm,
}

impl DeadLetter {
    /// How long a discarded one can be opened again. After that it is removed by the next discards.
    pub const REOPENABLE_FOR: TimeDelta = TimeDelta::days(30);
}

/// State of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    /// No operator has replayed or discarded it.
    Open,
    /// It was queued again; should it fail again, that is another dead letter. Should it be skipped, this one is open
    /// again.
    Replayed,
    /// An operator discarded it. It can be opened again for 30 days, and is removed by a later discard then.
    Discarded,
}

words!(
    DeadLetterState,
    "state of a dead letter",
    Open = "open",
    Replayed = "replayed",
    Discarded = "discarded",
);
