use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual_domain::{BatchConfig, JobId, Zone};
use serde_json::json;

use super::*;
use crate::{
    NamedAlertChannel,
    ports::{
        AlertChannel, AlertDeliveryState, AlertError, AlertKind, Alerts, MockAlerts, Page,
        WorkQueue,
    },
    testing::{FakeStore, operator, schedule},
};

/// Is not called here: the desk says what is due.
struct Nowhere;

#[async_trait]
impl AlertChannel for Nowhere {
    async fn send(&self, _: &Alert) -> Result<String, AlertError> {
        Err(AlertError::new("a test"))
    }
}

fn jobs() -> BatchConfig {
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts", "default_preferences": {"frequency": "daily"}}]});
    punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap()
}

fn posts() -> JobId {
    JobId::new("posts").unwrap()
}

fn desk_on(store: &Arc<FakeStore>, alerts: Arc<dyn Alerts>) -> AlertDesk {
    let mut operator = operator(store, jobs(), "2026-03-01T09:00:00Z");
    operator.alerting = Alerting::none(alerts);
    operator.alerting.channels = Arc::new([NamedAlertChannel {
        name: "webhook".to_owned(),
        target: None,
        channel: Arc::new(Nowhere),
    }]);
    AlertDesk::new(operator)
}

async fn pause(store: &FakeStore, desk: &AlertDesk) {
    let cause = crate::ports::PauseCause::Failures("9 of 10 items failed".to_owned());
    let now = desk.operator.clock.now();
    store.set_paused(&posts(), Some(cause), now).await.unwrap();
}

