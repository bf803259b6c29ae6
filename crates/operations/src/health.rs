//! Health, version and metrics.

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use punctual_application::Finding;
use punctual_domain::TZDB_VERSION;

use super::{
    App,
    model::{Liveness, Readiness, Version},
};
use crate::remedies;

/// Whether the process runs.
#[utoipa::path(get, operation_id = "live", path = "/health/live", security(()), responses(
    (status = 200, body = Liveness, description = "The process is alive")
))]
pub(super) async fn live() -> Json<Liveness> {
    Json(Liveness {
        status: "live".to_owned(),
    })
}

/// Whether the agent is ready, and what is wrong, since when, with the remedy.
#[utoipa::path(get, operation_id = "ready", path = "/health/ready", security(()), responses(
    (status = 200, body = Readiness, description = "The agent is ready"),
    (status = 503, body = Readiness, description = "The agent is not ready, for the reasons given")
))]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let findings = app.operator.readiness().await;
    let (code, status) = if findings.not_ready.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let texts = |findings: &[Finding]| {
        let of = |finding| remedies::in_words(finding, app.words.remedy);
        findings.iter().map(of).collect()
    };
    let readiness = Readiness {
        status: status.to_owned(),
        reasons: texts(&findings.not_ready),
        warnings: texts(&findings.warnings),
    };
    (code, Json(readiness))
}

/// Version of the agent.
#[utoipa::path(get, operation_id = "version", path = "/version", security(()), responses(
    (status = 200, body = Version, description = "The versions")
))]
pub(super) async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tzdb: TZDB_VERSION.to_owned(),
    })
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
