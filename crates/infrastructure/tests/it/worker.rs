//! The worker on a real SQLite queue.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{
        BatchFilter, BatchStore, HandlerError, ItemSource, ItemSourceError, Page, PurposeHandler,
        SourceItem, SystemClock, WorkQueue,
    },
    testing::FakeConfigDatabase,
};
use punctual_domain::{
    BatchConfig, BatchStatus, Firing, Item, NewBatch, PurposeId, Source, Trigger, Zone,
};
use punctual_infrastructure::{SqliteStore, Worker};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

use crate::server::tenant;

/// Notes the jobs in the order in which their items run.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl PurposeHandler for Order {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        self.0.lock().unwrap().push(item.job_id.to_string());
        Ok(Value::Null)
    }
}

/// Records that cannot be read the first time.
#[derive(Default)]
struct ReadableLater(Mutex<u32>);

#[async_trait]
impl ItemSource for ReadableLater {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let mut calls = self.0.lock().unwrap();
        *calls += 1;
        if *calls == 1 {
            return Err(ItemSourceError("not there yet".into()));
        }
        let record = SourceItem {
            id: tenant("x"),
            data: json!({"id": "x"}),
        };
        Ok(sources
            .keys()
            .map(|category| (category.clone(), vec![record.clone()]))
            .collect())
    }
}

#[tokio::test]
async fn what_is_more_urgent_runs_first_and_a_chunk_that_cannot_run_yet_runs_later() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("punctual.db").display());
    let store = SqliteStore::open(&url).await.unwrap();
    let job = |priority: &str, n: usize| {
        json!({"job_id": format!("{priority}{n}"), "type": "individual_batch", "purpose_id": "p",
               "priority": priority, "schedule": {"frequency": "daily"}, "source": {"file": "x.json"}})
    };
    let low = (0..6).map(|n| job("low", n));
    let jobs: Vec<Value> = low.chain((0..6).map(|n| job("critical", n))).collect();
    let jobs = json!({ "jobs": jobs });
    let config = Arc::new(BatchConfig::parse(&jobs, &Zone::utc()).unwrap());
    let due = "2026-03-01T09:00:00Z".parse().unwrap();
    let occurrence = "2026-03-01".parse().unwrap();
    for job in &config.jobs {
        let slot = "daily 09:00 UTC".to_owned();
        let (trigger, items) = (Trigger::Schedule, [tenant("x")]);
        let batch = NewBatch::new(
            &job.job_id,
            job.priority,
            slot,
            due,
            occurrence,
            trigger,
            due,
            &items,
            10,
        );
        store
            .enqueue(
                Firing {
                    batches: vec![batch],
                    progress: vec![],
                },
                due,
            )
            .await
            .unwrap();
    }

    let order = Order::default();
    let mut handlers = Handlers::default();
    let purpose = PurposeId::new("p").unwrap();
    handlers.bind(purpose, Arc::new(order.clone()), Handlers::DEFAULT_TIMEOUT);
    let (_stopping, stopped) = tokio::sync::watch::channel(false);
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, Arc::new(store.clone()), Arc::new(SystemClock)),
        Arc::new(FakeConfigDatabase::default()),
        Arc::new(ReadableLater::default()),
        config,
        Zone::utc(),
        Limits {
            max_concurrent_items: 1,
            retry: RetryPolicy::new(0, || 0.0),
        },
        stopped,
    );
    let stop = CancellationToken::new();
    let working = tokio::spawn(Worker::new(store.clone(), processor).run(stop.clone()));
    let done = async {
        let completed = BatchFilter {
            job_id: None,
            status: Some(BatchStatus::Completed),
        };
        while store
            .batches(&completed, &Page::default())
            .await
            .unwrap()
            .0
            .len()
            < 12
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done)
        .await
        .unwrap();
    stop.cancel();
    working.await.unwrap();
    // Twelve ran, also the one whose first delivery found no records. A few chunks are in work at once, so
    // only the beginning is in a strict order: nothing low begins while anything critical waits.
    let order = order.0.lock().unwrap().clone();
    assert_eq!(order.len(), 12, "{order:?}");
    assert!(
        order[..2].iter().all(|job| job.starts_with("critical")),
        "{order:?}"
    );
}
