//! The planner: what falls due between two instants. Pure: the schedulers ask it once a tick and hand the
//! answer to the queue.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    ids::TenantId,
    planning::{
        catch_up::{CatchUp, due_instants, due_of},
        mirror::Mirror,
    },
    time::{occurrence::Occurrence, schedule::Schedule, slot::Slot},
    work::trigger::Trigger,
};

/// Tenants of one slot that fall due together: a batch to be.
#[derive(Debug, Clone, PartialEq)]
pub struct DueGroup {
    /// The slot they stand in, without the dates that bound it.
    pub slot: Slot,
    /// When they fall due, spread included.
    pub scheduled_at: DateTime<Utc>,
    /// The key of this run.
    pub occurrence: Occurrence,
    /// Why now.
    pub trigger: Trigger,
    /// Who.
    pub tenants: Vec<TenantId>,
}

/// What a job with a fixed schedule has to run in (`from`, `to`].
#[must_use]
pub fn plan_fixed(
    schedule: &Schedule,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, Occurrence)> {
    let next_after = |after| schedule.next_after(after);
    due_of(next_after, schedule.period(), catch_up, from, to)
        .into_iter()
        .map(|instant| (instant, schedule.occurrence_key(instant)))
        .collect()
}

/// What a preference-based job has to run until `to`, beginning where it has been planned to, plus what late
/// preferences still have to run from before. In the order of time.
///
/// An occurrence that falls due before the moment from which its tenant's schedule counts never runs. The cost grows
/// with the tenants who are due, not with those held. Nothing is taken out of the mirror: say
/// [`set_position`](Mirror::set_position) once the plan has been stored.
#[must_use]
pub fn plan_mirror(mirror: &Mirror, catch_up: CatchUp, to: DateTime<Utc>) -> Vec<DueGroup> {
    let mut plan = Plan::default();
    let Some(position) = mirror.position() else {
        return Vec::new();
    };
    let from = position.planned_until();
    for members in mirror.due_until(to) {
        let (slot, spread) = (members.slot(), members.spread());
        for instant in due_instants(&slot, catch_up, from - spread, to - spread) {
            let due_at = instant + spread;
            let trigger = position.trigger_at(due_at);
            plan.add(&slot, instant, spread, trigger, members.counting_at(due_at));
        }
    }
    for (tenant, slot, spread, late) in mirror.late() {
        let chosen = late.chosen.into_iter().flat_map(|moment| {
            let just_before = moment - spread - TimeDelta::seconds(1);
            due_instants(&slot, catch_up, just_before, to - spread)
        });
        // An edit costs nothing, so the rest of those that were still to come comes too.
        let first = late.moved.map(|due_at| due_at - spread);
        let moved = std::iter::successors(first, |instant| slot.next_after(*instant));
        let is_behind = |instant: &DateTime<Utc>| *instant <= from - spread;
        let instants: BTreeSet<DateTime<Utc>> = chosen
            .take_while(is_behind)
            .chain(moved.take_while(is_behind))
            .collect();
        for instant in instants {
            let tenants = vec![tenant.clone()];
            plan.add(&slot, instant, spread, Trigger::LateChange, tenants);
        }
    }
    plan.into_groups()
}

/// What falls due, put together.
#[derive(Default)]
pub(super) struct Plan(BTreeMap<(DateTime<Utc>, Trigger, Slot, Occurrence, TimeDelta), DueGroup>);

impl Plan {
    /// The groups, in the order of time.
    pub(super) fn into_groups(self) -> Vec<DueGroup> {
        self.0.into_values().collect()
    }

    pub(super) fn add(
        &mut self,
        slot: &Slot,
        instant: DateTime<Utc>,
        spread: TimeDelta,
        trigger: Trigger,
        tenants: Vec<TenantId>,
    ) {
        if tenants.is_empty() {
            return;
        }
        let scheduled_at = instant + spread;
        let occurrence = slot.occurrence_key(instant);
        let slot = slot.without_dates();
        self.0
            .entry((scheduled_at, trigger, slot.clone(), occurrence, spread))
            .or_insert_with(|| DueGroup {
                slot,
                scheduled_at,
                occurrence,
                trigger,
                tenants: Vec::new(),
            })
            .tenants
            .extend(tenants);
    }
}

#[cfg(test)]
mod tests;
