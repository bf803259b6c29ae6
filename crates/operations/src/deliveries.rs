//! Where results go, and what of it failed.

use axum::{Json, body::Bytes, extract::State};
use punctual_application::{DeliverAgainReport, DeliverySelection, ports::DeliveryFilter};
use punctual_domain::JobId;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    App, Listed, PageQuery,
    audit::RequestActor,
    idempotency::IdempotencyHeader,
    model::Deliveries,
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only results of this job.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// Only results of this batch.
    batch_id: Option<Uuid>,
    /// Only deliveries that fail, as the findings report them: those that have failed at least twice in a row, and those that were
    /// given up, of batches of the last seven days (default: `false`).
    #[serde(default)]
    failed: bool,
}

/// Deliveries of the results of batches that are over, newest first.
#[utoipa::path(get, operation_id = "deliveries", path = "/deliveries", params(ListQuery, PageQuery), responses(
    (status = 200, body = Deliveries, description = "The deliveries"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(query, page): Listed<ListQuery>,
) -> Result<Json<Deliveries>, Problem> {
    let wanted = if query.failed {
        DeliveryFilter::failing(app.operator.clock.now())
    } else {
        DeliveryFilter::default()
    };
    let filter = DeliveryFilter {
        job_id: query.job_id,
        batch_ids: query.batch_id.map(|id| [id].into()),
        ..wanted
    };
    let found = app.operator.operations.deliveries(&filter, &page).await?;
    let (deliveries, next_cursor) = found;
    Ok(Json(Deliveries {
        deliveries: deliveries.into_iter().map(Into::into).collect(),
        next_cursor,
    }))
}

/// Makes deliveries that failed or were given up due now, with a new period of retries.
///
/// They go on where they failed. Where the job no longer delivers to that place, and to exactly one other place of the same kind to
/// which the batch does not go already, all results of the batch go there instead. Of a job or of all, those that were given up are
/// of batches of the last seven days. With `count`, nothing is changed unless so many are selected.
#[utoipa::path(post, operation_id = "deliver_again", path = "/deliveries/deliver-again", params(("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours gets the same answer")), request_body(content = DeliverySelection, description = "`{\"id\": 1}`, `{\"batch_id\": UUID}`, `{\"job_id\": JOB}`, or `{\"all\": true}`"), responses(
    (status = 200, body = DeliverAgainReport, description = "The number of deliveries that are due"),
    AnyProblem
))]
pub(super) async fn deliver_again(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    body: Bytes,
) -> Result<Json<DeliverAgainReport>, Problem> {
    let selection: DeliverySelection = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"id\": 1}}, {{\"batch_id\": \"UUID\"}}, \
             {{\"job_id\": \"JOB\"}}, or {{\"all\": true}}"
        ))
    })?;
    let due = app.operator.deliver_again(&actor, key.as_ref(), &selection);
    Ok(Json(due.await?))
}
