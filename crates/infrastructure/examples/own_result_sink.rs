//! Results into a place of one's own: a table, a topic, a warehouse.
//!
//! `cargo run -p punctual-infrastructure --example own_result_sink` runs yesterday's report for three users, has the sink
//! fail once, and ends when everything has arrived.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{HandlerError, PurposeHandler, ResultSink, SinkError, StoredResult, SystemClock},
};
use punctual_domain::{Batch, BatchConfig, Item, PurposeId, Zone};
use punctual_infrastructure::{
    BatchScheduler, ClientOptions, ConfigDatabaseClient, Deliverer, SchedulerOptions, Sources,
    Store, Worker,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

struct Report;

#[async_trait]
impl PurposeHandler for Report {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        Ok(json!({ "pages": item.tenant_id.as_str().len() }))
    }
}

/// Sends rows on, as to a warehouse. Rows have a key, so that what comes twice is there once.
struct Warehouse {
    rows: mpsc::Sender<(String, String)>,
    calls: std::sync::atomic::AtomicU32,
}

#[async_trait]
impl ResultSink for Warehouse {
    async fn take(
        &self,
        batch: &Batch,
        results: &[StoredResult],
        _: bool,
    ) -> Result<(), SinkError> {
        if self
            .calls
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            == 0
        {
            return Err(SinkError::retryable("the warehouse is closed"));
        }
        for result in results {
            let item = &result.result;
            let key = format!("{}/{}/{}", result.job_id, item.tenant_id, result.occurrence);
            let row = format!(
                "{} in {}: {}",
                item.status.as_str(),
                batch.slot,
                json!(item.output)
            );
            self.rows.send((key, row)).await?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("users.json"), r#"["ann", "bob", "eve"]"#)?;
    let (stop, zone, clock) = (CancellationToken::new(), Zone::utc(), Arc::new(SystemClock));
    let config = Arc::new(BatchConfig::parse(
        &json!({"jobs": [{"job_id": "reports", "type": "individual_batch", "purpose_id": "report",
            "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "source": {"file": "users.json"},
            "deliver": [{"sink": "warehouse"}]}]}),
        &zone,
    )?);
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("report")?,
        Arc::new(Report),
        Handlers::DEFAULT_TIMEOUT,
    );
    let store = Store::open(&format!(
        "sqlite://{}",
        folder.path().join("p.db").display()
    ))
    .await?;
    let items = Arc::new(Sources::in_folder(folder.path())?);
    let (_stopping, stopped) = watch::channel(false);
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.batches(), clock.clone()),
        // A job with a fixed schedule asks no Config Database.
        Arc::new(ConfigDatabaseClient::new(ClientOptions::new(
            "http://127.0.0.1:8000",
        ))?),
        items.clone(),
        config.clone(),
        zone,
        Limits {
            max_concurrent_items: 25,
            retry: RetryPolicy::new(3, fastrand::f64),
        },
        stopped,
    );
    let options = SchedulerOptions {
        chunk_size: 500,
        look_back: TimeDelta::hours(24),
    };
    let scheduler = BatchScheduler::new(config, items, store.queue(), clock.clone(), options);

    let (rows, mut received) = mpsc::channel(16);
    let warehouse = Arc::new(Warehouse {
        rows,
        calls: 0.into(),
    });
    let deliverer = Deliverer::new(
        store.deliveries(),
        store.reader(),
        clock,
        folder.path().to_owned(),
    )
    .with_sink("warehouse", warehouse);
    let running = [
        tokio::spawn(scheduler.run(stop.clone())),
        tokio::spawn(Worker::new(store, processor).run(stop.clone())),
        tokio::spawn(deliverer.run(stop.clone())),
    ];

    let mut table = BTreeMap::new();
    while table.len() < 3 {
        let row = tokio::time::timeout(Duration::from_secs(60), received.recv()).await?;
        table.extend(row);
    }
    for (key, row) in &table {
        println!("{key}: {row}");
    }
    stop.cancel();
    for part in running {
        part.await?;
    }
    Ok(())
}
