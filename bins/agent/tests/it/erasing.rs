//! A tenant that is erased at the Config Database is erased in the agent's store as well, also by an agent that was down then.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{agent::Agent, common::daily, preview::Hook, project::Project};

const EXPORT: &str = "/api/v1/tenants/ann/export";

async fn project() -> Project {
    let hook = Hook::default();
    let purpose =
        json!({"handler": "webhook", "url": hook.serve().await, "allow_private_addresses": true});
    Project::new(purpose, json!({}))
}

/// Runs the job for Ann and Bob, and waits until it is done.
async fn run(agent: &Agent) {
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 2)
        .await;
    let run = agent
        .call(
            Method::POST,
            "/api/v1/jobs/posts/trigger",
            &json!({"tenants": ["ann", "bob"]}),
        )
        .await;
    let batch = format!("/api/v1/batches/{}", run["batch_id"].as_str().unwrap());
    agent
        .until(&batch, |batch| batch["status"] == "completed")
        .await;
    assert!(!is_empty(&agent.get(EXPORT).await));
}

fn is_empty(export: &Value) -> bool {
    let mut lists = export.as_object().unwrap().values();
    lists.all(|list| list.as_array().is_some_and(Vec::is_empty))
}

/// What is held of Bob is what was held of him before.
async fn bob_has_run(agent: &Agent) {
    let runs = agent.get("/api/v1/tenants/bob/runs").await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
}

fn preferences(project: &Project) -> std::path::PathBuf {
    let tenants = ["ann", "bob"].map(|tenant| (tenant.to_owned(), daily()));
    project.preferences(tenants.into_iter())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_config_database_erases_leaves_the_agents_store() {
    let project = project().await;
    let mut command = project.command();
    command.args(["run", "--import"]).arg(preferences(&project));
    let agent = Agent::start(command);
    run(&agent).await;
    let erase = agent.config_request(Method::DELETE, "tenants/ann");
    let erase = erase.header("Punctual-Reason", "request of the person");
    let erased = erase.send().await.unwrap();
    assert!(erased.status().is_success());
    let erased: Value = erased.json().await.unwrap();
    assert_eq!(erased["configurations"], 1);
    agent.until(EXPORT, is_empty).await;
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 1)
        .await;
    bob_has_run(&agent).await;
    let hash = erased["tenant_hash"].as_str().unwrap();
    agent.until_logged(hash).await;
    let done = agent
        .metric("punctual_tenant_erasures_total{outcome=\"done\"}")
        .await;
    assert!(done.is_some_and(|done| done >= 1.0), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_killed_before_the_erasure_makes_it_up_when_it_starts() {
    let project = project().await;
    let url = project.serve(&preferences(&project)).await;
    let start = || {
        let mut command = project.command();
        command.env("CONFIG_SERVICE_URL", &url).arg("run");
        Agent::start(command)
    };
    let agent = start();
    run(&agent).await;
    drop(agent);
    let erase = Client::new().delete(format!("{url}/api/v1/tenants/ann"));
    let erase = erase.header("Punctual-Reason", "asked");
    let erased = erase.send().await.unwrap();
    assert!(erased.status().is_success());
    let agent = start();
    agent.until(EXPORT, is_empty).await;
    bob_has_run(&agent).await;
    // It forgets in the folder after it has erased in the store, and says then that it has.
    agent.until_logged("as the Config Database has").await;
    assert!(agent.terminate().success());
    let known = project.path().join("known");
    for entry in std::fs::read_dir(known).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("\"ann\""));
    }
}
