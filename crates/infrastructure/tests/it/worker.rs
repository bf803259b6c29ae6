//! The worker on a real `SQLite` queue.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use punctual_application::{
    ActiveFailures, BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, Operation,
    RetryPolicy,
    ports::{
        BatchFilter, Clock, HandlerError, ItemSource, ItemSourceError, Page, PurposeHandler,
        SourceItem, SystemClock, WorkQueue,
    },
    testing::{FakeConfigDatabase, FakeItemSource},
};
use punctual_domain::{
    BatchConfig, BatchStatus, Firing, Item, ItemId, JobConfig, NewBatch, Outcome, PurposeId,
    Source, Trigger, Zone,
};
use punctual_infrastructure::Worker;
use punctual_store::Store;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Executor, sqlite::SqliteConnectOptions};
use tokio_util::sync::CancellationToken;

use crate::server::tenant;

/// Notes the jobs in the order in which their items run, and takes its time.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<String>>>, Duration);

#[async_trait]
impl PurposeHandler for Order {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        self.0.lock().unwrap().push(item.job_id.to_string());
        tokio::time::sleep(self.1).await;
        Ok(Value::Null.into())
    }
}

/// As many items as it says, `x0` and so on.
fn items(count: usize) -> FakeItemSource {
    let items = FakeItemSource::default();
    items.put("x.json", (0..count).map(|n| format!("x{n}")));
    items
}

/// An item that is there from the second read on.
#[derive(Default)]
struct ThereLater(FakeItemSource);

#[async_trait]
impl ItemSource for ThereLater {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let loaded = self.0.load(sources).await;
        self.0.put("x.json", ["x0"]);
        loaded
    }
}

/// A store in a folder of its own, with a batch of each of these jobs in its queue.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    config: Arc<BatchConfig>,
    order: Order,
}

impl Bench {
    /// `jobs` with their priorities; each has `chunks` chunks of one item.
    async fn new(jobs: &[(String, &str)], chunks: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("punctual.db").display());
        let store = Store::open(&url).await.unwrap();
        let job = |(name, priority): &(String, &str)| {
            json!({"job_id": name, "type": "individual_batch", "purpose_id": "p",
                "priority": priority, "schedule": {"frequency": "daily"}, "source": {"file": "x.json"}})
        };
        let jobs = json!({ "jobs": jobs.iter().map(job).collect::<Vec<_>>() });
        let config = Arc::new(punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap());
        let due = "2026-03-01T09:00:00Z".parse().unwrap();
        let items: Vec<_> = (0..chunks)
            .map(|n| ItemId::from(tenant(&format!("x{n}"))))
            .collect();
        let batch = |job: &JobConfig| {
            NewBatch::new(
                &job.job_id,
                job.priority,
                "daily 09:00 UTC".to_owned(),
                due,
                "2026-03-01".parse().unwrap(),
                Trigger::Schedule,
                due,
                &items,
                1,
            )
        };
        let firing = Firing {
            batches: config.jobs.iter().map(batch).collect(),
            positions: vec![],
        };
        store.enqueue(firing, due).await.unwrap();
        Self {
            folder,
            store,
            config,
            order: Order::default(),
        }
    }

    /// A worker whose items come from `source`; no item begins once `stop` is cancelled.
    fn worker(&self, source: impl ItemSource + 'static, stop: &CancellationToken) -> Worker {
        let mut handlers = Handlers::default();
        let purpose = PurposeId::new("p").unwrap();
        let handler = Arc::new(self.order.clone());
        handlers.bind(purpose, handler, Handlers::DEFAULT_TIMEOUT);
        let processor = EnhancedBatchProcessor::new(
            BatchProcessor::new(
                handlers,
                Arc::new(self.store.clone()),
                Arc::new(SystemClock),
            ),
            Arc::new(FakeConfigDatabase::default()),
            Arc::new(source),
            self.config.clone(),
            Zone::utc(),
            Limits {
                max_concurrent_items: 1,
                retry: RetryPolicy::new(0, || 0.0),
            },
            stop.clone(),
        );
        let store = Arc::new(self.store.clone());
        Worker::new(store.clone(), store, processor)
    }

    fn begun(&self) -> Vec<String> {
        self.order.0.lock().unwrap().clone()
    }

    async fn until_completed(&self, batches: usize) {
        let completed = BatchFilter {
            job_id: None,
            status: Some(BatchStatus::Completed),
        };
        let done = async {
            loop {
                let (found, _) = self
                    .store
                    .reader()
                    .batches(&completed, &Page::default())
                    .await
                    .unwrap();
                if found.len() == batches {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), done)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_more_urgent_runs_first_and_a_chunk_that_cannot_run_yet_runs_later() {
    let jobs = |priority: &'static str| (0..6).map(move |n| (format!("{priority}{n}"), priority));
    let jobs: Vec<_> = jobs("low").chain(jobs("critical")).collect();
    let mut bench = Bench::new(&jobs, 1).await;
    bench.order.1 = Duration::from_millis(100);
    let stop = CancellationToken::new();
    let worker = bench.worker(ThereLater::default(), &stop);
    let working = tokio::spawn(worker.run(stop.clone()));
    bench.until_completed(12).await;
    stop.cancel();
    working.await.unwrap();
    // Twelve ran, also the one whose first delivery found no records and that comes last. Until all wait for the one
    // place there is, one or two may begin out of turn.
    let order = bench.begun();
    assert_eq!(order.len(), 12, "{order:?}");
    let urgent = order[..11]
        .iter()
        .rposition(|job| job.starts_with("critical"));
    assert!(urgent.unwrap() <= 7, "{order:?}");
}

#[tokio::test]
async fn work_that_waits_and_does_not_begin_is_noted_until_it_begins() {
    let bench = Bench::new(&[("job".to_owned(), "medium")], 3).await;
    let file = bench.folder.path().join("punctual.db");
    let other = SqliteConnectOptions::new().filename(file);
    let mut other = other.connect().await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let (stop, failures) = (CancellationToken::new(), ActiveFailures::default());
    let worker = bench
        .worker(items(3), &stop)
        .with_failures(failures.clone());
    let working = tokio::spawn(worker.run(stop.clone()));
    let job_id = bench.config.jobs[0].job_id.clone();
    let waits = Operation::BeginChunks(job_id);
    let noted = || {
        let active = failures.list(SystemClock.now());
        active.iter().any(|failure| failure.operation == waits)
    };
    let until = async |expected: bool| {
        let reached = async {
            while noted() != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), reached)
            .await
            .unwrap();
    };
    until(true).await;
    other.execute("ROLLBACK").await.unwrap();
    bench.until_completed(1).await;
    until(false).await;
    stop.cancel();
    working.await.unwrap();
}

#[tokio::test]
async fn a_worker_stops_on_request_whatever_it_was_doing() {
    let bench = Bench::new(&[("job".to_owned(), "medium")], 300).await;
    for round in 1..=40 {
        let stop = CancellationToken::new();
        let working = tokio::spawn(bench.worker(items(300), &stop).run(stop.clone()));
        let before = bench.begun().len();
        while bench.begun().len() < before + 1 + round % 8 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), working)
            .await
            .expect("it stops")
            .unwrap();
    }
    // What it had in hand went back to the queue.
    let stop = CancellationToken::new();
    let working = tokio::spawn(bench.worker(items(300), &stop).run(stop.clone()));
    bench.until_completed(1).await;
    stop.cancel();
    working.await.unwrap();
    assert_eq!(bench.begun().len(), 300);
}
