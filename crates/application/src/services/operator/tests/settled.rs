//! Dead letters that are discarded and opened again, and deliveries that are made again.

use punctual_domain::{Delivery, NewBatch, Occurrence, Priority, Trigger};

use super::*;
use crate::ports::{
    BatchReader, DeadLetterFilter, Deliveries, DeliveryFilter, NewRequest, OperatorStore,
    Redelivery, WorkQueue,
};

#[tokio::test(start_paused = true)]
async fn an_undo_opens_just_what_its_discard_has_settled() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    for tenant in ["ann", "bob", "eve"] {
        fail(&operator, &store, tenant).await;
    }
    let discard = async |ids: &[i64]| {
        let selection = DeadLetterSelection {
            ids: Some(ids.iter().copied().collect()),
            ..DeadLetterSelection::default()
        };
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        operator.discard(&actor(), None, &selection).await.unwrap()
    };
    discard(&[1]).await;
    let second = discard(&[2, 3]).await;
    let undo = DeadLetterSelection {
        discarded_at: Some(second.discarded_at),
        ..DeadLetterSelection::default()
    };
    let state = DeadLetterState::Discarded;
    assert_eq!(operator.count_letters(&undo, state).await.unwrap().0, 2);
    let reopened = operator.reopen(&actor(), None, &undo).await.unwrap();
    assert_eq!(reopened.reopened, 2);
    let left = DeadLetterFilter {
        state: Some(state),
        ..DeadLetterFilter::default()
    };
    let (left, _) = store.dead_letters(&left, &Page::default()).await.unwrap();
    assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [1]);
    // It selects what is opened again, and nothing else.
    let wrong = operator.discard(&actor(), None, &undo).await;
    assert!(matches!(wrong, Err(OperatorError::Invalid(_))), "{wrong:?}");
    let again = operator.reopen(&actor(), None, &undo).await;
    assert!(
        matches!(again, Err(OperatorError::NotFound(_))),
        "{again:?}"
    );
    let log = AuditFilter {
        action: Some("reopen".to_owned()),
        ..AuditFilter::default()
    };
    let (entries, _) = store.audit_log(&log, &Page::default()).await.unwrap();
    let at = second
        .discarded_at
        .to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let detail = format!("all that are discarded, by the discard of {at}");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].detail, detail);
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_is_done_or_nothing_and_a_key_does_it_once() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    for tenant in ["ann", "bob", "eve"] {
        fail(&operator, &store, tenant).await;
    }
    let (open, discarded) = (DeadLetterState::Open, DeadLetterState::Discarded);
    let named = DeadLetterSelection {
        ids: Some([1, 2, 9].into()),
        ..DeadLetterSelection::default()
    };
    let (count, two) = operator.count_letters(&named, open).await.unwrap();
    assert_eq!((count, two.count), (2, Some(2)), "those that are open");
    let all = everything();
    let (count, all) = operator.count_letters(&all, open).await.unwrap();
    assert_eq!((count, all.up_to), (3, Some(3)));

    let key = IdempotencyKey::new("k").unwrap();
    let discard = async |selection: &DeadLetterSelection| {
        operator.discard(&actor(), Some(&key), selection).await
    };
    let done = discard(&two).await.unwrap();
    assert_eq!(discard(&two).await.unwrap(), done, "the same answer");
    // One of the three is left: it is asked about again, under the same key or another.
    let other = IdempotencyKey::new("l").unwrap();
    let changed = operator.discard(&actor(), Some(&other), &all).await;
    assert!(
        matches!(changed, Err(OperatorError::Changed(_))),
        "{changed:?}"
    );
    let (count, rest) = operator.count_letters(&all, open).await.unwrap();
    assert_eq!(count, 1);
    let rest = operator.discard(&actor(), Some(&other), &rest).await;
    assert_eq!(rest.unwrap().discarded, 1);

    let all = everything();
    let (count, all) = operator.count_letters(&all, discarded).await.unwrap();
    assert_eq!(count, 3);
    let reopen = async || operator.reopen(&actor(), Some(&key), &all).await;
    assert_eq!(reopen().await.unwrap().reopened, 3);
    assert_eq!(reopen().await.unwrap().reopened, 3, "the same answer");
    let log = AuditFilter {
        action: Some("discard".to_owned()),
        ..AuditFilter::default()
    };
    let (entries, _) = store.audit_log(&log, &Page::default()).await.unwrap();
    let details: Vec<_> = entries.iter().map(|entry| entry.detail.as_str()).collect();
    let expected = [
        "all that are open, up to 3",
        "3 of those that are open: 1, 2, 9",
    ];
    assert_eq!(details, expected);

    // After 30 days there is nothing to ask about.
    operator
        .discard(&actor(), None, &everything())
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_hours(30 * 24)).await;
    let late = everything();
    assert_eq!(operator.count_letters(&late, discarded).await.unwrap().0, 0);
}

