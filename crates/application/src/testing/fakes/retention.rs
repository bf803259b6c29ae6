//! The port `Retention`, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use punctual_domain::{ItemStatus, JobId, KeepDays, Occurrence, Previous, Trigger};
use uuid::Uuid;

use super::{FakeStore, RunKey, Tables};
use crate::ports::{
    DeliveryState, Removable, RemovedKind, RemovedPortion, Retention, RetentionPolicy, StoreError,
};

/// A run that results may be removed of.
struct OldRun {
    job_id: JobId,
    occurrence: Occurrence,
    batches: BTreeSet<Uuid>,
    /// Whether all of it goes.
    is_whole: bool,
    keep: KeepDays,
}

impl OldRun {
    /// Whether results in this status go.
    fn removes(&self, status: ItemStatus) -> bool {
        let failed = status == ItemStatus::Failed;
        self.is_whole || failed == (self.keep.failures < self.keep.results)
    }
}

#[async_trait]
impl Retention for FakeStore {
    async fn remove(
        &self,
        policy: &RetentionPolicy,
        rows: u32,
        now: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError> {
        let mut tables = self.tables();
        let (mut left, mut removed) = (rows as usize, BTreeMap::new());
        for run in tables.old_runs(policy, now) {
            left = tables.remove_run(&run, left, &mut removed);
            if left == 0 {
                break;
            }
        }
        let entries = tables
            .asked
            .forget_audit_log(now - RetentionPolicy::AUDIT_LOG);
        add(&mut removed, RemovedKind::AuditLog, entries);
        Ok(RemovedPortion {
            rows: removed,
            held: Duration::ZERO,
            is_last: left > 0,
        })
    }

    async fn removable(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        let tables = self.tables();
        let mut found: BTreeMap<(JobId, RemovedKind), (u64, Option<DateTime<Utc>>)> =
            BTreeMap::new();
        for run in tables.old_runs(policy, now) {
            for stored in tables.runs.values().map(|run| &run.stored) {
                let is_of_run = stored.job_id == run.job_id && stored.occurrence == run.occurrence;
                if !is_of_run || !run.removes(stored.result.status) {
                    continue;
                }
                let failed = stored.result.status == ItemStatus::Failed;
                let kinds = [RemovedKind::Results, RemovedKind::DeadLetters];
                for kind in &kinds[..=usize::from(failed)] {
                    let (count, oldest) = found.entry((run.job_id.clone(), *kind)).or_default();
                    *count += 1;
                    *oldest = (*oldest).into_iter().chain([stored.scheduled_at]).min();
                }
            }
        }
        let removable = |((job_id, kind), (rows, oldest))| Removable {
            job_id: Some(job_id),
            kind,
            rows,
            bytes: rows * 100,
            oldest,
        };
        Ok(found.into_iter().map(removable).collect())
    }

    async fn removed_to(&self, job_id: &JobId) -> Result<Option<NaiveDate>, StoreError> {
        Ok(self.tables().removed_to.get(job_id).copied())
    }

    async fn remember(&self, jobs: &RetentionPolicy) -> Result<(), StoreError> {
        self.tables().job_retention.extend(jobs.jobs.clone());
        Ok(())
    }

    async fn remembered(&self) -> Result<RetentionPolicy, StoreError> {
        Ok(RetentionPolicy {
            jobs: self.tables().job_retention.clone(),
        })
    }

    async fn jobs(&self) -> Result<Vec<JobId>, StoreError> {
        let tables = self.tables();
        let jobs = tables.chunks.values().map(|row| row.chunk.job_id.clone());
        let jobs: BTreeSet<JobId> = jobs.collect();
        Ok(jobs.into_iter().collect())
    }

    async fn begins_at(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(None)
    }

    async fn is_busy(&self, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let tables = self.tables();
        let mut batches = tables.batches.values();
        Ok(batches.any(|batch| batch.finished_at.is_none() && batch.scheduled_at > since))
    }
}

fn add(removed: &mut BTreeMap<RemovedKind, u64>, kind: RemovedKind, rows: usize) {
    if rows > 0 {
        *removed.entry(kind).or_default() += rows as u64;
    }
}

impl Tables {
    /// Runs that are over and old enough for some of their results to go.
    fn old_runs(&self, policy: &RetentionPolicy, now: DateTime<Utc>) -> Vec<OldRun> {
        let mut batches: BTreeMap<(JobId, Occurrence), BTreeSet<Uuid>> = BTreeMap::new();
        for row in self.chunks.values() {
            let run = (row.chunk.job_id.clone(), row.chunk.occurrence);
            batches.entry(run).or_default().insert(row.chunk.batch_id);
        }
        let mut runs = Vec::new();
        for ((job_id, occurrence), ids) in batches {
            let keep = policy.of_job(&job_id);
            let of_run = || ids.iter().filter_map(|id| self.batches.get(id));
            let delivers = self
                .deliveries
                .iter()
                .any(|row| row.state == DeliveryState::Open && ids.contains(&row.batch_id));
            let due = of_run().filter(|batch| batch.trigger != Trigger::Prepare);
            let due = due.map(|batch| batch.scheduled_at).max();
            let due = due.unwrap_or(DateTime::<Utc>::MIN_UTC);
            let is_older = |age| {
                due < now - age - KeepDays::SLACK
                    && of_run().all(|batch| batch.finished_at.is_some_and(|end| end < now - age))
            };
            if !delivers && is_older(keep.shortest()) {
                runs.push(OldRun {
                    is_whole: is_older(keep.longest()),
                    job_id,
                    occurrence,
                    batches: ids,
                    keep,
                });
            }
        }
        runs
    }

