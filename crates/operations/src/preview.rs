//! What a run would send for one tenant now, without sending it.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use punctual_application::{Preview, PreviewRequest};
use punctual_domain::JobId;

use super::{
    App,
    audit::RequestActor,
    problem::{AnyProblem, Problem},
};

/// Shows what a run of a job would send for one tenant now. Nothing is stored or delivered.
///
/// The tenant's data are fetched and the templates are rendered as in a run. With `"call": true`, a webhook or a language model is
/// called once, with the header `Punctual-Dry-Run: 1` and an idempotency key that no run has; the audit log has an entry, and the
/// call counts against the limits of the purpose. A run that would be skipped or fail is not an error of this call: `status`
/// says so.
#[utoipa::path(post, operation_id = "preview_run", path = "/jobs/{job_id}/preview", params(("job_id" = String, Path, description = "The job")), request_body = PreviewRequest, responses(
    (status = 200, body = Preview, description = "What would be sent, or why nothing would"),
    AnyProblem
))]
pub(super) async fn run(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    body: Bytes,
) -> Result<Json<Preview>, Problem> {
    let request: PreviewRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"tenant_id\": \"ID\"}}, with \"call\": true for a dry run of the endpoint"
        ))
    })?;
    let job_id = JobId::new(&job_id)?;
    let preview = app.operator.preview(&actor, &job_id, &request);
    Ok(Json(preview.await?))
}
