//! Items that wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicBool,
};

use punctual_domain::{AtDeadline, Batch};
use uuid::Uuid;

use super::{
    then::{Calls, digest, noting, two},
    *,
};
use crate::{
    CompletionUrls,
    ports::{
        Completer, DeadLetterFilter, DueCalls, Page, Paged, Settled, Settlement, StoreError,
        WaitingCall, WaitingChange, WaitingFilter, WaitingItems,
    },
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Waits for an hour from the beginning of a test on.
fn an_hour() -> Waiting {
    Waiting::until(at("2026-03-01T10:00:00Z"))
}

/// Waits for a day.
#[expect(clippy::unnecessary_wraps, reason = "it is what handlers return")]
fn waits(_: &Item) -> Result<Outcome, HandlerError> {
    Ok(Outcome::Waiting(Waiting::until(at("2026-03-02T09:00:00Z"))))
}

/// The same bench, whose processors bring calls that wait further.
fn completing(mut bench: Bench) -> Bench {
    let urls = CompletionUrls::new([1; 32], Some("http://localhost:8080"));
    for processor in [&mut bench.processor, &mut bench.next] {
        let completing = processor.clone().with_waiting_items(bench.store.clone());
        *processor = completing.with_completion_urls(urls.clone());
    }
    bench
}

async fn waiting_bench(
    job: Value,
    tenants: &[&str],
    handler: impl PurposeHandler + 'static,
    retries: u32,
) -> Bench {
    let bench = bench(job, tenants, handler, retries).await;
    bench.switch_on(tenants);
    completing(bench)
}

/// The ids of the calls so far.
fn call_ids(calls: &Calls) -> Vec<Uuid> {
    let calls = calls.lock().unwrap();
    let id = |item: &Item| item.completion.as_ref().unwrap().call_id;
    calls.iter().map(id).collect()
}

impl Bench {
    async fn work(&self) -> ChunkReport {
        self.store.work(&self.processor).await.unwrap()
    }

    async fn batch(&self) -> Batch {
        let batch = self.store.batch(self.chunk.batch_id).await.unwrap();
        batch.unwrap()
    }

    async fn complete(&self, call_id: Uuid, outcome: Result<Outcome, HandlerError>) -> Settled {
        self.processor.complete(call_id, outcome).await.unwrap()
    }

    /// Lets so much time pass, and does what falls due.
    async fn pass(&self, time: Duration) -> ChunkReport {
        tokio::time::sleep(time).await;
        let now = self.processor.now();
        let lease = TimeDelta::minutes(1);
        let due = self.store.due(now, lease, 100).await;
        for call in due.unwrap().calls {
            if call.waiting.until <= now {
                self.processor.pass_deadline(call).await.unwrap();
            } else {
                self.processor.poll(call).await.unwrap();
            }
        }
        // An attempt that has failed is made again after less than a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = self.processor.now();
        let due = self.store.due(now, lease, 0).await;
        due.unwrap();
        self.work().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_waits_until_its_call_is_completed_once() {
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &["a", "b"], handler, 0).await;
    let report = bench.work().await;
    assert_eq!((report.waiting, report.ended()), (2, 0));
    assert!(bench.store.pending().is_empty(), "it holds no chunk");
    let batch = bench.batch().await;
    assert_eq!((batch.waiting, batch.processed()), (2, 0));
    assert_eq!(batch.finished_at, None);
    let results = bench.results().await;
    let waiting = &results["a"].result;
    assert_eq!((waiting.status, waiting.attempts), (ItemStatus::Waiting, 1));
    let until = waiting.waiting.as_ref().unwrap().until;
    assert_eq!(until, at("2026-03-02T09:00:00Z"));

    let ids = call_ids(&calls);
    let done = || Ok(json!("done").into());
    assert_eq!(bench.complete(ids[0], done()).await, Settled::Taken);
    assert_eq!(bench.batch().await.finished_at, None);
    let again = bench.complete(ids[0], Err(HandlerError::permanent("no")));
    assert_eq!(again.await, Settled::NotWaiting);
    // By another process.
    let last = bench.next.complete(ids[1], done()).await.unwrap();
    assert_eq!(last, Settled::Taken);
    let batch = bench.batch().await;
    assert_eq!(batch.status, BatchStatus::Completed);
    assert_eq!((batch.succeeded, batch.waiting), (2, 0));
    assert_eq!(
        bench.results().await["a"].result.output,
        Some(json!("done"))
    );
    assert_eq!(
        bench.complete(Uuid::new_v4(), done()).await,
        Settled::NotWaiting
    );
}

#[tokio::test(start_paused = true)]
async fn completions_that_come_together_each_have_their_answer() {
    let ids = ids(40);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &tenants, handler, 0).await;
    assert_eq!(bench.work().await.waiting, 40);
    let calls = call_ids(&calls);
    let twice = calls.iter().chain(&calls);
    let completions = twice.map(|id| bench.complete(*id, Ok(json!("done").into())));
    let settled = futures::future::join_all(completions).await;
    let taken = settled.iter().filter(|one| **one == Settled::Taken).count();
    assert_eq!((settled.len(), taken), (80, 40));
    assert_eq!(bench.batch().await.succeeded, 40);
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_made_again_with_its_attempts_counted_on() {
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &["a"], handler, 1).await;
    bench.work().await;
    let failed = || Err(HandlerError::retryable("the render farm is down"));
    let first = call_ids(&calls)[0];
    assert_eq!(bench.complete(first, failed()).await, Settled::Taken);
    assert_eq!(bench.batch().await.waiting, 1, "until it is called again");
    assert_eq!(bench.pass(Duration::from_secs(1)).await.waiting, 1);
    let ids = call_ids(&calls);
    assert_eq!(ids.len(), 2);
    let late = bench.complete(first, Ok(json!("late").into())).await;
    assert_eq!(late, Settled::NotWaiting, "its attempt is over");
    {
        let calls = calls.lock().unwrap();
        assert_eq!(calls[1].attempt, 2);
        let urls = calls.iter().map(|item| item.completion.clone());
        let urls: BTreeSet<_> = urls.map(|completion| completion.unwrap().url).collect();
        assert_eq!(urls.len(), 2, "another address on each attempt");
    }
    assert_eq!(bench.complete(ids[1], failed()).await, Settled::Taken);
    let result = bench.results().await.remove("a").unwrap().result;
    assert_eq!((result.status, result.attempts), (ItemStatus::Failed, 2));
    assert_eq!(result.error.as_deref(), Some("the render farm is down"));
    assert_eq!(result.started_at, at("2026-03-01T09:00:00Z"));
    let settled = bench.processor.take_settled();
    assert_eq!(settled[&bench.chunk.job_id].report.failed, 1);
    assert!(bench.processor.take_settled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_not_made_again_before_its_worker_says() {
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &["a"], handler, 1).await;
    bench.work().await;
    let full = HandlerError::retryable("the renderer is full");
    let full = full.with_retry_after(Some(Duration::from_mins(10)));
    let first = call_ids(&calls)[0];
    assert_eq!(bench.complete(first, Err(full)).await, Settled::Taken);
    bench.pass(Duration::from_mins(9)).await;
    assert_eq!(call_ids(&calls).len(), 1);
    bench.pass(Duration::from_mins(1)).await;
    assert_eq!(call_ids(&calls).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_attempt_or_the_item() {
    for (at_deadline, calls_made) in [(AtDeadline::Retry, 2), (AtDeadline::Fail, 1)] {
        let (handler, calls) = noting(move |item| match item.attempt {
            1 => Ok(Outcome::Waiting(an_hour().at_deadline(at_deadline))),
            _ => Ok(json!("done").into()),
        });
        let bench = waiting_bench(posts(), &["a"], handler, 1).await;
        bench.work().await;
        bench.pass(Duration::from_mins(59)).await;
        assert_eq!(bench.batch().await.waiting, 1);
        bench.pass(Duration::from_mins(1)).await;
        assert_eq!(call_ids(&calls).len(), calls_made, "{at_deadline}");
        let result = bench.results().await.remove("a").unwrap().result;
        match at_deadline {
            AtDeadline::Retry => assert_eq!(result.output, Some(json!("done"))),
            AtDeadline::Fail => assert_eq!(
                result.error.as_deref(),
                Some("no completion by 2026-03-01 10:00:00 UTC")
            ),
        }
        assert_eq!(result.attempts as usize, calls_made);
        assert!(bench.batch().await.finished_at.is_some());
    }
}

/// Is asked after ten minutes, and knows the answer after twenty.
struct Polled;

#[async_trait]
impl PurposeHandler for Polled {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        let asked = an_hour().polled_at(at("2026-03-01T09:10:00Z"));
        Ok(Outcome::Waiting(asked.with_state(json!({"polls": 0}))))
    }

    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        match call.waiting.state["polls"].as_u64() {
            Some(0) => Ok(Outcome::Waiting(
                call.waiting
                    .clone()
                    .polled_at(at("2026-03-01T09:20:00Z"))
                    .with_state(json!({"polls": 1})),
            )),
            polls => Ok(json!({ "polls": polls }).into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_polled_when_it_has_asked_for_it() {
    let bench = waiting_bench(posts(), &["a"], Polled, 0).await;
    bench.work().await;
    for waiting in [1, 0] {
        bench.pass(Duration::from_mins(10)).await;
        assert_eq!(bench.batch().await.waiting, waiting);
    }
    let output = bench.results().await["a"].result.output.clone();
    assert_eq!(output, Some(json!({"polls": 1})));
}

/// Is asked after ten minutes, and never answers until it is mended.
#[derive(Clone, Default)]
struct Silent {
    polls: Arc<AtomicUsize>,
    is_mended: Arc<AtomicBool>,
}

#[async_trait]
impl PurposeHandler for Silent {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        let asked = Waiting::until(at("2026-03-02T09:00:00Z"));
        let asked = asked.polled_at(at("2026-03-01T09:10:00Z"));
        Ok(Outcome::Waiting(asked))
    }

    async fn poll(&self, _: &WaitingCall) -> Result<Outcome, HandlerError> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if self.is_mended.load(Ordering::Relaxed) {
            return Ok(json!("done").into());
        }
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_answer_is_polled_by_one_call_at_a_time() {
    let ids = ids(40);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let silent = Silent::default();
    let bench = waiting_bench(posts(), &tenants, silent.clone(), 0).await;
    assert_eq!(bench.work().await.waiting, 40);
    bench.pass(Duration::from_mins(10)).await;
    let polls = silent.polls.load(Ordering::Relaxed);
    assert!((5..40).contains(&polls), "{polls}");
    assert_eq!(bench.batch().await.waiting, 40);
    silent.is_mended.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        bench.pass(Duration::from_mins(2)).await;
    }
    assert_eq!(bench.batch().await.succeeded, 40);
}

#[tokio::test(start_paused = true)]
async fn each_of_two_purposes_may_wait() {
    let (write, written) = noting(waits);
    let (send, sent) = noting(waits);
    let bench = completing(two(digest(), &["a"], write, send, 1).await);
    bench.work().await;
    let text = json!({"text": "Hello"});
    let first = call_ids(&written)[0];
    let completed = bench.complete(first, Ok(text.clone().into())).await;
    assert_eq!(completed, Settled::Taken);
    assert_eq!(bench.work().await.waiting, 1);
    assert_eq!(sent.lock().unwrap()[0].written, Some(text.clone()));
    let refused = Err(HandlerError::retryable("greylisted"));
    let second = call_ids(&sent)[0];
    assert_eq!(bench.complete(second, refused).await, Settled::Taken);
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(sent.lock().unwrap()[1].attempt, 2);
    let second = call_ids(&sent)[1];
    let done = Ok(json!("sent").into());
    assert_eq!(bench.complete(second, done).await, Settled::Taken);
    let result = bench.results().await.remove("a").unwrap().result;
    let both = json!({"written": text, "then": "sent"});
    assert_eq!((result.output, result.attempts), (Some(both), 3));
    assert_eq!((call_ids(&written).len(), call_ids(&sent).len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_recipients_of_an_aggregate_wait_for_one_call() {
    let job = json!({"job_id": "digest", "type": "object_batch", "purpose_id": "write",
        "schedule": {"frequency": "daily"}, "source": {"file": "x.json"},
        "distribute_to": ["ann", "bob"]});
    let (handler, calls) = noting(waits);
    let bench = bench(job, &["*", "ann", "bob"], handler, 1).await;
    let mut bench = completing(bench);
    let source = FakeItemSource::default();
    source.put("x.json", ["x", "y"]);
    bench.processor.item_source = Arc::new(source);
    assert_eq!(bench.work().await.waiting, 3);
    let failed = Err(HandlerError::retryable("busy"));
    let first = call_ids(&calls)[0];
    assert_eq!(bench.complete(first, failed).await, Settled::Taken);
    assert_eq!(bench.pass(Duration::from_secs(1)).await.waiting, 3);
    let ids = call_ids(&calls);
    assert_eq!((ids.len(), calls.lock().unwrap()[1].attempt), (2, 2));
    let done = Ok(json!("done").into());
    assert_eq!(bench.complete(ids[1], done).await, Settled::Taken);
    let batch = bench.batch().await;
    assert_eq!((batch.succeeded, batch.status), (3, BatchStatus::Completed));
}

#[tokio::test(start_paused = true)]
async fn what_waits_of_a_cancelled_batch_is_skipped_and_takes_no_completion() {
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &["a", "b"], handler, 0).await;
    bench.work().await;
    let ids = call_ids(&calls);
    assert!(bench.store.cancel(bench.chunk.batch_id).await.unwrap());
    let done = || Ok(json!("done").into());
    assert_eq!(bench.complete(ids[0], done()).await, Settled::Cancelled);
    assert_eq!(bench.work().await.skipped, 2);
    assert_eq!(bench.complete(ids[1], done()).await, Settled::NotWaiting);
    let batch = bench.batch().await;
    assert_eq!((batch.skipped, batch.waiting), (2, 0));
    assert!(batch.finished_at.is_some());
    assert_eq!(call_ids(&calls).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_occurrence_is_skipped_as_long_as_an_item_waits() {
    let mut job = posts();
    job["overlap"] = json!("skip");
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(job.clone(), &["a"], handler, 0).await;
    bench.work().await;
    let jobs = config(job);
    let other = next_day(&bench, &jobs.jobs[0], &["a"], Trigger::Schedule).await;
    let report = bench.next.process(&other).await.unwrap();
    assert_eq!(report.skipped, 1);
    assert_eq!(call_ids(&calls).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_called_again_has_not_expired() {
    let (handler, calls) = noting(|item| match item.attempt {
        1 => waits(item),
        _ => Ok(json!("done").into()),
    });
    let mut bench = waiting_bench(posts(), &["a"], handler, 1).await;
    bench.chunk.expires_at = Some(at("2026-03-01T09:30:00Z"));
    bench.processor.process(&bench.chunk).await.unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    let failed = Err(HandlerError::retryable("busy"));
    bench.complete(call_ids(&calls)[0], failed).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = bench.processor.now();
    let due = bench.store.due(now, TimeDelta::minutes(1), 1);
    due.await.unwrap();
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.skipped), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_past_and_too_much_state_fail_at_once() {
    let tenants = ["past", "large"];
    let (handler, _) = noting(|item| {
        let waiting = if item.item_id.as_str() == "past" {
            Waiting::until(at("2026-03-01T08:00:00Z"))
        } else {
            an_hour().with_state(json!("x".repeat(300_000)))
        };
        Ok(Outcome::Waiting(waiting))
    });
    let bench = waiting_bench(posts(), &tenants, handler, 0).await;
    assert_eq!(bench.work().await.failed, 2);
    let results = bench.results().await;
    let error = |tenant: &str| results[tenant].result.error.clone().unwrap();
    assert_eq!(error("past"), "no completion by 2026-03-01 08:00:00 UTC");
    assert!(
        error("large").contains("300002 bytes"),
        "{}",
        error("large")
    );
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_beside_the_failure_it_is_of() {
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &["a"], handler, 0).await;
    bench.work().await;
    let failed = Err(HandlerError::permanent("no"));
    bench.complete(call_ids(&calls)[0], failed).await;
    let (filter, page) = (DeadLetterFilter::default(), Page::default());
    let letters = bench.store.dead_letters(&filter, &page).await;
    let open = [letters.unwrap().0[0].id];
    let now = bench.processor.now();
    let replay = NewBatch::new(
        &bench.chunk.job_id,
        Priority::High,
        "replay".to_owned(),
        bench.chunk.scheduled_at,
        bench.chunk.occurrence,
        Trigger::Replay,
        now,
        &bench.chunk.items,
        500,
    );
    let settled = bench.store.settle(&open, vec![replay], now);
    assert_eq!(settled.await.unwrap(), 1);
    assert_eq!(bench.work().await.waiting, 1);
    let done = Ok(json!("done").into());
    assert_eq!(
        bench.complete(call_ids(&calls)[1], done).await,
        Settled::Taken
    );
    assert!(bench.store.pending().is_empty());
    let replayed = bench.batch().await;
    assert_eq!((replayed.failed, replayed.replayed), (1, 1));
}

/// Numbers that are the same for one seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_in_whatever_order_each_item_has_one_outcome() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let (handler, calls) = noting(|item| match item.item_id.as_str() {
            "t0" => Ok(json!("at once").into()),
            _ => waits(item),
        });
        let ids = ids(5);
        let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
        let bench = waiting_bench(posts(), &tenants, handler, 2).await;
        let mut taken = BTreeSet::new();
        for _ in 0..30 {
            let calls = call_ids(&calls);
            match numbers.below(12) {
                0..=4 if !calls.is_empty() => {
                    let call_id = calls[numbers.below(calls.len())];
                    let outcome = match numbers.below(4) {
                        0 => Err(HandlerError::retryable("busy")),
                        1 => Err(HandlerError::permanent("no")),
                        2 => Ok(Outcome::nothing_to_do("no news")),
                        _ => Ok(json!("done").into()),
                    };
                    let processor = [&bench.processor, &bench.next][numbers.below(2)];
                    let settled = processor.complete(call_id, outcome).await.unwrap();
                    if settled == Settled::Taken {
                        assert!(taken.insert(call_id), "{seed}: {call_id} was taken twice");
                    }
                }
                5 | 6 => _ = bench.pass(Duration::from_secs(2)).await,
                7 => _ = bench.pass(Duration::from_hours(12)).await,
                8 if bench.store.pending().contains(&bench.chunk) => {
                    dies_with(&bench.store, &bench.chunk, None).await;
                }
                9 if numbers.below(6) == 0 => {
                    _ = bench.store.cancel(bench.chunk.batch_id).await.unwrap();
                }
                _ => _ = bench.work().await,
            }
            let batch = bench.batch().await;
            let known = batch.processed() + batch.waiting;
            assert!(known <= batch.total, "{seed}: {batch:?}");
            let is_over = batch.processed() == batch.total;
            assert_eq!(batch.finished_at.is_some(), is_over, "{seed}: {batch:?}");
        }
        for _ in 0..4 {
            bench.pass(Duration::from_hours(25)).await;
        }
        let batch = bench.batch().await;
        assert_eq!((batch.processed(), batch.waiting), (5, 0), "{seed}");
        assert!(batch.finished_at.is_some(), "{seed}");
        assert_eq!(bench.results().await.len(), 5, "{seed}");
        assert!(bench.store.pending().is_empty(), "{seed}");
    }
}

/// A store whose settlements take a second.
struct Slow(Arc<FakeStore>);

#[async_trait]
impl WaitingItems for Slow {
    async fn completion_key(&self) -> Result<[u8; 32], StoreError> {
        self.0.completion_key().await
    }

    async fn waiting_call(&self, call_id: Uuid) -> Result<Option<WaitingCall>, StoreError> {
        self.0.waiting_call(call_id).await
    }

    async fn settle_calls(
        &self,
        settlements: &[(Uuid, Settlement)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Settled>, StoreError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.settle_calls(settlements, now).await
    }

    async fn keep_waiting(
        &self,
        call_id: Uuid,
        change: &WaitingChange,
    ) -> Result<bool, StoreError> {
        self.0.keep_waiting(call_id, change).await
    }

    async fn due(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<DueCalls, StoreError> {
        self.0.due(now, lease, limit).await
    }

    async fn waiting_calls(
        &self,
        filter: &WaitingFilter,
        page: &Page,
    ) -> Result<Paged<WaitingCall>, StoreError> {
        self.0.waiting_calls(filter, page).await
    }

    async fn waiting_counts(&self) -> Result<BTreeMap<JobId, u64>, StoreError> {
        self.0.waiting_counts().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_gone_takes_nothing_from_those_it_was_stored_with() {
    let (handler, calls) = noting(waits);
    let bench = waiting_bench(posts(), &["a", "b", "c"], handler, 0).await;
    bench.work().await;
    let slow = Arc::new(Slow(bench.store.clone()));
    let processor = bench.processor.clone().with_waiting_items(slow);
    let completing: Vec<_> = call_ids(&calls)
        .into_iter()
        .map(|call_id| {
            let processor = processor.clone();
            tokio::spawn(async move {
                let done = Ok(json!("done").into());
                processor.complete(call_id, done).await
            })
        })
        .collect();
    // They are stored together, in the turn of the first, which goes away meanwhile.
    tokio::time::sleep(Duration::from_millis(500)).await;
    completing[0].abort();
    let mut settled = Vec::new();
    for completing in completing {
        settled.push(completing.await.ok().map(Result::unwrap));
    }
    let taken = Some(Settled::Taken);
    assert_eq!(settled, [None, taken, taken]);
    assert_eq!(bench.batch().await.succeeded, 3);
}
