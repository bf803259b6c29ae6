//! Jobs with two purposes.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::{
    ports::{DeadLetterFilter, StoreError},
    services::throttle::PurposeLimits,
    testing::FakeTenantData,
};

/// The items that a handler was called with.
pub(super) type Calls = Arc<Mutex<Vec<Item>>>;

/// A handler that writes its calls down.
pub(super) fn noting(
    answer: impl Fn(&Item) -> Result<Outcome, HandlerError> + Send + Sync + 'static,
) -> (MockPurposeHandler, Calls) {
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    let mut handler = MockPurposeHandler::new();
    handler.expect_run().returning(move |item| {
        noted.lock().unwrap().push(item.clone());
        answer(item)
    });
    (handler, calls)
}

/// A first purpose that succeeds.
fn writing() -> (MockPurposeHandler, Calls) {
    noting(|item| Ok(text_for(item.item_id.as_str()).into()))
}

fn text_for(tenant: &str) -> Value {
    json!({"text": format!("Hello {tenant}")})
}

/// A second purpose that fails so until it is up.
fn sending_once_up(
    error: impl Fn() -> HandlerError + Send + Sync + 'static,
) -> (MockPurposeHandler, Calls, Arc<AtomicBool>) {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let (handler, calls) = noting(move |_| {
        if is_up.load(Ordering::SeqCst) {
            Ok(json!("sent").into())
        } else {
            Err(error())
        }
    });
    (handler, calls, up)
}

pub(super) fn digest() -> Value {
    let mut job = posts();
    job["then"] = json!("send");
    job
}

/// A bench of a job with these two purposes; an attempt at the second takes at most 2 s.
pub(super) async fn two(
    job: Value,
    tenants: &[&str],
    first: impl PurposeHandler + 'static,
    second: impl PurposeHandler + 'static,
    retries: u32,
) -> Bench {
    let bench = bench(job, tenants, first, retries).await;
    let mut handlers = bench.processor.base.handlers().clone();
    let send = PurposeId::new("send").unwrap();
    handlers.bind(send, Arc::new(second), Duration::from_secs(2));
    bench.switch_on(tenants);
    bench
}

