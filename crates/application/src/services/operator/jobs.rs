//! The jobs in effect, with what the scheduler knows of each.

use std::{collections::BTreeMap, num::NonZeroU32};

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, JobConfig, JobId, JobKind, Priority, PurposeId, Work};
use serde::{Deserialize, Serialize};

use super::{Operator, OperatorError};
use crate::{
    ports::Pause,
    services::{
        handlers::{Binding, Handlers},
        schedule_status::{JobStatus, SlotStatus},
        throttle::PurposeLimits,
    },
};

/// Number of slots listed per job: those with the most tenants.
const MAX_LISTED_SLOTS: usize = 100;

/// A job in effect, with what the scheduler knows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// The job's name in `batch_config.json`.
    pub job_id: JobId,
    /// How its items are put together.
    #[serde(rename = "type")]
    pub kind: JobKind,
    /// What the job is for; `null`: its file does not say.
    pub description: Option<String>,
    /// The purpose it runs; `purposes.json` binds it to a handler.
    pub purpose_id: PurposeId,
    /// What runs its items, such as `webhook https://crm.example`; `null`: not known.
    pub handler: Option<String>,
    /// The purpose it runs with the result of the first; `null`: it has one purpose.
    pub then: Option<PurposeId>,
    /// What runs the second purpose; `null`: not known, or it has one purpose.
    pub then_handler: Option<String>,
    /// The order among items that fall due together.
    pub priority: Priority,
    /// Whether it is paused: nothing of it falls due.
    pub paused: bool,
    /// Reason for the pause.
    pub paused_because: Option<String>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Where its results go, beside the store.
    pub deliver_to: Vec<String>,
    /// Its limits.
    pub limits: JobLimits,
    /// Schedule of the job, and its next run.
    #[serde(flatten)]
    pub timing: JobTiming,
}

/// What a job says about retries, failures and waiting, and what it and its purposes say about organizations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobLimits {
    /// Number of retries of a failed item; `null`: the limit of all jobs.
    pub retries: Option<u32>,
    /// Timeout of one attempt, in milliseconds; `null`: not known.
    pub timeout_ms: Option<u64>,
    /// The job is paused when so many percent of the items of a batch that have ended have failed, …
    pub pause_at_percent: u32,
    /// … and at least so many.
    pub pause_at_least: u64,
    /// How long after it fell due an item may still begin, in seconds; `null`: one period of its schedule.
    pub expires_after_s: Option<i64>,
    /// Items of one organization that a process runs at one time; `null`: as many as of all.
    pub max_concurrent_items_per_organization: Option<u32>,
    /// Calls of its purpose in a minute for the items of one organization, in each process; `null`: as many as for all.
    pub requests_per_minute_per_organization: Option<u32>,
    /// Tokens of its purpose in a minute for the items of one organization, in each process; `null`: as many as for all.
    pub tokens_per_minute_per_organization: Option<u32>,
    /// The same calls of its second purpose; `null`: as many as for all, or it has one purpose.
    pub then_requests_per_minute_per_organization: Option<u32>,
    /// The same tokens of its second purpose; `null`: as many as for all, or it has one purpose.
    pub then_tokens_per_minute_per_organization: Option<u32>,
}

/// When a job falls due: by a schedule of its own, or by its tenants' preferences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum JobTiming {
    /// By each tenant's preference.
    Preferences(PreferenceTiming),
    /// By a schedule of its own.
    Fixed(FixedTiming),
}

/// The schedule of a job that has one of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FixedTiming {
    /// The schedule in words, or its cron expression, with its time zone.
    pub schedule: String,
    /// When it falls due next, also of a paused job, which skips it; `null`: never again.
    pub next: Option<DateTime<Utc>>,
}

/// The state of a job that follows preferences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreferenceTiming {
    /// The feature whose preferences it follows.
    pub feature_type: FeatureType,
    /// Whether its preferences have been read. Until then nothing of it runs.
    pub loaded: bool,
    /// Number of tenants scheduled.
    pub tenants: usize,
    /// Number of tenants whose preference cannot be used.
    pub quarantined: usize,
    /// Every preference stored until then is in effect.
    pub seen_until: Option<DateTime<Utc>>,
    /// Why preferences cannot be read; `null`: they can.
    pub trouble: Option<String>,
    /// Number of slots of the tenants.
    pub slot_count: usize,
    /// When the next tenant falls due, also of a paused job, which skips it.
    pub next_due: Option<DateTime<Utc>>,
    /// The 100 slots with the most tenants.
    pub slots: Vec<SlotStatus>,
}

