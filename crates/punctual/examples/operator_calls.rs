//! What operators ask for, from code: run a job now, see what failed, replay it, pause and resume, see why an item runs.
//!
//! `cargo run -p punctual --example operator_calls`

use std::time::Duration;

use async_trait::async_trait;
use punctual::{
    Actor, DeadLetterFilter, DeadLetterSelection, HandlerError, Item, Job, JobId, Outcome, Page,
    Punctual, PurposeHandler, TriggerRequest,
};

struct Invoice;

#[async_trait]
impl PurposeHandler for Invoice {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let reason = format!("{} has no address", item.item_id);
        Err(HandlerError::permanent(reason))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let invoices = Job::daily("invoices", "06:00").items(["ann"]);
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("invoice", Invoice)
        .job(invoices.runs("invoice"))
        .start()
        .await?;
    let (operator, actor) = (punctual.operator(), Actor::from("example"));
    let job = JobId::new("invoices")?;

    // With an idempotency key, calling it twice would be one run.
    let run = operator
        .trigger(&actor, None, &job, &TriggerRequest::default())
        .await?;
    println!("queued {} item", run.total);
    let (filter, page) = (DeadLetterFilter::default(), Page::default());
    let failed = loop {
        let (letters, _) = operator.reader.dead_letters(&filter, &page).await?;
        match letters.into_iter().next() {
            Some(letter) => break letter,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    println!("failed: {}", failed.reason);
    let selection = DeadLetterSelection {
        ids: Some([failed.id].into()),
        ..DeadLetterSelection::default()
    };
    let replay = operator.replay(&actor, None, &selection).await?;
    println!("replayed {} item", replay.replayed);

    operator.pause(&actor, &job).await?;
    println!("paused: {}", operator.job_view(&job).await?.paused);
    operator.resume(&actor, &job).await?;
    let date = Some("2030-01-01".parse()?);
    let tenant = failed.item_id.tenant().ok_or("not of a tenant")?;
    let explained = operator.explain(&tenant, &job, date).await?;
    println!("{}: {}", explained.tenant_id, explained.explanation);
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}