    /// Removes at most `most` results of a run, and what else goes with it. Returns how many more may be removed.
    fn remove_run(
        &mut self,
        run: &OldRun,
        most: usize,
        removed: &mut BTreeMap<RemovedKind, u64>,
    ) -> usize {
        let deliveries = self.deliveries.len();
        self.deliveries
            .retain(|row| !run.batches.contains(&row.batch_id));
        add(
            removed,
            RemovedKind::Deliveries,
            deliveries - self.deliveries.len(),
        );
        let is_of_run = |(job_id, _, occurrence): &RunKey| {
            *job_id == run.job_id && *occurrence == run.occurrence
        };
        let results = self.runs.iter();
        let results = results
            .filter(|&(key, known)| is_of_run(key) && run.removes(known.stored.result.status));
        let results: Vec<RunKey> = results.map(|(key, _)| key.clone()).take(most).collect();
        if let (Some(date), false) = (run.occurrence.shard_date(), results.is_empty()) {
            let to = self.removed_to.entry(run.job_id.clone()).or_insert(date);
            *to = date.max(*to);
        }
        for key in &results {
            let Some(known) = self.runs.remove(key) else {
                continue;
            };
            let (stored, result) = (&known.stored, &known.stored.result);
            if result.status == ItemStatus::Succeeded && !self.prepares(stored.batch_id) {
                let last = Previous {
                    occurrence: stored.occurrence,
                    scheduled_at: stored.scheduled_at,
                    finished_at: result.finished_at.unwrap_or(result.started_at),
                };
                let item = (run.job_id.clone(), result.item_id.clone());
                let before = self.last_successes.get(&item);
                if before.is_none_or(|before| before.scheduled_at < last.scheduled_at) {
                    self.last_successes.insert(item, last);
                }
            }
        }
        add(removed, RemovedKind::Results, results.len());
        if results.len() == most {
            return 0;
        }
        if run.removes(ItemStatus::Failed) {
            let before = self.dead_letters.len();
            self.dead_letters.retain(|letter| {
                letter.job_id != run.job_id || letter.occurrence != run.occurrence
            });
            let letters = before - self.dead_letters.len();
            add(removed, RemovedKind::DeadLetters, letters);
        }
        if run.is_whole {
            self.remove_batches(run, removed);
        }
        most - results.len()
    }

    /// Removes the batches of a run that has no results left.
    fn remove_batches(&mut self, run: &OldRun, removed: &mut BTreeMap<RemovedKind, u64>) {
        let chunks = self.chunks.len();
        let of_run = |batch_id: &Uuid| run.batches.contains(batch_id);
        self.chunks.retain(|_, row| !of_run(&row.chunk.batch_id));
        add(removed, RemovedKind::Chunks, chunks - self.chunks.len());
        let skipped = self.skipped.len();
        self.skipped.retain(|_, stored| !of_run(&stored.batch_id));
        add(
            removed,
            RemovedKind::SkippedItems,
            skipped - self.skipped.len(),
        );
        self.kept.retain(|(job_id, _, occurrence), _| {
            *job_id != run.job_id || *occurrence != run.occurrence
        });
        for batch_id in &run.batches {
            self.batches.remove(batch_id);
        }
        add(removed, RemovedKind::Batches, run.batches.len());
        add(removed, RemovedKind::Runs, 1);
    }
}
