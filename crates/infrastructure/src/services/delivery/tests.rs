//! Deliveries of a fake store to sinks that fail, on paused time.

use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use punctual_application::{
    ports::{BatchStore, Claimant, HandlerError, MockPurposeHandler, OperatorStore, WorkQueue},
    testing::{FakeSink, FakeStore, ManualClock},
};
use punctual_domain::{
    Batch, Firing, Item, ItemId, ItemResult, ItemStatus, JobId, NewBatch, Occurrence, Outcome,
    Priority, PurposeId, Trigger,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

/// Behaviour of the sink in one call.
enum SinkAnswer {
    Refuse(SinkError),
    Panic,
    Hang,
    /// Takes, after so many seconds.
    Wait(u64),
}

/// Does what a test scripts, call by call, and then takes everything.
#[derive(Default)]
struct Sink {
    script: Mutex<VecDeque<SinkAnswer>>,
    /// When it took something, in seconds since its start.
    taken: Mutex<Vec<u64>>,
}

impl Sink {
    fn scripted(script: impl Into<VecDeque<SinkAnswer>>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into()),
            ..Self::default()
        })
    }

    fn taken(&self) -> Vec<u64> {
        self.taken.lock().unwrap().clone()
    }
}

#[async_trait]
impl ResultSink for Timed {
    async fn take(&self, _: &Batch, _: &[StoredResult], _: bool) -> Result<(), SinkError> {
        let does = self.sink.script.lock().unwrap().pop_front();
        match does {
            Some(SinkAnswer::Refuse(error)) => return Err(error),
            Some(SinkAnswer::Panic) => panic!("this test makes the sink panic"),
            Some(SinkAnswer::Hang) => std::future::pending().await,
            Some(SinkAnswer::Wait(seconds)) => sleep(seconds).await,
            None => {}
        }
        let seconds = self.began.elapsed().as_secs();
        self.sink.taken.lock().unwrap().push(seconds);
        Ok(())
    }
}

struct Timed {
    sink: Arc<Sink>,
    began: Instant,
}

/// Delivers `batches` batches of one result each to these sinks, for ever.
async fn deliver(batches: i64, sinks: &[(&str, &Arc<Sink>)]) -> Arc<FakeStore> {
    let (store, deliverer) = deliverer(batches, sinks).await;
    tokio::spawn(deliverer.run(CancellationToken::new()));
    store
}

async fn deliverer(batches: i64, sinks: &[(&str, &Arc<Sink>)]) -> (Arc<FakeStore>, Deliverer) {
    let store = Arc::new(FakeStore::default());
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T10:00:00Z"));
    let targets = sinks.iter().map(|(name, _)| Delivery::Sink((*name).into()));
    let targets = Vec::from_iter(targets);
    for day in 0..batches {
        finish(&store, &targets, clock.now() - TimeDelta::days(day)).await;
    }
    let mut deliverer = Deliverer::new(store.clone(), store.clone(), clock, PathBuf::from("."));
    for (name, sink) in sinks {
        let sink = Timed {
            sink: Arc::clone(sink),
            began: Instant::now(),
        };
        deliverer = deliverer.with_sink(*name, Arc::new(sink));
    }
    (store, deliverer)
}

/// Stores a batch of one item that has succeeded at `now`.
async fn finish(store: &FakeStore, targets: &[Delivery], now: DateTime<Utc>) {
    finish_all(store, targets, now, &[ItemStatus::Succeeded]).await;
}

/// Stores a batch whose items have ended so at `now`.
async fn finish_all(
    store: &FakeStore,
    targets: &[Delivery],
    now: DateTime<Utc>,
    statuses: &[ItemStatus],
) {
    let number = |number| ItemId::new(format!("item-{number:04}")).unwrap();
    let ended = (0..).map(number).zip(statuses.iter().copied());
    finish_items(store, targets, now, &Vec::from_iter(ended)).await;
}

