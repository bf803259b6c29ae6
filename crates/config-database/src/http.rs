//! The HTTP side: routes, their description as OpenAPI, and what every call goes through.

mod auth;
mod conditions;
mod configs;
mod import;
mod keys;
mod limits;
mod page;
mod preferences;
mod problem;
mod schemas;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::watch;
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use self::limits::Limits;
use crate::{keys::hash, store::ConfigStore};

/// The largest body of a call other than an import.
const BODY_BYTES: usize = 1024 * 1024;
/// The largest import.
const IMPORT_BYTES: usize = 4 * 1024 * 1024 * 1024;

#[derive(Clone)]
struct App {
    store: ConfigStore,
    admin_key: Option<blake3::Hash>,
    limits: Arc<Limits>,
    stopping: watch::Receiver<bool>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Punctual Config Database",
        description = "Keeps each tenant's preferences and offers them: one tenant's, grouped by similarity, and \
                       as a feed of changes. Errors are problem+json (RFC 9457)."
    ),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Description;

/// Describes the key that is sent as a bearer token, in a description of an HTTP API.
pub struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("key", scheme);
    }
}

/// The calls below `/api/v1`.
fn calls() -> OpenApiRouter<App> {
    let small = OpenApiRouter::new()
        .routes(routes!(
            configs::read,
            configs::store,
            configs::patch,
            configs::remove
        ))
        .routes(routes!(configs::history))
        .routes(routes!(configs::restore))
        .routes(routes!(preferences::groups))
        .routes(routes!(preferences::changes))
        .routes(routes!(preferences::feature_types))
        .routes(routes!(schemas::read, schemas::store, schemas::remove))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES));
    let large = OpenApiRouter::new()
        .routes(routes!(import::import))
        .layer(RequestBodyLimitLayer::new(IMPORT_BYTES));
    small.merge(large)
}

/// The description of the HTTP API, as at `/openapi.json`.
#[must_use]
pub fn description() -> utoipa::openapi::OpenApi {
    let (_, paths) = calls().split_for_parts();
    Description::openapi().nest("/api/v1", paths)
}

/// The routes, ready to be served.
pub(crate) fn router(
    store: ConfigStore,
    admin_key: Option<&SecretString>,
    limits: Arc<Limits>,
    stopping: watch::Receiver<bool>,
) -> Router {
    let app = App {
        store,
        admin_key: admin_key.map(hash),
        limits,
        stopping,
    };
    let (api, _) = calls().split_for_parts();
    let api = api
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    Router::new()
        .nest("/api/v1", api)
        .route("/openapi.json", get(|| async { Json(description()) }))
        .route(
            "/health/live",
            get(|| async { Json(json!({"status": "live"})) }),
        )
        .route("/health/ready", get(ready))
        .merge(page::routes())
        .fallback(problem::not_found)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            auth::refuse_other_origins,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(app)
}

async fn ready(axum::extract::State(app): axum::extract::State<App>) -> Response {
    match app.store.refresh().await {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(error) => {
            tracing::error!(%error, "The store does not answer: {error}");
            let not_ready = json!({"status": "not ready", "reasons": ["the store does not answer; see the log"]});
            problem::come_back((StatusCode::SERVICE_UNAVAILABLE, Json(not_ready)))
        }
    }
}
