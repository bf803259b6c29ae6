//! Results into a place of your own: a table, a topic, a warehouse. The warehouse is closed at first; Punctual tries again.
//!
//! `cargo run -p punctual --example own_result_sink`

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use punctual::{
    Batch, HandlerError, Item, Job, Outcome, Punctual, PurposeHandler, ResultSink, SinkError,
    StoredResult,
};
use serde_json::json;
use tokio::sync::mpsc;

struct Report;
#[async_trait]
impl PurposeHandler for Report {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        Ok(json!({ "pages": item.item_id.as_str().len() }).into())
    }
}

/// Sends rows on. Each has a key, so that what comes twice is there once.
struct Warehouse {
    rows: mpsc::Sender<(String, String)>,
    opened: AtomicBool,
}

#[async_trait]
impl ResultSink for Warehouse {
    async fn take(
        &self,
        batch: &Batch,
        results: &[StoredResult],
        _: bool,
    ) -> Result<(), SinkError> {
        if !self.opened.swap(true, Ordering::Relaxed) {
            return Err(SinkError::retryable("the warehouse is closed"));
        }
        for result in results {
            let item = &result.result;
            let key = format!("{} for {}", batch.job_id, item.item_id);
            let row = format!("{} {}", item.status.as_str(), json!(item.output));
            self.rows.send((key, row)).await?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (rows, mut received) = mpsc::channel(16);
    let warehouse = Warehouse {
        rows,
        opened: false.into(),
    };
    let job = Job::daily("reports", "06:00").items(["ann", "bob", "eve"]);
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("report", Report)
        .sink("warehouse", warehouse)
        .job(job.runs("report").deliver_to("warehouse"))
        // Yesterday is made up for.
        .look_back(Duration::from_hours(24))
        .start()
        .await?;
    let mut table = BTreeMap::new();
    while table.len() < 3 {
        table.extend(received.recv().await);
    }
    for (key, row) in &table {
        println!("{key}: {row}");
    }
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}
