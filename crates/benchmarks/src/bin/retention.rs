//! What the removal of old results costs: minutes of many users on an empty store, on one with millions of old results, and while
//! these are removed, with how late the items begin and how long small writes wait, in these minutes and between them. The old results
//! are written by SQL, as the tables stand, because the store's ports would take minutes; everything else is the real thing.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin retention
//! TEST_POSTGRES_OPTIONS="" tests/with-postgres.sh cargo run --release -p punctual-benchmarks --bin retention -- --postgres
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use punctual::{
    FeatureType, HandlerError, Item, Job, JobId, Outcome, Punctual, PurposeHandler, Store,
    TriggerRequest,
    sqlx::{self, AssertSqlSafe, postgres::PgPoolOptions, sqlite::SqlitePoolOptions},
};
use punctual_application::ports::AuditEntry;
use punctual_benchmarks::{Fixed, Users, fields, log, store_url};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// Measures the removal of old results.
#[derive(Parser)]
struct Options {
    /// Users with old results
    #[arg(long, default_value_t = 12_500)]
    users: usize,
    /// Days of old results, with one for each user and day
    #[arg(long, default_value_t = 400)]
    days: i64,
    /// Users of the minute that runs meanwhile
    #[arg(long, default_value_t = 100_000)]
    minute: usize,
    /// In the database of `TEST_POSTGRES_URL`, which must be empty, instead of a `SQLite` file
    #[arg(long)]
    postgres: bool,
}

/// The latest of the results that are too old: longer ago than they are kept.
const OLDEST_KEPT: i64 = 100;
/// How many minutes run in each state of the store.
const MINUTES: usize = 5;
/// Users of a chunk.
const CHUNK: usize = 500;

/// When a minute began, and how much later each of its items.
struct Lateness {
    began: Instant,
    items: Vec<Duration>,
}

type Measured = Arc<Mutex<Lateness>>;

fn lock(measured: &Measured) -> std::sync::MutexGuard<'_, Lateness> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Idle(Measured);

#[async_trait]
impl PurposeHandler for Idle {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let mut measured = lock(&self.0);
        let late = measured.began.elapsed();
        measured.items.push(late);
        Ok(json!({ "text": format!("Good morning, {}", item.item_id) }).into())
    }
}

/// Users who do not fall due by themselves while this runs.
struct Minute(usize);

impl Users for Minute {
    fn count(&self, _: &FeatureType) -> usize {
        self.0
    }

    fn preference(&self, _: &FeatureType, _: usize) -> Arc<Map<String, Value>> {
        fields(
            &json!({"enabled": true, "frequency": "monthly", "timezone": "UTC",
            "preferred_time": "00:00"}),
        )
    }
}

/// The statements that write the old results of a day.
fn day(users: usize, due: DateTime<Utc>, number: i64) -> String {
    let (date, due) = (due.date_naive(), due.timestamp_micros());
    let batch = format!("{number:08x}-0000-4000-8000-000000000000");
    let series = |count: usize| {
        format!(
            "(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {count}) SELECT n FROM s)"
        )
    };
    let (all, parts) = (series(users), series(users.div_ceil(CHUNK)));
    let run = format!("runs r WHERE r.job_id = 'posts' AND r.occurrence = '{date}'");
    let mut sql = format!(
        "INSERT INTO runs (job_id, occurrence, last_due) VALUES ('posts', '{date}', {due});
         INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, succeeded, created_at, finished_at,
             key_form, run)
         SELECT '{batch}', 'posts', 'daily at 09:00', {due}, 'schedule', 'completed', {users}, {users}, {due}, {due} + 2000000,
             'slashes', r.run FROM {run};
         INSERT INTO chunks (chunk_id, batch_id, job_id, occurrence, total, place, succeeded, done, run)
         SELECT '{batch}/' || p.n, '{batch}', 'posts', '{date}', {CHUNK}, p.n, {CHUNK}, 1, r.run FROM {parts} p CROSS JOIN {run};
         INSERT INTO results (run, tenant_id, chunk, status, attempts, output, started_at, duration)
         SELECT c.run, 'user' || u.n, c.chunk, 1, 1, '{{\"text\":\"Good morning, here is what is new today\"}}', {due}, 250000
         FROM {all} u JOIN chunks c ON c.chunk_id = '{batch}/' || (u.n / {CHUNK});"
    );
    for part in 0..users.div_ceil(CHUNK) {
        let items = part * CHUNK..users.min((part + 1) * CHUNK);
        let items: Vec<String> = items.map(|n| format!("\"user{n}\"")).collect();
        let items = items.join(",");
        // Writing to a text does not fail.
        let _ = write!(
            sql,
            "INSERT INTO chunk_messages (chunk, message) SELECT c.chunk, '{{\"items\":[{items}]}}' FROM chunks c
             WHERE c.chunk_id = '{batch}/{part}';"
        );
    }
    sql
}

