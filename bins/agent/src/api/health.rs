//! Health, version and metrics.

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use punctual_domain::TZDB_VERSION;
use serde_json::{Value, json};

use super::App;
use crate::health::Reason;

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Ready while the agent does its main work; says what it does not do, since when, and the remedy.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let report = app.health.report(app.operator.clock.now()).await;
    let (code, word) = if report.reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let texts =
        |reasons: &[Reason]| -> Vec<String> { reasons.iter().map(Reason::to_string).collect() };
    (
        code,
        Json(json!({
            "status": word, "reasons": texts(&report.reasons), "warnings": texts(&report.warnings),
        })),
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
