//! One tenant's configuration: read, stored, patched, removed, its history and restoring from it. A version is
//! the ETag: `If-None-Match` saves reading what is known, `If-Match` saves overwriting what is not.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use punctual_domain::{FeatureType, FieldErrors, Invalid, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Caller,
    problem::{self, AnyProblem, JsonBody, Problem, ProblemBody},
};
use crate::{
    store::{ChangeError, ConfigId, Expected, PastConfig, StoredConfig},
    validate::CheckedConfig,
};

pub(super) type Address = Path<(String, String)>;

/// What is sent to store a configuration, or to patch one.
#[derive(Deserialize, ToSchema)]
pub(super) struct ConfigBody {
    /// For `feature_preferences`: preferences by feature.
    #[schema(value_type = Object)]
    #[allow(dead_code, reason = "read by hand, so that every mistake is told")]
    config_value: Value,
}

/// The versions of a configuration, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    versions: Vec<PastConfig>,
    /// Ask for the ones before this next; `null`: there are none.
    next_before: Option<i64>,
}

/// A tenant's configuration.
#[utoipa::path(get, operation_id = "config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-None-Match" = Option<String>, Header, description = "ETags that are known")), responses(
    (status = 200, body = StoredConfig),
    (status = 304, description = "It is known"),
    (status = 404, description = "There is no such configuration", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn read(
    State(app): State<App>,
    address: Address,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let config = app
        .store
        .config(&parse(address)?)
        .await?
        .ok_or(ChangeError::Missing)?;
    let known = text(&headers, &header::IF_NONE_MATCH);
    if known.is_some_and(|known| known == "*" || tags(known).any(|tag| tag == etag(config.version)))
    {
        return Ok((
            StatusCode::NOT_MODIFIED,
            [(header::ETAG, etag(config.version))],
        )
            .into_response());
    }
    Ok(stored(config))
}

/// Stores a configuration in place of what is there.
#[utoipa::path(put, operation_id = "store_config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "The ETag it must have, or *"), ("If-None-Match" = Option<String>, Header, description = "*: it must not be there")), request_body = ConfigBody, responses(
    (status = 200, body = StoredConfig),
    (status = 412, description = "It is not what the condition says", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn store(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let id = parse(address)?;
    let config = app.store.check(&id.config_key, &config_value(&body)?)?;
    let (changed, _) = app
        .store
        .change(&id, expected(&headers)?, &caller.name, |_| Ok(Some(config)))
        .await?;
    Ok(stored(changed.ok_or(ChangeError::Missing)?))
}

/// Applies a JSON merge patch (RFC 7396): null removes, objects merge, everything else replaces.
#[utoipa::path(patch, operation_id = "patch_config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "The ETag it must have, or *"), ("If-None-Match" = Option<String>, Header, description = "*: it must not be there")), request_body = ConfigBody, responses(
    (status = 200, body = StoredConfig),
    (status = 404, description = "There is no such configuration", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "It is not what the condition says", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn patch(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let id = parse(address)?;
    let patch = config_value(&body)?;
    let patched = |current: Option<&StoredConfig>| -> Result<Option<CheckedConfig>, ChangeError> {
        let current = current.ok_or(ChangeError::Missing)?;
        let mut value = Value::Object(current.config_value.clone());
        merge_patch(&mut value, &patch);
        Ok(Some(app.store.check(&id.config_key, &value)?))
    };
    let (changed, _) = app
        .store
        .change(&id, expected(&headers)?, &caller.name, patched)
        .await?;
    Ok(stored(changed.ok_or(ChangeError::Missing)?))
}

/// Removes a configuration.
#[utoipa::path(delete, operation_id = "remove_config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "The ETag it must have, or *"), ("If-None-Match" = Option<String>, Header, description = "*: it must not be there")), responses(
    (status = 204, description = "It is removed"),
    (status = 404, description = "There is no such configuration", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "It is not what the condition says", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn remove(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let there = |current: Option<&StoredConfig>| match current {
        Some(_) => Ok(None),
        None => Err(ChangeError::Missing),
    };
    app.store
        .change(&parse(address)?, expected(&headers)?, &caller.name, there)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Only versions below this one.
    #[param(nullable = false)]
    before: Option<i64>,
    /// 50 without it, 1,000 at most.
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
}

/// The versions of a configuration there have been, with who changed it when.
#[utoipa::path(get, operation_id = "config_history", path = "/tenants/{tenant_id}/configs/{config_key}/history", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), HistoryQuery), responses(
    (status = 200, body = History),
    AnyProblem,
))]
pub(super) async fn history(
    State(app): State<App>,
    address: Address,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Problem> {
    let Query(HistoryQuery { before, limit }) = query?;
    let limit = limit.unwrap_or(50).clamp(1, 1_000);
    let versions = app
        .store
        .history(&parse(address)?, before.unwrap_or(i64::MAX), limit)
        .await?;
    let full = versions.len() == limit as usize;
    let next = versions
        .last()
        .map(|last| last.version)
        .filter(|version| full && *version > 1);
    Ok(Json(History {
        versions,
        next_before: next,
    }))
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Restore {
    /// Of the history.
    version: i64,
}

/// Stores an earlier version again, as a new one.
#[utoipa::path(post, operation_id = "restore_config", path = "/tenants/{tenant_id}/configs/{config_key}/restore", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "The ETag it must have, or *"), ("If-None-Match" = Option<String>, Header, description = "*: it must not be there")), request_body = Restore, responses(
    (status = 200, body = StoredConfig),
    (status = 404, description = "There is no such configuration", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "It is not what the condition says", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn restore(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    JsonBody(Restore { version }): JsonBody<Restore>,
) -> Result<Response, Problem> {
    let id = parse(address)?;
    let value = app.store.past_value(&id, version).await?.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "there is no version {version} to restore; GET the history for those there are"
            ),
        )
    })?;
    let config = app.store.check(&id.config_key, &Value::Object(value))?;
    let (changed, _) = app
        .store
        .change(&id, expected(&headers)?, &caller.name, |_| Ok(Some(config)))
        .await?;
    Ok(stored(changed.ok_or(ChangeError::Missing)?))
}

