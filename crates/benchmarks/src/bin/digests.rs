//! What a digest costs beyond its handler: each user's own data, fetched for 500 users in a call from a server on loopback in
//! this process, and the look-up of each user's last run. All users run at once, by a manual run, with a handler that does nothing:
//! without either, with the look-up alone, and with both; each of the latter two a first time, when no user has an earlier run,
//! and a second time, when every user has one.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin digests
//! TEST_POSTGRES_OPTIONS="" tests/with-postgres.sh cargo run --release -p punctual-benchmarks --bin digests -- --postgres
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use async_trait::async_trait;
use clap::Parser;
use punctual::{
    Binding, FeatureType, HandlerError, Item, Job, JobId, Outcome, Punctual, PurposeHandler, Store,
    TriggerRequest,
    axum::{self, Json, Router, routing::post},
};
use punctual_benchmarks::{Fixed, Users, cpu_seconds, fields, log, memory, store_url};
use serde_json::{Map, Value, json};

/// Measures digests.
#[derive(Parser)]
struct Options {
    /// Users of each run
    #[arg(long, default_value_t = 1_000_000)]
    users: usize,
    /// In the database of `TEST_POSTGRES_URL`, which must be empty, instead of a `SQLite` file
    #[arg(long)]
    postgres: bool,
}

/// Items that had data, and items that had an earlier run.
static WITH_DATA: AtomicU64 = AtomicU64::new(0);
static WITH_PREVIOUS: AtomicU64 = AtomicU64::new(0);

struct Idle;

#[async_trait]
impl PurposeHandler for Idle {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        WITH_DATA.fetch_add(u64::from(item.fetched.is_some()), Ordering::Relaxed);
        WITH_PREVIOUS.fetch_add(u64::from(item.previous.is_some()), Ordering::Relaxed);
        Ok(json!({ "text": format!("Good morning, {}", item.item_id) }).into())
    }
}

/// Users who never fall due by themselves, but on the first of a month.
struct Monthly(usize, Arc<Map<String, Value>>);

impl Users for Monthly {
    fn count(&self, _: &FeatureType) -> usize {
        self.0
    }

    fn preference(&self, _: &FeatureType, _: usize) -> Arc<Map<String, Value>> {
        Arc::clone(&self.1)
    }
}

/// Three orders of each user who is asked for.
async fn activity(Json(asked): Json<Value>) -> Json<Value> {
    let tenants = asked["tenants"].as_array().into_iter().flatten();
    let ids = tenants.filter_map(|tenant| tenant["tenant_id"].as_str());
    let order = json!({"item": "Speckled mug", "price": 24, "buyer": "Amara"});
    let orders = |id: &str| (id.to_owned(), json!({ "orders": [order, order, order] }));
    Json(Value::Object(ids.map(orders).collect()))
}

/// Where the server answers.
async fn upstream() -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/activity", listener.local_addr()?);
    let router = Router::new().route("/activity", post(activity));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Runs the job for all users, and prints what it took.
async fn measure(
    punctual: &Punctual,
    options: &Options,
    job: &str,
    what: &str,
    expected: (bool, bool),
) -> anyhow::Result<()> {
    let all: TriggerRequest = serde_json::from_value(json!({"all": true}))?;
    let (job, operator) = (JobId::new(job)?, punctual.operator());
    let before = memory("self", "VmRSS")? / 1024;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let queued = operator
        .trigger(&"benchmark".into(), None, &job, &all)
        .await?;
    let mut peak = before;
    let batch = loop {
        // The question is a sum over all chunks, so it is not asked often.
        tokio::time::sleep(Duration::from_millis(100)).await;
        peak = peak.max(memory("self", "VmRSS")? / 1024);
        let batch = operator.batch(queued.batch_id).await?;
        if batch.finished_at.is_some() {
            break batch;
        }
    };
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let users = options.users as u64;
    ensure!(
        batch.succeeded == users,
        "{what}: {} of {users} users have a result, {} failed, {} had nothing to do, {} are skipped",
        batch.succeeded,
        batch.failed,
        batch.nothing_to_do,
        batch.skipped
    );
    let had = [&WITH_DATA, &WITH_PREVIOUS].map(|count| count.swap(0, Ordering::Relaxed));
    let all_or_none = |is_expected: bool| if is_expected { users } else { 0 };
    ensure!(
        had == [all_or_none(expected.0), all_or_none(expected.1)],
        "{what}: {} items had data, and {} an earlier run",
        had[0],
        had[1]
    );
    println!(
        "{users} users, {}, {what}: {took:.2} s, {:.0} items/s, {:.1} µs of CPU each; memory {} MiB above {before} MiB",
        if options.postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        },
        users as f64 / took,
        cpu * 1e6 / users as f64,
        peak - before,
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let _telemetry = log("warn")?;
    let folder = tempfile::tempdir()?;
    let url = store_url(folder.path(), options.postgres)?;
    let data = json!({"url": upstream().await?, "per": "chunk", "allow_private_addresses": true});
    let without_look_up = Binding {
        reads_previous: false,
        ..Binding::default()
    };
    let job = |name: &str| Job::following("digest").named(name);
    let preference = fields(
        &json!({"enabled": true, "frequency": "monthly", "timezone": "UTC", "preferred_time": "00:00"}),
    );
    let users = Monthly(options.users, preference);
    let punctual = Punctual::builder()
        .store(Store::open(&url).await?)
        .preferences(Fixed(Arc::new(users)))
        .handler_with("idle", Idle, without_look_up)
        .handler("since", Idle)
        .job(job("plain").runs("idle"))
        .job(job("since").runs("since"))
        // A call for many users says since when.
        .job(job("digest").runs("idle").with("data", data))
        .start()
        .await?;
    ensure!(punctual.ready().await, "it has stopped");
    for (job, what, expected) in [
        ("plain", "without data or look-up", (false, false)),
        ("since", "look-up, no earlier run", (false, false)),
        ("since", "look-up, an earlier run", (false, true)),
        ("digest", "data and look-up, no earlier run", (true, false)),
        ("digest", "data and look-up, an earlier run", (true, true)),
    ] {
        measure(&punctual, &options, job, what, expected).await?;
    }
    punctual.shut_down(Duration::from_secs(5)).await;
    Ok(())
}
