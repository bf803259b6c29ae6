//! What operators see of results that have been removed.

use std::{collections::BTreeMap, time::Duration};

use punctual_domain::{BatchConfig, ItemResult, KeepDays, Occurrence};
use uuid::Uuid;

use super::*;
use crate::ports::{BatchStore, Claimant, RemovedKind, RetentionPolicy, StoreErrorKind};

const KEEP: KeepDays = KeepDays {
    results: 3,
    failures: 6,
};

/// An operator of a job that serves Ann at 9:00 each day, and keeps what has run as [`KEEP`] says.
fn forgetful(store: &Arc<FakeStore>) -> Operator {
    let operator = serving(store);
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts", "keep_results_days": KEEP.results,
        "keep_failures_days": KEEP.failures}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    operator.jobs.replace(jobs);
    operator
}

fn backfill(from: NaiveDate, to: NaiveDate) -> BackfillRequest {
    BackfillRequest {
        from,
        to,
        tenants: None,
        all: false,
        allow_unknown: false,
        preview: false,
    }
}

/// Runs what is queued. Returns the runs of Ann.
async fn work(store: &FakeStore, status: ItemStatus, now: DateTime<Utc>) -> Vec<Occurrence> {
    let claimant = Claimant {
        process: Uuid::from_u128(1),
        token: Uuid::from_u128(2),
    };
    let mut ran = Vec::new();
    for chunk in store.pending() {
        let claim = store.claim(&chunk, claimant, now).await.unwrap();
        ran.extend(claim.items.iter().map(|_| chunk.occurrence));
        let ended = |item_id| ItemResult {
            item_id,
            status,
            failure_kind: None,
            attempts: 1,
            preference: None,
            output: None,
            error: None,
            started_at: now,
            finished_at: Some(now),
            waiting: None,
        };
        let ended: Vec<_> = claim.items.into_iter().map(ended).collect();
        store.commit(&chunk, claimant.token, &ended).await.unwrap();
    }
    ran
}

async fn remove_all(operator: &Operator, rows: u32) -> u64 {
    let policy = RetentionPolicy::of(&operator.jobs.current());
    let mut removed = 0;
    loop {
        let portion = operator
            .retention
            .remove(&policy, rows, operator.clock.now());
        let portion = portion.await.unwrap();
        removed += portion.rows.values().sum::<u64>();
        if portion.is_last {
            return removed;
        }
    }
}

