//! Punctual inside a service of one's own: a job, a handler of one's own, and the parts wired together.
//!
//! `cargo run -p punctual-infrastructure --example own_handler` runs yesterday's work for two tenants and
//! ends. A real service would keep `stop` for its own end, and name its own Config Database.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{HandlerError, Page, PurposeHandler, SystemClock, TenantRuns},
};
use punctual_config_database::{Server, ServerSettings};
use punctual_domain::{BatchConfig, Item, PurposeId, TenantId, Zone};
use punctual_infrastructure::{
    BatchScheduler, ClientOptions, ConfigDatabaseClient, DynamicBatchScheduler, SchedulerOptions,
    Sources, Store, Worker,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What your product does for one user.
struct Greeter;

#[async_trait]
impl PurposeHandler for Greeter {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        let preference = item
            .preference
            .as_ref()
            .ok_or_else(|| HandlerError::permanent("no preference"))?;
        let word = preference["template_overrides"]["word"]
            .as_str()
            .unwrap_or("Hello");
        // Hand `item.idempotency_key()` on to whatever has an effect outside.
        Ok(json!({ "text": format!("{word}, {}! ({})", item.tenant_id, item.occurrence) }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let stop = CancellationToken::new();
    let config_database = config_database(&file("config.db"), folder.path()).await?;
    let url = format!("http://{}", config_database.addr());
    tokio::spawn(config_database.serve(stop.clone().cancelled_owned()));

    // The job: everyone who wants greetings, when they want them.
    let zone = Zone::utc();
    let config = Arc::new(BatchConfig::parse(
        &json!({"jobs": [{
            "job_id": "greetings", "type": "individual_batch", "purpose_id": "greet",
            "preference_based": true, "feature_type": "greetings"
        }]}),
        &zone,
    )?);
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("greet")?,
        Arc::new(Greeter),
        Handlers::DEFAULT_TIMEOUT,
    );

    // The parts. Each is held as a port, so a test can put a mock or a fake in its place.
    let clock = Arc::new(SystemClock);
    let client = Arc::new(ConfigDatabaseClient::new(ClientOptions::new(url))?);
    let store = Store::open(&file("punctual.db")).await?;
    let items = Arc::new(Sources::in_folder(folder.path())?);
    let (_stopping, stopped) = watch::channel(false);
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.batches(), clock.clone()),
        client.clone(),
        items.clone(),
        config.clone(),
        zone.clone(),
        Limits {
            max_concurrent_items: 25,
            retry: RetryPolicy::new(3, || 0.5),
        },
        stopped,
    );
    let options = SchedulerOptions {
        chunk_size: 500,
        look_back: TimeDelta::hours(24),
    };
    let base = BatchScheduler::new(config, items, store.queue(), clock, options);
    let scheduler =
        DynamicBatchScheduler::new(base, client, Duration::from_secs(60), &zone, fastrand::f64);

    let scheduling = tokio::spawn(scheduler.run(stop.clone()));
    let working = tokio::spawn(Worker::new(store.clone(), processor).run(stop.clone()));
    for tenant in ["ann", "bob"] {
        println!("{}", first_text(&store, tenant).await?);
    }
    stop.cancel();
    scheduling.await?;
    working.await?;
    Ok(())
}

/// A Config Database with two tenants, who stored their preferences long ago.
async fn config_database(
    url: &str,
    folder: &std::path::Path,
) -> Result<Server, Box<dyn std::error::Error>> {
    let line = |tenant: &str, word: &str| {
        json!({"tenant_id": tenant, "updated_at": "2026-01-01T00:00:00Z", "config_value": {"greetings": {
            "enabled": true, "frequency": "daily", "preferred_time": "09:00", "template_overrides": {"word": word}
        }}})
        .to_string()
    };
    let file = folder.join("preferences.ndjson");
    std::fs::write(
        &file,
        [line("ann", "Good morning"), line("bob", "Moin")].join("\n"),
    )?;
    let settings = ServerSettings {
        store_url: url.to_owned(),
        addr: "127.0.0.1:0".parse()?,
        admin_key: None,
    };
    let server = Server::bind(settings).await?;
    server.store().import_file(&file).await?;
    Ok(server)
}

/// Waits for a tenant's first result and returns its text.
async fn first_text(store: &Store, tenant: &str) -> Result<String, Box<dyn std::error::Error>> {
    let filter = TenantRuns {
        tenant_id: TenantId::new(tenant)?,
        job_id: None,
    };
    for _ in 0..600 {
        let (runs, _) = store
            .reader()
            .tenant_runs(&filter, &Page::default())
            .await?;
        if let Some(output) = runs.first().and_then(|run| run.result.output.as_ref()) {
            return Ok(output["text"].as_str().unwrap_or_default().to_owned());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{tenant} got nothing within 30 s").into())
}
