//! Who may call: with a key set, everything but health and version needs it, also what does not exist. What other
//! sites make a browser send is refused.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
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

/// Refuses what a page of another site makes a browser send. Without a key it also refuses names that are not this
/// machine's: such a page could otherwise have its own name lead here, and read everything.
pub(super) async fn refuse_other_sites(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    check_sites(&app, request.method(), request.headers())?;
    Ok(next.run(request).await)
}

fn check_sites(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let host = header("host").unwrap_or_default();
    if app.api_key.is_none() && !is_this_machine(host) {
        return Err(Problem::forbidden(format!(
            "without a key the agent answers to this machine's own names only, and `{host}` is none; use 127.0.0.1 or \
             localhost, or set BATCH_API_KEY"
        )));
    }
    let origin =
        header("origin").map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    let from_elsewhere = header("sec-fetch-site")
        .is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || origin.is_some_and(|origin| origin != host);
    if from_elsewhere && !method.is_safe() {
        return Err(Problem::forbidden(
            "another site's page may not change anything here; use the agent's own page",
        ));
    }
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    let Ok(host) = host.parse::<axum::http::uri::Authority>() else {
        return host.is_empty();
    };
    let name = host.host().trim_matches(['[', ']']);
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
