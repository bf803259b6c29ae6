//! Outcomes: what a handler returns, and how an item ended. The latter is the proof that its occurrence has run, or tells why
//! it has not.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::waiting::{Waiting, WaitingStatus};
use crate::{ids::ItemId, input::words::words};

/// What a handler returns of an item that it has done its work for.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The result; it is kept and delivered.
    Done(Value),
    /// There was nothing to do for the item, for this reason: a digest without new posts, for example. The occurrence is used
    /// up, and nothing is delivered. It is not a failure.
    NothingToDo(String),
    /// The work goes on elsewhere: the item [waits](Waiting), and holds nothing in the process.
    Waiting(Waiting),
}

impl Outcome {
    /// Nothing to do, for this reason; it is stored and shown, so it must hold no secret.
    pub fn nothing_to_do(reason: impl Into<String>) -> Self {
        Self::NothingToDo(reason.into())
    }

    /// The result; `None`: there was nothing to do, or it has not come yet.
    #[must_use]
    pub fn output(&self) -> Option<&Value> {
        match self {
            Self::Done(output) => Some(output),
            Self::NothingToDo(_) | Self::Waiting(_) => None,
        }
    }

    /// The result, as [`output`](Self::output).
    #[must_use]
    pub fn into_output(self) -> Option<Value> {
        match self {
            Self::Done(output) => Some(output),
            Self::NothingToDo(_) | Self::Waiting(_) => None,
        }
    }
}

/// A value is a result.
impl From<Value> for Outcome {
    fn from(output: Value) -> Self {
        Self::Done(output)
    }
}

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// Begun, not ended.
    Running,
    /// Its work goes on elsewhere.
    Waiting,
    /// The handler returned a result.
    Succeeded,
    /// The handler failed for good.
    Failed,
    /// The handler had nothing to do, for a reason. The occurrence is used up.
    NothingToDo,
    /// Not run, for a reason. The occurrence is not used up: a later batch may run it.
    Skipped,
}

words!(
    ItemStatus,
    "item status",
    Running = "running",
    Waiting = "waiting",
    Succeeded = "succeeded",
    Failed = "failed",
    NothingToDo = "nothing_to_do",
    Skipped = "skipped",
);

/// Kind of a failure: what did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The work of the handler. Failures that an earlier version stored are of this kind.
    #[default]
    Handler,
    /// The fetch of the tenant's own data, before the handler was called.
    Data,
}

words!(
    FailureKind,
    "kind of a failure",
    Handler = "handler",
    Data = "data",
);

/// Reason why an item was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The tenant switched the feature off after the item was queued.
    Disabled,
    /// The tenant's preference is gone.
    Deleted,
    /// The tenant's preference cannot be used any more.
    #[serde(rename = "invalid_preference")]
    Invalid,
    /// `batch_config.json` does not contain the job any more.
    JobRemoved,
    /// The job's source does not contain the item any more.
    ItemRemoved,
    /// An operator has cancelled the batch.
    Cancelled,
    /// The tenant is not in the job's list of users.
    UnknownUser,
    /// It had not begun within the job's `expires_after`.
    Expired,
    /// Another occurrence of the tenant's was running.
    Overlap,
    /// The tenant's preference has this occurrence later, or not at all, by now.
    Rescheduled,
    /// The run could not be prepared. It calls its purpose when it is due.
    NotPrepared,
    /// The store was restored from an older copy, and the item most likely ran before.
    Restored,
}

words!(
    SkipReason,
    "skip reason",
    Disabled = "disabled",
    Deleted = "deleted",
    Invalid = "invalid_preference",
    JobRemoved = "job_removed",
    ItemRemoved = "item_removed",
    Cancelled = "cancelled",
    UnknownUser = "unknown_user",
    Expired = "expired",
    Overlap = "overlap",
    Rescheduled = "rescheduled",
    NotPrepared = "not_prepared",
    Restored = "restored",
);

impl SkipReason {
    /// The reasons that settle a run: a [late change](crate::Trigger::LateChange) does not bring it back, a backfill does. The
    /// others say what the preference or the source was at that moment.
    pub const SETTLING: [Self; 5] = [
        Self::JobRemoved,
        Self::Cancelled,
        Self::Expired,
        Self::Overlap,
        Self::Restored,
    ];
}

/// An item's durable outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemResult {
    /// The tenant, or the item of a job with a fixed schedule.
    #[serde(rename = "tenant_id")]
    pub item_id: ItemId,
    /// Outcome, or that the item is running.
    pub status: ItemStatus,
    /// Kind of the failure; `None` unless it failed.
    #[serde(default)]
    pub failure_kind: Option<FailureKind>,
    /// Number of attempts in the last delivery of its chunk, also those that ended before the handler was called.
    pub attempts: u32,
    /// The effective preference it ran with, for preference-based jobs.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub preference: Option<Arc<Value>>,
    /// Output of the handler; `None` unless it succeeded.
    #[serde(rename = "result")]
    pub output: Option<Value>,
    /// Reason for the failure or the skip, or why there was nothing to do.
    pub error: Option<String>,
    /// When the first attempt began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it is running or waiting.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it waits; `None` unless it is waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingStatus>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_of_a_failure_is_the_same_word_in_json_as_in_tables() {
        for word in FailureKind::WORDS {
            let kind: FailureKind = word.parse().unwrap();
            assert_eq!(json!(kind), json!(word));
        }
    }

    #[test]
    fn a_reason_is_the_same_word_in_json_as_in_tables() {
        for word in SkipReason::WORDS {
            let reason: SkipReason = word.parse().unwrap();
            assert_eq!(json!(reason), json!(word));
            assert_eq!(serde_json::from_value(json!(word)).ok(), Some(reason));
        }
    }
}
