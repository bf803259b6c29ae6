//! The agent's HTTP API: health, metrics, and what has been run. JSON; errors are problem+json.

mod audit;
mod auth;
mod backfill;
mod batches;
mod control;
mod dead_letters;
mod events;
mod explain;
mod health;
pub(crate) mod model;
mod once;
mod page;
mod problem;
mod schedule;
mod tenants;

use std::sync::Arc;

use axum::{Json, Router, middleware, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use punctual_application::{Operator, ports::Page};
use punctual_web::{
    Guesses, ProblemBody,
    key::{BearerKey, hash},
    origin::refuse_other_sites,
    problem::{method_not_allowed, not_found, problems_of_text, retry_unavailable},
};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Punctual Agent",
        description = "What has been run, runs and will run, and telling it to. Errors are problem+json (RFC 9457). \
                       Beside it: `/metrics`, for Prometheus."
    ),
    components(schemas(ProblemBody)),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Description;

#[derive(Clone)]
struct App {
    operator: Operator,
    metrics: PrometheusHandle,
    api_key: Option<blake3::Hash>,
    guesses: Arc<Guesses>,
    signed_out: Arc<page::SignedOut>,
    /// Turns true when the agent stops, and streams end.
    stopping: watch::Receiver<bool>,
}

/// The calls that need no key.
fn open_calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::version))
}

/// The calls below `/api/v1`.
fn calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(schedule::jobs))
        .routes(routes!(schedule::job))
        .routes(routes!(control::trigger))
        .routes(routes!(backfill::backfill))
        .routes(routes!(control::pause))
        .routes(routes!(control::resume))
        .routes(routes!(schedule::upcoming))
        .routes(routes!(schedule::quarantine))
        .routes(routes!(batches::list))
        .routes(routes!(batches::one))
        .routes(routes!(batches::cancel))
        .routes(routes!(batches::results))
        .routes(routes!(events::stream))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay_many))
        .routes(routes!(dead_letters::discard_many))
        .routes(routes!(dead_letters::replay_one))
        .routes(routes!(dead_letters::discard_one))
        .routes(routes!(audit::list))
        .routes(routes!(tenants::runs))
        .routes(routes!(explain::tenant))
}

/// The description of the API.
pub(crate) fn description() -> utoipa::openapi::OpenApi {
    let (_, open) = open_calls().split_for_parts();
    let (_, keyed) = calls().split_for_parts();
    Description::openapi()
        .merge_from(open)
        .nest("/api/v1", keyed)
}

pub(crate) fn router(
    operator: Operator,
    stopping: watch::Receiver<bool>,
    api_key: Option<&SecretString>,
    metrics: PrometheusHandle,
) -> Router {
    let app = App {
        operator,
        metrics,
        guesses: Arc::default(),
        signed_out: Arc::default(),
        stopping,
        api_key: api_key.map(hash),
    };
    let (api, _) = calls().split_for_parts();
    let api = api
        .route("/batch/{batch_id}", get(batches::one))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let (open, _) = open_calls().split_for_parts();
    let open = open.route("/openapi.json", get(|| async { Json(description()) }));
    let keyed = Router::new()
        .route("/metrics", get(health::metrics))
        .nest("/api/v1", api)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    open.merge(keyed)
        .merge(page::routes())
        .layer(middleware::from_fn_with_state(
            app.api_key.is_none().then_some("BATCH_API_KEY"),
            refuse_other_sites,
        ))
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(problems_of_text))
        .layer(middleware::map_response(|response| {
            retry_unavailable(RETRY_AFTER, response)
        }))
        .with_state(app)
}

/// Seconds after which to try again what cannot be done now.
const RETRY_AFTER: u64 = 5;

/// A page of a list, as asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Where the next page begins, as the last one said.
    cursor: Option<String>,
    /// Page size, 1 to 1000 (default: 100).
    limit: Option<u32>,
}

impl From<PageQuery> for Page {
    fn from(query: PageQuery) -> Self {
        Self {
            cursor: query.cursor,
            limit: query.limit.unwrap_or(100).clamp(1, 1_000),
        }
    }
}

#[cfg(test)]
mod tests;
