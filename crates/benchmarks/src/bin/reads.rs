//! How long operators wait: every read of the pages and the API, with 400 days of results in the store, at rest and while a
//! minute of many users runs. The history is written by SQL, as the tables stand, because the store's ports would take
//! minutes; everything else is the real thing: pages and calls go through the router, and the minute through the worker.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin reads
//! cargo run --release -p punctual-benchmarks --bin reads -- --slots 288 --file /tmp/reads.db
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use chrono::{NaiveDate, TimeDelta, Utc};
use clap::Parser;
use punctual::{
    Access, FeatureType, HandlerError, Item, Job, JobId, Outcome, Punctual, PurposeHandler, Store,
    TriggerRequest,
    axum::{
        Router,
        body::{Body, to_bytes},
        extract::{ConnectInfo, Request},
    },
    sqlx::{self, sqlite::SqlitePoolOptions},
};
use punctual_benchmarks::{Fixed, Users, fields, log, user_id};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

/// Measures what operators read.
#[derive(Parser)]
struct Options {
    /// Users with a history
    #[arg(long, default_value_t = 12_500)]
    users: usize,
    /// Days of history, with a result for each user and day
    #[arg(long, default_value_t = 400)]
    days: i64,
    /// Times of day at which users fall due: batches of each day
    #[arg(long, default_value_t = 48)]
    slots: usize,
    /// Users of the minute that runs meanwhile
    #[arg(long, default_value_t = 100_000)]
    minute: usize,
    /// Number of times that each read is measured at rest
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Keep the store in this file; one that has a history is used as it is
    #[arg(long)]
    file: Option<PathBuf>,
}

struct Idle;

#[async_trait]
impl PurposeHandler for Idle {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        Ok(json!({ "text": format!("Good morning, {}", item.item_id) }).into())
    }
}

/// Users of `posts` at the times of day of their history, and those of the minute, who never fall due by themselves.
struct Readers {
    posts: usize,
    slots: usize,
    minute: usize,
}

impl Users for Readers {
    fn count(&self, feature_type: &FeatureType) -> usize {
        match feature_type.as_str() {
            "posts" => self.posts,
            _ => self.minute,
        }
    }

    fn preference(&self, feature_type: &FeatureType, number: usize) -> Arc<Map<String, Value>> {
        let minute = number % self.slots * 1_440 / self.slots;
        let preferred_time = format!("{:02}:{:02}", minute / 60, minute % 60);
        fields(&if feature_type.as_str() == "posts" {
            json!({"enabled": true, "frequency": "daily", "timezone": "UTC",
                "preferred_time": preferred_time})
        } else {
            json!({"enabled": true, "frequency": "monthly", "timezone": "UTC",
                "preferred_time": "00:00"})
        })
    }
}

