//! The mirror: one job's tenants by what they have in common, kept current by a snapshot and the changes after it.
//! It keeps who falls due when; the [planner](crate::plan_mirror) decides what of it is to be run.
//!
//! Ten million tenants fit into a gigabyte: ids stand in one block, equal parameters are kept once, and a group of
//! tenants who fall due together is a list of numbers. A change moves one number from one list to another; a tick
//! looks only at the groups that are due.

mod groups;
mod parameters;
mod schedules;
mod tenants;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

pub use self::schedules::says_when;
use self::{
    groups::{GroupKey, Groups, Link, Links, NONE},
    parameters::ParameterTable,
    schedules::Schedules,
    tenants::Tenants,
};
use crate::{
    backfill::{BackfillGroup, Dates},
    change::{Change, ChangeKind, PreferenceRecord},
    horizon::Horizon,
    ids::TenantId,
    planner::spread_minute,
    preference::{MergedPreference, Preference},
    slot::Slot,
    validation::FieldErrors,
    zone::Zone,
};

/// All tenants that a preference-based job serves, grouped by the slot they chose.
#[derive(Debug)]
pub struct Mirror {
    defaults: Preference,
    default_zone: Zone,
    spread_minutes: u32,
    loaded: bool,
    tenants: Tenants,
    rows: Rows,
    groups: Groups,
    parameters: ParameterTable,
    schedules: Schedules,
    quarantine: BTreeMap<TenantId, FieldErrors>,
    late: BTreeSet<u32>,
}

/// What is kept of the tenant of each number.
#[derive(Debug, Default)]
struct Rows(Vec<Row>);

#[derive(Debug, Clone, Copy)]
struct Row {
    link: Link,
    stored: Stored,
    parameters: u32,
}

impl Row {
    const EMPTY: Self = Self {
        link: Link::NOWHERE,
        stored: Stored(0),
        parameters: NONE,
    };
}

impl Links for Rows {
    fn link(&mut self, tenant: u32) -> &mut Link {
        &mut self.0[tenant as usize].link
    }
}

/// When a preference was stored, in seconds after 1970, rounded up: occurrences are on whole seconds, so it is
/// before the same ones. 0: long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored(u32);

impl Stored {
    fn at(instant: Option<DateTime<Utc>>) -> Self {
        let seconds = instant.map_or(0, |instant| {
            instant.timestamp() + i64::from(instant.timestamp_subsec_nanos() > 0)
        });
        Self(seconds.clamp(0, i64::from(u32::MAX)) as u32)
    }

    /// The moment; `None`: long ago.
    pub(crate) fn instant(self) -> Option<DateTime<Utc>> {
        (self.0 > 0)
            .then(|| DateTime::from_timestamp(self.0.into(), 0))
            .flatten()
    }
}

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

    /// Those whose preference had been stored at `instant`.
    pub(crate) fn stored_until(&self, instant: DateTime<Utc>) -> Vec<TenantId> {
        let last = Stored::at(Some(instant)).0;
        let stored = |tenant: &u32| self.mirror.rows.0[*tenant as usize].stored.0 <= last;
        self.numbers()
            .filter(stored)
            .map(|tenant| self.mirror.tenants.id(tenant))
            .collect()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> {
        // A group has a first member, or it is gone.
        let first = Some(self.mirror.groups.first_member(self.group));
        std::iter::successors(first, |tenant| {
            let after = self.mirror.rows.0[*tenant as usize].link.after;
            Some(after).filter(|after| *after != NONE)
        })
    }
}

/// What a full read found to be different from the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MirrorDifference {
    /// Tenants that were not there, or stood in another slot, or had stored their preference anew.
    pub changed: usize,
    /// Tenants that are no longer there.
    pub removed: usize,
}

impl Mirror {
    /// An empty mirror for a job with these defaults, that spreads its tenants over so many minutes; 0 and 1: not
    /// at all.
    #[must_use]
    pub fn new(defaults: Preference, default_zone: Zone, spread_minutes: u32) -> Self {
        Self {
            defaults,
            default_zone,
            spread_minutes,
            loaded: false,
            tenants: Tenants::default(),
            rows: Rows::default(),
            groups: Groups::default(),
            parameters: ParameterTable::default(),
            schedules: Schedules::default(),
            quarantine: BTreeMap::new(),
            late: BTreeSet::new(),
        }
    }