/// Stores a batch of these items, which have ended so at `now`.
async fn finish_items(
    store: &FakeStore,
    targets: &[Delivery],
    now: DateTime<Utc>,
    ended: &[(ItemId, ItemStatus)],
) {
    let items: Vec<ItemId> = ended.iter().map(|(item, _)| item.clone()).collect();
    let job_id = JobId::new("job").unwrap();
    let batch = NewBatch {
        deliver_to: targets.to_vec(),
        deliver_within: Some(TimeDelta::days(30)),
        ..NewBatch::new(
            &job_id,
            Priority::High,
            "daily".into(),
            now,
            Occurrence::Instant(now),
            Trigger::Schedule,
            now,
            &items,
            1_000,
        )
    };
    let chunk = batch.chunks[0].clone();
    let firing = Firing {
        batches: vec![batch],
        positions: vec![],
    };
    store.enqueue(firing, now).await.unwrap();
    let claimant = Claimant {
        process: Uuid::from_u128(1),
        token: Uuid::from_u128(2),
    };
    store.claim(&chunk, claimant, now).await.unwrap();
    let results = ended.iter().map(|(item_id, status)| ItemResult {
        item_id: item_id.clone(),
        status: *status,
        failure_kind: None,
        attempts: 1,
        preference: None,
        output: (*status == ItemStatus::Succeeded).then(|| json!({"text": item_id})),
        error: None,
        started_at: now,
        finished_at: Some(now),
        waiting: None,
    });
    let results = Vec::from_iter(results);
    let committed = store.commit(&chunk, claimant.token, &results).await;
    assert!(committed.unwrap().finished);
}

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_given_up_at_once_after_a_permanent_error() {
    let permanent = SinkError::permanent("the table does not exist");
    let sink = Sink::scripted([SinkAnswer::Refuse(permanent)]);
    let store = deliver(1, &[("warehouse", &sink)]).await;
    sleep(24 * 3600).await;
    assert!(sink.taken().is_empty());
    let failing = store
        .failing_deliveries(DateTime::UNIX_EPOCH)
        .await
        .unwrap();
    let [one] = failing.as_slice() else {
        panic!("{failing:?}")
    };
    assert_eq!(
        (one.given_up, one.reason.as_str()),
        (true, "the table does not exist")
    );
}

