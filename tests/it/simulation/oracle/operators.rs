//! What operators were answered, and what they asked for, against what has run.

use std::collections::BTreeSet;

use punctual_domain::{ItemId, Occurrence, TenantId};
use uuid::Uuid;

use super::{
    super::database::PROPAGATION_TIMEOUT, JobStory, Judge, Key, key, stretch::Interval,
    unseen::near, uses_occurrence_up,
};

const PROMISE: &str = "explain keeps its promises";

impl Judge<'_> {
    /// What `explain` said before is what happened.
    pub(super) fn promises(&mut self, job: &JobStory, tenant: &TenantId, intervals: &[Interval]) {
        let record = self.record;
        let promises = record.promises.iter();
        let own =
            promises.filter(|promise| promise.tenant == *tenant && promise.job_id == job.job_id);
        for promise in own {
            let (asked_at, due_at) = (promise.asked_at, promise.due_at);
            let until = due_at.max(asked_at) + PROPAGATION_TIMEOUT * 2;
            let holds = intervals.iter().find(|stretch| {
                stretch.from <= asked_at && stretch.known_by <= asked_at && until < stretch.to
            });
            let calm = !record
                .faults
                .0
                .iter()
                .any(|window| near(window, due_at) || near(window, asked_at));
            let key = (job.job_id.clone(), tenant.into(), promise.occurrence);
            let Some(stretch) = holds else { continue };
            if !calm
                || until > record.time.end
                || record.is_paused(job, asked_at.min(due_at), until)
                || self.cancelled.contains(&key)
                || self.erased.contains(&key)
            {
                continue;
            }
            self.outcome.promises += 1;
            let runs = self.done.get(&key).map_or(&[][..], Vec::as_slice);
            let by_schedule = runs.iter().find(|run| record.is_scheduled(&run.batch_id));
            let which = format!(
                "at {asked_at} explain said of {tenant} in {} for {}",
                job.job_id, promise.occurrence
            );
            match (promise.runs, by_schedule) {
                (true, None) if runs.is_empty() && !self.is_waited_out(&key, due_at) => {
                    self.complain(
                        PROMISE,
                        tenant,
                        format!("{which} that it runs at {due_at}, and it did not"),
                    );
                }
                // What waited out the run before, and was moved to a later time then, runs at that one.
                (true, Some(run))
                    if run.scheduled_at != due_at && !self.is_waited_out(&key, due_at) =>
                {
                    let what = format!(
                        "{which} that it runs at {due_at}, and it was due {}",
                        run.scheduled_at
                    );
                    self.complain(PROMISE, tenant, what);
                }
                // A clock that steps back makes up what was left out, when its time comes again.
                (false, Some(run))
                    if run.scheduled_at == due_at
                        && (asked_at..stretch.to).contains(&record.queued[&run.batch_id].at)
                        && !record.clock_is_wrong(asked_at, record.queued[&run.batch_id].at) =>
                {
                    self.complain(
                        PROMISE,
                        tenant,
                        format!("{which} that it is left out, and it ran"),
                    );
                }
                _ => {}
            }
        }
    }

    /// After a backfill, everything that was due by what is chosen now has run.
    pub(super) fn backfilled(&mut self, job: &JobStory, tenant: &TenantId, intervals: &[Interval]) {
        let last = &self.record.last_backfill;
        let Some(stretch) = intervals.last().filter(|stretch| stretch.feature.is_some()) else {
            return;
        };
        let Some(slot) = stretch.slot.clone() else {
            return;
        };
        let due = last.dates.passed(&slot.into(), stretch.spread, last.at);
        for (due_at, occurrence) in due {
            self.outcome.required += 1;
            let key = (job.job_id.clone(), tenant.into(), occurrence);
            if !self.has_run(job, tenant, occurrence) && !self.has_left(&key, due_at) {
                let what = format!(
                    "{tenant} was due in {} at {due_at} for {occurrence}, and a backfill has not run it",
                    job.job_id
                );
                self.complain("a backfill leaves nothing out", tenant, what);
            }
        }
    }

    /// The same key is the same run.
    pub(super) fn manual_runs(&mut self) {
        for (key, batches) in &self.record.manual {
            let different: BTreeSet<&Uuid> = batches.iter().collect();
            if different.len() > 1 {
                let what = format!("the manual run {key} came to {} batches", different.len());
                self.complain("a key is one manual run", key, what);
            }
        }
    }

    /// A backfill runs as much as its preview says, less what was erased after it.
    pub(super) fn preview(&mut self) {
        let last = &self.record.last_backfill;
        for (job_id, to_run) in &last.to_run {
            let mut ran_now: BTreeSet<Key> = BTreeSet::new();
            for commit in &self.record.commits {
                let of_it = last.batches.contains(&commit.batch_id) && commit.job_id == *job_id;
                if of_it && uses_occurrence_up(commit.result.status) {
                    ran_now.insert(key(commit));
                }
            }
            let queued = last.batches.iter().map(|id| &self.record.queued[id]);
            let mut erased = 0;
            for queued in queued.filter(|queued| queued.job_id == *job_id) {
                let is_erased = |(at, item_id): &&(Occurrence, ItemId)| {
                    let key = (job_id.clone(), item_id.clone(), *at);
                    self.erased.contains(&key)
                };
                erased += queued.items.iter().filter(is_erased).count();
            }
            if ran_now.len() + erased != *to_run {
                let what = format!(
                    "the preview of a backfill of {job_id} said {to_run}, {} ran, and {erased} were erased",
                    ran_now.len()
                );
                self.complain("a backfill runs what its preview says", job_id, what);
            }
        }
    }
}
