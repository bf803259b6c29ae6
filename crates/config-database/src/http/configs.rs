//! One tenant's configuration: read, stored, patched, removed, its history and restoring from it. A version is
//! the `ETag`: `If-None-Match` saves reading what is known, `If-Match` saves overwriting what is not.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use punctual_domain::{FeatureType, FieldErrors, Invalid, TenantId, visible};
use punctual_web::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Caller,
    conditions::{etag, expected, fingerprint},
    problem::{self, AnyProblem, JsonBody},
};
use crate::{
    store::{AnyConfig, AnyConfigId, ChangeError, ConfigId, Expected, PastConfig, StoredConfig},
    validate::FEATURE_PREFERENCES,
};

pub(super) type Address = Path<(String, String)>;

/// Body of a call that stores or patches a configuration.
#[derive(Deserialize, ToSchema)]
pub(super) struct ConfigBody {
    /// For `feature_preferences`: preferences by feature. For `profile`: `locale` is the language of the tenant's pages, and
    /// `organization_id` the organization that the tenant belongs to, which a key for one tenant cannot change. Fields that this
    /// version does not know are kept.
    #[schema(value_type = Object)]
    #[allow(
        dead_code,
        reason = "parsed from the raw body, so that every mistake is reported"
    )]
    config_value: Value,
}

/// The versions of a configuration, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    /// The versions.
    versions: Vec<PastConfig>,
    /// Pass it as `before` to get older versions; `null`: there are none.
    next_before: Option<i64>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ConfigQuery {
    /// Whether `feature_preferences` are those in effect: each over that of the tenant's organization, also where the tenant has stored
    /// none. `organization` says what came from there, and the `ETag` is of the answer (default: false).
    #[serde(default)]
    effective: bool,
}

/// A tenant's configuration.
#[utoipa::path(get, operation_id = "config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ConfigQuery, ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "ETags of the version that the caller knows")), responses(
    (status = 200, body = StoredConfig, description = "The configuration"),
    (status = 304, description = "The caller knows the current version"),
    (status = 404, description = "The configuration does not exist", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "A condition on the ETag does not hold", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn read(
    State(app): State<App>,
    address: Address,
    query: Result<Query<ConfigQuery>, QueryRejection>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let id = parse(address)?;
    let Query(ConfigQuery { effective }) = query?;
    let effective = effective && id.config_key == FEATURE_PREFERENCES;
    let config = if effective {
        app.store.effective_preferences(&id.tenant_id).await?
    } else {
        app.store.config(&id).await?
    };
    let tag: fn(&StoredConfig) -> i64 = if effective {
        fingerprint
    } else {
        StoredConfig::version
    };
    answer(config, &caller, expected, tag)
}

/// Stores a configuration, replacing the current one.
#[utoipa::path(put, operation_id = "store_config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), request_body = ConfigBody, responses(
    (status = 200, body = StoredConfig, description = "The configuration as it is stored now"),
    (status = 412, description = "A condition on the ETag does not hold", body = ProblemBody, content_type = "application/problem+json"),
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
    let expected = expected_by(&caller, &headers)?;
    replace(&app, &id, &expected, &caller, config_value(&body)?).await
}

/// Applies a JSON merge patch (RFC 7396): null removes, objects merge, everything else replaces.
#[utoipa::path(patch, operation_id = "patch_config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), request_body = ConfigBody, responses(
    (status = 200, body = StoredConfig, description = "The configuration as it is stored now"),
    (status = 404, description = "The configuration does not exist", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "A condition on the ETag does not hold", body = ProblemBody, content_type = "application/problem+json"),
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
    may_patch(&caller, &patch)?;
    let patched = |current: Option<&Map<String, Value>>| {
        let stored = match current {
            Some(current) => current.clone(),
            // A link is for tenants who have stored nothing as well, and may not be able to replace everything.
            None if caller.link.is_some() => Map::new(),
            None => return Err(ChangeError::Missing),
        };
        let mut value = Value::Object(stored);
        merge_patch(&mut value, &patch);
        Ok(value)
    };
    let (changed, _) = app
        .store
        .edit(&id, &expected_by(&caller, &headers)?, &caller.name, patched)
        .await?;
    stored(changed, &caller)
}

