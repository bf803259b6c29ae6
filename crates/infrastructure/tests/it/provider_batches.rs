//! Provider batches of `chat` that were begun by another process, against a provider that fails.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, extract::Request, http::Response};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ProviderBatchStore,
    ports::{
        BatchTotals, BatchedCall, Clock, MockCompleter, MockProviderBatches, ProviderBatch,
        ProviderBatchState, PurposeHandler, Settled, SystemClock,
    },
};
use punctual_domain::PurposeId;
use punctual_infrastructure::{ChatBatchConfig, ChatConfig};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use crate::{
    endpoint::{asks, chat},
    server::{json, start},
};

/// What a handler did with a provider batch.
#[derive(Default)]
struct Seen {
    saved: Vec<(ProviderBatch, DateTime<Utc>)>,
    is_ended: bool,
    /// Errors that calls were completed with.
    errors: Vec<String>,
    /// From when on it looked for what waits.
    looked_from: Vec<Option<DateTime<Utc>>>,
}

fn purpose() -> PurposeId {
    PurposeId::new("write").unwrap()
}

/// A provider batch whose first call began to wait so long ago.
fn batch(state: ProviderBatchState, remote_id: Option<&str>, waited: TimeDelta) -> ProviderBatch {
    let now = SystemClock.now();
    ProviderBatch {
        id: Uuid::from_u128(1),
        purpose_id: purpose(),
        state,
        calls: 1,
        first_since: now - waited,
        created_at: now - waited,
        due_at: now + TimeDelta::seconds(20),
        looks: 4,
        file_id: Some("file-1".to_owned()),
        remote_id: remote_id.map(str::to_owned),
        others: Vec::new(),
    }
}

/// A store with this provider batch of one call, which waits or not. `worked` is notified when work on it stops.
fn store(
    batch: ProviderBatch,
    waits: bool,
    seen: &Arc<Mutex<Seen>>,
    worked: &Arc<Notify>,
) -> MockProviderBatches {
    let call_id = Uuid::from_u128(2);
    let mut store = MockProviderBatches::new();
    let looked = Arc::clone(seen);
    store.expect_collect().returning(move |_, limits, _| {
        looked.lock().unwrap().looked_from.push(limits.from);
        Ok(None)
    });
    let (left, worked) = (Mutex::new(Some(batch)), Arc::clone(worked));
    store.expect_take().returning(move |_, _, _| {
        let next = left.lock().unwrap().take();
        if next.is_none() {
            worked.notify_one();
        }
        Ok(next)
    });
    let saved = Arc::clone(seen);
    store.expect_save().returning(move |batch, due_at| {
        saved.lock().unwrap().saved.push((batch.clone(), due_at));
        Ok(true)
    });
    store.expect_requests().returning(move |_, after, _| {
        let request = json!({});
        let call = BatchedCall { call_id, request };
        Ok(Vec::from_iter((waits && after.is_none()).then_some(call)))
    });
    store.expect_unanswered().returning(move |_, after, _| {
        let is_left = after.is_none();
        Ok(Vec::from_iter(is_left.then_some(call_id)))
    });
    let ended = Arc::clone(seen);
    store.expect_end().returning(move |_, _| {
        ended.lock().unwrap().is_ended = true;
        Ok(Some(BatchTotals::default()))
    });
    store
}

