//! Runs what fell due on dates that have passed and has not succeeded, failed or had nothing to do.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_application::{BackfillReport, BackfillRequest};
use punctual_domain::JobId;

use super::{
    App,
    audit::RequestActor,
    idempotency::IdempotencyHeader,
    problem::{AnyProblem, Problem},
};

/// Queues, or counts, the items of past dates that have not succeeded, failed or had nothing to do.
#[utoipa::path(post, path = "/jobs/{job_id}/backfill", params(("job_id" = String, Path, description = "The job"), ("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours queues nothing twice")), request_body(content = BackfillRequest, description = "`{\"from\": DATE, \"to\": DATE, \"tenants\": [ID, …], \"preview\": true}`; without `tenants`, or with `\"all\": true`, for all; `\"allow_unknown\": true` also runs for named tenants without a stored preference"), responses(
    (status = 200, body = BackfillReport, description = "With `preview`: the items that would run"),
    (status = 202, body = BackfillReport, description = "The queued backfill"),
    AnyProblem
))]
pub(super) async fn backfill(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<BackfillReport>), Problem> {
    let request: BackfillRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"from\": \"YYYY-MM-DD\", \"to\": \"YYYY-MM-DD\"}}, with \
             \"preview\": true to only count, and \"tenants\": [\"ID\", …] for some"
        ))
    })?;
    let report = app
        .operator
        .backfill(&actor, key.as_ref(), &JobId::new(&job_id)?, &request)
        .await?;
    let status = if report.preview {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(report)))
}
