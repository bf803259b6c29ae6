//! Items that failed for good: list them, run them again, discard them, or open again what was discarded.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use punctual_application::{
    DeadLetterSelection, DiscardReport, ReopenReport, ReplayReport, ports::DeadLetterFilter,
};
use punctual_domain::{DeadLetterState, FailureKind, ItemId, JobId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Listed, PageQuery,
    audit::RequestActor,
    idempotency::IdempotencyHeader,
    model::DeadLetters,
    problem::{AnyProblem, Problem},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this job.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// Only this tenant.
    #[param(value_type = Option<String>)]
    tenant_id: Option<ItemId>,
    /// `open`, `replayed` or `discarded` only.
    #[param(value_type = Option<String>)]
    state: Option<DeadLetterState>,
    /// `handler` or `data` only: failures of this kind.
    #[param(value_type = Option<String>)]
    failure_kind: Option<FailureKind>,
}

/// Items that failed for good (dead letters), newest first.
#[utoipa::path(get, operation_id = "dead_letters", path = "/dead-letters", params(ListQuery, PageQuery), responses(
    (status = 200, body = DeadLetters, description = "The dead letters"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(query, page): Listed<ListQuery>,
) -> Result<Json<DeadLetters>, Problem> {
    let filter = DeadLetterFilter {
        job_id: query.job_id,
        item_id: query.tenant_id,
        state: query.state,
        failure_kind: query.failure_kind,
        ..DeadLetterFilter::default()
    };
    let (dead_letters, next_cursor) = app.operator.reader.dead_letters(&filter, &page).await?;
    Ok(Json(DeadLetters {
        dead_letters,
        next_cursor,
    }))
}

/// Runs open dead letters again, as the same occurrences and with the same idempotency keys.
///
/// One that is named and whose job or purpose is gone is refused, and nothing is changed. Of all that are open, such are
/// left out, and counted with the reason.
#[utoipa::path(post, operation_id = "replay_dead_letters", path = "/dead-letters/replay", params(("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours replays nothing twice")), request_body(content = DeadLetterSelection, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, or `{\"all\": true}` for all that are open"), responses(
    (status = 200, body = ReplayReport, description = "The replayed dead letters"),
    AnyProblem
))]
pub(super) async fn replay_many(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    body: Bytes,
) -> Result<Json<ReplayReport>, Problem> {
    let selection = selection(&body)?;
    let done = app.operator.replay(&actor, key.as_ref(), &selection);
    Ok(Json(done.await?))
}

/// Discards open dead letters. They can be reopened for 30 days; after that, later discards remove them.
#[utoipa::path(post, operation_id = "discard_dead_letters", path = "/dead-letters/discard", params(("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours discards nothing more")), request_body(content = DeadLetterSelection, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, or `{\"all\": true}` for all that are open"), responses(
    (status = 200, body = DiscardReport, description = "The discarded dead letters"),
    AnyProblem
))]
pub(super) async fn discard_many(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    body: Bytes,
) -> Result<Json<DiscardReport>, Problem> {
    let selection = selection(&body)?;
    let done = app.operator.discard(&actor, key.as_ref(), &selection);
    Ok(Json(done.await?))
}

/// Opens dead letters again that were discarded in the last 30 days. The `discarded_at` of one discard selects what it has
/// settled.
#[utoipa::path(post, operation_id = "reopen_dead_letters", path = "/dead-letters/reopen", params(("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours opens nothing more")), request_body(content = DeadLetterSelection, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, `{\"discarded_at\": INSTANT}`, or `{\"all\": true}` for all that were discarded"), responses(
    (status = 200, body = ReopenReport, description = "The number of dead letters that are open again"),
    AnyProblem
))]
pub(super) async fn reopen_many(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    body: Bytes,
) -> Result<Json<ReopenReport>, Problem> {
    let selection = selection(&body)?;
    let done = app.operator.reopen(&actor, key.as_ref(), &selection);
    Ok(Json(done.await?))
}

/// Runs an open dead letter again.
#[utoipa::path(post, operation_id = "replay_dead_letter", path = "/dead-letters/{id}/replay", params(("id" = i64, Path, description = "Id of the dead letter"), ("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours replays nothing twice")), responses(
    (status = 200, body = ReplayReport, description = "The dead letter is replayed"),
    AnyProblem
))]
pub(super) async fn replay_one(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    Path(id): Path<String>,
) -> Result<Json<ReplayReport>, Problem> {
    let selection = one(&id)?;
    let done = app.operator.replay(&actor, key.as_ref(), &selection);
    Ok(Json(done.await?))
}

/// Discards an open dead letter.
#[utoipa::path(post, operation_id = "discard_dead_letter", path = "/dead-letters/{id}/discard", params(("id" = i64, Path, description = "Id of the dead letter"), ("Idempotency-Key" = Option<String>, Header, description = "Repeating the call with this key within 24 hours gets the same answer")), responses(
    (status = 200, body = DiscardReport, description = "The dead letter is discarded"),
    AnyProblem
))]
pub(super) async fn discard_one(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    IdempotencyHeader(key): IdempotencyHeader,
    Path(id): Path<String>,
) -> Result<Json<DiscardReport>, Problem> {
    let selection = one(&id)?;
    let done = app.operator.discard(&actor, key.as_ref(), &selection);
    Ok(Json(done.await?))
}

fn one(id: &str) -> Result<DeadLetterSelection, Problem> {
    let id = id.parse().map_err(|_| {
        Problem::bad_request(
            "a dead letter's id is a whole number; GET /api/v1/dead-letters lists them",
        )
    })?;
    Ok(DeadLetterSelection::one(id))
}

fn selection(body: &[u8]) -> Result<DeadLetterSelection, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"ids\": [1, 2]}}, {{\"job_id\": \"JOB\"}}, \
             {{\"tenant_id\": \"ID\"}}, or {{\"all\": true}} for all that are open"
        ))
    })
}
