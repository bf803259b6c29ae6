//! Everything at once, for minutes: edits, imports, erasures, manual runs, kills and restarts of agents, of the Config Database and of
//! the connections to `PostgreSQL`, on either store. Then: each run has happened once, nothing was logged that operators need not
//! know. How memory and files have grown is printed; from twenty minutes on, both are bounded. `SOAK_MINUTES=30` makes it long.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use punctual_config_database::{Server, ServerError, ServerSettings};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    agent::{Agent, TEST_TIMEOUT, repository},
    common::free_port,
    counting::Counting,
    postgres::{database, disconnect_all},
    project::Project,
    soak::number,
};

const TENANTS: usize = 300;
/// For so long after its start, an agent takes more and more memory until each of its threads has what it needs.
const WARM_AFTER_MINUTES: f64 = 5.0;
/// What an agent may take while `SQLite` fills the caches of its connections with pages, which takes longer than this test: 128 MiB, and
/// as much as it takes without them.
const MOST_WITH_CACHES_MIB: f64 = 128.0 + 60.0;
const RECORDS: usize = 20;
/// How ids of tenants begin who are erased.
const PASSING: &str = "passing-";

/// The Config Database, which restarts at the same address.
struct ConfigDatabase {
    settings: ServerSettings,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl ConfigDatabase {
    async fn start(folder: &Path) -> Self {
        let settings = ServerSettings {
            store_url: format!("sqlite://{}", folder.join("shared.db").display()),
            addr: ([127, 0, 0, 1], free_port()).into(),
            admin_key: None,
        };
        let (stop, served) = Self::serve(&settings).await;
        Self {
            settings,
            stop,
            served,
        }
    }

    async fn serve(settings: &ServerSettings) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        // Another program may have a connection from this port for a moment.
        let bound = async {
            loop {
                match Server::bind(settings.clone()).await {
                    Ok(server) => return server,
                    Err(ServerError::Listen { .. }) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let server = tokio::time::timeout(TEST_TIMEOUT, bound).await.unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let stopped = stop.clone().cancelled_owned();
            async move {
                server.serve(stopped).await.unwrap();
            }
        });
        (stop, served)
    }

    async fn restart(&mut self) {
        self.stop.cancel();
        (&mut self.served).await.unwrap();
        (self.stop, self.served) = Self::serve(&self.settings).await;
    }

    fn url(&self) -> String {
        format!("http://{}", self.settings.addr)
    }
}

/// An agent that restarts at the same address.
struct Replica {
    name: &'static str,
    port: u16,
    agent: Option<Agent>,
    /// Warnings and errors of earlier processes, by kind.
    logged: BTreeMap<String, usize>,
}

struct World {
    project: Project,
    endpoint: Counting,
    config_database: ConfigDatabase,
    store_url: Option<String>,
    replicas: Vec<Replica>,
    http: Client,
    random: fastrand::Rng,
    /// The manual runs: their batches.
    batches: BTreeSet<String>,
    /// Tenants that come and are erased again.
    erased: usize,
    /// The messages that operators know.
    known: Vec<String>,
}

impl World {
    async fn new(store_url: Option<String>) -> Self {
        let endpoint = Counting::default();
        let purpose = json!({"handler": "webhook", "url": endpoint.serve(Duration::from_millis(5)).await,
            "allow_private_addresses": true});
        let project = Project::new(purpose, json!({}));
        let records: Vec<String> = (0..RECORDS)
            .map(|n| json!({"id": format!("r{n}")}).to_string())
            .collect();
        project.write("batch/records.ndjson", &records.join("\n"));
        let posts = json!({"job_id": "posts", "type": "individual_batch", "purpose_id": "write",
            "preference_based": true, "feature_type": "posts", "overlap": "allow",
            "default_preferences": {"frequency": "daily"}});
        let each_minute = json!({"job_id": "each_minute", "type": "individual_batch", "purpose_id": "write",
            "schedule": {"cron": "* * * * *"}, "source": {"file": "records.ndjson"}, "catch_up": {"policy": "all"}});
        let jobs = json!({"jobs": [posts, each_minute]});
        project.write("batch/batch_config.json", &jobs.to_string());
        let config_database = ConfigDatabase::start(project.path()).await;
        let names: &[&str] = match store_url {
            Some(_) => &["first", "second"],
            None => &["only"],
        };
        let replica = |name: &&'static str| Replica {
            name,
            port: free_port(),
            agent: None,
            logged: BTreeMap::new(),
        };
        let mut world = Self {
            replicas: names.iter().map(replica).collect(),
            project,
            endpoint,
            config_database,
            store_url,
            http: Client::new(),
            random: fastrand::Rng::with_seed(11),
            batches: BTreeSet::new(),
            erased: 0,
            known: known_messages(),
        };
        world.import(0..TENANTS).await;
        for place in 0..world.replicas.len() {
            world.start(place);
        }
        world
    }

