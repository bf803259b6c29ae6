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
    DueGroup, FeatureType, Horizon, JobConfig, JobId, Mirror, NewBatch, TenantId, Work, Zone,
    plan_mirror,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::feed::{FeedEvent, News};
pub use self::status::{JobStatus, MirrorHandle, SchedulerStatus, SlotStatus, StatusHandle};
use crate::services::batch_scheduler::{BatchScheduler, Start, earlier, progress, until};

/// Preferences stored this long before the last full read are looked at again after a restart: a Config Database may
/// tell what it stores a while later, and its clock is another one.
const TOLD_LATE: TimeDelta = TimeDelta::minutes(15);
/// Changes that come together and are told one by one in the log; more are told by their number.
const TOLD_ONE_BY_ONE: usize = 20;
/// Feed events that may wait for the scheduler; then the feeds wait.
const EVENTS: usize = 16;

/// Plans fixed schedules and preferences.
pub struct DynamicBatchScheduler {
    base: BatchScheduler,
    config_database: Arc<dyn ConfigDatabase>,
    poll_interval: Duration,
    random: fn() -> f64,
    default_zone: Zone,
    mirrors: Vec<JobMirror>,
    status: StatusHandle,
}

/// What ends a feed, and its end.
type Feed = (CancellationToken, JoinHandle<()>);

