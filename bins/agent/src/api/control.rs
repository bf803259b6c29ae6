//! What an operator does to a job: run it now, pause it, let it go on.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    chunk_size_of, item_ids,
    ports::{Clock, SystemClock},
};
use punctual_domain::{
    FeatureType, Firing, JobConfig, JobId, Mirror, NewBatch, Occurrence, TenantId, Trigger, Work,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tracing::info;
use uuid::Uuid;

use super::{
    App,
    audit::By,
    once::Once,
    problem::{AnyProblem, Problem},
};

/// Whom a job is to run for.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only these; absent: all. An empty list is refused: it means no one.
    #[serde(default, deserialize_with = "given")]
    pub(super) tenants: Option<BTreeSet<TenantId>>,
    /// All, in words.
    #[serde(default)]
    pub(super) all: bool,
    /// Also for tenants who have stored no preference, with the job's defaults.
    #[serde(default)]
    pub(super) allow_unknown: bool,
}

/// Reads a field that may be absent, but not `null`: a script that has found nothing does not mean all.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Refuses a list of nothing, and a list beside `all`.
pub(super) fn refuse_nothing<T>(
    field: &str,
    list: Option<&BTreeSet<T>>,
    all: bool,
) -> Result<(), Problem> {
    match list {
        Some(list) if list.is_empty() => Err(Problem::bad_request(format!(
            "{field} is an empty list, which means no one; name at least one, or send \"all\": true without {field}"
        ))),
        Some(_) if all => Err(Problem::bad_request(format!(
            "{field} goes without all; send one or the other"
        ))),
        _ => Ok(()),
    }
}

