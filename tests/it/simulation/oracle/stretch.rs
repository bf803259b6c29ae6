//! The rules by which a tenant fell due in a job, one after the other: from the job file and what the tenant chose.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Timelike};
use punctual_domain::{
    Dates, FeatureType, MergedPreference, Occurrence, Preference, Recurrence, Slot, TenantId, Work,
    Zone,
};

use super::{
    super::database::{NEXT_READ, PROPAGATION_TIMEOUT, Version},
    Instant, JobStory, Record,
};

/// How far behind the last full read an agent looks for preferences that it has overlooked.
const SNAPSHOT_DELAY: TimeDelta = TimeDelta::minutes(15);

/// A stretch of time in which a tenant falls due in a job by the same rule.
#[derive(Debug, Clone)]
pub(super) struct Interval {
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// `None`: not at all.
    pub(super) slot: Option<Slot>,
    pub(super) spread: TimeDelta,
    /// From when on occurrences count.
    pub(super) since: Instant,
    /// The earliest moment from when on an agent may think that they count, where it cannot know better.
    pub(super) since_at_most: Instant,
    /// The latest moment from when on an agent may think that they count.
    pub(super) since_known: Instant,
    pub(super) known_by: Instant,
    /// What the job file says.
    pub(super) spec: usize,
    /// The feature that the job file names; `None`: the job is not in it.
    pub(super) feature: Option<FeatureType>,
    pub(super) choice: Option<Version>,
}

impl Interval {
    /// A choice under a job file, whenever it held; `None`: the job is not in it.
    pub(super) fn of(
        choice: &Version,
        job: &JobStory,
        tenant: &TenantId,
        spec: usize,
    ) -> Option<Self> {
        let Work::Preferences {
            feature_type,
            defaults,
            spread_minutes,
        } = &job.specs[spec].1.as_ref()?.work
        else {
            return None;
        };
        Some(Self {
            from: choice.came_at,
            to: Instant::MAX_UTC,
            slot: slot(choice, defaults),
            spread: minute(tenant, *spread_minutes),
            since: choice.since,
            since_at_most: choice.since,
            since_known: choice.since,
            known_by: choice.known_by,
            spec,
            feature: Some(feature_type.clone()),
            choice: Some(choice.clone()),
        })
    }

    /// The same choice under another job file; `None`: of another feature.
    pub(super) fn under(&self, job: &JobStory, tenant: &TenantId, spec: usize) -> Option<Self> {
        let other = Self::of(self.choice.as_ref()?, job, tenant, spec)?;
        (other.feature == self.feature).then_some(other)
    }

    pub(super) fn period(&self) -> TimeDelta {
        self.slot
            .as_ref()
            .map_or(TimeDelta::MAX, punctual_domain::Slot::period)
    }

    /// When the occurrence falls due, spread included.
    pub(super) fn due_at(&self, occurrence: Occurrence) -> Option<Instant> {
        let slot = self.slot.clone()?;
        let hourly = slot.recurrence == Recurrence::Hourly;
        let instant = match occurrence {
            Occurrence::Date(..) if hourly => return None,
            Occurrence::Date(date, _) => {
                Dates::only(date)
                    .occurrences_of(&slot.into())
                    .find(|(_, key)| *key == occurrence)?
                    .0
            }
            Occurrence::Instant(_) if !hourly => return None,
            Occurrence::Instant(at) => {
                let is_it = slot.next_after(at - TimeDelta::seconds(1)) == Some(at);
                Some(at).filter(|_| is_it && slot.occurrence_key(at) == occurrence)?
            }
            Occurrence::Run(_) => return None,
        };
        Some(instant + self.spread)
    }

    /// When it has what another rule has at `instant`: the same occurrence, or for hourly ones that of the same hour.
    pub(super) fn due_in_place_of(
        &self,
        occurrence: Occurrence,
        instant: Instant,
    ) -> Option<Instant> {
        let slot = self.slot.as_ref()?;
        if slot.recurrence != Recurrence::Hourly || !matches!(occurrence, Occurrence::Instant(_)) {
            return self.due_at(occurrence);
        }
        let minute = slot.zone.local(instant)?.minute();
        let hour = instant - TimeDelta::minutes(minute.into());
        let own = slot.next_after(hour - TimeDelta::seconds(1))?;
        (own < hour + TimeDelta::hours(1)).then_some(own + self.spread)
    }

    /// Whether the occurrence falls due in it then, spread included.
    pub(super) fn fits(&self, occurrence: Occurrence, due_at: Instant) -> bool {
        let slot = self.slot.as_ref();
        slot.is_some_and(|slot| fits(slot, self.spread, occurrence, due_at))
    }

