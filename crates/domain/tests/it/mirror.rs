//! The mirror and its planner against the obvious way to do the same: a map of tenants that is walked whole at every
//! tick. Random histories of snapshots, changes, ticks and clock steps must give the same plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use punctual_domain::{
    CatchUp, CatchUpPolicy, Change, ChangeKind, FeatureType, Membership, MergedPreference, Mirror,
    Position, Preference, PreferenceRecord, Reading, TenantId, Trigger, Zone, due_instants,
    plan_mirror,
};
use serde_json::{Map, Value, json};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A tenant stores one of some preferences, or none, or gets another organization, this many seconds before it is seen.
    Change {
        tenant: u8,
        preference: u8,
        organization: u8,
        seen_after: u16,
    },
    /// Everything is read anew, without the last few changes.
    Read,
    /// So much time passes, or the clock steps back, and a tick plans.
    Tick(i32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..30_u8, 0..16_u8, 0..4_u8, prop_oneof![Just(0), 0..100_u16, 0..9000_u16])
            .prop_map(|(tenant, preference, organization, seen_after)| Step::Change { tenant, preference, organization, seen_after }),
        1 => Just(Step::Read),
        4 => prop_oneof![1..120_i32, 600..40_000_i32, -7200..0_i32, Just(3 * 86_400)].prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..80)
}

fn preference(number: u8) -> Map<String, Value> {
    let value = match number {
        0 => json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"}),
        1 => {
            json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "template_overrides": {"a": 1}})
        }
        2 => {
            json!({"enabled": true, "frequency": "daily", "preferred_time": "02:30", "timezone": "Europe/Berlin"})
        }
        3 => json!({"enabled": true, "frequency": "hourly", "preferred_time": "00:15"}),
        4 => {
            json!({"enabled": true, "frequency": "weekly", "preferred_day": ["monday", "sunday"]})
        }
        5 => {
            json!({"enabled": true, "frequency": "biweekly", "preferred_day": "thursday", "timezone": "Asia/Tokyo"})
        }
        6 => json!({"enabled": true, "frequency": "monthly", "preferred_day": [1, 29, "last"]}),
        7 => json!({"enabled": true, "unknown": "kept"}),
        8 => json!({"enabled": false, "frequency": "daily"}),
        9 => json!({"enabled": true, "frequency": "daily", "preferred_time": "25:00"}),
        10 => {
            json!({"enabled": true, "frequency": "daily", "preferred_time": ["18:00", "09:00", "02:30"], "timezone": "Europe/Berlin"})
        }
        11 => {
            json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday", "interval": 2, "start_date": "2026-03-20"})
        }
        12 => {
            json!({"enabled": true, "frequency": "daily", "end_date": "2026-03-29", "paused_until": "2026-03-28T10:00:00Z"})
        }
        13 => {
            json!({"enabled": true, "frequency": "monthly", "preferred_day": ["last weekday", "last sunday"]})
        }
        14 => json!({"enabled": true, "frequency": "once", "date": "2026-03-29"}),
        _ => json!({"enabled": true, "preferred_time": "09:00"}),
    };
    value.as_object().unwrap().clone()
}

fn membership(number: u8) -> Option<Arc<Membership>> {
    let value = match number {
        0 => json!({"id": "acme"}),
        1 => json!({"id": "acme", "fields": ["frequency"]}),
        2 => json!({"id": "umbrella", "fields": ["frequency", "timezone"]}),
        _ => return None,
    };
    Some(Arc::new(serde_json::from_value(value).unwrap()))
}

fn defaults() -> Preference {
    let defaults =
        json!({"frequency": "weekly", "preferred_day": "tuesday", "template_overrides": {"b": 2}});
    Preference::parse(defaults.as_object().unwrap()).unwrap()
}

fn tenant(number: u8) -> TenantId {
    TenantId::new(format!("tenant{number}")).unwrap()
}

