//! What operators do: run a job now, pause it, cancel a batch, backfill dates that have passed, replay what failed, and
//! ask why a tenant ran or did not.
//!
//! The HTTP API, the operations page and embedding services are callers of the one [`Operator`]. To add an action,
//! write a file beside these with an `impl Operator` that takes an [`Actor`], records it with [`Operator::record`] before
//! anything is changed, and returns a type that can be serialized.

mod alerts;
mod backfill;
mod batches;
mod dead_letters;
mod deliveries;
mod effective;
mod explain;
mod findings;
mod idempotency;
mod jobs;
mod keys;
mod past_runs;
mod pause;
mod preparation;
mod preview;
mod quarantine;
mod replicas;
mod restore;
mod retention;
mod runs_in_job;
mod search;
mod suppressions;
mod tenant_records;
mod trends;
mod trigger;
mod upcoming;
mod waiting;
mod words;
mod zones;

use std::{collections::BTreeSet, fmt, sync::Arc};

use chrono::{DateTime, NaiveDate, Utc};
use punctual_domain::{ItemId, JobConfig, JobId, Sharding, Zone};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

pub use self::{
    alerts::{AlertAnswer, AlertTestReport},
    backfill::{BackfillCount, BackfillReport, BackfillRequest},
    dead_letters::{DeadLetterSelection, DiscardReport, LeftOut, ReopenReport, ReplayReport},
    deliveries::{DeliverAgainReport, DeliverySelection},
    effective::EffectivePreference,
    explain::Explanation,
    findings::{Finding, FindingKind, Findings, Severity},
    idempotency::IdempotencyKey,
    jobs::{FixedTiming, JobLimits, JobTiming, JobView, PreferenceTiming},
    keys::{CreatedKey, NewOperatorKey, OPERATOR_KEY},
    preparation::RunPreparation,
    preview::PreviewRequest,
    quarantine::Quarantined,
    replicas::Replicas,
    restore::{RestoreReport, RestoreRequest, RestoredStore},
    retention::{JobRetention, RetentionReport, RetentionSource},
    search::Found,
    suppressions::{SuppressReport, SuppressRequest},
    trends::{TrendBucket, Trends},
    trigger::{TriggerRequest, TriggeredBatch},
    upcoming::DueItems,
    waiting::{CallFailed, ExtendCall, ExtendedCall, Patience, TakenCompletion},
    words::{amount, caller, first_of, length_in_words, noun, size_in_words},
    zones::{ScheduleInZone, TenantInZone, ZoneInUse},
};
use super::{
    active_failures::{ActiveFailures, Operation},
    alerts::Alerting,
    enhanced_batch_processor::EnhancedBatchProcessor,
    handlers::Handlers,
    jobs::Jobs,
    schedule_status::StatusHandle,
};
use crate::ports::{
    AuditEntry, BatchReader, Clock, ConfigDatabase, Fence, ItemSource, OperatorKeys, OperatorStore,
    Page, Retention, StoreError, Suppressions, TenantRecords, WaitingItems, WorkQueue,
};

/// A page of one entry.
const ONE: Page = Page {
    cursor: None,
    limit: 1,
};

/// Who asks, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who asks, as the audit log names them: `ann (key)`, `api from 10.0.0.7`, or a name of the caller's own.
    pub name: String,
    /// Why, in their words; `None`: they gave no reason.
    pub reason: Option<String>,
}

impl Actor {
    /// Someone of this name, without a reason.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: None,
        }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..self
        }
    }
}

impl From<&str> for Actor {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Why what an operator asked for was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The request cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The job, batch or dead letter does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things are now.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be done, unless it has come too early: then the same request succeeds in a moment.
    #[error("{0}")]
    NotYet(String),
    /// It is about another number than the caller has counted, and nothing was done.
    #[error("{0}")]
    Changed(String),
    /// Another agent serves the shard of the tenant.
    #[error("{0}")]
    OtherShard(String),
    /// The request is well-formed, and doing it would most likely be a mistake.
    #[error("{0}")]
    Refused(String),
    /// Preferences cannot be read, or no preview is possible at this time. The same request may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// The store failed, or refused a cursor.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OperatorError {
    /// Whether the caller can correct the request.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        match self {
            Self::Invalid(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::NotYet(_)
            | Self::Changed(_)
            | Self::OtherShard(_)
            | Self::Refused(_) => true,
            Self::Unavailable(_) => false,
            Self::Store(error) => error.is_callers(),
        }
    }
}

