//! How long users who fall due in the same minute take until every one has a durable result: the real scheduler, queue,
//! processor and store in this process, with a handler that does nothing or waits. With `--peer` a well-known queue
//! on the same kind of database does jobs beside it.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin processing -- --users 1000000
//! cargo run --release -p punctual-benchmarks --features allocations --bin processing -- --users 1000000
//! TEST_POSTGRES_OPTIONS="" tests/with-postgres.sh cargo run --release -p punctual-benchmarks --bin processing -- \
//!     --postgres --users 1000000
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use clap::Parser;
use punctual_application::{
    BatchProcessor, Binding, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{
        BatchFilter, HandlerError, ItemSource, ItemSourceError, Page, PurposeHandler, SourceItem,
        SystemClock,
    },
};
use punctual_benchmarks::{Fixed, Users, cpu_seconds, fields, log, memory, python_peer, store_url};
use punctual_domain::{FeatureType, Item, Outcome, PurposeId, Shard, Source, Zone};
use punctual_infrastructure::{BatchScheduler, DynamicBatchScheduler, SchedulerOptions, Worker};
use punctual_store::Store;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// Measures processing.
#[derive(Parser, Clone)]
struct Options {
    /// Users who fall due
    #[arg(long, default_value_t = 100_000)]
    users: usize,
    /// How long the handler waits, in milliseconds
    #[arg(long, default_value_t = 0)]
    handler_ms: u64,
    /// Items at one time in each process
    #[arg(long, default_value_t = 25)]
    concurrency: usize,
    /// Processes that work, on `PostgreSQL`
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Users of a chunk
    #[arg(long, default_value_t = 500)]
    chunk_size: usize,
    /// In the database of `TEST_POSTGRES_URL`, which must be empty, instead of a `SQLite` file
    #[arg(long)]
    postgres: bool,
    /// Measure a peer as well, with so many jobs that do nothing
    #[arg(long)]
    peer: Option<usize>,
    /// Agents that divide the users, each with a `SQLite` file of its own
    #[arg(long)]
    shards: Option<u32>,
    /// One of them
    #[arg(long, hide = true, default_value = "1/1")]
    shard: Shard,
    /// A process that only helps
    #[arg(long, hide = true)]
    helps: bool,
}

/// Counts allocations, which slows them.
#[cfg(feature = "allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Allocations of this process so far; zero where they are not counted.
fn allocations() -> usize {
    #[cfg(feature = "allocations")]
    return ALLOCATOR.stats().allocations;
    #[cfg(not(feature = "allocations"))]
    0
}

/// Start of the first item.
static FIRST: OnceLock<Instant> = OnceLock::new();
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Idle(Duration);

#[async_trait]
impl PurposeHandler for Idle {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        FIRST.get_or_init(Instant::now);
        CALLS.fetch_add(1, Ordering::Relaxed);
        if !self.0.is_zero() {
            tokio::time::sleep(self.0).await;
        }
        Ok(json!({ "text": format!("Good morning, {}", item.item_id) }).into())
    }
}

/// Everybody at one time of day, as a server that knows shards gives them.
struct Everybody {
    users: usize,
    shard: Shard,
    preference: Arc<Map<String, Value>>,
}

impl Users for Everybody {
    fn count(&self, _: &FeatureType) -> usize {
        self.users
    }

    fn preference(&self, _: &FeatureType, _: usize) -> Arc<Map<String, Value>> {
        Arc::clone(&self.preference)
    }

    fn is_in_snapshot(&self, id: &str) -> bool {
        self.shard.contains(id)
    }
}

struct Nothing;

