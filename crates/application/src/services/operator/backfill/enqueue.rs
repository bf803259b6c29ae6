//! Runs what fell due on dates that have passed and has not succeeded, failed or had nothing to do, or counts it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use punctual_domain::{
    BackfillGroup, Firing, ItemId, JobConfig, NewBatch, Occurrence, Priority, Succession, Trigger,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ports::{BatchReader, Retention, StoreError, WorkQueue},
    services::{operator::retention::refuse_removed, source_items::chunk_size_of},
};

/// Items that are put in the queue in one transaction, about.
const ITEMS_PER_FIRING: usize = 50_000;

/// Number of items that a backfill runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackfillCount {
    /// Number of items that fell due.
    pub due: usize,
    /// Number of them that have succeeded or failed, are running, or were erased, and do not run again.
    pub already_run: usize,
    /// Number of items to run.
    pub to_run: usize,
    /// Number of batches that they run in.
    pub batches: usize,
    /// Number of items to run per date, in each tenant's time zone.
    pub dates: BTreeMap<NaiveDate, usize>,
    /// The queued batches; empty in a preview.
    #[serde(default)]
    pub batch_ids: Vec<Uuid>,
}

/// Puts in `queue` what a job's `groups` have not run, behind everything else; without a queue it is counted only.
/// Occurrences keep their keys, so no tenant runs twice for a date, however often the backfill is requested.
///
/// With `allow_unknown` it also runs for tenants who have stored no preference.
///
/// # Errors
/// The store fails, or results of one of the dates have been removed. What has been queued by then runs, and asking again goes on
/// with the rest.
pub async fn backfill(
    (reader, retention): (&dyn BatchReader, &dyn Retention),
    queue: Option<&dyn WorkQueue>,
    job: &JobConfig,
    groups: Vec<BackfillGroup>,
    chunk_size: usize,
    allow_unknown: bool,
    now: DateTime<Utc>,
) -> Result<BackfillCount, StoreError> {
    let mut count = BackfillCount::default();
    let (mut firing, mut waiting) = (Firing::default(), 0);
    let (mut succession, jobs) = (Succession::default(), std::slice::from_ref(job));
    // Tenants of many times of day share an occurrence, which is looked up once.
    let mut by_occurrence: BTreeMap<Occurrence, Vec<(DateTime<Utc>, &BackfillGroup)>> =
        BTreeMap::new();
    for group in &groups {
        for (scheduled_at, occurrence) in &group.occurrences {
            let due = by_occurrence.entry(*occurrence).or_default();
            due.push((*scheduled_at, group));
        }
    }
    for (occurrence, due) in by_occurrence {
        let items = due.iter().flat_map(|(_, group)| &group.items);
        let items: Vec<ItemId> = items.cloned().collect();
        let started = reader
            .started_items(&job.job_id, occurrence, &items)
            .await?;
        refuse_removed(retention, &job.job_id, &[occurrence]).await?;
        for (scheduled_at, group) in due {
            let left = group.items.iter().filter(|item| !started.contains(*item));
            let items: Vec<ItemId> = left.cloned().collect();
            count.due += group.items.len();
            count.already_run += group.items.len() - items.len();
            if items.is_empty() {
                continue;
            }
            count.to_run += items.len();
            count.batches += 1;
            if let Some(date) = group.schedule.date_of(occurrence) {
                *count.dates.entry(date).or_default() += items.len();
            }
            let Some(queue) = queue else { continue };
            let batch = NewBatch::new(
                &job.job_id,
                Priority::Low,
                group.schedule.to_string(),
                scheduled_at,
                occurrence,
                Trigger::Backfill,
                now,
                &items,
                chunk_size_of(job.kind, chunk_size),
            )
            .of_job(job, group.schedule.period_from(scheduled_at))
            .allowing_unknown(allow_unknown);
            count.batch_ids.push(batch.batch_id);
            firing.batches.push(batch);
            waiting += items.len();
            if waiting >= ITEMS_PER_FIRING {
                succession.arrange(&mut firing.batches, jobs);
                queue.enqueue(std::mem::take(&mut firing), now).await?;
                waiting = 0;
            }
        }
    }
    if let Some(queue) = queue.filter(|_| waiting > 0) {
        succession.arrange(&mut firing.batches, jobs);
        queue.enqueue(firing, now).await?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use punctual_domain::{Dates, Work, Zone};
    use serde_json::json;

    use super::*;
    use crate::{
        ports::{BatchStore, Claimant},
        testing::FakeStore,
    };

    #[tokio::test]
    async fn what_has_no_result_is_counted_and_queued_once() {
        let jobs = json!({"jobs": [{"job_id": "j", "type": "individual_batch", "purpose_id": "p",
            "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "source": {"file": "x.json"}}]});
        let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
        let job = &jobs.jobs[0];
        let Work::Fixed { schedule, .. } = &job.work else {
            panic!("it has a schedule")
        };
        let date = |text: &str| text.parse::<NaiveDate>().unwrap();
        let now: DateTime<Utc> = "2026-03-03T05:00:00Z".parse().unwrap();
        let items: Vec<ItemId> = ["a", "b", "c"].map(|id| ItemId::new(id).unwrap()).into();
        let dates = Dates::new(date("2026-03-01"), date("2026-03-03")).unwrap();
        let groups = || {
            vec![BackfillGroup {
                schedule: schedule.clone(),
                // The third date has not come yet.
                occurrences: dates.passed(schedule, chrono::TimeDelta::zero(), now),
                items: items.clone(),
            }]
        };
        let store = FakeStore::default();
        let queue: &dyn WorkQueue = &store;

        let counted = backfill((&store, &store), None, job, groups(), 2, false, now)
            .await
            .unwrap();
        assert_eq!(
            (counted.due, counted.to_run, counted.batches),
            (6, 6, 2),
            "{counted:?}"
        );
        assert_eq!(
            counted.dates,
            [(date("2026-03-01"), 3), (date("2026-03-02"), 3)].into()
        );
        assert!(store.pending().is_empty(), "it was counted only");

        let queued = backfill((&store, &store), Some(queue), job, groups(), 2, false, now)
            .await
            .unwrap();
        assert_eq!((queued.due, queued.to_run), (counted.due, counted.to_run));
        assert!(counted.batch_ids.is_empty(), "it was counted only");
        assert_eq!(queued.batch_ids.len(), 2);
        for chunk in store.pending() {
            assert!(queued.batch_ids.contains(&chunk.batch_id));
        }
        assert_eq!(store.pending().len(), 4, "two dates of two chunks");
        let after: usize = store.pending().iter().map(|chunk| chunk.after.len()).sum();
        assert_eq!(after, 2, "those of the second date");
        // One chunk ends, and is not run again.
        let chunk = store.pending().remove(0);
        let claimant = Claimant {
            process: uuid::Uuid::from_u128(1),
            token: uuid::Uuid::from_u128(2),
        };
        store.claim(&chunk, claimant, now).await.unwrap();
        // One item succeeds; the other is skipped, which does not count as run.
        let statuses = [
            punctual_domain::ItemStatus::Succeeded,
            punctual_domain::ItemStatus::Skipped,
        ];
        let ended =
            chunk
                .items
                .iter()
                .zip(statuses)
                .map(|(tenant, status)| punctual_domain::ItemResult {
                    item_id: tenant.clone(),
                    status,
                    failure_kind: None,
                    attempts: 1,
                    preference: None,
                    output: None,
                    error: None,
                    started_at: now,
                    finished_at: Some(now),
                    waiting: None,
                });
        let ended: Vec<_> = ended.collect();
        store.commit(&chunk, claimant.token, &ended).await.unwrap();
        let rest = backfill((&store, &store), None, job, groups(), 2, false, now)
            .await
            .unwrap();
        assert_eq!((rest.due, rest.already_run, rest.to_run), (6, 1, 5));
    }
}
