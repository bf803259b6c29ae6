//! What was run for a tenant, and what is held of one: given out, or erased.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use punctual_application::ports::{ErasedRecords, TenantExport, TenantRuns};
use punctual_domain::{FeatureType, ItemId, JobId, TenantId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Listed, PageQuery,
    audit::RequestActor,
    model::{PastRuns, Runs},
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// Only this job.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
}

/// A tenant's runs, newest first, those that are running now included.
#[utoipa::path(get, operation_id = "tenant_runs", path = "/tenants/{tenant_id}/runs", params(("tenant_id" = String, Path, description = "The tenant"), RunsQuery, PageQuery), responses(
    (status = 200, body = Runs, description = "The runs"),
    AnyProblem
))]
pub(super) async fn runs(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
    Listed(RunsQuery { job_id }, page): Listed<RunsQuery>,
) -> Result<Json<Runs>, Problem> {
    let item_id = ItemId::new(&tenant_id)?;
    let filter = TenantRuns {
        item_id,
        job_id,
        since: None,
    };
    let (runs, next_cursor) = app.operator.reader.tenant_runs(&filter, &page).await?;
    Ok(Json(Runs { runs, next_cursor }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PastRunsQuery {
    /// Number of runs, 1 to 100 (default: 10); another value counts as the nearest of these.
    limit: Option<u32>,
}

/// How the newest runs of a tenant for a feature have ended, without what they made and why they failed: for a page of the
/// tenant's own.
#[utoipa::path(get, operation_id = "past_runs", path = "/tenants/{tenant_id}/features/{feature_type}/runs", params(("tenant_id" = String, Path, description = "The tenant"), ("feature_type" = String, Path, description = "The feature"), PastRunsQuery), responses(
    (status = 200, body = PastRuns, description = "The runs"),
    AnyProblem
))]
pub(super) async fn past_runs(
    State(app): State<App>,
    Path((tenant_id, feature_type)): Path<(String, String)>,
    query: Result<Query<PastRunsQuery>, QueryRejection>,
) -> Result<Json<PastRuns>, Problem> {
    let Query(PastRunsQuery { limit }) = query?;
    let tenant_id = TenantId::new(&tenant_id)?;
    let feature_type = FeatureType::new(&feature_type)?;
    let limit = limit.unwrap_or(10);
    let runs = app.operator.past_runs(&tenant_id, &feature_type, limit);
    let runs = runs.await?;
    Ok(Json(PastRuns {
        tenant_id,
        feature_type,
        runs,
    }))
}

/// Erases everything that the agent and its store hold of a tenant: runs and what they brought, dead letters, what is queued, runs or
/// waits, and the last known preferences. It cannot be undone.
///
/// Keyed hashes stay, by which none of the runs until now runs again. The Config Database holds the preferences: erase the tenant there
/// first, or they are read again. It may be repeated, also after it was interrupted.
#[utoipa::path(delete, operation_id = "erase_tenant", path = "/tenants/{tenant_id}", params(("tenant_id" = String, Path, description = "The tenant")), responses(
    (status = 200, body = ErasedRecords, description = "The numbers of what was erased"),
    AnyProblem
))]
pub(super) async fn erase(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(tenant_id): Path<String>,
) -> Result<Json<ErasedRecords>, Problem> {
    let tenant_id = TenantId::new(&tenant_id)?;
    let erased = app.operator.erase_tenant(&actor, &tenant_id);
    Ok(Json(erased.await?))
}

/// Everything that the store holds of a tenant, by kind: `runs`, `dead_letters`, `waiting`, `kept_outputs`, `prepared_outputs` and
/// `audit_log`.
#[utoipa::path(get, operation_id = "export_tenant", path = "/tenants/{tenant_id}/export", params(("tenant_id" = String, Path, description = "The tenant")), responses(
    (status = 200, body = TenantExport, description = "A list for each kind, empty where nothing is held"),
    AnyProblem
))]
pub(super) async fn export(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(tenant_id): Path<String>,
) -> Result<Json<TenantExport>, Problem> {
    let tenant_id = TenantId::new(&tenant_id)?;
    Ok(Json(app.operator.export_tenant(&actor, &tenant_id).await?))
}