impl JobView {
    fn of(
        job: &JobConfig,
        known: Option<&JobStatus>,
        paused: &BTreeMap<JobId, Pause>,
        handlers: &Handlers,
        now: DateTime<Utc>,
    ) -> Self {
        let pause = paused.get(&job.job_id);
        let binding = handlers.binding(&job.purpose_id);
        let then = job.then.as_ref().and_then(|then| handlers.binding(then));
        let timeout = binding.as_ref().map(|binding| binding.timeout.as_millis());
        let limits = |binding: Option<&Binding>| {
            let limits: Option<PurposeLimits> = binding.map(|binding| binding.limits);
            limits.unwrap_or_default()
        };
        let (first_limits, then_limits) = (limits(binding.as_ref()), limits(then.as_ref()));
        let timing = match &job.work {
            Work::Fixed { schedule, .. } => JobTiming::Fixed(FixedTiming {
                schedule: schedule.to_string(),
                next: schedule.next_after(now),
            }),
            Work::Preferences { feature_type, .. } => {
                JobTiming::Preferences(PreferenceTiming::of(feature_type, known))
            }
        };
        Self {
            job_id: job.job_id.clone(),
            kind: job.kind,
            description: job.description.clone(),
            purpose_id: job.purpose_id.clone(),
            handler: binding.and_then(|binding| binding.handler),
            then: job.then.clone(),
            then_handler: then.and_then(|then| then.handler),
            priority: job.priority,
            paused: pause.is_some(),
            paused_because: pause.map(Pause::reason),
            paused_at: pause.map(|pause| pause.since),
            deliver_to: job.deliver.iter().map(ToString::to_string).collect(),
            limits: JobLimits {
                retries: job.retry_limit,
                timeout_ms: timeout.map(|ms| ms as u64),
                pause_at_percent: job.failure_limit.percent,
                pause_at_least: job.failure_limit.at_least,
                expires_after_s: job.expires_after.map(|after| after.num_seconds()),
                max_concurrent_items_per_organization: job
                    .max_concurrent_items_per_organization
                    .map(NonZeroU32::get),
                requests_per_minute_per_organization: first_limits
                    .requests_per_minute_per_organization,
                tokens_per_minute_per_organization: first_limits.tokens_per_minute_per_organization,
                then_requests_per_minute_per_organization: then_limits
                    .requests_per_minute_per_organization,
                then_tokens_per_minute_per_organization: then_limits
                    .tokens_per_minute_per_organization,
            },
            timing,
        }
    }

    /// When the job falls due, in words.
    #[must_use]
    pub fn schedule(&self) -> String {
        match &self.timing {
            JobTiming::Fixed(fixed) => fixed.schedule.clone(),
            JobTiming::Preferences(follows) => {
                format!("as each tenant chose for {}", follows.feature_type)
            }
        }
    }

    /// When the job, or the next of its tenants, falls due.
    #[must_use]
    pub fn next(&self) -> Option<DateTime<Utc>> {
        match &self.timing {
            JobTiming::Fixed(fixed) => fixed.next,
            JobTiming::Preferences(follows) => follows.next_due,
        }
    }

    /// The state of its preferences, if it follows preferences.
    #[must_use]
    pub fn preferences(&self) -> Option<&PreferenceTiming> {
        match &self.timing {
            JobTiming::Fixed(_) => None,
            JobTiming::Preferences(follows) => Some(follows),
        }
    }
}

impl PreferenceTiming {
    fn of(feature_type: &FeatureType, known: Option<&JobStatus>) -> Self {
        let slots = known.map(|known| known.mirror.largest_slots(MAX_LISTED_SLOTS));
        let (slots, slot_count) = slots.unwrap_or_default();
        Self {
            feature_type: feature_type.clone(),
            loaded: known.is_some_and(|known| known.loaded),
            tenants: known.map_or(0, |known| known.tenants),
            quarantined: known.map_or(0, |known| known.quarantined),
            seen_until: known.and_then(|known| known.seen_until),
            trouble: known.and_then(|known| known.trouble.clone()),
            slot_count,
            next_due: known.and_then(|known| known.next_due),
            slots,
        }
    }
}

impl Operator {
    /// The jobs in effect, in the order of their file.
    ///
    /// # Errors
    /// The store fails.
    pub async fn jobs(&self) -> Result<Vec<JobView>, OperatorError> {
        let (status, paused) = (self.status.get(), self.queue.paused().await?);
        let (config, now) = (self.jobs.current(), self.clock.now());
        let view = |job: &JobConfig| {
            let known = status.jobs.get(&job.job_id);
            JobView::of(job, known, &paused, &self.handlers, now)
        };
        Ok(config.jobs.iter().map(view).collect())
    }

    /// One job in effect.
    ///
    /// # Errors
    /// The job does not exist, or the store fails.
    pub async fn job_view(&self, job_id: &JobId) -> Result<JobView, OperatorError> {
        let (job, paused) = (self.job(job_id)?, self.queue.paused().await?);
        let status = self.status.get();
        let known = status.jobs.get(job_id);
        let now = self.clock.now();
        Ok(JobView::of(&job, known, &paused, &self.handlers, now))
    }
}
