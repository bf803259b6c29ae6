//! Provider batches: what waits is in one of them, of the sizes that the provider takes, and one process works on each.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    AnsweredCall, BatchTotals, CollectLimits, ProviderBatchState, ProviderBatches,
};
use punctual_domain::PurposeId;
use serde_json::json;
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::database;
use super::in_file;
use crate::{Store, driver::values};

on_both! {
    what_waits_is_in_one_provider_batch_of_the_sizes_that_are_allowed
    one_process_works_on_a_provider_batch_until_its_lease_is_lost
    answers_count_once_and_the_numbers_stay
    a_batch_ends_however_many_tokens_its_provider_counts
}

fn start() -> DateTime<Utc> {
    "2026-03-01T09:00:00Z".parse().unwrap()
}

fn purpose() -> PurposeId {
    PurposeId::new("write").unwrap()
}

fn call(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn limits() -> CollectLimits {
    CollectLimits {
        requests: 100,
        bytes: 10_000,
        bytes_around: 10,
        collect_for: TimeDelta::minutes(1),
        from: None,
    }
}

/// An item that waits with this state since so many seconds after the start.
async fn waits(store: &Store, number: u128, purpose: &str, seconds: i64, state: Option<String>) {
    let since = start() + TimeDelta::seconds(seconds);
    let until = since + TimeDelta::hours(24);
    let item = values![
        number as i64,
        format!("t{number}"),
        call(number),
        purpose,
        since,
        until,
        state,
    ];
    let insert = "INSERT INTO @waiting_items (run, tenant_id, chunk, job_id, call_id, phase, purpose_id, stage, attempts, refused,
            of_first, started_at, since, until, at_deadline, due_at, state)
        VALUES ($1, $2, 1, 'job', $3, 1, $4, 1, 1, 0, 0, $5, $5, $6, 'retry', $6, $7)";
    store.database.execute(insert, item).await.unwrap();
}

fn request(text: &str) -> String {
    json!({"request": {"text": text}}).to_string()
}

async fn collect(store: &Store, limits: &CollectLimits, seconds: i64) -> Option<(Uuid, u64)> {
    let now = start() + TimeDelta::seconds(seconds);
    let collected = store.collect(&purpose(), limits, now).await.unwrap();
    collected.map(|collected| (collected.id, collected.calls))
}

async fn calls_of(store: &Store, batch: Uuid) -> Vec<Uuid> {
    store.unanswered(batch, None, 100).await.unwrap()
}

async fn what_waits_is_in_one_provider_batch_of_the_sizes_that_are_allowed(store: Store) {
    let limits = limits();
    assert_eq!(collect(&store, &limits, 0).await, None, "nothing waits");
    for number in 1..=5 {
        waits(&store, number, "write", number as i64, Some(request("x"))).await;
    }
    waits(&store, 6, "another", 1, Some(request("x"))).await;
    waits(&store, 7, "write", 1, None).await;
    waits(
        &store,
        8,
        "write",
        1,
        Some(json!({"id": "job-7"}).to_string()),
    )
    .await;
    assert_eq!(
        collect(&store, &limits, 60).await,
        None,
        "the first may wait"
    );
    let later = CollectLimits {
        from: Some(start() + TimeDelta::seconds(6)),
        ..limits.clone()
    };
    assert_eq!(collect(&store, &later, 600).await, None);

    // It is full before the first has waited long enough.
    let two = CollectLimits {
        requests: 2,
        ..limits.clone()
    };
    let (first, calls) = collect(&store, &two, 5).await.unwrap();
    assert_eq!(calls, 2);
    assert_eq!(calls_of(&store, first).await, [call(1), call(2)]);
    // Each request has 24 bytes and 10 around it.
    let small = CollectLimits {
        bytes: 2 * 34 + 6,
        ..limits.clone()
    };
    let (second, calls) = collect(&store, &small, 5).await.unwrap();
    assert_eq!(calls, 2);
    assert_eq!(calls_of(&store, second).await, [call(3), call(4)]);
    // A request that is too large alone is sent alone.
    let tiny = CollectLimits { bytes: 1, ..limits };
    let (third, calls) = collect(&store, &tiny, 5).await.unwrap();
    assert_eq!((calls, calls_of(&store, third).await), (1, vec![call(5)]));
    assert_eq!(collect(&store, &tiny, 600).await, None, "each is in one");

    let requests = store.requests(first, None, 1).await.unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].request, json!({"text": "x"}));
    let rest = store.requests(first, Some(requests[0].call_id), 9).await;
    assert_eq!(rest.unwrap()[0].call_id, call(2));
    // What does not wait any more is not sent.
    let settle = "DELETE FROM @waiting_items WHERE call_id = $1";
    let settled = store.database.execute(settle, values![call(2)]).await;
    assert_eq!(settled.unwrap(), 1);
    assert_eq!(store.requests(first, None, 9).await.unwrap().len(), 1);
}

