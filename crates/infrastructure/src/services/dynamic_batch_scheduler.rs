//! The scheduler that follows preferences. It owns a [`BatchScheduler`] for the fixed schedules and adds a
//! mirror for every preference-based job, kept current by the feed of changes. The tick is one: what falls
//! due of either kind is stored in one transaction with the positions of both.

mod erasing;
mod feed;
mod job_mirror;
mod prepare_ahead;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use punctual_application::{
    JobStatus, Operation, StatusHandle,
    ports::{ConfigDatabase, StoreError, TenantRecords},
};
use punctual_domain::{ChangeKind, FeatureType, JobId, Mirror, Placement, StoredPosition, Zone};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{
    erasing::Eraser,
    feed::{FeedEvent, News},
    job_mirror::JobMirror,
};
use crate::services::batch_scheduler::{
    BatchScheduler, LONGEST_SLEEP, RETRY_AFTER, earlier, until,
};

/// No time at all.
const NEVER: Range<DateTime<Utc>> = DateTime::UNIX_EPOCH..DateTime::UNIX_EPOCH;

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
    /// Erases in the agent's own store; `None`: it is not to.
    eraser: Option<Arc<Eraser>>,
    leads: bool,
    /// While the clock stands in it, there is nothing to plan: everything before it has been planned, nothing falls due in
    /// it, and no news have come that could change that.
    quiet: Range<DateTime<Utc>>,
    /// When something falls due next, as the last plan says.
    next_due: Option<DateTime<Utc>>,
}

/// What ends a feed, and its end.
type Feed = (CancellationToken, JoinHandle<()>);

