//! What items cost that wait: all items of a job begin to wait, wait for a while, and are completed. First many that this process
//! completes by its `Completer`, then fewer that a client completes over HTTP, on loopback, in the same process.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin waiting
//! TEST_POSTGRES_OPTIONS="" tests/with-postgres.sh cargo run --release -p punctual-benchmarks --bin waiting -- --postgres
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use punctual::{
    Access, Batch, Completer, FeatureType, HandlerError, Item, Job, JobId, Outcome, Punctual,
    PurposeHandler, Settled, Store, TriggerRequest, Waiting,
    axum::{self, Router},
};
use punctual_application::EnhancedBatchProcessor;
use punctual_benchmarks::{Fixed, Users, cpu_seconds, fields, log, memory, store_url};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Measures items that wait.
#[derive(Parser)]
struct Options {
    /// Items that this process completes
    #[arg(long, default_value_t = 1_000_000)]
    items: usize,
    /// Items that are completed over HTTP
    #[arg(long, default_value_t = 50_000)]
    http_items: usize,
    /// Completions at one time, in this process
    #[arg(long, default_value_t = 500)]
    concurrency: usize,
    /// Completions at one time, over HTTP
    #[arg(long, default_value_t = 64)]
    http_concurrency: usize,
    /// How long the CPU time is measured while all items wait, in seconds
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// In the database of `TEST_POSTGRES_URL`, which must be empty, instead of a `SQLite` file
    #[arg(long)]
    postgres: bool,
}

/// The features, jobs and handlers.
const INSIDE: &str = "inside";
const OVER_HTTP: &str = "http";

/// A call that is to be completed.
enum Call {
    Inside(Uuid),
    OverHttp(Arc<str>),
}

/// Lets every item wait for a day, and keeps its call.
struct HandsOn {
    over_http: bool,
    calls: Mutex<Vec<Call>>,
}

impl HandsOn {
    fn new(over_http: bool) -> Arc<Self> {
        Arc::new(Self {
            over_http,
            calls: Mutex::default(),
        })
    }

