//! Runs what fell due on dates that have passed and has not succeeded, failed or had nothing to do: after an outage, or for a
//! job that is new. It goes by what tenants have chosen now, behind everything else, and no tenant runs twice for a date.

mod enqueue;

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_domain::{
    BackfillGroup, Choice, Dates, JobConfig, JobId, MergedPreference, Occurrence, Preference,
    Schedule, TenantId, Work,
};
use serde::{Deserialize, Serialize};
use tracing::info;

pub use self::enqueue::BackfillCount;
use self::enqueue::backfill;
use super::{
    Actor, IdempotencyKey, Operator, OperatorError, given,
    idempotency::Attempt,
    refuse_empty,
    retention::refuse_removed,
    trigger::{loaded, refuse_tenants},
};

/// Items that one backfill looks at, at most.
const MAX_ITEMS: usize = 2_000_000;

/// Dates and tenants to backfill.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// The first date, in each tenant's zone.
    pub from: NaiveDate,
    /// The last date.
    pub to: NaiveDate,
    /// Tenants to run; absent: all. An empty list is refused.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeSet<TenantId>))]
    pub tenants: Option<BTreeSet<TenantId>>,
    /// All tenants, said explicitly.
    #[serde(default)]
    pub all: bool,
    /// Also for named tenants who have stored no preference, with the job's defaults.
    #[serde(default)]
    pub allow_unknown: bool,
    /// Count only, and enqueue nothing.
    #[serde(default)]
    pub preview: bool,
}

/// Outcome of a backfill, or of its preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackfillReport {
    /// The job.
    pub job_id: JobId,
    /// Whether the call was a preview.
    pub preview: bool,
    /// Number of items and batches.
    #[serde(flatten)]
    pub count: BackfillCount,
}

impl Operator {
    /// Queues what a job has not run on dates that have passed, or only counts it if the request says so. What has begun
    /// continues when the caller disconnects.
    ///
    /// # Errors
    /// The job does not exist, nothing or too much fell due, results of these dates have been removed, a tenant cannot be run, or
    /// the store fails.
    pub async fn backfill(
        &self,
        actor: &Actor,
        key: Option<&IdempotencyKey>,
        job_id: &JobId,
        request: &BackfillRequest,
    ) -> Result<BackfillReport, OperatorError> {
        if request.preview {
            return self
                .backfill_as(actor, job_id, request, self.clock.now())
                .await;
        }
        let scope = format!("backfill {job_id}");
        let act = |attempt: Attempt| self.backfill_as(actor, job_id, request, attempt.at);
        self.once(key, scope, request, act).await
    }

    async fn backfill_as(
        &self,
        actor: &Actor,
        job_id: &JobId,
        request: &BackfillRequest,
        now: DateTime<Utc>,
    ) -> Result<BackfillReport, OperatorError> {
        let job = self.job(job_id)?;
        refuse_empty("tenants", request.tenants.as_ref(), request.all)?;
        let (from, to, preview) = (request.from, request.to, request.preview);
        let dates =
            Dates::new(from, to).map_err(|error| OperatorError::Invalid(error.to_string()))?;
        for named in request.tenants.iter().flatten() {
            let mut days = from.iter_days().take_while(|day| *day <= to);
            if !days.any(|day| self.sharding.serves(job_id, &named.into(), day)) {
                self.refuse_other_shard(job_id, &named.into(), to)?;
            }
        }
        let all_of_feature =
            matches!(job.work, Work::Preferences { .. }) && request.tenants.is_none();
        if let (Some(shard), true) = (self.sharding.forgotten(from, to), all_of_feature) {
            return Err(OperatorError::Conflict(format!(
                "this agent served shard {shard} on some of the dates from {from} to {to}, and does not read the preferences \
                 of its tenants any more; name the tenants"
            )));
        }
        let groups = self.fell_due(&job, dates, request, now).await?;
        let first = groups
            .first()
            .and_then(|group| group.items.first())
            .cloned();
        let groups = self.sharding.share_of(job_id, groups);
        if let (Some(first), true) = (first, groups.is_empty()) {
            self.refuse_other_shard(job_id, &first, to)?;
        }
        let due = groups
            .iter()
            .map(|group| group.occurrences.len() * group.items.len());
        let due: usize = due.sum();
        if due == 0 {
            return Err(OperatorError::Invalid(format!(
                "no items of {job_id} fell due from {from} to {to}; a backfill covers past dates only"
            )));
        }
        if due > MAX_ITEMS {
            return Err(OperatorError::Invalid(format!(
                "{due} items of {job_id} fell due from {from} to {to}, and a backfill takes at \
                 most {MAX_ITEMS}; name fewer dates or tenants"
            )));
        }
        let occurrences = groups.iter().flat_map(|group| &group.occurrences);
        let occurrences: Vec<Occurrence> = occurrences.map(|(_, occurrence)| *occurrence).collect();
        refuse_removed(self.retention.as_ref(), job_id, &occurrences).await?;
        if !preview {
            let range = format!("{from} to {to}, {due} items due");
            self.record(actor, "backfill", job_id.as_str(), &range)
                .await?;
        }
        let (operator, allow_unknown) = (self.clone(), request.allow_unknown);
        let work = async move {
            let queue = (!preview).then_some(operator.queue.as_ref());
            let known = (operator.reader.as_ref(), operator.retention.as_ref());
            let size = operator.chunk_size;
            backfill(known, queue, &job, groups, size, allow_unknown, now).await
        };
        let done = tokio::spawn(work).await;
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let count = done?;
        if !preview {
            let (to_run, batches) = (count.to_run, count.batches);
            info!(%job_id, to_run, batches, "Operator queued a backfill of {job_id}: {to_run} \
                items in {batches} batches");
        }
        Ok(BackfillReport {
            job_id: job_id.clone(),
            preview,
            count,
        })
    }

