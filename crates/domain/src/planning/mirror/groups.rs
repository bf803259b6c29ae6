//! Groups: tenants who fall due together, and the order in which the groups do. A group is a slot and, where a job
//! spreads its tenants, a number of minutes after it. Its members and its place in the due queue are links between
//! numbers, so a group of one costs 32 bytes and its entry in an index, and moving a tenant is constant work.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
};

use chrono::{DateTime, TimeDelta, Utc};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::packed::{Packed, Slots};
use crate::{
    planning::position::Position,
    time::{slot::Slot, zone::Zone},
};

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// What tenants have in common who fall due together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) slot: Packed,
    pub(super) spread_minutes: u16,
}

#[derive(Debug)]
struct Group {
    slot: Packed,
    /// When it falls due next, in seconds after 1970; `NONE`: never.
    due: u32,
    first_member: u32,
    members: u32,
    /// Its neighbours among those who fall due at the same second.
    before: u32,
    after: u32,
    spread_minutes: u16,
}

/// A tenant's place in the list of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) group: u32,
    pub(super) before: u32,
    pub(super) after: u32,
}

impl Link {
    pub(super) const NOWHERE: Self = Self {
        group: NONE,
        before: NONE,
        after: NONE,
    };
}

/// Where the links of tenants are kept.
pub(super) trait Links {
    fn link(&self, tenant: u32) -> Link;
    fn set_link(&mut self, tenant: u32, link: Link);
    fn set_before(&mut self, tenant: u32, before: u32);
    fn set_after(&mut self, tenant: u32, after: u32);
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    free: Vec<u32>,
    slots: Slots,
    /// The first group of those that fall due at each second.
    due: BTreeMap<u32, u32>,
    /// How far the job has been planned; `None`: unknown so far, and nothing falls due.
    position: Option<Position>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    pub(super) fn slot(&self, group: u32) -> Slot {
        self.slots.unpack(self.groups[group as usize].slot)
    }

    pub(super) fn zone(&self, group: u32) -> &Zone {
        self.slots.zone(self.groups[group as usize].slot)
    }

    pub(super) fn packed_slot(&self, group: u32) -> Packed {
        self.groups[group as usize].slot
    }

    /// By how much the members of a group fall due after their slot.
    pub(super) fn spread(&self, group: u32) -> TimeDelta {
        TimeDelta::minutes(self.groups[group as usize].spread_minutes.into())
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.by_key.iter().copied()
    }

    pub(super) fn members(&self, group: u32) -> u32 {
        self.groups[group as usize].members
    }

    pub(super) fn first_member(&self, group: u32) -> u32 {
        self.groups[group as usize].first_member
    }

