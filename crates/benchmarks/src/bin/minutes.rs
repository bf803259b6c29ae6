//! How late items begin, and what it costs, while many jobs and many slots fall due minute after minute: the real scheduler,
//! queue, processor and store in this process, with a handler that does nothing. Between the minutes it measures what the
//! process does with nothing to do.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin minutes -- --plain 60 --minutes 60
//! cargo run --release -p punctual-benchmarks --bin minutes -- --preferences 1000 --users 10
//! cargo run --release -p punctual-benchmarks --bin minutes -- --slots 1024
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use clap::Parser;
use punctual_application::{
    BatchProcessor, Binding, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{HandlerError, PurposeHandler, SystemClock},
};
use punctual_benchmarks::{Fixed, Users, cpu_seconds, fields, store_url};
use punctual_domain::{FeatureType, Item, Outcome, PurposeId, Zone};
use punctual_infrastructure::{
    BatchScheduler, DynamicBatchScheduler, SchedulerOptions, Sources, Worker,
};
use punctual_store::Store;
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Event, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::FilterFn,
    layer::{Context as LayerContext, SubscriberExt},
    util::SubscriberInitExt,
};

/// Measures minute after minute.
#[derive(Parser)]
struct Options {
    /// Plain jobs that fall due each minute, with one item each
    #[arg(long, default_value_t = 0)]
    plain: usize,
    /// Jobs that follow preferences, each of a feature of its own
    #[arg(long, default_value_t = 0)]
    preferences: usize,
    /// Users of each of these jobs, who all fall due in the first minute
    #[arg(long, default_value_t = 1)]
    users: usize,
    /// Users of one more job, each in a slot of their own, who fall due in the first minute
    #[arg(long, default_value_t = 0)]
    slots: usize,
    /// How long it goes on
    #[arg(long, default_value_t = 1)]
    minutes: u32,
    /// In the database of `TEST_POSTGRES_URL`, which must be empty, instead of a `SQLite` file
    #[arg(long)]
    postgres: bool,
}

/// How late each item began, in microseconds.
static LATE: Mutex<Vec<i64>> = Mutex::new(Vec::new());
/// Statements that were sent while they are counted.
static STATEMENTS: AtomicU64 = AtomicU64::new(0);
static COUNTS: AtomicBool = AtomicBool::new(false);

struct Nothing;

#[async_trait]
impl PurposeHandler for Nothing {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let late = (Utc::now() - item.scheduled_at).num_microseconds();
        let mut all = LATE.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(late);
        Ok(Value::Null.into())
    }
}

struct CountsStatements;

impl<S: Subscriber> Layer<S> for CountsStatements {
    fn on_event(&self, _: &Event<'_>, _: LayerContext<'_, S>) {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
    }
}

/// The users of the jobs, who fall due at `due`.
struct Due {
    options: Options,
    due: DateTime<Utc>,
}

/// The feature of the job in which each user has a slot of their own.
const OF_SLOTS: &str = "slots";

impl Users for Due {
    fn count(&self, feature_type: &FeatureType) -> usize {
        if feature_type.as_str() == OF_SLOTS {
            self.options.slots
        } else {
            self.options.users
        }
    }

    /// Each number of a slot stands for other days, or for another zone.
    fn preference(&self, feature_type: &FeatureType, user: usize) -> Arc<Map<String, Value>> {
        const ZONES: [&str; 16] = [
            "UTC",
            "Africa/Abidjan",
            "Africa/Accra",
            "Africa/Bamako",
            "Africa/Banjul",
            "Africa/Bissau",
            "Africa/Conakry",
            "Africa/Dakar",
            "Africa/Freetown",
            "Africa/Lome",
            "Africa/Monrovia",
            "Africa/Nouakchott",
            "Africa/Ouagadougou",
            "Atlantic/Reykjavik",
            "Atlantic/St_Helena",
            "Africa/Sao_Tome",
        ];
        let is_of_slots = feature_type.as_str() == OF_SLOTS;
        let slot = if is_of_slots { user } else { 0 };
        let today = self.due.format("%A").to_string().to_lowercase();
        let days = slot / ZONES.len();
        let others = (1..7).filter(|day| (days >> (day - 1)) & 1 == 1);
        let days = others.map(|day| (self.due + TimeDelta::days(day)).format("%A").to_string());
        let days: Vec<String> = std::iter::once(today)
            .chain(days.map(|day| day.to_lowercase()))
            .collect();
        fields(
            &json!({"enabled": true, "frequency": "weekly", "preferred_day": days,
            "preferred_time": self.due.format("%H:%M").to_string(), "timezone": ZONES[slot % ZONES.len()]}),
        )
    }
}