/// Queues a run of a job for all its tenants, or for some, whatever their schedule says.
#[utoipa::path(post, path = "/jobs/{job_id}/trigger", params(("job_id" = String, Path, description = "The job"), ("Idempotency-Key" = Option<String>, Header, description = "The same key within 24 hours is the same batch")), request_body(content = Option<Object>, description = "`{\"tenants\": [ID, …]}`, or `{\"all\": true}`, which is the default; `\"allow_unknown\": true` also runs for named tenants who have stored no preference"), responses(
    (status = 202, body = Object, description = "The batch that is queued: `batch_id`, `occurrence`, `total`"),
    AnyProblem
))]
pub(super) async fn trigger(
    State(app): State<App>,
    by: By,
    once: Once,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let wanted: Wanted = if body.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::bad_request(format!(
                "the body cannot be used ({error}); send {{\"tenants\": [\"ID\", …]}}, or {{\"all\": true}}"
            ))
        })?
    };
    let answer = app.trigger(&by, &once, &job_id, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Lets nothing of a job fall due until it is resumed.
#[utoipa::path(post, path = "/jobs/{job_id}/pause", params(("job_id" = String, Path, description = "The job")), responses(
    (status = 200, body = Object, description = "`paused`: whether it is now"),
    AnyProblem
))]
pub(super) async fn pause(
    State(app): State<App>,
    by: By,
    Path(job_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    app.set_paused(&by, &job_id, true).await
}

/// Lets a paused job go on with what falls due from now on.
#[utoipa::path(post, path = "/jobs/{job_id}/resume", params(("job_id" = String, Path, description = "The job")), responses(
    (status = 200, body = Object, description = "`paused`: whether it is now"),
    AnyProblem
))]
pub(super) async fn resume(
    State(app): State<App>,
    by: By,
    Path(job_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    app.set_paused(&by, &job_id, false).await
}

impl App {
    /// Queues a run of a job for those who are wanted.
    pub(super) async fn trigger(
        &self,
        by: &By,
        once: &Once,
        job_id: &str,
        wanted: Wanted,
    ) -> Result<Value, Problem> {
        let scope = format!("trigger {job_id}");
        let act = |run, now| self.trigger_as(by, job_id, &wanted, run, now);
        self.once(once, scope, &wanted, act).await
    }

    async fn trigger_as(
        &self,
        by: &By,
        job_id: &str,
        wanted: &Wanted,
        run: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Value, Problem> {
        let job = self.job(&id(job_id)?)?;
        refuse_nothing("tenants", wanted.tenants.as_ref(), wanted.all)?;
        if let (Some(named), false) = (&wanted.tenants, wanted.allow_unknown) {
            self.refuse_unknown(&job, named).await?;
        }
        let items = self.items(&job, wanted.tenants.clone()).await?;
        if items.is_empty() {
            let remedy = match job.work {
                Work::Preferences { .. } => {
                    "name tenants, or check its preferences: GET /api/v1/jobs"
                }
                Work::Fixed { .. } => "check its source and the filters of its source",
            };
            return Err(Problem::bad_request(format!(
                "{job_id} has no items to run; {remedy}"
            )));
        }
        let run = Occurrence::Run(run);
        let batch = NewBatch::new(
            &job.job_id,
            job.priority,
            "manual".to_owned(),
            now,
            run,
            Trigger::Manual,
            now,
            &items,
            chunk_size_of(job.kind, self.chunk_size),
        )
        .of_job(&job, TimeDelta::zero())
        .allowing_unknown(wanted.allow_unknown);
        let (batch_id, total) = (batch.batch_id, batch.total());
        let detail = format!("batch {batch_id} of {total} items");
        self.audit(by, "trigger", job_id, &detail).await?;
        let firing = Firing {
            batches: vec![batch],
            progress: vec![],
        };
        self.noted(self.queue.enqueue(firing, SystemClock.now()).await)?;
        info!(%batch_id, %job_id, total, "Batch {batch_id} of {job_id} is queued by hand: {total} items");
        Ok(json!({"batch_id": batch_id, "job_id": job.job_id, "occurrence": run, "total": total}))
    }

    /// Refuses tenants who have stored no preference for a job's feature: most likely they are mistyped.
    async fn refuse_unknown(
        &self,
        job: &JobConfig,
        named: &BTreeSet<TenantId>,
    ) -> Result<(), Problem> {
        let Work::Preferences { feature_type, .. } = &job.work else {
            return Ok(());
        };
        let status = self.status.get();
        let others: Vec<TenantId> = match status.jobs.get(&job.job_id) {
            Some(known) => known.mirror.read(|mirror| {
                let is_off = |tenant: &&TenantId| mirror.slot_of(tenant).is_none();
                named.iter().filter(is_off).cloned().collect()
            }),
            None => named.iter().cloned().collect(),
        };
        if others.is_empty() {
            return Ok(());
        }
        let stored = self.preferences.preferences(feature_type, &others).await;
        let stored = stored.map_err(|error| {
            Problem::unavailable(format!(
                "preferences cannot be read now: {error}; try again"
            ))
        })?;
        let unknown = others.iter().filter(|tenant| !stored.contains_key(*tenant));
        refuse_tenants(&job.job_id, feature_type, &unknown.collect::<Vec<_>>())
    }

    pub(super) async fn set_paused(
        &self,
        by: &By,
        job_id: &str,
        paused: bool,
    ) -> Result<Json<Value>, Problem> {
        let job = self.job(&id(job_id)?)?;
        let action = if paused { "pause" } else { "resume" };
        self.audit(by, action, job_id, "").await?;
        let reason = paused.then(|| "paused by hand".to_owned());
        let set = self
            .queue
            .set_paused(&job.job_id, reason, SystemClock.now());
        self.noted(set.await)?;
        let word = if paused { "paused" } else { "resumed" };
        info!(%job_id, "Job {job_id} is {word} by hand");
        Ok(Json(json!({"job_id": job.job_id, "paused": paused})))
    }

    /// Whom a job runs for: those named, else all.
    pub(super) async fn items(
        &self,
        job: &JobConfig,
        named: Option<BTreeSet<TenantId>>,
    ) -> Result<Vec<TenantId>, Problem> {
        let all = match &job.work {
            Work::Preferences { .. } => {
                if let Some(named) = named {
                    return Ok(named.into_iter().collect());
                }
                let status = self.status.get();
                let known = status.jobs.get(&job.job_id);
                return Ok(known
                    .map(|job| job.mirror.read(Mirror::tenants))
                    .unwrap_or_default());
            }
            Work::Fixed {
                sources,
                distribute_to,
                ..
            } => {
                let records = self.item_source.load(sources).await.map_err(|error| {
                    Problem::bad_request(format!(
                        "the items of {} cannot be read: {error}",
                        job.job_id
                    ))
                })?;
                item_ids(job.kind, &records, distribute_to)
            }
        };
        let Some(named) = named else { return Ok(all) };
        match named.iter().find(|id| !all.contains(id)) {
            Some(id) => Err(Problem::bad_request(format!(
                "{} has no item `{id}`",
                job.job_id
            ))),
            None => Ok(named.into_iter().collect()),
        }
    }
}

/// How many tenants an error names.
const NAMED: usize = 100;

/// Refuses these tenants, if there are any, because they have stored nothing.
pub(super) fn refuse_tenants(
    job_id: &JobId,
    feature_type: &FeatureType,
    unknown: &[&TenantId],
) -> Result<(), Problem> {
    if unknown.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = unknown.iter().take(NAMED).map(|id| id.as_str()).collect();
    let more = match unknown.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Problem::unprocessable(format!(
        "tenants: {} named for {job_id} have stored no preference for {feature_type}: {}{more}; nothing is queued. \
         Correct them, or send \"allow_unknown\": true (--allow-unknown) to run them with the job's defaults",
        unknown.len(),
        names.join(", ")
    )))
}

pub(super) fn id(job_id: &str) -> Result<JobId, Problem> {
    JobId::new(job_id).map_err(|error| Problem::bad_request(error.to_string()))
}
