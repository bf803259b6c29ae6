//! Deliveries that fail.

use axum::{Json, extract::State};

use super::{
    App,
    model::Deliveries,
    problem::{AnyProblem, Problem},
};

/// Deliveries that have failed more than once in a row, and those of the last seven days that were given up, by job.
#[utoipa::path(get, operation_id = "deliveries", path = "/deliveries", responses(
    (status = 200, body = Deliveries, description = "The deliveries that fail; an empty list: none does"),
    AnyProblem
))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Deliveries>, Problem> {
    let now = app.operator.clock.now();
    Ok(Json(Deliveries {
        deliveries: app.operator.failing_deliveries(now).await?,
    }))
}
