//! What had to happen, from what users chose alone. It knows the rules, the storms, and nothing of how the schedule is
//! kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::StoredResult;
use punctual_domain::{ItemStatus, MergedPreference, Preference, Slot, TenantId, Zone};
use serde_json::{Map, Value};

use super::{
    database::{SOON, Version},
    faults::{Storm, Weather},
    world::Outcome,
};

/// A run, and when it was put in the queue by the true clock.
pub struct Ran {
    pub stored: StoredResult,
    pub queued_at: DateTime<Utc>,
}

/// The slot of a preference, when it is on.
fn slot(preference: &Option<std::sync::Arc<Map<String, Value>>>) -> Option<Slot> {
    let stored = Preference::parse(preference.as_ref()?).ok()?;
    let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc()).ok()?;
    merged.enabled.then_some(merged.slot)
}

/// Until when whatever happened at `instant` may have been seen late.
fn settled(weather: &Weather, instant: DateTime<Utc>) -> DateTime<Utc> {
    let storm = weather.0.iter().rev().find(|storm| near(storm, instant));
    storm.map_or(instant, |storm| storm.to.max(instant)) + SOON
}

fn near(storm: &Storm, instant: DateTime<Utc>) -> bool {
    storm.from - SOON <= instant && instant < storm.to + SOON
}

pub fn judge(
    versions: &BTreeMap<TenantId, Vec<Version>>,
    runs: &[Ran],
    weather: &Weather,
    time: Range<DateTime<Utc>>,
    outcome: &mut Outcome,
) {
    let done: BTreeSet<(TenantId, String)> = runs
        .iter()
        .map(|ran| {
            let tenant = ran.stored.result.tenant_id.clone();
            (tenant, ran.stored.occurrence.to_string())
        })
        .collect();
    let ended: Vec<_> = runs
        .iter()
        .filter(|ran| ran.stored.result.status != ItemStatus::Skipped)
        .map(|ran| (&ran.stored.result.tenant_id, ran.stored.occurrence))
        .collect();
    if BTreeSet::from_iter(&ended).len() != ended.len() {
        outcome
            .violations
            .push("an occurrence has two results".into());
    }
    for (tenant, versions) in versions {
        for (index, version) in versions.iter().enumerate() {
            let next = versions.get(index + 1);
            required(tenant, version, next, &done, weather, &time, outcome);
        }
    }
    for ran in runs {
        allowed(ran, versions, outcome);
        latest(ran, versions, weather, outcome);
    }
}

/// Of several occurrences that were missed, the latest is made up: whoever runs late has not been due again meanwhile.
fn latest(
    ran: &Ran,
    versions: &BTreeMap<TenantId, Vec<Version>>,
    weather: &Weather,
    outcome: &mut Outcome,
) {
    let clock_is_wrong =
        |storm: &Storm| storm.clock != TimeDelta::zero() && near(storm, ran.queued_at);
    if weather.0.iter().any(clock_is_wrong) {
        return;
    }
    let (tenant, scheduled_at) = (&ran.stored.result.tenant_id, ran.stored.scheduled_at);
    let was_due = |version: &Version| {
        let slot = slot(&version.preference)?;
        let is_it = slot.next_after(scheduled_at - TimeDelta::seconds(1)) == Some(scheduled_at);
        slot.next_after(scheduled_at).filter(|_| is_it)
    };
    let next = versions[tenant].iter().filter_map(was_due).max();
    if next.is_some_and(|next| next + SOON < ran.queued_at) {
        outcome.violations.push(format!(
            "{tenant} ran for {scheduled_at} as late as {}, and was due again since",
            ran.queued_at
        ));
    }
}

/// Whoever was due, and is known to have been seen in time, has run.
fn required(
    tenant: &TenantId,
    version: &Version,
    next: Option<&Version>,
    done: &BTreeSet<(TenantId, String)>,
    weather: &Weather,
    time: &Range<DateTime<Utc>>,
    outcome: &mut Outcome,
) {
    let Some(slot) = slot(&version.preference) else {
        return;
    };
    let replaced_at = next.map_or(time.end, |next| next.stored_at);
    let just_before = version.stored_at.max(time.start) - TimeDelta::microseconds(1);
    let due = std::iter::successors(slot.next_after(just_before), |last| slot.next_after(*last));
    for instant in due.take_while(|instant| *instant < replaced_at) {
        // By then whoever schedules has planned it, and by the true preference.
        let planned = settled(weather, instant).max(version.known_by + SOON);
        // Whoever starts while the clock is wrong cannot know what it was before.
        let lost = weather.0.iter().any(|storm| {
            let restarts = storm.down || storm.two_schedulers || storm.crash_every.is_some();
            near(storm, instant) && restarts && storm.clock > TimeDelta::zero()
        });
        // Of several that were missed together only the latest is made up.
        let later = slot
            .next_after(instant)
            .is_some_and(|later| later <= planned);
        if replaced_at <= planned || later || lost {
            outcome.excused += 1;
            continue;
        }
        outcome.required += 1;
        let occurrence = slot.occurrence_key(instant).to_string();
        if !done.contains(&(tenant.clone(), occurrence.clone())) {
            outcome.violations.push(format!(
                "{tenant} was due {slot} at {instant} (stored {}, replaced {replaced_at}) and has not run for \
                 {occurrence}",
                version.stored_at
            ));
        }
    }
}

/// Whoever has run had chosen that time, before it, and had not been known to have chosen another.
fn allowed(ran: &Ran, versions: &BTreeMap<TenantId, Vec<Version>>, outcome: &mut Outcome) {
    let StoredResult {
        result,
        occurrence,
        scheduled_at,
        ..
    } = &ran.stored;
    let versions = &versions[&result.tenant_id];
    let chosen = versions.iter().enumerate().any(|(index, version)| {
        let fits = version.stored_at <= *scheduled_at
            && slot(&version.preference).is_some_and(|slot| {
                slot.next_after(*scheduled_at - TimeDelta::seconds(1)) == Some(*scheduled_at)
                    && slot.occurrence_key(*scheduled_at) == *occurrence
            });
        let known_to_be_replaced = versions.get(index + 1).is_some_and(|next| {
            next.known_by + SOON < ran.queued_at && next.stored_at <= *scheduled_at
        });
        fits && !known_to_be_replaced
    });
    if !chosen {
        outcome.violations.push(format!(
            "{} ran for {occurrence}, due {scheduled_at}, queued {}, and had not chosen it",
            result.tenant_id, ran.queued_at
        ));
    }
    let own = result.status != ItemStatus::Succeeded
        || result.output.as_ref().is_some_and(|output| {
            output["tenant"] == result.tenant_id.as_str()
                && output["of"] == result.tenant_id.as_str()
                && output["enabled"] == true
        });
    if !own {
        outcome.violations.push(format!(
            "{} got the result {:?}",
            result.tenant_id, result.output
        ));
    }
}
