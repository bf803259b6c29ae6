//! Items whose work goes on elsewhere: their list for operators, and the addresses at which their workers complete them.
//!
//! Workers have no key: the token in the address is the authentication. It is in no line of the log, no error and no answer.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path, Request, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{StatusCode, request::Parts},
};
use punctual_application::{
    CallFailed, ExtendCall, ExtendedCall, Patience, TakenCompletion, ports::WaitingFilter,
};
use punctual_domain::{ItemId, JobId};
use punctual_web::Peer;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    App, Listed, PageQuery,
    model::WaitingCalls,
    problem::{AnyProblem, Problem},
};

/// Bytes of the body of a completion at most.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Workers that were faster than the store wait for it so long, and so many at one time.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_PATIENT: usize = 100;

pub(super) fn patience() -> Patience {
    Patience::new(PATIENCE, MAX_PATIENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this job.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// Only this batch.
    batch_id: Option<Uuid>,
    /// Only this tenant.
    #[serde(alias = "tenant")]
    #[param(value_type = Option<String>)]
    tenant_id: Option<ItemId>,
}

/// Items that wait because their work goes on elsewhere, those that have waited longest first.
#[utoipa::path(get, operation_id = "waiting", path = "/waiting", params(ListQuery, PageQuery), responses(
    (status = 200, body = WaitingCalls, description = "The items, by call"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(query, page): Listed<ListQuery>,
) -> Result<Json<WaitingCalls>, Problem> {
    let filter = WaitingFilter {
        job_id: query.job_id,
        batch_id: query.batch_id,
        item_id: query.tenant_id,
    };
    let (calls, next_cursor) = app.operator.waiting_calls(&filter, &page).await?;
    Ok(Json(WaitingCalls {
        waiting: calls.into_iter().map(Into::into).collect(),
        next_cursor,
    }))
}

/// Completes an item that waits.
///
/// The body is the output as JSON, or whatever the handler of its purpose reads; an empty body is `null`. The token in the address
/// is the authentication, and holds for one answer.
#[utoipa::path(post, operation_id = "complete_waiting", path = "/api/v1/waiting/{token}/complete", security(()), params(("token" = String, Path, description = "The token of the call, as `Punctual-Completion-Url` has it")), request_body(content = Value, description = "The output, at most 1 MiB"), responses(
    (status = 200, body = TakenCompletion, description = "The completion was taken"),
    AnyProblem
))]
pub(super) async fn complete(
    State(app): State<App>,
    TokenCall(call_id): TokenCall,
    request: Request,
) -> Result<Json<TakenCompletion>, Problem> {
    let body = body_of(request, &app).await?;
    let output = if body.trim_ascii().is_empty() {
        Value::Null
    } else {
        json_of(
            &body,
            "the output as JSON, such as {\"text\": \"Hello\"}, or nothing",
        )?
    };
    let taken = app.operator.complete_call(call_id, output, &app.patience);
    Ok(Json(taken.await?))
}

/// Says that the work of an item that waits has failed.
///
/// The item is called again where its job has a retry left and the failure is not permanent. The token holds for one answer.
#[utoipa::path(post, operation_id = "fail_waiting", path = "/api/v1/waiting/{token}/fail", security(()), params(("token" = String, Path, description = "The token of the call, as `Punctual-Completion-Url` has it")), request_body = CallFailed, responses(
    (status = 200, body = TakenCompletion, description = "The failure was taken"),
    AnyProblem
))]
pub(super) async fn fail(
    State(app): State<App>,
    TokenCall(call_id): TokenCall,
    request: Request,
) -> Result<Json<TakenCompletion>, Problem> {
    let body = body_of(request, &app).await?;
    let failed: CallFailed = json_of(
        &body,
        "{\"message\": \"what happened\"}, with \"kind\": \"permanent\" where no retry helps",
    )?;
    let taken = app.operator.fail_call(call_id, &failed, &app.patience);
    Ok(Json(taken.await?))
}

/// Moves the deadline of an item that waits, or says how far its work has come.
///
/// The deadline is 30 days after the item began to wait at the latest; `limited` says that a later one was asked for. The call may
/// be repeated.
#[utoipa::path(post, operation_id = "extend_waiting", path = "/api/v1/waiting/{token}/extend", security(()), params(("token" = String, Path, description = "The token of the call, as `Punctual-Completion-Url` has it")), request_body = ExtendCall, responses(
    (status = 200, body = ExtendedCall, description = "How the item waits now"),
    AnyProblem
))]
pub(super) async fn extend(
    State(app): State<App>,
    TokenCall(call_id): TokenCall,
    request: Request,
) -> Result<Json<ExtendedCall>, Problem> {
    let body = body_of(request, &app).await?;
    let asked: ExtendCall = json_of(
        &body,
        "{\"seconds\": 3600}, {\"progress\": \"7 of 9\"}, or both",
    )?;
    let extended = app.operator.extend_call(call_id, &asked, &app.patience);
    Ok(Json(extended.await?))
}

/// The call whose token is in the address. Each wrong token gets the same answer.
pub(super) struct TokenCall(Uuid);

impl FromRequestParts<App> for TokenCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        let token = token.map_or_else(|_| String::new(), |Path(token)| token);
        // A right token passes whatever else comes from its address, which may be that of all workers.
        if let Some(call_id) = app.operator.call_of_token(&token) {
            return Ok(Self(call_id));
        }
        let given = blake3::hash(token.as_bytes());
        let attempt = app
            .wrong_tokens
            .begin(Peer::of(&parts.extensions).ip(), given);
        let attempt =
            attempt.map_err(|wait| punctual_web::Problem::too_many("wrong tokens", wait))?;
        attempt.wrong("it is not the token of a call that waits");
        let unknown =
            "this is not the token of a call; use the address that the call was made with";
        Err(punctual_web::Problem::new(StatusCode::NOT_FOUND, unknown).into())
    }
}

/// The body of a request, which is read once the token is known to be right.
async fn body_of(request: Request, app: &App) -> Result<Bytes, Problem> {
    let body = Bytes::from_request(request, app).await;
    let refused = |rejection: BytesRejection| {
        let problem = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail =
                "the body is larger than 1 MiB; put a large output elsewhere, and send its address";
            punctual_web::Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        } else {
            punctual_web::Problem::bad_request(rejection.body_text())
        };
        Problem::from(problem)
    };
    body.map_err(refused)
}

fn json_of<T: DeserializeOwned>(body: &[u8], send: &str) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("invalid body ({error}); send {send}")))
}
