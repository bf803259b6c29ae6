//! A preference-based job with the mirror of its tenants: takes what the feed brings, and says what is due.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{JobStatus, MirrorHandle, amount};
use punctual_domain::{
    ChangeKind, DueGroup, FeatureType, ItemId, JobConfig, Mirror, NewBatch, Placement, Reading,
    Sharding, TenantId, Work, Zone, plan_mirror,
};
use tracing::{info, warn};

use super::{feed::News, prepare_ahead::Prepared};

/// Preferences stored this long before the last full read are looked at again after a restart: a Config Database may
/// show what it stores a while later, and its clock is another one.
const SHOWN_LATE: TimeDelta = TimeDelta::minutes(15);
/// A change may become visible in the feed this long after it was stored.
const SHOWN_LATE_IN_FEED: TimeDelta = TimeDelta::minutes(2);
/// Most changes of one read that the log lists one by one; of more it states the number.
const LOGGED_ONE_BY_ONE: usize = 20;

/// A preference-based job and the tenants it serves.
pub(super) struct JobMirror {
    pub(super) job: JobConfig,
    pub(super) feature_type: FeatureType,
    pub(super) placement: Placement,
    /// How the tenants were placed until the job file was edited, while that is still to be made up for.
    pub(super) placed_before: Option<Placement>,
    /// When the job began, last had its placement edited, or last left something out for a pause: nothing from before it is
    /// planned late. `None`: the store does not say, or has not been asked.
    pub(super) began: Option<DateTime<Utc>>,
    pub(super) mirror: MirrorHandle,
    /// Whether the mirror knows until when the job has been planned.
    pub(super) started: bool,
    /// The feed has brought everything stored until then.
    pub(super) seen_until: Option<DateTime<Utc>>,
    /// When everything was last read, here or in the agent's last run. What the feed has brought since may have gaps.
    pub(super) snapshot_at: Option<DateTime<Utc>>,
    /// Why the feed cannot be read.
    pub(super) trouble: Option<String>,
    /// The snapshot whose pages are coming.
    pub(super) snapshot: Option<SnapshotRead>,
    /// How far its runs have been planned to be prepared.
    pub(super) prepared: Prepared,
    /// Whether the status shows the job as it is.
    pub(super) is_shown: bool,
}

/// A snapshot that has begun.
pub(super) struct SnapshotRead {
    /// How the tenants were placed before, where the snapshot makes up for it.
    moves_from: Option<Placement>,
}

impl JobMirror {
    /// An empty mirror for a job, if it follows preferences.
    pub(super) fn of(job: &JobConfig, default_zone: &Zone) -> Option<Self> {
        let Work::Preferences {
            feature_type,
            defaults,
            spread_minutes,
        } = &job.work
        else {
            return None;
        };
        let placement = Placement {
            feature_type: Some(feature_type.clone()),
            defaults: (**defaults).clone(),
            default_zone: default_zone.clone(),
            spread_minutes: *spread_minutes,
        };
        let mirror = Mirror::new((**defaults).clone(), default_zone.clone(), *spread_minutes);
        Some(Self {
            job: job.clone(),
            feature_type: feature_type.clone(),
            placement,
            placed_before: None,
            began: None,
            mirror: MirrorHandle::new(mirror),
            started: false,
            seen_until: None,
            snapshot_at: None,
            trouble: None,
            snapshot: None,
            prepared: Prepared::default(),
            is_shown: false,
        })
    }

    /// Whether its tenants stand where they would stand for the other.
    pub(super) fn serves_as(&self, other: &Self) -> bool {
        self.job.job_id == other.job.job_id && self.job.work == other.job.work
    }

    /// Remembers how the tenants were placed before, if that differs.
    pub(super) fn placed_as(&mut self, before: Placement) {
        if before.to_text() != self.placement.to_text() {
            self.placed_before = Some(before);
        }
    }

    /// Has the tenants fall due by the zone rules that are in effect now.
    pub(super) fn take_zone_rules(&mut self) {
        let rules = |name: &str| name.parse::<Zone>().ok();
        if self.mirror.write(|mirror| mirror.take_zone_rules(rules)) {
            self.prepared.forget();
            self.is_shown = false;
            let (job_id, version) = (&self.job.job_id, Zone::version());
            info!(%job_id, version, "{job_id} follows the zone rules {version}");
        }
    }

    /// What has just been read, beside what had been seen before. A reader may see a preference `shown_late` after
    /// it was stored.
    fn reading(
        &self,
        at: DateTime<Utc>,
        seen_until: Option<DateTime<Utc>>,
        shown_late: TimeDelta,
    ) -> Reading {
        let seen_until = seen_until.map(|seen_until| seen_until - shown_late);
        // A clock that was ahead when the job began says nothing.
        let began = self.began.filter(|began| *began <= at);
        Reading {
            at,
            seen_until: seen_until.map(|seen| began.map_or(seen, |began| seen.max(began))),
            followed_until: self.seen_until,
        }
    }