    fn start(&mut self, place: usize) {
        let replica = &mut self.replicas[place];
        let mut command = self.project.command();
        command
            .env("CONFIG_SERVICE_URL", self.config_database.url())
            .env(
                "CONFIG_LAST_KNOWN_GOOD_PATH",
                self.project.path().join(replica.name),
            )
            .env("BATCH_HTTP_ADDR", format!("127.0.0.1:{}", replica.port))
            .env("BATCH_CHUNK_SIZE", "50")
            .env("BATCH_LOG", "warn")
            .env("BATCH_LOG_FORMAT", "json")
            .arg("run");
        if let Some(url) = &self.store_url {
            command.env("BATCH_STORE_URL", url);
        }
        replica.agent = Some(Agent::start(command));
    }

    /// Ends an agent, and keeps what it has logged.
    fn end(&mut self, place: usize, kill: bool) {
        let replica = &mut self.replicas[place];
        let agent = replica.agent.take().unwrap();
        for line in agent.log() {
            *replica
                .logged
                .entry(kind_of(&line, &self.known))
                .or_default() += 1;
        }
        if kill {
            agent.kill();
        } else {
            assert!(agent.terminate().success());
        }
    }

    fn agent(&self) -> &Agent {
        self.replicas[0].agent.as_ref().unwrap()
    }