    /// Who fell due when on these dates.
    async fn fell_due(
        &self,
        job: &JobConfig,
        dates: Dates,
        request: &BackfillRequest,
        now: DateTime<Utc>,
    ) -> Result<Vec<BackfillGroup>, OperatorError> {
        match (&job.work, &request.tenants) {
            (Work::Fixed { schedule, .. }, named) => Ok(vec![BackfillGroup {
                schedule: schedule.clone(),
                occurrences: dates.passed(schedule, TimeDelta::zero(), now),
                items: self.items(job, named.clone()).await?,
            }]),
            (Work::Preferences { .. }, None) => {
                let status = self.status.get();
                let known = loaded(&status, &job.job_id)?;
                Ok(known.mirror.read(|mirror| mirror.backfill(dates, now)))
            }
            (
                Work::Preferences {
                    feature_type,
                    defaults,
                    ..
                },
                Some(named),
            ) => {
                let (mut groups, mut unknown) = (Vec::new(), Vec::new());
                for tenant in named {
                    let schedule = self.schedule_of(job, defaults, tenant, request.allow_unknown);
                    let Some(schedule) = schedule.await? else {
                        unknown.push(tenant);
                        continue;
                    };
                    groups.push(BackfillGroup {
                        occurrences: dates.passed(&schedule, job.work.spread_of(tenant), now),
                        schedule,
                        items: vec![tenant.into()],
                    });
                }
                refuse_tenants(&job.job_id, feature_type, &unknown)?;
                Ok(groups)
            }
        }
    }

    /// What a named tenant has chosen, or the job's defaults say; `None`: nothing is stored.
    async fn schedule_of(
        &self,
        job: &JobConfig,
        defaults: &Preference,
        tenant: &TenantId,
        allow_unknown: bool,
    ) -> Result<Option<Schedule>, OperatorError> {
        let status = self.status.get();
        let known = status.jobs.get(&job.job_id);
        match self.choice(job, known, tenant).await {
            Choice::On { schedule, .. } => Ok(Some(schedule)),
            Choice::Missing if allow_unknown => {
                let merged = MergedPreference::of_defaults(defaults, &self.zone);
                let merged = merged.map_err(|errors| {
                    OperatorError::Invalid(format!(
                        "the default preferences of {} are incomplete: {errors}",
                        job.job_id
                    ))
                })?;
                Ok(Some(merged.slot.into()))
            }
            Choice::Missing => Ok(None),
            _ => Err(OperatorError::Invalid(format!(
                "tenants: {tenant} is not scheduled in {}; the explanation of {tenant} in this job says why",
                job.job_id
            ))),
        }
    }
}
