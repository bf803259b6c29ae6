//! Several agents on one `PostgreSQL`: one fires, all work, and what one of them leaves behind the others end.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    agent::{Agent, TEST_TIMEOUT},
    common::daily,
    counting::Counting,
    failures,
    postgres::database,
    project::Project,
};

/// A Config Database that outlives the agents, and a project whose items take `takes` at the endpoint.
struct Bench {
    project: Project,
    config_url: String,
    store_url: String,
    endpoint: Counting,
}

impl Bench {
    async fn new(tenants: usize, takes: Duration) -> Self {
        let endpoint = Counting::default();
        let purpose = json!({"handler": "webhook", "url": endpoint.serve(takes).await,
            "allow_private_addresses": true});
        let job = json!({"default_preferences": {"frequency": "daily"}});
        let project = Project::new(purpose, job);
        let tenant = |n| (format!("t{n:04}"), daily());
        let preferences = project.preferences((0..tenants).map(tenant));
        let config_url = project.serve(&preferences).await;
        Self {
            project,
            config_url,
            store_url: database().await,
            endpoint,
        }
    }

    async fn agent(&self, name: &str, tenants: usize) -> Agent {
        let mut command = self.project.command();
        command
            .env("CONFIG_SERVICE_URL", &self.config_url)
            .env(
                "CONFIG_LAST_KNOWN_GOOD_PATH",
                self.project.path().join(name),
            )
            .env("BATCH_STORE_URL", &self.store_url)
            .env("BATCH_CHUNK_SIZE", "10")
            .env("BATCH_MAX_CONCURRENT_ITEMS", "5");
        let agent = Agent::start(command);
        agent
            .until("/api/v1/jobs/posts", |job| job["tenants"] == tenants)
            .await;
        agent
    }
}

/// Triggers the job. Returns the path of the batch.
async fn trigger(agent: &Agent) -> String {
    format!("/api/v1/batches/{}", failures::trigger(agent).await)
}

fn processed(batch: &Value) -> u64 {
    batch["progress"]["processed"].as_u64().unwrap()
}

fn signal(agent: &Agent, name: &str) {
    let pid = agent.pid().to_string();
    let status = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(status.success());
}

/// Waits until two processes hold work.
async fn until_both_work(agent: &Agent) {
    let began = Instant::now();
    loop {
        let page = reqwest::get(format!("{}/replicas", agent.api())).await;
        let page = page.unwrap().text().await.unwrap();
        if page.matches("data-label=\"Oldest claim\"").count() == 2 {
            return;
        }
        assert!(began.elapsed() < TEST_TIMEOUT, "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every tenant has one result of the batch, and it is a success.
async fn assert_all_once(agent: &Agent, path: &str, tenants: usize) {
    let results = agent.all(&format!("{path}/results"), "results").await;
    let mut ids: Vec<&str> = results
        .iter()
        .map(|result| {
            assert_eq!(result["status"], "succeeded", "{result}");
            result["tenant_id"].as_str().unwrap()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), results.len()), (tenants, tenants));
    let batch = agent.get(path).await;
    assert_eq!(batch["progress"]["succeeded"], tenants, "{batch}");
}

async fn leads(agent: &Agent) -> bool {
    agent.metric("punctual_leads").await == Some(1.0)
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_replica_that_stops_answering_is_replaced_and_commits_nothing_when_it_wakes() {
    let bench = Bench::new(200, Duration::from_millis(200)).await;
    let (a, b) = (bench.agent("a", 200).await, bench.agent("b", 200).await);
    let path = trigger(&a).await;
    until_both_work(&a).await;
    signal(&b, "-STOP");
    let began = Instant::now();
    a.until(&path, |batch| batch["status"] == "completed").await;
    let taken_over = began.elapsed();
    assert!(taken_over < Duration::from_secs(30), "{taken_over:?}");
    signal(&b, "-CONT");
    b.until_logged("another worker has claimed it").await;
    assert_all_once(&a, &path, 200).await;
    let (occurrences, more) = bench.endpoint.counts();
    assert_eq!(occurrences, 200);
    assert!(
        more <= 45,
        "only what was in its hands was called twice: {more}"
    );

    // It goes on as before.
    let path = trigger(&b).await;
    b.until(&path, |batch| batch["status"] == "completed").await;
    assert_all_once(&b, &path, 200).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_replica_that_is_killed_leaves_nothing_undone_and_another_one_fires() {
    let bench = Bench::new(200, Duration::from_millis(100)).await;
    let (a, b) = (bench.agent("a", 200).await, bench.agent("b", 200).await);
    let (first, second) = if leads(&a).await { (a, b) } else { (b, a) };
    assert!(leads(&first).await && !leads(&second).await, "one fires");
    let planned = "punctual_planned_timestamp_seconds";
    assert!(first.metric(planned).await.is_some());
    assert_eq!(second.metric(planned).await, None, "it plans nothing");
    let path = trigger(&second).await;
    second.until(&path, |batch| processed(batch) >= 20).await;
    first.kill();
    second
        .until(&path, |batch| batch["status"] == "completed")
        .await;
    assert_all_once(&second, &path, 200).await;
    let began = Instant::now();
    while !leads(&second).await {
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "no replica became leader"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One that ends as it should lets the next one fire at once, and loses nothing.
    let third = bench.agent("c", 200).await;
    let path = trigger(&third).await;
    third.until(&path, |batch| processed(batch) >= 20).await;
    let began = Instant::now();
    assert!(second.terminate().success());
    while !leads(&third).await {
        assert!(
            began.elapsed() < Duration::from_secs(7),
            "it waits for the end of the lease, which was at most three of its ten seconds old"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    third
        .until(&path, |batch| batch["status"] == "completed")
        .await;
    assert_all_once(&third, &path, 200).await;
}
