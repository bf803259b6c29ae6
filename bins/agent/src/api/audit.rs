//! The audit log: what operators ask for is written down before it is done.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Json,
    extract::{
        ConnectInfo, FromRequestParts, OriginalUri, Query, State, rejection::QueryRejection,
    },
    http::request::Parts,
};
use punctual_application::ports::{AuditEntry, Clock, SystemClock};
use serde_json::{Value, json};

use super::{
    App, PageQuery,
    problem::{AnyProblem, Problem},
};

/// Who asks: over the API or the page, and from which address.
#[derive(Debug, Clone)]
pub(super) struct By(String);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        // Of what is nested, the path begins after its prefix.
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        let way = match uri.path().starts_with("/api/") {
            true => "api",
            false => "page",
        };
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(match peer {
            Some(ConnectInfo(peer)) => format!("{way} from {}", peer.ip()),
            None => way.to_owned(),
        }))
    }
}

impl App {
    pub(super) async fn audit(
        &self,
        by: &By,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), Problem> {
        let entry = AuditEntry {
            at: SystemClock.now(),
            by: by.0.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        };
        Ok(self.noted(self.operations.record(&entry).await)?)
    }
}

/// What operators have asked for, newest first.
#[utoipa::path(get, operation_id = "audit_log", path = "/audit-log", params(PageQuery), responses(
    (status = 200, body = Object, description = "`entries`: `at`, `by`, `action`, `subject`, `detail`; and the `next_cursor`"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(page) = query?;
    let (entries, next_cursor) = app.operations.audit_log(&page.into()).await?;
    Ok(Json(
        json!({ "entries": entries, "next_cursor": next_cursor }),
    ))
}
