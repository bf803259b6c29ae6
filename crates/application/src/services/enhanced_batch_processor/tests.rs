//! The processor against fakes and mocks: exact, and without waiting, on tokio's paused time.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use punctual_domain::{
    BatchConfig, BatchStatus, Firing, Item, JobConfig, NewBatch, PreferenceRecord, Priority,
    PurposeId, TenantId, Trigger,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    Handlers,
    ports::{
        BatchReader, BatchStore, Claim, Claimant, Committed, HandlerError, MockBatchStore,
        MockPurposeHandler, Page, PurposeHandler, ResultFilter, StoredResult, WorkQueue,
    },
    testing::{FakeConfigDatabase, FakeItemSource, FakeStore, ManualClock, record},
};

mod data;
mod organizations;
mod prepare_ahead;
mod preview;
mod succession;
mod then;
mod waiting;

fn config(job: Value) -> Arc<BatchConfig> {
    Arc::new(punctual_project::parse_batch_config(&json!({ "jobs": [job] }), &Zone::utc()).unwrap())
}

fn posts() -> Value {
    json!({"job_id": "posts", "type": "individual_batch", "purpose_id": "write", "preference_based": true,
           "feature_type": "instagram_posts",
           "default_preferences": {"frequency": "daily", "template_overrides": {"tone": "plain", "length": "short"}}})
}

fn preference(tenant: &str, preference: Value) -> PreferenceRecord {
    PreferenceRecord {
        updated_at: None,
        schedule_since: None,
        ..record(tenant, preference)
    }
}

fn on(tone: &str) -> Value {
    json!({"enabled": true, "template_overrides": {"tone": tone}})
}

struct Bench {
    store: Arc<FakeStore>,
    config_database: Arc<FakeConfigDatabase>,
    stop: CancellationToken,
    processor: EnhancedBatchProcessor,
    /// The next process, which goes on when this one has stopped.
    next: EnhancedBatchProcessor,
    chunk: Chunk,
}

/// A queued batch of `tenants` and a processor for it.
async fn bench(
    job: Value,
    tenants: &[&str],
    handler: impl PurposeHandler + 'static,
    retries: u32,
) -> Bench {
    let config = config(job);
    let store = Arc::new(FakeStore::default());
    let config_database = Arc::new(FakeConfigDatabase::default());
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    let chunk = queued(&config.jobs[0], &store, "daily 09:00 UTC", tenants).await;
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("write").unwrap(),
        Arc::new(handler),
        Duration::from_secs(10),
    );
    let stop = CancellationToken::new();
    let processor = |stop: CancellationToken| {
        EnhancedBatchProcessor::new(
            BatchProcessor::new(handlers.clone(), store.clone(), clock.clone()),
            config_database.clone(),
            Arc::new(FakeItemSource::default()),
            config.clone(),
            Zone::utc(),
            Limits {
                max_concurrent_items: 3,
                retry: RetryPolicy::new(retries, || 1.0),
            },
            stop,
        )
    };
    Bench {
        processor: processor(stop.clone()),
        next: processor(CancellationToken::new()),
        store,
        config_database,
        stop,
        chunk,
    }
}

async fn queued(job: &JobConfig, store: &FakeStore, slot: &str, tenants: &[&str]) -> Chunk {
    queued_on(job, store, slot, "2026-03-01", tenants).await
}

async fn queued_on(
    job: &JobConfig,
    store: &FakeStore,
    slot: &str,
    date: &str,
    tenants: &[&str],
) -> Chunk {
    let items: Vec<_> = tenants
        .iter()
        .map(|tenant| ItemId::new(tenant).unwrap())
        .collect();
    let at = format!("{date}T09:00:00Z").parse().unwrap();
    let occurrence = date.parse().unwrap();
    let batch = NewBatch::new(
        &job.job_id,
        Priority::High,
        slot.to_owned(),
        at,
        occurrence,
        Trigger::Schedule,
        at,
        &items,
        500,
    );
    let chunk = batch.chunks[0].clone();
    store
        .enqueue(
            Firing {
                batches: vec![batch],
                positions: vec![],
            },
            at,
        )
        .await
        .unwrap();
    chunk
}

/// Ids of so many tenants: `t0`, `t1` and so on.
fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("t{n}")).collect()
}

impl Bench {
    /// Gives tenants a preference that is on.
    fn switch_on(&self, tenants: &[&str]) {
        for tenant in tenants {
            self.config_database.put(preference(tenant, on("dry")));
        }
    }

