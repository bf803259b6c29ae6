//! Runs that are prepared ahead, over a crash of the agent.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, body::Bytes, extract::State, http::HeaderMap};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time},
    common::{serve, until_beside},
    control::stdout_of,
    project::Project,
};

/// The idempotency keys of the calls so far.
type Keys = Arc<Mutex<Vec<String>>>;

/// An endpoint that answers with the tone that it is asked for.
async fn answer(State(keys): State<Keys>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    keys.lock().unwrap().push(key);
    Json(json!({"tone": body["preference"]["template_overrides"]["tone"]}))
}

fn of_tenant(keys: &Keys, tenant: &str) -> Vec<String> {
    let mut keys = keys.lock().unwrap().clone();
    keys.retain(|key| key.starts_with(&format!("posts/{tenant}/")));
    keys
}

fn preference(enabled: bool, tone: &str) -> Value {
    json!({"enabled": enabled, "frequency": "daily", "preferred_time": "09:00",
        "template_overrides": {"tone": tone}})
}

async fn store(agent: &Agent, tenant: &str, preference: Value) {
    let path = format!("tenants/{tenant}/configs/feature_preferences");
    let body = json!({"config_value": {"posts": preference}});
    agent.config(Method::PUT, &path, &body).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_run_delivers_what_was_prepared_before_a_crash_and_an_edit_prepares_again() {
    let keys = Keys::default();
    let url = serve(Router::new().fallback(answer).with_state(keys.clone())).await;
    let webhook = json!({"handler": "webhook", "url": url, "allow_private_addresses": true});
    let project = Project::new(webhook, json!({"prepare_ahead": "1h"}));
    let tenants = ["kept", "edited", "off"];
    let preferences = tenants.map(|tenant| (tenant.to_owned(), preference(true, "dry")));
    let preferences = project.preferences(preferences.into_iter());
    let mut command = project.command();
    command.args(["run", "--import"]).arg(preferences);
    at_time(&mut command, "2026-03-02 08:59:10");
    let agent = Agent::start(command);
    let prepared = |batches: &Value| {
        let batches = batches["batches"].as_array().unwrap();
        let is_over =
            |batch: &Value| batch["trigger"] == "prepare" && batch["status"] == "completed";
        batches.iter().any(is_over)
    };
    agent.until("/api/v1/batches", prepared).await;
    let listed = stdout_of(&agent, &["batches"]);
    assert!(listed.contains("prepared ahead"), "{listed}");
    for tenant in tenants {
        let runs = agent.get(&format!("/api/v1/tenants/{tenant}/runs")).await;
        assert_eq!(runs["runs"], json!([]), "nothing has run for {tenant}");
    }
    agent.kill();

    let start = |time: &str| {
        let mut command = project.command();
        command.arg("run");
        at_time(&mut command, &format!("2026-03-02 {time}"));
        Agent::start(command)
    };
    let agent = start("08:59:20");
    store(&agent, "edited", preference(true, "warm")).await;
    store(&agent, "off", preference(false, "dry")).await;
    until_beside(&agent, || of_tenant(&keys, "edited").len() == 2).await;
    // What it has begun to prepare is kept.
    assert!(agent.terminate().success());

    let agent = start("08:59:57");
    for (tenant, tone) in [("kept", "dry"), ("edited", "warm")] {
        let path = format!("/api/v1/tenants/{tenant}/runs");
        let runs = agent
            .until(&path, |runs| runs["runs"][0]["status"] == "succeeded")
            .await;
        let run = &runs["runs"][0];
        assert_eq!(run["occurrence"], "2026-03-02");
        let output = json!({"status": 200, "body": {"tone": tone}});
        assert_eq!(run["result"], output, "{tenant}");
        let started_at = run["started_at"].as_str().unwrap();
        assert!(started_at.starts_with("2026-03-02T09:00:"), "{started_at}");
    }
    let runs = agent.get("/api/v1/tenants/off/runs").await;
    assert_eq!(runs["runs"], json!([]));
    assert_eq!(of_tenant(&keys, "kept").len(), 1, "{keys:?}");
    assert_eq!(of_tenant(&keys, "off").len(), 1, "{keys:?}");
    let edited = of_tenant(&keys, "edited");
    assert_eq!(edited.len(), 2, "{keys:?}");
    assert_ne!(edited[0], edited[1]);
    for key in &*keys.lock().unwrap() {
        assert!(key.contains("/2026-03-02/prepare/"), "{key}");
    }
}