/// The history: `$1` users, `$2` days before `$3` (a date), `$4` slots, in this order. One user of a thousand fails on a day;
/// the failures of the last ten days are open.
const HISTORY: [&str; 13] = [
    "CREATE TEMP TABLE users AS WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < $1)
         SELECT n, printf('user%08d', n) AS id, n % $4 AS slot, n / $4 / 500 AS part FROM n",
    "CREATE TEMP TABLE days AS WITH RECURSIVE d(d) AS (SELECT 1 UNION ALL SELECT d + 1 FROM d WHERE d < $2)
         SELECT d, date($3, (d - 1 - $2) || ' days') AS date,
             unixepoch($3, (d - 1 - $2) || ' days') * 1000000 AS midnight FROM d",
    "CREATE TEMP TABLE failing AS SELECT (1000 - n % 1000) % 1000 AS day, slot, part FROM users",
    "CREATE INDEX temp.failing_by_day ON failing (day, slot, part)",
    "CREATE TEMP TABLE pieces AS
         SELECT d, date, s.slot, s.part, total, printf('%08x-0000-4000-8000-%012x', d, s.slot) AS batch_id,
             (SELECT count(*) FROM failing f WHERE f.day = d % 1000 AND f.slot = s.slot AND f.part = s.part) AS failed,
             midnight + s.slot * 86400000000 / $4 AS due, row_number() OVER (ORDER BY d, s.slot, s.part) AS chunk, message
         FROM days CROSS JOIN (SELECT slot, part, count(*) AS total,
             json_object('items', json_group_array(id)) AS message FROM users GROUP BY slot, part) s",
    "INSERT INTO runs (run, job_id, occurrence) SELECT d, 'posts', date FROM days",
    "INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, succeeded, failed, skipped,
             created_at, finished_at, key_form, run)
         SELECT batch_id, 'posts', 'daily at ' || time(due / 1000000, 'unixepoch'), due, 'schedule', 'completed', sum(total),
             sum(total - failed), sum(failed), 0, due + 50000, due + 2000000, 'slashes', d
         FROM pieces GROUP BY d, slot",
    "INSERT INTO chunks (chunk, chunk_id, batch_id, job_id, occurrence, total, place, succeeded, failed, done, run)
         SELECT chunk, batch_id || '/' || part, batch_id, 'posts', date, total, part, total - failed, failed, 1, d FROM pieces",
    "INSERT INTO chunk_messages (chunk, message) SELECT chunk, message FROM pieces",
    "INSERT INTO preferences (hash, content) SELECT CAST(printf('%016d', n) AS BLOB),
             json_object('frequency', 'daily', 'preferred_time', time(n * 86400 / $4, 'unixepoch'), 'timezone', 'UTC')
         FROM users WHERE n < $4",
    "INSERT INTO results (run, tenant_id, chunk, status, attempts, preference, output, error, started_at, duration)
         SELECT p.d, u.id, p.chunk, 1 + ((u.n + p.d) % 1000 = 0), 1, CAST(printf('%016d', u.slot) AS BLOB),
             CASE WHEN (u.n + p.d) % 1000 > 0 THEN '{\"text\":\"Good morning, ' || u.id || ', here is what is new today\"}' END,
             CASE WHEN (u.n + p.d) % 1000 = 0 THEN 'the endpoint answered 500' END, p.due + 100000 + u.n, 250000
         FROM days JOIN users u JOIN pieces p ON p.d = days.d AND p.slot = u.slot AND p.part = u.part",
    "INSERT INTO dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason, failed_at, state)
         SELECT 'posts', u.id, p.date, p.batch_id, p.due, 4, 'the endpoint answered 500', p.due + 1000000,
             CASE WHEN p.d + 10 > $2 THEN 'open' ELSE 'discarded' END
         FROM pieces p JOIN users u ON u.slot = p.slot AND u.part = p.part WHERE (u.n + p.d) % 1000 = 0 ORDER BY p.d",
    "INSERT INTO deliveries (batch_id, target, state) SELECT batch_id, '{\"file\":\"out\"}', 'done'
         FROM pieces GROUP BY d, slot",
];

/// The rest, which takes no values.
const ALSO: [&str; 3] = [
    "CREATE INDEX temp.pieces_by_place ON pieces (d, slot, part)",
    "INSERT INTO audit_log (at, by, action, subject, detail) SELECT midnight, 'page from 10.0.0.7', 'trigger', 'posts', ''
         FROM days CROSS JOIN (SELECT 1 FROM users LIMIT 10)",
    "INSERT INTO schedule_progress (job_id, scheduled_until, began)
         SELECT 'posts', unixepoch() * 1000000, min(midnight) FROM days",
];

