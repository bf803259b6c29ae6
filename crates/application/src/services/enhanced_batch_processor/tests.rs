//! The processor against fakes and mocks: exact, and without waiting, on tokio's paused time.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use punctual_domain::BatchConfig;
use punctual_domain::{
    Firing, JobConfig, NewBatch, PreferenceRecord, Priority, PurposeId, TenantId, Trigger,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    Handlers,
    ports::{
        BatchStore, HandlerError, MockBatchStore, MockItemSource, MockPurposeHandler, Page,
        PurposeHandler, ResultFilter, StoredResult, WorkQueue,
    },
    testing::{FakeConfigDatabase, FakeStore, ManualClock},
};

fn config(job: Value) -> Arc<BatchConfig> {
    Arc::new(BatchConfig::parse(&json!({ "jobs": [job] }), &Zone::utc()).unwrap())
}

fn posts() -> Value {
    json!({"job_id": "posts", "type": "individual_batch", "purpose_id": "write", "preference_based": true,
           "feature_type": "instagram_posts",
           "default_preferences": {"frequency": "daily", "template_overrides": {"tone": "plain", "length": "short"}}})
}

fn preference(tenant: &str, preference: Value) -> PreferenceRecord {
    PreferenceRecord {
        tenant_id: TenantId::new(tenant).unwrap(),
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: None,
    }
}

fn on(tone: &str) -> Value {
    json!({"enabled": true, "template_overrides": {"tone": tone}})
}

struct Bench {
    store: Arc<FakeStore>,
    config_database: Arc<FakeConfigDatabase>,
    stop: watch::Sender<bool>,
    processor: EnhancedBatchProcessor,
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
    let chunk = queued(&config.jobs[0], &store, tenants).await;
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("write").unwrap(),
        Arc::new(handler),
        Duration::from_secs(10),
    );
    let (stop, stopping) = watch::channel(false);
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.clone(), clock),
        config_database.clone(),
        Arc::new(MockItemSource::new()),
        config,
        Zone::utc(),
        Limits {
            max_concurrent_items: 3,
            retry: RetryPolicy::new(retries, || 1.0),
        },
        stopping,
    );
    Bench {
        store,
        config_database,
        stop,
        processor,
        chunk,
    }
}

async fn queued(job: &JobConfig, store: &FakeStore, tenants: &[&str]) -> Chunk {
    let items: Vec<_> = tenants
        .iter()
        .map(|tenant| TenantId::new(tenant).unwrap())
        .collect();
    let at = "2026-03-01T09:00:00Z".parse().unwrap();
    let occurrence = "2026-03-01".parse().unwrap();
    let slot = "daily 09:00 UTC".to_owned();
    let batch = NewBatch::new(
        &job.job_id,
        Priority::High,
        slot,
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
                progress: vec![],
            },
            at,
        )
        .await
        .unwrap();
    chunk
}

impl Bench {
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
            .map(|stored| (stored.result.tenant_id.to_string(), stored))
            .collect()
    }
}

/// Counts calls and how many run at once, and fails as often as it is told to.
#[derive(Default)]
struct Probe {
    running: AtomicUsize,
    most_running: Arc<AtomicUsize>,
    attempts: Arc<Mutex<Vec<String>>>,
    failures: usize,
}

#[async_trait]
impl PurposeHandler for Probe {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
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
        Ok(item.preference.as_ref().unwrap()["template_overrides"].clone())
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
            skipped: 0
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
        .returning(|_| Ok(json!("ran")));
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
            skipped: 3
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
        .returning(|_| Ok(json!("ran")));
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
    let ids: Vec<String> = (0..20).map(|n| format!("u{n}")).collect();
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let probe = Probe::default();
    let most_running = Arc::clone(&probe.most_running);
    let bench = bench(posts(), &tenants[..10], probe, 0).await;
    for id in &ids {
        bench.config_database.put(preference(id, on("dry")));
    }
    let second = Chunk {
        chunk_id: "second".into(),
        items: tenants[10..]
            .iter()
            .map(|id| TenantId::new(id).unwrap())
            .collect(),
        ..bench.chunk.clone()
    };
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
        assert_eq!(*attempts.lock().unwrap(), vec!["posts:a:2026-03-01"; calls]);
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
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        match item.tenant_id.as_str() {
            "panics" => panic!("a bug in the handler"),
            "silent" => std::future::pending().await,
            _ => Ok(json!("fine")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn panics_and_silence_are_failures_of_their_item_alone() {
    let tenants = ["panics", "silent", "fine"];
    let bench = bench(posts(), &tenants, Odd, 0).await;
    for tenant in tenants {
        bench.config_database.put(preference(tenant, on("dry")));
    }
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.failed), (1, 2));
    let results = bench.results().await;
    let error = |tenant: &str| results[tenant].result.error.clone().unwrap();
    assert_eq!(error("panics"), "the handler panicked; see the log");
    assert_eq!(error("silent"), "no answer within 10000 ms");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_what_runs_begins_nothing_more_and_the_rest_runs_next_time() {
    let ids: Vec<String> = (0..10).map(|n| format!("u{n}")).collect();
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    let probe = Probe::default();
    let attempts = Arc::clone(&probe.attempts);
    let bench = bench(posts(), &tenants, probe, 0).await;
    for id in &ids {
        bench.config_database.put(preference(id, on("dry")));
    }
    let run = bench.processor.process(&bench.chunk);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        bench.stop.send(true).unwrap();
    };
    let (outcome, ()) = futures::join!(run, stop);
    assert!(matches!(outcome, Err(ProcessError::Interrupted)));
    assert_eq!(
        attempts.lock().unwrap().len(),
        6,
        "two rounds of three had begun"
    );

    bench.stop.send(false).unwrap();
    assert_eq!(
        bench
            .processor
            .process(&bench.chunk)
            .await
            .unwrap()
            .succeeded,
        4
    );
    let mut keys = attempts.lock().unwrap().clone();
    keys.sort();
    keys.dedup();
    assert_eq!(
        (keys.len(), attempts.lock().unwrap().len()),
        (10, 10),
        "nobody twice, nobody lost"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_chunk_was_given_away_stops_without_committing() {
    let mut store = MockBatchStore::new();
    store
        .expect_claim()
        .returning(|chunk, _, _| Ok(chunk.items.clone()));
    store.expect_commit().times(1).returning(|_, _, _| Ok(0));
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
