//! Whether the store answers.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use punctual_web::health::Readiness;
use tracing::error;

use super::App;

/// How long the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the store answers. Agents are served while nothing can be stored, so that is a warning, as are refused zone rules.
#[utoipa::path(get, operation_id = "ready", path = "/health/ready", security(()), responses(
    (status = 200, body = Readiness, description = "The store answers"),
    (status = 503, body = Readiness, description = "It does not")
))]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let answer = tokio::time::timeout(STORE_TIMEOUT, app.store.refresh()).await;
    let error = match answer {
        Ok(Ok(())) => {
            let mut warnings = Vec::from_iter(app.warning.borrow().clone());
            warnings.extend(app.store.write_warning(app.names.store_url));
            return (StatusCode::OK, Json(Readiness::new(Vec::new(), warnings)));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", STORE_TIMEOUT.as_secs()),
    };
    error!(%error, "The store does not answer: {error}");
    let setting = app.names.store_url;
    let reason = format!("the store does not answer; see the log, and check {setting}");
    let readiness = Readiness::new(vec![reason], Vec::new());
    (StatusCode::SERVICE_UNAVAILABLE, Json(readiness))
}