impl DynamicBatchScheduler {
    /// A scheduler on top of `base`, that asks `config_database` for changes every `poll_interval`, or as much more
    /// often as `random` says, a number from 0 up to 1, where the server cannot hold a call until there is one. A call that
    /// panics or hangs ends the following of its feature, so [`Guarded`](crate::Guarded) stands before what is not known to
    /// do neither.
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
            eraser: None,
            leads: false,
            quiet: NEVER,
            next_due: None,
        };
        scheduler.take_jobs();
        scheduler
    }

    /// The same, which erases what `records` hold of each tenant that the Config Database has erased.
    #[must_use]
    pub fn with_tenant_records(mut self, records: Arc<dyn TenantRecords>) -> Self {
        let clock = Arc::clone(&self.base.clock);
        let config_database = Arc::clone(&self.config_database);
        self.eraser = Some(Arc::new(Eraser::new(records, config_database, clock)));
        self
    }

    /// Takes the jobs that are in effect now. Returns the features that must be read anew, because a job has come to
    /// one or serves it otherwise.
    fn take_jobs(&mut self) -> BTreeSet<FeatureType> {
        self.quiet = NEVER;
        let mut before = std::mem::take(&mut self.mirrors);
        let mut to_read = BTreeSet::new();
        for job in &self.base.jobs.current().jobs {
            let Some(new) = JobMirror::of(job, &self.default_zone) else {
                continue;
            };
            let kept = before.iter().position(|old| old.serves_as(&new));
            let mirror = if let Some(index) = kept {
                let mut mirror = before.swap_remove(index);
                if mirror.job.purpose_id != new.job.purpose_id {
                    mirror.prepared.forget();
                }
                mirror.job = new.job;
                mirror.take_zone_rules();
                mirror
            } else {
                to_read.insert(new.feature_type.clone());
                new
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

    /// Whether this process is the leader, as far as it knows: while the store does not answer, whether it was before.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.base.leads()
    }

    /// Follows the feeds and plans until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let (sender, mut events) = mpsc::channel(EVENTS);
        let mut jobs_changed = self.base.jobs.subscribe();
        // They may have been replaced since this scheduler was made.
        self.take_jobs();
        let mut feeds = HashMap::new();
        for feature_type in self.features() {
            let feed = self.start_feed(&feature_type, &sender, &stop);
            feeds.insert(feature_type, feed);
        }
        let erasing = self.eraser.clone();
        let erasing = erasing.map(|eraser| tokio::spawn(eraser.run(stop.clone())));
        // Nothing has been planned yet.
        self.publish(None);
        let mut wake = Instant::now();
        while !stop.is_cancelled() {
            let now = self.base.clock.now();
            // An answer without changes is only noted: with many features there are many of them.
            if Instant::now() >= wake || self.leads && !self.quiet.contains(&now) {
                // However long it takes, the next due moment is counted from now.
                let began = Instant::now();
                wake = began + self.tick(now).await;
            } else {
                self.publish(Some(now));
            }
            tokio::select! {
                // In one order, so that a simulation is the same each time. News come first: it is planned with at
                // once, while a sleep that is over at once would keep it waiting.
                biased;
                Some(event) = events.recv() => {
                    self.take(event).await;
                    // A snapshot of many pages does not keep what is due waiting.
                    for _ in 0..EVENTS {
                        match events.try_recv() {
                            Ok(event) => self.take(event).await,
                            Err(_) => break,
                        }
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
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled() => {}
            }
        }
        self.base.leadership.step_down().await;
        for (_, feed) in feeds.into_values() {
            // A feed ends with `stop`; panics of the Config Database are errors of their calls.
            let _ = feed.await;
        }
        if let Some(erasing) = erasing {
            let _ = erasing.await;
        }
        info!("Scheduler stopped");
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
        let ends = stop.child_token();
        let feed = feed::Feed {
            ends: ends.clone(),
            feature_type: feature_type.clone(),
            config_database: Arc::clone(&self.config_database),
            clock: Arc::clone(&self.base.clock),
            poll_interval: self.poll_interval,
            random: self.random,
            events: events.clone(),
            asks_for_erased: self.eraser.is_some(),
        };
        (ends, tokio::spawn(feed.follow()))
    }

    /// Sees to it that everything until `now` is planned, and says how long to sleep.
    async fn tick(&mut self, now: DateTime<Utc>) -> Duration {
        let leader = self.base.lead().await;
        self.leads = leader.is_leader;
        if leader.is_new {
            self.quiet = NEVER;
            for mirror in &mut self.mirrors {
                mirror.started = false;
                mirror.prepared.forget();
            }
            if let Some(eraser) = &self.eraser {
                eraser.name_again();
            }
        }
        let sleep = if !self.leads {
            self.publish(Some(now));
            LONGEST_SLEEP
        } else if self.quiet.contains(&now) {
            self.publish(Some(now));
            until(Some(self.quiet.end), now)
        } else {
            match self.plan(now).await {
                Ok(again) => until(Some(again), now),
                Err(_) => RETRY_AFTER,
            }
        };
        leader.until_renewal(sleep)
    }

    /// Plans everything until `now` and stores it. Returns when to plan again if no news come.
    async fn plan(&mut self, now: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError> {
        self.quiet = NEVER;
        let (mut firing, mut next) = self.base.plan(now).await;
        let mut unknown = 0;
        for index in 0..self.mirrors.len() {
            // What is not known yet is not planned: nothing runs on a guess.
            if !self.mirrors[index].mirror.read(Mirror::is_loaded) {
                unknown += 1;
                continue;
            }
            if !self.is_started(index, now).await {
                continue;
            }
            let mirror = &self.mirrors[index];
            firing.batches.extend(mirror.plan(
                now,
                self.base.options.chunk_size,
                &self.base.positions.sharding,
            ));
            firing.batches.extend(mirror.plan_ahead(
                now,
                self.base.options.chunk_size,
                &self.base.positions.sharding,
            ));
            let job_id = &mirror.job.job_id;
            if let Some(start) = self.base.positions.of(job_id) {
                firing.positions.push(StoredPosition {
                    snapshot_at: mirror.snapshot_at,
                    began: mirror.began,
                    placement: Some(mirror.placement.to_text()),
                    ..start.planned(job_id, now)
                });
            }
        }
        // A job that cannot be planned is retried with the next tick or answer.
        let is_complete = firing.positions.len() + unknown == self.base.jobs.current().jobs.len();
        let planned: HashSet<JobId> = firing
            .positions
            .iter()
            .map(|position| position.job_id.clone())
            .collect();
        self.base.fire(firing, now).await?;
        for mirror in &mut self.mirrors {
            let job_id = &mirror.job.job_id;
            if let Some(start) = self.base.positions.of(job_id)
                && planned.contains(job_id)
            {
                mirror.began = start.began;
                mirror.prepared.advance(mirror.job.prepare_ahead, now);
                let (before, next_due) = mirror.mirror.write(|mirror| {
                    let before = mirror.next_due();
                    mirror.set_position(start.position.clone());
                    (before, mirror.next_due())
                });
                mirror.is_shown &= before == next_due;
                next = earlier(next, next_due);
            }
        }
        self.next_due = next;
        self.publish(Some(now));
        let store_at = self.base.positions.store_at(&planned);
        let again =
            earlier(next, store_at).map_or(now + LONGEST_SLEEP, |at| at.min(now + LONGEST_SLEEP));
        if is_complete {
            self.quiet = now..again;
        }
        Ok(again)
    }

    /// Takes news of a feed into the mirrors of its feature.
    async fn take(
        &mut self,
        FeedEvent {
            feature_type,
            ends,
            news,
        }: FeedEvent,
    ) {
        if ends.is_cancelled() {
            return;
        }
        let now = self.base.clock.now();
        if let News::SnapshotEnds { records: 0, .. } = &news {
            warn!(
                %feature_type,
                "No users found for feature_type \"{feature_type}\". Check that preferences for it are stored \
                 and enabled: GET /api/v1/preferences/groups?feature_type={feature_type} of the Config Database"
            );
        }
        let changes_nothing = match &news {
            News::Changes { changes, .. } => changes.is_empty(),
            News::Erased(_) | News::Trouble(_) => true,
            _ => false,
        };
        if !changes_nothing {
            self.quiet = NEVER;
        }
        for index in 0..self.mirrors.len() {
            if self.mirrors[index].feature_type != feature_type {
                continue;
            }
            self.is_started(index, now).await;
            self.mirrors[index].take(&news, now);
        }
        let Some(eraser) = &self.eraser else {
            return;
        };
        // The jobs of this feature plan nothing for them any more.
        match &news {
            News::Changes { changes, .. } => {
                for change in changes {
                    if change.kind == ChangeKind::Erased {
                        let erased_at = change.changed_at.unwrap_or(now);
                        eraser.add(&feature_type, &change.tenant_id, erased_at);
                    }
                }
            }
            News::Erased(erased) => eraser.add_all(&feature_type, erased),
            _ => {}
        }
    }

    /// Whether it is known until when a job has been planned; looks it up the first time.
    async fn is_started(&mut self, index: usize, now: DateTime<Utc>) -> bool {
        if self.mirrors[index].started {
            return true;
        }
        let job_id = self.mirrors[index].job.job_id.clone();
        match self.base.positions.start(&job_id, now).await {
            Ok(start) => {
                let mirror = &mut self.mirrors[index];
                mirror
                    .mirror
                    .write(|mirror| mirror.set_position(start.position));
                let before = start.placement.as_deref().and_then(Placement::parse);
                let is_same = |before: &Placement| before.is_of_feature(&mirror.feature_type);
                if before.as_ref().is_none_or(is_same) {
                    mirror.snapshot_at = mirror.snapshot_at.or(start.snapshot_at);
                    mirror.began = mirror.began.max(start.began);
                    if let Some(before) = before {
                        mirror.placed_as(before);
                    }
                } else {
                    // With the tenants of another feature it begins anew.
                    mirror.began = Some(now);
                }
                mirror.started = true;
                mirror.is_shown = false;
                self.base.failures.succeeded(&Operation::PlanJob(job_id));
                true
            }
            Err(error) => {
                self.base
                    .failures
                    .failed(Operation::PlanJob(job_id.clone()), &error, now);
                error!(%job_id, %error, "Failed to read the progress of job {job_id}, the job is \
                    not planned: {error}");
                false
            }
        }
    }

    /// Shows what has changed of the jobs, and until when everything has been planned.
    fn publish(&mut self, planned_until: Option<DateTime<Utc>>) {
        let mut changed: Vec<(JobId, JobStatus)> = Vec::new();
        for mirror in self.mirrors.iter_mut().filter(|mirror| !mirror.is_shown) {
            let unreadable = self.config_database.unreadable(&mirror.feature_type);
            let status = mirror.status(unreadable.count());
            mirror.is_shown = true;
            let job_id = mirror.job.job_id.to_string();
            metrics::gauge!("punctual_scheduled_tenants", "job_id" => job_id.clone())
                .set(status.tenants as f64);
            metrics::gauge!("punctual_quarantined_preferences", "job_id" => job_id.clone())
                .set(status.quarantined as f64);
            if let Some(seen) = status.seen_until {
                metrics::gauge!("punctual_preferences_seen_timestamp_seconds", "job_id" => job_id)
                    .set(seen.timestamp() as f64);
            }
            changed.push((mirror.job.job_id.clone(), status));
        }
        if let (true, Some(now)) = (self.leads, planned_until) {
            metrics::gauge!("punctual_planned_timestamp_seconds").set(now.timestamp() as f64);
        }
        self.status.update(|status| {
            status.planned_until = planned_until;
            status.leads = self.leads;
            status.next_due = self.next_due.filter(|_| self.leads);
            status.jobs.extend(changed);
            if status.jobs.len() > self.mirrors.len() {
                // A job has left the file.
                let ids: HashSet<&JobId> = self
                    .mirrors
                    .iter()
                    .map(|mirror| &mirror.job.job_id)
                    .collect();
                status.jobs.retain(|job_id, _| ids.contains(job_id));
            }
        });
    }
}

#[cfg(test)]
mod tests;