/// An operator of a job that delivers to these files.
fn delivering(store: &Arc<FakeStore>, files: &[&str]) -> Operator {
    let deliver: Vec<_> = files.iter().map(|file| json!({"file": file})).collect();
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts", "deliver": deliver}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    testing::operator(store, jobs, "2026-03-01T09:00:00Z")
}

/// Ends a batch whose results go to these files.
async fn end_batch(store: &FakeStore, due: DateTime<Utc>, files: &[&str]) -> uuid::Uuid {
    let files = files.iter().map(|file| Delivery::File((*file).into()));
    end_batch_to(store, due, files.collect()).await
}

/// Ends a batch whose results go to these places.
async fn end_batch_to(
    store: &FakeStore,
    due: DateTime<Utc>,
    deliver_to: Vec<Delivery>,
) -> uuid::Uuid {
    let ann = [ItemId::new("ann").unwrap()];
    let batch = NewBatch {
        deliver_to,
        deliver_within: Some(TimeDelta::days(1)),
        ..NewBatch::new(
            &posts(),
            Priority::Medium,
            "daily".to_owned(),
            due,
            Occurrence::Instant(due),
            Trigger::Schedule,
            due,
            &ann,
            10,
        )
    };
    let (batch_id, firing) = (
        batch.batch_id,
        Firing {
            batches: vec![batch],
            positions: vec![],
        },
    );
    store.enqueue(firing, due).await.unwrap();
    store.end_all(ItemStatus::Succeeded, due).await;
    batch_id
}

