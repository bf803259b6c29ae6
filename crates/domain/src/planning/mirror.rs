//! The mirror: one job's tenants by what they have in common, kept current by a snapshot and the changes after it.
//! It keeps who falls due when; the [planner](crate::plan_mirror) decides what of it is to be run.
//!
//! Ten million tenants fit into a gigabyte: ids stand in one block, equal parameters are kept once, and a group of
//! tenants who fall due together is a list of numbers. A change moves one number from one list to another; a tick
//! looks only at the groups that are due.

mod canonical;
mod groups;
mod moved;
mod parameters;
mod schedules;
mod tenants;

use std::{borrow::Borrow, collections::BTreeMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use self::{
    groups::{GroupKey, Groups, Link, Links, NONE},
    parameters::ParameterTable,
    schedules::Schedules,
    tenants::Tenants,
};
use crate::{
    ids::TenantId,
    input::errors::FieldErrors,
    planning::{
        backfill::{BackfillGroup, Dates},
        position::Horizon,
        spread::spread_minute,
    },
    preference::{
        change::{Change, ChangeKind, PreferenceRecord},
        effective::MergedPreference,
        stored::Preference,
    },
    time::{slot::Slot, zone::Zone},
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
    late: BTreeMap<u32, Late>,
}

/// What of a tenant lies behind the horizon and is still to be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Late {
    /// What the preference, seen late, asks for from this moment on.
    pub(crate) chosen: Option<DateTime<Utc>>,
    /// What was still to come when the job's defaults or spread put its time into the past, from this moment on. It falls
    /// due now, whatever the job makes up for.
    pub(crate) moved: Option<DateTime<Utc>>,
}

/// When preferences were read, and what the reader had seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When they were read. No preference has been stored later.
    pub at: DateTime<Utc>,
    /// Everything stored until then had been seen before: nothing from before it is planned late. `None`: nothing has
    /// been seen before, and nothing is late.
    pub seen_until: Option<DateTime<Utc>>,
    /// Until when the mirror has followed every single change.
    pub followed_until: Option<DateTime<Utc>>,
}

impl Reading {
    /// The first one, at `at`.
    #[must_use]
    pub const fn first(at: DateTime<Utc>) -> Self {
        Self {
            at,
            seen_until: None,
            followed_until: None,
        }
    }
}

/// What is kept of the tenant of each number.
#[derive(Debug, Default)]
struct Rows(Vec<Row>);

#[derive(Debug, Clone, Copy)]
struct Row {
    link: Link,
    since: Since,
    parameters: u32,
}

impl Row {
    const EMPTY: Self = Self {
        link: Link::NOWHERE,
        since: Since(0),
        parameters: NONE,
    };
}

impl Links for Rows {
    fn link(&mut self, tenant: u32) -> &mut Link {
        &mut self.0[tenant as usize].link
    }
}

/// From when a tenant's occurrences count, in seconds after 1970, rounded up: occurrences are on whole seconds, so the
/// same ones count. 0: long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Since(u32);

impl Since {
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

/// By how much the Config Database's clock may be ahead of ours without one of them being wrong.
const AHEAD: TimeDelta = TimeDelta::minutes(10);

/// What the Config Database says of when a preference came to be as it is.
#[derive(Debug, Clone, Copy)]
struct Told {
    schedule_since: Option<DateTime<Utc>>,
    stored_at: Option<DateTime<Utc>>,
    /// When it was read.
    read_at: DateTime<Utc>,
    /// Until when the mirror has followed every change: it knows better whether one of them moved the schedule.
    followed_until: Option<DateTime<Utc>>,
}

impl Told {
    /// From when the occurrences count of a tenant whose slot is a new one, or has been theirs since `same_slot`.
    fn since(self, same_slot: Option<Since>) -> Since {
        match (same_slot, self.schedule_since) {
            (Some(known), None) => known,
            (Some(known), Some(told)) if Some(told) <= self.followed_until => {
                known.min(Since::at(Some(told)))
            }
            (_, told) => {
                let told = told.or(self.stored_at);
                // A clock that is a little ahead of ours puts nothing off. One that is far ahead may be right.
                Since::at(told.map(|told| match told - self.read_at {
                    ahead if ahead > TimeDelta::zero() && ahead <= AHEAD => self.read_at,
                    _ => told,
                }))
            }
        }
    }
}

/// What a preference changed about a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    How,
    When,
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

