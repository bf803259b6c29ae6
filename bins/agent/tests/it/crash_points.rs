//! The process dies at named places, on either store, and what is there afterwards is whole.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    process::Command,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, TEST_TIMEOUT},
    postgres::database,
    project::Project,
};

/// Every named place, apart from those of jobs with two purposes, which `then` has, and of erasures.
const POINTS: [&str; 10] = [
    "enqueue-before-commit",
    "enqueue-after-commit",
    "claim-before-commit",
    "claim-after-commit",
    "results-before-commit",
    "results-after-commit",
    "chunk-after-end",
    "delivery-before-note",
    "replay-before-commit",
    "replay-after-commit",
];
const TENANTS: usize = 60;

struct Bench {
    project: Project,
    store_url: Option<String>,
    due: String,
}

impl Bench {
    fn new(store_url: Option<String>) -> Self {
        // A tenant without a word fails for good.
        let job = json!({"default_preferences": {"frequency": "daily"}, "retry_limit": 0,
            "deliver": [{"file": "../out.ndjson"}]});
        let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
        project.write("templates/t.j2", "{{ word }}");
        let due = Utc::now() - TimeDelta::hours(2);
        Self {
            project,
            store_url,
            due: due.format("%H:%M").to_string(),
        }
    }

    fn command(&self, failpoints: Option<&str>) -> Command {
        let tenant = |n: usize| {
            let mut preference =
                json!({"enabled": true, "frequency": "daily", "preferred_time": self.due});
            if n > 0 {
                preference["template_overrides"] = json!({"word": format!("w{n}")});
            }
            (format!("t{n:02}"), preference)
        };
        let preferences = self.project.preferences((0..TENANTS).map(tenant));
        let mut command = self.project.command();
        command.env("BATCH_CHUNK_SIZE", "20");
        if let Some(url) = &self.store_url {
            command.env("BATCH_STORE_URL", url);
        }
        if let Some(failpoints) = failpoints {
            command.env("FAILPOINTS", failpoints);
        }
        command
            .args(["run", "--look-back", "24h", "--import"])
            .arg(preferences);
        command
    }

    /// Every tenant has one run; one of them failed unless it was replayed.
    async fn assert_whole(&self, agent: &Agent, point: &str) {
        let over = |list: &Value| {
            let batches = list["batches"].as_array().unwrap();
            !batches.is_empty() && batches.iter().all(|batch| !batch["finished_at"].is_null())
        };
        let list = agent.until("/api/v1/batches", over).await;
        let mut statuses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for batch in list["batches"].as_array().unwrap() {
            let progress = &batch["progress"];
            assert_eq!(progress["processed"], progress["total"], "{point}: {batch}");
            let path = format!(
                "/api/v1/batches/{}/results",
                batch["batch_id"].as_str().unwrap()
            );
            for result in agent.all(&path, "results").await {
                let word = |field: &str| result[field].as_str().unwrap().to_owned();
                statuses
                    .entry(word("tenant_id"))
                    .or_default()
                    .push(word("status"));
            }
        }
        assert_eq!(statuses.len(), TENANTS, "{point}");
        for (tenant, statuses) in &statuses {
            let expected = if tenant == "t00" {
                "failed"
            } else {
                "succeeded"
            };
            assert_eq!(statuses, &[expected], "{point}: {tenant}");
        }
        let letters = agent.get("/api/v1/dead-letters?state=open").await;
        assert_eq!(
            letters["dead_letters"].as_array().unwrap().len(),
            1,
            "{point}"
        );
    }

