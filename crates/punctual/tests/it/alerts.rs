//! Alerts by a channel of the program's own.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use punctual::{
    Alert, AlertChannel, AlertError, AlertKind, HandlerError, Item, Job, Outcome, Page, Punctual,
    PurposeHandler, testing::World,
};
use serde_json::json;

/// Fails for good.
struct Broken;

#[async_trait::async_trait]
impl PurposeHandler for Broken {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        Err(HandlerError::permanent("no such customer"))
    }
}

#[derive(Clone, Default)]
struct Pager(Arc<Mutex<Vec<Alert>>>);

#[async_trait::async_trait]
impl AlertChannel for Pager {
    async fn send(&self, alert: &Alert) -> Result<String, AlertError> {
        self.0.lock().unwrap().push(alert.clone());
        Ok("taken".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_of_the_program_gets_what_is_wrong_and_is_reminded_daily() {
    let pager = Pager::default();
    let builder = Punctual::builder()
        .handler("greet", Broken)
        .alert_channel("pager", pager.clone())
        .completion_url_base("https://shop.example/ops")
        .job(Job::following("greetings").runs("greet"));
    let world = World::start(builder, "2026-03-02T08:00:00Z").await.unwrap();
    world.prefers(
        "ann",
        json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"}),
    );
    world.pass(TimeDelta::hours(2)).await;
    let seen = pager.0.lock().unwrap().clone();
    let [alert] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(alert.kind, AlertKind::Opened);
    let finding = alert.finding.as_ref().unwrap();
    assert_eq!(finding.id, "job-failing/greetings");
    let url = finding.url.as_ref().unwrap();
    assert!(url.starts_with("https://shop.example/ops/"), "{url}");
    assert_eq!(alert.agent.name, "shop.example");
    world.pass(TimeDelta::hours(24)).await;
    let kinds: Vec<AlertKind> = pager.0.lock().unwrap().iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [AlertKind::Opened, AlertKind::Reminder]);
    let (stored, _) = world.operator().alerts(&Page::default()).await.unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].deliveries[0].answer.as_deref(), Some("taken"));
}

#[tokio::test(start_paused = true)]
async fn mistakes_in_what_alerts_are_given_are_found() {
    let pager = Pager::default();
    let builder = Punctual::builder()
        .alert_channel("pager", pager.clone())
        .alert_channel("pager", pager)
        .quiet_hours("22-7");
    let started = World::start(builder, "2026-03-02T08:00:00Z").await;
    let mistakes = started.unwrap_err().to_string();
    for mistake in [
        "/alert_channels: \"pager\" is given twice",
        "/quiet_hours: \"22-7\"",
    ] {
        assert!(mistakes.contains(mistake), "{mistakes}");
    }
}
