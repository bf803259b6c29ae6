//! The handler `temporal`: a real server and a worker in Python, with the server and the agent killed in between.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{free_port, until},
    engines::{
        Process, each_tenant_has_its_outcome, installed, printed, start_with, until_it_listens,
        worker,
    },
    failures::{names, trigger},
    project::Project,
};

async fn serve(port: u16, file: &Path) -> Process {
    let mut command = installed("TEST_TEMPORAL");
    let port_text = port.to_string();
    command
        .args(["server", "start-dev", "--headless", "--ip", "127.0.0.1"])
        .args(["--port", &port_text, "--db-filename"])
        .arg(file);
    let server = Process::start(command);
    until_it_listens(port).await;
    until(|| workflows(port).is_some()).await;
    server
}

/// How many workflows the server has; `None`: it does not answer yet.
fn workflows(port: u16) -> Option<usize> {
    let mut command = worker("temporal_worker.py");
    let address = format!("127.0.0.1:{port}");
    let printed = printed(command.args([address.as_str(), "count"]));
    printed.trim().parse().ok()
}

/// The items of a batch that wait.
fn waiting(batch: &Value) -> Option<u64> {
    let of = |value: &Value| value["waiting"].as_u64();
    of(batch).or_else(|| of(&batch["progress"]))
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn each_item_has_one_outcome_though_the_server_and_the_agent_are_killed() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let file = folder.path().join("temporal.db");
    let server = serve(port, &file).await;
    let address = format!("127.0.0.1:{port}");
    let purpose = json!({"handler": "temporal", "address": address, "task_queue": "reports", "workflow": "Report",
        "completes_within": "1h"});
    let job = json!({"retry_limit": 20, "default_preferences": {"frequency": "daily"}});
    let project = Project::new(purpose, job);
    let tenants = [
        names("good", 24),
        names("busy", 3),
        names("idle", 2),
        names("bad", 1),
    ]
    .concat();
    let all = tenants.len();
    let agent = start_with(&project, &tenants).await;
    let batch = trigger(&agent).await;
    let path = format!("/api/v1/batches/{batch}");
    // No worker runs yet.
    agent
        .until(&path, |batch| waiting(batch) == Some(all as u64))
        .await;
    agent.kill();
    server.kill();
    let server = serve(port, &file).await;

    let mut working = worker("temporal_worker.py");
    working.args([address.as_str(), "work"]);
    let _worker = Process::start(working);
    let mut command = project.command();
    command.arg("run");
    let agent = Agent::start(command);
    agent
        .until(&path, |batch| {
            batch["progress"]["succeeded"].as_u64() >= Some(1)
        })
        .await;
    server.kill();
    let _server = serve(port, &file).await;
    let patience = Duration::from_mins(2);
    agent
        .until_within(patience, &path, |batch| !batch["finished_at"].is_null())
        .await;
    let results = agent.all(&format!("{path}/results"), "results").await;
    each_tenant_has_its_outcome(&results, &tenants);

    // One workflow for each item, and a second one for those that failed once.
    until(|| workflows(port) == Some(all + 3)).await;
}