    /// Whether a snapshot has been read. Before that nothing is known, so nothing may run.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// How many tenants are scheduled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether nobody is scheduled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every scheduled tenant, in no order.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.tenants
            .all()
            .map(|number| self.tenants.id(number))
            .collect()
    }

    /// The slots with how many tenants stand in each, in no order.
    #[must_use]
    pub fn slots(&self) -> Vec<(Slot, usize)> {
        let mut slots: BTreeMap<Slot, usize> = BTreeMap::new();
        for (slot, _, members) in self.groups() {
            *slots.entry(slot).or_default() += members;
        }
        slots.into_iter().collect()
    }

    /// The groups of tenants who fall due together, in no order: their slot, by how much they fall due after it, and how
    /// many they are.
    #[must_use]
    pub fn groups(&self) -> Vec<(Slot, TimeDelta, usize)> {
        let group = |group| {
            let members = self.groups.members(group) as usize;
            (self.groups.slot(group), self.groups.spread(group), members)
        };
        self.groups.numbers().map(group).collect()
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
                tenants: ids.collect(),
                schedule,
                occurrences,
            })
        };
        members.filter_map(group).collect()
    }

    /// How many groups of tenants there are who fall due together.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many different sets of parameters the tenants have.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.parameters.len()
    }

    /// The slot a tenant stands in.
    #[must_use]
    pub fn slot_of(&self, tenant: &TenantId) -> Option<Slot> {
        let number = self.tenants.find(tenant)?;
        Some(self.groups.slot(self.rows.0[number as usize].link.group))
    }

    /// A scheduled tenant's preference, merged with the job's defaults.
    #[must_use]
    pub fn preference_of(&self, tenant: &TenantId) -> Option<MergedPreference> {
        let row = self.rows.0[self.tenants.find(tenant)? as usize];
        let stored = Preference::parse(&self.parameters.get(row.parameters)).ok()?;
        let slot = self.groups.slot(row.link.group);
        Some(MergedPreference::with_slot(&stored, &self.defaults, slot))
    }

    /// When a scheduled tenant's preference was stored; `None` inside: long ago.
    #[must_use]
    pub fn stored_at(&self, tenant: &TenantId) -> Option<Option<DateTime<Utc>>> {
        let row = self.rows.0[self.tenants.find(tenant)? as usize];
        Some(row.stored.instant())
    }

    /// By how much a tenant falls due after their slot.
    #[must_use]
    pub fn spread_of(&self, tenant: &TenantId) -> TimeDelta {
        TimeDelta::minutes(spread_minute(tenant, self.spread_minutes).into())
    }

    /// Tenants whose preference cannot be used, with what is wrong.
    #[must_use]
    pub fn quarantine(&self) -> &BTreeMap<TenantId, FieldErrors> {
        &self.quarantine
    }

    /// When somebody falls due next; `None` while nobody does.
    #[must_use]
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.groups.next_due()
    }

    /// When somebody falls due next, and how many do then, whenever their preference was stored.
    #[must_use]
    pub fn next_due_count(&self) -> Option<(DateTime<Utc>, usize)> {
        let due = self.next_due()?;
        let groups = self.groups.due_until(due);
        Some((
            due,
            groups
                .map(|group| self.groups.members(group) as usize)
                .sum(),
        ))
    }

    /// Spreads the tenants over so many minutes from now on.
    pub fn spread_over(&mut self, minutes: u32) {
        self.spread_minutes = minutes;
        let everybody: Vec<u32> = self.tenants.all().collect();
        for number in everybody {
            let group = self.rows.0[number as usize].link.group;
            let tenant = self.tenants.id(number);
            let key = self.groups.key_with(group, spread_minute(&tenant, minutes));
            if !self.groups.has_key(group, key) {
                self.groups.remove(number, &mut self.rows);
                self.groups.add(key, number, &mut self.rows);
            }
        }
    }

    /// Until when everything due has been planned; `None` before anybody has said.
    #[must_use]
    pub fn horizon(&self) -> Option<&Horizon> {
        self.groups.horizon()
    }

    /// Takes over how far whoever planned before has come.
    pub fn set_horizon(&mut self, horizon: Horizon) {
        self.late.clear();
        self.groups.set_horizon(horizon);
    }

    /// Says that everything due until `until` has been planned, here or by whoever planned before. Nothing falls
    /// due before the first call. A moment earlier than the last one means that the clock has
    /// [stepped back](Horizon::move_to).
    pub fn set_planned_until(&mut self, until: DateTime<Utc>) {
        self.late.clear();
        self.groups.plan_from(until);
    }

    /// Who falls due until `to`, in the order of time.
    pub(crate) fn due_until(&self, to: DateTime<Utc>) -> impl Iterator<Item = DueMembers<'_>> {
        self.groups.due_until(to).map(|group| DueMembers {
            mirror: self,
            group,
        })
    }

    /// Tenants whose preference came after part of its time may have been planned already, with their slot, their
    /// spread, and when it was stored.
    pub(crate) fn late(&self) -> impl Iterator<Item = (TenantId, Slot, TimeDelta, DateTime<Utc>)> {
        self.late.iter().filter_map(|number| {
            let row = self.rows.0[*number as usize];
            let (slot, spread) = (
                self.groups.slot(row.link.group),
                self.groups.spread(row.link.group),
            );
            Some((
                self.tenants.id(*number),
                slot,
                spread,
                row.stored.instant()?,
            ))
        })
    }

    /// Takes a full read of the feature's preferences: tenants not among `records` are gone.
    ///
    /// What differs from what was known counts as late: its time may have been planned without it. Where nothing was
    /// known yet, that is what was stored after `seen_until`, when whoever planned before last saw everything; `None`:
    /// nothing.
    pub fn replace<R: Borrow<PreferenceRecord>>(
        &mut self,
        records: impl IntoIterator<Item = R>,
        seen_until: Option<DateTime<Utc>>,
    ) -> MirrorDifference {
        let mut difference = MirrorDifference::default();
        let was_loaded = std::mem::replace(&mut self.loaded, true);
        let records = records.into_iter();
        let more = records.size_hint().0.saturating_sub(self.len());
        self.tenants.reserve(more);
        self.rows.0.reserve_exact(more);
        let mut present = vec![false; self.tenants.numbers()];
        let mut quarantined_before = std::mem::take(&mut self.quarantine);
        for record in records {
            let record = record.borrow();
            let was_quarantined = quarantined_before.remove(&record.tenant_id);
            let stored = Stored::at(record.updated_at);
            let mut changed = self.set(&record.tenant_id, &record.preference, stored);
            if was_quarantined.is_some() {
                changed = was_quarantined.as_ref() != self.quarantine.get(&record.tenant_id);
            }
            let number = self.tenants.find(&record.tenant_id);
            if let Some(number) = number {
                if present.len() <= number as usize {
                    present.resize(number as usize + 1, false);
                }
                present[number as usize] = true;
            }
            if changed {
                difference.changed += 1;
                let unseen = was_loaded
                    || seen_until
                        .is_some_and(|seen| record.updated_at.is_some_and(|stored| stored > seen));
                if let Some(number) = number.filter(|_| unseen) {
                    self.late.insert(number);
                }
            }
        }
        let gone = self
            .tenants
            .all()
            .filter(|number| !present[*number as usize]);
        let gone: Vec<TenantId> = gone.map(|number| self.tenants.id(number)).collect();
        for tenant in &gone {
            self.remove(tenant);
        }
        difference.removed = gone.len() + quarantined_before.len();
        difference
    }

    /// Takes one change of the feed, seen at `now`.
    pub fn apply(&mut self, change: &Change, now: DateTime<Utc>) {
        self.quarantine.remove(&change.tenant_id);
        match &change.kind {
            ChangeKind::Deleted => {
                self.remove(&change.tenant_id);
            }
            ChangeKind::Upserted(preference) => {
                let stored = Stored::at(Some(change.changed_at.unwrap_or(now)));
                if self.set(&change.tenant_id, preference, stored) {
                    self.late.extend(self.tenants.find(&change.tenant_id));
                }
            }
        }
    }

    /// Puts a tenant where their preference says. Returns whether anything changed.
    fn set(&mut self, tenant: &TenantId, preference: &Map<String, Value>, stored: Stored) -> bool {
        // Parameters that somebody has have been found usable, and so have schedules that are remembered.
        let found = self.parameters.find(preference);
        let known = self.schedules.find(preference);
        let slot = match known.filter(|_| found.number.is_some()) {
            Some(slot) => slot,
            None => match self.slot_in(preference) {
                Ok(slot) => {
                    let slot = slot.map(|slot| self.groups.pack(&slot));
                    if known.is_none() {
                        self.schedules.remember(slot);
                    }
                    slot
                }
                Err(errors) => {
                    self.remove(tenant);
                    self.quarantine.insert(tenant.clone(), errors);
                    return true;
                }
            },
        };
        let Some(slot) = slot else {
            return self.remove(tenant);
        };
        let number = self.tenants.number(tenant);
        if self.rows.0.len() <= number as usize {
            self.rows.0.resize(number as usize + 1, Row::EMPTY);
        }
        let old = self.rows.0[number as usize];
        let parameters = self.parameters.acquire(&found);
        let row = &mut self.rows.0[number as usize];
        (row.stored, row.parameters) = (stored, parameters);
        if old.parameters != NONE {
            self.parameters.release(old.parameters);
        }
        let key = GroupKey {
            slot,
            spread_minutes: spread_minute(tenant, self.spread_minutes),
        };
        let moves = old.link.group == NONE || !self.groups.has_key(old.link.group, key);
        if moves {
            self.groups.remove(number, &mut self.rows);
            self.groups.add(key, number, &mut self.rows);
        }
        moves || old.stored != stored || old.parameters != parameters
    }

    /// The slot that a preference comes to; `None` when it is off.
    fn slot_in(&self, preference: &Map<String, Value>) -> Result<Option<Slot>, FieldErrors> {
        let stored = Preference::parse(preference)?;
        let merged = MergedPreference::merge(&stored, &self.defaults, &self.default_zone)?;
        Ok(merged.enabled.then_some(merged.slot))
    }

    /// Takes a tenant out. Returns whether they were scheduled.
    fn remove(&mut self, tenant: &TenantId) -> bool {
        let Some(number) = self.tenants.find(tenant) else {
            return false;
        };
        self.late.remove(&number);
        self.groups.remove(number, &mut self.rows);
        let row = std::mem::replace(&mut self.rows.0[number as usize], Row::EMPTY);
        self.parameters.release(row.parameters);
        self.tenants.remove(number);
        true
    }
}

#[cfg(test)]
mod tests;
