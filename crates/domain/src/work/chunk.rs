//! Chunks: the pieces of a batch that the queue carries. Chunks of earlier versions may still be queued, so a field that
//! is added has a default with their meaning.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{item::KeyForm, trigger::Trigger};
use crate::{
    ids::{ItemId, JobId},
    time::occurrence::Occurrence,
};

/// What is planned later than this after it fell due was missed: some jobs leave it out, others make up for it.
pub(crate) const ON_TIME: TimeDelta = TimeDelta::minutes(2);

/// A part of a batch: the unit the queue carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// `batch_id/index`.
    pub chunk_id: String,
    /// The batch it belongs to.
    pub batch_id: Uuid,
    /// The job to run.
    pub job_id: JobId,
    /// Time at which the batch fell due.
    pub scheduled_at: DateTime<Utc>,
    /// Which run this is for its items.
    pub occurrence: Occurrence,
    /// The run that it prepares; `None`: it runs its items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepares: Option<Occurrence>,
    /// Its items.
    pub items: Vec<ItemId>,
    /// The trace of the batch, as the `traceparent` of W3C Trace Context; `None` where it is not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Why its batch exists; earlier versions did not say.
    #[serde(default)]
    pub trigger: Trigger,
    /// When its batch was planned; `None`: by an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_at: Option<DateTime<Utc>>,
    /// From when on none of its items begins; `None`: they wait for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it runs for tenants who have stored no preference. Manual runs of earlier versions did.
    #[serde(default = "yes")]
    pub allow_unknown: bool,
    /// How the idempotency keys of its items are written.
    #[serde(default)]
    pub key_form: KeyForm,
    /// The chunks with the earlier runs of its items that were queued to be made up for, the one with most of them first: its items
    /// begin when those runs have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Chunk {
    /// Whether it is too late for its items to begin.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }

    /// Whether it runs what was missed, or has failed. Such items are not given up because another occurrence of the
    /// tenant's is running: several of them are queued at once.
    #[must_use]
    pub fn makes_up(&self) -> bool {
        matches!(self.trigger, Trigger::Backfill | Trigger::Replay)
            || self
                .planned_at
                .is_some_and(|planned_at| planned_at - self.scheduled_at > ON_TIME)
    }

    /// The run that its items are of: its own, or the one that it prepares.
    #[must_use]
    pub fn run_of_items(&self) -> Occurrence {
        self.prepares.unwrap_or(self.occurrence)
    }

    /// Whether it is the first of its batch.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.chunk_id.ends_with("/0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_an_earlier_version_queued_keeps_its_ways() {
        let old = r#"{"chunk_id": "6ba7b811-9dad-11d1-80b4-00c04fd430c8/0",
            "batch_id": "6ba7b811-9dad-11d1-80b4-00c04fd430c8", "job_id": "j", "occurrence": "2026-03-01",
            "scheduled_at": "2026-03-01T09:00:00Z", "items": ["a"]}"#;
        let chunk: Chunk = serde_json::from_str(old).unwrap();
        assert_eq!(chunk.key_form, KeyForm::Colons);
        assert!(!chunk.is_expired("2036-03-01T09:00:00Z".parse().unwrap()) && !chunk.makes_up());
        assert!(chunk.allow_unknown);
        assert_eq!(chunk.after, [""; 0]);
    }
}