/// Lets a handler work on a provider batch once, and look for more; returns what it did, and its calls of the provider.
async fn work_on(
    batch: ProviderBatch,
    waits: bool,
    answer: impl Fn(&Request) -> Response<Body> + Clone + Send + Sync + 'static,
) -> (Seen, Vec<String>) {
    let (url, calls) = start(answer).await;
    let folder = tempfile::tempdir().unwrap();
    let config = ChatConfig {
        batch: Some(ChatBatchConfig::default()),
        ..chat(&url)
    };
    let (seen, worked) = (Arc::default(), Arc::new(Notify::new()));
    let batches = ProviderBatchStore::default();
    batches.connect(Arc::new(store(batch, waits, &seen, &worked)));
    let handler = asks(&config, folder.path());
    let handler = handler.with_provider_batches(purpose(), batches, Arc::new(SystemClock));
    let mut completer = MockCompleter::new();
    let completed = Arc::clone(&seen);
    completer.expect_complete().returning(move |_, outcome| {
        let error = outcome.unwrap_err().message;
        completed.lock().unwrap().errors.push(error);
        Ok(Settled::Taken)
    });
    let looked_twice = async {
        worked.notified().await;
        worked.notified().await;
    };
    tokio::select! {
        () = handler.listen(Arc::new(completer)) => panic!("it listens no more"),
        looked = timeout(Duration::from_secs(30), looked_twice) => looked.unwrap(),
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let calls = calls.lock().unwrap().clone();
    (seen, calls)
}

fn begins(calls: &[String]) -> bool {
    calls.iter().any(|call| call == "POST /batches")
}

fn nothing_listed() -> Value {
    json!({"data": [], "has_more": false})
}

#[tokio::test]
async fn a_batch_that_is_late_or_not_awaited_is_not_begun() {
    let answer = |_: &Request| json(200, &nothing_listed());
    for (waited, waits) in [(TimeDelta::days(2), true), (TimeDelta::minutes(1), false)] {
        let creating = batch(ProviderBatchState::Creating, None, waited);
        let (seen, calls) = work_on(creating, waits, answer).await;
        assert!(seen.is_ended && !begins(&calls), "{waited}: {calls:?}");
    }
}

#[tokio::test]
async fn a_batch_that_is_not_awaited_is_stopped() {
    let answer = |_: &Request| json(200, &json!({"id": "batch_1", "status": "in_progress"}));
    for (waits, is_stopped) in [(true, false), (false, true)] {
        let working = batch(
            ProviderBatchState::Submitted,
            Some("batch_1"),
            TimeDelta::zero(),
        );
        let (_, calls) = work_on(working, waits, answer).await;
        let stopped = calls
            .iter()
            .any(|call| call == "POST /batches/batch_1/cancel");
        assert_eq!(stopped, is_stopped, "{calls:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_refused_gives_up_no_batch() {
    let answer = |_: &Request| json(403, &json!({"error": {"message": "not for this key"}}));
    let creating = batch(ProviderBatchState::Creating, None, TimeDelta::minutes(1));
    let (seen, calls) = work_on(creating, true, answer).await;
    assert!(!seen.is_ended && !begins(&calls), "{calls:?}");
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_eq!(seen.saved.last().unwrap().0.looks, 5, "it is tried later");
}

#[tokio::test]
async fn a_batch_that_is_begun_again_for_a_busy_provider_keeps_its_long_waits() {
    let answer = |request: &Request| match request.method().as_str() {
        "GET" => json(200, &nothing_listed()),
        _ => json(200, &json!({"id": "batch_2", "status": "validating"})),
    };
    let creating = batch(ProviderBatchState::Creating, None, TimeDelta::minutes(1));
    let (seen, calls) = work_on(creating, true, answer).await;
    assert!(begins(&calls), "{calls:?}");
    let (saved, _) = seen.saved.last().unwrap();
    assert_eq!(saved.state, ProviderBatchState::Submitted);
    assert_eq!(saved.looks, 4);
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_ends_when_the_batch_has_to_be_stopped() {
    let answer = |_: &Request| {
        let mut answer = json(429, &json!({}));
        let headers = answer.headers_mut();
        headers.insert("retry-after", "3600".parse().unwrap());
        answer
    };
    // It is stopped 21.6 hours after the first call began to wait.
    let waited = TimeDelta::minutes(21 * 60 + 26);
    let working = batch(ProviderBatchState::Submitted, Some("batch_1"), waited);
    let on_time = working.first_since + TimeDelta::minutes(21 * 60 + 36);
    let (seen, _) = work_on(working, true, answer).await;
    let (_, due_at) = seen.saved.last().unwrap();
    let latest = on_time + TimeDelta::seconds(10);
    assert!(*due_at <= latest, "{due_at} is after {on_time}");
}

#[tokio::test]
async fn a_key_in_the_problem_of_a_batch_is_taken_out() {
    let answer = |_: &Request| {
        let errors = json!({"data": [{"code": "invalid", "message": "canary-key is not a key"}]});
        json(
            200,
            &json!({"id": "batch_1", "status": "failed", "errors": errors}),
        )
    };
    let working = batch(
        ProviderBatchState::Submitted,
        Some("batch_1"),
        TimeDelta::zero(),
    );
    let (seen, _) = work_on(working, true, answer).await;
    let [error] = seen.errors.as_slice() else {
        panic!("{:?}", seen.errors)
    };
    assert!(error.contains("[key] is not a key"), "{error}");
}

#[tokio::test]
async fn what_waits_is_read_whole_once_and_then_from_lately_on() {
    let began = SystemClock.now();
    let answer = |_: &Request| json(200, &json!({"id": "batch_1", "status": "in_progress"}));
    let working = batch(
        ProviderBatchState::Submitted,
        Some("batch_1"),
        TimeDelta::zero(),
    );
    let (seen, _) = work_on(working, true, answer).await;
    let [None, Some(from)] = seen.looked_from.as_slice() else {
        panic!("{:?}", seen.looked_from)
    };
    assert!(*from >= began - TimeDelta::minutes(11), "{from}");
}