/// Executes texts of SQL, each in a transaction.
async fn execute(
    options: &Options,
    url: &str,
    statements: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    let statements = statements.map(|sql| AssertSqlSafe(format!("BEGIN; {sql} COMMIT;")));
    if options.postgres {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
        sqlx::raw_sql("SET search_path TO punctual; SET synchronous_commit TO off")
            .execute(&pool)
            .await?;
        for sql in statements {
            sqlx::raw_sql(sql).execute(&pool).await?;
        }
        pool.close().await;
    } else {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect(url)
            .await?;
        sqlx::raw_sql("PRAGMA synchronous = OFF")
            .execute(&pool)
            .await?;
        for sql in statements {
            sqlx::raw_sql(sql).execute(&pool).await?;
        }
        pool.close().await;
    }
    Ok(())
}

/// Writes the old results.
async fn fill(options: &Options, url: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let newest = Utc::now() - TimeDelta::days(OLDEST_KEPT);
    let days = (0..options.days)
        .rev()
        .map(|number| day(options.users, newest - TimeDelta::days(number), number));
    let analyze = options.postgres.then(|| "ANALYZE;".to_owned());
    execute(options, url, days.chain(analyze)).await?;
    let took = began.elapsed().as_secs_f64();
    println!("old results written in {took:.1} s");
    Ok(())
}

/// Punctual with the job of the minute, ready to run it.
async fn start(options: &Options, url: &str, measured: &Measured) -> anyhow::Result<Punctual> {
    let punctual = Punctual::builder()
        .store(Store::open(url).await?)
        .preferences(Fixed(Arc::new(Minute(options.minute))))
        .handler("idle", Idle(measured.clone()))
        .job(Job::following("minute").runs("idle"))
        .start()
        .await?;
    ensure!(punctual.ready().await, "it has stopped");
    Ok(punctual)
}

