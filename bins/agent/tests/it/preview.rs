//! `preview --render`: what a run would send, beside what it sends.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, body::Bytes, extract::State, http::HeaderMap};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{daily_with, serve},
    control::{ask, refuses, stdout_of},
    project::Project,
};

/// A webhook that keeps what it was called with.
#[derive(Clone, Default)]
pub struct Hook(Arc<Mutex<Vec<(HeaderMap, Value)>>>);

impl Hook {
    pub async fn serve(&self) -> String {
        let answer = async |State(hook): State<Self>, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap();
            hook.0.lock().unwrap().push((headers, body));
            Json(json!({"taken": true}))
        };
        let router = Router::new().fallback(answer).with_state(self.clone());
        serve(router).await + "/?token=canary"
    }

    pub fn calls(&self) -> Vec<(HeaderMap, Value)> {
        self.0.lock().unwrap().clone()
    }
}

/// An agent with Ann, who is on, and with one tenant who is off.
async fn start(project: &Project) -> Agent {
    let preference = |enabled: bool| {
        let mut preference = daily_with(&json!({"tone": "dry"}));
        preference["enabled"] = json!(enabled);
        preference
    };
    let tenants = [("ann", true), ("off", false)];
    let tenants = tenants.map(|(tenant, enabled)| (tenant.to_owned(), preference(enabled)));
    project.run(project.command(), tenants).await
}

fn words(tenant: &str) -> [&str; 6] {
    ["preview", "--tenant", tenant, "--job", "posts", "--render"]
}

async fn nothing_is_kept(agent: &Agent) {
    for (path, list) in [
        ("/api/v1/batches", "batches"),
        ("/api/v1/dead-letters", "dead_letters"),
        ("/api/v1/tenants/ann/runs", "runs"),
        ("/api/v1/deliveries", "deliveries"),
        ("/api/v1/audit-log", "entries"),
    ] {
        assert_eq!(agent.get(path).await[list], json!([]), "{path}");
    }
}

#[tokio::test]
async fn what_a_run_would_send_is_shown_and_nothing_is_kept() {
    let hook = Hook::default();
    let url = hook.serve().await;
    let purpose = json!({"handler": "webhook", "url": url, "allow_private_addresses": true});
    let project = Project::new(purpose, json!({}));
    let agent = start(&project).await;

    let shown = stdout_of(&agent, &[&words("ann")[..], &["--json"]].concat());
    let preview: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(preview["status"], "rendered", "{preview}");
    assert!(!shown.contains("canary"), "{shown}");
    let shown = stdout_of(&agent, &words("ann"));
    assert!(
        shown.contains("would be sent now") && shown.contains("\"tone\": \"dry\""),
        "{shown}"
    );
    let shown = stdout_of(&agent, &words("off"));
    assert!(shown.contains("preference is off"), "{shown}");
    let shown = stdout_of(&agent, &words("stranger"));
    assert!(shown.contains("stored no preference"), "{shown}");
    let of_none = ["preview", "--tenant", "ann", "--job", "none", "--render"];
    refuses(&agent, &of_none, "job `none` does not exist");
    refuses(&agent, &words("ann")[..5], "--render");
    assert_eq!(hook.calls().len(), 0);
    nothing_is_kept(&agent).await;

    let path = "/api/v1/jobs/posts/preview";
    let call = json!({"tenant_id": "ann", "call": true});
    let called = agent.call(Method::POST, path, &call).await;
    assert_eq!(called["status"], "called", "{called}");
    let answer = json!({"status": 200, "body": {"taken": true}});
    assert_eq!(called["answer"], answer);
    let log = agent.get("/api/v1/audit-log").await;
    assert_eq!(log["entries"][0]["action"], "preview", "{log}");
    assert_eq!(agent.get("/api/v1/batches").await["batches"], json!([]));

    let run = json!({"tenants": ["ann"]});
    let run = agent
        .call(Method::POST, "/api/v1/jobs/posts/trigger", &run)
        .await;
    let batch = format!("/api/v1/batches/{}", run["batch_id"].as_str().unwrap());
    agent
        .until(&batch, |batch| batch["status"] == "completed")
        .await;
    let calls = hook.calls();
    let [(dry, dry_body), (real, body)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!(dry["punctual-dry-run"], "1");
    assert!(!real.contains_key("punctual-dry-run"));
    assert_ne!(dry["idempotency-key"], real["idempotency-key"]);
    // Each run has ids and a time of its own.
    let same = |body: &Value| {
        let mut body = body.clone();
        for own in ["batch_id", "occurrence", "scheduled_at"] {
            body.as_object_mut().unwrap().remove(own);
        }
        body
    };
    assert_eq!(same(dry_body), same(body));
    assert_eq!(same(&preview["content"]["body"]), same(body));
}

#[tokio::test]
async fn a_template_is_rendered_as_in_a_run_and_a_failure_ends_with_one() {
    let purpose = json!({"handler": "template", "template": "t.j2"});
    let project = Project::new(purpose, json!({}));
    let template = "A {{ tone }} hello{% if item.tenant_id == 'off' %}{{ colour }}{% endif %}";
    project.write("templates/t.j2", template);
    let agent = start(&project).await;
    let shown = stdout_of(&agent, &words("ann"));
    assert!(shown.contains("A dry hello"), "{shown}");
    let failed = ask(&agent, &words("off"));
    assert_eq!(failed.status.code(), Some(1));
    let shown = String::from_utf8(failed.stdout).unwrap();
    assert!(
        shown.contains("the run would fail") && shown.contains("`colour` is undefined"),
        "{shown}"
    );
    nothing_is_kept(&agent).await;
}

#[tokio::test]
async fn the_second_purpose_is_shown_with_the_text_of_the_first() {
    let hook = Hook::default();
    let url = hook.serve().await;
    let write = json!({"handler": "template", "template": "t.j2"});
    let send = json!({"handler": "webhook", "url": url, "allow_private_addresses": true});
    let project = Project::new(write.clone(), json!({"then": "send"}));
    project.write("templates/t.j2", "A {{ tone }} hello");
    let purposes = json!({"purposes": {"write": write, "send": send}});
    project.write("batch/purposes.json", &purposes.to_string());
    let agent = start(&project).await;
    let shown = stdout_of(&agent, &[&words("ann")[..], &["--json"]].concat());
    let preview: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(preview["content"]["text"], "A dry hello", "{preview}");
    let then = &preview["then"];
    assert_eq!(then["status"], "rendered", "{preview}");
    let written = json!({"text": "A dry hello"});
    assert_eq!(then["content"]["body"]["written"], written);
    let shown = stdout_of(&agent, &words("ann"));
    assert!(shown.contains("Then send"), "{shown}");
    assert_eq!(hook.calls().len(), 0);
    nothing_is_kept(&agent).await;
}