/// Numbers that look random, and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_removed_and_backfilled_no_date_runs_twice_and_none_is_lost() {
    let (mut refused, mut removed) = (0, 0);
    for seed in 0..60 {
        let store: Arc<FakeStore> = Arc::default();
        let operator = forgetful(&store);
        let (mut random, mut runs) = (Numbers(seed), BTreeMap::<Occurrence, usize>::new());
        for _ in 0..40 {
            // Nothing happens at one instant: it tells batches apart.
            tokio::time::advance(Duration::from_secs(1)).await;
            let now = operator.clock.now();
            match random.below(4) {
                0 => tokio::time::advance(Duration::from_hours(random.below(72))).await,
                1 => removed += remove_all(&operator, random.below(3) as u32 + 1).await,
                _ => {
                    let yesterday = now.date_naive() - TimeDelta::days(1);
                    let from = yesterday - TimeDelta::days(random.below(12) as i64);
                    let to = (from + TimeDelta::days(random.below(3) as i64)).min(yesterday);
                    let request = backfill(from, to);
                    let asked = operator.backfill(&actor(), None, &posts(), &request).await;
                    let removed_to = operator.retention.removed_to(&posts()).await.unwrap();
                    let is_known = removed_to.is_none_or(|date| date < from);
                    match asked {
                        Ok(_) => assert!(is_known, "{from} {removed_to:?}"),
                        Err(OperatorError::Store(error)) => {
                            assert_eq!(error.kind(), StoreErrorKind::Conflict);
                            assert!(
                                !is_known && error.to_string().contains("removed"),
                                "{error}"
                            );
                            refused += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    let statuses = [
                        ItemStatus::Succeeded,
                        ItemStatus::NothingToDo,
                        ItemStatus::Failed,
                    ];
                    let status = statuses[random.below(3) as usize];
                    for occurrence in work(&store, status, now).await {
                        *runs.entry(occurrence).or_default() += 1;
                    }
                    for date in from.iter_days().take_while(|date| is_known && *date <= to) {
                        assert_eq!(runs.get(&Occurrence::Date(date, 1)), Some(&1), "{date}");
                    }
                }
            }
            let twice = runs.iter().find(|(_, times)| **times > 1);
            assert_eq!(twice, None, "seed {seed}");
        }
    }
    assert!(refused > 20 && removed > 20, "{refused} {removed}");
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_is_said_and_counted_before() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = forgetful(&store);
    let date = |text: &str| text.parse::<NaiveDate>().unwrap();
    let (first, last) = (date("2026-02-27"), date("2026-02-28"));
    let request = backfill(first, last);
    let queued = operator.backfill(&actor(), None, &posts(), &request).await;
    queued.unwrap();
    work(&store, ItemStatus::Succeeded, operator.clock.now()).await;
    let before = operator.retention().await.unwrap();
    assert_eq!((before.jobs[0].keep, before.total().0), (KEEP, 0));
    let ann = TenantId::new("ann").unwrap();
    let explained = async |date: NaiveDate| {
        let explained = operator.explain(&ann, &posts(), Some(date)).await;
        explained.unwrap()
    };
    assert_eq!(explained(last).await.results_removed_to, None);

    tokio::time::advance(Duration::from_hours(24 * 7)).await;
    let report = operator.retention().await.unwrap();
    let [removable] = report.jobs[0].removable.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!((removable.kind, removable.rows), (RemovedKind::Results, 2));
    assert_eq!(report.total().2, Some(at("2026-02-27T09:00:00Z")));
    remove_all(&operator, 10).await;
    let after = operator.retention().await.unwrap();
    assert_eq!(after.jobs[0].removed_to, Some(last));
    assert_eq!(after.total(), (0, 0, None));

    let words = explained(last).await;
    assert_eq!(words.results_removed_to, Some(last));
    let removed = "results of posts up to 2026-02-28 have been removed";
    assert!(words.explanation.contains(removed), "{words:?}");
    let later = explained(date("2026-03-02")).await;
    assert_eq!(later.results_removed_to, None, "{later:?}");
    for preview in [true, false] {
        let request = BackfillRequest {
            preview,
            ..backfill(last, date("2026-03-02"))
        };
        let refused = operator.backfill(&actor(), None, &posts(), &request).await;
        let refused = refused.unwrap_err();
        assert!(refused.is_callers(), "{refused}");
        let refused = refused.to_string();
        assert!(
            refused.contains("name dates from 2026-03-01 on"),
            "{refused}"
        );
    }
    assert!(store.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_not_in_effect_is_listed_with_the_days_that_apply_while_it_has_runs() {
    use RetentionSource::{Job, Remembered, Unknown};
    let store: Arc<FakeStore> = Arc::default();
    let operator = forgetful(&store);
    let date = |text: &str| text.parse::<NaiveDate>().unwrap();
    let request = backfill(date("2026-02-27"), date("2026-02-28"));
    let queued = operator.backfill(&actor(), None, &posts(), &request).await;
    queued.unwrap();
    work(&store, ItemStatus::Succeeded, operator.clock.now()).await;
    tokio::time::advance(Duration::from_hours(24 * 10)).await;
    let listed = async || {
        let report = operator.retention().await.unwrap();
        let listed = report.jobs.into_iter();
        let rows = |job: &JobRetention| job.removable.iter().map(|one| one.rows).sum::<u64>();
        let listed = listed.map(|job| (job.source, job.keep, rows(&job)));
        listed.collect::<Vec<_>>()
    };
    let policy = RetentionPolicy::of(&operator.jobs.current());
    assert_eq!(listed().await, [(Job, KEEP, 2)]);
    operator.jobs.replace(BatchConfig::default());
    assert_eq!(listed().await, [(Unknown, KeepDays::of_unknown_job(), 0)]);
    operator.retention.remember(&policy).await.unwrap();
    assert_eq!(listed().await, [(Remembered, KEEP, 2)]);
    let now = operator.clock.now();
    operator.retention.remove(&policy, 10, now).await.unwrap();
    assert!(listed().await.is_empty(), "nothing is left of it");
}
