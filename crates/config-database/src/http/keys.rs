//! API keys over HTTP, for products that give each of their users one.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use punctual_domain::{TenantId, visible};
use punctual_web::{Problem, ProblemBody};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    problem::{self, AnyProblem, JsonBody},
};
use crate::{
    keys::Scope,
    store::{ApiKey, NewKey},
};

/// The longest time two keys of one name hold together.
const MAX_OVERLAP_HOURS: u32 = 30 * 24;
const DEFAULT_OVERLAP_HOURS: u32 = 24;

/// The keys that are not revoked.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    /// The keys.
    keys: Vec<ApiKey>,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// Name of the key.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// What it may do.
    scope: Scope,
    /// The only tenant that the key gives access to; absent: all tenants.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    tenant_id: Option<TenantId>,
}

/// How a key takes the place of another.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// Hours until the old key expires (default: 24).
    #[schema(maximum = 720)]
    overlap_hours: Option<u32>,
}

/// A new key; it cannot be shown again.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedKey {
    /// Name of the key.
    name: String,
    /// The key, as it is sent in `Authorization: Bearer KEY`.
    key: String,
}

/// Active keys, without their secrets.
#[utoipa::path(get, operation_id = "keys", path = "/keys", responses((status = 200, body = Keys, description = "The keys"), AnyProblem))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Keys>, Problem> {
    let keys = app.store.keys().await?;
    Ok(Json(Keys { keys }))
}

/// Creates a key. Only this answer shows it.
#[utoipa::path(post, operation_id = "create_key", path = "/keys", request_body = CreateKey, responses(
    (status = 201, body = CreatedKey, description = "The key"),
    (status = 409, description = "A key of that name exists", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn create(
    State(app): State<App>,
    JsonBody(wanted): JsonBody<CreateKey>,
) -> Result<Response, Problem> {
    let new = NewKey {
        name: wanted.name,
        scope: wanted.scope,
        tenant_id: wanted.tenant_id,
    };
    let key = app.store.create_key(&new).await?;
    let made = CreatedKey {
        name: new.name,
        key: key.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Replaces a key. The old one stays valid for a while.
#[utoipa::path(post, operation_id = "rotate_key", path = "/keys/{name}/rotate", params(("name" = String, Path)), request_body = Option<Rotation>, responses(
    (status = 201, body = CreatedKey, description = "The key"),
    (status = 404, description = "The key does not exist", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn rotate(
    State(app): State<App>,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Result<Response, Problem> {
    let rotation = if body.is_empty() {
        Rotation::default()
    } else {
        problem::json_of::<Option<Rotation>>(&body)?.unwrap_or_default()
    };
    let hours = rotation.overlap_hours.unwrap_or(DEFAULT_OVERLAP_HOURS);
    if hours > MAX_OVERLAP_HOURS {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("overlap_hours is {hours}; use at most {MAX_OVERLAP_HOURS}"),
        ));
    }
    let key = app
        .store
        .rotate_key(&name, TimeDelta::hours(hours.into()))
        .await?
        .ok_or_else(|| missing(&name))?;
    let made = CreatedKey {
        name,
        key: key.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Revokes a key.
#[utoipa::path(delete, operation_id = "revoke_key", path = "/keys/{name}", params(("name" = String, Path)), responses(
    (status = 204, description = "The key is revoked"),
    (status = 404, description = "The key does not exist", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn revoke(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    if app.store.revoke_key(&name).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(missing(&name))
}

fn missing(name: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!(
            "key `{}` does not exist; GET /api/v1/keys lists the keys",
            visible(name)
        ),
    )
}
