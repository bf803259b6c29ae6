//! Everything that is held of one tenant, for administrators: erased, given out, and the list of erasures.

use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use punctual_domain::TenantId;
use punctual_web::Problem;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{App, auth::Caller, problem::AnyProblem};
use crate::store::{Erased, Erasure, Reason, TenantExport};

const MAX_ERASURES: u32 = 1_000;
const DEFAULT_ERASURES: u32 = 100;

/// Erases everything that is held of a tenant: configurations with their histories, preferences, changes, and API keys for the tenant
/// with their sessions. Agents that follow the feed erase what they hold. The call may be repeated.
#[utoipa::path(delete, operation_id = "erase_tenant", path = "/tenants/{tenant_id}", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("Punctual-Reason" = String, Header, min_length = 1, max_length = 500, description = "Why, at most 500 characters; the list of erasures keeps it. It should not name the tenant")), responses(
    (status = 200, body = Erased, description = "What was erased"),
    AnyProblem,
))]
pub(super) async fn erase(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
    headers: HeaderMap,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Erased>, Problem> {
    let tenant_id = TenantId::new(&tenant_id)?;
    let reason = punctual_web::reason::of(&headers)?.ok_or_else(|| {
        Problem::bad_request(
            "the reason is missing; send the header Punctual-Reason, such as `request of the person`",
        )
    })?;
    let reason = reason_of(reason)?;
    let erased = app.store.erase(&tenant_id, &caller.name, &reason).await?;
    Ok(Json(erased))
}

/// The reason that is given for an erasure.
fn reason_of(given: &str) -> Result<Reason, Problem> {
    let reason = given.parse::<Reason>();
    reason.map_err(|invalid| Problem::bad_request(invalid.to_string()))
}

/// A copy of everything that is held of a tenant. Secrets of API keys and links are held as hashes alone and are not in it.
#[utoipa::path(get, operation_id = "export_tenant", path = "/tenants/{tenant_id}/export", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), responses(
    (status = 200, body = TenantExport, description = "A list for each kind of record; empty where nothing is held"),
    AnyProblem,
))]
pub(super) async fn export(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
) -> Result<Response, Problem> {
    let tenant_id = TenantId::new(&tenant_id)?;
    let export = app.store.export_tenant(&tenant_id).await?;
    let attachment = "attachment; filename=\"tenant.json\"";
    Ok(([(header::CONTENT_DISPOSITION, attachment)], Json(export)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ErasuresQuery {
    /// Only erasures before this time: the `next_before` of the previous page.
    #[param(nullable = false)]
    before: Option<DateTime<Utc>>,
    /// Page size, at most 1,000 (default: 100).
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
}

/// Erasures, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Erasures {
    /// The erasures.
    erasures: Vec<Erasure>,
    /// Pass it as `before` to get older ones; `null`: there are none.
    next_before: Option<DateTime<Utc>>,
}

/// Erasures of tenants, with the time, the key that asked for each, and its reason. A tenant is named by the first 16 characters of the
/// BLAKE3 hash of its id.
#[utoipa::path(get, operation_id = "erasures", path = "/erasures", params(ErasuresQuery), responses(
    (status = 200, body = Erasures, description = "The erasures"),
    AnyProblem,
))]
pub(super) async fn erasures(
    State(app): State<App>,
    query: Result<Query<ErasuresQuery>, QueryRejection>,
) -> Result<Json<Erasures>, Problem> {
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(DEFAULT_ERASURES);
    let limit = limit.clamp(1, MAX_ERASURES);
    let (erasures, more) = app.store.erasures(query.before, limit).await?;
    let last = erasures.last().filter(|_| more);
    Ok(Json(Erasures {
        next_before: last.map(|last| last.erased_at),
        erasures,
    }))
}