/// Removes a configuration.
#[utoipa::path(delete, operation_id = "remove_config", path = "/tenants/{tenant_id}/configs/{config_key}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), responses(
    (status = 204, description = "The configuration is removed"),
    (status = 404, description = "The configuration does not exist", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "A condition on the ETag does not hold", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn remove(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let expected = expected_by(&caller, &headers)?;
    let id = parse(address)?;
    id.change(&app.store, &expected, &caller.name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Only versions below this one.
    #[param(nullable = false)]
    before: Option<i64>,
    /// Page size, at most 1,000 (default: 50).
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
}

/// Versions of a configuration, with the author and time of each change.
#[utoipa::path(get, operation_id = "config_history", path = "/tenants/{tenant_id}/configs/{config_key}/history", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), HistoryQuery), responses(
    (status = 200, body = History, description = "The versions"),
    AnyProblem,
))]
pub(super) async fn history(
    State(app): State<App>,
    address: Address,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Problem> {
    let Query(query) = query?;
    versions(&app, &parse(address)?, &query).await
}

/// Body of a call that restores a configuration.
#[derive(Deserialize, ToSchema)]
pub(super) struct Restore {
    /// Version to restore, from the history.
    pub(super) version: i64,
}

/// Stores an earlier version again, as a new one.
#[utoipa::path(post, operation_id = "restore_config", path = "/tenants/{tenant_id}/configs/{config_key}/restore", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), request_body = Restore, responses(
    (status = 200, body = StoredConfig, description = "The configuration as it is stored now"),
    (status = 404, description = "The configuration does not exist", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "A condition on the ETag does not hold", body = ProblemBody, content_type = "application/problem+json"),
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
    let expected = expected_by(&caller, &headers)?;
    bring_back(&app, &id, &expected, &caller, version).await
}

/// The conditions of a write. Who is let in to one tenant alone leaves the tenant's organization as it is.
fn expected_by(caller: &Caller, headers: &HeaderMap) -> Result<Expected, Problem> {
    Ok(Expected {
        same_organization: !caller.reaches_all(),
        ..expected(headers)?
    })
}

/// Refuses a patch of features that the caller's link is not for.
fn may_patch(caller: &Caller, patch: &Value) -> Result<(), Problem> {
    let Some(patch) = patch.as_object() else {
        // What replaces everything is for those who may change everything.
        return match &caller.link {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden(
                "a link changes single features; send an object",
            )),
        };
    };
    match patch.keys().find(|feature| caller.is_kept_from(feature)) {
        None => Ok(()),
        Some(feature) => Err(Problem::forbidden(format!(
            "this link is not for the feature `{}`",
            visible(feature)
        ))),
    }
}

/// The versions that a query asks for.
pub(super) async fn versions(
    app: &App,
    id: &impl AnyConfigId,
    query: &HistoryQuery,
) -> Result<Json<History>, Problem> {
    let before = query.before.unwrap_or(i64::MAX);
    let limit = query.limit.unwrap_or(50).clamp(1, 1_000);
    let (versions, more) = app.store.history(id, before, limit).await?;
    let next_before = versions.last().map(|last| last.version).filter(|_| more);
    Ok(Json(History {
        versions,
        next_before,
    }))
}

/// Stores `value` in place of a configuration, and answers with what is stored then.
pub(super) async fn replace(
    app: &App,
    id: &impl AnyConfigId,
    expected: &Expected,
    caller: &Caller,
    value: Value,
) -> Result<Response, Problem> {
    let config = id.check(&app.store, value, &Map::new()).await?;
    let changed = id.change(&app.store, expected, &caller.name, Some(config));
    stored(changed.await?.0, caller)
}

/// Stores an earlier version, where the history has one, and answers with what is stored then.
pub(super) async fn bring_back(
    app: &App,
    id: &impl AnyConfigId,
    expected: &Expected,
    caller: &Caller,
    version: i64,
) -> Result<Response, Problem> {
    let Some(value) = app.store.past(id, version).await?.flatten() else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "version {version} cannot be restored: it does not exist or is a removal; \
                 GET the history for the versions"
            ),
        ));
    };
    replace(app, id, expected, caller, Value::Object(value)).await
}

/// The answer with a configuration that was changed.
fn stored<C: AnyConfig>(config: Option<C>, caller: &Caller) -> Result<Response, Problem> {
    answer(config, caller, Expected::default(), C::version)
}

/// The answer with a configuration, as far as the caller may see it, where that is what is expected. `version` is what its `ETag`
/// says.
pub(super) fn answer<C: AnyConfig>(
    config: Option<C>,
    caller: &Caller,
    expected: Expected,
    version: impl Fn(&C) -> i64,
) -> Result<Response, Problem> {
    let mut config = config.ok_or(ChangeError::Missing)?;
    config.retain(|feature| !caller.is_kept_from(feature));
    let version = version(&config);
    let (current, etag) = (Some(version), [(header::ETAG, etag(version))]);
    if expected.one_of.is_some_and(|tags| !tags.contain(current)) {
        return Err(ChangeError::Unexpected(current).into());
    }
    if expected.none_of.is_some_and(|tags| tags.contain(current)) {
        return Ok((StatusCode::NOT_MODIFIED, etag).into_response());
    }
    Ok((etag, Json(config)).into_response())
}

/// The `config_value` of a body.
pub(super) fn config_value(body: &[u8]) -> Result<Value, Problem> {
    let mut body: Value = problem::json_of(body)?;
    let value = body
        .as_object_mut()
        .and_then(|body| body.remove("config_value"));
    value.ok_or_else(|| {
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
