//! What each server says of itself: that it lives, whether it is ready, and which version it is.

use axum::Json;
use punctual_domain::Zone;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Readiness of the server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    pub status: String,
    /// Problems that make the server unready, since when, with the remedy.
    pub reasons: Vec<String>,
    /// Problems that leave the server ready, since when, with the remedy.
    pub warnings: Vec<String>,
}

impl Readiness {
    /// Ready without reasons, otherwise not.
    #[must_use]
    pub fn new(reasons: Vec<String>, warnings: Vec<String>) -> Self {
        let status = if reasons.is_empty() {
            "ready"
        } else {
            "not ready"
        };
        Self {
            status: status.to_owned(),
            reasons,
            warnings,
        }
    }
}

/// That the process runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Liveness {
    /// Always `live`.
    pub status: String,
}

/// Version of the server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The version of the server.
    pub version: String,
    /// The version of the time zone database.
    pub tzdb: String,
}

/// Whether the process runs.
#[utoipa::path(get, operation_id = "live", path = "/health/live", security(()), responses(
    (status = 200, body = Liveness, description = "The process is alive")
))]
pub async fn live() -> Json<Liveness> {
    Json(Liveness {
        status: "live".to_owned(),
    })
}

/// Version of the server.
#[utoipa::path(get, operation_id = "version", path = "/version", security(()), responses(
    (status = 200, body = Version, description = "The versions")
))]
pub async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tzdb: Zone::version().to_owned(),
    })
}
