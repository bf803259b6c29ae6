//! What fails for good, and what an operator does about it, on the command line.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time},
    common::serve,
    control::stdout_of,
    project::Project,
};

/// An endpoint that refuses tenants whose name begins with `bad`, until it is mended, and takes its time.
#[derive(Clone, Default)]
pub struct Endpoint {
    pub mended: Arc<AtomicBool>,
    pub takes: Duration,
    pub calls: Arc<Mutex<HashMap<String, u32>>>,
}

impl Endpoint {
    async fn serve(&self) -> String {
        let answer = async |State(endpoint): State<Self>, headers: HeaderMap| {
            tokio::time::sleep(endpoint.takes).await;
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            let bad = key.starts_with("posts/bad") && !endpoint.mended.load(Ordering::SeqCst);
            *endpoint.calls.lock().unwrap().entry(key).or_default() += 1;
            if bad {
                (StatusCode::BAD_REQUEST, "no such customer")
            } else {
                (StatusCode::OK, "done")
            }
        };
        let router = Router::new()
            .route("/", post(answer))
            .with_state(self.clone());
        serve(router).await + "/"
    }
}

pub async fn start(endpoint: &Endpoint, tenants: &[String], mut job: Value) -> (Project, Agent) {
    let purpose = json!({"handler": "webhook", "url": endpoint.serve().await, "allow_private_addresses": true});
    job["default_preferences"] = json!({"frequency": "daily"});
    let project = Project::new(purpose, job);
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "03:00"});
    let tenants = tenants.iter().map(|name| (name.clone(), daily.clone()));
    let mut command = project.command();
    // Nothing falls due meanwhile: what runs is triggered.
    at_time(&mut command, "2026-03-02 12:00:00");
    command
        .env("BATCH_CHUNK_SIZE", "10")
        .env("BATCH_MAX_CONCURRENT_ITEMS", "2");
    let agent = project.run(command, tenants).await;
    (project, agent)
}

pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:03}")).collect()
}

pub async fn trigger(agent: &Agent) -> String {
    let path = "/api/v1/jobs/posts/trigger";
    let queued = agent.call(Method::POST, path, &json!({})).await;
    queued["batch_id"].as_str().unwrap().to_owned()
}

