//! Readiness and metrics.

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use punctual_application::Finding;

use super::{App, model::Readiness};
use crate::remedies;

/// Whether the agent is ready, and what is wrong, since when, with the remedy.
#[utoipa::path(get, operation_id = "ready", path = "/health/ready", security(()), responses(
    (status = 200, body = Readiness, description = "The agent is ready"),
    (status = 503, body = Readiness, description = "The agent is not ready, for the reasons given")
))]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let findings = app.operator.readiness().await;
    let code = if findings.not_ready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let texts = |findings: &[Finding]| {
        let of = |finding| remedies::in_words(finding, app.words.remedy);
        findings.iter().map(of).collect()
    };
    let readiness = Readiness::new(texts(&findings.not_ready), texts(&findings.warnings));
    (code, Json(readiness))
}

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        app.metrics.map_or_else(String::new, |render| render()),
    )
}
