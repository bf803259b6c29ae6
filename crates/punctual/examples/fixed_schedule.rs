//! A job with a schedule of its own, as cron would have it: no preferences, no users, no Config Database.
//!
//! `cargo run -p punctual --example fixed_schedule`

use std::time::Duration;

use async_trait::async_trait;
use punctual::{HandlerError, Item, Job, Outcome, Punctual, PurposeHandler};
use serde_json::json;
use tokio::sync::mpsc;

struct Cleanup(mpsc::Sender<()>);

#[async_trait]
impl PurposeHandler for Cleanup {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        println!("{} at work", item.job_id);
        self.0.send(()).await?;
        Ok(json!({ "removed": 7 }).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (done, mut ended) = mpsc::channel(1);
    // Every mistake is reported at once, before anything starts.
    let wrong = Punctual::builder().job(Job::cron("cleanup", "0 25 * * *").runs("clean"));
    if let Err(mistakes) = wrong.start().await {
        println!("{mistakes}");
    }
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("cleanup", Cleanup(done))
        .job(
            Job::cron("nightly", "0 3 * * *")
                .in_time_zone("Europe/Berlin")
                .runs("cleanup"),
        )
        // Of a job that has never run, yesterday is made up for: there is something to see at once.
        .look_back(Duration::from_hours(25))
        .start()
        .await?;
    ended.recv().await;
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}
