//! What a preference comes to: whether it runs, when, and what keeps it from running. The pages, the call that previews one and
//! the quarantine all ask here, and [`JobDefaults`] answers as it does in an agent.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use punctual_domain::{
    ClockChange, FeatureType, FieldErrors, JobDefaults, JobId, Membership, MergedPreference,
    Origin, Preference, Slot, TenantId,
};
use serde_json::{Map, Value};

use crate::{layers::Layer, store::KnownFeature};

/// What a preference comes to with each of its feature's jobs.
#[derive(Debug)]
pub(crate) enum Plan {
    /// It cannot be read: why.
    Unreadable(FieldErrors),
    /// It leaves open what an agent decides, and no agent has said how.
    Unknown,
    /// An organization leaves open what each of its members chooses.
    LeftOpen,
    /// With each job; jobs that make the same of it are one.
    Known(Vec<JobPlan>),
}

/// What a preference comes to with a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobPlan {
    /// The job, and those that make the same of it; empty: the preference leaves nothing open, whichever the job.
    pub(crate) jobs: Vec<JobId>,
    job: JobDefaults,
    stored: Preference,
    /// What is in effect, or why it cannot run.
    pub(crate) merged: Result<MergedPreference, FieldErrors>,
}

/// A run to come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) at: DateTime<Utc>,
    pub(crate) clock_change: Option<ClockChange>,
}

impl Plan {
    /// What a tenant's own preference comes to for a feature of which this is known, over what the `layer` of the tenant's
    /// organization says of it. `None`: neither says anything.
    pub(crate) fn of_member(
        feature: &FeatureType,
        own: Option<&Map<String, Value>>,
        layer: Option<&Layer>,
        known: &KnownFeature,
    ) -> Option<Self> {
        let Some(layer) = layer else {
            return own.map(|own| Self::of(own, known));
        };
        let (preference, membership) = layer.merge(feature.as_str(), own)?;
        Some(Self::made(&preference, Some(Arc::new(membership)), known))
    }

    /// What `preference` comes to for a feature of which this is known.
    pub(crate) fn of(preference: &Map<String, Value>, known: &KnownFeature) -> Self {
        Self::made(preference, None, known)
    }

    fn made(
        preference: &Map<String, Value>,
        organization: Option<Arc<Membership>>,
        known: &KnownFeature,
    ) -> Self {
        let stored = match Preference::parse(preference) {
            Ok(stored) => stored,
            Err(errors) => return Self::Unreadable(errors),
        };
        if known.jobs.is_empty() {
            return Self::without_jobs(stored, organization);
        }
        let mut plans: Vec<JobPlan> = Vec::new();
        for (job_id, job) in &known.jobs {
            let merged = job.effective(&stored);
            let merged = merged.map(|merged| merged.of_organization(organization.clone()));
            let same = |plan: &&mut JobPlan| {
                plan.merged == merged && plan.job.spread_minutes == job.spread_minutes
            };
            match plans.iter_mut().find(same) {
                Some(plan) => plan.jobs.push(job_id.clone()),
                None => plans.push(JobPlan {
                    jobs: vec![job_id.clone()],
                    job: job.clone(),
                    stored: stored.clone(),
                    merged,
                }),
            }
        }
        Self::Known(plans)
    }

    /// Whichever job it is, it decides nothing where the preference leaves nothing open.
    fn without_jobs(stored: Preference, organization: Option<Arc<Membership>>) -> Self {
        let job = JobDefaults::default();
        let merged = job.effective(&stored);
        let plan = JobPlan {
            jobs: Vec::new(),
            merged: merged.map(|merged| merged.of_organization(organization)),
            job,
            stored,
        };
        let fields = plan.fields();
        let open = fields
            .iter()
            .any(|(_, _, origin)| *origin == Origin::BuiltIn);
        if plan.stored.enabled != Some(false) && (open || fields.is_empty()) {
            return Self::Unknown;
        }
        Self::Known(vec![plan])
    }

    /// Why the preference cannot run although it is on; `None`: it can, or is off.
    pub(crate) fn problem(&self) -> Option<&FieldErrors> {
        match self {
            Self::Unreadable(errors) => Some(errors),
            Self::Unknown | Self::LeftOpen => None,
            Self::Known(plans) => plans.iter().find_map(|plan| plan.problem()),
        }
    }

    /// Whether it is on, where that is known.
    pub(crate) fn enabled(&self) -> bool {
        match self {
            Self::Unreadable(_) => false,
            Self::Unknown | Self::LeftOpen => true,
            Self::Known(plans) => plans.iter().any(JobPlan::enabled),
        }
    }
}

impl JobPlan {
    pub(crate) fn enabled(&self) -> bool {
        self.stored.is_on(&self.job.defaults)
    }

    /// Why it cannot run although it is on.
    pub(crate) fn problem(&self) -> Option<&FieldErrors> {
        self.merged.as_ref().err().filter(|_| self.enabled())
    }

    /// The fields in effect, and where each value comes from; empty where it cannot run.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value, Origin)> {
        let merged = self.merged.as_ref().ok();
        merged.map_or_else(Vec::new, |merged| {
            merged.with_origins(&self.stored, &self.job.defaults)
        })
    }

    /// When it falls due, its spread aside.
    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.merged.as_ref().ok().map(|merged| &merged.slot)
    }

    /// The next runs of a tenant; none while it is off or cannot run.
    pub(crate) fn runs(
        &self,
        tenant: &TenantId,
        after: DateTime<Utc>,
    ) -> impl Iterator<Item = Run> {
        let merged = self.merged.as_ref().ok().filter(|merged| merged.enabled);
        merged.into_iter().flat_map(move |merged| {
            self.job.runs(merged, tenant, after).map(|due| Run {
                at: due.at,
                clock_change: merged.slot.clock_change(due.slot),
            })
        })
    }
}
