//! Why a tenant ran, will run, or did not.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use chrono::NaiveDate;
use punctual_application::Explanation;
use punctual_domain::{JobId, TenantId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainQuery {
    /// Job id.
    #[param(value_type = String)]
    job_id: JobId,
    /// Date in the tenant's time zone (default: today).
    date: Option<NaiveDate>,
}

/// Why a tenant ran, will run, or did not, on a date; today without one.
#[utoipa::path(get, operation_id = "explain_tenant", path = "/tenants/{tenant_id}/explain", params(("tenant_id" = String, Path, description = "The tenant"), ExplainQuery), responses(
    (status = 200, body = Explanation, description = "The verdict, its facts, and an explanation in words"),
    AnyProblem
))]
pub(super) async fn tenant(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Query(ExplainQuery { job_id, date }) = query?;
    let tenant_id = TenantId::new(&tenant_id)?;
    let explained = app.operator.explain(&tenant_id, &job_id, date);
    Ok(Json(explained.await?))
}
