//! Runs what fell due on dates that have passed and was not run: after an outage, or for a job that is new. It goes by
//! what tenants have chosen now, behind everything else, and nobody runs twice for a date.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::{
    chunk_size_of,
    ports::{Clock, SystemClock},
};
use punctual_domain::{
    BackfillGroup, Choice, Dates, Firing, JobConfig, NewBatch, Occurrence, Priority, TenantId,
    Trigger, Work,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{
    App,
    audit::By,
    control::id,
    problem::{AnyProblem, Problem},
};

/// Items that one backfill looks at, at most.
const MOST_ITEMS: usize = 2_000_000;
/// Items that are put in the queue in one transaction, about.
const ITEMS_A_FIRING: usize = 50_000;

/// What is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The first date, in each tenant's zone.
    from: NaiveDate,
    /// The last date.
    to: NaiveDate,
    /// Only these; none named: all.
    #[serde(default)]
    tenants: BTreeSet<TenantId>,
    /// Only count.
    #[serde(default)]
    preview: bool,
}

impl Wanted {
    pub(super) fn new(
        from: NaiveDate,
        to: NaiveDate,
        tenants: BTreeSet<TenantId>,
        preview: bool,
    ) -> Self {
        Self {
            from,
            to,
            tenants,
            preview,
        }
    }
}

/// What a backfill comes to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Count {
    /// How many items fell due.
    pub(super) due: usize,
    /// How many of them have a result, and do not run again.
    pub(super) already_run: usize,
    /// How many run.
    pub(super) to_run: usize,
    /// In how many batches.
    pub(super) batches: usize,
    /// How many run for each date, as each tenant has it.
    pub(super) dates: BTreeMap<NaiveDate, usize>,
}

/// Queues what fell due on dates that have passed and has no result, or counts it.
#[utoipa::path(post, path = "/jobs/{job_id}/backfill", params(("job_id" = String, Path, description = "The job")), request_body(content = Object, description = "`{\"from\": DATE, \"to\": DATE, \"tenants\": [ID, …], \"preview\": true}`"), responses(
    (status = 200, body = Object, description = "With `preview`: how much fell `due`, has `already_run`, and is `to_run`, in how many `batches`, by `dates`"),
    (status = 202, body = Object, description = "The same, and it is queued"),
    AnyProblem
))]
pub(super) async fn backfill(
    State(app): State<App>,
    by: By,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "the body cannot be used ({error}); send {{\"from\": \"YYYY-MM-DD\", \"to\": \"YYYY-MM-DD\"}}, with \
             \"preview\": true to only count, and \"tenants\": [\"ID\", …] for some"
        ))
    })?;
    let preview = wanted.preview;
    let count = app.backfill(&by, &job_id, wanted).await?;
    let mut answer = json!(count);
    answer["job_id"] = json!(job_id);
    answer["preview"] = json!(preview);
    let status = match preview {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok((status, Json(answer)))
}

impl App {
    /// Queues what a job has not run on dates that have passed, or counts it. What has begun goes on when whoever asked
    /// goes away.
    pub(super) async fn backfill(
        &self,
        by: &By,
        job_id: &str,
        wanted: Wanted,
    ) -> Result<Count, Problem> {
        let job = self.job(&id(job_id)?)?;
        let dates = Dates::new(wanted.from, wanted.to)
            .map_err(|error| Problem::bad_request(error.to_string()))?;
        let now = SystemClock.now();
        let groups = self.fell_due(&job, dates, wanted.tenants, now).await?;
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
        let app = self.clone();
        let work = async move { app.run_missing(&job, groups, now, wanted.preview).await };
        let done = tokio::spawn(work).await;
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Who fell due when on these dates.
    async fn fell_due(
        &self,
        job: &JobConfig,
        dates: Dates,
        named: BTreeSet<TenantId>,
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
            Work::Preferences { .. } if named.is_empty() => {
                let status = self.status.get();
                match status.jobs.get(&job.job_id) {
                    Some(known) if known.loaded => {
                        Ok(known.mirror.read(|mirror| mirror.backfill(dates, now)))
                    }
                    _ => Err(Problem::unavailable(format!(
                        "the preferences of {} have not been read yet; ask again in a moment",
                        job.job_id
                    ))),
                }
            }
            Work::Preferences { .. } => {
                let status = self.status.get();
                let known = status.jobs.get(&job.job_id);
                let mut groups = Vec::new();
                for tenant in named {
                    let Choice::On {
                        schedule, spread, ..
                    } = self.choice(job, known, &tenant).await
                    else {
                        return Err(Problem::bad_request(format!(
                            "tenants: {tenant} is not scheduled in {}; GET /api/v1/tenants/{tenant}/explain says why",
                            job.job_id
                        )));
                    };
                    groups.push(BackfillGroup {
                        occurrences: dates.passed(&schedule, spread, now),
                        schedule,
                        tenants: vec![tenant],
                    });
                }
                Ok(groups)
            }
        }
    }

    async fn run_missing(
        &self,
        job: &JobConfig,
        groups: Vec<BackfillGroup>,
        now: DateTime<Utc>,
        preview: bool,
    ) -> Result<Count, Problem> {
        let chunk_size = chunk_size_of(job.kind, self.chunk_size);
        let mut count = Count::default();
        let mut firing = Firing::default();
        for group in groups {
            for (scheduled_at, occurrence) in group.occurrences {
                let items = self.have_not_run(job, occurrence, &group.tenants).await?;
                count.due += group.tenants.len();
                count.already_run += group.tenants.len() - items.len();
                if items.is_empty() {
                    continue;
                }
                count.to_run += items.len();
                count.batches += 1;
                if let Some(date) = group.schedule.date_of(occurrence) {
                    *count.dates.entry(date).or_default() += items.len();
                }
                if preview {
                    continue;
                }
                let batch = NewBatch::new(
                    &job.job_id,
                    Priority::Low,
                    group.schedule.to_string(),
                    scheduled_at,
                    occurrence,
                    Trigger::Backfill,
                    now,
                    &items,
                    chunk_size,
                );
                firing.batches.push(batch.delivered_to(&job.deliver));
                if firing.batches.iter().map(NewBatch::total).sum::<usize>() >= ITEMS_A_FIRING {
                    self.queue.enqueue(std::mem::take(&mut firing), now).await?;
                }
            }
        }
        if !firing.batches.is_empty() {
            self.queue.enqueue(firing, now).await?;
        }
        if !preview {
            let (
                job_id,
                Count {
                    to_run, batches, ..
                },
            ) = (&job.job_id, &count);
            info!(%job_id, to_run, batches, "Backfill of {job_id} is queued: {to_run} items in {batches} batches");
        }
        Ok(count)
    }

    async fn have_not_run(
        &self,
        job: &JobConfig,
        occurrence: Occurrence,
        tenants: &[TenantId],
    ) -> Result<Vec<TenantId>, Problem> {
        let ran = self.reader.ran(&job.job_id, occurrence, tenants).await?;
        let left = tenants.iter().filter(|tenant| !ran.contains(*tenant));
        Ok(left.cloned().collect())
    }
}
