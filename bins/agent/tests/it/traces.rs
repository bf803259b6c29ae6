//! Traces over OTLP: a receiver that takes what OpenTelemetry's own messages are made of sees one trace, from the slot's
//! firing to the call that the endpoint got.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message;
use serde_json::json;

use crate::{
    agent::Agent,
    common::{daily, serve, until_beside},
    project::Project,
};

#[derive(Clone, Default)]
struct Received {
    /// With the name of the service.
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    authorization: Arc<Mutex<Vec<String>>>,
    /// `traceparent` of each call to the endpoint.
    calls: Arc<Mutex<Vec<String>>>,
}

async fn collect(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    let key = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    received.authorization.lock().unwrap().push(key);
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let service = attributes
            .iter()
            .find(|one| one.key == "service.name")
            .map(|one| format!("{:?}", one.value))
            .unwrap();
        let spans = resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans);
        let spans = spans.map(|span| (service.clone(), span));
        received.spans.lock().unwrap().extend(spans);
    }
    StatusCode::OK
}

/// The first call fails.
async fn endpoint(State(received): State<Received>, headers: HeaderMap) -> StatusCode {
    let mut calls = received.calls.lock().unwrap();
    calls.push(headers["traceparent"].to_str().unwrap().to_owned());
    match calls.len() {
        1 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == key);
    format!("{:?}", found.map(|one| one.value.clone()))
}

#[tokio::test]
async fn one_trace_leads_from_the_slot_to_the_endpoint() {
    let received = Received::default();
    let router = Router::new()
        .route("/v1/traces", post(collect))
        .route("/hook", post(endpoint))
        .with_state(received.clone());
    let url = serve(router).await;

    let hook = json!({"handler": "webhook", "url": format!("{url}/hook"), "allow_private_addresses": true});
    let project = Project::new(hook, json!({"default_preferences": {"frequency": "daily"}}));
    let preferences = project.preferences([("user1".to_owned(), daily())].into_iter());
    let mut command = project.command();
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer canary-7f3a",
        )
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("BATCH_LOG", "trace,hyper=info,reqwest=info,sqlx=info")
        .args(["run", "--look-back", "24h", "--import"])
        .arg(preferences);
    let agent = Agent::start(command);
    agent
        .until("/api/v1/tenants/user1/runs", |runs| {
            runs["runs"][0]["status"] == "succeeded"
        })
        .await;
    let named = |name: &str| {
        let spans = received.spans.lock().unwrap();
        let found = spans.iter().filter(|(_, span)| span.name == name);
        found.map(|(_, span)| span.clone()).collect::<Vec<_>>()
    };
    let all_came = || !named("chunk").is_empty() && named("call").len() >= 2;
    until_beside(&agent, all_came).await;
    let log = agent.log().join("\n");
    assert!(agent.terminate().success());

    let (batches, chunks, items, calls) =
        (named("batch"), named("chunk"), named("item"), named("call"));
    assert_eq!(
        (batches.len(), chunks.len(), items.len(), calls.len()),
        (1, 1, 2, 2)
    );
    assert!(batches[0].parent_span_id.is_empty());
    assert!(attribute(&batches[0], "trigger").contains("schedule"));
    assert_eq!(chunks[0].parent_span_id, batches[0].span_id);
    assert_eq!(chunks[0].kind, SpanKind::Consumer as i32);
    let by_id: HashMap<_, _> = items.iter().map(|item| (&item.span_id, item)).collect();
    let mut attempts = Vec::new();
    for call in &calls {
        assert_eq!(call.kind, SpanKind::Client as i32);
        let item = by_id[&call.parent_span_id];
        assert_eq!(item.parent_span_id, chunks[0].span_id);
        let failed = |span: &Span| {
            let status = span.status.as_ref();
            status.is_some_and(|status| status.code == SpanStatus::Error as i32)
        };
        assert_eq!(failed(call), failed(item));
        attempts.push((attribute(item, "attempt"), failed(item)));
    }
    attempts.sort();
    assert!(attempts[0].1 && !attempts[1].1, "{attempts:?}");
    let traces = [&batches, &chunks, &items, &calls].into_iter().flatten();
    assert!(
        traces
            .clone()
            .all(|span| span.trace_id == batches[0].trace_id)
    );
    let mut sent: Vec<String> = calls
        .iter()
        .map(|call| format!("00-{}-{}-01", hex(&call.trace_id), hex(&call.span_id)))
        .collect();
    let mut heard = received.calls.lock().unwrap().clone();
    sent.sort();
    heard.sort();
    assert_eq!(
        sent, heard,
        "the endpoint receives the span of its own call"
    );
    assert!(
        received.spans.lock().unwrap()[0]
            .0
            .contains("punctual-agent"),
        "the service has its name"
    );
    let keys = received.authorization.lock().unwrap().clone();
    assert!(
        keys.iter().all(|key| key == "Bearer canary-7f3a"),
        "{keys:?}"
    );
    assert!(!log.contains("canary-7f3a"), "a key in the log:\n{log}");
    assert!(
        !log.contains("otel.kind"),
        "spans are not in the log:\n{log}"
    );
}
