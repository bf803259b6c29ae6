//! The handler `nats`: a real server and a worker in Python, with the server and the agent killed in between.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{free_port, until},
    engines::{
        Process, each_tenant_has_its_outcome, installed, lines, printed, start_with,
        until_it_listens, worker,
    },
    failures::{completed, names, trigger},
    project::Project,
};

async fn serve(port: u16, folder: &Path) -> Process {
    let mut command = installed("TEST_NATS_SERVER");
    let port_text = port.to_string();
    command
        .args(["--addr", "127.0.0.1", "--port", &port_text, "--jetstream"])
        .arg("--store_dir")
        .arg(folder);
    let server = Process::start(command);
    until_it_listens(port).await;
    server
}

fn project(port: u16, more: Value) -> Project {
    let mut purpose = json!({"handler": "nats", "servers": [format!("nats://127.0.0.1:{port}")], "completes_within": "1h"});
    let options = purpose.as_object_mut().unwrap();
    options.extend(more.as_object().unwrap().clone());
    let job = json!({"retry_limit": 20, "default_preferences": {"frequency": "daily"}});
    Project::new(purpose, job)
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn each_item_has_one_outcome_though_the_server_and_the_agent_are_killed() {
    let (port, store) = (free_port(), tempfile::tempdir().unwrap());
    let server = serve(port, store.path()).await;
    let project = project(port, json!({}));
    let tenants = [
        names("good", 80),
        names("busy", 5),
        names("idle", 2),
        names("bad", 1),
    ]
    .concat();
    let agent = start_with(&project, &tenants).await;
    let batch = trigger(&agent).await;
    let (url, notes) = (
        format!("nats://127.0.0.1:{port}"),
        project.path().join("notes"),
    );
    let mut working = worker("nats_worker.py");
    working.arg(&url).arg(&notes);
    let _worker = Process::start(working);

    until(|| lines(&notes) >= 15).await;
    server.kill();
    let _server = serve(port, store.path()).await;
    until(|| lines(&notes) >= 35).await;
    agent.kill();
    // The worker goes on: its answers are kept until the next agent reads them.
    until(|| lines(&notes) >= 50).await;
    let mut command = project.command();
    command.arg("run");
    let agent = Agent::start(command);

    let batch = completed(&agent, &batch).await;
    let path = format!(
        "/api/v1/batches/{}/results",
        batch["batch_id"].as_str().unwrap()
    );
    let results = agent.all(&path, "results").await;
    each_tenant_has_its_outcome(&results, &tenants);

    // What is not an answer has been put aside, with the reason, and comes no more.
    let dead = || printed(worker("nats_worker.py").arg(&url));
    until(|| dead().lines().count() >= 4).await;
    let reasons = dead();
    assert!(reasons.contains("missing field `call_id`"), "{reasons}");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_stream_of_another_kind_is_refused_by_name() {
    let (port, store) = (free_port(), tempfile::tempdir().unwrap());
    let _server = serve(port, store.path()).await;
    // The stream of another purpose, which has another subject.
    let other = project(port, json!({"stream": "ITEMS", "subject": "shop.items"}));
    let tenants = names("good", 1);
    let agent = start_with(&other, &tenants).await;
    trigger(&agent).await;
    // The dead subject has a stream once all streams are made.
    until(|| has_dead_subject(port)).await;
    drop(agent);

    let project = project(port, json!({"stream": "ITEMS"}));
    let agent = start_with(&project, &tenants).await;
    let batch = completed(&agent, &trigger(&agent).await).await;
    assert_eq!(batch["progress"]["failed"], 1, "{batch}");
    let letters = agent.all("/api/v1/dead-letters", "dead_letters").await;
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("the stream ITEMS of NATS at 127.0.0.1:")
            && reason.contains("has the subjects shop.items; add punctual.items.write"),
        "{reason}"
    );
}

/// Whether the stream of the dead subject exists.
fn has_dead_subject(port: u16) -> bool {
    let mut command = worker("nats_worker.py");
    let output = command.arg(format!("nats://127.0.0.1:{port}")).output();
    output.unwrap().status.success()
}
