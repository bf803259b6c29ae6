//! What erasures keep to. That no run of before runs again, and that a tenant who is stored again runs from then on, are the
//! rules for all tenants: [`Judge::at_most_once`], [`Judge::required`] and [`Judge::allowed`].

use std::collections::BTreeSet;

use punctual_domain::ItemId;

use super::{
    super::faulty_store::{Commit, Erasure},
    Instant, Judge, Key, Record,
};

/// What had been queued of tenants when they were erased in the store: its runs are not stored any more, or have never begun.
pub(super) fn erased(record: &Record) -> BTreeSet<Key> {
    let mut erased = BTreeSet::new();
    for queued in record.queued.values() {
        for (occurrence, item_id) in &queued.items {
            if record.is_erased_since(item_id, queued.at) {
                erased.insert((queued.job_id.clone(), item_id.clone(), *occurrence));
            }
        }
    }
    erased
}

impl Record {
    /// Whether a tenant was erased in the store at `since` or later.
    pub(super) fn is_erased_since(&self, item_id: &ItemId, since: Instant) -> bool {
        let is_later = |one: &Erasure| one.item_id == *item_id && one.at >= since;
        self.erased.iter().any(is_later)
    }

    /// When a run was erased first: from then on nothing is known of it, and a result that comes later is not stored.
    pub(super) fn erased_at(&self, run: &Commit) -> Option<Instant> {
        let queued_at = self.queued[&run.batch_id].at;
        let is_it = |one: &&Erasure| one.item_id == run.result.item_id && one.at >= queued_at;
        self.erased.iter().find(is_it).map(|one| one.at)
    }
}

impl Judge<'_> {
    /// Of a tenant who was erased and has stored nothing since, the store holds nothing.
    pub(super) fn erasures(&mut self) {
        let record = self.record;
        self.outcome.erased = record.erased.len();
        for (tenant, held) in &record.held_of_erased {
            if let Some(first) = held.first() {
                let what = format!(
                    "{tenant} was erased, and {} records are held, such as {first}",
                    held.len()
                );
                self.complain("nothing is held of an erased tenant", tenant, what);
            }
        }
    }
}
