//! Batches and their results.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use punctual_application::ports::{BatchFilter, Page, ResultFilter, StoredResult};
use punctual_domain::{Batch, BatchStatus, ItemStatus, JobId};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    App, PageQuery,
    audit::By,
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this job only.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// `queued`, `running`, `completed` or `cancelled` only.
    #[param(value_type = Option<String>)]
    status: Option<BatchStatus>,
    /// Where the next page begins, as the last one said.
    cursor: Option<String>,
    /// How many at most, 1 to 1000; 100 unless told.
    limit: Option<u32>,
}

/// Batches, newest first.
#[utoipa::path(get, operation_id = "batches", path = "/batches", params(ListQuery), responses(
    (status = 200, body = Object, description = "`batches`, and the `next_cursor`"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ListQuery {
        job_id,
        status,
        cursor,
        limit,
    }) = query?;
    let page = Page::from(PageQuery { cursor, limit });
    let (batches, next_cursor) = app
        .operator
        .reader
        .batches(&BatchFilter { job_id, status }, &page)
        .await?;
    let batches: Vec<Value> = batches.iter().map(batch_json).collect();
    Ok(Json(
        json!({ "batches": batches, "next_cursor": next_cursor }),
    ))
}

/// One batch.
#[utoipa::path(get, operation_id = "batch", path = "/batches/{batch_id}", params(("batch_id" = String, Path, description = "The batch")), responses(
    (status = 200, body = Object, description = "The batch, with its `progress`"),
    AnyProblem
))]
pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let batch = app.operator.batch(parse_id(&id)?).await?;
    Ok(Json(batch_json(&batch)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultsQuery {
    /// `running`, `succeeded`, `failed` or `skipped` only.
    #[param(value_type = Option<String>)]
    status: Option<ItemStatus>,
    /// Where the next page begins, as the last one said.
    cursor: Option<String>,
    /// How many at most, 1 to 1000; 100 unless told.
    limit: Option<u32>,
}

/// A batch's results, chunk by chunk, by tenant.
#[utoipa::path(get, operation_id = "batch_results", path = "/batches/{batch_id}/results", params(("batch_id" = String, Path, description = "The batch"), ResultsQuery), responses(
    (status = 200, body = Object, description = "`results`, and the `next_cursor`"),
    AnyProblem
))]
pub(super) async fn results(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Result<Query<ResultsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ResultsQuery {
        status,
        cursor,
        limit,
    }) = query?;
    let batch_id = app.operator.batch(parse_id(&id)?).await?.batch_id;
    let page = Page::from(PageQuery { cursor, limit });
    let (results, next_cursor) = app
        .operator
        .reader
        .results(&ResultFilter { batch_id, status }, &page)
        .await?;
    let results: Vec<Value> = results.iter().map(StoredResult::to_json).collect();
    Ok(Json(
        json!({ "batch_id": batch_id, "results": results, "next_cursor": next_cursor }),
    ))
}

/// Cancels a batch: items that have not begun are skipped.
#[utoipa::path(post, operation_id = "cancel_batch", path = "/batches/{batch_id}/cancel", params(("batch_id" = String, Path, description = "The batch")), responses(
    (status = 200, body = Object, description = "Its `status` now"),
    AnyProblem
))]
pub(super) async fn cancel(
    State(app): State<App>,
    By(actor): By,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let batch_id = parse_id(&id)?;
    app.operator.cancel(&actor, batch_id).await?;
    Ok(Json(json!({ "batch_id": batch_id, "status": "cancelled" })))
}

pub(super) fn parse_id(id: &str) -> Result<Uuid, Problem> {
    id.parse()
        .map_err(|_| Problem::bad_request("a batch_id is a UUID; GET /api/v1/batches lists them"))
}

pub(super) fn batch_json(batch: &Batch) -> Value {
    let (total, processed) = (batch.total, batch.processed());
    let permille = (processed * 1000).checked_div(total).unwrap_or(1000);
    let percentage = permille as f64 / 10.0;
    json!({
        "batch_id": batch.batch_id, "job_id": batch.job_id, "slot": batch.slot,
        "scheduled_at": batch.scheduled_at, "trigger": batch.trigger, "status": batch.status,
        "progress": {
            "total": total, "processed": processed, "succeeded": batch.succeeded, "failed": batch.failed,
            "skipped": batch.skipped, "percentage": percentage,
        },
        "created_at": batch.created_at, "finished_at": batch.finished_at,
    })
}
