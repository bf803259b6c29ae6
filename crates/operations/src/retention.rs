//! How long what has run is kept, and what would be removed now.

use axum::{Json, extract::State};
use punctual_application::RetentionReport;

use super::{
    App,
    problem::{AnyProblem, Problem},
};

/// How long what has run is kept, and what would be removed now.
///
/// Numbers of results are those that batches have counted; sizes are estimated.
#[utoipa::path(get, operation_id = "retention", path = "/retention", responses(
    (status = 200, body = RetentionReport, description = "How long what has run is kept, by job, and what would be removed now"),
    AnyProblem
))]
pub(super) async fn report(State(app): State<App>) -> Result<Json<RetentionReport>, Problem> {
    Ok(Json(app.operator.retention().await?))
}