/// Lets every delivery that is due be given up.
async fn give_up(store: &FakeStore, now: DateTime<Utc>) {
    let lease = TimeDelta::minutes(5);
    while let Some(due) = store.take(now, lease, &[]).await.unwrap() {
        assert!(store.postpone(&due, None, "no such folder").await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_made_again_where_its_job_says_now() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = delivering(&store, &["mended.ndjson", "kept.ndjson"]);
    let now = operator.clock.now();
    let recent = end_batch(
        &store,
        now - TimeDelta::days(1),
        &["lost.ndjson", "kept.ndjson"],
    )
    .await;
    end_batch(&store, now - TimeDelta::days(9), &["lost.ndjson"]).await;
    give_up(&store, now).await;
    let of_job = DeliverySelection {
        job_id: Some(posts()),
        ..DeliverySelection::default()
    };
    // What was given up long ago is not reported, and stays so.
    assert_eq!(operator.count_deliveries(&of_job).await.unwrap(), 2);
    let counted = |count| DeliverySelection {
        count: Some(count),
        ..of_job.clone()
    };
    let changed = operator.deliver_again(&actor(), None, &counted(3)).await;
    assert!(
        matches!(changed, Err(OperatorError::Changed(_))),
        "{changed:?}"
    );
    let key = IdempotencyKey::new("k").unwrap();
    for _ in 0..2 {
        let (actor, two) = (actor(), counted(2));
        let again = operator.deliver_again(&actor, Some(&key), &two).await;
        assert_eq!(again.unwrap().due, 2, "the same answer");
    }
    let of_batch = DeliveryFilter {
        batch_ids: Some([recent].into()),
        ..DeliveryFilter::default()
    };
    let page = Page::default();
    let (found, _) = store.deliveries(&of_batch, &page).await.unwrap();
    let mut targets: Vec<_> = found.iter().map(|one| one.target.to_string()).collect();
    targets.sort();
    assert_eq!(targets, ["file kept.ndjson", "file mended.ndjson"]);
    let due = store.take(now, TimeDelta::minutes(5), &[]).await.unwrap();
    let due = due.unwrap();
    assert_eq!((due.tries, due.until), (0, Some(now + TimeDelta::days(1))));

    // While it is on its way it is left alone.
    let one = DeliverySelection {
        id: Some(due.id),
        ..DeliverySelection::default()
    };
    let none = operator.deliver_again(&actor(), None, &one).await;
    assert!(matches!(none, Err(OperatorError::NotFound(_))), "{none:?}");
    assert!(store.postpone(&due, Some(now), "disk full").await.unwrap());
    let due = store.take(now, TimeDelta::minutes(5), &[]).await.unwrap();
    let busy = operator.deliver_again(&actor(), None, &one).await;
    assert!(
        due.is_some() && matches!(busy, Err(OperatorError::Conflict(_))),
        "{busy:?}"
    );
}

#[test]
fn what_is_null_selects_nothing_and_is_refused() {
    for field in [
        "ids",
        "job_id",
        "tenant_id",
        "up_to",
        "discarded_at",
        "count",
    ] {
        let selection =
            serde_json::from_value::<DeadLetterSelection>(json!({"all": true, field: null}));
        assert!(selection.is_err(), "{field}");
    }
    let counted = json!({"all": true, "count": null});
    assert!(serde_json::from_value::<DeliverySelection>(counted).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_selection_of_nothing_is_refused() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    fail(&operator, &store, "ann").await;
    let nothing = DeadLetterSelection {
        up_to: Some(9),
        ..DeadLetterSelection::default()
    };
    for selection in [DeadLetterSelection::default(), nothing] {
        let refused = operator.discard(&actor(), None, &selection).await;
        assert!(
            matches!(refused, Err(OperatorError::Invalid(_))),
            "{refused:?}"
        );
    }
    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(entries.len(), 1, "the trigger alone");
}

#[tokio::test(start_paused = true)]
async fn a_repetition_finishes_what_was_interrupted_and_answers_with_its_sum() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    for tenant in ["ann", "bob", "eve"] {
        fail(&operator, &store, tenant).await;
    }
    let (count, all) = operator
        .count_letters(&everything(), DeadLetterState::Open)
        .await
        .unwrap();
    assert_eq!(count, 3);
    // The process ended after it had discarded two of the three.
    let key = IdempotencyKey::new("k").unwrap();
    let request = NewRequest {
        scope: "discard".to_owned(),
        key: "k".to_owned(),
        fingerprint: idempotency::fingerprint(&all),
    };
    let began = operator.clock.now();
    store.request(&request, began).await.unwrap();
    store.settle(&[1, 2], vec![], began).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    // Under another key it is about another number.
    let changed = operator.discard(&actor(), None, &all).await;
    assert!(
        matches!(changed, Err(OperatorError::Changed(_))),
        "{changed:?}"
    );
    let discard = async || operator.discard(&actor(), Some(&key), &all).await.unwrap();
    let done = discard().await;
    assert_eq!((done.discarded, done.discarded_at), (3, began));
    assert_eq!(discard().await, done, "the same answer");
    let undo = DeadLetterSelection {
        discarded_at: Some(done.discarded_at),
        ..DeadLetterSelection::default()
    };
    let reopened = operator.reopen(&actor(), None, &undo).await.unwrap();
    assert_eq!(reopened.reopened, 3);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_of_which_only_the_answer_was_lost_is_no_error() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    for tenant in ["ann", "bob"] {
        fail(&operator, &store, tenant).await;
    }
    let named = DeadLetterSelection {
        ids: Some([1, 2].into()),
        count: Some(2),
        ..DeadLetterSelection::default()
    };
    let key = IdempotencyKey::new("k").unwrap();
    let began = operator.clock.now();
    for scope in ["discard", "reopen"] {
        let request = NewRequest {
            scope: scope.to_owned(),
            key: "k".to_owned(),
            fingerprint: idempotency::fingerprint(&named),
        };
        store.request(&request, began).await.unwrap();
    }
    store.settle(&[1, 2], vec![], began).await.unwrap();
    let done = operator.discard(&actor(), Some(&key), &named).await;
    let done = done.unwrap();
    assert_eq!((done.discarded, done.not_open.len()), (2, 0));
    let long_ago = began - TimeDelta::days(1);
    assert_eq!(store.reopen(&[1, 2], long_ago, began).await.unwrap(), 2);
    let done = operator.reopen(&actor(), Some(&key), &named).await;
    assert_eq!(done.unwrap().reopened, 2);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_answers_with_the_count_though_nothing_was_counted_before() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = delivering(&store, &["out.ndjson"]);
    let key = IdempotencyKey::new("k").unwrap();
    let began = operator.clock.now();
    let interrupted = async |scope: &str, fingerprint: String| {
        let request = NewRequest {
            scope: scope.to_owned(),
            key: "k".to_owned(),
            fingerprint,
        };
        store.request(&request, began).await.unwrap();
    };
    // The process ended after it had opened two again, and made two deliveries due.
    for tenant in ["ann", "bob", "eve"] {
        fail(&operator, &store, tenant).await;
    }
    store.settle(&[1, 2, 3], vec![], began).await.unwrap();
    let all = everything();
    interrupted("reopen", idempotency::fingerprint(&all)).await;
    let long_ago = began - TimeDelta::days(1);
    assert_eq!(store.reopen(&[1, 2], long_ago, began).await.unwrap(), 2);
    end_batch(&store, began - TimeDelta::days(1), &["out.ndjson"]).await;
    end_batch(&store, began - TimeDelta::days(2), &["out.ndjson"]).await;
    give_up(&store, began).await;
    let of_job = DeliverySelection {
        job_id: Some(posts()),
        ..DeliverySelection::default()
    };
    interrupted("deliver_again", idempotency::fingerprint(&of_job)).await;
    let found = store
        .deliveries(&DeliveryFilter::failing(began), &Page::default())
        .await;
    let again: Vec<Redelivery> = found
        .unwrap()
        .0
        .into_iter()
        .map(|one| Redelivery {
            id: one.id,
            target: one.target,
            from_start: false,
        })
        .collect();
    let due = store.deliver_again(&again, began, began).await.unwrap();

    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    let reopened = operator.reopen(&actor(), Some(&key), &all).await;
    assert_eq!(reopened.unwrap().reopened, 3, "with the one that was left");
    // What has failed again since is not made due twice for one request.
    give_up(&store, operator.clock.now()).await;
    let delivered = operator.deliver_again(&actor(), Some(&key), &of_job).await;
    assert!(due >= 2);
    assert_eq!(delivered.unwrap().due, due);
    let lease = TimeDelta::minutes(5);
    let taken = store.take(operator.clock.now(), lease, &[]).await;
    assert_eq!(taken.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_goes_on_at_its_place_with_the_settings_of_now() {
    let store: Arc<FakeStore> = Arc::default();
    let hook =
        |timeout_ms: u64| json!({"url": "https://crm.example/results", "timeout_ms": timeout_ms});
    let target = |timeout_ms| Delivery::parse(&hook(timeout_ms), "").unwrap();
    let mut operator = delivering(&store, &["out.ndjson"]);
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts", "deliver": [hook(99)]}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    operator.jobs = jobs.into();
    let now = operator.clock.now();
    end_batch_to(&store, now - TimeDelta::days(1), vec![target(10)]).await;
    let lease = TimeDelta::minutes(5);
    let take = async || store.take(now, lease, &[]).await.unwrap().unwrap();
    let (first, part) = (take().await, Some("page 2".to_owned()));
    assert!(store.advance(&first, part.clone(), now).await.unwrap());
    give_up(&store, now).await;
    let all = DeliverySelection {
        all: true,
        ..DeliverySelection::default()
    };
    let again = operator.deliver_again(&actor(), None, &all).await;
    assert_eq!(again.unwrap().due, 1);
    let again = take().await;
    assert_eq!((again.target, again.cursor), (target(99), part));
}

#[tokio::test(start_paused = true)]
async fn the_audit_log_says_of_which_job_dead_letters_were() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    fail(&operator, &store, "ann").await;
    let one = DeadLetterSelection::one(1);
    operator.discard(&actor(), None, &one).await.unwrap();
    let of_job = AuditFilter {
        action: Some("discard".to_owned()),
        subject: Some("posts".to_owned()),
    };
    let (entries, _) = store.audit_log(&of_job, &Page::default()).await.unwrap();
    assert_eq!(entries.len(), 1);
}
