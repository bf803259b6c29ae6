//! The planner: what falls due between two instants. Pure: the schedulers ask it once a tick and hand the
//! answer to the queue.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{ids::TenantId, mirror::Mirror, occurrence::Occurrence, slot::Slot};

/// What happens to occurrences that were missed, because nobody was there to plan them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatchUp {
    /// Which of them are made up for.
    pub policy: CatchUpPolicy,
    /// How old they may be; `None`: one period of the recurrence for `latest`, without limit for `all`.
    pub window: Option<TimeDelta>,
}

/// Which missed occurrences are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUpPolicy {
    /// The latest one.
    #[default]
    Latest,
    /// Every one.
    All,
    /// None.
    Skip,
}

/// An occurrence planned later than this has been missed; `skip` drops it.
const ON_TIME: TimeDelta = TimeDelta::minutes(2);

/// Tenants of one slot that fall due together: a batch to be.
#[derive(Debug, Clone, PartialEq)]
pub struct DueGroup {
    /// The slot they stand in.
    pub slot: Slot,
    /// When they fall due, spread included.
    pub scheduled_at: DateTime<Utc>,
    /// The key of this run.
    pub occurrence: Occurrence,
    /// Whether their preference was seen only after this time had been planned for others.
    pub late: bool,
    /// Who.
    pub tenants: Vec<TenantId>,
}

/// The instants in (`from`, `to`] at which `slot` falls due and is still to be run.
#[must_use]
pub fn due_instants(
    slot: &Slot,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let window = match catch_up.policy {
        CatchUpPolicy::Skip => Some(ON_TIME),
        CatchUpPolicy::Latest => catch_up.window.or(Some(slot.recurrence.period())),
        CatchUpPolicy::All => catch_up.window,
    };
    let earliest = window
        .and_then(|window| to.checked_sub_signed(window))
        .map_or(from, |w| w.max(from));
    let mut due: Vec<_> =
        std::iter::successors(slot.next_after(earliest), |last| slot.next_after(*last))
            .take_while(|instant| *instant <= to)
            .collect();
    if catch_up.policy == CatchUpPolicy::Latest {
        due.drain(..due.len().saturating_sub(1));
    }
    due
}

/// What a job with a fixed schedule has to run in (`from`, `to`].
#[must_use]
pub fn plan_fixed(
    slot: &Slot,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, Occurrence)> {
    due_instants(slot, catch_up, from, to)
        .into_iter()
        .map(|instant| (instant, slot.occurrence_key(instant)))
        .collect()
}

/// What a preference-based job has to run in (`from`, `to`], plus what late preferences still have to run
/// from before `from`. In the order of time.
///
/// An occurrence earlier than the moment its preference was stored never runs. `spread_minutes` moves each
/// tenant by a stable number of minutes below it.
#[must_use]
pub fn plan_mirror(
    mirror: &Mirror,
    catch_up: CatchUp,
    spread_minutes: u32,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DueGroup> {
    let mut plan = Plan::default();
    for (slot, tenants) in mirror.slots() {
        for (offset, tenants) in by_offset(tenants, spread_minutes) {
            for instant in due_instants(slot, catch_up, from - offset, to - offset) {
                let due = tenants.iter().filter(|(_, since)| **since <= instant);
                plan.add(
                    slot,
                    instant,
                    offset,
                    false,
                    due.map(|(tenant, _)| (*tenant).clone()),
                );
            }
        }
    }
    for (tenant, slot, since) in mirror
        .late()
        .filter(|(_, _, since)| *since != DateTime::<Utc>::MIN_UTC)
    {
        let offset = spread_offset(tenant, spread_minutes);
        let just_before = since - TimeDelta::nanoseconds(1);
        for instant in due_instants(slot, catch_up, just_before, from - offset) {
            plan.add(slot, instant, offset, true, [tenant.clone()]);
        }
    }
    plan.0.into_values().collect()
}

#[derive(Default)]
struct Plan(BTreeMap<(DateTime<Utc>, bool, Slot, TimeDelta), DueGroup>);

impl Plan {
    fn add(
        &mut self,
        slot: &Slot,
        instant: DateTime<Utc>,
        offset: TimeDelta,
        late: bool,
        tenants: impl IntoIterator<Item = TenantId>,
    ) {
        let mut tenants = tenants.into_iter().peekable();
        if tenants.peek().is_none() {
            return;
        }
        let scheduled_at = instant + offset;
        let group = self
            .0
            .entry((scheduled_at, late, slot.clone(), offset))
            .or_insert_with(|| DueGroup {
                slot: slot.clone(),
                scheduled_at,
                occurrence: slot.occurrence_key(instant),
                late,
                tenants: Vec::new(),
            });
        group.tenants.extend(tenants);
    }
}

type Since<'a> = (&'a TenantId, &'a DateTime<Utc>);

fn by_offset(
    tenants: &BTreeMap<TenantId, DateTime<Utc>>,
    spread_minutes: u32,
) -> BTreeMap<TimeDelta, Vec<Since<'_>>> {
    let mut offsets: BTreeMap<TimeDelta, Vec<Since<'_>>> = BTreeMap::new();
    for (tenant, since) in tenants {
        offsets
            .entry(spread_offset(tenant, spread_minutes))
            .or_default()
            .push((tenant, since));
    }
    offsets
}