fn count(calls: &Calls) -> usize {
    calls.lock().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn the_second_purpose_has_the_output_of_the_first_and_attempts_of_its_own() {
    let (write, written) = noting(|item| match item.attempt {
        1 | 2 => Err(HandlerError::retryable("busy")),
        _ => Ok(text_for("a").into()),
    });
    let (send, sent) = noting(|item| match item.attempt {
        1 | 2 => Err(HandlerError::retryable("greylisted")),
        _ => Ok(json!({"message_id": "<1@shop.example>"}).into()),
    });
    let bench = two(digest(), &["a"], write, send, 2).await;
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 1);
    let results = bench.results().await;
    let result = &results["a"].result;
    let both = json!({"written": text_for("a"), "then": {"message_id": "<1@shop.example>"}});
    assert_eq!(result.output, Some(both));
    assert_eq!(result.attempts, 6, "of both");
    for (calls, purpose, key, output) in [
        (&written, "write", "posts/a/2026-03-01", None),
        (
            &sent,
            "send",
            "posts/a/2026-03-01/then",
            Some(text_for("a")),
        ),
    ] {
        let calls = calls.lock().unwrap();
        let attempts: Vec<u32> = calls.iter().map(|item| item.attempt).collect();
        assert_eq!(attempts, [1, 2, 3], "{purpose}");
        for item in calls.iter() {
            assert_eq!(item.purpose_id.as_str(), purpose);
            assert_eq!(item.idempotency_key(), key);
            assert_eq!(item.written, output);
            assert_eq!(item.overrides().unwrap()["tone"], "dry");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_purpose_ends_the_item_and_a_failure_names_it() {
    let tenants = [
        "first-fails",
        "no-news",
        "second-fails",
        "suppressed",
        "both",
    ];
    let (write, written) = noting(|item| match item.item_id.as_str() {
        "first-fails" => Err(HandlerError::permanent("no such model")),
        "no-news" => Ok(Outcome::nothing_to_do("no news")),
        _ => Ok(json!("text").into()),
    });
    let (send, sent) = noting(|item| match item.item_id.as_str() {
        "second-fails" => Err(HandlerError::permanent("550 refused")),
        "suppressed" => Ok(Outcome::nothing_to_do("suppressed")),
        _ => Ok(json!("sent").into()),
    });
    let bench = two(digest(), &tenants, write, send, 0).await;
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(
        (report.succeeded, report.failed, report.nothing_to_do),
        (1, 2, 2)
    );
    assert_eq!((count(&written), count(&sent)), (5, 3));
    let results = bench.results().await;
    for (tenant, error) in [
        ("first-fails", Some("purpose `write`: no such model")),
        ("no-news", Some("no news")),
        ("second-fails", Some("purpose `send`: 550 refused")),
        ("suppressed", Some("suppressed")),
        ("both", None),
    ] {
        assert_eq!(results[tenant].result.error.as_deref(), error, "{tenant}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_purpose_has_its_own_time_limit() {
    let tenants = ["silent", "panics", "fine"];
    let (write, _) = writing();
    let bench = two(digest(), &tenants, write, Odd, 0).await;
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.failed), (1, 2));
    let results = bench.results().await;
    let error = |tenant: &str| results[tenant].result.error.clone().unwrap();
    assert_eq!(error("silent"), "purpose `send`: no answer within 2000 ms");
    assert_eq!(
        error("panics"),
        "purpose `send`: the handler panicked; see the log"
    );
}

/// Does not answer.
struct Silent;

#[async_trait]
impl PurposeHandler for Silent {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_waits_for_its_second_purpose_is_known_to_run() {
    let (write, _) = writing();
    let bench = two(digest(), &["a", "b"], write, Silent, 0).await;
    let mut handlers = bench.processor.base.handlers().clone();
    let limits = PurposeLimits {
        concurrency: Some(1),
        ..PurposeLimits::default()
    };
    let one_by_one = crate::Binding {
        limits,
        ..crate::Binding::default()
    };
    let send = PurposeId::new("send").unwrap();
    handlers.bind(send, Arc::new(Silent), one_by_one);
    // One is in its call by then, and the other one waits for its place.
    let run = bench.processor.process(&bench.chunk);
    let cut = tokio::time::timeout(Duration::from_secs(5), run);
    assert!(cut.await.is_err());
    let job = &config(digest()).jobs[0];
    let other = next_day(&bench, job, &["a", "b"], Trigger::Schedule).await;
    let claimant = Claimant {
        process: uuid::Uuid::new_v4(),
        token: uuid::Uuid::new_v4(),
    };
    let now = bench.processor.now();
    let claim = bench.store.claim(&other, claimant, now).await.unwrap();
    assert_eq!(claim.overlapping.len(), 2, "{:?}", claim.overlapping);
}

#[tokio::test(start_paused = true)]
async fn a_stop_or_a_crash_between_the_two_does_not_call_the_first_again() {
    for crashes in [false, true] {
        let (write, written) = writing();
        let (send, sent, up) = sending_once_up(|| HandlerError::retryable("down"));
        let bench = two(digest(), &["a", "b"], write, send, 5).await;
        // The second waits for its retry by then.
        let moment = Duration::from_millis(100);
        if crashes {
            let run = bench.processor.process(&bench.chunk);
            assert!(tokio::time::timeout(moment, run).await.is_err());
        } else {
            let stop = async {
                tokio::time::sleep(moment).await;
                bench.stop.cancel();
            };
            let (outcome, ()) = futures::join!(bench.processor.process(&bench.chunk), stop);
            assert!(matches!(outcome, Err(ProcessError::Interrupted)));
        }
        assert_eq!((count(&written), count(&sent)), (2, 2));
        up.store(true, Ordering::SeqCst);
        let report = bench.next.process(&bench.chunk).await.unwrap();
        assert_eq!(report.succeeded, 2);
        assert_eq!((count(&written), count(&sent)), (2, 4), "{crashes}");
        let results = bench.results().await;
        for tenant in ["a", "b"] {
            let result = &results[tenant].result;
            let both = json!({"written": text_for(tenant), "then": "sent"});
            assert_eq!(result.output, Some(both));
            assert_eq!(result.attempts, 1, "of this delivery");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_who_switches_off_between_the_two_is_skipped() {
    let (write, written) = writing();
    let (send, sent, _) = sending_once_up(|| HandlerError::retryable("down"));
    let bench = two(digest(), &["a"], write, send, 5).await;
    let run = bench.processor.process(&bench.chunk);
    let cut = tokio::time::timeout(Duration::from_millis(100), run);
    assert!(cut.await.is_err());
    let off = preference("a", json!({"enabled": false}));
    bench.config_database.put(off);
    let report = bench.next.process(&bench.chunk).await.unwrap();
    assert_eq!(report.skipped, 1);
    assert_eq!((count(&written), count(&sent)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_replay_of_a_dead_letter_calls_the_second_alone_until_it_succeeds() {
    let (write, written) = writing();
    let (send, sent, up) = sending_once_up(|| HandlerError::permanent("550 refused"));
    let bench = two(digest(), &["a"], write, send, 0).await;
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.failed, 1);
    for (round, is_up) in [(1, false), (2, true)] {
        up.store(is_up, Ordering::SeqCst);
        let open = DeadLetterFilter {
            state: Some(punctual_domain::DeadLetterState::Open),
            ..DeadLetterFilter::default()
        };
        let letters = bench.store.dead_letters(&open, &Page::default()).await;
        let (letters, _) = letters.unwrap();
        assert_eq!(letters[0].reason, "purpose `send`: 550 refused");
        let now: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
        let replay = NewBatch::new(
            &bench.chunk.job_id,
            Priority::High,
            "replay".to_owned(),
            bench.chunk.scheduled_at,
            bench.chunk.occurrence,
            Trigger::Replay,
            now + TimeDelta::seconds(round),
            &bench.chunk.items,
            500,
        );
        let chunk = replay.chunks[0].clone();
        let ids = [letters[0].id];
        let settled = bench.store.settle(&ids, vec![replay], now);
        assert_eq!(settled.await.unwrap(), 1);
        let report = bench.next.process(&chunk).await.unwrap();
        assert_eq!(
            (report.succeeded, report.failed),
            if is_up { (1, 0) } else { (0, 1) }
        );
        assert_eq!((count(&written), count(&sent)), (1, 1 + round as usize));
    }
    let sent = sent.lock().unwrap();
    assert!(sent.iter().all(|item| item.written == Some(text_for("a"))));
    let mut keys = sent.iter().map(Item::idempotency_key);
    assert!(keys.all(|key| key == "posts/a/2026-03-01/then"));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_kept_is_not_passed_on() {
    for has_claim in [true, false] {
        let mut store = MockBatchStore::new();
        store.expect_claim().returning(|chunk, _, _| {
            Ok(Claim {
                items: chunk.items.clone(),
                ..Claim::default()
            })
        });
        store
            .expect_previous()
            .returning(|_, _, _| Ok(HashMap::new()));
        store
            .expect_kept_outputs()
            .times(1)
            .returning(|_, _, _, _| Ok(Some(HashMap::new())));
        store
            .expect_keep_output()
            .times(1)
            .returning(move |_, _, _, _, _| {
                if has_claim {
                    Err(StoreError::unavailable("the disk is full"))
                } else {
                    Ok(false)
                }
            });
        store.expect_release().times(1).returning(|_, _, _| Ok(()));
        store.expect_commit().never();
        store.expect_finish().never();
        let (write, written) = writing();
        let (send, sent) = noting(|_| Ok(json!("sent").into()));
        let mut bench = two(digest(), &["a"], write, send, 3).await;
        let handlers = bench.processor.base.handlers().clone();
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        bench.processor.base = BatchProcessor::new(handlers, Arc::new(store), clock);
        let error = bench.processor.process(&bench.chunk).await.unwrap_err();
        match error {
            ProcessError::Store(error) => assert!(has_claim, "{error}"),
            ProcessError::Superseded => assert!(!has_claim),
            other => panic!("{other}"),
        }
        assert_eq!((count(&written), count(&sent)), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_runs_in_isolation_has_both_purposes() {
    let (write, written) = writing();
    let (send, sent) = noting(|_| Ok(json!("sent").into()));
    let bench = two(digest(), &["a", "b"], write, send, 0).await;
    for alone in [None, None] {
        dies_with(&bench.store, &bench.chunk, alone).await;
    }
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 2);
    assert_eq!((count(&written), count(&sent)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_sent_though_the_data_is_gone() {
    let mut job = digest();
    job["data"] = json!({"provider": "activity"});
    let (write, written) = writing();
    let (send, sent, up) = sending_once_up(|| HandlerError::retryable("down"));
    let mut bench = two(job, &["a"], write, send, 5).await;
    let data = Arc::new(FakeTenantData::default());
    data.put("a", json!(["one order"]));
    bench.processor = bench.processor.with_tenant_data(data.clone());
    bench.next = bench.next.with_tenant_data(data.clone());
    let run = bench.processor.process(&bench.chunk);
    let cut = tokio::time::timeout(Duration::from_millis(100), run);
    assert!(cut.await.is_err());
    data.put("a", Value::Null);
    up.store(true, Ordering::SeqCst);
    let report = bench.next.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.nothing_to_do), (1, 0));
    assert_eq!((count(&written), count(&sent)), (1, 2));
    let sent = sent.lock().unwrap();
    assert_eq!(sent[0].data(), Some(&json!(["one order"])));
    assert_eq!(sent[1].data(), None);
}
