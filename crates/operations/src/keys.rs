//! Keys of operators over HTTP.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_application::{CreatedKey, NewOperatorKey};

use super::{
    App,
    audit::RequestActor,
    model::OperatorKeys,
    problem::{AnyProblem, Problem},
};

/// Active keys of operators, without their secrets.
#[utoipa::path(get, operation_id = "keys", path = "/keys", responses(
    (status = 200, body = OperatorKeys, description = "The keys"),
    AnyProblem
))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<OperatorKeys>, Problem> {
    let keys = app.operator.active_keys().await?;
    Ok(Json(OperatorKeys { keys }))
}

/// Creates a key. Only this answer shows it.
#[utoipa::path(post, operation_id = "create_key", path = "/keys", request_body = NewOperatorKey, responses(
    (status = 201, body = CreatedKey, description = "The key"),
    AnyProblem
))]
pub(super) async fn add(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    body: Bytes,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    let new: NewOperatorKey = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"name\": \"ann\", \"role\": \"operate\"}}, with \"expires_in_days\": 90 for a key that expires"
        ))
    })?;
    let made = app.operator.add_key(&actor, &new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revokes a key, and ends the sessions of the page that began with it.
#[utoipa::path(delete, operation_id = "revoke_key", path = "/keys/{name}", params(("name" = String, Path, description = "Name of the key")), responses(
    (status = 204, description = "The key is revoked"),
    AnyProblem
))]
pub(super) async fn revoke(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.operator.revoke_key(&actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
