//! Readiness and metrics.

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use punctual_application::Finding;

use super::{App, model::Readiness};
use crate::remedies;

/// Why an agent that stops is not ready.
const STOPPING: &str = "the agent stops: it begins no new work, and completes the work that has begun. Start it again \
     once it has ended";

/// Whether the agent is ready, and what is wrong, since when, with the remedy.
#[utoipa::path(get, operation_id = "ready", path = "/health/ready", security(()), responses(
    (status = 200, body = Readiness, description = "The agent is ready"),
    (status = 503, body = Readiness, description = "The agent is not ready, for the reasons given")
))]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let findings = app.operator.readiness().await;
    let texts = |findings: &[Finding]| -> Vec<String> {
        let of = |finding| remedies::in_words(finding, app.words.remedy);
        findings.iter().map(of).collect()
    };
    let mut reasons = texts(&findings.not_ready);
    if app.stop.is_cancelled() {
        reasons.insert(0, STOPPING.to_owned());
    }
    let code = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        Json(Readiness::new(reasons, texts(&findings.warnings))),
    )
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
