//! The HTTP side: routes, and what every call goes through.

mod auth;
mod configs;
mod import;
mod preferences;
mod problem;
mod schemas;

use axum::{
    Json, Router, middleware,
    routing::{get, post},
};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::watch;
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer};

use crate::{keys::hash, store::ConfigStore};

/// The largest body of a call other than an import.
const BODY_BYTES: usize = 1024 * 1024;
/// The largest import.
const IMPORT_BYTES: usize = 1024 * 1024 * 1024;

#[derive(Clone)]
struct App {
    store: ConfigStore,
    admin_key: Option<blake3::Hash>,
    stopping: watch::Receiver<bool>,
}

pub(crate) fn router(
    store: ConfigStore,
    admin_key: Option<&SecretString>,
    stopping: watch::Receiver<bool>,
) -> Router {
    let app = App {
        store,
        admin_key: admin_key.map(hash),
        stopping,
    };
    let small = Router::new()
        .route(
            "/tenants/{tenant_id}/configs/{config_key}",
            get(configs::read)
                .put(configs::store)
                .patch(configs::patch)
                .delete(configs::remove),
        )
        .route(
            "/tenants/{tenant_id}/configs/{config_key}/history",
            get(configs::history),
        )
        .route(
            "/tenants/{tenant_id}/configs/{config_key}/restore",
            post(configs::restore),
        )
        .route("/preferences/groups", get(preferences::groups))
        .route("/preferences/changes", get(preferences::changes))
        .route("/feature-types", get(preferences::feature_types))
        .route(
            "/feature-types/{feature_type}/schema",
            get(schemas::read)
                .put(schemas::store)
                .delete(schemas::remove),
        )
        .layer(RequestBodyLimitLayer::new(BODY_BYTES));
    let large = Router::new()
        .route("/preferences/import", post(import::import))
        .layer(RequestBodyLimitLayer::new(IMPORT_BYTES));
    let api = small
        .merge(large)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    Router::new()
        .nest("/api/v1", api)
        .route(
            "/health/live",
            get(|| async { Json(json!({"status": "live"})) }),
        )
        .fallback(problem::not_found)
        .layer(CatchPanicLayer::new())
        .with_state(app)
}
