//! Runs what fell due on dates that have passed and has neither succeeded nor failed: after an outage, or for a job that
//! is new. It goes by what tenants have chosen now, behind everything else, and no tenant runs twice for a date.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::{
    BackfillCount,
    ports::{Clock, SystemClock},
};
use punctual_domain::{
    BackfillGroup, Choice, Dates, JobConfig, MergedPreference, Schedule, TenantId, Work,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{
    App,
    audit::By,
    control::{given, id, refuse_nothing, refuse_tenants},
    once::Once,
    problem::{AnyProblem, Problem},
};

/// Items that one backfill looks at, at most.
const MOST_ITEMS: usize = 2_000_000;

/// What is asked for.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The first date, in each tenant's zone.
    pub(super) from: NaiveDate,
    /// The last date.
    pub(super) to: NaiveDate,
    /// Only these; absent: all. An empty list is refused: it means no one.
    #[serde(default, deserialize_with = "given")]
    pub(super) tenants: Option<BTreeSet<TenantId>>,
    /// All, in words.
    #[serde(default)]
    pub(super) all: bool,
    /// Also for named tenants who have stored no preference, with the job's defaults.
    #[serde(default)]
    pub(super) allow_unknown: bool,
    /// Only count.
    #[serde(default)]
    pub(super) preview: bool,
}

