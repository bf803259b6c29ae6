//! Dead letters: items that failed for good, kept until somebody runs them again or lets them go.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::{JobId, TenantId},
    time::occurrence::Occurrence,
    work::item::KeyForm,
};

/// An item that failed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// Its number, in the order of failing.
    pub id: i64,
    /// Which job.
    pub job_id: JobId,
    /// Whose item.
    pub tenant_id: TenantId,
    /// Which run.
    pub occurrence: Occurrence,
    /// The batch in which it failed.
    pub batch_id: Uuid,
    /// When it fell due.
    pub scheduled_at: DateTime<Utc>,
    /// How often the handler was called, in the last delivery.
    pub attempts: u32,
    /// Why it failed.
    pub reason: String,
    /// When it failed.
    pub failed_at: DateTime<Utc>,
    /// What has become of it.
    pub state: DeadLetterState,
    /// When somebody decided so.
    pub settled_at: Option<DateTime<Utc>>,
    /// How its idempotency key was written; a replay has the same.
    #[serde(skip)]
    pub key_form: KeyForm,
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    /// No operator has replayed or discarded it.
    Open,
    /// It was queued again; should it fail again, that is another dead letter. Should it be skipped, this one is open
    /// again.
    Replayed,
    /// Let go.
    Discarded,
}

impl DeadLetterState {
    /// The word in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

impl std::str::FromStr for DeadLetterState {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Open, Self::Replayed, Self::Discarded]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(())
    }
}
