//! Who asks, and the audit log of what was asked for.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, Query, State, rejection::QueryRejection},
    http::request::Parts,
};
use punctual_application::Actor;
use punctual_web::page::root_of;

use super::{
    App, PageQuery,
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

/// Actions of operators, newest first.
#[utoipa::path(get, operation_id = "audit_log", path = "/audit-log", params(PageQuery), responses(
    (status = 200, body = AuditLog, description = "The audit log"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<AuditLog>, Problem> {
    let Query(page) = query?;
    let (entries, next_cursor) = app.operator.operations.audit_log(&page.into()).await?;
    Ok(Json(AuditLog {
        entries,
        next_cursor,
    }))
}
