//! The operator over fakes, on a clock that moves when told to.

use chrono::TimeDelta;
use punctual_domain::{BatchConfig, Verdict};
use serde_json::json;

use super::*;
use crate::{
    ports::{MockItemSource, Page},
    testing::{FakeConfigDatabase, FakeStore, ManualClock},
};

fn operator(store: &Arc<FakeStore>) -> Operator {
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts"}]});
    Operator {
        reader: store.clone(),
        queue: store.clone(),
        operations: store.clone(),
        preferences: Arc::new(FakeConfigDatabase::default()),
        item_source: Arc::new(MockItemSource::new()),
        jobs: Jobs::from(BatchConfig::parse(&jobs, &Zone::utc()).unwrap()),
        handlers: Handlers::default(),
        status: StatusHandle::default(),
        failures: ActiveFailures::default(),
        clock: Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z")),
        zone: Zone::utc(),
        chunk_size: 10,
    }
}

fn actor() -> Actor {
    Actor("a test".to_owned())
}

fn posts() -> JobId {
    JobId::new("posts").unwrap()
}

fn of(tenant: &str) -> TriggerRequest {
    TriggerRequest {
        tenants: Some([punctual_domain::TenantId::new(tenant).unwrap()].into()),
        all: false,
        allow_unknown: true,
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_the_same_run_for_a_day() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let key = IdempotencyKey::new("monday").unwrap();
    let trigger = async |tenant: &str, key: Option<&IdempotencyKey>| {
        operator
            .trigger(&actor(), key, &posts(), &of(tenant))
            .await
            .map(|triggered| triggered.batch_id)
    };
    let first = trigger("ann", Some(&key)).await.unwrap();
    assert_eq!(trigger("ann", Some(&key)).await.unwrap(), first);
    assert_ne!(trigger("ann", None).await.unwrap(), first);
    let other = trigger("bob", Some(&key)).await.unwrap_err();
    assert!(matches!(other, OperatorError::Refused(_)), "{other:?}");
    assert_eq!(store.pending().len(), 2);

    let a_day = TimeDelta::hours(24) + TimeDelta::seconds(1);
    tokio::time::sleep(a_day.to_std().unwrap()).await;
    assert_ne!(trigger("ann", Some(&key)).await.unwrap(), first);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_changes_nothing_and_may_be_corrected_under_its_key() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let key = IdempotencyKey::new("monday").unwrap();
    let nobody = TriggerRequest {
        tenants: Some(BTreeSet::new()),
        ..of("ann")
    };
    let mistyped = TriggerRequest {
        allow_unknown: false,
        ..of("ann")
    };
    for (request, invalid) in [(&nobody, true), (&mistyped, false)] {
        let refused = operator
            .trigger(&actor(), Some(&key), &posts(), request)
            .await
            .unwrap_err();
        assert_eq!(matches!(refused, OperatorError::Invalid(_)), invalid);
    }
    let missing = operator.pause(&actor(), &JobId::new("none").unwrap()).await;
    assert!(matches!(missing, Err(OperatorError::NotFound(_))));
    let (entries, _) = store.audit_log(&Page::default()).await.unwrap();
    assert_eq!(entries, []);

    let corrected = operator
        .trigger(&actor(), Some(&key), &posts(), &of("ann"))
        .await;
    assert_eq!(corrected.unwrap().total, 1);
}

#[tokio::test(start_paused = true)]
async fn who_asked_is_written_down_before_it_is_done() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    operator.pause(&actor(), &posts()).await.unwrap();
    let tenant = punctual_domain::TenantId::new("ann").unwrap();
    let explained = operator.explain(&tenant, &posts(), None).await.unwrap();
    assert_eq!(explained.verdict, Verdict::Unknown, "nothing is known yet");
    let triggered = operator.trigger(&actor(), None, &posts(), &of("ann")).await;
    let batch_id = triggered.unwrap().batch_id;
    operator.cancel(&actor(), batch_id).await.unwrap();

    let (entries, _) = store.audit_log(&Page::default()).await.unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["cancel", "trigger", "pause"]);
    assert!(entries.iter().all(|entry| entry.by == "a test"));
}
