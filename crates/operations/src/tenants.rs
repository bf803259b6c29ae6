//! What was run for a tenant.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use punctual_application::ports::{Page, TenantRuns};
use punctual_domain::{ItemId, JobId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, PageQuery,
    model::Runs,
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// Only this job.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// Cursor that the previous page returned.
    cursor: Option<String>,
    /// Page size, 1 to 1000 (default: 100).
    limit: Option<u32>,
}

/// A tenant's runs, newest first, those that are running now included.
#[utoipa::path(get, operation_id = "tenant_runs", path = "/tenants/{tenant_id}/runs", params(("tenant_id" = String, Path, description = "The tenant"), RunsQuery), responses(
    (status = 200, body = Runs, description = "The runs"),
    AnyProblem
))]
pub(super) async fn runs(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<Runs>, Problem> {
    let Query(RunsQuery {
        job_id,
        cursor,
        limit,
    }) = query?;
    let item_id = ItemId::new(&tenant_id)?;
    let page = Page::from(PageQuery { cursor, limit });
    let (runs, next_cursor) = app
        .operator
        .reader
        .tenant_runs(&TenantRuns { item_id, job_id }, &page)
        .await?;
    Ok(Json(Runs { runs, next_cursor }))
}
