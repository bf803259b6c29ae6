//! What an operator does to a job: run it now, pause it, let it go on.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_application::{TriggerRequest, TriggeredBatch};
use punctual_domain::JobId;

use super::{
    App,
    audit::RequestActor,
    idempotency::IdempotencyHeader,
    model::PausedJob,
    problem::{AnyProblem, Problem},
};

/// Queues a run of a job for all its tenants, or for some, whatever their schedule says.
#[utoipa::path(post, path = "/jobs/{job_id}/trigger", params(("job_id" = String, Path, description = "The job"), ("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours returns the same batch")), request_body(content = Option<TriggerRequest>, description = "`{\"tenants\": [ID, …]}`, or `{\"all\": true}`, which is the default; `\"allow_unknown\": true` also runs for named tenants without a stored preference"), responses(
    (status = 202, body = TriggeredBatch, description = "The batch is queued"),
    AnyProblem
))]
pub(super) async fn trigger(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<TriggeredBatch>), Problem> {
    let request = if body.is_empty() {
        TriggerRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::bad_request(format!(
                "invalid body ({error}); send {{\"tenants\": [\"ID\", …]}}, or {{\"all\": true}}"
            ))
        })?
    };
    let triggered = app
        .operator
        .trigger(&actor, key.as_ref(), &JobId::new(&job_id)?, &request)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(triggered)))
}

/// Pauses a job: nothing of it falls due until it is resumed.
#[utoipa::path(post, path = "/jobs/{job_id}/pause", params(("job_id" = String, Path, description = "The job")), responses(
    (status = 200, body = PausedJob, description = "Whether the job is paused"),
    AnyProblem
))]
pub(super) async fn pause(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
) -> Result<Json<PausedJob>, Problem> {
    let job_id = JobId::new(&job_id)?;
    app.operator.pause(&actor, &job_id).await?;
    Ok(Json(PausedJob {
        job_id,
        paused: true,
    }))
}

/// Resumes a paused job, with the occurrences due from now on.
#[utoipa::path(post, path = "/jobs/{job_id}/resume", params(("job_id" = String, Path, description = "The job")), responses(
    (status = 200, body = PausedJob, description = "Whether the job is paused"),
    AnyProblem
))]
pub(super) async fn resume(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
) -> Result<Json<PausedJob>, Problem> {
    let job_id = JobId::new(&job_id)?;
    app.operator.resume(&actor, &job_id).await?;
    Ok(Json(PausedJob {
        job_id,
        paused: false,
    }))
}