    /// Runs the chunk, which stops when ten of the ten items that count have failed.
    async fn fails_massively(&self) {
        let error = self.processor.process(&self.chunk).await.unwrap_err();
        assert!(
            matches!(&error, ProcessError::Failing(reason) if reason.contains("10 of 10 items")),
            "{error}"
        );
    }

    async fn results(&self) -> HashMap<String, StoredResult> {
        let filter = ResultFilter {
            batch_id: self.chunk.batch_id,
            status: None,
        };
        let (results, _) = self
            .store
            .results(
                &filter,
                &Page {
                    cursor: None,
                    limit: 1000,
                },
            )
            .await
            .unwrap();
        results
            .into_iter()
            .map(|stored| (stored.result.item_id.to_string(), stored))
            .collect()
    }
}

/// Counts calls and how many run at once, and fails as often as a test asks for.
#[derive(Default)]
struct Probe {
    running: AtomicUsize,
    most_running: Arc<AtomicUsize>,
    attempts: Arc<Mutex<Vec<String>>>,
    failures: usize,
}

#[async_trait]
impl PurposeHandler for Probe {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let mut attempts = self.attempts.lock().unwrap();
        attempts.push(item.idempotency_key());
        if attempts
            .iter()
            .filter(|key| **key == item.idempotency_key())
            .count()
            <= self.failures
        {
            return Err(HandlerError::retryable("busy"));
        }
        Ok(json!(item.overrides()).into())
    }
}

#[tokio::test(start_paused = true)]
async fn every_tenant_runs_with_their_own_overrides_over_the_jobs() {
    let bench = bench(posts(), &["a", "b"], Probe::default(), 0).await;
    bench.config_database.put(preference("a", on("dry")));
    bench
        .config_database
        .put(preference("b", json!({"enabled": true})));
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(
        report,
        ChunkReport {
            succeeded: 2,
            failed: 0,
            failed_data: 0,
            nothing_to_do: 0,
            skipped: 0,
            waiting: 0
        }
    );
    let results = bench.results().await;
    assert_eq!(
        results["a"].result.output,
        Some(json!({"tone": "dry", "length": "short"}))
    );
    assert_eq!(
        results["b"].result.output,
        Some(json!({"tone": "plain", "length": "short"}))
    );
}

#[tokio::test(start_paused = true)]
async fn tenants_who_switched_off_meanwhile_are_skipped_with_the_reason() {
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .times(1)
        .returning(|_| Ok(json!("ran").into()));
    let bench = bench(posts(), &["on", "off", "gone", "broken"], handler, 0).await;
    bench.config_database.put(preference("on", on("dry")));
    bench
        .config_database
        .put(preference("off", json!({"enabled": false})));
    bench.config_database.put(preference(
        "broken",
        json!({"enabled": true, "preferred_time": "noon"}),
    ));
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(
        report,
        ChunkReport {
            succeeded: 1,
            failed: 0,
            failed_data: 0,
            nothing_to_do: 0,
            skipped: 3,
            waiting: 0
        }
    );
    let results = bench.results().await;
    let reason = |tenant: &str| results[tenant].result.error.clone().unwrap();
    assert_eq!(
        (reason("off"), reason("gone")),
        ("disabled".into(), "deleted".into())
    );
    assert!(reason("broken").starts_with("invalid_preference: /preferred_time: \"noon\""));
}

