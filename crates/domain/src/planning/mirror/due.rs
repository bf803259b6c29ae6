//! What the mirror gives to the planner: who falls due, whom a late change concerns, and who fell due on past dates.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Late, Mirror, groups::NONE, since::Since};
use crate::{
    ids::TenantId,
    planning::backfill::{BackfillGroup, Dates},
    time::slot::Slot,
};

/// Tenants who fall due together.
pub(crate) struct DueMembers<'m> {
    mirror: &'m Mirror,
    group: u32,
}

impl DueMembers<'_> {
    pub(crate) fn slot(&self) -> Slot {
        self.mirror.groups.slot(self.group)
    }

    /// By how much they fall due after their slot.
    pub(crate) fn spread(&self) -> TimeDelta {
        self.mirror.groups.spread(self.group)
    }

    /// Those of them for whom what falls due at `due_at` counts.
    pub(crate) fn counting_at(&self, due_at: DateTime<Utc>) -> Vec<TenantId> {
        let last = Since::at(Some(due_at));
        let counts = |tenant: &u32| self.mirror.tenants.since(*tenant) <= last;
        self.numbers()
            .filter(counts)
            .map(|tenant| self.mirror.tenants.id(tenant))
            .collect()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> {
        // A group has a first member, or it is gone.
        let first = Some(self.mirror.groups.first_member(self.group));
        std::iter::successors(first, |tenant| {
            let after = self.mirror.tenants.after(*tenant);
            Some(after).filter(|after| *after != NONE)
        })
    }
}

impl Mirror {
    /// Who falls due until `to`, in the order of time.
    pub(crate) fn due_until(&self, to: DateTime<Utc>) -> impl Iterator<Item = DueMembers<'_>> {
        self.groups.due_until(to).map(|group| DueMembers {
            mirror: self,
            group,
        })
    }

    /// Tenants of whom something behind the position is still to be planned, with their slot and their spread.
    pub(crate) fn late(&self) -> impl Iterator<Item = (TenantId, Slot, TimeDelta, Late)> {
        self.late.iter().map(|(number, late)| {
            let group = self.tenants.group(*number);
            let (slot, spread) = (self.groups.slot(group), self.groups.spread(group));
            (self.tenants.id(*number), slot, spread, *late)
        })
    }

    /// The slots of the zone of this name, in order, with how many tenants stand in each, and the ids of up to `most` of them, of
    /// all slots together as many as are `left`.
    #[must_use]
    pub fn slots_in_zone(
        &self,
        zone: &str,
        most: usize,
        mut left: usize,
    ) -> Vec<(Slot, usize, Vec<TenantId>)> {
        let mut slots: BTreeMap<Slot, (usize, Vec<TenantId>)> = BTreeMap::new();
        for group in self.groups.numbers() {
            if self.groups.zone(group).name() != zone {
                continue;
            }
            let slot = self.groups.slot(group);
            let members = DueMembers {
                mirror: self,
                group,
            };
            let (count, named) = slots.entry(slot).or_default();
            *count += self.groups.members(group) as usize;
            let already = named.len();
            let more = most.saturating_sub(already).min(left);
            let ids = members.numbers().map(|number| self.tenants.id(number));
            named.extend(ids.take(more));
            left -= named.len() - already;
        }
        let slots = slots.into_iter();
        slots
            .map(|(slot, (count, named))| (slot, count, named))
            .collect()
    }

    /// Who fell due together on these dates, until `until`, as what they have chosen now says. In no order.
    #[must_use]
    pub fn backfill(&self, dates: Dates, until: DateTime<Utc>) -> Vec<BackfillGroup> {
        let members = self.groups.numbers().map(|group| DueMembers {
            mirror: self,
            group,
        });
        let group = |members: DueMembers<'_>| {
            let schedule = members.slot().into();
            let occurrences = dates.passed(&schedule, members.spread(), until);
            let ids = members.numbers().map(|number| self.tenants.id(number));
            (!occurrences.is_empty()).then(|| BackfillGroup {
                items: ids.map(Into::into).collect(),
                schedule,
                occurrences,
            })
        };
        members.filter_map(group).collect()
    }
}