fn stored(config: StoredConfig) -> Response {
    ([(header::ETAG, etag(config.version))], Json(config)).into_response()
}

fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The condition in `If-Match` or `If-None-Match`.
fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let bad = |name: &str| {
        let hint = format!("{name} is not usable here; send the ETag of a version, or *");
        Problem::new(StatusCode::BAD_REQUEST, hint)
    };
    match (
        text(headers, &header::IF_MATCH),
        text(headers, &header::IF_NONE_MATCH),
    ) {
        (None, None) => Ok(Expected::Anything),
        (Some("*"), None) => Ok(Expected::Existing),
        (None, Some("*")) => Ok(Expected::Missing),
        (Some(tag), None) => tag
            .trim_matches('"')
            .parse()
            .map(Expected::Version)
            .map_err(|_| bad("If-Match")),
        (_, Some(_)) => Err(bad("If-None-Match")),
    }
}

/// The `config_value` of a body.
fn config_value(body: &[u8]) -> Result<Value, Problem> {
    let body: Value = problem::json_of(body)?;
    body.get("config_value").cloned().ok_or_else(|| {
        let remedy = "send {\"config_value\": {feature: preference}}";
        FieldErrors(vec![
            Invalid::new("is missing", remedy).at("/config_value", None),
        ])
        .into()
    })
}

fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn parse(Path((tenant_id, config_key)): Address) -> Result<ConfigId, Problem> {
    // A configuration key obeys the rule of all names.
    let config_key = FeatureType::new(&config_key).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the config_key is not valid; use feature_preferences",
        )
    })?;
    Ok(ConfigId {
        tenant_id: TenantId::new(&tenant_id)?,
        config_key: config_key.to_string(),
    })
}
