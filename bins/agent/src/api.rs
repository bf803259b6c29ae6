//! The agent's HTTP API: health, metrics, and what has been run. JSON; errors are problem+json.

mod audit;
mod auth;
mod backfill;
mod batches;
mod control;
mod dead_letters;
mod explain;
mod health;
mod page;
mod problem;
mod schedule;
mod tenants;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use punctual_application::{
    Jobs,
    ports::{BatchReader, ConfigDatabase, ItemSource, Operations, Page, WorkQueue},
};
use punctual_domain::Zone;
use punctual_infrastructure::StatusHandle;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use crate::wiring::Agent;

#[derive(Clone)]
struct App {
    reader: Arc<dyn BatchReader>,
    status: StatusHandle,
    jobs: Jobs,
    jobs_trouble: watch::Receiver<Option<String>>,
    preferences: Arc<dyn ConfigDatabase>,
    queue: Arc<dyn WorkQueue>,
    operations: Arc<dyn Operations>,
    item_source: Arc<dyn ItemSource>,
    chunk_size: usize,
    zone: Zone,
    metrics: PrometheusHandle,
    api_key: Option<blake3::Hash>,
    /// Turns true when the agent stops, and streams end.
    stopping: watch::Receiver<bool>,
}

pub(crate) fn router(
    agent: &Agent,
    api_key: Option<&SecretString>,
    metrics: PrometheusHandle,
) -> Router {
    let app = App {
        reader: agent.store.reader(),
        status: agent.status.clone(),
        jobs: agent.jobs.clone(),
        jobs_trouble: agent.reload.trouble(),
        preferences: agent.preferences.clone(),
        queue: agent.store.queue(),
        operations: agent.store.operations(),
        item_source: agent.item_source.clone(),
        chunk_size: agent.chunk_size,
        zone: agent.zone.clone(),
        metrics,
        stopping: agent.stopping.subscribe(),
        api_key: api_key.map(|key| blake3::hash(key.expose_secret().as_bytes())),
    };
    let open = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/version", get(health::version));
    let keyed = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/api/v1/jobs", get(schedule::jobs))
        .route("/api/v1/jobs/{job_id}", get(schedule::job))
        .route("/api/v1/jobs/{job_id}/trigger", post(control::trigger))
        .route("/api/v1/jobs/{job_id}/backfill", post(backfill::backfill))
        .route("/api/v1/jobs/{job_id}/pause", post(control::pause))
        .route("/api/v1/jobs/{job_id}/resume", post(control::resume))
        .route("/api/v1/schedule/upcoming", get(schedule::upcoming))
        .route("/api/v1/quarantine", get(schedule::quarantine))
        .route("/api/v1/batches", get(batches::list))
        .route("/api/v1/batches/{batch_id}", get(batches::one))
        .route("/api/v1/batch/{batch_id}", get(batches::one))
        .route("/api/v1/batches/{batch_id}/cancel", post(batches::cancel))
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route(
            "/api/v1/dead-letters/replay",
            post(dead_letters::replay_many),
        )
        .route(
            "/api/v1/dead-letters/discard",
            post(dead_letters::discard_many),
        )
        .route(
            "/api/v1/dead-letters/{id}/replay",
            post(dead_letters::replay_one),
        )
        .route(
            "/api/v1/dead-letters/{id}/discard",
            post(dead_letters::discard_one),
        )
        .route("/api/v1/batches/{batch_id}/results", get(batches::results))
        .route("/api/v1/audit-log", get(audit::list))
        .route("/api/v1/tenants/{tenant_id}/runs", get(tenants::runs))
        .route("/api/v1/tenants/{tenant_id}/explain", get(explain::tenant))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    open.merge(keyed)
        .merge(page::routes())
        .layer(middleware::from_fn_with_state(
            app.clone(),
            auth::refuse_other_sites,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(app)
}

/// A page of a list, as asked for.
#[derive(Debug, Deserialize)]
struct PageQuery {
    cursor: Option<String>,
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
