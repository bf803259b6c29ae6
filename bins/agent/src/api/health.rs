//! Health, version and metrics.

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use punctual_domain::TZDB_VERSION;
use serde_json::{Value, json};

use super::App;

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Ready once every job's preferences have been read and the store answers; says what is not.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let status = app.status.get();
    let mut not_ready = Vec::new();
    let mut warnings = Vec::new();
    if status.planned_until.is_none() {
        not_ready.push("the scheduler has not planned yet".to_owned());
    }
    warnings.extend(app.jobs_trouble.borrow().clone());
    for (job_id, job) in &status.jobs {
        let list = match job.loaded {
            true => &mut warnings,
            false => &mut not_ready,
        };
        list.extend(job.wrong().map(|wrong| format!("{job_id}: {wrong}")));
    }
    if let Ok(paused) = app.queue.paused().await {
        let because = paused
            .iter()
            .map(|(job_id, reason)| format!("{job_id} is paused: {reason}"));
        warnings.extend(because);
    }
    if let Err(error) = app.newest(None, 1).await {
        not_ready.push(format!("the store does not answer: {error}"));
    }
    let (code, word) = if not_ready.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (
        code,
        Json(json!({ "status": word, "reasons": not_ready, "warnings": warnings })),
    )
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "tzdb": TZDB_VERSION }))
}

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        app.metrics.render(),
    )
}
