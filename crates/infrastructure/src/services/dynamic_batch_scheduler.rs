//! The scheduler that follows preferences. It owns a [`BatchScheduler`] for the fixed schedules and adds a
//! mirror for every preference-based job, kept current by the feed of changes. The tick is one: what falls
//! due of either kind is stored in one transaction with the progress of both.

mod feed;
mod status;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::ConfigDatabase;
use punctual_domain::{
    DueGroup, FeatureType, JobConfig, JobId, Mirror, NewBatch, Progress, Trigger, Work, Zone,
    plan_mirror,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::feed::{FeedEvent, News};
pub use self::status::{JobStatus, SchedulerStatus, SlotStatus, StatusHandle};
use crate::services::batch_scheduler::{BatchScheduler, Start, earlier, until};

/// How far apart the clocks of the Config Database and of the agent may be: preferences stored this long
/// before the last plan are looked at again after a restart.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);
/// Feed events that may wait for the scheduler; then the feeds wait.
const EVENTS: usize = 16;

/// Plans fixed schedules and preferences.
pub struct DynamicBatchScheduler {
    base: BatchScheduler,
    config_database: Arc<dyn ConfigDatabase>,
    poll_interval: Duration,
    random: fn() -> f64,
    mirrors: Vec<JobMirror>,
    status: StatusHandle,
}

/// A preference-based job and the tenants it serves.
struct JobMirror {
    job: JobConfig,
    feature_type: FeatureType,
    spread_minutes: u32,
    mirror: Mirror,
    /// The feed has brought everything stored until then.
    seen_until: Option<DateTime<Utc>>,
    /// Until when everything is known to have been seen: by the last full read, or by the agent's last run.
    complete_at: Option<DateTime<Utc>>,
    /// Why the feed cannot be read now.
    trouble: Option<String>,
}

impl DynamicBatchScheduler {
    /// A scheduler on top of `base`, that asks `config_database` for changes every `poll_interval`, or as much more
    /// often as `random` says, a number from 0 up to 1, where the server cannot hold a call until there is one.
    pub fn new(
        base: BatchScheduler,
        config_database: Arc<dyn ConfigDatabase>,
        poll_interval: Duration,
        default_zone: &Zone,
        random: fn() -> f64,
    ) -> Self {
        let mirror_of = |job: &JobConfig| match &job.work {
            Work::Preferences {
                feature_type,
                defaults,
                spread_minutes,
            } => Some(JobMirror {
                job: job.clone(),
                feature_type: feature_type.clone(),
                spread_minutes: *spread_minutes,
                mirror: Mirror::new((**defaults).clone(), default_zone.clone()),
                seen_until: None,
                complete_at: None,
                trouble: None,
            }),
            Work::Fixed { .. } => None,
        };
        let mirrors = base.config.jobs.iter().filter_map(mirror_of).collect();
        Self {
            base,
            config_database,
            poll_interval,
            random,
            mirrors,
            status: StatusHandle::default(),
        }
    }

    /// What the scheduler knows, for pages and checks of health.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Follows the feeds and plans until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let (sender, mut events) = mpsc::channel(EVENTS);
        let features: BTreeSet<FeatureType> = self
            .mirrors
            .iter()
            .map(|m| m.feature_type.clone())
            .collect();
        let feeds = features.into_iter().map(|feature_type| {
            let feed = feed::Feed {
                feature_type,
                config_database: Arc::clone(&self.config_database),
                clock: Arc::clone(&self.base.clock),
                poll_interval: self.poll_interval,
                random: self.random,
                events: sender.clone(),
            };
            tokio::spawn(feed.follow(stop.clone()))
        });
        let feeds: Vec<_> = feeds.collect();
        drop(sender);
        self.publish(self.base.clock.now());
        while !stop.is_cancelled() {
            let now = self.base.clock.now();
            let sleep = self.tick(now).await;
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                Some(event) = events.recv() => {
                    self.take(event).await;
                    while let Ok(event) = events.try_recv() {
                        self.take(event).await;
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        for feed in feeds {
            // A feed ends with `stop`; one that panicked has been reported by the runtime.
            let _ = feed.await;
        }
        info!("The scheduler has stopped");
    }

    /// Plans everything until `now`, stores it, and says how long to sleep.
    async fn tick(&mut self, now: DateTime<Utc>) -> Duration {
        let (mut firing, mut next) = self.base.plan(now).await;
        for index in 0..self.mirrors.len() {
            let JobMirror { job, mirror, .. } = &self.mirrors[index];
            // What is not known yet is not planned: nothing runs on a guess.
            if !mirror.is_loaded() {
                continue;
            }
            let job_id = job.job_id.clone();
            let start = match self.base.start(&job_id, now).await {
                Ok(start) => start,
                Err(error) => {
                    error!(%job_id, %error, "Job {job_id} cannot be planned: {error}");
                    continue;
                }
            };
            let mirror = &self.mirrors[index];
            firing
                .batches
                .extend(mirror.plan(&start, now, self.base.options.chunk_size));
            firing.progress.push(Progress {
                job_id,
                scheduled_until: now,
                seen_until: mirror.seen_until,
            });
            next = earlier(next, mirror.next_due(now));
        }
        let planned: Vec<JobId> = firing
            .progress
            .iter()
            .map(|progress| progress.job_id.clone())
            .collect();
        match self.base.fire(firing, now).await {
            Ok(_) => {
                for mirror in self
                    .mirrors
                    .iter_mut()
                    .filter(|m| planned.contains(&m.job.job_id))
                {
                    mirror.mirror.planned();
                }
                self.publish(now);
                until(next, now)
            }
            Err(error) => {
                error!(%error, "What fell due cannot be stored ({error}); it is tried again in 1 s");
                Duration::from_secs(1)
            }
        }
    }

    /// Takes news of a feed into the mirrors of its feature.
    async fn take(&mut self, FeedEvent { feature_type, news }: FeedEvent) {
        let now = self.base.clock.now();
        if let News::Snapshot { records, .. } = &news
            && records.is_empty()
        {
            warn!(
                %feature_type,
                "No users found for feature_type \"{feature_type}\". Check that preferences for it are stored \
                 and enabled: GET /api/v1/preferences/groups?feature_type={feature_type} of the Config Database"
            );
        }
        for index in 0..self.mirrors.len() {
            if self.mirrors[index].feature_type != feature_type {
                continue;
            }
            let job_id = self.mirrors[index].job.job_id.clone();
            if self.mirrors[index].complete_at.is_none() {
                match self.base.start(&job_id, now).await {
                    Ok(start) => self.mirrors[index].complete_at = start.seen_until,
                    Err(error) => {
                        error!(%job_id, %error, "The progress of job {job_id} cannot be read: {error}");
                    }
                }
            }
            self.mirrors[index].take(&news, now);
        }
    }

    fn publish(&self, now: DateTime<Utc>) {
        let jobs: HashMap<JobId, JobStatus> = self
            .mirrors
            .iter()
            .map(|mirror| (mirror.job.job_id.clone(), mirror.status(now)))
            .collect();
        for (job_id, status) in &jobs {
            let job_id = job_id.to_string();
            metrics::gauge!("punctual_scheduled_tenants", "job_id" => job_id.clone())
                .set(status.tenants as f64);
            metrics::gauge!("punctual_slots", "job_id" => job_id.clone())
                .set(status.slots.len() as f64);
            metrics::gauge!("punctual_quarantined_preferences", "job_id" => job_id)
                .set(status.quarantine.len() as f64);
        }
        self.status.publish(SchedulerStatus {
            jobs,
            planned_until: Some(now),
        });
    }
}

impl JobMirror {
    fn plan(&self, start: &Start, now: DateTime<Utc>, chunk_size: usize) -> Vec<NewBatch> {
        let job = &self.job;
        plan_mirror(
            &self.mirror,
            job.catch_up,
            self.spread_minutes,
            start.from,
            now,
        )
        .into_iter()
        .map(
            |DueGroup {
                 slot,
                 scheduled_at,
                 occurrence,
                 late,
                 tenants,
             }| {
                let trigger = if late {
                    Trigger::LateChange
                } else {
                    Trigger::Schedule
                };
                let slot = slot.to_string();
                NewBatch::new(
                    &job.job_id,
                    job.priority,
                    slot,
                    scheduled_at,
                    occurrence,
                    trigger,
                    now,
                    &tenants,
                    chunk_size,
                )
            },
        )
        .collect()
    }

    /// When to look again. Spread tenants fall due at minutes of their own.
    fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.spread_minutes > 1 {
            return now.checked_add_signed(TimeDelta::seconds(60 - now.timestamp().rem_euclid(60)));
        }
        self.mirror
            .slots()
            .filter_map(|(slot, _)| slot.next_after(now))
            .min()
    }

    fn take(&mut self, news: &News, now: DateTime<Utc>) {
        let job_id = &self.job.job_id;
        match news {
            News::Snapshot { records, read_at } => {
                let first = !self.mirror.is_loaded();
                let unseen_since = self.complete_at.map(|complete_at| complete_at - CLOCK_SKEW);
                let difference = self.mirror.replace(records, unseen_since);
                self.complete_at = Some(*read_at);
                let (tenants, slots) = (self.mirror.len(), self.mirror.slots().count());
                if first {
                    info!(%job_id, tenants, slots, "Job {job_id} serves {tenants} tenants in {slots} slots");
                } else if difference.changed + difference.removed > 0 {
                    let (changed, removed) = (difference.changed, difference.removed);
                    metrics::counter!("punctual_feed_missed_total", "job_id" => job_id.to_string())
                        .increment((changed + removed) as u64);
                    warn!(%job_id, changed, removed,
                        "A full read for {job_id} found what the feed had not brought: {changed} changed and \
                         {removed} removed preferences; they are in force now");
                }
                self.seen_until = Some(*read_at);
                self.trouble = None;
            }
            News::Changes { changes, read_at } => {
                for change in changes {
                    self.mirror.apply(change, now);
                    let tenant = &change.tenant_id;
                    match (
                        self.mirror.slot_of(tenant),
                        self.mirror.quarantine().get(tenant),
                    ) {
                        (Some(slot), _) => {
                            info!(%job_id, %tenant, %slot, "{tenant} is due {slot} in {job_id}")
                        }
                        (None, Some(errors)) => warn!(%job_id, %tenant, %errors,
                            "{tenant} has stopped in {job_id}: the preference cannot be used: {errors}"),
                        (None, None) => info!(%job_id, %tenant, "{tenant} is off in {job_id}"),
                    }
                }
                metrics::counter!("punctual_changes_total", "job_id" => job_id.to_string())
                    .increment(changes.len() as u64);
                self.seen_until = Some(*read_at);
                self.trouble = None;
            }
            News::Trouble(reason) => self.trouble = Some(reason.clone()),
        }
    }

    fn status(&self, now: DateTime<Utc>) -> JobStatus {
        let slots = self.mirror.slots().map(|(slot, tenants)| SlotStatus {
            slot: slot.to_string(),
            tenants: tenants.len(),
            next: slot.next_after(now),
        });
        JobStatus {
            feature_type: self.feature_type.clone(),
            loaded: self.mirror.is_loaded(),
            tenants: self.mirror.len(),
            slots: slots.collect(),
            quarantine: self.mirror.quarantine().clone(),
            seen_until: self.seen_until,
            trouble: self.trouble.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
