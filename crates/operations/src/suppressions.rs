//! Addresses that no e-mail is sent to.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use punctual_application::{SuppressReport, SuppressRequest};
use punctual_domain::{EmailAddress, InvalidEmailAddress};
use serde::Deserialize;

use super::{
    App, Listed, PageQuery,
    audit::RequestActor,
    model::{Suppressions, Unsuppressed},
    problem::{AnyProblem, Problem},
};

/// No filter: a page of the whole list.
#[derive(Deserialize)]
pub(super) struct All {}

/// The suppression list, newest entries first.
#[utoipa::path(get, operation_id = "suppressions", path = "/suppressions", params(PageQuery), responses(
    (status = 200, body = Suppressions, description = "The addresses"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(All {}, page): Listed<All>,
) -> Result<Json<Suppressions>, Problem> {
    let (suppressions, next_cursor) = app.operator.suppressed(&page).await?;
    Ok(Json(Suppressions {
        suppressions,
        next_cursor,
    }))
}

/// Puts addresses on the suppression list: no e-mail is sent to them. Those that are on it stay as they are.
///
/// Call it when a mail service reports a bounce or a complaint. Addresses that an SMTP server refuses as not existing while an
/// e-mail is sent are added without a call.
#[utoipa::path(post, operation_id = "suppress", path = "/suppressions", request_body = SuppressRequest, responses(
    (status = 200, body = SuppressReport, description = "The number of addresses that were added"),
    AnyProblem
))]
pub(super) async fn add(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    body: Bytes,
) -> Result<Json<SuppressReport>, Problem> {
    let request: SuppressRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"addresses\": [\"ann@shop.example\", …], \"reason\": \"complained\"}}"
        ))
    })?;
    Ok(Json(app.operator.suppress(&actor, &request).await?))
}

/// Takes an address off the suppression list.
#[utoipa::path(delete, operation_id = "unsuppress", path = "/suppressions/{address}", params(("address" = String, Path, description = "The address")), responses(
    (status = 200, body = Unsuppressed, description = "E-mails are sent to the address again"),
    AnyProblem
))]
pub(super) async fn remove(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    Path(address): Path<String>,
) -> Result<Json<Unsuppressed>, Problem> {
    let invalid = |error: InvalidEmailAddress| Problem::bad_request(error.to_string());
    let address: EmailAddress = address.parse().map_err(invalid)?;
    app.operator.unsuppress(&actor, &address).await?;
    Ok(Json(Unsuppressed { address }))
}