    /// What falls due in it, spread included.
    pub(super) fn due(&self, from: Instant) -> impl Iterator<Item = (Instant, Occurrence)> {
        let next = |after| self.slot.as_ref()?.next_after(after);
        let first = from.max(self.from) - self.spread;
        let first = first.max(self.since_known) - TimeDelta::microseconds(1);
        std::iter::successors(next(first), move |last| next(*last))
            .map(|instant| {
                let key = |slot: &Slot| slot.occurrence_key(instant);
                (
                    instant + self.spread,
                    self.slot.as_ref().map_or(Occurrence::Instant(instant), key),
                )
            })
            .take_while(|(due_at, _)| *due_at < self.to)
    }
}

pub(super) fn fits(
    slot: &Slot,
    spread: TimeDelta,
    occurrence: Occurrence,
    due_at: Instant,
) -> bool {
    let instant = due_at - spread;
    slot.next_after(instant - TimeDelta::seconds(1)) == Some(instant)
        && slot.occurrence_key(instant) == occurrence
}

fn minute(tenant: &TenantId, minutes: u32) -> TimeDelta {
    // The promise is that a tenant's minute lasts, so the mirror may say which it is.
    let mirror = punctual_domain::Mirror::new(Preference::default(), Zone::utc(), minutes);
    mirror.spread_of(tenant)
}

/// The slot of a preference, when it is on.
fn slot(version: &Version, defaults: &Preference) -> Option<Slot> {
    let stored = Preference::parse(version.preference.as_ref()?).ok()?;
    let merged = MergedPreference::merge(&stored, defaults, &Zone::utc()).ok()?;
    merged.enabled.then_some(merged.slot)
}

impl Record {
    /// The rules by which a tenant fell due in a job, one after the other.
    pub(super) fn intervals(&self, job: &JobStory, tenant: &TenantId) -> Vec<Interval> {
        let far = self.last_backfill.at + TimeDelta::days(400);
        let mut edges: BTreeSet<Instant> = job.specs.iter().map(|(at, _)| *at).collect();
        let own = self.choices.iter().filter(|((_, of), _)| of == tenant);
        edges.extend(own.flat_map(|(_, versions)| versions.iter().map(|v| v.came_at)));
        let edges: Vec<Instant> = edges.into_iter().collect();
        let mut intervals: Vec<Interval> = Vec::new();
        for (index, from) in edges.iter().enumerate() {
            let to = edges.get(index + 1).copied().unwrap_or(far);
            let spec = job.specs.iter().rposition(|(at, _)| at <= from);
            let mut new = Interval {
                from: *from,
                to,
                slot: None,
                spread: TimeDelta::zero(),
                since: *from,
                since_at_most: *from,
                since_known: *from,
                known_by: *from + PROPAGATION_TIMEOUT,
                spec: spec.unwrap_or(0),
                feature: None,
                choice: None,
            };
            let spec = spec.and_then(|spec| Some((job.specs[spec].0, job.specs[spec].1.as_ref()?)));
            if let Some((edited_at, config)) = spec
                && let Work::Preferences {
                    feature_type,
                    defaults,
                    spread_minutes,
                    ..
                } = &config.work
            {
                new.feature = Some(feature_type.clone());
                new.known_by = self.settled(edited_at) + PROPAGATION_TIMEOUT;
                new.spread = minute(tenant, *spread_minutes);
                let versions = self.choices.get(&(feature_type.clone(), tenant.clone()));
                let versions = versions.map_or(&[][..], Vec::as_slice);
                if let Some(version) = versions.iter().rfind(|version| version.came_at <= *from) {
                    new.slot = slot(version, defaults);
                    new.choice = Some(version.clone());
                    new.known_by = new.known_by.max(version.known_by);
                    (new.since, new.since_known) = (version.since, version.since);
                    // A full read that finds a preference of long ago does not tell whether it came just now or was
                    // overlooked since the last one, unless the server says since when it counts.
                    new.since_at_most = if version.imported && !self.says_since {
                        self.last_calm(version.since) - NEXT_READ - SNAPSHOT_DELAY
                    } else {
                        version.since
                    };
                }
            }
            let last = intervals.last_mut().filter(|last| {
                (&last.slot, last.spread, last.since, last.spec)
                    == (&new.slot, new.spread, new.since, new.spec)
            });
            match last {
                Some(last) => {
                    last.to = to;
                    if !self.says_since && last.known_by > *from {
                        // What was not known when it was edited may count from the edit on.
                        last.since_known = *from;
                    }
                    // What the feed has lost is seen with what comes next.
                    if new.known_by < last.known_by {
                        (last.known_by, last.choice) = (new.known_by, new.choice);
                    }
                }
                None => intervals.push(new),
            }
        }
        intervals
    }
}