#[async_trait]
impl ItemSource for Nothing {
    async fn load(
        &self,
        _: &std::collections::BTreeMap<String, Source>,
    ) -> Result<std::collections::BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        Ok(std::collections::BTreeMap::new())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(shards) = options.shards {
        return divided(&options, shards);
    }
    let _telemetry = log("warn")?;
    let folder = tempfile::tempdir()?;
    let url = store_url(folder.path(), options.postgres)?;
    ensure!(
        options.postgres || options.processes == 1,
        "several processes need --postgres"
    );
    let store = Store::open(&url).await?;
    let due = Utc::now() + TimeDelta::seconds(if options.users > 500_000 { 12 } else { 5 });
    let due = due.format("%H:%M:00").to_string();
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "idle",
        "preference_based": true, "feature_type": "posts"}]});
    let config = Arc::new(punctual_project::parse_batch_config(&jobs, &Zone::utc())?);
    let mut handlers = Handlers::default();
    let handler = Arc::new(Idle(Duration::from_millis(options.handler_ms)));
    handlers.bind(PurposeId::new("idle")?, handler, Binding::default());
    let clock = Arc::new(SystemClock);
    let preference = json!({"enabled": true, "frequency": "daily", "timezone": "UTC",
        "preferred_time": &due[..5], "template_overrides": {"tone": "playful"}});
    let everybody = Arc::new(Fixed(Arc::new(Everybody {
        users: options.users,
        shard: options.shard,
        preference: fields(&preference),
    })));
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.batches(), clock.clone()),
        everybody.clone(),
        Arc::new(Nothing),
        config.clone(),
        Zone::utc(),
        Limits {
            max_concurrent_items: options.concurrency,
            retry: RetryPolicy::new(0, || 0.5),
        },
        tokio_util::sync::CancellationToken::new(),
    );
    let base = BatchScheduler::new(
        config,
        Arc::new(Nothing),
        store.queue(),
        clock,
        SchedulerOptions {
            chunk_size: options.chunk_size,
            // What fell due this minute falls due at the first plan.
            look_back: TimeDelta::minutes(2),
        },
    );
    let scheduler = DynamicBatchScheduler::new(
        base,
        everybody,
        Duration::from_mins(1),
        &Zone::utc(),
        fastrand::f64,
    );
    let status = scheduler.status();
    let processor = processor.with_mirror(Arc::new(status.clone()));
    let stop = CancellationToken::new();
    let mut helpers = Vec::new();
    for _ in 1..options.processes {
        helpers.push(Helper::start(&options)?);
    }
    let began = Instant::now();
    if options.helps {
        // The main process plans, and ends this one.
        let worker = Worker::new(store.chunks(), store.queue(), processor);
        worker.run(stop).await;
        return Ok(());
    }
    let scheduling = tokio::spawn(scheduler.run(stop.clone()));
    status
        .wait_for(|status| status.jobs.values().any(|job| job.loaded))
        .await;
    let loaded = began.elapsed();
    let users: usize = status.get().jobs.values().map(|job| job.tenants).sum();
    let before = memory("self", "VmRSS")? / 1024;
    let queued = loop {
        let (batches, _) = store
            .reader()
            .batches(&BatchFilter::default(), &Page::default())
            .await?;
        if let Some(batch) = batches.first() {
            break batch.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let enqueued = Instant::now();
    let worker = Worker::new(store.chunks(), store.queue(), processor);
    let mut working = tokio::spawn(worker.run(stop.clone()));
    let started = Instant::now();
    let (cpu, allocated) = (cpu_seconds()?, allocations());
    let batch = loop {
        let batch = store.reader().batch(queued.batch_id).await?;
        let batch = batch.context("the batch is gone")?;
        if batch.finished_at.is_some() {
            break batch;
        }
        tokio::select! {
            // The question is a sum over all chunks, so it is not asked often.
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            _ = &mut working => anyhow::bail!("the worker ended"),
        }
    };
    let took = started.elapsed();
    let cpu = cpu_seconds()? - cpu;
    let allocated = allocations() - allocated;
    ensure!(
        batch.succeeded == users as u64,
        "{} of {} users have a result, {} failed, {} are skipped",
        batch.succeeded,
        users,
        batch.failed,
        batch.skipped
    );
    let first = FIRST.get().context("no item ran here")?;
    println!(
        "{} users, {} process(es), handler {} ms, {}: mirror loaded in {:.2} s; planned and queued {:.2} s later; \
         first item after {} ms; all done in {:.2} s: {:.0} items/s; {} calls here, with {:.1} µs of CPU each; memory {} MiB above the mirror's {} MiB",
        users,
        options.processes,
        options.handler_ms,
        if options.postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        },
        loaded.as_secs_f64(),
        (enqueued - began).as_secs_f64() - loaded.as_secs_f64(),
        (*first - started).as_millis(),
        took.as_secs_f64(),
        users as f64 / took.as_secs_f64(),
        CALLS.load(Ordering::Relaxed),
        cpu * 1e6 / CALLS.load(Ordering::Relaxed).max(1) as f64,
        (memory("self", "VmHWM")? / 1024).saturating_sub(before),
        before,
    );
    if allocated > 0 {
        let each = allocated as f64 / CALLS.load(Ordering::Relaxed).max(1) as f64;
        println!("{users} users: {each:.1} allocations each");
    }
    stop.cancel();
    working.await?;
    scheduling.await?;
    if let Some(jobs) = options.peer {
        let (name, printed) = if options.postgres {
            ("graphile-worker 0.17.3", graphile_worker(jobs)?)
        } else {
            let printed = python_peer("huey==3.5.4", "huey_work.py", jobs)?;
            ("huey 3.5.4", printed)
        };
        let last = printed.lines().last().context("the peer says nothing")?;
        let (added, worked) = last.split_once(' ').context("a figure is missing")?;
        let (added, worked): (f64, f64) = (added.parse()?, worked.parse()?);
        let peer = jobs as f64 / (added + worked);
        let ours = users as f64 / took.as_secs_f64();
        println!(
            "{name}: {jobs} jobs added in {added:.2} s, done in {worked:.2} s: {peer:.0} jobs/s; ours is {:.1} times that",
            ours / peer
        );
    }
    Ok(())
}

