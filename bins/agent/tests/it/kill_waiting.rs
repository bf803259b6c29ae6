//! kill -9 again and again while items wait, on either store: a worker completes them over HTTP all the time, and tries again
//! where it is refused. Nothing is lost, nothing ends twice. `KILLS=200 OCCURRENCES=50000` makes it long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    agent::{Agent, TEST_TIMEOUT},
    common::{daily, free_port, serve},
    failures::trigger,
    postgres::database,
    project::Project,
    soak::number,
};

/// A worker that is answered that a call does not wait tries again after this time.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(8);
const ATTEMPTS: u32 = 3;
/// So many completions are under way at one time, of which an agent holds up a hundred that do not wait.
const AT_ONCE: usize = 400;

/// What a worker has been called for, and what it was answered.
#[derive(Default)]
struct Log {
    /// Calls by idempotency key.
    calls: HashMap<String, u32>,
    /// Completions that were taken, by idempotency key.
    taken: HashMap<String, u32>,
    /// Answers that it cannot explain.
    unexpected: Vec<String>,
}

/// Takes work on, answers 202, and completes it a while later. Now and then it loses the first call for an item, or completes
/// it twice.
#[derive(Clone)]
struct Worker {
    log: Arc<Mutex<Log>>,
    http: Client,
    places: Arc<Semaphore>,
}

impl Worker {
    fn new() -> Self {
        Self {
            log: Arc::default(),
            http: Client::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Starts it; returns its URL.
    async fn serve(&self) -> String {
        let worker = self.clone();
        let answer = async move |headers: HeaderMap| {
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            worker.take_on(header("idempotency-key"), header("punctual-completion-url"));
            StatusCode::ACCEPTED
        };
        serve(Router::new().route("/", post(answer))).await + "/"
    }

    fn take_on(&self, key: String, url: String) {
        let number = {
            let mut log = self.log.lock().unwrap();
            let calls = log.calls.entry(key.clone()).or_default();
            *calls += 1;
            *calls
        };
        if number > 1 || fastrand::u8(..100) > 0 {
            tokio::spawn(self.clone().work(number, key, url));
        }
    }

    /// Does the work of the call of this number for an item.
    async fn work(self, number: u32, key: String, url: String) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..4_000))).await;
        let (url, body) = (format!("{url}/complete"), json!({ "key": key }));
        for _ in 0..ATTEMPTS {
            match self.complete(&url, &body).await {
                StatusCode::OK => {
                    self.note_taken(&key);
                    let is_repeated = fastrand::u8(..50) == 0;
                    if is_repeated && self.complete(&url, &body).await == StatusCode::OK {
                        self.note_taken(&key);
                    }
                    return;
                }
                StatusCode::CONFLICT => {}
                status => {
                    let what = format!("{key}: {status}");
                    self.log.lock().unwrap().unexpected.push(what);
                    return;
                }
            }
            // The worker is faster than the agent, the answer of an earlier attempt is lost, or the agent was killed before it
            // had stored the call: then another call takes its place.
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            if self.log.lock().unwrap().calls[&key] > number {
                return;
            }
        }
    }

    fn note_taken(&self, key: &str) {
        let mut log = self.log.lock().unwrap();
        *log.taken.entry(key.to_owned()).or_default() += 1;
    }

    /// Completes a call. Tries again until an agent answers that can.
    async fn complete(&self, url: &str, body: &Value) -> StatusCode {
        loop {
            let answer = {
                let _place = self.places.acquire().await.unwrap();
                let call = self.http.post(url).body(body.to_string());
                call.send().await.map(|answer| answer.status())
            };
            match answer {
                Ok(status)
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    return status;
                }
                _ => tokio::time::sleep(Duration::from_millis(fastrand::u64(100..500))).await,
            }
        }
    }

    /// Items whose completion was taken.
    fn completed(&self) -> usize {
        self.log.lock().unwrap().taken.len()
    }
}

async fn killed_while_items_wait(store: &str, store_url: Option<String>) {
    let (kills, occurrences) = (number("KILLS", 20), number("OCCURRENCES", 5_000));
    let worker = Worker::new();
    let purpose = json!({"handler": "webhook", "url": worker.serve().await, "allow_private_addresses": true,
        "completes_within": "30s"});
    let job = json!({"default_preferences": {"frequency": "daily"}, "retry_limit": 20});
    let project = Project::new(purpose, job);
    let tenant = |n| (format!("t{n:06}"), daily());
    let preferences = project.preferences((0..occurrences).map(tenant));
    let address = format!("127.0.0.1:{}", free_port());
    let start = |import: bool| {
        let preferences = import.then_some(preferences.as_path());
        let mut command = project.run_in(store_url.as_deref(), preferences);
        command.env("BATCH_HTTP_ADDR", &address);
        Agent::start(command)
    };
    let mut agent = start(true);
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == occurrences)
        .await;
    let path = format!("/api/v1/batches/{}", trigger(&agent).await);
    let mut random = fastrand::Rng::with_seed(7);
    for killed in 0..kills {
        // After a share of what is left, and some milliseconds more, wherever that is.
        let done = worker.completed();
        let goal = done + (occurrences - done) / (2 * (kills - killed)).max(2);
        let began = Instant::now();
        while worker.completed() < goal.min(occurrences - 1) {
            assert!(began.elapsed() < TEST_TIMEOUT, "{}", agent.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..40))).await;
        agent.kill();
        agent = start(false);
    }
    agent
        .until_within(Duration::from_mins(5), &path, |batch| {
            batch["status"] == "completed"
        })
        .await;
    let batch = agent.get(&path).await;
    let results = agent.all(&format!("{path}/results"), "results").await;
    let mut seen: HashMap<&str, u32> = HashMap::new();
    for result in &results {
        let tenant = result["tenant_id"].as_str().unwrap();
        let key = result["result"]["body"]["key"].as_str();
        let is_own = key.is_some_and(|key| key.starts_with(&format!("posts/{tenant}/")));
        assert!(result["status"] == "succeeded" && is_own, "{result}");
        *seen.entry(tenant).or_default() += 1;
    }
    let log = worker.log.lock().unwrap();
    let more: u32 = log.calls.values().map(|times| times - 1).sum();
    let twice = log.taken.values().filter(|times| **times > 1).count() + results.len() - seen.len();
    println!(
        "{store}: {kills} kills over {occurrences} items that waited: lost {}, ended twice {twice}, calls above one per item \
         {more}",
        occurrences - seen.len(),
    );
    assert_eq!(
        (seen.len(), results.len(), twice),
        (occurrences, occurrences, 0)
    );
    assert_eq!(log.calls.len(), occurrences);
    assert!(log.unexpected.is_empty(), "{:?}", log.unexpected);
    assert_eq!(batch["progress"]["succeeded"], occurrences, "{batch}");
    drop(log);
    assert!(agent.terminate().success());
}

// The worker goes on while the test waits for a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_ends_once_on_sqlite_however_often_the_agent_is_killed() {
    killed_while_items_wait("SQLite", None).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_ends_once_on_postgresql_however_often_the_agent_is_killed() {
    killed_while_items_wait("PostgreSQL", Some(database().await)).await;
}
