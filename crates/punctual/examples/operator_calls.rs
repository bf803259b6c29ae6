//! What operators ask for, from code: run a job now, see why somebody ran or did not, pause, replay what failed.
//!
//! `cargo run -p punctual --example operator_calls`

use std::time::Duration;

use async_trait::async_trait;
use punctual::{
    Actor, DeadLetterFilter, HandlerError, Item, Job, JobId, Page, Punctual, PurposeHandler,
    TriggerRequest,
};
use serde_json::Value;
use tokio::sync::mpsc;

/// Cannot do it for Bob.
struct Invoice(mpsc::Sender<()>);

#[async_trait]
impl PurposeHandler for Invoice {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        self.0.send(()).await?;
        match item.tenant_id.as_str() {
            "bob" => Err(HandlerError::permanent("Bob has no address")),
            _ => Ok(Value::Null),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (called, mut calls) = mpsc::channel(16);
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("invoice", Invoice(called))
        .job(
            Job::daily("invoices", "06:00")
                .items(["ann", "bob"])
                .runs("invoice"),
        )
        .start()
        .await?;
    let (operator, job) = (punctual.operator(), JobId::new("invoices")?);
    let actor = Actor::from("example");

    // With an idempotency key, calling it twice would be one run.
    let run = operator
        .trigger(&actor, None, &job, &TriggerRequest::default())
        .await?;
    println!("queued {} items", run.total);
    for _ in 0..2 {
        calls.recv().await;
    }

    let failed = loop {
        let (letters, _) = operator
            .reader
            .dead_letters(&DeadLetterFilter::default(), &Page::default())
            .await?;
        match letters.into_iter().next() {
            Some(letter) => break letter,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    println!("{}: {}", failed.tenant_id, failed.reason);

    operator.pause(&actor, &job).await?;
    println!("paused: {}", operator.job_view(&job).await?.paused);
    operator.resume(&actor, &job).await?;
    println!("paused: {}", operator.job_view(&job).await?.paused);
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}
