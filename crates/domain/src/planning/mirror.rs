//! The mirror: one job's tenants by what they have in common, kept current by a snapshot and the changes after it.
//! It keeps who falls due when; the [planner](crate::plan_mirror) decides what of it is to be run.
//!
//! Ten million tenants fit into half a gigabyte: a tenant is one record of 25 bytes and the id, equal parameters are kept
//! once, with the organization of those who have one, and a group of tenants who fall due together is a list that goes through
//! the records. A change moves one record from one list to another; a tick looks only at the groups that are due.
//!
//! [`update`] keeps it current, [`due`] is what the planner asks of it, and the private modules are the tables behind both.
//! What else is kept of every tenant goes into [`tenants::Row`], where four bytes cost forty megabytes with ten million.
//! `tests/it/mirror.rs` holds every way of changing it against a plain map of tenants that is walked whole.

pub(crate) mod due;
pub(crate) mod update;

mod canonical;
mod full_read;
mod groups;
mod moved;
mod packed;
mod parameters;
mod schedules;
mod since;
mod tenants;
mod zone_rules;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use self::{
    full_read::FullRead, groups::Groups, parameters::ParameterTable, schedules::Schedules,
    tenants::Tenants,
};
use crate::{
    ids::TenantId,
    input::errors::FieldErrors,
    planning::{position::Position, spread::spread_minute},
    preference::{
        effective::{MergedPreference, SharedPreference},
        organization::Membership,
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
    groups: Groups,
    parameters: ParameterTable,
    schedules: Schedules,
    quarantine: BTreeMap<TenantId, FieldErrors>,
    late: BTreeMap<u32, Late>,
    /// The full read that has begun and not ended.
    full_read: Option<FullRead>,
}

/// What of a tenant lies behind the position and is still to be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Late {
    /// What the preference, seen late, asks for from this moment on.
    pub(crate) chosen: Option<DateTime<Utc>>,
    /// What was still to come when the job's defaults or spread put its time into the past, from this moment on. It falls
    /// due now, whatever the job makes up for.
    pub(crate) moved: Option<DateTime<Utc>>,
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
            groups: Groups::default(),
            parameters: ParameterTable::default(),
            schedules: Schedules::default(),
            quarantine: BTreeMap::new(),
            late: BTreeMap::new(),
            full_read: None,
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

    /// Whether no tenant is scheduled.
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

    /// The first `most` scheduled tenants, by id, whose ids begin with `begin`. It looks at all tenants.
    #[must_use]
    pub fn tenants_beginning(&self, begin: &str, most: usize) -> Vec<TenantId> {
        let found = self.tenants.first_beginning(begin, most).into_iter();
        found.map(|number| self.tenants.id(number)).collect()
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
        Some(self.groups.slot(self.tenants.group(number)))
    }

    /// The organization of a scheduled tenant; `None` inside: the tenant belongs to none.
    #[must_use]
    pub fn organization_of(&self, tenant: &TenantId) -> Option<Option<Arc<Membership>>> {
        let row = self.tenants.row(self.tenants.find(tenant)?);
        let (_, organization) = self.parameters.get(row.parameters);
        Some(organization)
    }

    /// A scheduled tenant's preference, merged with the job's defaults.
    #[must_use]
    pub fn preference_of(&self, tenant: &TenantId) -> Option<MergedPreference> {
        let row = self.tenants.row(self.tenants.find(tenant)?);
        let (fields, organization) = self.parameters.get(row.parameters);
        let stored = Preference::parse(&fields).ok()?;
        let slot = self.groups.slot(row.link.group);
        let merged = MergedPreference::with_slot(&stored, &self.defaults, slot);
        Some(merged.of_organization(organization))
    }

    /// The preferences of several tenants, in their order. Those who have the same share one.
    #[must_use]
    pub fn preferences_of(&self, tenants: &[TenantId]) -> Vec<Option<SharedPreference>> {
        let mut shared: HashMap<(u32, u32), Option<SharedPreference>> = HashMap::new();
        let mut preference = |tenant: &TenantId| {
            let row = self.tenants.row(self.tenants.find(tenant)?);
            let same = shared.entry((row.parameters, row.link.group));
            same.or_insert_with(|| self.preference_of(tenant).map(SharedPreference::from))
                .clone()
        };
        tenants.iter().map(&mut preference).collect()
    }

    /// From when a scheduled tenant's occurrences count; `None` inside: long ago.
    #[must_use]
    pub fn schedule_since(&self, tenant: &TenantId) -> Option<Option<DateTime<Utc>>> {
        let number = self.tenants.find(tenant)?;
        Some(self.tenants.since(number).instant())
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

    /// When a tenant falls due next; `None` while none does.
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

    /// How far the job has been planned; `None` before [`set_position`](Self::set_position) has said so.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.groups.position()
    }

    /// Says how far the job has been planned. Nothing falls due before the first call.
    pub fn set_position(&mut self, position: Position) {
        // Nothing has been planned while the first full read is going on.
        if self.loaded {
            self.late.clear();
        }
        self.groups.set_position(position);
    }

    /// Says that everything due until `until` has been planned, where the mirror alone knows how far that is. A moment
    /// earlier than the last one means that the clock has [stepped back](Position::move_to).
    pub fn set_planned_until(&mut self, until: DateTime<Utc>) {
        let position = self.position().cloned();
        let mut position = position.unwrap_or_else(|| Position::at(until));
        position.move_to(until);
        self.set_position(position);
    }
}

#[cfg(test)]
mod tests;