    fn count(&self) -> usize {
        let calls = self.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> Vec<Call> {
        let calls = self.calls.lock();
        std::mem::take(&mut *calls.unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl PurposeHandler for HandsOn {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let missing = || HandlerError::permanent("the call cannot be completed");
        let completion = item.completion.as_ref().ok_or_else(missing)?;
        let call = if self.over_http {
            Call::OverHttp(completion.url.clone().ok_or_else(missing)?)
        } else {
            Call::Inside(completion.call_id)
        };
        let calls = self.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).push(call);
        let until = Utc::now() + TimeDelta::days(1);
        Ok(Outcome::Waiting(Waiting::until(until)))
    }
}

/// Users who never fall due by themselves, but on the first of a month.
struct Monthly {
    inside: usize,
    over_http: usize,
    preference: Arc<Map<String, Value>>,
}

impl Users for Monthly {
    fn count(&self, feature_type: &FeatureType) -> usize {
        if feature_type.as_str() == INSIDE {
            self.inside
        } else {
            self.over_http
        }
    }

    fn preference(&self, _: &FeatureType, _: usize) -> Arc<Map<String, Value>> {
        Arc::clone(&self.preference)
    }
}

/// Completes calls.
struct Worker {
    processor: EnhancedBatchProcessor,
    http: reqwest::Client,
}

impl Worker {
    async fn complete(&self, call: Call) -> anyhow::Result<()> {
        let output = json!({"text": "Good morning"});
        match call {
            Call::Inside(call_id) => {
                let settled = self.processor.complete(call_id, Ok(output.into())).await?;
                ensure!(settled == Settled::Taken, "a completion: {settled:?}");
            }
            Call::OverHttp(url) => {
                let call = self.http.post(format!("{url}/complete"));
                let answer = call.body(output.to_string()).send().await?;
                let status = answer.status();
                // The body is read, so that its connection is used again.
                let body = answer.text().await?;
                ensure!(status.is_success(), "a completion: {status}: {body}");
            }
        }
        Ok(())
    }
}

/// Waits until a batch fulfils the condition.
async fn until(
    punctual: &Punctual,
    batch_id: Uuid,
    condition: impl Fn(&Batch) -> bool,
) -> anyhow::Result<()> {
    loop {
        let batch = punctual.operator().batch(batch_id).await?;
        if condition(&batch) {
            return Ok(());
        }
        if batch.failed + batch.skipped > 0 {
            bail!(
                "{} items failed, {} are skipped",
                batch.failed,
                batch.skipped
            );
        }
        // The question is a sum over all chunks, so it is not asked often.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs the job for all users, and prints what it took.
async fn measure(
    punctual: &Punctual,
    options: &Options,
    worker: &Worker,
    handler: &HandsOn,
    (job, items, concurrency): (&str, usize, usize),
) -> anyhow::Result<()> {
    let all: TriggerRequest = serde_json::from_value(json!({"all": true}))?;
    let before = memory("self", "VmRSS")? / 1024;
    let began = Instant::now();
    let queued = punctual
        .operator()
        .trigger(&"benchmark".into(), None, &JobId::new(job)?, &all)
        .await?;
    until(punctual, queued.batch_id, |batch| {
        batch.waiting == items as u64
    })
    .await?;
    let began_to_wait = began.elapsed().as_secs_f64();
    ensure!(
        handler.count() == items,
        "{} calls for {items} items",
        handler.count()
    );
    // What the last chunks needed is given back.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let resident = memory("self", "VmRSS")? / 1024;
    let cpu = cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
    let idle = (cpu_seconds()? - cpu) / options.idle_seconds as f64;
    let calls = handler.take();
    let listed = calls.capacity() * size_of::<Call>() / (1024 * 1024);
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    stream::iter(calls)
        .map(|call| worker.complete(call))
        .buffer_unordered(concurrency)
        .try_collect::<()>()
        .await?;
    until(punctual, queued.batch_id, |batch| {
        batch.finished_at.is_some()
    })
    .await?;
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let batch = punctual.operator().batch(queued.batch_id).await?;
    ensure!(
        batch.succeeded == items as u64,
        "{} of {items} items have a result",
        batch.succeeded
    );
    println!(
        "{items} items, {}, {}: all wait after {began_to_wait:.2} s, {:.0} items/s; meanwhile {} MiB above {before} MiB, with \
         {listed} MiB for this program's list of calls, and {:.2} % of a core; completed in {took:.2} s, {:.0} items/s, {:.1} µs \
         of CPU each",
        if options.postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        },
        if handler.over_http {
            "completed over HTTP"
        } else {
            "completed in the process"
        },
        items as f64 / began_to_wait,
        resident.saturating_sub(before),
        idle * 100.0,
        items as f64 / took,
        cpu * 1e6 / items as f64,
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.idle_seconds > 0,
        "--idle-seconds must be at least 1"
    );
    let _telemetry = log("warn")?;
    let folder = tempfile::tempdir()?;
    let url = store_url(folder.path(), options.postgres)?;
    let preference = fields(
        &json!({"enabled": true, "frequency": "monthly", "timezone": "UTC", "preferred_time": "00:00"}),
    );
    let users = Monthly {
        inside: options.items,
        over_http: options.http_items,
        preference,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let (inside, over_http) = (HandsOn::new(false), HandsOn::new(true));
    let job = |name: &str| Job::following(name).runs(name);
    let punctual = Punctual::builder()
        .store(Store::open(&url).await?)
        .preferences(Fixed(Arc::new(users)))
        .completion_url_base(format!("http://{}", listener.local_addr()?))
        .handler(INSIDE, inside.clone())
        .handler(OVER_HTTP, over_http.clone())
        .job(job(INSIDE))
        .job(job(OVER_HTTP))
        .start()
        .await?;
    ensure!(punctual.ready().await, "it has stopped");
    let router: Router = punctual.router(Access::this_machine("none"));
    // The router answers clients whose address it knows.
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let worker = Worker {
        processor: punctual.operator().processor.clone(),
        http: reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("the HTTP client")?,
    };
    for (handler, run) in [
        (&inside, (INSIDE, options.items, options.concurrency)),
        (
            &over_http,
            (OVER_HTTP, options.http_items, options.http_concurrency),
        ),
    ] {
        measure(&punctual, &options, &worker, handler, run).await?;
    }
    server.abort();
    punctual.shut_down(Duration::from_secs(5)).await;
    Ok(())
}
