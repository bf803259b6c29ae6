//! What an operator does to a job: run it now, pause it, let it go on.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_application::{
    chunk_size_of, item_ids,
    ports::{Clock, SystemClock},
};
use punctual_domain::{
    Firing, JobConfig, JobId, Mirror, NewBatch, Occurrence, TenantId, Trigger, Work,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;
use uuid::Uuid;

use super::{
    App,
    audit::By,
    problem::{AnyProblem, Problem},
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Only these; none named: all.
    #[serde(default)]
    tenants: BTreeSet<TenantId>,
}

/// Queues a run of a job for all its tenants, or for some, whatever their schedule says.
#[utoipa::path(post, path = "/jobs/{job_id}/trigger", params(("job_id" = String, Path, description = "The job")), request_body(content = Option<Object>, description = "`{\"tenants\": [ID, …]}`; none named: all"), responses(
    (status = 202, body = Object, description = "The batch that is queued: `batch_id`, `occurrence`, `total`"),
    AnyProblem
))]
pub(super) async fn trigger(
    State(app): State<App>,
    by: By,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let wanted: Wanted = if body.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::bad_request(format!(
                "the body cannot be used ({error}); send {{\"tenants\": [\"ID\", …]}}, or nothing for all"
            ))
        })?
    };
    let answer = app.trigger(&by, &job_id, wanted.tenants).await?;
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
    /// Queues a run of a job for `tenants`, or for all when none is named.
    pub(super) async fn trigger(
        &self,
        by: &By,
        job_id: &str,
        tenants: BTreeSet<TenantId>,
    ) -> Result<Value, Problem> {
        let job = self.job(&id(job_id)?)?;
        let items = self.items(&job, tenants).await?;
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
        let (now, run) = (SystemClock.now(), Occurrence::Run(Uuid::new_v4()));
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
        .delivered_to(&job.deliver);
        let (batch_id, total) = (batch.batch_id, batch.total());
        let detail = format!("batch {batch_id} of {total} items");
        self.audit(by, "trigger", job_id, &detail).await?;
        let firing = Firing {
            batches: vec![batch],
            progress: vec![],
        };
        self.queue.enqueue(firing, now).await?;
        info!(%batch_id, %job_id, total, "Batch {batch_id} of {job_id} is queued by hand: {total} items");
        Ok(json!({"batch_id": batch_id, "job_id": job.job_id, "occurrence": run, "total": total}))
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
        self.queue
            .set_paused(&job.job_id, reason, SystemClock.now())
            .await?;
        let word = if paused { "paused" } else { "resumed" };
        info!(%job_id, "Job {job_id} is {word} by hand");
        Ok(Json(json!({"job_id": job.job_id, "paused": paused})))
    }

    /// Whom a job runs for: those named, else all.
    pub(super) async fn items(
        &self,
        job: &JobConfig,
        named: BTreeSet<TenantId>,
    ) -> Result<Vec<TenantId>, Problem> {
        let all = match &job.work {
            Work::Preferences { .. } if !named.is_empty() => {
                return Ok(named.into_iter().collect());
            }
            Work::Preferences { .. } => {
                let status = self.status.get();
                let known = status.jobs.get(&job.job_id);
                known
                    .map(|job| job.mirror.read(Mirror::tenants))
                    .unwrap_or_default()
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
        match named.iter().find(|id| !all.contains(id)) {
            Some(id) => Err(Problem::bad_request(format!(
                "{} has no item `{id}`",
                job.job_id
            ))),
            None if named.is_empty() => Ok(all),
            None => Ok(named.into_iter().collect()),
        }
    }
}

pub(super) fn id(job_id: &str) -> Result<JobId, Problem> {
    JobId::new(job_id).map_err(|error| Problem::bad_request(error.to_string()))
}