/// What a plan says, in an order of its own.
type Plan = BTreeSet<(DateTime<Utc>, Trigger, String, TenantId)>;

/// The obvious way.
struct Model {
    /// With the moment from which the slot counts.
    stored: BTreeMap<TenantId, (MergedPreference, DateTime<Utc>)>,
    /// With the moment from which something late counts.
    late: BTreeMap<TenantId, DateTime<Utc>>,
    position: Position,
    spread_minutes: u32,
}

impl Model {
    fn set(
        &mut self,
        tenant: &TenantId,
        preference: &Map<String, Value>,
        organization: Option<Arc<Membership>>,
        stored_at: DateTime<Utc>,
        reading: Reading,
    ) {
        let merged = Preference::parse(preference)
            .and_then(|stored| MergedPreference::merge(&stored, &defaults(), &Zone::utc()))
            .map(|merged| merged.of_organization(organization));
        match merged {
            Ok(merged) if merged.enabled => {
                let mut since = stored_at.min(reading.at);
                match self.stored.get(tenant) {
                    // The same schedule: only how has changed.
                    Some((known, known_since)) if known.slot == merged.slot => since = *known_since,
                    _ => {
                        let from = since.max(reading.seen_until.unwrap());
                        self.late.insert(tenant.clone(), from);
                    }
                }
                self.stored.insert(tenant.clone(), (merged, since));
            }
            _ => {
                self.late.remove(tenant);
                self.stored.remove(tenant);
            }
        }
    }

    fn plan(&self, mirror: &Mirror, catch_up: CatchUp, to: DateTime<Utc>) -> Plan {
        let mut plan = Plan::new();
        for (tenant, (merged, since)) in &self.stored {
            let spread = if self.spread_minutes > 1 {
                mirror.spread_of(tenant)
            } else {
                TimeDelta::zero()
            };
            let mut add = |from: DateTime<Utc>, until: DateTime<Utc>, late: Option<Trigger>| {
                for instant in due_instants(&merged.slot, catch_up, from - spread, to - spread) {
                    if *since <= instant + spread && instant + spread <= until {
                        let occurrence = merged.slot.occurrence_key(instant).to_string();
                        let usual = self.position.trigger_at(instant + spread);
                        plan.insert((
                            instant + spread,
                            late.unwrap_or(usual),
                            occurrence,
                            tenant.clone(),
                        ));
                    }
                }
            };
            add(self.position.planned_until(), to, None);
            if let Some(from) = self.late.get(tenant) {
                let just_before = *from - TimeDelta::seconds(1);
                add(
                    just_before,
                    self.position.planned_until(),
                    Some(Trigger::LateChange),
                );
            }
        }
        plan
    }
}