/// Writes a little from time to time until `stop`. Returns the longest wait for it while a minute runs, and between minutes.
async fn longest_writes(
    store: Store,
    is_minute: Arc<AtomicBool>,
    stop: CancellationToken,
) -> anyhow::Result<[Duration; 2]> {
    let operations = store.operations();
    let mut longest = [Duration::ZERO; 2];
    while !stop.is_cancelled() {
        let entry = AuditEntry {
            at: Utc::now(),
            by: "benchmark".to_owned(),
            action: "wait".to_owned(),
            subject: "minute".to_owned(),
            detail: String::new(),
            reason: None,
        };
        let (began, began_in_minute) = (Instant::now(), is_minute.load(Relaxed));
        operations.record(&entry).await?;
        let between = !began_in_minute && !is_minute.load(Relaxed);
        let longest = &mut longest[usize::from(between)];
        *longest = began.elapsed().max(*longest);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(longest)
}

/// Runs the minute. Returns half of whose items begin later, the latest hundredth, and when all have ended, in seconds.
async fn minute(punctual: &Punctual, measured: &Measured) -> anyhow::Result<(f64, f64, f64)> {
    let all: TriggerRequest = serde_json::from_value(json!({"all": true}))?;
    let (job, operator) = (JobId::new("minute")?, punctual.operator());
    let began = Instant::now();
    *lock(measured) = Lateness {
        began,
        items: Vec::new(),
    };
    let batch = operator
        .trigger(&"benchmark".into(), None, &job, &all)
        .await?;
    while operator.batch(batch.batch_id).await?.finished_at.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed().as_secs_f64();
    let mut items = std::mem::take(&mut lock(measured).items);
    items.sort_unstable();
    let at = |percent: usize| {
        let item = items.get(items.len() * percent / 100);
        item.map(Duration::as_secs_f64).context("no item ran")
    };
    Ok((at(50)?, at(99)?, took))
}

/// Has the removal begin tomorrow, or at once.
async fn postpone_removal(options: &Options, url: &str, postpone: bool) -> anyhow::Result<()> {
    let tomorrow = (Utc::now() + TimeDelta::days(1)).timestamp_micros();
    let insert =
        format!("INSERT INTO retention_state (name, value) VALUES ('begins_at', {tomorrow});");
    let delete = "DELETE FROM retention_state WHERE name = 'begins_at';";
    let statements = [delete.to_owned()]
        .into_iter()
        .chain(postpone.then_some(insert));
    execute(options, url, statements).await
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What of the old results is there while minutes run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Full,
    Removing,
}

async fn measure(options: &Options, url: &str, phase: Phase) -> anyhow::Result<()> {
    let database = if options.postgres {
        "PostgreSQL"
    } else {
        "SQLite"
    };
    let measured: Measured = Arc::new(Mutex::new(Lateness {
        began: Instant::now(),
        items: Vec::new(),
    }));
    let began = Instant::now();
    let punctual = start(options, url, &measured).await?;
    let (stop, is_minute) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let store = Store::open(url).await?;
    let writing = tokio::spawn(longest_writes(store, is_minute.clone(), stop.clone()));
    let (mut halves, mut latest, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..MINUTES {
        // The removal goes on by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        is_minute.store(true, Relaxed);
        let (p50, p99, took) = minute(&punctual, &measured).await?;
        is_minute.store(false, Relaxed);
        halves.push(p50);
        latest.push(p99);
        all.push(took);
    }
    let removal =
        async || -> anyhow::Result<u64> { Ok(punctual.operator().retention().await?.total().0) };
    while phase == Phase::Removing && removal().await? > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let removed_in = began.elapsed().as_secs_f64();
    stop.cancel();
    let [in_minutes, between] = writing.await??;
    println!(
        "{} users, {database}, {}: half of them begin within {:.0} ms, 99 % within {:.0} ms, all done in {:.2} s (medians of \
         {MINUTES}); the longest write waits {:.0} ms in these minutes, {:.0} ms between them",
        options.minute,
        match phase {
            Phase::Empty => "empty store",
            Phase::Full => "beside old results",
            Phase::Removing => "while old results are removed",
        },
        median(halves) * 1e3,
        median(latest) * 1e3,
        median(all),
        in_minutes.as_secs_f64() * 1e3,
        between.as_secs_f64() * 1e3,
    );
    if phase == Phase::Removing {
        let old = options.users as i64 * options.days;
        println!(
            "{old} old results, {database}: removed in {removed_in:.1} s with the minutes in between, {:.0} rows/s",
            old as f64 / removed_in
        );
    }
    punctual.shut_down(Duration::from_secs(5)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let _telemetry = log("warn")?;
    let folder = tempfile::tempdir()?;
    let url = store_url(folder.path(), options.postgres)?;
    measure(&options, &url, Phase::Empty).await?;
    fill(&options, &url).await?;
    postpone_removal(&options, &url, true).await?;
    measure(&options, &url, Phase::Full).await?;
    postpone_removal(&options, &url, false).await?;
    measure(&options, &url, Phase::Removing).await
}