    /// Those of them for whom what falls due at `due_at` counts.
    pub(crate) fn counting_at(&self, due_at: DateTime<Utc>) -> Vec<TenantId> {
        let last = Since::at(Some(due_at));
        let counts = |tenant: &u32| self.mirror.rows.0[*tenant as usize].since <= last;
        self.numbers()
            .filter(counts)
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
            late: BTreeMap::new(),
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

    /// From when a scheduled tenant's occurrences count; `None` inside: long ago.
    #[must_use]
    pub fn schedule_since(&self, tenant: &TenantId) -> Option<Option<DateTime<Utc>>> {
        let row = self.rows.0[self.tenants.find(tenant)? as usize];
        Some(row.since.instant())
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

    /// Tenants of whom something behind the horizon is still to be planned, with their slot and their spread.
    pub(crate) fn late(&self) -> impl Iterator<Item = (TenantId, Slot, TimeDelta, Late)> {
        self.late.iter().map(|(number, late)| {
            let group = self.rows.0[*number as usize].link.group;
            let (slot, spread) = (self.groups.slot(group), self.groups.spread(group));
            (self.tenants.id(*number), slot, spread, *late)
        })
    }

    /// Takes a full read of the feature's preferences: tenants not among `records` are gone.
    ///
    /// What differs in its schedule from what was known counts as late: its time may have been planned without it. Where
    /// nothing was known yet, that is what has been stored since [`Reading::seen_until`].
    pub fn replace<R: Borrow<PreferenceRecord>>(
        &mut self,
        records: impl IntoIterator<Item = R>,
        reading: Reading,
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
            let told = Told {
                schedule_since: record.schedule_since,
                stored_at: record.updated_at,
                read_at: reading.at,
                followed_until: reading.followed_until,
            };
            let mut changed = self.set(&record.tenant_id, &record.preference, told);
            if was_quarantined.is_some()
                && was_quarantined.as_ref() == self.quarantine.get(&record.tenant_id)
            {
                changed = Changed::Nothing;
            }
            if let Some(number) = self.tenants.find(&record.tenant_id) {
                if present.len() <= number as usize {
                    present.resize(number as usize + 1, false);
                }
                present[number as usize] = true;
                if changed == Changed::When {
                    self.is_late(number, was_loaded, reading);
                }
            }
            difference.changed += usize::from(changed > Changed::Nothing);
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

    /// Takes one change of the feed.
    pub fn apply(&mut self, change: &Change, reading: Reading) {
        self.quarantine.remove(&change.tenant_id);
        match &change.kind {
            ChangeKind::Deleted => {
                self.remove(&change.tenant_id);
            }
            ChangeKind::Upserted(preference) => {
                let told = Told {
                    schedule_since: change.schedule_since,
                    stored_at: Some(change.changed_at.unwrap_or(reading.at)),
                    read_at: reading.at,
                    followed_until: Some(DateTime::<Utc>::MAX_UTC),
                };
                let changed = self.set(&change.tenant_id, preference, told);
                if let Some(number) = self.tenants.find(&change.tenant_id)
                    && changed == Changed::When
                {
                    self.is_late(number, true, reading);
                }
            }
        }
    }

    /// Plans what a tenant's new schedule asks for behind the horizon, from where it had not been seen on. Where nothing
    /// was known before, a schedule from before that is not new.
    fn is_late(&mut self, number: u32, was_known: bool, reading: Reading) {
        // What was to come before, the tenant no longer wants.
        self.late.remove(&number);
        let since = self.rows.0[number as usize].since.instant();
        let Some(seen_until) = reading.seen_until else {
            return;
        };
        if was_known || since.is_some_and(|since| since > seen_until) {
            let from = since.map_or(seen_until, |since| since.max(seen_until));
            self.late.entry(number).or_default().chosen = Some(from);
        }
    }

    /// Puts a tenant where their preference says.
    fn set(&mut self, tenant: &TenantId, preference: &Map<String, Value>, told: Told) -> Changed {
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
                    return Changed::When;
                }
            },
        };
        let Some(slot) = slot else {
            let was_on = self.remove(tenant);
            return if was_on {
                Changed::When
            } else {
                Changed::Nothing
            };
        };
        let number = self.tenants.number(tenant);
        if self.rows.0.len() <= number as usize {
            self.rows.0.resize(number as usize + 1, Row::EMPTY);
        }
        let old = self.rows.0[number as usize];
        let same_slot = old.link.group != NONE && self.groups.packed_slot(old.link.group) == slot;
        let since = told.since(same_slot.then_some(old.since));
        let parameters = self.parameters.acquire(&found);
        let row = &mut self.rows.0[number as usize];
        (row.since, row.parameters) = (since, parameters);
        if old.parameters != NONE {
            self.parameters.release(old.parameters);
        }
        if !same_slot {
            let spread_minutes = spread_minute(tenant, self.spread_minutes);
            let key = GroupKey {
                slot,
                spread_minutes,
            };
            self.groups.remove(number, &mut self.rows);
            self.groups.add(key, number, &mut self.rows);
        }
        if !same_slot || old.since != since {
            Changed::When
        } else if old.parameters != parameters {
            Changed::How
        } else {
            Changed::Nothing
        }
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
