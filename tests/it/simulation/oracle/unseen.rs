//! What agents may not have seen, or seen late, and what was in the way.

use std::ops::Range;

use chrono::TimeDelta;
use punctual_domain::{FeatureType, JobConfig, Occurrence, TenantId, Work};

use super::{
    super::{
        database::{NEXT_READ, PROPAGATION_TIMEOUT, Version},
        faults::FaultWindow,
    },
    Instant, JobStory, Record,
    stretch::Interval,
};

/// The feature that a job follows.
fn feature_of(config: &JobConfig) -> Option<FeatureType> {
    match &config.work {
        Work::Preferences { feature_type, .. } => Some(feature_type.clone()),
        Work::Fixed { .. } => None,
    }
}

/// When a job came to a feature that it had not followed just before, and to which.
fn takes_up(job: &JobStory) -> impl Iterator<Item = (Instant, FeatureType)> {
    let feature = |spec: &Option<JobConfig>| spec.as_ref().and_then(feature_of);
    job.specs.windows(2).filter_map(move |pair| {
        let ((_, before), (edited_at, after)) = (&pair[0], &pair[1]);
        let new = feature(after).filter(|_| feature(before) != feature(after))?;
        Some((*edited_at, new))
    })
}

/// Whether a tenant was switched on then.
fn is_on(versions: &[Version], then: Instant) -> bool {
    let current = versions.iter().rfind(|version| version.came_at <= then);
    let preference = current.and_then(|version| version.preference.as_ref());
    preference.is_some_and(|preference| preference.get("enabled") == Some(&true.into()))
}

pub(super) fn near(window: &FaultWindow, instant: Instant) -> bool {
    window.from - PROPAGATION_TIMEOUT <= instant && instant < window.to + PROPAGATION_TIMEOUT
}

pub(super) fn overlap(range: &Range<Instant>, from: Instant, to: Instant) -> bool {
    range.start - PROPAGATION_TIMEOUT <= to && from <= range.end + PROPAGATION_TIMEOUT
}

impl Record {
    /// Until when what happened at `instant` may have been seen late.
    pub(super) fn settled(&self, instant: Instant) -> Instant {
        let mut windows = self.faults.0.iter().rev();
        let window = windows.find(|window| near(window, instant));
        window.map_or(instant, |window| window.to.max(instant)) + PROPAGATION_TIMEOUT
    }

    /// When it was last calm before `instant`.
    pub(super) fn last_calm(&self, instant: Instant) -> Instant {
        let window = self.faults.0.iter().find(|window| near(window, instant));
        window.map_or(instant, |window| window.from.min(instant))
    }

    pub(super) fn clock_is_wrong(&self, a: Instant, b: Instant) -> bool {
        let (from, to) = (a.min(b), a.max(b));
        self.faults.0.iter().any(|window| {
            window.clock != TimeDelta::zero() && overlap(&(window.from..window.to), from, to)
        })
    }

    /// Whether an agent may go on with what its own folder last knew, however long ago, by the job file as it is now: no
    /// stretch of the story has both. It does so from its start, or from when the job came to the feature, until it can
    /// read everything.
    pub(super) fn goes_by_memory(&self, job: &JobStory, instant: Instant) -> bool {
        let failing = self
            .faults
            .0
            .iter()
            .filter(|window| window.database_errors > 0);
        let failing = failing.map(|window| window.from..window.to);
        let mut unreadable = failing.chain(self.truncated.iter().cloned());
        let taken_up = takes_up(job).map(|(at, _)| at);
        let starts: Vec<Instant> = self.starts.iter().copied().chain(taken_up).collect();
        let starts_blind = unreadable.any(|unreadable| {
            let until = unreadable.end + PROPAGATION_TIMEOUT;
            let starts_in = |start: &Instant| unreadable.contains(start) && *start <= instant;
            instant < until && starts.iter().any(starts_in)
        });
        starts_blind || self.remembers_more(job, instant)
    }

    /// Whether the job has just come to a feature of which an agent may remember so many who are off now that it asks
    /// again before it believes that.
    fn remembers_more(&self, job: &JobStory, instant: Instant) -> bool {
        takes_up(job).any(|(edited_at, new)| {
            if instant < edited_at || self.settled(edited_at) + PROPAGATION_TIMEOUT <= instant {
                return false;
            }
            let of_feature = self
                .choices
                .iter()
                .filter(|((feature, _), _)| *feature == new);
            let versions: Vec<&[Version]> = of_feature.map(|(_, versions)| &**versions).collect();
            let moments = versions.iter().flat_map(|versions| versions.iter());
            let mut moments = moments.map(|version| version.came_at);
            moments.any(|then| {
                let was_on = versions.iter().filter(|versions| is_on(versions, then));
                let off = |versions: &&&[Version]| !is_on(versions, edited_at);
                then < edited_at && was_on.clone().filter(off).count() * 2 > was_on.count()
            })
        })
    }

    /// Whether an agent without a memory started, or the job came to its feature, on part of the records, and the next
    /// full read was still to come at `due_at`.
    pub(super) fn knows_part(&self, job: &JobStory, due_at: Instant) -> bool {
        let taken_up = takes_up(job).map(|(edited_at, _)| edited_at);
        let mut begins = self.first_starts.iter().copied().chain(taken_up);
        begins.any(|at| {
            let mut parts = self.truncated.iter();
            (at..at + NEXT_READ).contains(&due_at) && parts.any(|part| part.contains(&at))
        })
    }

    /// Whether an agent may have queued it by a choice whose replacement it had not seen yet, under a job file that came
    /// after that: no stretch of the story has both.
    pub(super) fn replaced_unseen(
        &self,
        job: &JobStory,
        tenant: &TenantId,
        occurrence: Occurrence,
        due_at: Instant,
        queued_at: Instant,
    ) -> bool {
        let specs = job.specs.iter().enumerate();
        let mut in_effect = specs.filter(|(index, (edited_at, _))| {
            let next = job.specs.get(index + 1);
            *edited_at <= queued_at && next.is_none_or(|(next, _)| self.settled(*next) >= queued_at)
        });
        in_effect.any(|(index, (edited_at, spec))| {
            let Some(feature) = spec.as_ref().and_then(feature_of) else {
                return false;
            };
            let came_back = index > 0 && job.specs[index - 1].1.is_none();
            // For an agent whose clock is behind until the edit, all that follows is yet to come.
            let in_time = *edited_at <= due_at
                || came_back
                || self.settled(due_at) > *edited_at
                || self.clock_is_wrong(due_at, *edited_at);
            let versions = self.choices.get(&(feature, tenant.clone()));
            let versions = versions.map_or(&[][..], Vec::as_slice);
            let mut unseen = versions.windows(2).filter(|pair| {
                pair[1].came_at <= *edited_at && pair[1].known_by + PROPAGATION_TIMEOUT >= queued_at
            });
            unseen.any(|pair| {
                let Some(stretch) = Interval::of(&pair[0], job, tenant, index) else {
                    return false;
                };
                let old = index
                    .checked_sub(1)
                    .and_then(|old| stretch.under(job, tenant, old));
                let to_come = old
                    .and_then(|old| old.due_in_place_of(occurrence, due_at - stretch.spread))
                    .is_some_and(|due_at| self.settled(due_at) > *edited_at);
                stretch.fits(occurrence, due_at) && (to_come || in_time && stretch.since <= due_at)
            })
        })
    }

    pub(super) fn is_paused(&self, job: &JobStory, from: Instant, to: Instant) -> bool {
        job.pauses.iter().any(|pause| overlap(pause, from, to))
    }
}