/// Writes the history, unless the store has one.
async fn fill(options: &Options, path: &str, today: NaiveDate) -> anyhow::Result<()> {
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect(&format!("sqlite://{path}")).await?;
    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM runs")
        .fetch_one(&pool)
        .await?;
    if known > 0 {
        return Ok(());
    }
    let began = Instant::now();
    for pragma in [
        "synchronous = OFF",
        "cache_size = -262144",
        "temp_store = MEMORY",
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA {pragma}")))
            .execute(&pool)
            .await?;
    }
    let mut transaction = pool.begin().await?;
    let (before, after) = HISTORY.split_at(5);
    for (statements, rest) in [(before, &ALSO[..1]), (after, &ALSO[1..])] {
        for statement in statements {
            sqlx::query(*statement)
                .bind(options.users as i64)
                .bind(options.days)
                .bind(today.to_string())
                .bind(options.slots as i64)
                .execute(&mut *transaction)
                .await
                .with_context(|| format!("cannot run {statement}"))?;
        }
        for statement in rest {
            sqlx::query(*statement).execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    pool.close().await;
    println!("history written in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Answers a GET, and how long it took.
async fn get(router: &Router, path: &str) -> anyhow::Result<(Duration, Vec<u8>)> {
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9)));
    let request = Request::get(path).header("host", "localhost");
    let request = request.extension(peer).body(Body::empty())?;
    let began = Instant::now();
    let Ok(response) = router.clone().oneshot(request).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await?;
    let took = began.elapsed();
    ensure!(
        status.is_success(),
        "{path}: {status} {}",
        String::from_utf8_lossy(&body)
    );
    Ok((took, body.to_vec()))
}

async fn get_json(router: &Router, path: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&get(router, path).await?.1)?)
}