pub async fn completed(agent: &Agent, batch: &str) -> Value {
    let path = format!("/api/v1/batches/{batch}");
    agent
        .until(&path, |batch| !batch["finished_at"].is_null())
        .await
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_failed_for_good_is_listed_run_again_or_let_go() {
    let endpoint = Endpoint::default();
    let tenants = [names("bad", 2), names("good", 3)].concat();
    let (_project, agent) = start(&endpoint, &tenants, json!({})).await;
    let batch = completed(&agent, &trigger(&agent).await).await;
    assert_eq!(
        (
            &batch["progress"]["succeeded"],
            &batch["progress"]["failed"]
        ),
        (&json!(3), &json!(2))
    );
    let list = agent.get("/api/v1/batches").await;
    assert_eq!(list["batches"][0]["trigger"], "manual");

    let shown = stdout_of(&agent, &["dead-letters", "list", "--job", "posts"]);
    assert!(shown.contains("bad000") && shown.contains("bad001") && !shown.contains("good"));
    assert!(
        shown.contains("400 Bad Request: no such customer"),
        "{shown}"
    );
    endpoint.mended.store(true, Ordering::SeqCst);
    let first = agent.get("/api/v1/dead-letters?tenant_id=bad000").await;
    let id = first["dead_letters"][0]["id"].to_string();
    let shown = stdout_of(&agent, &["dead-letters", "replay", &id]);
    assert!(shown.contains("1 dead letter is replayed"), "{shown}");
    let replay = shown.split("batch ").nth(1).unwrap().trim().to_owned();
    let batch = completed(&agent, &replay).await;
    assert_eq!(
        (&batch["trigger"], &batch["progress"]["succeeded"]),
        (&json!("replay"), &json!(1))
    );
    let runs = agent.get("/api/v1/tenants/bad000/runs").await;
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["status"]), (1, &json!("succeeded")));
    let key = first["dead_letters"][0]["occurrence"].as_str().unwrap();
    let calls = endpoint.calls.lock().unwrap()[&format!("posts/bad000/{key}")];
    assert_eq!(calls, 2, "the same key as before");

    let shown = stdout_of(&agent, &["dead-letters", "discard", "--all", "--yes"]);
    assert!(shown.contains("1 dead letter is discarded"), "{shown}");
    assert_eq!(
        stdout_of(&agent, &["dead-letters", "list"]).trim(),
        "No dead letters"
    );
    let all = stdout_of(&agent, &["dead-letters", "list", "--all"]);
    assert!(
        all.contains("replayed") && all.contains("discarded"),
        "{all}"
    );
    let lines = stdout_of(&agent, &["results", "--tenant", "bad001", "--json"]);
    let line: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(line["status"], "failed");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_job_that_fails_massively_is_paused_and_says_so_and_goes_on_when_resumed() {
    let endpoint = Endpoint::default();
    let limit = json!({"failure_limit": {"percent": 50, "at_least": 5}});
    let (_project, agent) = start(&endpoint, &names("bad", 60), limit).await;
    let batch = trigger(&agent).await;
    let job = agent
        .until("/api/v1/jobs/posts", |job| job["paused"] == true)
        .await;
    let because = job["paused_because"].as_str().unwrap();
    assert!(
        because.contains("items of batch") && because.contains("have failed"),
        "{because}"
    );
    let ready = agent.get("/health/ready").await;
    assert!(
        ready["warnings"].to_string().contains("posts is paused"),
        "{ready}"
    );
    let calls = endpoint.calls.lock().unwrap().len();
    assert!((5..=30).contains(&calls), "it went on for {calls} items");
    endpoint.mended.store(true, Ordering::SeqCst);
    stdout_of(&agent, &["resume", "posts"]);
    let batch = completed(&agent, &batch).await;
    let progress = &batch["progress"];
    assert_eq!(progress["processed"], 60, "{batch}");
    assert!(progress["succeeded"].as_u64().unwrap() >= 30, "{batch}");
    assert_eq!(agent.get("/api/v1/jobs/posts").await["paused"], false);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_is_queued_of_a_paused_job_waits() {
    let endpoint = Endpoint::default();
    let (_project, agent) = start(&endpoint, &names("good", 20), json!({})).await;
    stdout_of(&agent, &["pause", "posts"]);
    let batch = trigger(&agent).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let path = format!("/api/v1/batches/{batch}");
    assert_eq!(agent.get(&path).await["status"], "queued");
    // In the words of the pages.
    let listed = stdout_of(&agent, &["batches"]);
    assert!(listed.contains(" paused "), "{listed}");
    assert!(!listed.contains("queued"), "{listed}");
    let jobs = stdout_of(&agent, &["jobs"]);
    assert!(jobs.contains(" paused by "), "{jobs}");
    stdout_of(&agent, &["resume", "posts"]);
    assert_eq!(completed(&agent, &batch).await["progress"]["succeeded"], 20);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_batch_that_is_cancelled_begins_nothing_more() {
    // So slow that the command comes long before the end, also on a busy machine.
    let endpoint = Endpoint {
        takes: Duration::from_millis(200),
        ..Endpoint::default()
    };
    let (_project, agent) = start(&endpoint, &names("good", 200), json!({})).await;
    let batch = trigger(&agent).await;
    let path = format!("/api/v1/batches/{batch}");
    agent
        .until(&path, |batch| {
            batch["progress"]["succeeded"].as_u64() > Some(5)
        })
        .await;
    stdout_of(&agent, &["cancel", &batch, "--yes"]);
    let ended = completed(&agent, &batch).await;
    assert_eq!(
        (&ended["status"], &ended["progress"]["processed"]),
        (&json!("cancelled"), &json!(200))
    );
    let calls = endpoint.calls.lock().unwrap().len();
    assert!(calls < 100, "{calls} were called");
    let skipped = agent
        .all(&format!("{path}/results?status=skipped"), "results")
        .await;
    assert!(!skipped.is_empty() && skipped.iter().all(|result| result["error"] == "cancelled"));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_log_names_a_few_of_many_failed_items() {
    let (_project, agent) = start(&Endpoint::default(), &names("bad", 60), json!({})).await;
    let batch = completed(&agent, &trigger(&agent).await).await;
    assert_eq!(batch["progress"]["failed"], 60);
    // What is logged later is read later, too.
    stdout_of(&agent, &["pause", "posts"]);
    agent.until_logged("Operator paused job posts").await;
    let lines = agent.log();
    let with = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(with("failed for good after"), 10, "{lines:#?}");
    let others = "Leaving out more failed items of posts for a minute";
    assert_eq!(with(others), 1, "{lines:#?}");
}