    async fn config(&self, method: Method, path: &str, body: String) {
        let url = format!("{}/api/v1/{path}", self.config_database.url());
        // An erasure needs a reason; other calls do without.
        let call = self.http.request(method, url).body(body);
        let answer = call.header("Punctual-Reason", "soak").send().await;
        let answer = answer.unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{path}: {status}: {}",
            answer.text().await.unwrap()
        );
    }

    fn preference(&mut self) -> Value {
        // In a fortnight: what runs was triggered.
        let day = (Utc::now() + TimeDelta::days(14)).day();
        json!({"enabled": true, "frequency": "monthly", "preferred_day": day, "preferred_time": "03:00",
            "template_overrides": {"tone": format!("tone {}", self.random.u32(..1_000))}})
    }

    async fn import(&mut self, tenants: std::ops::Range<usize>) {
        let mut lines = Vec::new();
        for tenant in tenants {
            let posts = self.preference();
            let line = json!({"tenant_id": tenant_id(tenant), "config_key": "feature_preferences",
                "updated_at": "2026-01-01T00:00:00Z", "config_value": {"posts": posts}});
            lines.push(line.to_string());
        }
        self.config(Method::POST, "preferences/import", lines.join("\n"))
            .await;
    }

    async fn edit(&mut self) {
        let posts = self.preference();
        let tenant = tenant_id(self.random.usize(..TENANTS));
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let body = json!({"config_value": {"posts": posts}});
        self.config(Method::PUT, &path, body.to_string()).await;
    }

    /// Erases a tenant everywhere, who may come again.
    async fn erase(&mut self) {
        let tenant = format!("{PASSING}{}", self.random.u32(..20));
        let posts = self.preference();
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let body = json!({"config_value": {"posts": posts}});
        self.config(Method::PUT, &path, body.to_string()).await;
        tokio::time::sleep(Duration::from_millis(self.random.u64(..1_000))).await;
        let path = format!("tenants/{tenant}");
        self.config(Method::DELETE, &path, String::new()).await;
        self.erased += 1;
    }

    /// Runs the job for all its tenants. The key makes it one run, however often it is asked for.
    async fn trigger(&mut self) {
        let key = Uuid::from_u128(self.random.u128(..)).to_string();
        let began = Instant::now();
        loop {
            let replica = &self.replicas[self.random.usize(..self.replicas.len())];
            let call = self
                .http
                .post(format!(
                    "http://127.0.0.1:{}/api/v1/jobs/posts/trigger",
                    replica.port
                ))
                .header("Idempotency-Key", &key)
                .send();
            if let Ok(answer) = call.await
                && answer.status().is_success()
                && let Ok(queued) = answer.json::<Value>().await
            {
                let batch = queued["batch_id"].as_str().unwrap();
                self.batches.insert(batch.to_owned());
                return;
            }
            assert!(began.elapsed() < TEST_TIMEOUT, "no agent takes a run");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Somebody looks at what there is.
    async fn look(&self) {
        for path in ["/", "/jobs", "/batches", "/metrics", "/api/v1/findings"] {
            let answer = self
                .http
                .get(format!("{}{path}", self.agent().api()))
                .send()
                .await;
            let status = answer.unwrap().status();
            assert!(!status.is_server_error(), "{path}: {status}");
        }
    }

    /// One step of what happens at once; only `gently` leaves every process alive.
    async fn step(&mut self, gently: bool) {
        match self.random.u32(..100) {
            0..30 => self.edit().await,
            30..36 => {
                let first = self.random.usize(..TENANTS - 50);
                self.import(first..first + 50).await;
            }
            36..50 => self.trigger().await,
            50..66 => self.look().await,
            66..70 => self.erase().await,
            70..76 if !gently => {
                let place = self.random.usize(..self.replicas.len());
                let kill = self.random.bool();
                self.end(place, kill);
                tokio::time::sleep(Duration::from_millis(self.random.u64(..2_000))).await;
                self.start(place);
            }
            76..79 if !gently => self.config_database.restart().await,
            79..82 if !gently => {
                if let Some(url) = &self.store_url {
                    disconnect_all(url).await;
                }
            }
            _ => tokio::time::sleep(Duration::from_millis(self.random.u64(..1_000))).await,
        }
    }

    fn memory_kib(&self) -> u64 {
        let of = |replica: &Replica| {
            let pid = replica.agent.as_ref().unwrap().pid();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status
                .lines()
                .find(|line| line.starts_with("RssAnon"))
                .unwrap();
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        self.replicas.iter().map(of).sum()
    }
}

/// What batches that are over have come to.
#[derive(Debug)]
struct Sums {
    /// Runs that are over.
    runs: u64,
    /// Those that succeeded.
    succeeded: u64,
    /// Those that were skipped.
    skipped: u64,
}

impl World {
    /// Waits until all runs are over. Returns their batches.
    async fn over(&self) -> Vec<Value> {
        let agent = self.agent();
        let began = Instant::now();
        loop {
            let batches = agent.all("/api/v1/batches", "batches").await;
            if batches.iter().all(|batch| batch["status"] == "completed") {
                return batches;
            }
            assert!(
                began.elapsed() < Duration::from_mins(5),
                "runs are not over"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// All batches when they are over, with what the endpoint was called for by then for tenants who are not erased, and with the
    /// calls above one for each.
    async fn over_and_counted(&self) -> (Vec<Value>, usize, u32) {
        loop {
            let batches = self.over().await;
            let stays = |key: &str| !key.contains(PASSING);
            let (called_for, more) = self.endpoint.counts_of(stays);
            // A minute that has begun meanwhile has a batch of its own.
            if self.over().await.len() == batches.len() {
                return (batches, called_for, more);
            }
        }
    }

    fn sums(&self, batches: &[Value]) -> Sums {
        let ids: BTreeSet<&str> = batches
            .iter()
            .filter_map(|batch| batch["batch_id"].as_str())
            .collect();
        assert!(
            self.batches.iter().all(|id| ids.contains(id.as_str())),
            "a manual run is lost"
        );
        let mut sums = Sums {
            runs: 0,
            succeeded: 0,
            skipped: 0,
        };
        let mut minutes = BTreeSet::new();
        for batch in batches {
            let progress = &batch["progress"];
            let number = |name: &str| progress[name].as_u64().unwrap();
            sums.runs += number("total");
            sums.succeeded += number("succeeded");
            sums.skipped += number("skipped");
            if batch["job_id"] == "each_minute" {
                assert_eq!(
                    (number("total"), number("failed")),
                    (RECORDS as u64, 0),
                    "{batch}"
                );
                let due: DateTime<Utc> = batch["scheduled_at"].as_str().unwrap().parse().unwrap();
                assert!(minutes.insert(due.timestamp() / 60), "twice: {batch}");
            }
        }
        if let (Some(first), Some(last)) = (minutes.first(), minutes.last()) {
            let mut all = *first..=*last;
            assert!(
                all.all(|minute| minutes.contains(&minute)),
                "minutes without a run: {minutes:?}"
            );
        }
        sums
    }
}

impl World {
    /// Looks at every manual run: all tenants who are not erased have a result each. Returns how many they are, with the runs of records.
    async fn lasting_runs(&self, batches: &[Value]) -> usize {
        let agent = self.agent();
        let mut runs = 0;
        for batch in batches {
            let path = format!(
                "/api/v1/batches/{}/results",
                batch["batch_id"].as_str().unwrap()
            );
            let results = agent.all(&path, "results").await;
            for result in &results {
                let passes = result["tenant_id"].as_str().unwrap().starts_with(PASSING);
                assert!(passes || result["status"] == "succeeded", "{result}");
            }
            let ids = results
                .iter()
                .map(|result| result["tenant_id"].as_str().unwrap());
            let ids: Vec<&str> = ids.filter(|id| !id.starts_with(PASSING)).collect();
            let different: BTreeSet<&str> = ids.iter().copied().collect();
            let expected = if batch["job_id"] == "posts" {
                TENANTS
            } else {
                RECORDS
            };
            assert_eq!(
                (ids.len(), different.len()),
                (expected, expected),
                "{batch}"
            );
            runs += expected;
        }
        runs
    }
}

fn tenant_id(number: usize) -> String {
    format!("t{number:04}")
}

/// What a warning or an error is about: the message of the runbook that it is an instance of, else itself.
fn kind_of(line: &str, known: &[String]) -> String {
    let entry: Value = serde_json::from_str(line).unwrap_or_default();
    let message = entry["message"].as_str().unwrap_or(line);
    let kind = known.iter().find(|template| is_instance(message, template));
    kind.map_or(message, String::as_str).to_owned()
}

/// Whether `message` has the fixed parts of `template`, in their order. What stands between them, as `…`, differs.
fn is_instance(message: &str, template: &str) -> bool {
    let mut parts = template.split('…');
    let first = parts.next().unwrap_or_default();
    let mut rest = message.strip_prefix(first);
    for part in parts {
        rest = rest
            .and_then(|rest| rest.split_once(part))
            .map(|(_, after)| after);
    }
    rest.is_some()
}

/// The messages that the runbook explains.
fn known_messages() -> Vec<String> {
    let runbook = std::fs::read_to_string(repository().join("docs/operations/runbook.md")).unwrap();
    let rows = runbook.lines().filter(|line| line.starts_with("| `"));
    let messages = rows.flat_map(|row| {
        row.split(" | ")
            .next()
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
    });
    messages.map(str::to_owned).collect()
}

/// The growth of values over time, in units a minute, by least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (minutes, values) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let with = |of: &dyn Fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>();
    let across = with(&|sample| (sample.0 - minutes) * (sample.1 - values));
    let along = with(&|sample| (sample.0 - minutes).powi(2));
    across / along
}

/// Bytes of the files below a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            // It has gone meanwhile.
            Err(_) => 0,
        })
        .sum()
}

async fn soak(store: &str, store_url: Option<String>) {
    let minutes = number("SOAK_MINUTES", 0);
    // How long, and how much of it processes die. Nothing is learned of memory in less than minutes.
    let (length, deadly) = match minutes {
        0 => (Duration::from_secs(24), Duration::from_secs(20)),
        minutes => {
            let length = Duration::from_mins(minutes as u64);
            (length, length / 2)
        }
    };
    let began = Instant::now();
    let mut world = World::new(store_url).await;
    let mut steps = 0;
    while began.elapsed() < deadly {
        world.step(false).await;
        steps += 1;
    }
    // Every process lives on from here, so that its memory can be compared with itself.
    let mut memory = Vec::new();
    while memory.is_empty() || began.elapsed() < length {
        world.step(true).await;
        steps += 1;
        let minute = began.elapsed().as_secs_f64() / 60.0;
        memory.push((minute, world.memory_kib() as f64 / 1024.0));
    }
    let (batches, called_for, more) = world.over_and_counted().await;
    let sums = world.sums(&batches);
    let runs = world.lasting_runs(&batches).await;
    let warm_from = deadly.as_secs_f64() / 60.0 + WARM_AFTER_MINUTES;
    let warm = memory.iter().position(|(minute, _)| *minute >= warm_from);
    let settled = memory.split_off(warm.unwrap_or(0));
    let growth = slope(&settled);
    let memory_now = settled.last().unwrap().1;
    let files = bytes(world.project.path()) / 1024;
    for place in 0..world.replicas.len() {
        world.end(place, false);
    }
    let mut logged: BTreeMap<String, usize> = BTreeMap::new();
    for replica in &world.replicas {
        for (kind, times) in &replica.logged {
            *logged.entry(kind.clone()).or_default() += times;
        }
    }
    println!(
        "{store}, {length:?}: {steps} steps, {} runs, {} succeeded, {} tenants erased; of the \
         others {runs} runs, {called_for} called for, {more} calls more; memory {memory_now:.1} MiB, \
         growing by {growth:.3} MiB a minute; files {files} KiB; logged: {logged:#?}",
        sums.runs, sums.succeeded, world.erased,
    );
    // Who is erased before the run begins is skipped.
    assert!(sums.succeeded + sums.skipped == sums.runs, "{sums:?}");
    assert_eq!(called_for, runs);
    let unknown: Vec<&String> = logged
        .keys()
        .filter(|kind| !world.known.contains(kind))
        .collect();
    assert!(unknown.is_empty(), "unknown in the log: {unknown:#?}");
    // Less is too short to tell growth from warming up.
    if minutes >= 20 {
        let filling = store == "SQLite" && memory_now < MOST_WITH_CACHES_MIB;
        assert!(
            growth < 0.2 || filling,
            "memory grows by {growth} MiB a minute"
        );
        let most = (40 << 20) + 500 * sums.runs as u64;
        assert!(files < most / 1024, "{files} KiB on disk");
    }
}

#[tokio::test]
async fn everything_at_once_loses_and_doubles_nothing_on_sqlite() {
    soak("SQLite", None).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn everything_at_once_loses_and_doubles_nothing_on_postgresql() {
    soak("PostgreSQL", Some(database().await)).await;
}
