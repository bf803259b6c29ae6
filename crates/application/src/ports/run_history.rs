//! What has run for a tenant, as the tenant may see it: on the page of a feature, where the product allows it.
//!
//! An implementation lists what has ended, the newest first, and nothing of another tenant or feature. Of an occurrence it
//! lists one run: what was skipped and has been run since has run. What does not exist has no runs, and is not an error.
//! `testing::contract::run_history` checks one.

use std::error::Error;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, JobId, Occurrence, SkipReason, TenantId};
use serde::{Deserialize, Deserializer, Serialize};

use super::cause::Cause;

/// Knows what has run for tenants.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait RunHistory: Send + Sync {
    /// At most `limit` of the newest runs of a tenant for a feature, 1 to 100. How far they reach back is up to the
    /// implementation. A call may be dropped at any `await`.
    ///
    /// # Errors
    /// [`RunHistoryError`] says what happened, without anything secret, and of which kind it is.
    async fn past_runs(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
        limit: u32,
    ) -> Result<Vec<PastRun>, RunHistoryError>;
}

/// A run that has ended. What it made, and why it failed, are not among it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PastRun {
    /// The job that ran.
    pub job_id: JobId,
    /// Which run of the job it was.
    pub occurrence: Occurrence,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// Time at which it ended.
    pub finished_at: DateTime<Utc>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Why it was skipped; `null`: it was not skipped, or the reason is not one that this version knows.
    #[serde(default, deserialize_with = "known_reason")]
    pub reason: Option<SkipReason>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// It was done.
    Succeeded,
    /// It failed for good.
    Failed,
    /// There was nothing to do, such as a digest without new posts.
    NothingToDo,
    /// It was not done, for a reason.
    Skipped,
}

/// A reason that a newer version has added is none here: the run is known all the same.
fn known_reason<'de, D: Deserializer<'de>>(value: D) -> Result<Option<SkipReason>, D::Error> {
    let word = Option::<String>::deserialize(value)?;
    Ok(word.and_then(|word| word.parse().ok()))
}

/// Why past runs cannot be listed: what happened, of which kind it is, and the error beneath. Its text is complete.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RunHistoryError {
    kind: RunHistoryErrorKind,
    message: String,
    #[source]
    cause: Option<Cause>,
}

/// The kinds of a [`RunHistoryError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunHistoryErrorKind {
    /// The runs cannot be read for now.
    Unavailable,
    /// The credentials are refused.
    Unauthorized,
    /// What is there is not a history of runs, or its address cannot be used: somebody has to correct it.
    Malformed,
}

impl RunHistoryError {
    /// An error of this kind; `message` says what happened.
    pub fn new(kind: RunHistoryErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// The same, with the error that caused it. `message` should contain its text.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RunHistoryErrorKind {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(reason: Value) -> PastRun {
        let run = json!({"job_id": "posts", "occurrence": "2026-11-25", "scheduled_at": "2026-11-25T08:00:00Z",
            "finished_at": "2026-11-25T08:00:01Z", "outcome": "skipped", "reason": reason});
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn a_reason_of_a_newer_version_is_read_as_not_known() {
        let run = read(json!("disabled"));
        assert_eq!(run.reason, Some(SkipReason::Disabled));
        assert_eq!(json!(run)["reason"], "disabled");
        assert_eq!(read(json!("of_a_newer_version")).reason, None);
        assert_eq!(read(json!(null)).reason, None);
    }
}
