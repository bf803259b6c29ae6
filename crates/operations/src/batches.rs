//! Batches and their results.

use axum::{
    Json,
    extract::{Path, State},
};
use punctual_application::ports::BatchFilter;
use punctual_domain::{BatchStatus, ItemStatus, JobId};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    App, Listed, PageQuery,
    audit::RequestActor,
    model::{Batch, Batches, CancelledBatch, Results},
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this job.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// `queued`, `running`, `completed` or `cancelled` only.
    #[param(value_type = Option<String>)]
    status: Option<BatchStatus>,
}

/// Batches, newest first.
#[utoipa::path(get, operation_id = "batches", path = "/batches", params(ListQuery, PageQuery), responses(
    (status = 200, body = Batches, description = "The batches"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(ListQuery { job_id, status }, page): Listed<ListQuery>,
) -> Result<Json<Batches>, Problem> {
    let filter = BatchFilter { job_id, status };
    let (batches, next_cursor) = app.operator.reader.batches(&filter, &page).await?;
    Ok(Json(Batches {
        batches: batches.iter().map(Batch::from).collect(),
        next_cursor,
    }))
}

/// One batch.
#[utoipa::path(get, operation_id = "batch", path = "/batches/{batch_id}", params(("batch_id" = String, Path, description = "The batch")), responses(
    (status = 200, body = Batch, description = "The batch"),
    AnyProblem
))]
pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Batch>, Problem> {
    let batch = app.operator.batch(parse_id(&id)?).await?;
    Ok(Json(Batch::from(&batch)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultsQuery {
    /// `running`, `waiting`, `succeeded`, `failed`, `nothing_to_do` or `skipped` only.
    #[param(value_type = Option<String>)]
    status: Option<ItemStatus>,
}

/// A batch's results, chunk by chunk, by tenant.
#[utoipa::path(get, operation_id = "batch_results", path = "/batches/{batch_id}/results", params(("batch_id" = String, Path, description = "The batch"), ResultsQuery, PageQuery), responses(
    (status = 200, body = Results, description = "The results"),
    AnyProblem
))]
pub(super) async fn results(
    State(app): State<App>,
    Path(id): Path<String>,
    Listed(ResultsQuery { status }, page): Listed<ResultsQuery>,
) -> Result<Json<Results>, Problem> {
    let batch_id = parse_id(&id)?;
    let (results, next_cursor) = app.operator.results(batch_id, status, &page).await?;
    Ok(Json(Results {
        batch_id,
        results,
        next_cursor,
    }))
}

/// Cancels a batch: items that have not begun are skipped.
#[utoipa::path(post, operation_id = "cancel_batch", path = "/batches/{batch_id}/cancel", params(("batch_id" = String, Path, description = "The batch")), responses(
    (status = 200, body = CancelledBatch, description = "The batch is cancelled"),
    AnyProblem
))]
pub(super) async fn cancel(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(id): Path<String>,
) -> Result<Json<CancelledBatch>, Problem> {
    let batch_id = parse_id(&id)?;
    app.operator.cancel(&actor, batch_id).await?;
    Ok(Json(CancelledBatch {
        batch_id,
        status: BatchStatus::Cancelled,
    }))
}

fn parse_id(id: &str) -> Result<Uuid, Problem> {
    id.parse()
        .map_err(|_| Problem::bad_request("a batch_id is a UUID; GET /api/v1/batches lists them"))
}
