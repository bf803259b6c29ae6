//! The plain scheduler: jobs with a fixed schedule. One clock read a tick; what is due between the last tick
//! and now is asked of the planner and enqueued together with the new positions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ActiveFailures, Jobs, Operation, amount, chunk_size_of, item_ids,
    ports::{Clock, Enqueued, ItemSource, ItemSourceError, StoreError, WorkQueue},
};
use punctual_domain::{
    Firing, JobConfig, NewBatch, Occurrence, Schedule, Sharding, Source, StoredPosition,
    Succession, TenantId, Trigger, Work, fixed_placement, plan_edited, plan_fixed,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    lateness::Lateness,
    services::{
        leadership::{LeaderElection, LeaderState},
        positions::Positions,
    },
};

/// The longest sleep: after it the wall clock is read again, whatever it has done meanwhile.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// How soon to plan again after the store has failed.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Settings of both schedulers.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Maximum number of items of a chunk.
    pub chunk_size: usize,
    /// Look-back window for a job's first plan.
    pub look_back: TimeDelta,
}

/// Plans jobs with a fixed schedule.
pub struct BatchScheduler {
    pub(crate) jobs: Jobs,
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: SchedulerOptions,
    pub(crate) failures: ActiveFailures,
    pub(crate) leadership: LeaderElection,
    pub(crate) positions: Positions,
    item_source: Arc<dyn ItemSource>,
    lateness: Lateness,
}

/// Why a job with a fixed schedule cannot be planned.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] ItemSourceError),
}

impl BatchScheduler {
    /// A scheduler of those of the jobs that have a fixed schedule.
    pub fn new(
        jobs: impl Into<Jobs>,
        item_source: Arc<dyn ItemSource>,
        queue: Arc<dyn WorkQueue>,
        clock: Arc<dyn Clock>,
        options: SchedulerOptions,
    ) -> Self {
        Self {
            jobs: jobs.into(),
            leadership: LeaderElection::new(Arc::clone(&queue), Arc::clone(&clock)),
            positions: Positions::new(Arc::clone(&queue), options.look_back),
            item_source,
            queue,
            clock,
            options,
            failures: ActiveFailures::default(),
            lateness: Lateness::default(),
        }
    }

    /// The same, which notes what fails in `failures`.
    #[must_use]
    pub fn with_failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    /// The same, of what `sharding` serves. Give a [`DynamicBatchScheduler`](super::dynamic_batch_scheduler::DynamicBatchScheduler)
    /// preferences [of its shards](crate::OfShards), too.
    #[must_use]
    pub fn with_sharding(mut self, sharding: Sharding) -> Self {
        self.positions.sharding = sharding;
        self
    }

