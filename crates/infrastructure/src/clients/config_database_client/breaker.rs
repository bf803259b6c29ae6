//! The circuit breaker: a server that failed again and again is left alone for a moment, so that callers learn at
//! once what they would otherwise wait for, and it can come back.

use std::time::Duration;

use reqwest::{Client, Request, Response};
use tower::{Layer, util::BoxCloneSyncService};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};

/// Failures one after the other, with no success between.
const FAILURES: usize = 5;
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Sends a request, unless the server is being left alone.
pub(super) type Sender =
    BoxCloneSyncService<Request, Response, CircuitBreakerError<reqwest::Error>>;

pub(super) fn around(client: Client) -> Result<Sender, String> {
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(FAILURES)
        .wait_duration_in_open(LEFT_ALONE)
        .permitted_calls_in_half_open(1)
        .failure_classifier(has_failed)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(BoxCloneSyncService::new(breaker.layer(client)))
}

/// A server that refuses what is asked, or asks to be called less often, works.
fn has_failed(result: &Result<Response, reqwest::Error>) -> bool {
    result
        .as_ref()
        .map_or(true, |response| response.status().is_server_error())
}
