//! A store that was restored from an older copy, and the decision about it.

use axum::{Json, body::Bytes, extract::State};
use punctual_application::{RestoreReport, RestoreRequest};

use super::{
    App,
    audit::RequestActor,
    model::Restore,
    problem::{AnyProblem, Problem},
};

/// Whether the store is held because it was restored from an older copy, and what fell due in the time of which it knows nothing.
#[utoipa::path(get, operation_id = "restored", path = "/restore", responses(
    (status = 200, body = Restore, description = "The restored store that waits for a decision, if there is one"),
    AnyProblem
))]
pub(super) async fn show(State(app): State<App>) -> Result<Json<Restore>, Problem> {
    Ok(Json(Restore {
        restored: app.operator.restored().await?,
    }))
}

/// Lets a restored store go on.
///
/// `skip` records what fell due in the lost time, and what the copy still had queued from before its end, as skipped: it most likely
/// ran before. `repeat` goes on from the copy: it runs again, with the same idempotency keys.
#[utoipa::path(post, operation_id = "settle_restore", path = "/restore", request_body = RestoreRequest, responses(
    (status = 200, body = RestoreReport, description = "The store goes on"),
    AnyProblem
))]
pub(super) async fn settle(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    body: Bytes,
) -> Result<Json<RestoreReport>, Problem> {
    let request: RestoreRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"choice\": \"skip\"}} or {{\"choice\": \"repeat\"}}"
        ))
    })?;
    let settled = app.operator.settle_restore(&actor, request.choice);
    Ok(Json(settled.await?))
}
