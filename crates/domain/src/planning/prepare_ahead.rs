//! What falls due soon, to be prepared. It is planned beside what is to run, and changes nothing of that.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    mirror::Mirror,
    planner::{DueGroup, Plan},
};
use crate::{ids::TenantId, time::slot::Slot, work::trigger::Trigger};

/// What a preference-based job is to prepare at `now`: everything that falls due in (`from`, `to`], and all that falls due until
/// `from` of the tenants of `changed`, whose preference is another one than when that was planned. In the order of time;
/// nothing that has fallen due by now is among it.
///
/// The cost grows with the groups that fall due until `to`, and with `changed`.
#[must_use]
pub fn plan_ahead<'t>(
    mirror: &Mirror,
    now: DateTime<Utc>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    changed: impl IntoIterator<Item = &'t TenantId>,
) -> Vec<DueGroup> {
    let from = from.max(now);
    let mut plan = Plan::default();
    if from < to {
        for members in mirror.due_until(to) {
            let (slot, spread) = (members.slot(), members.spread());
            for instant in due_between(&slot, spread, from, to) {
                let tenants = members.counting_at(instant + spread);
                plan.add(&slot, instant, spread, Trigger::Prepare, tenants);
            }
        }
    }
    for tenant in changed {
        let Some(slot) = mirror.slot_of(tenant) else {
            continue;
        };
        let spread = mirror.spread_of(tenant);
        let since = mirror.schedule_since(tenant).flatten();
        for instant in due_between(&slot, spread, now, from) {
            if since.is_none_or(|since| since <= instant + spread) {
                let tenants = vec![tenant.clone()];
                plan.add(&slot, instant, spread, Trigger::Prepare, tenants);
            }
        }
    }
    plan.into_groups()
}

/// The instants of a slot whose members, with this spread, fall due in (`from`, `to`].
fn due_between(
    slot: &Slot,
    spread: TimeDelta,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> impl Iterator<Item = DateTime<Utc>> {
    let first = slot.next_after(from - spread);
    std::iter::successors(first, |last| slot.next_after(*last))
        .take_while(move |instant| *instant + spread <= to)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        planning::mirror::update::Reading,
        preference::{change::PreferenceRecord, stored::Preference},
        time::zone::Zone,
    };

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn record(tenant: &str, preference: &Value) -> PreferenceRecord {
        PreferenceRecord {
            tenant_id: TenantId::new(tenant).unwrap(),
            preference: Arc::new(preference.as_object().unwrap().clone()),
            updated_at: Some(at("2026-01-01T00:00:00Z")),
            schedule_since: None,
            organization: None,
        }
    }

    /// A mirror that has been planned until `now`.
    fn mirror(records: &[PreferenceRecord], spread_minutes: u32, now: DateTime<Utc>) -> Mirror {
        let mut mirror = Mirror::new(Preference::default(), Zone::utc(), spread_minutes);
        mirror.replace(records, Reading::first(at("2026-12-31T00:00:00Z")));
        mirror.set_planned_until(now);
        mirror
    }

    fn lines(groups: Vec<DueGroup>) -> Vec<String> {
        let line = |group: DueGroup| {
            assert_eq!(group.trigger, Trigger::Prepare);
            let due = group.scheduled_at.format("%dT%H:%M");
            format!("{} {due} {}", group.occurrence, group.tenants.len())
        };
        groups.into_iter().map(line).collect()
    }

    #[test]
    fn the_day_of_a_clock_change_is_prepared_for_when_it_falls_due() {
        let berlin = |time: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": time, "timezone": "Europe/Berlin"});
        let records = [
            record("gap", &berlin("02:30")),
            record("morning", &berlin("09:00")),
        ];
        let now = at("2026-03-28T13:00:00Z");
        let mirror = mirror(&records, 0, now);
        let planned = plan_ahead(&mirror, now, now, now + TimeDelta::hours(24), []);
        assert_eq!(
            lines(planned),
            ["2026-03-29 29T01:30 1", "2026-03-29 29T07:00 1"]
        );
    }

    #[test]
    fn several_times_a_day_and_hours_are_prepared_one_by_one() {
        let twice =
            json!({"enabled": true, "frequency": "daily", "preferred_time": ["09:00", "18:00"]});
        let hourly = json!({"enabled": true, "frequency": "hourly"});
        let now = at("2026-03-01T08:30:00Z");
        let mirror = mirror(&[record("a", &twice), record("b", &hourly)], 0, now);
        let window = |from: &str, to: &str| lines(plan_ahead(&mirror, now, at(from), at(to), []));
        assert_eq!(
            window("2026-03-01T08:30:00Z", "2026-03-01T10:00:00Z"),
            [
                "2026-03-01T09:00:00Z 01T09:00 1",
                "2026-03-01 01T09:00 1",
                "2026-03-01T10:00:00Z 01T10:00 1"
            ]
        );
        assert_eq!(
            window("2026-03-01T17:30:00Z", "2026-03-01T18:00:00Z"),
            ["2026-03-01T18:00:00Z 01T18:00 1", "2026-03-01#2 01T18:00 1"]
        );
    }

    #[test]
    fn a_tenant_who_has_changed_is_planned_again_and_nobody_else() {
        let daily =
            |time: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": time});
        let records = [record("a", &daily("09:00")), record("b", &daily("10:00"))];
        let now = at("2026-03-01T06:00:00Z");
        let mirror = mirror(&records, 0, now);
        let until = now + TimeDelta::hours(6);
        let changed = ["b", "gone"].map(|id| TenantId::new(id).unwrap());
        let planned = plan_ahead(&mirror, now, until, until, &changed);
        assert_eq!(lines(planned), ["2026-03-01 01T10:00 1"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// However the time goes on, each run of the window is planned once, and none that is due already.
        #[test]
        fn each_run_is_prepared_once_whatever_the_steps_are(
            steps in prop::collection::vec(1_i64..600, 1..12),
            ahead in 1_i64..1_440,
            spread in 0_u32..60,
        ) {
            let preference = |time: &str, frequency: &str| json!({
                "enabled": true, "frequency": frequency, "preferred_time": time, "preferred_day": "monday"
            });
            let records = [
                record("a", &json!({"enabled": true, "frequency": "hourly"})),
                record("b", &json!({"enabled": true, "frequency": "daily", "preferred_time": ["02:30", "09:00"],
                    "timezone": "Europe/Berlin"})),
                record("c", &preference("17:45", "weekly")),
            ];
            let began = at("2026-03-27T00:00:00Z");
            let mut mirror = mirror(&records, spread, began);
            let (mut now, mut until) = (began, began);
            let mut planned: BTreeMap<(String, String), usize> = BTreeMap::new();
            for step in steps {
                let to = now + TimeDelta::minutes(ahead);
                for group in plan_ahead(&mirror, now, until, to, []) {
                    prop_assert!(group.scheduled_at > now && group.scheduled_at <= to);
                    for tenant in group.tenants {
                        let key = (tenant.to_string(), group.occurrence.to_string());
                        *planned.entry(key).or_default() += 1;
                    }
                }
                until = until.max(to);
                now += TimeDelta::minutes(step);
                mirror.set_planned_until(now);
            }
            prop_assert!(planned.values().all(|times| *times == 1), "{:?}", planned);
        }
    }
}
