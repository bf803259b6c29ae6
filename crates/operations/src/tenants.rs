//! What was run for a tenant.

use axum::{
    Json,
    extract::{Path, State},
};
use punctual_application::ports::TenantRuns;
use punctual_domain::{ItemId, JobId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Listed, PageQuery,
    model::Runs,
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
    let filter = TenantRuns { item_id, job_id };
    let (runs, next_cursor) = app.operator.reader.tenant_runs(&filter, &page).await?;
    Ok(Json(Runs { runs, next_cursor }))
}