    /// Everything that ran was delivered.
    async fn assert_delivered(&self, point: &str) {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.project.path().join("out.ndjson"));
            let mut tenants: Vec<String> = text
                .unwrap_or_default()
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .map(|line| line["tenant_id"].as_str().unwrap().to_owned())
                .collect();
            tenants.sort();
            tenants.dedup();
            if tenants.len() == TENANTS {
                return;
            }
            // What died with the process is taken again when its lease has run out.
            if point == "delivery-before-note" {
                assert_eq!(tenants.len(), TENANTS, "it died after it was sent");
            }
            assert!(
                began.elapsed() < TEST_TIMEOUT,
                "{point}: {} delivered",
                tenants.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn dies_at(point: &str, store_url: Option<String>) {
    let bench = Bench::new(store_url);
    let dies = bench.command(Some(&format!("{point}=1*return")));
    let agent = if point.starts_with("replay") {
        let agent = Agent::start(dies);
        bench.assert_whole(&agent, point).await;
        // A delivery that dies with the process is taken again only after its lease.
        bench.assert_delivered(point).await;
        let replay = format!("{}/api/v1/dead-letters/replay", agent.api());
        let replay = reqwest::Client::new().post(replay);
        let _ = replay.body(r#"{"all": true}"#).send().await;
        agent
    } else {
        Agent::spawn(dies)
    };
    let status = agent.ended().await;
    assert_eq!(status.signal(), Some(6), "it dies at {point}: {status}");
    let agent = Agent::start(bench.command(None));
    if point == "replay-after-commit" {
        let failed_again = |list: &Value| {
            let letters = list["dead_letters"].as_array().unwrap();
            letters.len() == 2 && letters[0]["state"] == "open"
        };
        agent.until("/api/v1/dead-letters", failed_again).await;
    } else {
        bench.assert_whole(&agent, point).await;
    }
    bench.assert_delivered(point).await;
    assert!(agent.terminate().success());
}

async fn dies_at_every_point(store_url: impl AsyncFn() -> Option<String>) {
    // Most of the time an agent waits until the one that died counts as dead: several do at once.
    let store_url = &store_url;
    let dies = |point: &'static str| async move { dies_at(point, store_url().await).await };
    stream::iter(POINTS).for_each_concurrent(4, dies).await;
}

/// An erasure that was interrupted is asked for again, and all others are as they were.
async fn dies_amid_an_erasure(store_url: impl AsyncFn() -> Option<String>) {
    for point in ["erase-before-commit", "erase-after-commit"] {
        let bench = Bench::new(store_url().await);
        let agent = Agent::start(bench.command(Some(&format!("{point}=1*return"))));
        bench.assert_whole(&agent, point).await;
        let erase = format!("{}/api/v1/tenants/t05", agent.api());
        let erased = reqwest::Client::new().delete(erase).send().await;
        assert!(erased.is_err(), "{point}: the agent has died");
        assert_eq!(agent.ended().await.signal(), Some(6), "it dies at {point}");
        let agent = Agent::start(bench.command(None));
        let none = json!({});
        agent
            .call(Method::DELETE, "/api/v1/tenants/t05", &none)
            .await;
        let export = agent.get("/api/v1/tenants/t05/export").await;
        let lists = export.as_object().unwrap();
        assert!(lists.values().all(|list| *list == json!([])), "{export}");
        let mut left = 0;
        for batch in agent.all("/api/v1/batches", "batches").await {
            let progress = &batch["progress"];
            assert_eq!(progress["processed"], progress["total"], "{point}: {batch}");
            let id = batch["batch_id"].as_str().unwrap();
            let results = format!("/api/v1/batches/{id}/results");
            left += agent.all(&results, "results").await.len();
        }
        assert_eq!(left, TENANTS - 1, "{point}");
        assert!(agent.terminate().success());
    }
}

#[tokio::test]
async fn a_file_is_whole_after_death_amid_an_erasure() {
    dies_amid_an_erasure(async || None).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn postgresql_is_whole_after_death_amid_an_erasure() {
    dies_amid_an_erasure(async || Some(database().await)).await;
}

#[tokio::test]
async fn sqlite_is_whole_after_death_at_every_point() {
    dies_at_every_point(async || None).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn postgresql_is_whole_after_death_at_every_point() {
    dies_at_every_point(async || Some(database().await)).await;
}

/// An item that ends the process whenever it runs: twice beside others, twice alone, and then it has failed.
async fn a_deadly_item_is_found(store_url: Option<String>) {
    let bench = Bench::new(store_url);
    // Results are stored slowly: until they are, their items must not come under suspicion.
    let deadly = "run-t33=return;results-before-commit=sleep(100)";
    let mut deaths = 0;
    let agent = loop {
        let agent = Agent::start(bench.command(Some(deadly)));
        let began = Instant::now();
        let mut agent = Some(agent);
        let over = loop {
            let letters = match &agent {
                Some(agent) => agent.try_get("/api/v1/dead-letters?tenant_id=t33").await,
                None => break false,
            };
            match letters {
                Some(letters) if letters["dead_letters"].as_array().unwrap().len() == 1 => {
                    break true;
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                None => {
                    let status = agent.take().unwrap().ended().await;
                    assert_eq!(status.signal(), Some(6));
                }
            }
            assert!(began.elapsed() < TEST_TIMEOUT);
        };
        if over && let Some(agent) = agent {
            break agent;
        }
        deaths += 1;
        assert!(deaths <= 4, "it goes on for ever");
    };
    assert_eq!(deaths, 4);
    let finished = |list: &Value| {
        let batches = list["batches"].as_array().unwrap();
        !batches.is_empty() && batches.iter().all(|batch| !batch["finished_at"].is_null())
    };
    let list = agent.until("/api/v1/batches", finished).await;
    let progress = &list["batches"][0]["progress"];
    // The one without a word failed as well; everybody else has a result.
    assert_eq!(
        (&progress["succeeded"], &progress["failed"]),
        (&json!(58), &json!(2)),
        "{}",
        agent.get("/api/v1/dead-letters").await
    );
    let letters = agent.get("/api/v1/dead-letters?tenant_id=t33").await;
    let reason = letters["dead_letters"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the process crashed each time"), "{reason}");
}

#[tokio::test]
async fn an_item_that_ends_the_process_is_found_on_sqlite() {
    a_deadly_item_is_found(None).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_item_that_ends_the_process_is_found_on_postgresql() {
    a_deadly_item_is_found(Some(database().await)).await;
}
