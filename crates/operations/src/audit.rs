//! Who asks, and the audit log of what was asked for.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, State},
    http::request::Parts,
};
use punctual_application::{Actor, ports::AuditFilter};
use punctual_web::page::root_of;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Listed, PageQuery,
    model::AuditLog,
    problem::{AnyProblem, Problem},
};

/// Who asks: as the service around the router says, or else over the API or the page, and from which address.
pub(super) struct RequestActor(pub(super) Actor);

impl<S: Send + Sync> FromRequestParts<S> for RequestActor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        if let Some(actor) = parts.extensions.get::<Actor>() {
            return Ok(Self(actor.clone()));
        }
        let root = root_of(&parts.uri, &parts.extensions);
        let way = if root.ends_with("/api/v1") {
            "api"
        } else {
            "page"
        };
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(Actor(match peer {
            Some(ConnectInfo(peer)) => format!("{way} from {}", peer.ip()),
            None => way.to_owned(),
        })))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this action, such as `pause`.
    action: Option<String>,
    /// Only entries about this subject, such as a job.
    subject: Option<String>,
}

/// Actions of operators, newest first.
#[utoipa::path(get, operation_id = "audit_log", path = "/audit-log", params(ListQuery, PageQuery), responses(
    (status = 200, body = AuditLog, description = "The audit log"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(ListQuery { action, subject }, page): Listed<ListQuery>,
) -> Result<Json<AuditLog>, Problem> {
    let filter = AuditFilter { action, subject };
    let (entries, next_cursor) = app.operator.operations.audit_log(&filter, &page).await?;
    Ok(Json(AuditLog {
        entries,
        next_cursor,
    }))
}
