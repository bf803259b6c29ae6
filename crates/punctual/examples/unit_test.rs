//! A test of a job: a week passes in an instant, and a user changes their mind in the middle of it.
//!
//! `cargo test -p punctual --example unit_test`

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual::{
    Builder, HandlerError, Item, ItemStatus, Job, Outcome, Punctual, PurposeHandler, testing::World,
};
use serde_json::json;

struct Newsletter;

#[async_trait]
impl PurposeHandler for Newsletter {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        Ok(json!({ "sent_to": item.item_id }).into())
    }
}

fn newsletters() -> Builder {
    Punctual::builder()
        .handler("send", Newsletter)
        .job(Job::following("newsletter").runs("send"))
}

#[cfg_attr(test, tokio::test(start_paused = true))]
async fn a_user_who_moves_to_mondays_gets_one_a_week_from_then_on() {
    // A Monday.
    let world = World::start(newsletters(), "2026-03-02T00:00:00Z").await;
    let world = world.expect("the job is right");
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
    world.prefers("ann", daily);
    world.pass(TimeDelta::days(3)).await;
    assert_eq!(world.runs_of("ann").await.len(), 3);

    let weekly = json!({"enabled": true, "frequency": "weekly", "preferred_day": "monday",
        "preferred_time": "09:00"});
    world.prefers("ann", weekly);
    world.pass(TimeDelta::days(14)).await;
    let runs = world.runs_of("ann").await;
    assert_eq!(runs.len(), 5);
    assert!(
        runs.iter()
            .all(|run| run.result.status == ItemStatus::Succeeded)
    );
    println!("the last one ran at {}", runs[0].scheduled_at);
}

// As a program, it runs the test.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    tokio::time::pause();
    a_user_who_moves_to_mondays_gets_one_a_week_from_then_on().await;
}
