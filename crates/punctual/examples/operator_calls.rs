//! What operators ask for, from code: run a job now, replay what failed, see why an item ran, pause and resume.
//!
//! `cargo run -p punctual --example operator_calls`

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use punctual::{
    Actor, Batch, BatchStatus, DeadLetterSelection, HandlerError, Item, Job, JobId, Punctual,
    PurposeHandler, TenantId, Trigger, TriggerRequest,
};
use serde_json::Value;

/// Fails the first time, for good.
#[derive(Default)]
struct Invoice(AtomicBool);

#[async_trait]
impl PurposeHandler for Invoice {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        match self.0.swap(true, Ordering::Relaxed) {
            false => Err(HandlerError::permanent(format!(
                "{} has no address",
                item.tenant_id
            ))),
            true => Ok(Value::Null),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("invoice", Invoice::default())
        .job(
            Job::daily("invoices", "06:00")
                .items(["ann"])
                .runs("invoice"),
        )
        .start()
        .await?;
    let operator = punctual.operator();
    let (actor, job, ann) = (
        Actor::from("example"),
        JobId::new("invoices")?,
        TenantId::new("ann")?,
    );

    // With an idempotency key, calling it twice would be one run.
    let run = operator
        .trigger(&actor, None, &job, &TriggerRequest::default())
        .await?;
    println!("queued {} item", run.total);
    let letters = DeadLetterSelection {
        all: true,
        ..DeadLetterSelection::default()
    };
    // There is nothing to replay until the item has failed.
    while operator.replay(&actor, None, &letters).await?.replayed == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    loop {
        let batches = operator.newest(Some(BatchStatus::Completed), 10).await?;
        let replay = |batch: &&Batch| batch.trigger == Trigger::Replay;
        if let Some(replay) = batches.iter().find(replay) {
            println!("replayed: {} succeeded", replay.succeeded);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    operator.pause(&actor, &job).await?;
    println!("paused: {}", operator.job_view(&job).await?.paused);
    operator.resume(&actor, &job).await?;
    let explained = operator
        .explain(&ann, &job, Some("2030-01-01".parse()?))
        .await?;
    println!(
        "{} in {}: {}",
        explained.tenant_id, explained.job_id, explained.explanation
    );
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}
