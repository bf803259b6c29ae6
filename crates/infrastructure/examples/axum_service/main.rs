//! An axum service with Punctual inside: its users set their preferences over its own HTTP API, in its own data, and what
//! they asked for runs in the same process.
//!
//! `cargo run -p punctual-infrastructure --example axum_service` starts it, visits it as a user would, and ends.

mod preferences;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use chrono::TimeDelta;
use preferences::Preferences;
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy, StatusHandle,
    ports::{BatchReader, Clock, HandlerError, Page, PurposeHandler, SystemClock, TenantRuns},
};
use punctual_domain::{
    BatchConfig, FeatureType, Item, JobId, MergedPreference, Preference, PurposeId, TenantId, Zone,
};
use punctual_infrastructure::{
    BatchScheduler, DynamicBatchScheduler, SchedulerOptions, Sources, Store, Worker,
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const JOB: &str = "reports";

/// What the service does for one user.
struct Report;

#[async_trait]
impl PurposeHandler for Report {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        Ok(json!({ "text": format!("Report of {} for {}", item.occurrence, item.tenant_id) }))
    }
}

#[derive(Clone)]
struct App {
    feature: FeatureType,
    preferences: Arc<Preferences>,
    schedule: StatusHandle,
    results: Arc<dyn BatchReader>,
}

type Refused = (StatusCode, String);

fn bad(error: impl std::fmt::Display) -> Refused {
    (StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
}

/// `PUT /users/{id}/reports`: when somebody wants their report.
async fn choose(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(preference): Json<Map<String, Value>>,
) -> Result<StatusCode, Refused> {
    let tenant = TenantId::new(id).map_err(bad)?;
    // The caller gets every mistake at once, before a nightly run meets it.
    let parsed = Preference::parse(&preference).map_err(bad)?;
    MergedPreference::merge(&parsed, &Preference::default(), &Zone::utc()).map_err(bad)?;
    app.preferences
        .store(&app.feature, tenant, preference, SystemClock.now());
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /users/{id}/reports`: what has come, and when the next one does.
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Refused> {
    let tenant_id = TenantId::new(id).map_err(bad)?;
    let job_id = JobId::new(JOB).map_err(bad)?;
    let status = app.schedule.get();
    let slot = status
        .jobs
        .get(&job_id)
        .and_then(|job| job.mirror.read(|mirror| mirror.slot_of(&tenant_id)));
    let runs = TenantRuns {
        tenant_id,
        job_id: Some(job_id),
    };
    let (runs, _) = app
        .results
        .tenant_runs(&runs, &Page::default())
        .await
        .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let texts = runs.iter().filter_map(|run| run.result.output.clone());
    Ok(Json(json!({
        "reports": texts.collect::<Value>(),
        "slot": slot.as_ref().map(ToString::to_string),
        "next": slot.and_then(|slot| slot.next_after(SystemClock.now())),
    })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (stop, zone, clock) = (CancellationToken::new(), Zone::utc(), Arc::new(SystemClock));
    let config = Arc::new(BatchConfig::parse(
        &json!({"jobs": [{"job_id": JOB, "type": "individual_batch", "purpose_id": "report",
            "preference_based": true, "feature_type": "reports"}]}),
        &zone,
    )?);
    let feature = FeatureType::new("reports")?;
    let preferences = Arc::new(Preferences::default());
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
    let daily = daily.as_object().cloned().unwrap_or_default();
    let last_year = "2025-01-01T00:00:00Z".parse()?;
    preferences.store(&feature, TenantId::new("ann")?, daily, last_year);

    let store = Store::open(&format!(
        "sqlite://{}",
        folder.path().join("p.db").display()
    ))
    .await?;
    let items = Arc::new(Sources::in_folder(folder.path())?);
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("report")?,
        Arc::new(Report),
        Handlers::DEFAULT_TIMEOUT,
    );
    let (_stopping, stopped) = watch::channel(false);
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.batches(), clock.clone()),
        preferences.clone(),
        items.clone(),
        config.clone(),
        zone.clone(),
        Limits {
            max_concurrent_items: 25,
            retry: RetryPolicy::new(3, fastrand::f64),
        },
        stopped,
    );
    let options = SchedulerOptions {
        chunk_size: 500,
        // Of a job that has never run, yesterday is made up for.
        look_back: TimeDelta::hours(24),
    };
    let base = BatchScheduler::new(config, items, store.queue(), clock, options);
    let poll = Duration::from_secs(60);
    let scheduler =
        DynamicBatchScheduler::new(base, preferences.clone(), poll, &zone, fastrand::f64);

    let app = App {
        feature,
        preferences,
        schedule: scheduler.status(),
        results: store.reader(),
    };
    let router = Router::new()
        .route("/users/{id}/reports", get(show).put(choose))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let scheduling = tokio::spawn(scheduler.run(stop.clone()));
    let working = tokio::spawn(Worker::new(store, processor).run(stop.clone()));
    let serving = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future(),
    );

    visit(&format!("http://{address}/users")).await?;

    stop.cancel();
    scheduling.await?;
    working.await?;
    serving.await??;
    Ok(())
}

/// What a user sees.
async fn visit(users: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let ann = format!("{users}/ann/reports");
    let until = async |is_it: fn(&Value) -> bool| {
        for _ in 0..600 {
            let shown: Value = client.get(&ann).send().await?.json().await?;
            if is_it(&shown) {
                return Ok(shown);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err::<Value, Box<dyn std::error::Error>>("it did not happen within 30 s".into())
    };
    let shown = until(|shown| shown["reports"][0]["text"].is_string()).await?;
    println!("ann has {}", shown["reports"][0]["text"]);

    let moved = json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday", "preferred_time": "17:30"});
    let answer = client.put(&ann).json(&moved).send().await?;
    println!("ann moves to Friday evening: {}", answer.status());
    let shown = until(|shown| shown["slot"] == "weekly friday 17:30 UTC").await?;
    println!("the next one comes at {}", shown["next"]);

    let wrong = json!({"enabled": true, "frequency": "weekly", "preferred_day": "someday"});
    let answer = client.put(&ann).json(&wrong).send().await?;
    println!("{}: {}", answer.status(), answer.text().await?);
    Ok(())
}
