//! What is removed when it was kept for long enough.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        BatchReader, BatchStore, Clock, Page, RemovedKind, ResultFilter, Retention,
        RetentionPolicy, SystemClock, WorkQueue,
    },
    testing::contract,
};
use punctual_domain::{FailureKind, ItemId, ItemResult, ItemStatus, JobId, KeepDays, NewBatch};
use serde_json::json;

use super::{Numbers, assert_counts, batch, claimant, firing, items, succeeded};
use crate::{Store, driver::values};

pub(super) async fn removes_what_was_kept_for_long_enough(store: Store) {
    contract::retention(&store, &store, &store).await;
}

/// A batch of its own run, how its items have ended, and whether all have.
struct Ran {
    batch: NewBatch,
    ended: Vec<ItemResult>,
    is_over: bool,
}

const JOBS: [(&str, u32, u32); 3] = [("a", 5, 20), ("b", 20, 5), ("c", 7, 7)];

fn policy() -> RetentionPolicy {
    let days = JOBS.map(|(job, results, failures)| {
        let keep = KeepDays { results, failures };
        (JobId::new(job).unwrap(), keep)
    });
    RetentionPolicy { jobs: days.into() }
}

/// A batch of a job, which fell due some days before `now`, whose items end in any way, or not.
async fn run(store: &Store, random: &mut Numbers, number: i64, now: DateTime<Utc>) -> Ran {
    let due = now - TimeDelta::days(random.below(40) as i64) - TimeDelta::seconds(number + 1);
    let (job, ..) = JOBS[random.below(3)];
    let batch = batch(job, due, &items(0..random.below(8) + 1), 3);
    store
        .enqueue(firing(vec![batch.clone()]), due)
        .await
        .unwrap();
    let (mut all, mut is_over) = (Vec::new(), true);
    for chunk in &batch.chunks {
        if random.below(10) == 0 {
            is_over = false;
            continue;
        }
        let claimant = claimant();
        store.claim(chunk, claimant, due).await.unwrap();
        let mut end = |item_id: &ItemId| {
            let preference = json!({ "tone": random.below(5) });
            let ended = ItemResult {
                preference: Some(preference.into()),
                ..succeeded(item_id, json!("ok"), due)
            };
            match random.below(4) {
                0 => ItemResult {
                    status: ItemStatus::Failed,
                    failure_kind: Some(FailureKind::Handler),
                    output: None,
                    ..ended
                },
                1 => ItemResult {
                    status: ItemStatus::NothingToDo,
                    output: None,
                    ..ended
                },
                _ => ended,
            }
        };
        let ended: Vec<ItemResult> = chunk.items.iter().map(&mut end).collect();
        let committed = store.commit(chunk, claimant.token, &ended).await.unwrap();
        assert_eq!(committed.taken, ended.len());
        all.extend(ended);
    }
    Ran {
        batch,
        ended: all,
        is_over,
    }
}

/// Removes what there is, in portions of any size. Returns the number of rows.
async fn pass(store: &Store, random: &mut Numbers, now: DateTime<Utc>) -> u64 {
    let (policy, mut rows) = (policy(), 0);
    loop {
        let portion = store.remove(&policy, random.below(12) as u32, now).await;
        let portion = portion.unwrap();
        rows += portion.rows.values().sum::<u64>();
        if portion.is_last {
            return rows;
        }
    }
}

async fn results(store: &Store, ran: &Ran) -> Vec<(ItemId, ItemStatus)> {
    let filter = ResultFilter {
        batch_id: ran.batch.batch_id,
        status: None,
    };
    let (found, _) = store.results(&filter, &Page::default()).await.unwrap();
    let found = found.into_iter().map(|stored| stored.result);
    found.map(|one| (one.item_id, one.status)).collect()
}

pub(super) async fn of_any_runs_stays_what_is_kept_longer(store: Store) {
    let now: DateTime<Utc> = "2026-11-27T12:00:00Z".parse().unwrap();
    let mut random = Numbers(7);
    let mut runs = Vec::new();
    for number in 0..80 {
        runs.push(run(&store, &mut random, number, now).await);
    }
    let mut last: HashMap<ItemId, DateTime<Utc>> = HashMap::new();
    let a = JobId::new("a").unwrap();
    for ran in runs.iter().filter(|ran| ran.batch.job_id == a) {
        let due = ran.batch.scheduled_at;
        for ended in &ran.ended {
            if ended.status == ItemStatus::Succeeded {
                let known = last.entry(ended.item_id.clone()).or_insert(due);
                *known = due.max(*known);
            }
        }
    }
    assert!(pass(&store, &mut random, now).await > 0);
    assert_counts(&store).await;
    let policy = policy();
    for ran in &runs {
        let keep = policy.of_job(&ran.batch.job_id);
        let is_kept = |ended: &&ItemResult| {
            let days = match ended.status {
                ItemStatus::Failed => keep.failures,
                _ => keep.results,
            };
            let age = TimeDelta::days(days.into()) + KeepDays::SLACK;
            !ran.is_over || ran.batch.scheduled_at >= now - age
        };
        let kept = ran.ended.iter().filter(is_kept);
        let mut kept: Vec<_> = kept.map(|one| (one.item_id.clone(), one.status)).collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        let mut found = results(&store, ran).await;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, kept, "{:?}", ran.batch.scheduled_at);
        let has_gone = kept.len() < ran.ended.len();
        let removed_to = store.removed_to(&ran.batch.job_id).await.unwrap();
        let date = ran.batch.scheduled_at.date_naive();
        assert!(
            !has_gone || removed_to >= Some(date),
            "{removed_to:?} {date}"
        );
    }
    assert_eq!(pass(&store, &mut random, now).await, 0, "all of it went");
    let found = store.previous(&a, now, &items(0..8)).await.unwrap();
    let found = found
        .into_iter()
        .map(|(id, previous)| (id, previous.scheduled_at));
    assert_eq!(found.collect::<HashMap<_, _>>(), last);

    pass(&store, &mut random, now + TimeDelta::days(800)).await;
    assert_counts(&store).await;
    for ran in &runs {
        let there = store.batch(ran.batch.batch_id).await.unwrap();
        assert_eq!(there.is_some(), !ran.is_over, "{there:?}");
    }
    for table in [
        "dead_letters",
        "skipped_items",
        "last_successes",
        "preferences",
    ] {
        let open = runs.iter().filter(|ran| !ran.is_over);
        let failed = open.flat_map(|ran| &ran.ended);
        let failed = failed.filter(|one| one.status == ItemStatus::Failed);
        let left = if table == "dead_letters" {
            failed.count()
        } else {
            0
        };
        let count = format!("SELECT count(*) FROM @{table}");
        let count: Option<i64> = store
            .database
            .fetch_optional(&count, values![])
            .await
            .unwrap();
        assert_eq!(count, Some(left as i64), "{table}");
    }
}