    pub(super) fn plan(
        &self,
        now: DateTime<Utc>,
        chunk_size: usize,
        sharding: &Sharding,
    ) -> Vec<NewBatch> {
        let job = &self.job;
        let due = self
            .mirror
            .read(|mirror| plan_mirror(mirror, job.catch_up, now));
        due.into_iter()
            .filter_map(
                |DueGroup {
                     slot,
                     scheduled_at,
                     occurrence,
                     trigger,
                     tenants,
                 }| {
                    let (period, slot) = (slot.period(), slot.to_string());
                    let date = occurrence.shard_date()?;
                    let mut items: Vec<ItemId> = tenants.into_iter().map(ItemId::from).collect();
                    items.retain(|item| sharding.serves(&job.job_id, item, date));
                    if items.is_empty() {
                        return None;
                    }
                    let batch = NewBatch::new(
                        &job.job_id,
                        job.priority,
                        slot,
                        scheduled_at,
                        occurrence,
                        trigger,
                        now,
                        &items,
                        chunk_size,
                    );
                    Some(batch.of_job(job, period))
                },
            )
            .collect()
    }

    pub(super) fn take(&mut self, news: &News, now: DateTime<Utc>) {
        self.is_shown = false;
        let job_id = &self.job.job_id;
        match news {
            News::SnapshotBegins => {
                let before = self
                    .snapshot
                    .take()
                    .and_then(|given_up| given_up.moves_from);
                self.snapshot = Some(SnapshotRead {
                    moves_from: before.or_else(|| self.placed_before.take()),
                });
                self.mirror.write(Mirror::begin_full_read);
            }
            News::SnapshotPage(records) => {
                // A job that has come to the feature since the snapshot began takes the next one.
                let Some(snapshot) = &self.snapshot else {
                    return;
                };
                let reading = self.reading(now, self.snapshot_at, SHOWN_LATE);
                self.mirror.write(|mirror| {
                    mirror.take_page(records, reading);
                    if let Some(before) = &snapshot.moves_from {
                        mirror.moved_from(before, records);
                    }
                });
            }
            News::SnapshotEnds { read_at, .. } => {
                let Some(SnapshotRead { moves_from }) = self.snapshot.take() else {
                    return;
                };
                let (first, difference, tenants, groups) = self.mirror.write(|mirror| {
                    let first = !mirror.is_loaded();
                    let difference = mirror.end_full_read();
                    (first, difference, mirror.len(), mirror.group_count())
                });
                if moves_from.is_some() {
                    // What had been seen by then fell due by the old placement, or not at all.
                    self.began = self.began.max(Some(*read_at - SHOWN_LATE_IN_FEED));
                }
                self.snapshot_at = Some(*read_at);
                if first {
                    let served = amount(tenants as u64, "tenant");
                    let divided = amount(groups as u64, "group");
                    info!(%job_id, tenants, groups, "Job {job_id} serves {served} in {divided}");
                } else if difference.changed + difference.removed > 0 {
                    self.prepared.forget();
                    let (changed, removed) = (difference.changed, difference.removed);
                    metrics::counter!("punctual_feed_missed_total", "job_id" => job_id.to_string())
                        .increment((changed + removed) as u64);
                    warn!(%job_id, changed, removed,
                        "A full read for {job_id} found changes that the feed had missed: \
                         {changed} changed and {removed} removed preferences; they are now in effect");
                }
                self.seen_until = Some(*read_at);
                self.trouble = None;
            }
            News::Changes { changes, read_at } => {
                let reading = self.reading(now, self.seen_until, SHOWN_LATE_IN_FEED);
                self.mirror.write(|mirror| {
                    for change in changes {
                        mirror.apply(change, reading);
                    }
                });
                if self.job.prepare_ahead.is_some() {
                    self.prepared.note(changes);
                }
                if changes.len() > LOGGED_ONE_BY_ONE {
                    let count = changes.len();
                    info!(%job_id, count, "{count} preferences have changed in {job_id}");
                } else {
                    // The log does not name who was erased.
                    changes
                        .iter()
                        .filter(|change| change.kind != ChangeKind::Erased)
                        .for_each(|change| self.tell(&change.tenant_id));
                }
                metrics::counter!("punctual_changes_total", "job_id" => job_id.to_string())
                    .increment(changes.len() as u64);
                self.seen_until = Some(*read_at);
                self.trouble = None;
            }
            News::Erased(_) => {}
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

    /// What is known of the job, with so many entries that cannot be read.
    pub(super) fn status(&self, unreadable: usize) -> JobStatus {
        self.mirror.read(|mirror| JobStatus {
            feature_type: self.feature_type.clone(),
            loaded: mirror.is_loaded(),
            tenants: mirror.len(),
            quarantined: mirror.quarantine().len() + unreadable,
            next_due: mirror.next_due(),
            seen_until: self.seen_until,
            trouble: self.trouble.clone(),
            mirror: self.mirror.clone(),
        })
    }
}
