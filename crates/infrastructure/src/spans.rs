//! Traces: one for each batch, which begins when the store takes it, through chunks and items to the calls of remote endpoints,
//! whichever replicas they run on. The context travels with the chunks in the queue and goes to the endpoints as
//! `traceparent` (W3C Trace Context). Nothing is recorded, and nothing sent, unless the feature `otel` is on and a
//! collector is named.

use punctual_application::SPANS;
use punctual_domain::Chunk;
#[cfg(feature = "otel")]
use punctual_telemetry as context;
#[cfg(feature = "http")]
use reqwest::{RequestBuilder, Response};
#[cfg(feature = "http")]
use tracing::{Instrument, field::Empty};
use tracing::{Span, info_span};

/// The span of one delivery of a chunk, in the trace of its batch.
pub(crate) fn of(chunk: &Chunk) -> Span {
    let span = info_span!(target: SPANS, parent: None, "chunk", "otel.kind" = "consumer", chunk_id = chunk.chunk_id,
        batch_id = %chunk.batch_id, job_id = %chunk.job_id, items = chunk.items.len());
    if let Some(traceparent) = &chunk.traceparent {
        context::continue_from(&span, traceparent);
    }
    span
}

/// Sends a request to a remote endpoint in a span of its own, with that span as its `traceparent`.
#[cfg(feature = "http")]
pub(crate) async fn call(request: RequestBuilder) -> reqwest::Result<Response> {
    let span = info_span!(target: SPANS, "call", "otel.kind" = "client", "otel.status_code" = Empty,
        "http.response.status_code" = Empty);
    let request = match context::traceparent(&span) {
        Some(traceparent) => request.header("traceparent", traceparent),
        None => request,
    };
    let response = request.send().instrument(span.clone()).await;
    match &response {
        Ok(response) => {
            let status = response.status();
            span.record("http.response.status_code", status.as_u16());
            if !status.is_success() {
                span.record("otel.status_code", "ERROR");
            }
        }
        Err(_) => drop(span.record("otel.status_code", "ERROR")),
    }
    response
}

#[cfg(not(feature = "otel"))]
mod context {
    use tracing::Span;

    #[cfg(feature = "http")]
    pub(super) fn traceparent(_: &Span) -> Option<String> {
        None
    }

    pub(super) fn continue_from(_: &Span, _: &str) {}
}
