//! Agents of the last release beside those of this version, under load: nothing is lost, and nothing has two results.
//! `tests/upgrades.sh` builds the programs of the release, and runs these tests.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    agent::{Agent, TEST_TIMEOUT},
    counting::Counting,
    postgres::database,
    project::Project,
};

const TENANTS: usize = 100;
const RECORDS: usize = 50;

/// A program of the release.
fn released(program: &str) -> PathBuf {
    let folder = env::var("PUNCTUAL_RELEASED").expect("run tests/upgrades.sh, which sets it");
    Path::new(&folder).join(program)
}

/// Whether an agent of the release opens a store that this version has upgraded.
fn returns() -> bool {
    env::var("PUNCTUAL_RELEASED_RETURNS").expect("run tests/upgrades.sh, which sets it") == "yes"
}

/// The same command with a program of the release.
fn of_release(program: &str, command: &Command) -> Command {
    let mut released = Command::new(released(program));
    released.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => released.env(name, value),
            None => released.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        released.current_dir(folder);
    }
    released
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Released,
    This,
}

/// A Config Database of the release, killed when dropped.
struct ReleasedConfigDatabase(Child, String);

impl ReleasedConfigDatabase {
    /// Imports the preferences into a database in the project's folder, and serves it.
    fn start(project: &Project, preferences: &Path) -> Self {
        let command = |arguments: &[&str]| {
            let mut command = Command::new(released("punctual-config-service"));
            let store = project.path().join("shared.db");
            command
                .args(arguments)
                .env("CONFIG_STORE_URL", format!("sqlite://{}", store.display()))
                .env("CONFIG_HTTP_ADDR", "127.0.0.1:0")
                .env_remove("CONFIG_SERVICE_API_KEY")
                .env_remove("BATCH_LOG");
            command
        };
        let imported = command(&["import", preferences.to_str().unwrap()]).output();
        let imported = imported.unwrap();
        assert!(imported.status.success(), "{imported:?}");
        let mut child = command(&["serve", "--ready-file", "/dev/stdout"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses = lines.next().expect("it ended before it was ready").unwrap();
        let addresses: Value = serde_json::from_str(&addresses).unwrap();
        let url = addresses["config_database"].as_str().unwrap().to_owned();
        Self(child, url)
    }
}

impl Drop for ReleasedConfigDatabase {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A job that follows preferences, a plain job, and an endpoint that both call.
struct Bench {
    project: Project,
    endpoint: Counting,
    /// Items that must have a result each.
    expected: AtomicUsize,
    /// Time of the day at which all tenants fall due.
    due: String,
}

impl Bench {
    async fn new() -> Self {
        let endpoint = Counting::default();
        let purpose = json!({"handler": "webhook", "url": endpoint.serve(Duration::from_millis(100)).await,
            "allow_private_addresses": true});
        let project = Project::new(purpose, json!({}));
        let ids: Vec<String> = (0..RECORDS).map(|n| format!("record{n:02}")).collect();
        let jobs = json!({"jobs": [
            {"job_id": "posts", "type": "individual_batch", "purpose_id": "write", "preference_based": true,
             "feature_type": "posts", "default_preferences": {"frequency": "daily"}},
            {"job_id": "records", "type": "individual_batch", "purpose_id": "write",
             "schedule": {"cron": "0 0 29 2 *"}, "source": {"ids": ids}},
        ]});
        project.write("batch/batch_config.json", &jobs.to_string());
        // While agents are being replaced: within the next two minutes, and not in this one.
        let due = Utc::now() + TimeDelta::seconds(100);
        Self {
            project,
            endpoint,
            expected: AtomicUsize::new(TENANTS),
            due: due.format("%H:%M").to_string(),
        }
    }

    fn preference(&self, edit: u64) -> Value {
        json!({"enabled": true, "frequency": "daily", "preferred_time": self.due, "timezone": "UTC",
            "template_overrides": {"edit": edit}})
    }

    fn preferences(&self) -> PathBuf {
        let tenant = |n| (format!("t{n:03}"), self.preference(0));
        self.project.preferences((0..TENANTS).map(tenant))
    }

    /// Edits one tenant after the other, until it is stopped.
    fn edit(&self, config_url: &str) -> JoinHandle<()> {
        let url = config_url.to_owned();
        let preference = self.preference(0);
        tokio::spawn(async move {
            let http = Client::new();
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            for edit in 1_u64.. {
                ticks.tick().await;
                let mut preference = preference.clone();
                preference["template_overrides"]["edit"] = json!(edit);
                let tenant = edit as usize % TENANTS;
                let path = format!("tenants/t{tenant:03}/configs/feature_preferences");
                let body = json!({"config_value": {"posts": preference}});
                let put = http.put(format!("{url}/api/v1/{path}"));
                let answer = put.body(body.to_string()).send().await.unwrap();
                assert!(answer.status().is_success(), "{answer:?}");
            }
        })
    }

    fn command(&self, version: Version, name: &str, store: &str, config_url: &str) -> Command {
        let mut command = self.project.run_in(Some(store), None);
        command
            .env("CONFIG_SERVICE_URL", config_url)
            .env("CONFIG_POLL_INTERVAL", "1")
            .env(
                "CONFIG_LAST_KNOWN_GOOD_PATH",
                self.project.path().join(name),
            )
            .env("BATCH_CHUNK_SIZE", "10")
            .env("BATCH_MAX_CONCURRENT_ITEMS", "5");
        match version {
            Version::This => command,
            Version::Released => of_release("punctual-agent", &command),
        }
    }

    async fn start(&self, version: Version, name: &str, store: &str, config_url: &str) -> Agent {
        let agent = Agent::start(self.command(version, name, store, config_url));
        agent
            .until("/api/v1/jobs/posts", |job| job["tenants"] == TENANTS)
            .await;
        agent
            .until("/api/v1/jobs/records", |job| job["next"].is_string())
            .await;
        agent
    }

    /// Queues every tenant and every record once more, and waits until some of them have run.
    async fn run_all(&self, agent: &Agent) {
        let mut batches = Vec::new();
        for job in ["posts", "records"] {
            let path = format!("/api/v1/jobs/{job}/trigger");
            let queued = agent.call(Method::POST, &path, &json!({})).await;
            batches.push(queued["batch_id"].as_str().unwrap().to_owned());
        }
        self.expected.fetch_add(TENANTS + RECORDS, Ordering::SeqCst);
        let path = format!("/api/v1/batches/{}", batches[0]);
        let begun = |batch: &Value| batch["progress"]["processed"].as_u64().unwrap() >= 10;
        agent.until(&path, begun).await;
    }

    /// The release does not know what this version has made of the tables, and leaves them alone.
    async fn assert_refused(&self, store: &str, config_url: &str) {
        let mut command = self.command(Version::Released, "refused", store, config_url);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() && began.elapsed() < TEST_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = child.kill();
        let mut stderr = String::new();
        let mut written = child.stderr.take().unwrap();
        written.read_to_string(&mut stderr).unwrap();
        assert!(!child.wait().unwrap().success(), "{stderr}");
        assert!(
            stderr.contains("missing in the resolved migrations"),
            "{stderr}"
        );
    }

    /// Each occurrence has one result, a success, and each was called for.
    async fn assert_each_once(&self, agent: &Agent) {
        let expected = self.expected.load(Ordering::SeqCst);
        let whole = |list: &Value| {
            let batches = list["batches"].as_array().unwrap();
            let total = |batch: &Value| batch["progress"]["total"].as_u64().unwrap();
            let over = batches.iter().all(|batch| !batch["finished_at"].is_null());
            over && batches.iter().map(total).sum::<u64>() >= expected as u64
        };
        // The slot comes within two minutes of the beginning.
        let list = agent
            .until_within(2 * TEST_TIMEOUT, "/api/v1/batches?limit=1000", whole)
            .await;
        let mut results: HashMap<[String; 3], usize> = HashMap::new();
        for batch in list["batches"].as_array().unwrap() {
            let id = batch["batch_id"].as_str().unwrap();
            let path = format!("/api/v1/batches/{id}/results");
            for result in agent.all(&path, "results").await {
                assert_eq!(result["status"], "succeeded", "{result}");
                let word = |name: &str| result[name].as_str().unwrap().to_owned();
                let occurrence = ["job_id", "tenant_id", "occurrence"].map(word);
                *results.entry(occurrence).or_default() += 1;
            }
        }
        let twice: Vec<_> = results.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert_eq!(results.len(), expected);
        let (occurrences, again) = self.endpoint.counts();
        assert_eq!(occurrences, expected, "the endpoint was called for others");
        println!(
            "{expected} occurrences, each with one result; {again} calls repeated after kills and stops"
        );
    }
}

#[ignore = "needs the programs of the last release; run tests/upgrades.sh"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_two_versions_replace_each_other_and_everything_runs_once() {
    let bench = Bench::new().await;
    // Of this version: an agent of the release reads it as well.
    let config_url = bench.project.serve(&bench.preferences()).await;
    let store = database().await;
    let start =
        async |version: Version, name: &str| bench.start(version, name, &store, &config_url).await;
    let (a, b) = (
        start(Version::Released, "a").await,
        start(Version::Released, "b").await,
    );
    let editing = bench.edit(&config_url);
    bench.run_all(&a).await;
    // The first agent of this version upgrades the tables, while those of the release work on them.
    let c = start(Version::This, "c").await;
    bench.run_all(&b).await;
    bench.run_all(&c).await;
    assert!(a.terminate().success());
    let d = start(Version::This, "d").await;
    bench.run_all(&d).await;
    if returns() {
        // One that dies starts anew, and so does one that was replaced too early.
        b.kill();
        let b = start(Version::Released, "b").await;
        bench.run_all(&b).await;
        assert!(c.terminate().success());
        let a = start(Version::Released, "a").await;
        bench.run_all(&a).await;
        bench.assert_each_once(&a).await;
        b.kill();
    } else {
        b.kill();
        bench.assert_refused(&store, &config_url).await;
        bench.run_all(&c).await;
    }
    bench.assert_each_once(&d).await;
    assert!(!editing.is_finished(), "an edit was refused");
    editing.abort();
}

#[ignore = "needs the programs of the last release; run tests/upgrades.sh"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_a_config_database_are_upgraded_one_after_the_other_and_everything_runs_once() {
    let bench = Bench::new().await;
    let preferences = bench.preferences();
    let config = ReleasedConfigDatabase::start(&bench.project, &preferences);
    let store = format!(
        "sqlite://{}",
        bench.project.path().join("punctual.db").display()
    );
    let editing = bench.edit(&config.1);
    let before = bench
        .start(Version::Released, "known", &store, &config.1)
        .await;
    bench.run_all(&before).await;
    assert!(before.terminate().success());
    // This version on the file of the release, with a Config Database of the release.
    let after = bench.start(Version::This, "known", &store, &config.1).await;
    bench.run_all(&after).await;
    assert!(!editing.is_finished(), "an edit was refused");
    editing.abort();
    assert!(after.terminate().success());
    // Then the Config Database is upgraded: this version opens its file.
    drop(config);
    let config_url = bench.project.serve(&preferences).await;
    let editing = bench.edit(&config_url);
    if returns() {
        let back = bench
            .start(Version::Released, "known", &store, &config_url)
            .await;
        bench.run_all(&back).await;
        assert!(back.terminate().success());
    } else {
        bench.assert_refused(&store, &config_url).await;
    }
    let last = bench
        .start(Version::This, "known", &store, &config_url)
        .await;
    bench.run_all(&last).await;
    bench.assert_each_once(&last).await;
    assert!(!editing.is_finished(), "an edit was refused");
    editing.abort();
}
