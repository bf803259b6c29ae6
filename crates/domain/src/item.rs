//! Items: the work for one tenant in one occurrence, and its durable result.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    ids::{FeatureType, JobId, PurposeId, TenantId},
    occurrence::Occurrence,
};

/// What a handler is given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Whose work it is.
    pub tenant_id: TenantId,
    /// Which job.
    pub job_id: JobId,
    /// What to run.
    pub purpose_id: PurposeId,
    /// The feature, for preference-based jobs.
    pub feature_type: Option<FeatureType>,
    /// The batch that brought it.
    pub batch_id: Uuid,
    /// Which run of the job for this tenant.
    pub occurrence: Occurrence,
    /// When it fell due.
    pub scheduled_at: DateTime<Utc>,
    /// The tenant's merged preference, for preference-based jobs.
    pub preference: Option<Value>,
    /// The item as its source gave it, for plain jobs.
    pub data: Option<Value>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

impl Item {
    /// The same on every attempt and after every crash, so that the far side can make its effect once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}:{}", self.job_id, self.tenant_id, self.occurrence)
    }
}

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// Begun, not ended.
    Running,
    /// The handler returned a result.
    Succeeded,
    /// The handler failed for good.
    Failed,
    /// Not run, for a reason.
    Skipped,
}

impl ItemStatus {
    /// The word in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl std::str::FromStr for ItemStatus {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Running, Self::Succeeded, Self::Failed, Self::Skipped]
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or(())
    }
}

/// Why an item was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The tenant switched the feature off after the item was queued.
    Disabled,
    /// The tenant's preference is gone.
    Deleted,
    /// The tenant's preference cannot be used any more.
    Invalid,
    /// The job is no longer in `batch_config.json`.
    JobRemoved,
    /// The item is no longer in the job's source.
    ItemRemoved,
    /// An operator has cancelled the batch.
    Cancelled,
    /// The tenant is not in the job's list of users.
    UnknownUser,
}

impl SkipReason {
    /// The word in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::Invalid => "invalid_preference",
            Self::JobRemoved => "job_removed",
            Self::ItemRemoved => "item_removed",
            Self::Cancelled => "cancelled",
            Self::UnknownUser => "unknown_user",
        }
    }
}

/// An item's durable outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemResult {
    /// Whose.
    pub tenant_id: TenantId,
    /// How it ended.
    pub status: ItemStatus,
    /// How often the handler was called, in this delivery of the chunk.
    pub attempts: u32,
    /// The merged preference it ran with.
    pub preference: Option<Value>,
    /// What the handler returned.
    pub output: Option<Value>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// When its first attempt began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it is running.
    pub finished_at: Option<DateTime<Utc>>,
}