/// Queues what fell due on dates that have passed and has neither succeeded nor failed, or counts it.
#[utoipa::path(post, path = "/jobs/{job_id}/backfill", params(("job_id" = String, Path, description = "The job"), ("Idempotency-Key" = Option<String>, Header, description = "The same key within 24 hours is the same backfill")), request_body(content = Object, description = "`{\"from\": DATE, \"to\": DATE, \"tenants\": [ID, …], \"preview\": true}`; without `tenants`, or with `\"all\": true`, for all; `\"allow_unknown\": true` also runs for named tenants who have stored no preference"), responses(
    (status = 200, body = Object, description = "With `preview`: how much fell `due`, has `already_run` (succeeded, failed or running), and is `to_run`, in how many `batches`, by `dates`"),
    (status = 202, body = Object, description = "The same, and it is queued"),
    AnyProblem
))]
pub(super) async fn backfill(
    State(app): State<App>,
    by: By,
    once: Once,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "the body cannot be used ({error}); send {{\"from\": \"YYYY-MM-DD\", \"to\": \"YYYY-MM-DD\"}}, with \
             \"preview\": true to only count, and \"tenants\": [\"ID\", …] for some"
        ))
    })?;
    if wanted.preview {
        let count = app
            .backfill(&by, &job_id, wanted, SystemClock.now())
            .await?;
        return Ok((StatusCode::OK, Json(answer(&job_id, true, &count))));
    }
    let answer = app.backfill_once(&by, &once, &job_id, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn answer(job_id: &str, preview: bool, count: &BackfillCount) -> Value {
    let mut answer = json!(count);
    answer["job_id"] = json!(job_id);
    answer["preview"] = json!(preview);
    answer
}

impl App {
    /// Queues what a job has not run on dates that have passed, once for a key.
    pub(super) async fn backfill_once(
        &self,
        by: &By,
        once: &Once,
        job_id: &str,
        wanted: Wanted,
    ) -> Result<Value, Problem> {
        let asked = wanted.clone();
        let act = |_, now| async move {
            let count = self.backfill(by, job_id, wanted, now).await?;
            Ok(answer(job_id, false, &count))
        };
        self.once(once, format!("backfill {job_id}"), &asked, act)
            .await
    }

    /// Queues what a job has not run on dates that have passed, or counts it. What has begun goes on when whoever asked
    /// goes away.
    pub(super) async fn backfill(
        &self,
        by: &By,
        job_id: &str,
        wanted: Wanted,
        now: DateTime<Utc>,
    ) -> Result<BackfillCount, Problem> {
        let job = self.job(&id(job_id)?)?;
        refuse_nothing("tenants", wanted.tenants.as_ref(), wanted.all)?;
        let dates = Dates::new(wanted.from, wanted.to)
            .map_err(|error| Problem::bad_request(error.to_string()))?;
        let allow_unknown = wanted.allow_unknown;
        let groups = self
            .fell_due(&job, dates, wanted.tenants, allow_unknown, now)
            .await?;
        let due = groups
            .iter()
            .map(|group| group.occurrences.len() * group.tenants.len());
        let due: usize = due.sum();
        if due == 0 {
            return Err(Problem::bad_request(format!(
                "nothing of {job_id} fell due from {} to {}; a backfill is for dates that have passed",
                wanted.from, wanted.to
            )));
        }
        if due > MOST_ITEMS {
            return Err(Problem::bad_request(format!(
                "{due} items of {job_id} fell due from {} to {}, and a backfill takes {MOST_ITEMS}; ask for fewer \
                 dates or tenants",
                wanted.from, wanted.to
            )));
        }
        if !wanted.preview {
            let range = format!("{} to {}, {due} items due", wanted.from, wanted.to);
            self.audit(by, "backfill", job_id, &range).await?;
        }
        let (app, preview) = (self.clone(), wanted.preview);
        let work = async move {
            let queue = (!preview).then_some(app.queue.as_ref());
            let reader = app.reader.as_ref();
            let size = app.chunk_size;
            punctual_application::backfill(reader, queue, &job, groups, size, allow_unknown, now)
                .await
        };
        let done = tokio::spawn(work).await;
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let count = done?;
        if !preview {
            let (to_run, batches) = (count.to_run, count.batches);
            info!(%job_id, to_run, batches, "Backfill of {job_id} is queued: {to_run} items in {batches} batches");
        }
        Ok(count)
    }

    /// Who fell due when on these dates.
    async fn fell_due(
        &self,
        job: &JobConfig,
        dates: Dates,
        named: Option<BTreeSet<TenantId>>,
        allow_unknown: bool,
        now: DateTime<Utc>,
    ) -> Result<Vec<BackfillGroup>, Problem> {
        match &job.work {
            Work::Fixed { schedule, .. } => {
                let tenants = self.items(job, named).await?;
                Ok(vec![BackfillGroup {
                    schedule: schedule.clone(),
                    occurrences: dates.passed(schedule, TimeDelta::zero(), now),
                    tenants,
                }])
            }
            Work::Preferences {
                feature_type,
                defaults,
                ..
            } => {
                let status = self.status.get();
                let known = status.jobs.get(&job.job_id);
                let Some(named) = named else {
                    return match known {
                        Some(known) if known.loaded => {
                            Ok(known.mirror.read(|mirror| mirror.backfill(dates, now)))
                        }
                        _ => Err(Problem::unavailable(format!(
                            "the preferences of {} have not been read yet; ask again in a moment",
                            job.job_id
                        ))),
                    };
                };
                let (mut groups, mut unknown) = (Vec::new(), Vec::new());
                for tenant in &named {
                    let schedule: Schedule = match self.choice(job, known, tenant).await {
                        Choice::On { schedule, .. } => schedule,
                        Choice::Missing if allow_unknown => {
                            let merged = MergedPreference::of_defaults(defaults, &self.zone);
                            let merged = merged.map_err(|errors| {
                                Problem::bad_request(format!(
                                    "the defaults of {} name no time: {errors}",
                                    job.job_id
                                ))
                            })?;
                            merged.slot.into()
                        }
                        Choice::Missing => {
                            unknown.push(tenant);
                            continue;
                        }
                        _ => {
                            return Err(Problem::bad_request(format!(
                                "tenants: {tenant} is not scheduled in {}; GET /api/v1/tenants/{tenant}/explain says why",
                                job.job_id
                            )));
                        }
                    };
                    groups.push(BackfillGroup {
                        occurrences: dates.passed(&schedule, job.work.spread_of(tenant), now),
                        schedule,
                        tenants: vec![tenant.clone()],
                    });
                }
                refuse_tenants(&job.job_id, feature_type, &unknown)?;
                Ok(groups)
            }
        }
    }
}
