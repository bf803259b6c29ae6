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
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{App, auth::Caller, problem::Problem};
use crate::{
    store::{ChangeError, ConfigId, Expected, PastConfig, StoredConfig},
    validate::CheckedConfig,
};

type Address = Path<(String, String)>;

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

pub(super) async fn store(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let id = parse(address)?;
    let config = app.store.check(&id.config_key, &config_value(&body)?)?;
    let changed = app
        .store
        .change(&id, expected(&headers)?, &caller.0, |_| Ok(Some(config)))
        .await?;
    Ok(stored(changed.ok_or(ChangeError::Missing)?))
}

/// Applies a JSON merge patch (RFC 7396): null removes, objects merge, everything else replaces.
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
    let changed = app
        .store
        .change(&id, expected(&headers)?, &caller.0, patched)
        .await?;
    Ok(stored(changed.ok_or(ChangeError::Missing)?))
}

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
        .change(&parse(address)?, expected(&headers)?, &caller.0, there)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    before: Option<i64>,
    limit: Option<u32>,
}

pub(super) async fn history(
    State(app): State<App>,
    address: Address,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
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
    Ok(Json(json!({ "versions": versions, "next_before": next })))
}

#[derive(Deserialize)]
pub(super) struct Restore {
    version: i64,
}

/// Stores an earlier version again, as a new one.
pub(super) async fn restore(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let id = parse(address)?;
    let Restore { version } = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("{error}; send {{\"version\": N}}"),
        )
    })?;
    let past = app
        .store
        .history(&id, version.saturating_add(1), 1)
        .await?
        .into_iter()
        .next();
    let value = match past {
        Some(PastConfig {
            version: found,
            config_value: Some(value),
            ..
        }) if found == version => value,
        _ => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no version {version} to restore; GET the history for those there are"
                ),
            ));
        }
    };
    let config = app.store.check(&id.config_key, &Value::Object(value))?;
    let changed = app
        .store
        .change(&id, expected(&headers)?, &caller.0, |_| Ok(Some(config)))
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
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON: {error}"),
        )
    })?;
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
