//! Missed runs of one tenant, one after the other.

use punctual_domain::Succession;

use super::*;
use crate::ports::ChunkQueue;

/// Runs to make up for.
const MISSED: i64 = 24;

/// From the due time of the last success to that of the item.
type Window = (Option<DateTime<Utc>>, DateTime<Utc>);

/// The windows of items, in the order in which they ran.
#[derive(Default)]
struct Windows(Arc<Mutex<Vec<Window>>>);

#[async_trait]
impl PurposeHandler for Windows {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let since = item.previous.map(|previous| previous.scheduled_at);
        self.0.lock().unwrap().push((since, item.scheduled_at));
        Ok(json!("done").into())
    }
}

/// Queues a daily job's runs of the tenant `a` that were missed, the last one first.
async fn queue_missed(bench: &Bench, job: &BatchConfig) -> Vec<DateTime<Utc>> {
    let now = bench.processor.now();
    let due: Vec<_> = (1..=MISSED)
        .rev()
        .map(|days| now - TimeDelta::days(days))
        .collect();
    let missed = due.iter().rev().map(|due| {
        NewBatch::new(
            &job.jobs[0].job_id,
            Priority::Low,
            "daily 09:00 UTC".to_owned(),
            *due,
            due.date_naive().to_string().parse().unwrap(),
            Trigger::Backfill,
            now,
            &[ItemId::new("a").unwrap()],
            500,
        )
    });
    let mut batches: Vec<NewBatch> = missed.collect();
    Succession::default().arrange(&mut batches, &job.jobs);
    let firing = Firing {
        batches,
        positions: vec![],
    };
    bench.store.enqueue(firing, now).await.unwrap();
    due
}

/// Runs what can be claimed until nothing can.
async fn work_off(bench: &Bench) {
    let limits = bench.processor.claim_limits();
    loop {
        let now = bench.processor.now();
        let process = bench.processor.process_id();
        let claimed = bench.store.claim_next(process, &limits, now).await.unwrap();
        if claimed.is_empty() {
            return;
        }
        let runs = claimed.into_iter().map(|one| bench.processor.run(one));
        for report in futures::future::join_all(runs).await {
            report.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn missed_runs_of_a_tenant_begin_one_after_the_other_and_their_windows_lie_side_by_side() {
    for is_claimed_in_order in [true, false] {
        let windows = Windows::default();
        let found = Arc::clone(&windows.0);
        let bench = bench(posts(), &["gone"], windows, 0).await;
        bench.switch_on(&["a"]);
        let due = queue_missed(&bench, &config(posts())).await;
        let began = tokio::time::Instant::now();
        if is_claimed_in_order {
            work_off(&bench).await;
        } else {
            bench.store.work(&bench.processor).await.unwrap();
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        let since = [None].into_iter().chain(due.iter().copied().map(Some));
        let expected: Vec<_> = since.zip(due.iter().copied()).collect();
        assert_eq!(*found.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_missed_run_begins_when_the_one_before_has_failed_or_is_cancelled() {
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .times(usize::try_from(MISSED).unwrap() - 1)
        .returning(|_| Err(HandlerError::permanent("no")));
    let bench = bench(posts(), &["gone"], handler, 0).await;
    bench.switch_on(&["a"]);
    let due = queue_missed(&bench, &config(posts())).await;
    let batches = bench.store.pending();
    let first = batches.iter().find(|chunk| chunk.scheduled_at == due[0]);
    let first = first.unwrap().batch_id;
    assert!(bench.store.cancel(first).await.unwrap());
    work_off(&bench).await;
    assert!(bench.store.pending().is_empty());
}