/// A preference-based job and the tenants it serves.
struct JobMirror {
    job: JobConfig,
    feature_type: FeatureType,
    mirror: MirrorHandle,
    /// Whether the mirror knows until when the job has been planned.
    started: bool,
    /// The feed has brought everything stored until then.
    seen_until: Option<DateTime<Utc>>,
    /// When everything was last read, here or in the agent's last run. What the feed has brought since may have gaps.
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
        let mut scheduler = Self {
            base,
            config_database,
            poll_interval,
            random,
            default_zone: default_zone.clone(),
            mirrors: Vec::new(),
            status: StatusHandle::default(),
        };
        scheduler.take_jobs();
        scheduler
    }

    /// Takes the jobs that are in force now. Returns the features that must be read anew, because a job has come to
    /// one or serves it otherwise.
    fn take_jobs(&mut self) -> BTreeSet<FeatureType> {
        let mut before = std::mem::take(&mut self.mirrors);
        let mut to_read = BTreeSet::new();
        for job in &self.base.jobs.current().jobs {
            let Some(new) = JobMirror::of(job, &self.default_zone) else {
                continue;
            };
            let kept = before.iter().position(|old| old.serves_as(&new));
            let mirror = match kept {
                Some(index) => JobMirror {
                    job: new.job,
                    ..before.swap_remove(index)
                },
                None => {
                    to_read.insert(new.feature_type.clone());
                    new
                }
            };
            self.mirrors.push(mirror);
        }
        to_read
    }

    /// What the scheduler knows, for pages and checks of health.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Follows the feeds and plans until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let (sender, mut events) = mpsc::channel(EVENTS);
        let mut jobs_changed = self.base.jobs.subscribe();
        let mut feeds = HashMap::new();
        for feature_type in self.features() {
            let feed = self.start_feed(&feature_type, &sender, &stop);
            feeds.insert(feature_type, feed);
        }
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
                Ok(()) = jobs_changed.changed() => {
                    let to_read = self.take_jobs();
                    let features = self.features();
                    feeds.retain(|feature_type, (ends, _): &mut Feed| {
                        let stays = features.contains(feature_type) && !to_read.contains(feature_type);
                        if !stays {
                            ends.cancel();
                        }
                        stays
                    });
                    for feature_type in to_read {
                        let feed = self.start_feed(&feature_type, &sender, &stop);
                        feeds.insert(feature_type, feed);
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        for (_, feed) in feeds.into_values() {
            // A feed ends with `stop`; one that panicked has been reported by the runtime.
            let _ = feed.await;
        }
        info!("The scheduler has stopped");
    }

    fn features(&self) -> BTreeSet<FeatureType> {
        let features = self.mirrors.iter().map(|mirror| &mirror.feature_type);
        features.cloned().collect()
    }

    fn start_feed(
        &self,
        feature_type: &FeatureType,
        events: &mpsc::Sender<FeedEvent>,
        stop: &CancellationToken,
    ) -> Feed {
        let feed = feed::Feed {
            feature_type: feature_type.clone(),
            config_database: Arc::clone(&self.config_database),
            clock: Arc::clone(&self.base.clock),
            poll_interval: self.poll_interval,
            random: self.random,
            events: events.clone(),
        };
        let ends = stop.child_token();
        (ends.clone(), tokio::spawn(feed.follow(ends)))
    }

    /// Plans everything until `now`, stores it, and says how long to sleep.
    async fn tick(&mut self, now: DateTime<Utc>) -> Duration {
        let (mut firing, mut next) = self.base.plan(now).await;
        for index in 0..self.mirrors.len() {
            // What is not known yet is not planned: nothing runs on a guess.
            if !self.mirrors[index].mirror.read(Mirror::is_loaded)
                || !self.is_started(index, now).await
            {
                continue;
            }
            let mirror = &self.mirrors[index];
            firing
                .batches
                .extend(mirror.plan(now, self.base.options.chunk_size));
            let horizon = mirror.mirror.read(|mirror| mirror.horizon().cloned());
            let horizon = horizon.unwrap_or_else(|| Horizon::at(now));
            firing
                .progress
                .push(progress(&mirror.job, &horizon, now, mirror.complete_at));
        }
        let planned: Vec<JobId> = firing
            .progress
            .iter()
            .map(|progress| progress.job_id.clone())
            .collect();
        match self.base.fire(firing, now).await {
            Ok(_) => {
                for mirror in &self.mirrors {
                    if planned.contains(&mirror.job.job_id) {
                        let next_due = mirror.mirror.write(|mirror| {
                            mirror.set_planned_until(now);
                            mirror.next_due()
                        });
                        next = earlier(next, next_due);
                    }
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
            self.is_started(index, now).await;
            self.mirrors[index].take(&news, now);
        }
    }

    /// Whether it is known until when a job has been planned; looks it up the first time.
    async fn is_started(&mut self, index: usize, now: DateTime<Utc>) -> bool {
        if self.mirrors[index].started {
            return true;
        }
        let job_id = self.mirrors[index].job.job_id.clone();
        match self.base.start(&job_id, now).await {
            Ok(Start {
                horizon,
                seen_until,
            }) => {
                let mirror = &mut self.mirrors[index];
                mirror.mirror.write(|mirror| mirror.set_horizon(horizon));
                mirror.complete_at = mirror.complete_at.or(seen_until);
                mirror.started = true;
                true
            }
            Err(error) => {
                error!(%job_id, %error, "Job {job_id} cannot be planned, its progress cannot be read: {error}");
                false
            }
        }
    }

    fn publish(&self, now: DateTime<Utc>) {
        let jobs: HashMap<JobId, JobStatus> = self
            .mirrors
            .iter()
            .map(|mirror| (mirror.job.job_id.clone(), mirror.status()))
            .collect();
        for (job_id, status) in &jobs {
            let job_id = job_id.to_string();
            metrics::gauge!("punctual_scheduled_tenants", "job_id" => job_id.clone())
                .set(status.tenants as f64);
            metrics::gauge!("punctual_quarantined_preferences", "job_id" => job_id)
                .set(status.quarantined as f64);
        }
        self.status.publish(SchedulerStatus {
            jobs,
            planned_until: Some(now),
        });
    }
}

impl JobMirror {
    /// An empty mirror for a job, if it follows preferences.
    fn of(job: &JobConfig, default_zone: &Zone) -> Option<Self> {
        let Work::Preferences {
            feature_type,
            defaults,
            spread_minutes,
        } = &job.work
        else {
            return None;
        };
        let mirror = Mirror::new((**defaults).clone(), default_zone.clone(), *spread_minutes);
        Some(Self {
            job: job.clone(),
            feature_type: feature_type.clone(),
            mirror: MirrorHandle::new(mirror),
            started: false,
            seen_until: None,
            complete_at: None,
            trouble: None,
        })
    }

    /// Whether its tenants stand where they would stand for the other.
    fn serves_as(&self, other: &Self) -> bool {
        self.job.job_id == other.job.job_id && self.job.work == other.job.work
    }

    fn plan(&self, now: DateTime<Utc>, chunk_size: usize) -> Vec<NewBatch> {
        let job = &self.job;
        let due = self
            .mirror
            .read(|mirror| plan_mirror(mirror, job.catch_up, now));
        due.into_iter()
            .map(
                |DueGroup {
                     slot,
                     scheduled_at,
                     occurrence,
                     trigger,
                     tenants,
                 }| {
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

    fn take(&mut self, news: &News, now: DateTime<Utc>) {
        let job_id = &self.job.job_id;
        match news {
            News::Snapshot { records, read_at } => {
                let unseen_since = self.complete_at.map(|complete_at| complete_at - TOLD_LATE);
                let (first, difference, tenants, groups) = self.mirror.write(|mirror| {
                    let first = !mirror.is_loaded();
                    let difference = mirror.replace(records, unseen_since);
                    (first, difference, mirror.len(), mirror.group_count())
                });
                self.complete_at = Some(*read_at);
                if first {
                    info!(%job_id, tenants, groups, "Job {job_id} serves {tenants} tenants in {groups} groups");
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
                self.mirror.write(|mirror| {
                    for change in changes {
                        mirror.apply(change, now);
                    }
                });
                if changes.len() > TOLD_ONE_BY_ONE {
                    let count = changes.len();
                    info!(%job_id, count, "{count} preferences have changed in {job_id}");
                } else {
                    changes
                        .iter()
                        .for_each(|change| self.tell(&change.tenant_id));
                }
                metrics::counter!("punctual_changes_total", "job_id" => job_id.to_string())
                    .increment(changes.len() as u64);
                self.seen_until = Some(*read_at);
                self.trouble = None;
            }
            News::Trouble(reason) => self.trouble = Some(reason.clone()),
        }
    }

    /// Tells where a change has put a tenant.
    fn tell(&self, tenant: &TenantId) {
        let job_id = &self.job.job_id;
        let (slot, errors) = self.mirror.read(|mirror| {
            (
                mirror.slot_of(tenant),
                mirror.quarantine().get(tenant).cloned(),
            )
        });
        match (slot, errors) {
            (Some(slot), _) => {
                info!(%job_id, %tenant, %slot, "{tenant} is due {slot} in {job_id}");
            }
            (None, Some(errors)) => warn!(%job_id, %tenant, %errors,
                "{tenant} has stopped in {job_id}: the preference cannot be used: {errors}"),
            (None, None) => info!(%job_id, %tenant, "{tenant} is off in {job_id}"),
        }
    }

    fn status(&self) -> JobStatus {
        self.mirror.read(|mirror| JobStatus {
            feature_type: self.feature_type.clone(),
            loaded: mirror.is_loaded(),
            tenants: mirror.len(),
            quarantined: mirror.quarantine().len(),
            next_due: mirror.next_due(),
            seen_until: self.seen_until,
            trouble: self.trouble.clone(),
            mirror: self.mirror.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
