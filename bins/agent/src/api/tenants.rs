//! What was run for a tenant.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use punctual_application::ports::{Page, StoredResult, TenantRuns};
use punctual_domain::{JobId, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, PageQuery, problem::Problem};

#[derive(Deserialize)]
pub(super) struct RunsQuery {
    job_id: Option<JobId>,
    cursor: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn runs(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(RunsQuery {
        job_id,
        cursor,
        limit,
    }) = query?;
    let tenant_id =
        TenantId::new(&tenant_id).map_err(|error| Problem::bad_request(error.to_string()))?;
    let page = Page::from(PageQuery { cursor, limit });
    let (runs, next_cursor) = app
        .reader
        .tenant_runs(&TenantRuns { tenant_id, job_id }, &page)
        .await?;
    let runs: Vec<Value> = runs.iter().map(StoredResult::to_json).collect();
    Ok(Json(json!({ "runs": runs, "next_cursor": next_cursor })))
}
