//! kill -9 in mid-batch: every user's result is there once, after however many kills.

use std::{collections::HashMap, path::Path, process::Command};

use serde_json::Value;

use crate::agent::{Agent, TEST_TIMEOUT, command, without_shop};

async fn processed(agent: &Agent) -> u64 {
    let batches = agent.all("/api/v1/batches", "batches").await;
    batches
        .iter()
        .map(|batch| batch["progress"]["processed"].as_u64().unwrap())
        .sum()
}

/// An agent of the sample users that makes up for a day, with so many items at once.
fn making_up_a_day(folder: &Path, concurrent: &str) -> Command {
    let mut command = command(folder);
    without_shop(&mut command, folder);
    command
        .args(["run", "--import", "data/preferences/sample.ndjson"])
        .args(["--look-back", "24h"])
        .env("BATCH_MAX_CONCURRENT_ITEMS", concurrent);
    command
}

#[tokio::test]
async fn every_result_is_there_once_after_kill_9_in_mid_batch() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = making_up_a_day(folder.path(), "2");
        command.env("BATCH_CHUNK_SIZE", "100");
        Agent::start(command)
    };

    let mut kills = 0;
    for threshold in [100, 600, 1200] {
        let agent = start();
        let began = std::time::Instant::now();
        while processed(&agent).await < threshold {
            assert!(began.elapsed() < TEST_TIMEOUT, "{}", agent.log().join("\n"));
        }
        agent.kill();
        kills += 1;
    }

    let agent = start();
    let all_done = |list: &Value| {
        let batches = list["batches"].as_array().unwrap();
        !batches.is_empty() && batches.iter().all(|batch| batch["status"] == "completed")
    };
    let list = agent.until("/api/v1/batches?limit=1000", all_done).await;
    let mut seen: HashMap<(String, String, String), u32> = HashMap::new();
    let mut total = 0;
    for batch in list["batches"].as_array().unwrap() {
        let progress = &batch["progress"];
        assert_eq!(progress["succeeded"], progress["total"], "{batch}");
        total += progress["total"].as_u64().unwrap();
        let path = format!(
            "/api/v1/batches/{}/results",
            batch["batch_id"].as_str().unwrap()
        );
        for run in agent.all(&path, "results").await {
            assert_eq!(run["status"], "succeeded");
            assert!(!run["result"]["text"].as_str().unwrap().is_empty());
            let word = |field: &str| run[field].as_str().unwrap().to_owned();
            *seen
                .entry((word("job_id"), word("tenant_id"), word("occurrence")))
                .or_default() += 1;
        }
    }
    assert_eq!(kills, 3);
    assert!(
        total > 2000,
        "the sample has 2,000 tenants who run every day, and {total} ran"
    );
    assert_eq!(
        seen.len() as u64,
        total,
        "every item of every batch has its result"
    );
    assert!(seen.values().all(|count| *count == 1));
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn sigterm_in_mid_batch_ends_in_time_and_the_rest_runs_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = |concurrent| Agent::start(making_up_a_day(folder.path(), concurrent));
    let agent = start("1");
    let began = std::time::Instant::now();
    while processed(&agent).await < 50 {
        assert!(began.elapsed() < TEST_TIMEOUT);
    }
    // A drain ends with the items that were running, well before its deadline.
    let soon = std::time::Duration::from_secs(15);
    assert!(agent.terminate_within(soon).success());

    let agent = start("25");
    agent
        .until("/api/v1/batches?limit=1000", |list| {
            let batches = list["batches"].as_array().unwrap();
            !batches.is_empty()
                && batches
                    .iter()
                    .all(|b| b["progress"]["succeeded"] == b["progress"]["total"])
        })
        .await;
}