    /// When the next group falls due.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        let (due, _) = self.due.first_key_value()?;
        DateTime::from_timestamp((*due).into(), 0)
    }

    /// The groups that fall due until `to`, in the order of time.
    pub(super) fn due_until(&self, to: DateTime<Utc>) -> impl Iterator<Item = u32> {
        let last = seconds(to).unwrap_or(0);
        self.due.range(..=last).flat_map(|(_, first)| {
            std::iter::successors(Some(*first), |group| {
                Some(self.groups[*group as usize].after).filter(|after| *after != NONE)
            })
        })
    }

    /// From now on, what falls due after this position is due.
    pub(super) fn set_position(&mut self, position: Position) {
        let until = position.planned_until();
        let before = self.position.replace(position);
        let passed: Vec<u32> = match before {
            Some(before) if before.planned_until() <= until => self.due_until(until).collect(),
            _ => self.numbers().collect(),
        };
        self.queue_anew(&passed);
    }

    /// From now on, what falls due by these rules of the zones is due. Returns the zones whose rules have changed, each with the
    /// rules that it had.
    pub(super) fn take_zone_rules(
        &mut self,
        rules: impl Fn(&str) -> Option<Zone>,
    ) -> HashMap<Zone, Zone> {
        let before = self.slots.take_zone_rules(rules);
        if !before.is_empty() {
            let in_them = |group: &u32| before.contains_key(self.zone(*group));
            let changed: Vec<u32> = self.numbers().filter(in_them).collect();
            self.queue_anew(&changed);
        }
        before
    }

    fn queue_anew(&mut self, groups: &[u32]) {
        for group in groups {
            self.leave_queue(*group);
            self.enter_queue(*group);
        }
    }

    /// The key of a group with the same slot and another spread.
    pub(super) fn key_with(&self, group: u32, spread_minutes: u16) -> GroupKey {
        GroupKey {
            slot: self.groups[group as usize].slot,
            spread_minutes,
        }
    }

    pub(super) fn has_key(&self, group: u32, key: GroupKey) -> bool {
        self.key_of(group) == key
    }

    /// Puts a tenant, who stands in no group, into the group with this key.
    pub(super) fn add(&mut self, key: GroupKey, tenant: u32, links: &mut impl Links) {
        let group = self.find_or_make(key);
        let entry = &mut self.groups[group as usize];
        let after = entry.first_member;
        entry.first_member = tenant;
        entry.members += 1;
        let link = Link {
            group,
            before: NONE,
            after,
        };
        links.set_link(tenant, link);
        if after != NONE {
            links.set_before(after, tenant);
        }
    }

    /// Takes a tenant out of their group; one without members is gone.
    pub(super) fn remove(&mut self, tenant: u32, links: &mut impl Links) {
        let Link {
            group,
            before,
            after,
        } = links.link(tenant);
        if group == NONE {
            return;
        }
        links.set_link(tenant, Link::NOWHERE);
        if before == NONE {
            self.groups[group as usize].first_member = after;
        } else {
            links.set_after(before, after);
        }
        if after != NONE {
            links.set_before(after, before);
        }
        let entry = &mut self.groups[group as usize];
        entry.members -= 1;
        if entry.members == 0 {
            self.forget(group);
        }
    }

    fn find_or_make(&mut self, key: GroupKey) -> u32 {
        let hash = self.hasher.hash_one(key);
        let found = self
            .by_key
            .find(hash, |group| self.key_of(*group) == key)
            .copied();
        if let Some(group) = found {
            return group;
        }
        let new = Group {
            slot: key.slot,
            due: NONE,
            first_member: NONE,
            members: 0,
            before: NONE,
            after: NONE,
            spread_minutes: key.spread_minutes,
        };
        let group = if let Some(group) = self.free.pop() {
            self.groups[group as usize] = new;
            group
        } else {
            self.groups.push(new);
            (self.groups.len() - 1) as u32
        };
        let (groups, hasher) = (&self.groups, &self.hasher);
        self.by_key.insert_unique(hash, group, |group| {
            hasher.hash_one(key_of(&groups[*group as usize]))
        });
        self.enter_queue(group);
        group
    }

    fn forget(&mut self, group: u32) {
        self.leave_queue(group);
        let hash = self.hasher.hash_one(self.key_of(group));
        if let Ok(entry) = self.by_key.find_entry(hash, |known| *known == group) {
            entry.remove();
            self.free.push(group);
        }
    }

    fn enter_queue(&mut self, group: u32) {
        let Some(planned_until) = self.position.as_ref().map(Position::planned_until) else {
            return;
        };
        let spread = self.spread(group);
        let next = planned_until
            .checked_sub_signed(spread)
            .and_then(|from| self.slot(group).next_after(from))
            .and_then(|due| due.checked_add_signed(spread));
        let Some(due) = next.and_then(seconds) else {
            return;
        };
        let after = self.due.insert(due, group).unwrap_or(NONE);
        if after != NONE {
            self.groups[after as usize].before = group;
        }
        let entry = &mut self.groups[group as usize];
        (entry.due, entry.before, entry.after) = (due, NONE, after);
    }

    fn leave_queue(&mut self, group: u32) {
        let entry = &mut self.groups[group as usize];
        let (due, before, after) = (entry.due, entry.before, entry.after);
        (entry.due, entry.before, entry.after) = (NONE, NONE, NONE);
        if due == NONE {
            return;
        }
        if after != NONE {
            self.groups[after as usize].before = before;
        }
        if before != NONE {
            self.groups[before as usize].after = after;
        } else if after != NONE {
            self.due.insert(due, after);
        } else {
            self.due.remove(&due);
        }
    }

    fn key_of(&self, group: u32) -> GroupKey {
        key_of(&self.groups[group as usize])
    }

    pub(super) fn pack(&mut self, slot: &Slot) -> Packed {
        self.slots.pack(slot)
    }

    pub(super) fn unpack(&self, slot: Packed) -> Slot {
        self.slots.unpack(slot)
    }

    /// Whether there are many more slots with a number than groups; then [`forget_slots`](Self::forget_slots) helps.
    pub(super) fn has_unused_slots(&self) -> bool {
        self.slots.numbered() > 2 * self.by_key.len() + 1_024
    }

    /// Forgets the slots with a number in which no tenant stands. What was packed before means nothing afterwards.
    pub(super) fn forget_slots(&mut self) {
        let used = self
            .by_key
            .iter()
            .map(|group| self.groups[*group as usize].slot);
        self.slots.keep_only(&used.collect());
    }
}

fn key_of(group: &Group) -> GroupKey {
    GroupKey {
        slot: group.slot,
        spread_minutes: group.spread_minutes,
    }
}

/// Whole seconds after 1970, where they fit: until the year 2106.
fn seconds(instant: DateTime<Utc>) -> Option<u32> {
    u32::try_from(instant.timestamp())
        .ok()
        .filter(|seconds| *seconds != NONE)
}
