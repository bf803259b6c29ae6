//! Who may call: with a key set, everything but health and version needs it, also what does not exist.

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::Response,
};

use super::{App, problem::Problem};

pub(super) async fn require_key(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(|key| blake3::hash(key.as_bytes()));
    // Comparing two hashes takes the same time whatever they are.
    if app.api_key.is_none() || given == app.api_key {
        return Ok(next.run(request).await);
    }
    Err(Problem::unauthorized())
}