/// The job `a` has succeeded for some items, with this output.
async fn succeeded_with(
    store: &Store,
    output: &serde_json::Value,
    due: DateTime<Utc>,
    count: usize,
) {
    let batch = batch("a", due, &items(0..count), count);
    let chunk = &batch.chunks[0];
    store
        .enqueue(firing(vec![batch.clone()]), due)
        .await
        .unwrap();
    let claimant = claimant();
    store.claim(chunk, claimant, due).await.unwrap();
    let ended = chunk.items.iter();
    let ended: Vec<ItemResult> = ended
        .map(|item| succeeded(item, output.clone(), due))
        .collect();
    let committed = store.commit(chunk, claimant.token, &ended).await.unwrap();
    assert_eq!(committed.taken, count);
}

/// What is remembered of a job that is not in effect keeps no preference when its last run has gone.
#[tokio::test]
async fn preferences_are_kept_as_long_as_the_jobs_that_have_runs() {
    let (_folder, store) = super::in_file().await;
    let used_at: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
    let kept = "INSERT INTO @preferences (hash, content, used_at) VALUES (@unhex($1), '{}', $2)";
    let kept = store.database.execute(kept, values!["00", used_at]);
    kept.await.unwrap();
    let waits = batch("a", used_at, &items(0..1), 1);
    store.enqueue(firing(vec![waits]), used_at).await.unwrap();
    let days = |days: u32| KeepDays {
        results: days,
        failures: days,
    };
    for (with_runs, without, left) in [(3_650, 7, 1), (7, 3_650, 0)] {
        let jobs = [("a", with_runs), ("gone", without)];
        let jobs = jobs.map(|(job, kept)| (JobId::new(job).unwrap(), days(kept)));
        let policy = RetentionPolicy { jobs: jobs.into() };
        let now = used_at + TimeDelta::days(500);
        while !store.remove(&policy, 100, now).await.unwrap().is_last {}
        let count = "SELECT count(*) FROM @preferences";
        let count: Option<i64> = store
            .database
            .fetch_optional(count, values![])
            .await
            .unwrap();
        assert_eq!(count, Some(left));
    }
}

#[tokio::test]
async fn a_job_that_is_edited_to_keep_more_keeps_what_is_left() {
    let (_folder, store) = super::in_file().await;
    let due: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
    succeeded_with(&store, &json!("ok"), due, 5).await;
    let now = due + TimeDelta::days(40);
    let portion = store.remove(&policy(), 2, now).await.unwrap();
    assert_eq!(portion.rows, [(RemovedKind::Results, 2)].into());
    let longer = RetentionPolicy::default();
    let portion = store.remove(&longer, 2, now).await.unwrap();
    assert!(portion.rows.is_empty(), "{portion:?}");
    let removable = store.removable(&policy(), now).await.unwrap();
    assert!(!removable.is_empty(), "three are left");
}

/// What is freed of a large output takes as long as many small rows.
#[tokio::test]
async fn a_portion_has_few_results_that_are_large() {
    let (_folder, store) = super::in_file().await;
    let due: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
    succeeded_with(&store, &json!("x".repeat(100_000)), due, 5).await;
    let (now, mut results) = (due + TimeDelta::days(40), Vec::new());
    for rows in [150, 150, 10] {
        let portion = store.remove(&policy(), rows, now).await.unwrap();
        results.push(portion.rows[&RemovedKind::Results]);
    }
    assert_eq!(results, [2, 2, 1], "one goes however few rows are wanted");
}

/// A store that was used before this version gets a day in which to keep more.
#[tokio::test]
async fn a_store_with_a_history_is_left_alone_for_a_day() {
    use crate::migrations::tests::earlier_sqlite;
    let folder = tempfile::tempdir().unwrap();
    for (name, has_history) in [("new.db", false), ("used.db", true)] {
        let url = format!("{}?mode=rwc", super::url(&folder, name));
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        earlier_sqlite(20).run(&pool).await.unwrap();
        if has_history {
            let batch = "INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at)
                 VALUES ('6ba7b811-9dad-11d1-80b4-00c04fd430c8', 'a', 'daily', 1, 'schedule', 'completed', 1, 1)";
            sqlx::query(batch).execute(&pool).await.unwrap();
        }
        pool.close().await;
        let store = Store::open(&url).await.unwrap();
        let begins_at = store.begins_at().await.unwrap();
        let left = begins_at.map(|at| (at - SystemClock.now()).num_hours());
        assert_eq!(left, has_history.then_some(23), "{name}: {begins_at:?}");
    }
}
