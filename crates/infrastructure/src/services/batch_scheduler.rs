//! The plain scheduler: jobs with a fixed schedule. One clock read a tick; what is due between the last tick
//! and now is asked of the planner and handed to the queue together with the new progress.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ActiveFailures, Jobs, Operation, chunk_size_of, item_ids,
    ports::{Clock, Enqueued, ItemSource, ItemSourceError, Leadership, StoreError, WorkQueue},
};
use punctual_domain::{
    Firing, Horizon, JobConfig, JobId, NewBatch, Progress, Schedule, Source, TenantId, Work,
    plan_fixed,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::lateness::Lateness;

/// The longest sleep: after it the wall clock is read again, whatever it has done meanwhile.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Progress is written down at least this often, even when nothing fell due.
const WRITE_DOWN_EVERY: TimeDelta = TimeDelta::seconds(60);

/// How long a process stays the one to fire without a sign of life, and how often it gives one.
const TERM: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Whether this process fires.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) leads: bool,
    /// Whether it has just become the one who does.
    pub(crate) begins: bool,
    /// When to ask again, at the latest.
    pub(crate) ends: Duration,
}

/// Settings of both schedulers.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Items a chunk holds at most.
    pub chunk_size: usize,
    /// How far back the first plan of a job reaches that has never been planned.
    pub look_back: TimeDelta,
}

/// Plans jobs with a fixed schedule.
pub struct BatchScheduler {
    pub(crate) jobs: Jobs,
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: SchedulerOptions,
    pub(crate) failures: ActiveFailures,
    item_source: Arc<dyn ItemSource>,
    planned: HashMap<JobId, Planned>,
    lateness: Lateness,
    /// What the store knows this process by.
    process: Uuid,
    leads: bool,
}

/// How far a job has been planned, and how much of that is written down.
#[derive(Debug, Clone)]
struct Planned {
    next: Start,
    written_down: Option<DateTime<Utc>>,
}

/// Where a job's next plan begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Start {
    pub(crate) horizon: Horizon,
    /// When the job began, if that is known.
    pub(crate) began: Option<DateTime<Utc>>,
    /// What the last run of the agent had seen of the preferences.
    pub(crate) seen_until: Option<DateTime<Utc>>,
    /// How the last plan had placed the tenants.
    pub(crate) placement: Option<String>,
}