/// Does what operators ask for.
///
/// Every field is one of the parts that the agent is made of, so that an embedder fills in those of their own.
#[derive(Clone)]
pub struct Operator {
    /// Reads batches, results and dead letters.
    pub reader: Arc<dyn BatchReader>,
    /// Takes batches, and knows which jobs are paused.
    pub queue: Arc<dyn WorkQueue>,
    /// The items whose work goes on elsewhere.
    pub waiting: Arc<dyn WaitingItems>,
    /// Keeps the audit log and idempotency keys.
    pub operations: Arc<dyn OperatorStore>,
    /// The API keys of operators.
    pub keys: Arc<dyn OperatorKeys>,
    /// Addresses that no e-mail is sent to.
    pub suppressions: Arc<dyn Suppressions>,
    /// Removes what was kept long enough, and knows what has been removed.
    pub retention: Arc<dyn Retention>,
    /// Where alerts go.
    pub alerting: Alerting,
    /// What is held of single tenants.
    pub tenant_records: Arc<dyn TenantRecords>,
    /// How far the store has come, and whether it is held.
    pub fence: Arc<dyn Fence>,
    /// Source of preferences.
    pub preferences: Arc<dyn ConfigDatabase>,
    /// Where the items of plain jobs are read.
    pub item_source: Arc<dyn ItemSource>,
    /// The jobs in effect.
    pub jobs: Jobs,
    /// Handlers of the jobs' purposes.
    pub handlers: Handlers,
    /// What runs items in this process; it makes the previews, and takes the completions of items that wait.
    pub processor: EnhancedBatchProcessor,
    /// State of the scheduler after its last tick.
    pub status: StatusHandle,
    /// Where it is noted that requests of operators cannot be stored.
    pub failures: ActiveFailures,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Start of the process.
    pub started_at: DateTime<Utc>,
    /// The zone where neither tenant nor job names one.
    pub zone: Zone,
    /// How many items a chunk holds at most.
    pub chunk_size: usize,
    /// What of the tenants this agent serves.
    pub sharding: Sharding,
}

impl Operator {
    /// The job of that name.
    ///
    /// # Errors
    /// The job does not exist.
    pub fn job(&self, job_id: &JobId) -> Result<JobConfig, OperatorError> {
        let jobs = self.jobs.current();
        jobs.job(job_id).cloned().ok_or_else(|| {
            let names: Vec<_> = jobs.jobs.iter().map(|job| job.job_id.as_str()).collect();
            OperatorError::NotFound(format!(
                "job `{job_id}` does not exist; the jobs are {}",
                names.join(", ")
            ))
        })
    }

    /// Refuses an item whose run on a date is another agent's.
    fn refuse_other_shard(
        &self,
        job_id: &JobId,
        item: &ItemId,
        date: NaiveDate,
    ) -> Result<(), OperatorError> {
        match self.sharding.elsewhere(job_id, item, date) {
            Some(elsewhere) => Err(OperatorError::OtherShard(elsewhere)),
            None => Ok(()),
        }
    }

    /// Writes down what is asked for, before it is done. Actions that are not of this type, such as signing out, do it too.
    ///
    /// # Errors
    /// The store fails.
    pub async fn record(
        &self,
        actor: &Actor,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), OperatorError> {
        let entry = AuditEntry {
            at: self.clock.now(),
            by: actor.name.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
            reason: actor.reason.clone(),
        };
        Ok(self.noted(self.operations.record(&entry).await)?)
    }

    /// Notes whether the store took what an operator asked for.
    fn noted<T>(&self, stored: Result<T, StoreError>) -> Result<T, StoreError> {
        let refused = stored.as_ref().is_err_and(StoreError::is_callers);
        if !refused {
            let now = self.clock.now();
            self.failures.note(Operation::StoreRequest, &stored, now);
        }
        stored
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").finish_non_exhaustive()
    }
}

/// Reads a field that may be absent, but not `null`: a script that has found nothing does not mean all.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// That a selection is of another number than the caller has counted.
fn changed(found: u64, one: &str) -> OperatorError {
    let now = amount(found, one);
    OperatorError::Changed(format!("the selection now has {now}; nothing was changed"))
}

/// Refuses an empty list, which means no one, and a list beside `all`.
fn refuse_empty<T>(
    field: &str,
    list: Option<&BTreeSet<T>>,
    all: bool,
) -> Result<(), OperatorError> {
    match list {
        Some(list) if list.is_empty() => Err(OperatorError::Invalid(format!(
            "{field} is an empty list; name at least one, or send \"all\": true without {field}"
        ))),
        Some(_) if all => Err(OperatorError::Invalid(format!(
            "{field} and all exclude each other; send one of them"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
