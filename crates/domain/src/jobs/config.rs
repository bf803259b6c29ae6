//! A job: what is to run, for whom, when, and where its results go.

use std::{collections::BTreeMap, num::NonZeroU32};

use chrono::TimeDelta;

use crate::{
    ids::{FeatureType, JobId, PurposeId, TenantId},
    jobs::{data::DataConfig, keep::KeepDays, source::Source},
    planning::{catch_up::CatchUp, spread::spread_minute},
    preference::stored::Preference,
    time::schedule::Schedule,
    work::{
        batch::NewBatch,
        delivery::Delivery,
        job::{FailureLimit, JobKind, Overlap},
        priority::Priority,
    },
};

/// Every job of an agent, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchConfig {
    /// The jobs; their ids are unique.
    pub jobs: Vec<JobConfig>,
}

impl BatchConfig {
    /// The job of that name.
    #[must_use]
    pub fn job(&self, job_id: &JobId) -> Option<&JobConfig> {
        self.jobs.iter().find(|job| job.job_id == *job_id)
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobConfig {
    /// Its name, unique in the file.
    pub job_id: JobId,
    /// How its items are put together.
    pub kind: JobKind,
    /// What the job is for, as its file says; `None`: it does not say.
    pub description: Option<String>,
    /// Purpose that the job runs.
    pub purpose_id: PurposeId,
    /// Purpose that the job runs with the result of the first; `None`: it has one purpose.
    pub then: Option<PurposeId>,
    /// Order among items that fall due together.
    pub priority: Priority,
    /// Number of retries of a failed item; `None`: the limit of all jobs.
    pub retry_limit: Option<u32>,
    /// What happens to missed occurrences.
    pub catch_up: CatchUp,
    /// When so much of a batch has failed that the job is paused.
    pub failure_limit: FailureLimit,
    /// How long after it fell due, or was asked for, an item may still begin; `None`: one period of its schedule.
    pub expires_after: Option<TimeDelta>,
    /// How long before they fall due the runs of a job that follows preferences are prepared; `None`: they are not.
    pub prepare_ahead: Option<TimeDelta>,
    /// What happens to an occurrence while another one of the same tenant is running.
    pub overlap: Overlap,
    /// Items of one organization that a process runs at one time; `None`: as many as of all.
    pub max_concurrent_items_per_organization: Option<NonZeroU32>,
    /// How long what it has run is kept.
    pub keep: KeepDays,
    /// Where its results go, beside the store.
    pub deliver: Vec<Delivery>,
    /// Where each tenant's own data comes from, in a job that follows preferences; `None`: items have none.
    pub data: Option<DataConfig>,
    /// Where its items and their times come from.
    pub work: Work,
}

/// Where the items of a job come from, and when they fall due.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are a few jobs")]
pub enum Work {
    /// Each tenant with this feature, at the time they chose.
    Preferences {
        /// The feature.
        feature_type: FeatureType,
        /// Values for the fields that a preference leaves out.
        defaults: Box<Preference>,
        /// Over how many minutes after the slot the tenants are spread; 0 and 1: not at all.
        spread_minutes: u32,
    },
    /// Records of files, at one fixed time.
    Fixed {
        /// Schedule of the job.
        schedule: Schedule,
        /// The sources by category; one, named `items`, unless the job is combined.
        sources: BTreeMap<String, Source>,
        /// Who gets the result of an object or combined batch under their own runs.
        distribute_to: Vec<TenantId>,
        /// The list that items and recipients must be in; `None`: any will do.
        users: Option<Source>,
    },
}

impl JobConfig {
    /// The job's purposes, in the order in which they run.
    pub fn purposes(&self) -> impl Iterator<Item = &PurposeId> {
        std::iter::once(&self.purpose_id).chain(&self.then)
    }
}

impl Work {
    /// By how much a tenant falls due after the slot.
    #[must_use]
    pub fn spread_of(&self, tenant: &TenantId) -> TimeDelta {
        match self {
            Self::Preferences { spread_minutes, .. } => {
                TimeDelta::minutes(spread_minute(tenant, *spread_minutes).into())
            }
            Self::Fixed { .. } => TimeDelta::zero(),
        }
    }
}

impl NewBatch {
    /// The same, with what its job says: where its results go, and how long its items and their delivery may wait;
    /// `period`, unless the job says otherwise.
    #[must_use]
    pub fn of_job(self, job: &JobConfig, period: TimeDelta) -> Self {
        Self {
            deliver_to: job.deliver.clone(),
            ..self.expiring_after(job.expires_after, period)
        }
    }
}
