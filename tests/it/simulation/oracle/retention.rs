//! What the removal of old results keeps to. That nothing runs twice though its result is gone, and that an item knows the last
//! success although it was removed, are the rules for all results: [`Judge::at_most_once`] and [`Judge::previous`].

use std::collections::BTreeMap;

use chrono::TimeDelta;
use punctual_domain::{ItemStatus, JobId, KeepDays};

use super::{
    super::faulty_store::{Commit, Removal},
    Instant, Judge, Key, Record, key, uses_occurrence_up,
};

/// A clock that is set by as much holds the removal up.
const CLOCK_STEP: TimeDelta = TimeDelta::days(1);

impl Record {
    /// How long results in this status are kept at `instant`: as the job file says, or as the last one said that had the job.
    fn kept_for(&self, job_id: &JobId, status: ItemStatus, instant: Instant) -> TimeDelta {
        let story = self.jobs.iter().find(|story| story.job_id == *job_id);
        let specs = story.into_iter().flat_map(|story| story.specs.iter().rev());
        let mut earlier = specs.filter(|(edited_at, _)| *edited_at <= instant);
        let config = earlier.find_map(|(_, config)| config.as_ref());
        let keep = config.map_or_else(KeepDays::of_unknown_job, |config| config.keep);
        let days = match status {
            ItemStatus::Failed => keep.failures,
            _ => keep.results,
        };
        TimeDelta::days(days.into()) + KeepDays::SLACK
    }

    /// Whether a result was old enough to be removed at `instant`, by the clock that an agent had.
    fn is_old(&self, run: &Commit, instant: Instant) -> bool {
        let window = self.faults.at(instant);
        let clock = window.map_or(TimeDelta::zero(), |window| window.clock);
        let kept_for = self.kept_for(&run.job_id, run.result.status, instant);
        run.scheduled_at + kept_for < instant + clock
    }

    /// Whether the removal was never held up for long.
    fn always_removes(&self) -> bool {
        let mut windows = self.faults.0.iter();
        self.year_ahead.is_none() && windows.all(|window| window.clock.abs() < CLOCK_STEP)
    }

    /// Whether a run's result was removed by `instant`.
    pub(super) fn is_removed(&self, run: &Key, instant: Instant) -> bool {
        let is_it = |removal: &Removal| removal.run == *run && removal.at <= instant;
        self.removed.iter().any(is_it)
    }
}

impl Judge<'_> {
    /// What is old enough is removed in time, and nothing else is gone.
    pub(super) fn removals(&mut self) {
        let record = self.record;
        self.outcome.removed = record.removed.len();
        let removed: BTreeMap<&Key, Instant> = record
            .removed
            .iter()
            .map(|removal| (&removal.run, removal.at))
            .collect();
        // Of a run that failed and was replayed, the last outcome is there.
        let mut last: BTreeMap<Key, &Commit> = BTreeMap::new();
        for commit in &record.commits {
            if uses_occurrence_up(commit.result.status) {
                last.insert(key(commit), commit);
            }
        }
        for (run, commit) in last {
            if self.erased.contains(&run) {
                continue;
            }
            let which = format!(
                "{} ran in {} for {}, due {}",
                run.1, run.0, run.2, commit.scheduled_at
            );
            match removed.get(&run) {
                Some(at) if !record.is_old(commit, *at) => {
                    let what = format!("{which}, and the result was removed at {at}");
                    self.complain("what is not old is kept", &run.1, what);
                }
                None if !record.held.contains(&run) => {
                    let what = format!("{which}, and the result is gone");
                    self.complain("what is not old is kept", &run.1, what);
                }
                None if record.always_removes() && self.is_left(&run, commit) => {
                    let what = format!("{which}, and the result is still there");
                    self.complain("what is old is removed", &run.1, what);
                }
                _ => {}
            }
        }
    }

    /// Whether a result that is still there was old enough before the calm at the end, and nothing has run for its occurrence
    /// since, which would be younger.
    fn is_left(&self, run: &Key, commit: &Commit) -> bool {
        let record = self.record;
        let (job_id, _, occurrence) = run;
        let mut queued = record.queued.values();
        let runs_again = queued.any(|queued| {
            queued.at >= record.time.start - TimeDelta::hours(1)
                && queued.job_id == *job_id
                && queued.items.iter().any(|(of, _)| of == occurrence)
        });
        !runs_again && record.is_old(commit, record.time.end)
    }
}
