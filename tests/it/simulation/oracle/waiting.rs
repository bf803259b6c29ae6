//! What becomes of items that wait: one outcome each, in time, however often and through whichever agent it is completed.

use std::{collections::BTreeMap, ops::Range};

use punctual_domain::{Item, ItemStatus};

use super::{
    super::{
        agents::Call,
        database::PROPAGATION_TIMEOUT,
        faulty_store::{Wait, WaitEnd},
    },
    Instant, Judge, Key, Record, key,
};

fn key_of(wait: &Wait) -> Key {
    (wait.job_id.clone(), wait.item_id.clone(), wait.occurrence)
}

fn is_of(wait: &Wait, item: &Item) -> bool {
    (&wait.job_id, &wait.item_id, wait.occurrence) == (&item.job_id, &item.item_id, item.occurrence)
}

/// From when on an occurrence waited, and until when it had its outcome.
pub(super) fn waited(record: &Record) -> BTreeMap<Key, Range<Instant>> {
    let mut waited: BTreeMap<Key, Range<Instant>> = BTreeMap::new();
    for wait in &record.waits {
        let new = wait.at..Instant::MAX_UTC;
        waited.entry(key_of(wait)).or_insert(new);
    }
    for commit in &record.commits {
        if let Some(waited) = waited
            .get_mut(&key(commit))
            .filter(|w| w.start <= commit.at)
        {
            waited.end = commit.at;
        }
    }
    waited
}

impl Judge<'_> {
    /// Whether an occurrence was skipped because it had waited until it was not to run any more, or because another one
    /// waited when its time came.
    pub(super) fn is_waited_out(&self, key: &Key, due_at: Instant) -> bool {
        let skips = self.record.commits.iter().filter(|commit| {
            commit.result.status == ItemStatus::Skipped && super::key(commit) == *key
        });
        let Some(skipped_at) = skips.map(|commit| commit.at).max() else {
            return false;
        };
        let mut of_tenant = self
            .waited
            .iter()
            .filter(|((job_id, item_id, _), _)| (job_id, item_id) == (&key.0, &key.1));
        of_tenant.any(|((_, _, occurrence), waited)| {
            *occurrence == key.2 || (waited.start <= skipped_at && due_at <= waited.end)
        })
    }

    /// What waits ends once, in time, and by its chunk's commit only where an operator has cancelled it.
    pub(super) fn waits(&mut self) {
        let record = self.record;
        self.outcome.waits = record.waits.len();
        for wait in &record.waits {
            let which = format!(
                "{} waited in {} for {} from {} until {}",
                wait.item_id, wait.job_id, wait.occurrence, wait.at, wait.until
            );
            let [(ended_at, end)] = wait.ended[..] else {
                let what = format!("{which}, and came to {:?}", wait.ended);
                self.complain("what waits ends once", &wait.item_id, what);
                continue;
            };
            let cancelled = record.batches_cancelled.get(&wait.batch_id);
            let cancelled = cancelled.filter(|at| **at < ended_at);
            let is_right = match end {
                WaitEnd::Committed(status) => {
                    status == ItemStatus::Skipped
                        && record.batches_cancelled.contains_key(&wait.batch_id)
                }
                WaitEnd::Erased => true,
                _ => cancelled.is_none(),
            };
            if !is_right {
                let what = format!(
                    "{which}, cancelled at {cancelled:?}, and came to {end:?} at {ended_at}"
                );
                self.complain("a cancelled item is skipped", &wait.item_id, what);
            }
            let latest = record.settled(wait.until) + PROPAGATION_TIMEOUT;
            if cancelled.is_none() && ended_at > latest && !record.clock_is_wrong(wait.at, ended_at)
            {
                let what = format!("{which}, and came to {end:?} at {ended_at}");
                self.complain("a deadline passes", &wait.item_id, what);
            }
            let goes_on = matches!(end, WaitEnd::CalledAgain | WaitEnd::SecondCalled);
            if goes_on && !self.goes_on(wait, ended_at) && !self.erased.contains(&key_of(wait)) {
                let what = format!("{which}, came to {end:?} at {ended_at}, and has no outcome");
                self.complain("what is called again ends", &wait.item_id, what);
            }
        }
        for item_id in &record.overlooked {
            let what = format!("{item_id} waited when its batch was over");
            self.complain("a batch ends after its items", item_id, what);
        }
        for batch_id in &record.unfinished {
            let what = format!("the batch {batch_id} has not ended");
            self.complain("every batch ends", batch_id, what);
        }
    }

    /// Whether an item that was called again has an outcome, or has waited again, since `instant`.
    fn goes_on(&self, wait: &Wait, instant: Instant) -> bool {
        let key = key_of(wait);
        let mut commits = self.record.commits.iter();
        let mut waits = self.record.waits.iter();
        commits.any(|commit| commit.at >= instant && super::key(commit) == key)
            || waits.any(|other| other.at >= instant && key_of(other) == key)
    }

    /// An item is not called while it waits, and afterwards as another attempt only.
    pub(super) fn attempts(&mut self) {
        let record = self.record;
        let mut wrong = Vec::new();
        for Call { at, item } in record.calls.iter().chain(&record.sent) {
            let earlier = record
                .waits
                .iter()
                .filter(|wait| is_of(wait, item) && wait.at < *at);
            for wait in earlier {
                let waits_still = wait.ended.first().is_none_or(|(ended_at, _)| ended_at > at);
                let is_counted = wait.batch_id != item.batch_id
                    || wait.purpose_id != item.purpose_id
                    || wait.made < item.attempt;
                if waits_still || !is_counted {
                    let what = format!(
                        "{} was called in {} for {} at {at}, attempt {}, and attempt {} had begun to wait at {} and \
                         came to {:?}",
                        item.item_id,
                        item.job_id,
                        item.occurrence,
                        item.attempt,
                        wait.made,
                        wait.at,
                        wait.ended
                    );
                    wrong.push((item.item_id.clone(), what));
                }
            }
        }
        wrong.into_iter().for_each(|(tenant, what)| {
            self.complain(
                "what has waited is called as another attempt",
                &tenant,
                what,
            );
        });
    }
}

impl Record {
    /// Whether an item had begun to wait before `instant`, so that a call then is not its first.
    pub(super) fn has_waited(&self, item: &Item, instant: Instant) -> bool {
        self.waits
            .iter()
            .any(|wait| is_of(wait, item) && wait.at < instant)
    }
}
