//! What the runs of one tenant have to do with each other, whenever they were due.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use punctual_domain::{DeadLetter, ItemId, ItemStatus, JobId, OrganizationId, Trigger};

use super::{
    super::{
        agents::Call,
        database::{PROPAGATION_TIMEOUT, organization_of},
        faulty_store::Commit,
    },
    Judge, key,
};

/// How long the calls of a chunk may go on.
const CHUNK_LASTS: TimeDelta = TimeDelta::hours(1);

impl Judge<'_> {
    /// An item knows the last run of its tenant that succeeded and was due before it, as it was when its chunk began.
    pub(super) fn previous(&mut self) {
        let mut succeeded: BTreeMap<(&JobId, &ItemId), Vec<&Commit>> = BTreeMap::new();
        for commit in &self.record.commits {
            if commit.result.status == ItemStatus::Succeeded {
                let of = (&commit.job_id, &commit.result.item_id);
                succeeded.entry(of).or_default().push(commit);
            }
        }
        let mut wrong = Vec::new();
        for Call { at, item } in &self.record.calls {
            let runs = succeeded.get(&(&item.job_id, &item.item_id));
            let runs = || runs.into_iter().flatten().copied();
            let erased_at = |run: &Commit| self.record.erased_at(run).filter(|erased| erased <= at);
            // Of those whose results were removed, the last one is known, and none of those that were erased.
            let is_removed = |run: &Commit| self.record.is_removed(&key(run), *at);
            let last_removed = runs().filter(|run| is_removed(run) && erased_at(run).is_none());
            let last_removed = last_removed.map(|run| run.scheduled_at).max();
            let known = runs().filter(|run| {
                run.scheduled_at < item.scheduled_at
                    && run.at + PROPAGATION_TIMEOUT < *at
                    && erased_at(run).is_none()
                    && (!is_removed(run) || Some(run.scheduled_at) == last_removed)
            });
            let known = known.map(|run| run.scheduled_at).max();
            let previous = item.previous.map(|previous| previous.scheduled_at);
            if previous < known || previous >= Some(item.scheduled_at) {
                let what = format!(
                    "{} was called in {} for {} at {at} with the last run of {previous:?}, and had one of {known:?}",
                    item.item_id, item.job_id, item.occurrence
                );
                wrong.push((item.item_id.clone(), what));
            }
            let Some(previous) = item.previous else {
                continue;
            };
            let is_it = |run: &&Commit| {
                run.at <= *at
                    && run.occurrence == previous.occurrence
                    && run.scheduled_at == previous.scheduled_at
                    && run.result.finished_at == Some(previous.finished_at)
            };
            let run = runs().find(is_it);
            let erased = run.and_then(erased_at);
            // A chunk that began before may still call.
            if let Some(erased) = erased.filter(|erased| *erased + CHUNK_LASTS < *at) {
                let what = format!(
                    "{} was called in {} for {} at {at} with a last run that was erased at {erased}: {previous:?}",
                    item.item_id, item.job_id, item.occurrence
                );
                wrong.push((item.item_id.clone(), what));
            }
            if run.is_none() {
                let what = format!(
                    "{} was called in {} for {} at {at} with a last run that had not succeeded: {previous:?}",
                    item.item_id, item.job_id, item.occurrence
                );
                wrong.push((item.item_id.clone(), what));
            }
        }
        wrong
            .into_iter()
            .for_each(|(tenant, what)| self.complain("an item knows the last run", &tenant, what));
    }

    /// An item says the organization that its tenant belonged to with the preference that it has.
    pub(super) fn organizations(&mut self) {
        let mut wrong = Vec::new();
        for Call { at, item } in &self.record.calls {
            let choice = item
                .overrides()
                .and_then(|overrides| overrides.get("n")?.as_u64())
                .filter(|_| self.record.has_organizations);
            let expected = choice.and_then(organization_of);
            let seen = item.organization().map(OrganizationId::as_str);
            if seen != expected {
                let what = format!(
                    "{} was called in {} for {} at {at} as one of {seen:?}, and is one of {expected:?}",
                    item.item_id, item.job_id, item.occurrence
                );
                wrong.push((item.item_id.clone(), what));
            }
        }
        wrong.into_iter().for_each(|(tenant, what)| {
            self.complain("an item says its tenant's organization", &tenant, what);
        });
    }

    /// An occurrence runs once, and again only where it had failed and was replayed.
    pub(super) fn at_most_once(&mut self) {
        let mut twice = Vec::new();
        for ((job_id, tenant, occurrence), runs) in &self.done {
            let replayed =
                |run: &&Commit| self.record.queued[&run.batch_id].trigger == Trigger::Replay;
            let failed = runs
                .iter()
                .take_while(|run| run.result.status == ItemStatus::Failed);
            if runs.len() > failed.count() + 1 || !runs[1..].iter().all(replayed) {
                let what = format!(
                    "{tenant} ran in {job_id} for {occurrence} {} times",
                    runs.len()
                );
                twice.push((tenant.clone(), what));
            }
        }
        twice
            .into_iter()
            .for_each(|(tenant, what)| self.complain("an occurrence runs once", &tenant, what));
    }

    /// What failed for good stands among the dead letters until it has run without failing.
    pub(super) fn dead_letters(&mut self) {
        let mut lost = Vec::new();
        for (key, runs) in &self.done {
            let failed = runs
                .last()
                .is_some_and(|run| run.result.status == ItemStatus::Failed);
            let is_it = |letter: &DeadLetter| {
                (&letter.job_id, &letter.item_id, letter.occurrence) == (&key.0, &key.1, key.2)
            };
            let is_gone =
                self.erased.contains(key) || self.record.removed.iter().any(|one| one.run == *key);
            if failed && !is_gone && !self.record.open_letters.iter().any(is_it) {
                let what = format!(
                    "{} failed in {} for {}, and no dead letter is open",
                    key.1, key.0, key.2
                );
                lost.push((key.1.clone(), what));
            }
        }
        lost.into_iter()
            .for_each(|(tenant, what)| self.complain("a dead letter is not lost", &tenant, what));
    }
}