#[tokio::test(start_paused = true)]
async fn while_preferences_are_unknown_nothing_runs_and_nothing_is_invented() {
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .times(1)
        .returning(|_| Ok(json!("ran").into()));
    let bench = bench(posts(), &["a"], handler, 0).await;
    bench.config_database.put(preference("a", on("dry")));
    bench.config_database.set_down(true);
    let error = bench.processor.process(&bench.chunk).await.unwrap_err();
    assert!(matches!(error, ProcessError::Preferences(_)), "{error}");
    bench.config_database.set_down(false);
    assert_eq!(
        bench
            .processor
            .process(&bench.chunk)
            .await
            .unwrap()
            .succeeded,
        1
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_items_run_at_once_than_the_process_allows_over_all_chunks() {
    let ids = ids(20);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let probe = Probe::default();
    let most_running = Arc::clone(&probe.most_running);
    let bench = bench(posts(), &tenants[..10], probe, 0).await;
    bench.switch_on(&tenants);
    let job = &config(posts()).jobs[0];
    let second = queued(job, &bench.store, "daily 10:00 UTC", &tenants[10..]).await;
    let both = futures::join!(
        bench.processor.process(&bench.chunk),
        bench.processor.process(&second)
    );
    assert_eq!(both.0.unwrap().succeeded + both.1.unwrap().succeeded, 20);
    assert_eq!(most_running.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failing_item_is_retried_with_the_same_key_and_only_as_often_as_allowed() {
    for (failures, retries, succeeded, calls) in [(2, 2, 1, 3), (5, 2, 0, 3), (1, 0, 0, 1)] {
        let probe = Probe {
            failures,
            ..Probe::default()
        };
        let attempts = Arc::clone(&probe.attempts);
        let bench = bench(posts(), &["a"], probe, retries).await;
        bench.config_database.put(preference("a", on("dry")));
        let report = bench.processor.process(&bench.chunk).await.unwrap();
        assert_eq!(
            (report.succeeded, report.failed),
            (succeeded, 1 - succeeded)
        );
        assert_eq!(*attempts.lock().unwrap(), vec!["posts/a/2026-03-01"; calls]);
        assert_eq!(bench.results().await["a"].result.attempts as usize, calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_may_set_its_own_retry_limit() {
    let mut job = posts();
    job["retry_limit"] = json!(0);
    let bench = bench(
        job,
        &["a"],
        Probe {
            failures: 9,
            ..Probe::default()
        },
        5,
    )
    .await;
    bench.config_database.put(preference("a", on("dry")));
    bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(bench.results().await["a"].result.attempts, 1);
}

/// Does what its tenant is called.
struct Odd;

#[async_trait]
impl PurposeHandler for Odd {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        match item.item_id.as_str() {
            "panics" => panic!("a bug in the handler"),
            "silent" => std::future::pending().await,
            _ => Ok(json!("fine").into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn panics_and_silence_are_failures_of_their_item_alone() {
    let tenants = ["panics", "silent", "fine"];
    let bench = bench(posts(), &tenants, Odd, 0).await;
    bench.switch_on(&tenants);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.failed), (1, 2));
    let results = bench.results().await;
    let error = |tenant: &str| results[tenant].result.error.clone().unwrap();
    assert_eq!(error("panics"), "the handler panicked; see the log");
    assert_eq!(error("silent"), "no answer within 10000 ms");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_what_runs_begins_nothing_more_and_the_rest_runs_next_time() {
    let ids = ids(10);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let probe = Probe::default();
    let attempts = Arc::clone(&probe.attempts);
    let bench = bench(posts(), &tenants, probe, 0).await;
    bench.switch_on(&tenants);
    let run = bench.processor.process(&bench.chunk);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        bench.stop.cancel();
    };
    let (outcome, ()) = futures::join!(run, stop);
    assert!(matches!(outcome, Err(ProcessError::Interrupted)));
    assert_eq!(
        attempts.lock().unwrap().len(),
        6,
        "two rounds of three had begun"
    );

    let report = bench.next.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 4);
    let mut keys = attempts.lock().unwrap().clone();
    keys.sort();
    keys.dedup();
    assert_eq!(
        (keys.len(), attempts.lock().unwrap().len()),
        (10, 10),
        "no tenant twice, none lost"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_chunk_was_given_away_stops_without_committing() {
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
    store.expect_release().times(1).returning(|_, _, _| Ok(()));
    store.expect_record_running().returning(|_, _, _, _| Ok(()));
    store
        .expect_commit()
        .times(1)
        .returning(|_, _, _| Ok(Committed::default()));
    store.expect_finish().never();
    let mut bench = bench(posts(), &["a"], Probe::default(), 0).await;
    bench.config_database.put(preference("a", on("dry")));
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("write").unwrap(),
        Arc::new(Probe::default()),
        Duration::from_secs(10),
    );
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    bench.processor.base = BatchProcessor::new(handlers, Arc::new(store), clock);
    let outcome = bench.processor.process(&bench.chunk).await;
    assert!(matches!(outcome, Err(ProcessError::Superseded)));
}

/// Claims a chunk for a process that will never be heard of again.
async fn dies_with(store: &FakeStore, chunk: &Chunk, alone: Option<&str>) {
    let claimant = Claimant {
        process: uuid::Uuid::new_v4(),
        token: uuid::Uuid::new_v4(),
    };
    let now = "2026-03-01T09:00:00Z".parse().unwrap();
    store.claim(chunk, claimant, now).await.unwrap();
    if let Some(tenant) = alone {
        let tenant = ItemId::new(tenant).unwrap();
        store
            .mark_poison_candidate(chunk, claimant.token, &tenant)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_the_process_does_not_outlive_is_found_and_the_others_end() {
    let probe = Probe::default();
    let (attempts, most_running) = (Arc::clone(&probe.attempts), Arc::clone(&probe.most_running));
    let bench = bench(posts(), &["a", "killer", "z"], probe, 0).await;
    bench.switch_on(&["a", "killer", "z"]);
    // Twice with everything running beside it, and twice alone.
    for alone in [None, None, Some("killer"), Some("killer")] {
        dies_with(&bench.store, &bench.chunk, alone).await;
    }
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.failed), (2, 1));
    let results = bench.results().await;
    let error = results["killer"].result.error.clone().unwrap();
    assert!(error.contains("the process crashed each time"), "{error}");
    assert_eq!(attempts.lock().unwrap().len(), 2, "it was not run again");
    assert_eq!(most_running.load(Ordering::SeqCst), 1, "one at a time");
}

#[tokio::test(start_paused = true)]
async fn one_crash_alone_proves_nothing() {
    let bench = bench(posts(), &["a"], Probe::default(), 0).await;
    bench.config_database.put(preference("a", on("dry")));
    for alone in [None, None, Some("a")] {
        dies_with(&bench.store, &bench.chunk, alone).await;
    }
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_begins_nothing_more_and_every_item_has_its_outcome() {
    let ids = ids(9);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let bench = bench(posts(), &tenants, Probe::default(), 0).await;
    bench.switch_on(&tenants);
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(bench.store.cancel(bench.chunk.batch_id).await.unwrap());
    };
    let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), cancel);
    let report = report.unwrap();
    assert_eq!((report.succeeded + report.skipped, report.failed), (9, 0));
    assert!(report.succeeded <= 6, "those that had begun: {report:?}");
    let batch = bench.store.batch(bench.chunk.batch_id).await.unwrap();
    assert_eq!(batch.unwrap().status, BatchStatus::Cancelled);
    let skipped = bench.results().await;
    let mut skipped = skipped
        .values()
        .filter(|stored| stored.result.status == ItemStatus::Skipped);
    assert!(skipped.all(|stored| stored.result.error.as_deref() == Some("cancelled")));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_massively_is_stopped_and_goes_on_when_somebody_says_so() {
    let ids = ids(40);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut job = posts();
    job["failure_limit"] = json!({"percent": 50, "at_least": 10});
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut handler = MockPurposeHandler::new();
    handler.expect_run().returning(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Err(HandlerError::permanent("no"))
    });
    let bench = bench(job, &tenants, handler, 0).await;
    bench.switch_on(&tenants);
    bench.fails_massively().await;
    let so_far = calls.load(Ordering::SeqCst);
    assert!((10..=13).contains(&so_far), "{so_far} calls");
    assert_eq!(
        bench.results().await.len(),
        so_far,
        "what has failed is kept"
    );
    bench.processor.reset_failures(&bench.chunk.job_id);
    assert!(bench.processor.process(&bench.chunk).await.is_err());
    assert!(calls.load(Ordering::SeqCst) > so_far);
}

#[tokio::test(start_paused = true)]
async fn those_with_nothing_to_do_do_not_hide_that_the_others_fail() {
    let ids = ids(100);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut job = posts();
    job["failure_limit"] = json!({"percent": 50, "at_least": 10});
    let mut handler = MockPurposeHandler::new();
    handler.expect_run().returning(|item| {
        if item.item_id.as_str().ends_with('5') {
            return Err(HandlerError::permanent("no"));
        }
        Ok(Outcome::nothing_to_do("no new posts"))
    });
    let bench = bench(job, &tenants, handler, 0).await;
    bench.switch_on(&tenants);
    bench.fails_massively().await;
}

/// Answers, after a while, with the last run that it is given.
struct Remembers;

#[async_trait]
impl PurposeHandler for Remembers {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(json!(item.previous).into())
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_knows_the_last_run_that_succeeded_however_late_it_begins() {
    let tenants = ["a", "b", "c", "d", "e", "f", "g"];
    let bench = bench(posts(), &tenants, Remembers, 0).await;
    bench.switch_on(&tenants);
    let job = &config(posts()).jobs[0];
    for date in ["2026-02-26", "2026-02-27"] {
        let chunk = queued_on(job, &bench.store, "daily 09:00 UTC", date, &tenants[1..]).await;
        bench.processor.process(&chunk).await.unwrap();
    }
    bench.processor.process(&bench.chunk).await.unwrap();
    let results = bench.results().await;
    let occurrence = |tenant: &str| {
        let output = results[tenant].result.output.clone().unwrap();
        output["occurrence"].clone()
    };
    assert_eq!(occurrence("a"), Value::Null);
    for tenant in &tenants[1..] {
        assert_eq!(occurrence(tenant), "2026-02-27", "{tenant}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_is_an_outcome_and_not_a_failure() {
    let ids = ids(40);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut job = posts();
    job["failure_limit"] = json!({"percent": 50, "at_least": 10});
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .times(40)
        .returning(|item| match item.item_id.as_str() {
            "t0" => Ok(json!("ran").into()),
            _ => Ok(Outcome::nothing_to_do("no new posts")),
        });
    let bench = bench(job, &tenants, handler, 3).await;
    bench.switch_on(&tenants);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    let counts = (report.succeeded, report.failed, report.nothing_to_do);
    assert_eq!(counts, (1, 0, 39), "the job is not paused");
    let results = bench.results().await;
    let one = &results["t7"].result;
    assert_eq!((one.status, one.attempts), (ItemStatus::NothingToDo, 1));
    assert_eq!(one.error.as_deref(), Some("no new posts"));
    assert_eq!((&one.output, one.preference.is_some()), (&None, true));
    let again = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(again, ChunkReport::default(), "the occurrence is used up");
}

#[tokio::test(start_paused = true)]
async fn refusals_slow_the_whole_purpose_down_and_cost_no_retry() {
    let ids = ids(50);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (calls, began) = (Arc::new(AtomicUsize::new(0)), tokio::time::Instant::now());
    let counted = Arc::clone(&calls);
    let mut handler = MockPurposeHandler::new();
    handler.expect_run().returning(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        if began.elapsed() < Duration::from_mins(5) {
            return Err(HandlerError::throttled("busy", None));
        }
        Ok(json!("ran").into())
    });
    let bench = bench(posts(), &tenants, handler, 0).await;
    bench.switch_on(&tenants);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 50);
    let more = calls.load(Ordering::SeqCst) - 50;
    assert!(
        more <= 15,
        "{more} calls too many in five minutes of refusals"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_mirror_knows_is_not_asked_for() {
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .returning(|item| Ok(json!(item.overrides()).into()));
    let mut bench = bench(posts(), &["asked", "known"], handler, 0).await;
    bench.config_database.put(preference("asked", on("dry")));
    let mut mirror = crate::ports::MockPreferenceMirror::new();
    mirror.expect_preferences().returning(|_, tenants| {
        let stored = punctual_domain::Preference::parse(on("mirrored").as_object().unwrap());
        let defaults = json!({"frequency": "daily"});
        let defaults = punctual_domain::Preference::parse(defaults.as_object().unwrap());
        let (stored, defaults) = (stored.unwrap(), defaults.unwrap());
        let merged =
            punctual_domain::MergedPreference::merge(&stored, &defaults, &Zone::utc()).unwrap();
        let merged = punctual_domain::SharedPreference::from(merged);
        let known = |tenant: &TenantId| (tenant.as_str() == "known").then(|| merged.clone());
        tenants.iter().map(known).collect()
    });
    bench.processor = bench.processor.with_mirror(Arc::new(mirror));
    bench.processor.process(&bench.chunk).await.unwrap();
    let results = bench.results().await;
    let tone = |tenant: &str| results[tenant].result.output.clone().unwrap()["tone"].clone();
    assert_eq!(
        (tone("known"), tone("asked")),
        (json!("mirrored"), json!("dry"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_result_of_an_aggregate_goes_to_every_recipient_and_strangers_are_reported() {
    let job = json!({"job_id": "digest", "type": "object_batch", "purpose_id": "write",
        "schedule": {"frequency": "daily"}, "source": {"file": "x.json"},
        "distribute_to": ["all", "ann", "bob", "eve"], "users": {"file": "users.json"}});
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut handler = MockPurposeHandler::new();
    handler.expect_run().returning(move |item| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(item.data().cloned().unwrap().into())
    });
    let mut bench = bench(job, &["*", "ann", "all", "bob", "eve"], handler, 0).await;
    let source = FakeItemSource::default();
    source.put("x.json", ["x", "y"]);
    source.put("users.json", ["all", "ann", "bob"]);
    bench.processor.item_source = Arc::new(source);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.skipped), (4, 1));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "one run for all");
    let results = bench.results().await;
    for tenant in ["*", "all", "ann", "bob"] {
        let output = results[tenant].result.output.clone();
        assert_eq!(
            output,
            Some(json!({"items": [{"id": "x"}, {"id": "y"}]})),
            "{tenant}"
        );
    }
    assert_eq!(results["eve"].result.error.as_deref(), Some("unknown_user"));
}

#[tokio::test(start_paused = true)]
async fn a_queued_item_takes_the_time_in_effect_when_it_begins() {
    // Queued for Sunday 2026-03-01 at 09:00, which is now.
    let moved = [
        ("stays", json!({"enabled": true})),
        (
            "earlier",
            json!({"enabled": true, "preferred_time": "08:00"}),
        ),
        ("later", json!({"enabled": true, "preferred_time": "17:00"})),
        (
            "west",
            json!({"enabled": true, "timezone": "America/New_York"}),
        ),
        ("east", json!({"enabled": true, "timezone": "Asia/Tokyo"})),
        (
            "friday",
            json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday"}),
        ),
        (
            "sunday",
            json!({"enabled": true, "frequency": "weekly", "preferred_day": "sunday"}),
        ),
        ("hourly", json!({"enabled": true, "frequency": "hourly"})),
    ];
    let tenants = moved.clone().map(|(tenant, _)| tenant);
    let bench = bench(posts(), &tenants, Probe::default(), 0).await;
    for (tenant, chosen) in moved {
        bench.config_database.put(preference(tenant, chosen));
    }
    bench.processor.process(&bench.chunk).await.unwrap();
    let results = bench.results().await;
    let expected = [true, true, false, false, true, false, true, false];
    for (tenant, runs) in tenants.into_iter().zip(expected) {
        let reason = results[tenant].result.error.as_deref();
        assert_eq!(reason, (!runs).then_some("rescheduled"), "{tenant}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preference_that_changes_while_an_item_waits_for_its_turn_is_seen() {
    let ids = ids(9);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let bench = bench(posts(), &tenants, Probe::default(), 0).await;
    bench.switch_on(&tenants);
    let change = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut later = on("dry");
        later["preferred_time"] = json!("17:00");
        bench.config_database.put(preference("t6", later));
        bench
            .config_database
            .put(preference("t7", json!({"enabled": false})));
        bench.config_database.put(preference("t8", on("warm")));
    };
    let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), change);
    assert_eq!(
        (report.unwrap().succeeded, bench.results().await.len()),
        (7, 9)
    );
    let results = bench.results().await;
    let of = |tenant: &str| {
        let result = &results[tenant].result;
        result
            .error
            .clone()
            .unwrap_or_else(|| result.output.clone().unwrap()["tone"].to_string())
    };
    assert_eq!(
        [of("t5"), of("t6"), of("t7"), of("t8")],
        ["\"dry\"", "rescheduled", "disabled", "\"warm\""]
    );
}

#[tokio::test(start_paused = true)]
async fn what_has_not_begun_in_time_is_skipped_and_what_has_goes_on() {
    let probe = Probe {
        failures: 1,
        ..Probe::default()
    };
    let mut bench = bench(posts(), &["a", "b", "c", "d", "e"], probe, 2).await;
    bench.switch_on(&["a", "b", "c", "d", "e"]);
    // The first three begin; they fail once, and end after the bound.
    let bound = bench.chunk.scheduled_at + TimeDelta::milliseconds(500);
    bench.chunk.expires_at = Some(bound);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.skipped), (3, 2));
    let results = bench.results().await;
    assert_eq!(results["e"].result.error.as_deref(), Some("expired"));
}

/// A chunk of another occurrence of the same tenants.
async fn next_day(bench: &Bench, job: &JobConfig, tenants: &[&str], trigger: Trigger) -> Chunk {
    let items: Vec<_> = tenants.iter().map(|id| ItemId::new(id).unwrap()).collect();
    let at = "2026-02-28T09:00:00Z".parse().unwrap();
    let batch = NewBatch::new(
        &job.job_id,
        Priority::High,
        "daily 09:00 UTC".to_owned(),
        at,
        "2026-02-28".parse().unwrap(),
        trigger,
        at,
        &items,
        500,
    );
    let chunk = batch.chunks[0].clone();
    let firing = Firing {
        batches: vec![batch],
        positions: vec![],
    };
    bench.store.enqueue(firing, at).await.unwrap();
    chunk
}

#[tokio::test(start_paused = true)]
async fn two_occurrences_of_a_tenant_do_not_run_at_once_unless_the_job_says_so() {
    for (overlap, trigger, second) in [
        // The next claim asks the store whether the first one counts.
        ("skip", Trigger::Schedule, "waits"),
        ("skip", Trigger::Backfill, "waits"),
        ("wait", Trigger::Schedule, "waits"),
        ("allow", Trigger::Schedule, "runs"),
    ] {
        let mut job = posts();
        job["overlap"] = json!(overlap);
        let probe = Probe::default();
        let most_running = Arc::clone(&probe.most_running);
        let bench = bench(job.clone(), &["a"], probe, 0).await;
        bench.switch_on(&["a", "b"]);
        let chunk = next_day(&bench, &config(job).jobs[0], &["a", "b"], trigger).await;
        let later = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bench.processor.process(&chunk).await
        };
        let (first, later) = tokio::join!(bench.processor.process(&bench.chunk), later);
        assert_eq!(first.unwrap().succeeded, 1);
        // Another tenant's item runs meanwhile.
        match (second, later) {
            ("runs", Ok(report)) => assert_eq!(report.succeeded, 2),
            ("waits", Err(ProcessError::Waiting(_))) => {
                let rest = bench.processor.process(&chunk).await.unwrap();
                assert_eq!(rest.succeeded, 1, "{overlap}: once the first has ended");
            }
            (_, later) => panic!("{overlap} {trigger:?}: {later:?}"),
        }
        let most = if overlap == "allow" { 3 } else { 2 };
        assert_eq!(most_running.load(Ordering::SeqCst), most, "{overlap}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_occurrence_that_runs_in_another_process_is_noticed() {
    for overlap in ["skip", "wait"] {
        let mut job = posts();
        job["overlap"] = json!(overlap);
        let bench = bench(job.clone(), &["a"], Probe::default(), 0).await;
        bench.config_database.put(preference("a", on("dry")));
        let other = next_day(&bench, &config(job).jobs[0], &["a"], Trigger::Schedule).await;
        let claimant = Claimant {
            process: uuid::Uuid::new_v4(),
            token: uuid::Uuid::new_v4(),
        };
        let now = bench.processor.now();
        bench.store.claim(&other, claimant, now).await.unwrap();
        let running = bench
            .store
            .record_running(&other, claimant.token, &other.items[0], now);
        running.await.unwrap();
        let outcome = bench.processor.process(&bench.chunk).await;
        if overlap == "skip" {
            assert_eq!(outcome.unwrap().skipped, 1);
            continue;
        }
        assert!(
            matches!(outcome, Err(ProcessError::Waiting(_))),
            "{outcome:?}"
        );
        bench
            .store
            .release(&other, claimant.token, None)
            .await
            .unwrap();
        let report = bench.processor.process(&bench.chunk).await.unwrap();
        assert_eq!(report.succeeded, 1);
    }
}

/// A process that was stopped and goes on still has items running that were given to another process long ago.
#[tokio::test(start_paused = true)]
async fn what_was_given_to_another_process_keeps_no_later_occurrence_from_running() {
    let bench = bench(posts(), &["a"], Probe::default(), 0).await;
    bench.config_database.put(preference("a", on("dry")));
    let later = next_day(&bench, &config(posts()).jobs[0], &["a"], Trigger::Schedule).await;
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let claimant = Claimant {
            process: uuid::Uuid::new_v4(),
            token: uuid::Uuid::new_v4(),
        };
        let now = bench.processor.now();
        bench
            .store
            .claim(&bench.chunk, claimant, now)
            .await
            .unwrap();
        bench.processor.process(&later).await
    };
    let (lost, outcome) = tokio::join!(bench.processor.process(&bench.chunk), meanwhile);
    assert!(matches!(lost, Err(ProcessError::Superseded)), "{lost:?}");
    assert!(
        matches!(outcome, Err(ProcessError::Waiting(_))),
        "{outcome:?}"
    );
    let report = bench.processor.process(&later).await.unwrap();
    assert_eq!((report.succeeded, report.skipped), (1, 0));
}
