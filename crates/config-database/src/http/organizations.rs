//! Organizations: who belongs to one, and the preferences that it has for its members, with their history. As with a tenant's
//! configuration, a version is the `ETag`.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use punctual_domain::{OrganizationId, TenantId};
use punctual_web::{Problem, ProblemBody};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    auth::Caller,
    conditions::expected,
    configs::{
        Address, ConfigBody, History, HistoryQuery, Restore, answer, bring_back, config_value,
        replace, versions,
    },
    problem::{AnyProblem, JsonBody},
};
use crate::{
    store::{AnyConfig, AnyConfigId, Organization, OrganizationConfig},
    validate::FEATURE_PREFERENCES,
};

/// Members of a page at most.
const MAX_MEMBERS_PER_PAGE: u32 = 1_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MembersQuery {
    /// The `next_after` of the previous page.
    #[param(nullable = false)]
    after: Option<String>,
    /// Members per page, at most 1,000 (default: 100).
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
}

/// An organization: how many members it has, a page of them, and the features of which it has preferences.
///
/// A tenant belongs to the organization that the tenant's configuration `profile` names as `organization_id`. An organization that
/// nothing names has no members.
#[utoipa::path(get, operation_id = "organization", path = "/organizations/{organization_id}", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), MembersQuery), responses(
    (status = 200, body = Organization, description = "The organization"),
    AnyProblem,
))]
pub(super) async fn organization(
    State(app): State<App>,
    Path(organization): Path<String>,
    query: Result<Query<MembersQuery>, QueryRejection>,
) -> Result<Json<Organization>, Problem> {
    let organization = OrganizationId::new(&organization)?;
    let Query(MembersQuery { after, limit }) = query?;
    let after = after.map(TenantId::new).transpose()?;
    let after = after.as_ref().map_or("", TenantId::as_str);
    let limit = limit.unwrap_or(100).clamp(1, MAX_MEMBERS_PER_PAGE);
    let found = app.store.organization(&organization, after, limit).await?;
    Ok(Json(found))
}

/// The preferences that an organization has for its members.
#[utoipa::path(get, operation_id = "organization_config", path = "/organizations/{organization_id}/configs/{config_key}", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, description = "Always `feature_preferences`"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "ETags of the version that the caller knows")), responses(
    (status = 200, body = OrganizationConfig, description = "The configuration"),
    (status = 304, description = "The caller knows the current version"),
    (status = 404, description = "The configuration does not exist", body = ProblemBody, content_type = "application/problem+json"),
    (status = 412, description = "A condition on the ETag does not hold", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn read(
    State(app): State<App>,
    address: Address,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let config = app.store.config(&parse(address)?).await?;
    answer(config, &caller, expected, OrganizationConfig::version)
}

/// Stores an organization's preferences, replacing the current ones. In effect at once for all members, below what each has stored.
///
/// A preference of an organization may leave out what members say for themselves, such as `frequency`.
#[utoipa::path(put, operation_id = "store_organization_config", path = "/organizations/{organization_id}/configs/{config_key}", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, description = "Always `feature_preferences`"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), request_body = ConfigBody, responses(
    (status = 200, body = OrganizationConfig, description = "The configuration as it is stored now"),
    (status = 404, description = "Organizations have no configuration of this key", body = ProblemBody, content_type = "application/problem+json"),
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
    let organization = parse(address)?;
    let expected = expected(&headers)?;
    replace(
        &app,
        &organization,
        &expected,
        &caller,
        config_value(&body)?,
    )
    .await
}

/// Removes an organization's preferences. Members keep what they have stored themselves.
#[utoipa::path(delete, operation_id = "remove_organization_config", path = "/organizations/{organization_id}/configs/{config_key}", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, description = "Always `feature_preferences`"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), responses(
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
    let organization = parse(address)?;
    let expected = expected(&headers)?;
    organization
        .change(&app.store, &expected, &caller.name, None)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Versions of an organization's preferences, with the author and time of each change.
#[utoipa::path(get, operation_id = "organization_config_history", path = "/organizations/{organization_id}/configs/{config_key}/history", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, description = "Always `feature_preferences`"), HistoryQuery), responses(
    (status = 200, body = History, description = "The versions"),
    (status = 404, description = "Organizations have no configuration of this key", body = ProblemBody, content_type = "application/problem+json"),
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

/// Stores an earlier version again, as a new one.
#[utoipa::path(post, operation_id = "restore_organization_config", path = "/organizations/{organization_id}/configs/{config_key}/restore", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("config_key" = String, Path, description = "Always `feature_preferences`"), ("If-Match" = Option<String>, Header, description = "Proceed only if the configuration has one of these ETags, or exists (`*`)"), ("If-None-Match" = Option<String>, Header, description = "Proceed only if the configuration has none of these ETags, or does not exist (`*`)")), request_body = Restore, responses(
    (status = 200, body = OrganizationConfig, description = "The configuration as it is stored now"),
    (status = 404, description = "The version does not exist or is a removal", body = ProblemBody, content_type = "application/problem+json"),
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
    let organization = parse(address)?;
    let expected = expected(&headers)?;
    bring_back(&app, &organization, &expected, &caller, version).await
}

fn parse(Path((organization, config_key)): Address) -> Result<OrganizationId, Problem> {
    if config_key == FEATURE_PREFERENCES {
        return Ok(OrganizationId::new(&organization)?);
    }
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        format!("an organization has no configuration of this key; use {FEATURE_PREFERENCES}"),
    ))
}