/// A tenant's place within the spread: the same for ever, for the same tenant and number of minutes.
fn spread_offset(tenant: &TenantId, spread_minutes: u32) -> TimeDelta {
    if spread_minutes <= 1 {
        return TimeDelta::zero();
    }
    // FNV-1a: the standard library's hashers do not promise the same value in the next release.
    let hash = tenant
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    TimeDelta::minutes((hash % u64::from(spread_minutes)) as i64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        change::{Change, ChangeKind, PreferenceRecord},
        ids::FeatureType,
        preference::Preference,
        zone::Zone,
    };

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn mirror_of(tenants: &[(&str, Value, &str)]) -> Mirror {
        let records: Vec<_> = tenants
            .iter()
            .map(|(tenant, preference, updated_at)| PreferenceRecord {
                tenant_id: TenantId::new(tenant).unwrap(),
                preference: Arc::new(preference.as_object().unwrap().clone()),
                updated_at: Some(at(updated_at)),
            })
            .collect();
        let mut mirror = Mirror::new(Preference::default(), Zone::utc());
        mirror.replace(&records, None);
        mirror
    }

    fn planned(mirror: &Mirror, catch_up: CatchUp, from: &str, to: &str) -> Vec<String> {
        plan_mirror(mirror, catch_up, 0, at(from), at(to))
            .into_iter()
            .map(|group| {
                let late = if group.late { " late" } else { "" };
                format!("{} {}{late}", group.occurrence, group.tenants.len())
            })
            .collect()
    }

    fn daily() -> Value {
        json!({"enabled": true, "frequency": "daily"})
    }

    fn policy(policy: CatchUpPolicy) -> CatchUp {
        CatchUp {
            policy,
            window: None,
        }
    }

    #[test]
    fn a_tick_finds_what_fell_due_since_the_last_one_and_only_that() {
        let mirror = mirror_of(&[
            ("a", daily(), "2026-01-01T00:00:00Z"),
            ("b", daily(), "2026-01-01T00:00:00Z"),
        ]);
        let plan = |from, to| planned(&mirror, CatchUp::default(), from, to);
        assert!(plan("2026-03-01T08:00:00Z", "2026-03-01T08:59:59Z").is_empty());
        assert_eq!(
            plan("2026-03-01T08:59:59Z", "2026-03-01T09:00:00Z"),
            ["2026-03-01 2"]
        );
        assert!(plan("2026-03-01T09:00:00Z", "2026-03-01T09:01:00Z").is_empty());
        assert!(
            plan("2026-03-01T10:00:00Z", "2026-03-01T08:00:00Z").is_empty(),
            "the clock stepped back"
        );
    }

    #[test]
    fn three_days_down_follow_the_policy() {
        let mirror = mirror_of(&[("a", daily(), "2026-01-01T00:00:00Z")]);
        let plan = |catch_up| {
            planned(
                &mirror,
                catch_up,
                "2026-03-01T12:00:00Z",
                "2026-03-04T12:00:00Z",
            )
        };
        assert_eq!(plan(CatchUp::default()), ["2026-03-04 1"]);
        assert_eq!(
            plan(policy(CatchUpPolicy::All)),
            ["2026-03-02 1", "2026-03-03 1", "2026-03-04 1"]
        );
        assert!(plan(policy(CatchUpPolicy::Skip)).is_empty());
        let within = |minutes| CatchUp {
            policy: CatchUpPolicy::All,
            window: Some(TimeDelta::minutes(minutes)),
        };
        assert_eq!(plan(within(30 * 60)), ["2026-03-03 1", "2026-03-04 1"]);
        let weekly = mirror_of(&[(
            "w",
            json!({"enabled": true, "frequency": "weekly"}),
            "2026-01-01T00:00:00Z",
        )]);
        let missed_by_two_days = planned(
            &weekly,
            CatchUp::default(),
            "2026-03-01T12:00:00Z",
            "2026-03-04T12:00:00Z",
        );
        assert_eq!(missed_by_two_days, ["2026-03-02 1"]);

        // Several missed within the window: the latest alone.
        let twice_a_week =
            json!({"enabled": true, "frequency": "weekly", "preferred_day": ["monday", "tuesday"]});
        let twice_a_week = mirror_of(&[("t", twice_a_week, "2026-01-01T00:00:00Z")]);
        let latest = planned(
            &twice_a_week,
            CatchUp::default(),
            "2026-03-01T12:00:00Z",
            "2026-03-04T12:00:00Z",
        );
        assert_eq!(latest, ["2026-03-03 1"]);
    }

    #[test]
    fn nothing_runs_for_a_time_before_the_preference_was_stored() {
        let mirror = mirror_of(&[
            ("early", daily(), "2026-03-01T09:00:00Z"),
            ("tooLate", daily(), "2026-03-01T09:00:01Z"),
        ]);
        let groups = plan_mirror(
            &mirror,
            CatchUp::default(),
            0,
            at("2026-03-01T08:00:00Z"),
            at("2026-03-01T10:00:00Z"),
        );
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].tenants, [TenantId::new("early").unwrap()]);
    }

    #[test]
    fn a_change_stored_in_time_but_seen_after_the_tick_still_runs_once() {
        let mut mirror = mirror_of(&[]);
        let change = Change {
            tenant_id: TenantId::new("a").unwrap(),
            feature_type: FeatureType::new("f").unwrap(),
            kind: ChangeKind::Upserted(Arc::new(daily().as_object().unwrap().clone())),
            changed_at: Some(at("2026-03-01T08:59:30Z")),
        };
        mirror.apply(&change, at("2026-03-01T09:00:20Z"));
        let plan = |mirror: &Mirror| {
            planned(
                mirror,
                CatchUp::default(),
                "2026-03-01T09:00:00Z",
                "2026-03-01T09:00:20Z",
            )
        };
        assert_eq!(plan(&mirror), ["2026-03-01 1 late"]);
        mirror.planned();
        assert!(plan(&mirror).is_empty());
    }

    #[test]
    fn after_a_restart_only_preferences_stored_since_the_last_plan_count_as_late() {
        let record = |tenant: &str, updated_at: &str| PreferenceRecord {
            tenant_id: TenantId::new(tenant).unwrap(),
            preference: Arc::new(daily().as_object().unwrap().clone()),
            updated_at: Some(at(updated_at)),
        };
        let mut mirror = Mirror::new(Preference::default(), Zone::utc());
        let records = [
            record("known", "2026-03-01T08:00:00Z"),
            record("new", "2026-03-01T08:59:30Z"),
        ];
        mirror.replace(&records, Some(at("2026-03-01T08:59:00Z")));
        let groups = plan_mirror(
            &mirror,
            CatchUp::default(),
            0,
            at("2026-03-01T09:00:10Z"),
            at("2026-03-01T09:05:00Z"),
        );
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].tenants, [TenantId::new("new").unwrap()]);
    }

    #[test]
    fn spread_gives_every_tenant_a_lasting_minute_and_loses_nobody() {
        let ids: Vec<String> = (0..600).map(|n| format!("user{n}")).collect();
        let tenants: Vec<_> = ids
            .iter()
            .map(|id| (id.as_str(), daily(), "2026-01-01T00:00:00Z"))
            .collect();
        let mirror = mirror_of(&tenants);
        let mut minutes: BTreeMap<DateTime<Utc>, usize> = BTreeMap::new();
        let mut from = at("2026-03-01T08:59:00Z");
        while from < at("2026-03-01T11:00:00Z") {
            let to = from + TimeDelta::seconds(50);
            for group in plan_mirror(&mirror, CatchUp::default(), 60, from, to) {
                assert_eq!(group.occurrence.to_string(), "2026-03-01");
                *minutes.entry(group.scheduled_at).or_default() += group.tenants.len();
            }
            from = to;
        }
        assert_eq!(minutes.values().sum::<usize>(), 600);
        assert!(
            minutes.len() > 50 && minutes.values().all(|n| *n < 40),
            "{minutes:?}"
        );
        assert_eq!(
            spread_offset(&TenantId::new("user123").unwrap(), 60),
            TimeDelta::minutes(2)
        );
    }
}
