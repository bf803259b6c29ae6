//! Webhooks that answer 202: the work goes on after the call, and is completed over HTTP by the address that the call was given.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    agent::{Agent, TEST_TIMEOUT},
    common::{daily, serve},
    failures::{completed, trigger},
    project::Project,
};

/// A call: its tenant, its attempt, and the address that completes it.
type Call = (String, u64, Option<String>);

/// An endpoint that accepts first attempts, and all of the tenant `slow`; others have succeeded.
#[derive(Clone, Default)]
struct Endpoint(Arc<Mutex<Vec<Call>>>);

async fn answer(
    State(endpoint): State<Endpoint>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let tenant = body["tenant_id"].as_str().unwrap().to_owned();
    let attempt = body["attempt"].as_u64().unwrap();
    let url = headers.get("punctual-completion-url");
    let url = url.map(|url| url.to_str().unwrap().to_owned());
    let status = match (tenant.as_str(), attempt) {
        ("slow", _) | (_, 1) => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    endpoint.0.lock().unwrap().push((tenant, attempt, url));
    (status, "7")
}

/// The same, which answers the tenant `busy` only when it may.
async fn answer_busy_later(
    State((endpoint, may_answer)): State<(Endpoint, Arc<Notify>)>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let call: Value = serde_json::from_slice(&body).unwrap();
    let answered = answer(State(endpoint), headers, body).await;
    if call["tenant_id"] != "busy" {
        return answered;
    }
    may_answer.notified().await;
    (StatusCode::OK, "7")
}

impl Endpoint {
    async fn serve(&self) -> String {
        serve(Router::new().fallback(answer).with_state(self.clone())).await
    }

    /// The path of the address that completes this attempt, once it has been made.
    async fn path(&self, tenant: &str, attempt: u64) -> String {
        let began = Instant::now();
        loop {
            let calls = self.0.lock().unwrap().clone();
            let mut calls = calls.iter();
            if let Some((.., url)) = calls.find(|call| call.0 == tenant && call.1 == attempt) {
                let url = url.as_deref().unwrap();
                return url[url.find("/api/v1/waiting/").unwrap()..].to_owned();
            }
            assert!(began.elapsed() < TEST_TIMEOUT, "{tenant} {attempt}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A job that posts to this endpoint, with these options of the purpose.
fn project(url: &str, options: &Value) -> Project {
    let mut purpose = json!({"handler": "webhook", "url": url, "allow_private_addresses": true});
    let fields = purpose.as_object_mut().unwrap();
    fields.extend(options.as_object().unwrap().clone());
    Project::new(
        purpose,
        json!({"retry_limit": 1, "default_preferences": {"frequency": "daily"}}),
    )
}

async fn start(project: &Project, tenants: &[&str]) -> Agent {
    let tenants = tenants.iter().map(|tenant| ((*tenant).to_owned(), daily()));
    project.run(project.command(), tenants).await
}

/// Posts to a path below an agent, without a key. Returns the status, and the answer.
async fn post(agent: &Agent, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}{path}", agent.api());
    let call = Client::new().post(url).body(body.to_string());
    let call = call.header("content-type", "application/json");
    let response = call.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// The result of a tenant in a batch, when it has this status.
async fn result(agent: &Agent, batch: &str, tenant: &str, status: &str) -> Value {
    let of = |results: &Value| {
        let results = results["results"].as_array().unwrap().iter();
        let mut of_tenant = results.filter(|result| result["tenant_id"] == tenant);
        of_tenant.next().cloned().unwrap_or_default()
    };
    let path = format!("/api/v1/batches/{batch}/results");
    let results = agent.until(&path, |results| of(results)["status"] == status);
    of(&results.await)
}

#[tokio::test]
async fn work_that_goes_on_is_completed_once_also_after_a_crash() {
    let endpoint = Endpoint::default();
    let project = project(&endpoint.serve().await, &json!({}));
    let tenants = ["ann", "slow"];
    let agent = start(&project, &tenants).await;
    let batch = trigger(&agent).await;
    let (ann, slow) = (
        endpoint.path("ann", 1).await,
        endpoint.path("slow", 1).await,
    );
    for tenant in tenants {
        result(&agent, &batch, tenant, "waiting").await;
    }
    let half = json!({"seconds": 7200, "progress": "half of the pages"});
    let (status, extended) = post(&agent, &format!("{ann}/extend"), &half).await;
    assert_eq!(status, 200, "{extended}");
    let waits = result(&agent, &batch, "ann", "waiting").await;
    assert_eq!(waits["waiting"]["progress"]["note"], "half of the pages");
    let mut forged = ann.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == '0' { '1' } else { '0' });
    let (status, _) = post(&agent, &format!("{forged}/complete"), &json!(1)).await;
    assert_eq!(status, 404);

    agent.kill();
    let agent = start(&project, &tenants).await;
    let complete = |path: &str| format!("{path}/complete");
    let (status, taken) = post(&agent, &complete(&ann), &json!({"pages": 3})).await;
    assert_eq!(
        (status, &taken["status"]),
        (200, &json!("taken")),
        "{taken}"
    );
    let (status, _) = post(&agent, &complete(&ann), &json!({"pages": 4})).await;
    assert_eq!(status, 409, "it is completed once");

    let broken = json!({"kind": "retryable", "message": "the renderer is full"});
    let (status, taken) = post(&agent, &format!("{slow}/fail"), &broken).await;
    assert_eq!(status, 200, "{taken}");
    let second = endpoint.path("slow", 2).await;
    assert_ne!(slow, second, "each attempt has its own address");
    let (status, _) = post(&agent, &complete(&slow), &json!(1)).await;
    assert_eq!(status, 409, "the first attempt has ended");
    let (status, taken) = post(&agent, &complete(&second), &json!(2)).await;
    assert_eq!(status, 200, "{taken}");

    let batch_ended = completed(&agent, &batch).await;
    assert_eq!(batch_ended["progress"]["succeeded"], 2, "{batch_ended}");
    for (tenant, attempts, body) in [("ann", 1, json!({"pages": 3})), ("slow", 2, json!(2))] {
        let ended = result(&agent, &batch, tenant, "succeeded").await;
        assert_eq!(ended["result"], json!({"status": 202, "body": body}));
        assert_eq!(ended["attempts"], attempts, "{ended}");
    }
    let token = ann.rsplit('/').next().unwrap();
    assert!(!agent.log().join("\n").contains(token));
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn what_waits_is_completed_while_the_agent_stops() {
    let (endpoint, may_answer) = (Endpoint::default(), Arc::new(Notify::new()));
    let state = (endpoint.clone(), may_answer.clone());
    let router = Router::new().fallback(answer_busy_later).with_state(state);
    let project = project(&serve(router).await, &json!({}));
    let tenants = ["ann", "busy"];
    let mut command = project.command();
    command.env("BATCH_CHUNK_SIZE", "1");
    let preferences = tenants.map(|tenant| (tenant.to_owned(), daily()));
    let agent = project.run(command, preferences).await;
    let batch = trigger(&agent).await;
    endpoint.path("busy", 1).await;
    let ann = endpoint.path("ann", 1).await;
    result(&agent, &batch, "ann", "waiting").await;

    agent.ask_to_end();
    let stops = |ready: &Value| ready["reasons"].to_string().contains("the agent stops");
    let ready = agent.until("/health/ready", stops).await;
    assert_eq!(ready["status"], "not ready");
    let (status, taken) = post(&agent, &format!("{ann}/complete"), &json!({"pages": 3})).await;
    assert_eq!(status, 200, "{taken}");
    may_answer.notify_one();
    assert!(agent.ended().await.success());

    let agent = start(&project, &tenants).await;
    completed(&agent, &batch).await;
    let ann = result(&agent, &batch, "ann", "succeeded").await;
    assert_eq!(ann["result"]["body"], json!({"pages": 3}));
    let busy = result(&agent, &batch, "busy", "succeeded").await;
    assert_eq!(busy["attempts"], 1, "it was not interrupted");
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_failed_attempt() {
    let endpoint = Endpoint::default();
    let url = endpoint.serve().await;
    let retried = project(&url, &json!({"completes_within": "1s"}));
    let agent = start(&retried, &["ann", "slow"]).await;
    let batch = trigger(&agent).await;
    completed(&agent, &batch).await;
    let ann = result(&agent, &batch, "ann", "succeeded").await;
    assert_eq!(ann["attempts"], 2);
    assert_eq!(ann["result"], json!({"status": 200, "body": 7}));
    let slow = result(&agent, &batch, "slow", "failed").await;
    assert_eq!(slow["attempts"], 2);
    let error = slow["error"].as_str().unwrap();
    assert!(error.starts_with("no completion by "), "{error}");
    let late = format!("{}/complete", endpoint.path("slow", 2).await);
    assert_eq!(post(&agent, &late, &json!(1)).await.0, 409);
    let letters = agent.get("/api/v1/dead-letters?state=open").await;
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1);
    drop(agent);

    let once = project(
        &url,
        &json!({"completes_within": "1s", "on_deadline": "fail"}),
    );
    let agent = start(&once, &["bob"]).await;
    let batch = trigger(&agent).await;
    completed(&agent, &batch).await;
    let bob = result(&agent, &batch, "bob", "failed").await;
    assert_eq!(bob["attempts"], 1, "{bob}");
}

#[tokio::test]
async fn what_waits_is_skipped_when_its_batch_is_cancelled() {
    let endpoint = Endpoint::default();
    let project = project(&endpoint.serve().await, &json!({}));
    let agent = start(&project, &["ann"]).await;
    let batch = trigger(&agent).await;
    let path = endpoint.path("ann", 1).await;
    result(&agent, &batch, "ann", "waiting").await;
    let cancel = format!("/api/v1/batches/{batch}/cancel");
    agent.call(Method::POST, &cancel, &json!({})).await;
    let ended = completed(&agent, &batch).await;
    assert_eq!(ended["progress"]["skipped"], 1, "{ended}");
    let (status, _) = post(&agent, &format!("{path}/complete"), &json!(1)).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn an_endpoint_whose_202_means_done_gets_no_address() {
    let endpoint = Endpoint::default();
    let project = project(&endpoint.serve().await, &json!({"accepted": "done"}));
    let agent = start(&project, &["ann"]).await;
    let batch = trigger(&agent).await;
    completed(&agent, &batch).await;
    let ann = result(&agent, &batch, "ann", "succeeded").await;
    assert_eq!(ann["result"], json!({"status": 202, "body": 7}));
    assert_eq!(endpoint.0.lock().unwrap()[0].2, None);
}