#[tokio::test(start_paused = true)]
async fn a_retryable_error_is_retried_no_sooner_than_it_asks() {
    let closed = std::io::Error::other("closed");
    let busy = SinkError::retryable("busy").with_retry_after(Duration::from_mins(10));
    let sink = Sink::scripted([SinkAnswer::Refuse(closed.into()), SinkAnswer::Refuse(busy)]);
    deliver(1, &[("warehouse", &sink)]).await;
    sleep(3600).await;
    let taken = sink.taken();
    assert!(matches!(taken[..], [602..=605]), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_or_hangs_is_called_again() {
    let sink = Sink::scripted([SinkAnswer::Panic, SinkAnswer::Hang]);
    deliver(1, &[("warehouse", &sink)]).await;
    sleep(3600).await;
    // 2 s after the panic, 240 s in which it hangs, 4 s more.
    let taken = sink.taken();
    assert!(matches!(taken[..], [246..=250]), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_at_a_stop_arrives_and_does_not_come_again() {
    let sink = Sink::scripted([SinkAnswer::Wait(10)]);
    let (store, first) = deliverer(2, &[("warehouse", &sink)]).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(first.run(stop.clone()));
    sleep(5).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(sink.taken(), [10], "one of two, which had begun");
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T10:10:00Z"));
    let due = store.take(clock.now(), LEASE, &[]).await.unwrap();
    assert!(due.is_some(), "the other one");
    let more = store.take(clock.now(), LEASE, &[]).await.unwrap();
    assert!(more.is_none(), "{more:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_keeps_no_other_one_waiting() {
    let (slow, quick) = (Sink::scripted([SinkAnswer::Hang]), Sink::scripted([]));
    deliver(40, &[("slow", &slow), ("quick", &quick)]).await;
    sleep(10).await;
    assert_eq!((slow.taken().len(), quick.taken().len()), (0, 40));
    sleep(600).await;
    assert_eq!(slow.taken().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_had_nothing_to_do_is_not_delivered() {
    let store = Arc::new(FakeStore::default());
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T10:00:00Z"));
    let targets = [Delivery::Sink("warehouse".into())];
    // The first page has no result to deliver, and a batch of nothing else has none at all.
    let mut statuses = vec![ItemStatus::NothingToDo; PAGE as usize + 2];
    finish_all(&store, &targets, clock.now(), &statuses).await;
    statuses[PAGE as usize + 1] = ItemStatus::Failed;
    let earlier = clock.now() - TimeDelta::days(1);
    finish_all(&store, &targets, earlier, &statuses).await;
    let sink = Arc::new(FakeSink::default());
    let folder = PathBuf::from(".");
    let deliverer = Deliverer::new(store.clone(), store.clone(), clock.clone(), folder);
    let deliverer = deliverer.with_sink("warehouse", sink.clone());
    tokio::spawn(deliverer.run(CancellationToken::new()));
    sleep(60).await;
    let received = sink.received();
    let received = received.iter().map(|stored| stored.result.status);
    assert_eq!(Vec::from_iter(received), [ItemStatus::Failed]);
    let due = store.take(clock.now(), LEASE, &[]).await.unwrap();
    assert!(due.is_none(), "both deliveries are over: {due:?}");
}

/// A store with a batch of all records and of one recipient, of which the first ended so, and a deliverer by e-mail whose
/// handler answers as `script` says, and then succeeds. The third: what the handler was called with.
async fn by_email(
    whole: ItemStatus,
    script: Vec<Result<Outcome, HandlerError>>,
) -> (Arc<FakeStore>, Deliverer, Arc<Mutex<Vec<Item>>>) {
    let store = Arc::new(FakeStore::default());
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T10:00:00Z"));
    let mail = PurposeId::new("mail").unwrap();
    let targets = [Delivery::Email(mail.clone())];
    let ann = (ItemId::new("ann").unwrap(), ItemStatus::Succeeded);
    let ended = [(ItemId::aggregate(), whole), ann];
    finish_items(&store, &targets, clock.now(), &ended).await;
    let calls: Arc<Mutex<Vec<Item>>> = Arc::default();
    let noted = Arc::clone(&calls);
    let mut script = VecDeque::from(script);
    let mut handler = MockPurposeHandler::new();
    handler.expect_run().returning(move |item| {
        noted.lock().unwrap().push(item.clone());
        script.pop_front().unwrap_or_else(|| Ok(Value::Null.into()))
    });
    let mut handlers = Handlers::default();
    handlers.bind(mail, Arc::new(handler), Handlers::DEFAULT_TIMEOUT);
    let folder = PathBuf::from(".");
    let deliverer = Deliverer::new(store.clone(), store.clone(), clock, folder);
    (store, deliverer.with_handlers(handlers), calls)
}

#[tokio::test(start_paused = true)]
async fn the_result_of_all_records_is_sent_as_one_email_until_the_server_takes_it() {
    let busy = || Err(HandlerError::throttled("421 busy", None));
    let script = vec![busy(), Err(HandlerError::retryable("closed"))];
    let (store, deliverer, calls) = by_email(ItemStatus::Succeeded, script).await;
    tokio::spawn(deliverer.run(CancellationToken::new()));
    sleep(600).await;
    let calls = calls.lock().unwrap().clone();
    let attempts: Vec<u32> = calls.iter().map(|item| item.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let key = calls[0].idempotency_key();
    for item in &calls {
        assert!(item.item_id.is_aggregate(), "{item:?}");
        assert_eq!(item.written, Some(json!({"text": "*"})));
        assert_eq!(item.idempotency_key(), key);
        assert!(key.ends_with("/deliver/mail"), "{key}");
    }
    let now = "2026-03-02T10:00:00Z".parse().unwrap();
    assert!(store.take(now, LEASE, &[]).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_email_that_is_refused_for_good_is_given_up_and_one_without_need_is_not_sent() {
    let refused = vec![Err(HandlerError::permanent("550 refused"))];
    let suppressed = vec![Ok(Outcome::nothing_to_do("the address is suppressed"))];
    for (whole, script, calls_expected, reason) in [
        (
            ItemStatus::Succeeded,
            refused,
            1,
            Some("purpose `mail`: 550 refused"),
        ),
        (ItemStatus::Succeeded, suppressed, 1, None),
        (ItemStatus::Failed, Vec::new(), 0, None),
    ] {
        let (store, deliverer, calls) = by_email(whole, script).await;
        tokio::spawn(deliverer.run(CancellationToken::new()));
        sleep(24 * 3600).await;
        assert_eq!(calls.lock().unwrap().len(), calls_expected, "{reason:?}");
        let failing = store.failing_deliveries(DateTime::UNIX_EPOCH).await;
        let failing = failing.unwrap();
        let found = failing.first().map(|one| (one.given_up, &*one.reason));
        assert_eq!(found, reason.map(|reason| (true, reason)));
    }
}

#[test]
fn a_delivery_is_retried_until_its_bound_and_once_at_it() {
    let now: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
    let after = |tries, until: Option<i64>| {
        let until = until.map(|seconds| now + TimeDelta::seconds(seconds));
        let error = SinkError::retryable("closed");
        again(&error, tries, until, now).map(|at| (at - now).num_seconds())
    };
    assert_eq!(after(0, Some(3600)), Some(2));
    assert_eq!(
        after(200, Some(7200)),
        Some(3600),
        "however often it has failed"
    );
    assert_eq!(after(9, Some(60)), Some(60));
    assert_eq!(after(9, Some(0)), None);
    assert_eq!((after(82, None), after(83, None)), (Some(3600), None));
    let asked = SinkError::retryable("busy").with_retry_after(Duration::from_mins(1));
    let until = Some(now + TimeDelta::hours(1));
    let at = now + TimeDelta::seconds(60);
    assert_eq!(again(&asked, 0, until, now), Some(at), "as the place asks");
    let permanent = SinkError::permanent("no such table");
    assert_eq!(again(&permanent, 0, until, now), None);
}