/// The page of a list after about `entries` others.
async fn deep(router: &Router, list: &str, entries: usize) -> anyhow::Result<String> {
    let mut cursor = String::new();
    for _ in 0..entries / 1_000 {
        let page = get_json(router, &format!("{list}?limit=1000{cursor}")).await?;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    Ok(format!("{list}?limit=100{cursor}"))
}

/// Queues the minute.
async fn trigger(punctual: &Punctual) -> anyhow::Result<uuid::Uuid> {
    let all: TriggerRequest = serde_json::from_value(json!({"all": true}))?;
    let minute = JobId::new("minute")?;
    let operator = punctual.operator();
    Ok(operator
        .trigger(&"benchmark".into(), None, &minute, &all)
        .await?
        .batch_id)
}

async fn is_over(punctual: &Punctual, batch: uuid::Uuid) -> anyhow::Result<bool> {
    Ok(punctual
        .operator()
        .batch(batch)
        .await?
        .finished_at
        .is_some())
}

/// Half of the times are shorter, and the longest, in milliseconds.
fn p50_and_max(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    (ms(times.get(times.len() / 2)), ms(times.last()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let _telemetry = log("error")?;
    let folder = tempfile::tempdir()?;
    let file = options.file.clone();
    let file = file.unwrap_or_else(|| folder.path().join("punctual.db"));
    let path = file.display().to_string();
    let today = Utc::now().date_naive();
    let store = Store::open(&format!("sqlite://{path}")).await?;
    fill(&options, &path, today).await?;
    let users = Readers {
        posts: options.users,
        slots: options.slots,
        minute: options.minute,
    };
    let punctual = Punctual::builder()
        .store(store)
        .preferences(Fixed(Arc::new(users)))
        .handler("idle", Idle)
        .job(Job::following("posts").runs("idle"))
        .job(Job::following("minute").runs("idle"))
        .start()
        .await?;
    ensure!(punctual.ready().await, "it has stopped");
    let router: Router = punctual.router(Access::this_machine("none"));

    // The minute alone, which also leaves a batch with many results.
    let began = Instant::now();
    let alone = trigger(&punctual).await?;
    while !is_over(&punctual, alone).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alone_took = began.elapsed();

    let one = user_id(options.users / 3);
    let days_ago = |days: i64| today - TimeDelta::days(days);
    let (week, month) = (days_ago(7), days_ago(30));
    let yesterday = days_ago(1);
    let results = format!("/api/v1/batches/{alone}/results");
    let deep_results = deep(&router, &results, options.minute * 9 / 10).await?;
    let deep_batches = deep(&router, "/api/v1/batches", 15_000).await?;
    let reads = [
        ("overview", "/".to_owned()),
        ("ready", "/health/ready".to_owned()),
        ("jobs", "/jobs".to_owned()),
        ("job", "/jobs/posts".to_owned()),
        ("upcoming", "/api/v1/schedule/upcoming?hours=24".to_owned()),
        ("batches", "/batches".to_owned()),
        ("batches, deep", deep_batches),
        (
            "batches that run",
            "/api/v1/batches?status=running".to_owned(),
        ),
        (
            "batches of a job that run",
            "/api/v1/batches?status=running&job_id=posts".to_owned(),
        ),
        ("batch", format!("/batches/{alone}")),
        ("results", format!("{results}?limit=100")),
        ("results, deep", deep_results),
        ("results that failed", format!("{results}?status=failed")),
        ("tenant", format!("/tenants/{one}")),
        ("runs", format!("/api/v1/tenants/{one}/runs")),
        (
            "runs of a job, 1000",
            format!("/api/v1/tenants/{one}/runs?job_id=posts&limit=1000"),
        ),
        (
            "runs of an unknown",
            "/api/v1/tenants/unknown/runs".to_owned(),
        ),
        (
            "explain yesterday",
            format!("/api/v1/tenants/{one}/explain?job_id=posts&date={yesterday}"),
        ),
        (
            "explain a month ago",
            format!("/api/v1/tenants/{one}/explain?job_id=posts&date={month}"),
        ),
        (
            "explain today",
            format!("/api/v1/tenants/{one}/explain?job_id=posts"),
        ),
        ("dead letters", "/dead-letters".to_owned()),
        (
            "dead letters, replayed",
            "/api/v1/dead-letters?state=replayed".to_owned(),
        ),
        (
            "dead letters of a tenant",
            format!("/api/v1/dead-letters?tenant_id={one}"),
        ),
        (
            "backfill, a day",
            format!("/jobs/posts/backfill?from={yesterday}&to={yesterday}"),
        ),
        (
            "backfill, a week",
            format!("/jobs/posts/backfill?from={week}&to={yesterday}"),
        ),
        (
            "backfill, 30 days",
            format!("/jobs/posts/backfill?from={month}&to={yesterday}"),
        ),
        ("replicas", "/replicas".to_owned()),
        ("audit log", "/audit-log".to_owned()),
    ];
    let mut at_rest = Vec::new();
    for (name, path) in &reads {
        get(&router, path).await?;
        let mut times = Vec::new();
        for _ in 0..options.rounds {
            match get(&router, path).await {
                Ok((took, _)) => times.push(took),
                Err(error) => anyhow::bail!("{name}: {error}"),
            }
        }
        at_rest.push(p50_and_max(&mut times));
    }

    let mut meanwhile: Vec<Vec<Duration>> = vec![Vec::new(); reads.len()];
    let began = Instant::now();
    let busy = trigger(&punctual).await?;
    'minute: loop {
        for ((_, path), times) in reads.iter().zip(&mut meanwhile) {
            if is_over(&punctual, busy).await? {
                break 'minute;
            }
            times.push(get(&router, path).await?.0);
        }
    }
    let busy_took = began.elapsed();

    println!(
        "{} results over {} days in {} batches; ms: half are below, and the longest\n{:28} {:>16} {:>16}",
        options.users as i64 * options.days,
        options.days,
        options.slots as i64 * options.days,
        "",
        "at rest",
        "in the minute",
    );
    for (((name, _), rest), mut busy) in reads.iter().zip(at_rest).zip(meanwhile) {
        let busy = p50_and_max(&mut busy);
        println!(
            "{name:28} {:8.1}{:8.1} {:8.1}{:8.1}",
            rest.0, rest.1, busy.0, busy.1
        );
    }
    println!(
        "a minute of {} users: {:.2} s alone, {:.2} s with reads without a pause",
        options.minute,
        alone_took.as_secs_f64(),
        busy_took.as_secs_f64(),
    );
    punctual.shut_down(Duration::from_secs(5)).await;
    Ok(())
}
