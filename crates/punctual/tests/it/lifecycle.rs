//! Start, stop, and start again, on a real store.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual::{
    Builder, Completer, HandlerError, Item, Job, JobId, Outcome, Punctual, PurposeHandler, Settled,
    Store, TriggerRequest, Waiting,
    sqlx::{SqlitePool, sqlite::SqliteConnectOptions},
};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

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

/// Has the work of all items go on elsewhere, but that of `last`, which ends when it may.
#[derive(Default)]
struct Elsewhere {
    calls: Mutex<Vec<Uuid>>,
    last_begun: AtomicUsize,
    last_may_end: Notify,
}

#[async_trait]
impl PurposeHandler for Elsewhere {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        if item.item_id.as_str() == "last" {
            self.last_begun.fetch_add(1, Ordering::Relaxed);
            self.last_may_end.notified().await;
            return Ok(Value::Null.into());
        }
        let call_id = item.completion.as_ref().unwrap().call_id;
        self.calls.lock().unwrap().push(call_id);
        let until = item.scheduled_at + TimeDelta::hours(1);
        Ok(Outcome::Waiting(Waiting::until(until)))
    }
}

#[tokio::test]
async fn what_waits_is_completed_while_it_stops_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let handler: Arc<Elsewhere> = Arc::default();
    let limit = json!({"percent": 1, "at_least": 3});
    let items = ["a", "b", "c", "last"];
    let job = Job::daily("job", "06:00").items(items).runs("elsewhere");
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("elsewhere", handler.clone())
        .job(job.with("failure_limit", limit))
        .chunk_size(1)
        .start()
        .await
        .unwrap();
    let (job, run) = (JobId::new("job").unwrap(), TriggerRequest::default());
    let operator = punctual.operator().clone();
    let triggered = operator.trigger(&"test".into(), None, &job, &run).await;
    triggered.unwrap();
    let calls = || handler.calls.lock().unwrap().clone();
    until(|| handler.last_begun.load(Ordering::Relaxed) == 1 && calls().len() == 3).await;
    for call in calls() {
        while operator.waiting.waiting_call(call).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let stop = punctual.stop_token();
    let completions = async {
        stop.cancelled().await;
        for call in calls() {
            let broken = Err(HandlerError::permanent("broken"));
            let settled = operator.processor.complete(call, broken).await;
            assert_eq!(settled.unwrap(), Settled::Taken);
        }
        handler.last_may_end.notify_one();
    };
    let (ended, ()) = tokio::join!(punctual.shut_down(Duration::from_secs(20)), completions);
    assert!(ended);
    let paused = operator.queue.paused().await.unwrap();
    assert!(paused.contains_key(&job), "its failures count");
}