/// Looks after so many seconds, in which the scheduler has planned.
async fn look_after(desk: &mut AlertDesk, seconds: u64) -> Vec<DueAlert> {
    tokio::time::advance(Duration::from_secs(seconds)).await;
    schedule(&desk.operator, &posts(), &[]);
    desk.look(true).await
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_and_not_noted_goes_out_again_with_its_id() {
    let store: Arc<FakeStore> = Arc::default();
    let mut desk = desk_on(&store, store.clone());
    pause(&store, &desk).await;
    assert!(look_after(&mut desk, 0).await.is_empty());
    let due = look_after(&mut desk, 60).await;
    let [one] = due.as_slice() else {
        panic!("{due:?}")
    };
    assert_eq!(one.alert.kind, AlertKind::Opened);
    let finding = one.alert.finding.clone().unwrap();
    assert_eq!(
        (finding.id.as_str(), finding.title.as_str()),
        ("paused/posts", "posts is paused")
    );
    // The process ends after it has sent it. The next one sends it once more, and then no more.
    let mut next = AlertDesk::new(desk.operator.clone());
    let again = look_after(&mut next, 15).await;
    assert_eq!(again[0].alert, one.alert);
    let answer = Ok("204 No Content".to_owned());
    let noted = next.note(one.alert.id, "webhook", answer).await.unwrap();
    assert_eq!(noted.state, AlertDeliveryState::Sent);
    assert!(look_after(&mut next, 15).await.is_empty());
    assert!(look_after(&mut desk, 15).await.is_empty());
    let (stored, _) = Alerts::alerts(&*store, &Page::default()).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].deliveries, [noted]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_lead_sends_nothing() {
    let store: Arc<FakeStore> = Arc::default();
    let mut desk = desk_on(&store, store.clone());
    pause(&store, &desk).await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_mins(1)).await;
        schedule(&desk.operator, &posts(), &[]);
        assert!(desk.look(false).await.is_empty());
    }
    let book = store.alert_book(desk.operator.started_at).await.unwrap();
    assert!(book.findings.is_empty() && book.alerts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn old_messages_are_removed_although_nothing_is_wrong_any_more() {
    let store: Arc<FakeStore> = Arc::default();
    let mut desk = desk_on(&store, store.clone());
    pause(&store, &desk).await;
    look_after(&mut desk, 0).await;
    let due = look_after(&mut desk, 60).await;
    let answer = Ok(String::new());
    desk.note(due[0].alert.id, "webhook", answer).await.unwrap();
    let (now, day) = (desk.operator.clock.now(), 24 * 60 * 60);
    store.set_paused(&posts(), None, now).await.unwrap();
    look_after(&mut desk, 15).await;
    let due = look_after(&mut desk, 120).await;
    assert_eq!(due[0].alert.kind, AlertKind::Recovered);
    let answer = Ok(String::new());
    desk.note(due[0].alert.id, "webhook", answer).await.unwrap();
    let page = Page::default();
    look_after(&mut desk, 29 * day).await;
    assert_eq!(Alerts::alerts(&*store, &page).await.unwrap().0.len(), 2);
    look_after(&mut desk, 2 * day).await;
    assert_eq!(Alerts::alerts(&*store, &page).await.unwrap().0, []);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_decide_at_once_one_does() {
    let store: Arc<FakeStore> = Arc::default();
    let mut desk = desk_on(&store, store.clone());
    pause(&store, &desk).await;
    look_after(&mut desk, 0).await;
    // Another process writes between the look and the change.
    let mut alerts = MockAlerts::new();
    let inner = store.clone();
    let book = inner.alert_book(desk.operator.started_at).await.unwrap();
    alerts
        .expect_alert_book()
        .returning(move |_| Ok(book.clone()));
    alerts.expect_write_alerts().returning(|_, _, _| Ok(false));
    alerts.expect_alerts().returning(|_| Ok((vec![], None)));
    let mut other = desk_on(&store, Arc::new(alerts));
    other.operator.clock = desk.operator.clock.clone();
    assert!(look_after(&mut other, 60).await.is_empty());
    assert_eq!(desk.look(true).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_stored_is_sent_from_memory_and_stored_afterwards() {
    let store: Arc<FakeStore> = Arc::default();
    let mut alerts = MockAlerts::new();
    let inner = store.clone();
    // It can be read, and takes nothing for ten minutes.
    let mut desk = desk_on(&store, store.clone());
    let clock = desk.operator.clock.clone();
    let until = clock.now() + TimeDelta::minutes(10);
    alerts
        .expect_alert_book()
        .returning(|_| Ok(AlertBook::default()));
    alerts
        .expect_write_alerts()
        .returning(|_, _, _| Err(StoreError::unavailable("the disk is full")));
    alerts.expect_alerts().returning(|_| Ok((vec![], None)));
    desk.operator.alerting.store = Arc::new(alerts);
    pause(&store, &desk).await;
    look_after(&mut desk, 0).await;
    let due = look_after(&mut desk, 60).await;
    assert_eq!(due.len(), 1);
    let id = due[0].alert.id;
    assert_eq!(look_after(&mut desk, 15).await[0].alert.id, id);
    desk.note(id, "webhook", Ok(String::new())).await.unwrap();
    while clock.now() < until {
        assert!(look_after(&mut desk, 60).await.is_empty());
    }
    desk.operator.alerting.store = inner.clone();
    assert!(look_after(&mut desk, 15).await.is_empty());
    let (stored, _) = Alerts::alerts(&*inner, &Page::default()).await.unwrap();
    let [one] = stored.as_slice() else {
        panic!("{stored:?}")
    };
    assert_eq!(one.alert.id, id);
    assert!(!one.is_pending());
}

/// Looks every minute for so long while preferences cannot be read for this reason, and returns what went out.
async fn look_for(
    desk: &mut AlertDesk,
    minutes: u64,
    trouble: Option<&str>,
) -> Vec<(AlertKind, String)> {
    let (mut sent, began) = (Vec::new(), desk.operator.started_at);
    for _ in 0..minutes {
        tokio::time::advance(Duration::from_mins(1)).await;
        schedule(&desk.operator, &posts(), &[]);
        desk.operator.status.update(|status| {
            let known = status.jobs.get_mut(&posts()).unwrap();
            known.seen_until = Some(began);
            known.trouble = trouble.map(str::to_owned);
        });
        for due in desk.look(true).await {
            let answer = Ok(String::new());
            desk.note(due.alert.id, "webhook", answer).await.unwrap();
            sent.push((due.alert.kind, due.alert.finding.unwrap().id));
        }
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn an_outage_whose_reason_changes_opens_once_and_recovers_once_it_is_over() {
    let store: Arc<FakeStore> = Arc::default();
    let mut desk = desk_on(&store, store.clone());
    let about = |kind| vec![(kind, "preferences/stale".to_owned())];
    let opened = look_for(&mut desk, 10, Some("it refused the connection")).await;
    assert_eq!(opened, about(AlertKind::Opened));
    // Another reason is reported once an hour at most, and not as a recovery.
    let at_once = look_for(&mut desk, 10, Some("it answered 500")).await;
    assert!(at_once.is_empty(), "{at_once:?}");
    let changed = look_for(&mut desk, 60, Some("its answer cannot be read")).await;
    assert_eq!(changed, about(AlertKind::Changed));
    let over = look_for(&mut desk, 10, None).await;
    assert_eq!(over, about(AlertKind::Recovered));
}