fn planned(mirror: &Mirror, catch_up: CatchUp, to: DateTime<Utc>) -> Plan {
    let mut plan = Plan::new();
    for group in plan_mirror(mirror, catch_up, to) {
        for tenant in group.tenants {
            let new = plan.insert((
                group.scheduled_at,
                group.trigger,
                group.occurrence.to_string(),
                tenant,
            ));
            assert!(new, "planned twice at once");
        }
    }
    plan
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mirror_plans_what_a_walk_over_everybody_would(
        steps in steps(), policy in 0..3_u8, window in prop::option::of(1..3000_i64), spread_minutes in prop_oneof![Just(0), Just(90)]
    ) {
        let policy = [CatchUpPolicy::Latest, CatchUpPolicy::All, CatchUpPolicy::Skip][usize::from(policy)];
        let catch_up = CatchUp { policy, window: window.map(TimeDelta::minutes) };
        let mut now: DateTime<Utc> = "2026-03-27T08:00:00Z".parse().unwrap();
        let mut mirror = Mirror::new(defaults(), Zone::utc(), spread_minutes);
        mirror.replace(&[], Reading::first(now));
        mirror.set_planned_until(now);
        let mut model =
            Model { stored: BTreeMap::new(), late: BTreeMap::new(), position: Position::at(now), spread_minutes };
        let mut database: BTreeMap<TenantId, PreferenceRecord> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Change { tenant: number, preference: which, organization, seen_after } => {
                    let (tenant, changed_at) = (tenant(number), now - TimeDelta::seconds(seen_after.into()));
                    // The feed had been followed until a while ago.
                    let seen_until = Some(now - TimeDelta::seconds(2_000));
                    let reading = Reading { at: now, seen_until, followed_until: seen_until };
                    let organization = membership(organization).filter(|_| which != 11);
                    let kind = if which == 11 {
                        database.remove(&tenant);
                        model.late.remove(&tenant);
                        model.stored.remove(&tenant);
                        ChangeKind::Deleted
                    } else {
                        let preference = Arc::new(preference(which));
                        let record = PreferenceRecord {
                            tenant_id: tenant.clone(), preference: preference.clone(), updated_at: Some(changed_at), schedule_since: None,
                            organization: organization.clone(),
                        };
                        database.insert(tenant.clone(), record);
                        model.set(&tenant, &preference, organization.clone(), changed_at, reading);
                        ChangeKind::Upserted(preference)
                    };
                    let feature_type = FeatureType::new("f").unwrap();
                    mirror.apply(&Change { tenant_id: tenant, feature_type, kind, changed_at: Some(changed_at), schedule_since: None, organization }, reading);
                }
                Step::Read => {
                    // One read is given up after its first page, and the next comes in two.
                    let reading = Reading { seen_until: Some(now - TimeDelta::hours(1)), ..Reading::first(now) };
                    mirror.begin_full_read();
                    mirror.take_page(database.values().step_by(2), reading);
                    mirror.begin_full_read();
                    mirror.take_page(database.values().skip(1).step_by(2), reading);
                    mirror.take_page(database.values().step_by(2), reading);
                    let difference = mirror.end_full_read();
                    prop_assert_eq!((difference.changed, difference.removed), (0, 0));
                    let difference = mirror.replace(database.values(), Reading { seen_until: Some(now - TimeDelta::hours(1)), ..Reading::first(now) });
                    prop_assert_eq!((difference.changed, difference.removed), (0, 0));
                }
                Step::Tick(seconds) => {
                    now += TimeDelta::seconds(seconds.into());
                    prop_assert_eq!(planned(&mirror, catch_up, now), model.plan(&mirror, catch_up, now));
                    mirror.set_planned_until(now);
                    model.position.move_to(now);
                    model.late.clear();
                }
            }
            prop_assert_eq!(mirror.len(), model.stored.len());
            let next = model.stored.iter().filter_map(|(tenant, (merged, _))| {
                let spread = mirror.spread_of(tenant);
                Some(merged.slot.next_after(model.position.planned_until() - spread)? + spread)
            });
            prop_assert_eq!(mirror.next_due(), next.min());
            for (tenant, (merged, since)) in &model.stored {
                prop_assert_eq!(mirror.preference_of(tenant), Some(merged.clone()));
                prop_assert_eq!(mirror.organization_of(tenant), Some(merged.organization.clone()));
                prop_assert_eq!(mirror.schedule_since(tenant), Some(Some(*since)));
            }
        }
        // A mirror that begins anew, as after a restart, stands where the old one did.
        let mut anew = Mirror::new(defaults(), Zone::utc(), spread_minutes);
        anew.replace(database.into_values(), Reading::first(now));
        anew.set_planned_until(model.position.planned_until());
        prop_assert_eq!(anew.slots(), mirror.slots());
        prop_assert_eq!(anew.next_due(), mirror.next_due());
        prop_assert_eq!(anew.quarantine(), mirror.quarantine());
        prop_assert_eq!(anew.parameter_count(), mirror.parameter_count());
    }
}
