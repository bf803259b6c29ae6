//! Which things can be wrong, and how bad each is.

use punctual_domain::JobId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::services::active_failures::Operation;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The process does not do its main work.
    Critical,
    /// Work fails, or is in danger.
    Warning,
    /// Somebody has to decide or to correct something, and it does not get worse.
    Notice,
}

impl Severity {
    /// Its word, as it is shown and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// Kinds of things that are wrong. Each has its remedy, which depends on how the process is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The store does not answer.
    Store,
    /// The store was restored from an older copy, and waits for a decision.
    Restored,
    /// Nothing has been planned since the process started.
    NotPlannedYet,
    /// Due work is not planned, or the scheduler has stopped planning.
    NotPlanned,
    /// Preferences cannot be read.
    Preferences {
        /// The jobs that follow them.
        jobs: Vec<JobId>,
        /// Whether they run, on old ones.
        loaded: bool,
    },
    /// An operation fails again and again.
    Failing(Operation),
    /// A job is paused.
    Paused(JobId),
    /// Items of the newest batch of a job, which has this id, failed for good.
    JobFailing(JobId, Uuid),
    /// Deliveries of a job failed, and will be retried.
    DeliveryFailing(JobId),
    /// Deliveries of a job failed, and will not be retried.
    DeliveryGivenUp(JobId),
    /// A replica that holds work is unresponsive.
    Replica(String),
    /// Items of a job failed for good, in earlier batches.
    DeadLetters(JobId),
    /// Preferences for a job cannot be used.
    Quarantine(JobId),
    /// Items of a job were skipped in the last day because they had not begun in time.
    Expired(JobId),
    /// Batches of a job are due and do not begin.
    Waiting(JobId),
    /// Alerts cannot be sent by the channel of this name.
    AlertsFailing(String),
}

impl FindingKind {
    /// Tells findings apart, such as `paused/posts`: the same as long as the same is wrong, whatever the reason.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Store => "store".to_owned(),
            Self::Restored => "restored".to_owned(),
            Self::NotPlannedYet => "not-planned-yet".to_owned(),
            Self::NotPlanned => "not-planned".to_owned(),
            Self::Preferences { loaded: true, .. } => "preferences/stale".to_owned(),
            Self::Preferences { loaded: false, .. } => "preferences/missing".to_owned(),
            Self::Failing(operation) => match (operation, operation.job_id()) {
                (Operation::WriteLastKnownGood(feature), _) => {
                    format!("failing/{}/{feature}", operation.name())
                }
                (_, Some(job_id)) => format!("failing/{}/{job_id}", operation.name()),
                (_, None) => format!("failing/{}", operation.name()),
            },
            Self::Paused(job_id) => format!("paused/{job_id}"),
            Self::JobFailing(job_id, _) => format!("job-failing/{job_id}"),
            Self::DeliveryFailing(job_id) => format!("delivery-failing/{job_id}"),
            Self::DeliveryGivenUp(job_id) => format!("delivery-given-up/{job_id}"),
            Self::Replica(process) => format!("replica/{process}"),
            Self::DeadLetters(job_id) => format!("dead-letters/{job_id}"),
            Self::Quarantine(job_id) => format!("quarantine/{job_id}"),
            Self::Expired(job_id) => format!("expired/{job_id}"),
            Self::Waiting(job_id) => format!("waiting/{job_id}"),
            Self::AlertsFailing(channel) => format!("alerts-failing/{channel}"),
        }
    }

    /// What is wrong, in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Store => "The store does not answer".to_owned(),
            Self::Restored => "The store was restored from an older copy".to_owned(),
            Self::NotPlannedYet | Self::NotPlanned => "Due work is not planned".to_owned(),
            Self::Preferences { loaded: true, .. } => "Jobs run on old preferences".to_owned(),
            Self::Preferences { loaded: false, .. } => "Jobs wait for preferences".to_owned(),
            Self::Failing(operation) => match operation.job_id() {
                Some(job_id) => format!("{job_id}: {} fails", operation.name()),
                None => format!("{} fails", operation.name()),
            },
            Self::Paused(job_id) => format!("{job_id} is paused"),
            Self::JobFailing(job_id, _) => format!("{job_id} fails"),
            Self::DeliveryFailing(job_id) => format!("Deliveries of {job_id} fail"),
            Self::DeliveryGivenUp(job_id) => format!("Deliveries of {job_id} were given up"),
            Self::Replica(_) => "A replica is unresponsive".to_owned(),
            Self::DeadLetters(job_id) => format!("{job_id} has dead letters"),
            Self::Quarantine(job_id) => format!("Preferences for {job_id} are invalid"),
            Self::Expired(job_id) => format!("Items of {job_id} expired"),
            Self::Waiting(job_id) => format!("Due work of {job_id} does not begin"),
            Self::AlertsFailing(channel) => format!("Alerts cannot be sent by {channel}"),
        }
    }

    /// Whether it is about a job, alone or among others.
    #[must_use]
    pub fn concerns(&self, job_id: &JobId) -> bool {
        match self {
            Self::Preferences { jobs, .. } => jobs.contains(job_id),
            Self::Failing(operation) => operation.job_id() == Some(job_id),
            Self::Paused(of)
            | Self::JobFailing(of, _)
            | Self::DeliveryFailing(of)
            | Self::DeliveryGivenUp(of)
            | Self::DeadLetters(of)
            | Self::Quarantine(of)
            | Self::Expired(of)
            | Self::Waiting(of) => of == job_id,
            Self::Store
            | Self::Restored
            | Self::NotPlannedYet
            | Self::NotPlanned
            | Self::Replica(_)
            | Self::AlertsFailing(_) => false,
        }
    }

    /// How bad it is, as long as the process does its main work.
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::DeadLetters(_)
            | Self::Quarantine(_)
            | Self::DeliveryGivenUp(_)
            | Self::Expired(_) => Severity::Notice,
            _ => Severity::Warning,
        }
    }
}
