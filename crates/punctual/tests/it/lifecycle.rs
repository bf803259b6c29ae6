//! Start, stop, and start again, on a real store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use punctual::{
    Builder, HandlerError, Item, Job, JobId, Outcome, Punctual, PurposeHandler, Store,
    TriggerRequest,
    sqlx::{SqlitePool, sqlite::SqliteConnectOptions},
};
use serde_json::Value;
use tokio::time::Instant;

/// Takes half a second for an item, and counts those that began and those that ended.
#[derive(Default)]
struct Slow {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

#[async_trait]
impl PurposeHandler for Slow {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Ok(Value::Null.into())
    }
}

fn sixty_slow_items(folder: &tempfile::TempDir, slow: &Arc<Slow>) -> Builder {
    let items: Vec<String> = (0..60).map(|number| format!("item-{number}")).collect();
    Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("slow", slow.clone())
        .job(Job::daily("job", "06:00").items(items).runs("slow"))
        .max_concurrent_items(2)
}

async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait)
        .await
        .expect("it happens within a minute");
}

#[tokio::test]
async fn it_stops_at_once_with_sixty_slow_items_waiting_and_the_next_process_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let slow: Arc<Slow> = Arc::default();
    let punctual = sixty_slow_items(&folder, &slow).start().await.unwrap();
    let job = JobId::new("job").unwrap();
    let run = TriggerRequest::default();
    let triggered = punctual
        .operator()
        .trigger(&"test".into(), None, &job, &run)
        .await;
    assert_eq!(triggered.unwrap().total, 60);
    until(|| slow.begun.load(Ordering::Relaxed) >= 2).await;

    let asked = Instant::now();
    assert!(
        punctual.shut_down(Duration::from_secs(20)).await,
        "all that had begun ended"
    );
    // All sixty take fifteen seconds.
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    let (begun, ended) = (
        slow.begun.load(Ordering::Relaxed),
        slow.ended.load(Ordering::Relaxed),
    );
    assert_eq!(begun, ended, "nothing was cut off");
    assert!(begun < 30, "{begun} of 60 had begun");

    let punctual = sixty_slow_items(&folder, &slow)
        .max_concurrent_items(60)
        .start()
        .await
        .unwrap();
    until(|| slow.ended.load(Ordering::Relaxed) == 60).await;
    assert!(punctual.shut_down(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn what_is_queued_in_a_transaction_of_the_program_runs_if_that_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let slow: Arc<Slow> = Arc::default();
    let file = folder.path().join("shop.db");
    let file = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let pool = SqlitePool::connect_with(file).await.unwrap();
    let store = Store::in_sqlite(pool.clone(), "punctual").await.unwrap();
    let punctual = sixty_slow_items(&folder, &slow)
        .store(store)
        .max_concurrent_items(60)
        .start()
        .await
        .unwrap();
    let (job, run) = (JobId::new("job").unwrap(), TriggerRequest::default());
    for commits in [false, true] {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let triggered = punctual.trigger_in(&mut *transaction, &job, &run).await;
        let triggered = triggered.unwrap();
        assert_eq!(triggered.total, 60);
        let queued = async || {
            let reader = &punctual.operator().reader;
            reader.batch(triggered.batch_id).await.unwrap().is_some()
        };
        if commits {
            transaction.commit().await.unwrap();
            assert!(queued().await);
            until(|| slow.ended.load(Ordering::Relaxed) == 60).await;
        } else {
            transaction.rollback().await.unwrap();
            assert!(!queued().await);
        }
    }
    assert!(punctual.shut_down(Duration::from_secs(20)).await);
    assert_eq!(slow.begun.load(Ordering::Relaxed), 60);
}

#[tokio::test]
async fn what_has_not_ended_when_the_time_is_up_runs_in_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let slow: Arc<Slow> = Arc::default();
    let punctual = sixty_slow_items(&folder, &slow).start().await.unwrap();
    let job = JobId::new("job").unwrap();
    let run = TriggerRequest::default();
    let operator = punctual.operator();
    operator
        .trigger(&"test".into(), None, &job, &run)
        .await
        .unwrap();
    until(|| slow.begun.load(Ordering::Relaxed) >= 1).await;
    assert!(!punctual.shut_down(Duration::from_millis(1)).await);
    // Twice as long as an item takes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(slow.ended.load(Ordering::Relaxed), 0);
    let next = sixty_slow_items(&folder, &slow).max_concurrent_items(60);
    let next = next.start().await.unwrap();
    until(|| slow.ended.load(Ordering::Relaxed) == 60).await;
    assert!(next.shut_down(Duration::from_secs(20)).await);
}