/// So many agents beside each other, that have a shard and a file each.
fn divided(options: &Options, shards: u32) -> anyhow::Result<()> {
    let began = Instant::now();
    let agent = |number: u32| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--shard", &format!("{number}/{shards}")]);
        command.args(["--users", &options.users.to_string()]);
        command.args(["--handler-ms", &options.handler_ms.to_string()]);
        command.args(["--concurrency", &options.concurrency.to_string()]);
        command.args(["--chunk-size", &options.chunk_size.to_string()]);
        Ok(Helper(command.spawn()?))
    };
    let agents: Vec<Helper> = (1..=shards).map(agent).collect::<anyhow::Result<_>>()?;
    for mut agent in agents {
        let status = agent.0.wait()?;
        ensure!(status.success(), "an agent failed");
    }
    let took = began.elapsed().as_secs_f64();
    let users = options.users;
    println!(
        "{users} users, {shards} agents with a shard each: loaded, planned and done in {took:.2} s: {:.0} items/s",
        users as f64 / took
    );
    Ok(())
}

/// graphile-worker on the same server. Returns what it prints.
fn graphile_worker(jobs: usize) -> anyhow::Result<String> {
    let folder = Path::new("target/graphile-worker");
    if !folder.join("node_modules").exists() {
        std::fs::create_dir_all(folder)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--prefix"]).arg(folder);
        let status = npm.arg("graphile-worker@0.17.3").status()?;
        ensure!(status.success(), "npm cannot install graphile-worker");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/graphile_worker.mjs");
    std::fs::copy(script, folder.join("peer.mjs"))?;
    let output = Command::new("node")
        .args(["peer.mjs", &jobs.to_string()])
        .current_dir(folder)
        .env("NO_LOG_SUCCESS", "1")
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// A process that works beside this one, and is killed when dropped.
struct Helper(Child);

impl Helper {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--helps", "--postgres"]);
        command.args(["--users", &options.users.to_string()]);
        command.args(["--handler-ms", &options.handler_ms.to_string()]);
        command.args(["--concurrency", &options.concurrency.to_string()]);
        Ok(Self(command.stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