fn jobs(options: &Options) -> Value {
    let plain = (0..options.plain).map(|n| {
        json!({"job_id": format!("plain{n}"), "type": "individual_batch", "purpose_id": "nothing",
            "schedule": {"cron": "* * * * *"}, "source": {"ids": ["one"]}})
    });
    let features = (0..options.preferences).map(|n| format!("feature{n}"));
    let features = features.chain((options.slots > 0).then(|| OF_SLOTS.to_owned()));
    let of_preferences = features.map(|feature| {
        json!({"job_id": feature, "type": "individual_batch", "purpose_id": "nothing",
            "preference_based": true, "feature_type": feature})
    });
    json!({"jobs": plain.chain(of_preferences).collect::<Vec<_>>()})
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let counted =
        |meta: &Metadata<'_>| meta.target() == "sqlx::query" && COUNTS.load(Ordering::Relaxed);
    let is_counted = FilterFn::new(counted).with_max_level_hint(LevelFilter::DEBUG);
    let warnings = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(warnings)
        .with(CountsStatements.with_filter(is_counted))
        .init();
    let folder = tempfile::tempdir()?;
    let url = store_url(folder.path(), options.postgres)?;
    let store = Store::open(&url).await?;
    let config = Arc::new(punctual_project::parse_batch_config(
        &jobs(&options),
        &Zone::utc(),
    )?);
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("nothing")?,
        Arc::new(Nothing),
        Binding::default(),
    );
    let clock = Arc::new(SystemClock);
    let sources = Arc::new(Sources::in_folder(Path::new("."))?);
    // Far enough from the minute to have loaded all.
    let start = Utc::now() + TimeDelta::seconds(10);
    let due = start + TimeDelta::seconds(60 - i64::from(start.second()));
    let (minutes, database) = (options.minutes, options.postgres);
    let what = format!(
        "{} plain jobs, {} that follow preferences with {} users each, {} slots",
        options.plain, options.preferences, options.users, options.slots
    );
    let users = Arc::new(Fixed(Arc::new(Due { options, due })));
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.batches(), clock.clone()),
        users.clone(),
        sources.clone(),
        config.clone(),
        Zone::utc(),
        Limits {
            max_concurrent_items: 25,
            retry: RetryPolicy::new(0, || 0.5),
        },
        CancellationToken::new(),
    );
    let scheduler = SchedulerOptions {
        chunk_size: 500,
        look_back: TimeDelta::zero(),
    };
    let base = BatchScheduler::new(config, sources, store.queue(), clock, scheduler);
    let poll_interval = Duration::from_mins(1);
    let scheduler =
        DynamicBatchScheduler::new(base, users, poll_interval, &Zone::utc(), fastrand::f64);
    let status = scheduler.status();
    let processor = processor.with_mirror(Arc::new(status.clone()));
    let stop = CancellationToken::new();
    let worker = Worker::new(store.chunks(), store.queue(), processor);
    let working = tokio::spawn(worker.run(stop.clone()));
    let scheduling = tokio::spawn(scheduler.run(stop.clone()));
    let all_loaded = async {
        status
            .wait_for(|status| status.jobs.values().all(|job| job.loaded))
            .await
    };
    all_loaded.await;

    let mut idle = Idle::default();
    for minute in 0..minutes {
        let begins = due + TimeDelta::minutes(minute.into());
        sleep_until(begins).await;
        let before = cpu_seconds()?;
        sleep_until(begins + TimeDelta::seconds(25)).await;
        idle.busy += cpu_seconds()? - before;
        idle.measure_until(begins + TimeDelta::seconds(55)).await?;
    }
    stop.cancel();
    working.await?;
    scheduling.await?;

    let mut late = std::mem::take(&mut *LATE.lock().unwrap_or_else(PoisonError::into_inner));
    late.sort_unstable();
    let items = late.len();
    let of = |permille: usize| late.get((items * permille / 1000).min(items.saturating_sub(1)));
    let ms = |permille| of(permille).copied().unwrap_or_default() as f64 / 1000.0;
    println!(
        "{what}; {minutes} min, {}: {items} items; from due to begun p50 {:.1} ms, p99 {:.1} ms, the last {:.1} ms; \
         {:.0} µs of CPU each; with nothing to do {:.1} statements/s, {:.2} % of a core",
        if database { "PostgreSQL" } else { "SQLite" },
        ms(500),
        ms(990),
        ms(1000),
        idle.busy * 1e6 / items.max(1) as f64,
        idle.statements as f64 / idle.seconds,
        idle.cpu / idle.seconds * 100.0,
    );
    Ok(())
}

/// What happened while something, and while nothing was to do, in seconds.
#[derive(Default)]
struct Idle {
    busy: f64,
    cpu: f64,
    seconds: f64,
    statements: u64,
}

impl Idle {
    async fn measure_until(&mut self, end: DateTime<Utc>) -> anyhow::Result<()> {
        let (cpu, statements, began) = (
            cpu_seconds()?,
            STATEMENTS.load(Ordering::Relaxed),
            Utc::now(),
        );
        count_statements(true);
        sleep_until(end).await;
        count_statements(false);
        self.cpu += cpu_seconds()? - cpu;
        self.statements += STATEMENTS.load(Ordering::Relaxed) - statements;
        self.seconds += (Utc::now() - began).as_seconds_f64();
        Ok(())
    }
}

fn count_statements(on: bool) {
    COUNTS.store(on, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

async fn sleep_until(instant: DateTime<Utc>) {
    sleep((instant - Utc::now()).to_std().unwrap_or_default()).await;
}