    /// Whether this process is the leader, as far as it knows: while the store does not answer, whether it was before.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leadership.leads()
    }

    /// Plans until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let now = self.clock.now();
            let leader = self.lead().await;
            let sleep = if leader.is_leader {
                let (firing, next) = self.plan(now).await;
                match self.fire(firing, now).await {
                    Ok(_) => until(next, now),
                    Err(_) => RETRY_AFTER,
                }
            } else {
                LONGEST_SLEEP
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(leader.until_renewal(sleep)) => {}
                () = stop.cancelled() => {}
            }
        }
        self.leadership.step_down().await;
    }

    /// Asks for the leadership. A new leader looks up how far others have come.
    pub(crate) async fn lead(&mut self) -> LeaderState {
        let state = self.leadership.acquire(&self.failures).await;
        if state.is_new {
            self.positions.clear();
        }
        state
    }

    /// What the fixed schedules have to run until `now`, and when the next one falls due. A job whose items
    /// cannot be read keeps its place and is retried with the next tick.
    pub(crate) async fn plan(&mut self, now: DateTime<Utc>) -> (Firing, Option<DateTime<Utc>>) {
        let mut firing = Firing {
            batches: Vec::new(),
            positions: Vec::new(),
        };
        self.lateness.begin(now);
        let mut next = None;
        let config = self.jobs.current();
        for job in &config.jobs {
            let Work::Fixed {
                schedule,
                sources,
                distribute_to,
                ..
            } = &job.work
            else {
                continue;
            };
            match self
                .plan_job(job, schedule, sources, distribute_to, now)
                .await
            {
                Ok((position, batches)) => {
                    self.failures
                        .succeeded(&Operation::PlanJob(job.job_id.clone()));
                    firing.batches.extend(batches);
                    firing.positions.push(position);
                    next = earlier(next, schedule.next_after(now));
                }
                Err(error) => {
                    self.failures
                        .failed(Operation::PlanJob(job.job_id.clone()), &error, now);
                    error!(job_id = %job.job_id, reason = %error, "Failed to plan job {}: {error}", job.job_id);
                }
            }
        }
        (firing, next)
    }

    async fn plan_job(
        &mut self,
        job: &JobConfig,
        schedule: &Schedule,
        sources: &BTreeMap<String, Source>,
        recipients: &[TenantId],
        now: DateTime<Utc>,
    ) -> Result<(StoredPosition, Vec<NewBatch>), PlanError> {
        let start = self.positions.start(&job.job_id, now).await?;
        let from = start.position.planned_until();
        let placement = fixed_placement(schedule);
        let before = start.placement.as_deref();
        let before = before.filter(|before| *before != placement);
        let mut planned = start.planned(&job.job_id, now);
        if before.is_some() {
            planned.began = Some(now);
        }
        planned.placement = Some(placement);
        let due = match before {
            // What was still to come falls due, also where its new time has passed.
            Some(before) => plan_edited(before, schedule, job.catch_up, from, now),
            None => plan_fixed(schedule, job.catch_up, from, now),
        };
        if due.is_empty() {
            return Ok((planned, Vec::new()));
        }
        let categories = self.item_source.load(sources).await?;
        let items = item_ids(job.kind, &categories, recipients);
        if items.is_empty() {
            info!(job_id = %job.job_id, "Job {} fell due, but its source has no items", job.job_id);
            return Ok((planned, Vec::new()));
        }
        let sharding = &self.positions.sharding;
        let batch = |(instant, occurrence): (DateTime<Utc>, Occurrence)| {
            let items = sharding.items_at(&job.job_id, occurrence.shard_date()?, &items);
            if items.is_empty() {
                return None;
            }
            let trigger = if instant <= from {
                Trigger::LateChange
            } else {
                start.position.trigger_at(instant)
            };
            let batch = NewBatch::new(
                &job.job_id,
                job.priority,
                schedule.to_string(),
                instant,
                occurrence,
                trigger,
                now,
                &items,
                chunk_size_of(job.kind, self.options.chunk_size),
            );
            Some(batch.of_job(job, schedule.period_from(instant)))
        };
        let batches = due.into_iter().filter_map(batch).collect();
        Ok((planned, batches))
    }

    /// Stores a firing. Positions alone are stored now and then: without them the next start plans a stretch again in which
    /// nothing fell due.
    pub(crate) async fn fire(
        &mut self,
        firing: Firing,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, StoreError> {
        let stored = self.store(firing, now).await;
        let operation = Operation::EnqueueDueBatches;
        self.failures.note(operation, &stored, self.clock.now());
        if let Err(error) = &stored {
            error!(%error, "Failed to enqueue due batches, retrying in 1 s: {error}");
        }
        stored
    }

    async fn store(
        &mut self,
        mut firing: Firing,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, StoreError> {
        let mut left_out = BTreeSet::new();
        if !firing.batches.is_empty() {
            let paused = self.queue.paused().await?;
            firing.batches.retain(|batch| {
                let (job_id, slot) = (&batch.job_id, &batch.slot);
                let runs = !paused.contains_key(job_id);
                if !runs && batch.trigger != Trigger::Prepare {
                    info!(%job_id, slot, "Job {job_id} is paused: skipped {slot} of {}", batch.scheduled_at);
                    left_out.insert(job_id.clone());
                }
                runs
            });
        }
        Succession::default().arrange(&mut firing.batches, &self.jobs.current().jobs);
        // A later start must not take what was left out for what was overlooked.
        let paused = firing.positions.iter_mut();
        paused
            .filter(|position| left_out.contains(&position.job_id))
            .for_each(|position| position.began = Some(now));
        let something_fell_due = !firing.batches.is_empty() || !left_out.is_empty();
        let is_stored = something_fell_due || !self.positions.are_stored(&firing.positions);
        let planned = firing.positions.clone();
        let enqueued = if is_stored {
            self.queue.enqueue(firing, now).await?
        } else {
            Enqueued::default()
        };
        self.positions.advance(planned, is_stored);
        for batch in &enqueued.batches {
            let (items, slot) = (batch.total(), &batch.slot);
            metrics::counter!("punctual_batches_total", "job_id" => batch.job_id.to_string())
                .increment(1);
            if batch.trigger != Trigger::Prepare {
                let now = self.clock.now();
                self.lateness
                    .record(&batch.job_id, "queued", batch.scheduled_at, now);
            }
            let queued = amount(items as u64, "item");
            info!(batch_id = %batch.batch_id, job_id = %batch.job_id, slot, items, scheduled_at = %batch.scheduled_at,
                "Queued batch {} of {}: {queued} of {slot}", batch.batch_id, batch.job_id);
        }
        Ok(enqueued)
    }
}

pub(crate) fn earlier(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// How long to sleep from `now` until `next`, within bounds.
pub(crate) fn until(next: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    next.map_or(LONGEST_SLEEP, |next| {
        (next - now).to_std().unwrap_or_default()
    })
    .min(LONGEST_SLEEP)
}

#[cfg(test)]
mod tests {
    use punctual_application::{ports::MockItemSource, testing::ManualClock};
    use punctual_domain::{BatchConfig, ItemId, JobId, Priority};
    use punctual_store::Store;
    use sqlx::{
        Connection,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    };

    use super::*;

    #[tokio::test]
    async fn a_full_store_is_noted_until_it_takes_batches_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new()
            .filename(folder.path().join("store.db"))
            .create_if_missing(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(file)
            .await
            .unwrap();
        let store = Store::in_sqlite(pool.clone(), "").await.unwrap();
        let due = "2026-03-01T09:00:00Z".parse().unwrap();
        let tenants: Vec<ItemId> = (0..2_000)
            .map(|n| ItemId::new(format!("t{n}")).unwrap())
            .collect();
        let batch = NewBatch::new(
            &JobId::new("job").unwrap(),
            Priority::Medium,
            "daily 09:00 UTC".to_owned(),
            due,
            "2026-03-01".parse().unwrap(),
            Trigger::Schedule,
            due,
            &tenants,
            1,
        );
        let firing = || Firing {
            batches: vec![batch.clone()],
            positions: vec![],
        };
        let options = SchedulerOptions {
            chunk_size: 1,
            look_back: TimeDelta::zero(),
        };
        let failures = ActiveFailures::default();
        let mut scheduler = BatchScheduler::new(
            BatchConfig { jobs: vec![] },
            Arc::new(MockItemSource::new()),
            Arc::new(store),
            Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z")),
            options,
        )
        .with_failures(failures.clone());
        let room = async |pages: u32| {
            let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
            sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        };
        room(1).await;
        scheduler.fire(firing(), due).await.unwrap_err();
        let [failure] = failures.list(due).try_into().unwrap();
        assert_eq!(failure.operation, Operation::EnqueueDueBatches);
        assert!(failure.reason.contains("full"), "{failure:?}");
        room(1_000_000).await;
        scheduler.fire(firing(), due).await.unwrap();
        assert_eq!(failures.list(due), []);
    }
}