/// Why a job with a fixed schedule cannot be planned now.
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
            item_source,
            queue,
            clock,
            options,
            failures: ActiveFailures::default(),
            planned: HashMap::new(),
            lateness: Lateness::default(),
            process: Uuid::new_v4(),
            leads: false,
        }
    }

    /// The same, which notes what fails in `failures`.
    #[must_use]
    pub fn with_failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    /// Plans until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let now = self.clock.now();
            let watch = self.watch().await;
            let sleep = if watch.leads {
                let (firing, next) = self.plan(now).await;
                match self.fire(firing, now).await {
                    Ok(_) => until(next, now).min(watch.ends),
                    Err(error) => {
                        error!(%error, "What fell due cannot be stored ({error}); it is tried again in 1 s");
                        Duration::from_secs(1)
                    }
                }
            } else {
                watch.ends
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(sleep) => {}
                () = stop.cancelled() => {}
            }
        }
        self.step_down().await;
    }

    /// Whether this process is the one to fire. Who has not been until now looks up how far others have come.
    pub(crate) async fn watch(&mut self) -> Watch {
        let process = self.process;
        let led = self.queue.lead(process, TERM).await;
        let now = self.clock.now();
        self.failures.note(Operation::AcquireLeadership, &led, now);
        let (leads, ends) = match led {
            Ok(Leadership::Always) => (true, LONGEST_SLEEP),
            Ok(Leadership::Granted) => (true, ASK_AGAIN),
            Ok(Leadership::Refused) => (false, ASK_AGAIN),
            Err(error) => {
                error!(%error, "Who is to fire cannot be known ({error}); it is asked again in 1 s");
                return Watch {
                    leads: false,
                    begins: false,
                    ends: Duration::from_secs(1),
                };
            }
        };
        let begins = leads && !self.leads;
        if begins {
            self.planned.clear();
        }
        if leads != self.leads && ends < LONGEST_SLEEP {
            let word = if leads { "fires" } else { "no longer fires" };
            info!(%process, "This process {word} what falls due");
        }
        if !leads {
            // Another process plans, and knows better.
            self.failures.forget(|operation| {
                matches!(
                    operation,
                    Operation::EnqueueDueBatches | Operation::PlanJob(_)
                )
            });
        }
        self.leads = leads;
        metrics::gauge!("punctual_leads").set(f64::from(u8::from(leads)));
        Watch {
            leads,
            begins,
            ends,
        }
    }

    /// Lets another process fire at once.
    pub(crate) async fn step_down(&mut self) {
        if self.leads
            && let Err(error) = self.queue.lead(self.process, Duration::ZERO).await
        {
            warn!(%error, "Others fire only when the term of this process has run out: {error}");
        }
    }

    /// What the fixed schedules have to run until `now`, and when the next one falls due. A job whose items
    /// cannot be read keeps its place and is tried again with the next tick.
    pub(crate) async fn plan(&mut self, now: DateTime<Utc>) -> (Firing, Option<DateTime<Utc>>) {
        let mut firing = Firing {
            batches: Vec::new(),
            progress: Vec::new(),
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
                Ok((horizon, batches)) => {
                    self.failures
                        .succeeded(&Operation::PlanJob(job.job_id.clone()));
                    firing.batches.extend(batches);
                    firing.progress.push(progress(job, &horizon, now));
                    next = earlier(next, schedule.next_after(now));
                }
                Err(error) => {
                    self.failures
                        .failed(Operation::PlanJob(job.job_id.clone()), &error, now);
                    error!(job_id = %job.job_id, reason = %error, "Job {} cannot be planned: {error}", job.job_id);
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
    ) -> Result<(Horizon, Vec<NewBatch>), PlanError> {
        let horizon = self.start(&job.job_id, now).await?.horizon;
        let due = plan_fixed(schedule, job.catch_up, horizon.until(), now);
        if due.is_empty() {
            return Ok((horizon, Vec::new()));
        }
        let categories = self.item_source.load(sources).await?;
        let items = item_ids(job.kind, &categories, recipients);
        if items.is_empty() {
            info!(job_id = %job.job_id, "Job {} fell due, but its source has no items", job.job_id);
            return Ok((horizon, Vec::new()));
        }
        let batch = |(instant, occurrence)| {
            NewBatch::new(
                &job.job_id,
                job.priority,
                schedule.to_string(),
                instant,
                occurrence,
                horizon.trigger_at(instant),
                now,
                &items,
                chunk_size_of(job.kind, self.options.chunk_size),
            )
            .of_job(job, schedule.period_from(instant))
        };
        let batches = due.into_iter().map(batch).collect();
        Ok((horizon, batches))
    }

    /// Where a job's next plan begins: after the last one, or as far back as the options say.
    pub(crate) async fn start(
        &mut self,
        job_id: &JobId,
        now: DateTime<Utc>,
    ) -> Result<Start, StoreError> {
        if let Some(Planned { next, .. }) = self.planned.get_mut(job_id) {
            // The clock may have stepped back while the job was out of the file.
            next.horizon.move_to(next.horizon.until().min(now));
            return Ok(next.clone());
        }
        let stored = self.queue.progress(job_id).await?;
        let written_down = stored.as_ref().map(|progress| progress.scheduled_until);
        let mut horizon = stored.as_ref().map_or_else(
            || Horizon::at(now - self.options.look_back),
            Horizon::resume,
        );
        // The clock may have stepped back since.
        horizon.move_to(horizon.until().min(now));
        let began = match &stored {
            Some(progress) => progress.began,
            None => Some(horizon.until()),
        };
        let (seen_until, placement) = stored
            .map(|progress| (progress.seen_until, progress.placement))
            .unwrap_or_default();
        let next = Start {
            horizon,
            began,
            seen_until,
            placement,
        };
        // From now on the feed tells this process of every change, so nothing that was chosen before is late.
        let later = Start {
            seen_until: None,
            ..next.clone()
        };
        let planned = Planned {
            next: later,
            written_down,
        };
        self.planned.insert(job_id.clone(), planned);
        Ok(next)
    }

    /// When a job began, if that is known.
    pub(crate) fn began(&self, job_id: &JobId) -> Option<DateTime<Utc>> {
        self.planned.get(job_id)?.next.began
    }

    /// Stores a firing. Progress alone is written down now and then: without it the next start plans a
    /// stretch again in which nothing fell due.
    pub(crate) async fn fire(
        &mut self,
        firing: Firing,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, StoreError> {
        let stored = self.store(firing, now).await;
        let operation = Operation::EnqueueDueBatches;
        self.failures.note(operation, &stored, self.clock.now());
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
                if !runs {
                    info!(%job_id, slot, "Job {job_id} is paused: {slot} of {} is left out", batch.scheduled_at);
                    left_out.insert(job_id.clone());
                }
                runs
            });
        }
        // A later start must not take what was left out for what was overlooked.
        let paused = firing.progress.iter_mut();
        paused
            .filter(|progress| left_out.contains(&progress.job_id))
            .for_each(|progress| progress.began = Some(now));
        let fresh = |progress: &Progress| {
            self.planned
                .get(&progress.job_id)
                .and_then(|planned| planned.written_down)
                .is_some_and(|written| {
                    let since = progress.scheduled_until - written;
                    (TimeDelta::zero()..WRITE_DOWN_EVERY).contains(&since)
                })
        };
        let something_fell_due = !firing.batches.is_empty() || !left_out.is_empty();
        let worth_writing = something_fell_due || !firing.progress.iter().all(fresh);
        let progress = firing.progress.clone();
        let enqueued = if worth_writing {
            self.queue.enqueue(firing, now).await?
        } else {
            Enqueued::default()
        };
        for progress in progress {
            if let Some(planned) = self.planned.get_mut(&progress.job_id) {
                planned.next.horizon.move_to(progress.scheduled_until);
                planned.next.began = progress.began.or(planned.next.began);
                planned.next.placement = progress.placement;
                if worth_writing {
                    planned.written_down = Some(progress.scheduled_until);
                }
            }
        }
        for batch in &enqueued.batches {
            let (items, slot) = (batch.total(), &batch.slot);
            metrics::counter!("punctual_batches_total", "job_id" => batch.job_id.to_string())
                .increment(1);
            let now = self.clock.now();
            self.lateness
                .tell(&batch.job_id, "queued", batch.scheduled_at, now);
            info!(batch_id = %batch.batch_id, job_id = %batch.job_id, slot, items, scheduled_at = %batch.scheduled_at,
                "Batch {} of {} is queued: {items} items of {slot}", batch.batch_id, batch.job_id);
        }
        Ok(enqueued)
    }
}

/// The progress of a job once everything until `now` has been planned.
pub(crate) fn progress(job: &JobConfig, horizon: &Horizon, now: DateTime<Utc>) -> Progress {
    Progress {
        job_id: job.job_id.clone(),
        scheduled_until: now,
        furthest_until: horizon.furthest_until().max(now),
        seen_until: None,
        began: None,
        placement: None,
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