async fn one_process_works_on_a_provider_batch_until_its_lease_is_lost(store: Store) {
    waits(&store, 1, "write", 0, Some(request("x"))).await;
    let (id, _) = collect(&store, &limits(), 60).await.unwrap();
    let now = start() + TimeDelta::seconds(60);
    let lease = TimeDelta::seconds(20);
    let take = async |now| store.take(&purpose(), now, lease).await.unwrap();
    let first = take(now).await.unwrap();
    assert_eq!((first.id, first.state), (id, ProviderBatchState::Collected));
    assert_eq!((first.first_since, first.due_at), (start(), now + lease));
    assert_eq!(take(now).await, None);

    let mut changed = first.clone();
    changed.state = ProviderBatchState::Submitted;
    changed.remote_id = Some("batch_1".into());
    changed.others = vec!["batch_0".into()];
    changed.looks = 3;
    assert!(store.save(&changed, now + lease).await.unwrap());
    assert_eq!(store.remote_ids().await.unwrap(), ["batch_1"]);
    let second = take(now + lease).await.unwrap();
    changed.due_at = now + lease + lease;
    assert_eq!(second, changed);
    // The first has lost it.
    assert!(!store.save(&first, now).await.unwrap());
    assert_eq!(store.end(&first, now).await.unwrap(), None);
    let ended = store.end(&second, now).await.unwrap();
    assert_eq!(ended.unwrap().calls, 1);
    assert_eq!(take(now + TimeDelta::days(1)).await, None);
}

async fn answers_count_once_and_the_numbers_stay(store: Store) {
    for number in 1..=3 {
        waits(&store, number, "write", 0, Some(request("x"))).await;
    }
    let (id, _) = collect(&store, &limits(), 60).await.unwrap();
    let answered = |number| AnsweredCall {
        call_id: call(number),
        input_tokens: 10,
        output_tokens: 2,
    };
    let asked = [call(2), call(1), call(9)];
    let known = store.unanswered_of(id, &asked).await.unwrap();
    assert_eq!(known.len(), 2, "a stranger is left out: {known:?}");
    for _ in 0..2 {
        let answers = [answered(1), answered(2), answered(9)];
        store.mark_answered(id, &answers).await.unwrap();
    }
    assert!(store.unanswered_of(id, &asked).await.unwrap().is_empty());
    assert_eq!(calls_of(&store, id).await, [call(3)]);
    let now = start() + TimeDelta::seconds(60);
    let taken = store.take(&purpose(), now, TimeDelta::seconds(20)).await;
    let ended = store.end(&taken.unwrap().unwrap(), now).await.unwrap();
    let expected = BatchTotals {
        calls: 3,
        answered: 2,
        input_tokens: 20,
        output_tokens: 4,
    };
    assert_eq!(ended, Some(expected));
    assert!(calls_of(&store, id).await.is_empty());
}

async fn a_batch_ends_however_many_tokens_its_provider_counts(store: Store) {
    for number in 1..=3 {
        waits(&store, number, "write", 0, Some(request("x"))).await;
    }
    let (id, _) = collect(&store, &limits(), 60).await.unwrap();
    let answers = [1, 2, 3].map(|number| AnsweredCall {
        call_id: call(number),
        input_tokens: u64::MAX,
        output_tokens: u64::MAX,
    });
    store.mark_answered(id, &answers).await.unwrap();
    let now = start() + TimeDelta::seconds(60);
    let taken = store.take(&purpose(), now, TimeDelta::seconds(20)).await;
    let ended = store.end(&taken.unwrap().unwrap(), now).await.unwrap();
    assert_eq!(ended.unwrap().answered, 3);
}
