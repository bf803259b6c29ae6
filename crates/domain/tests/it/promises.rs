//! What `explain` says before is what happens: random histories of edits, in which every promise is compared with what
//! the planner then plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use punctual_domain::{
    CatchUp, CatchUpPolicy, Change, ChangeKind, Choice, Facts, FeatureType, Mirror, Occurrence,
    Preference, Reading, TenantId, Verdict, Zone, explain, plan_mirror,
};
use serde_json::{Value, json};

const TENANTS: u8 = 3;

/// What a tenant changes after so many minutes.
#[derive(Debug, Clone)]
struct Edit {
    after: u16,
    tenant: u8,
    /// `None`: how, not when.
    when: Option<(u8, u16)>,
    /// How long it takes until it is seen, in seconds.
    seen_after: u16,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let when = prop::option::of((0..7_u8, 0..1440_u16));
    let edit = (1..700_u16, 0..TENANTS, when, 0..90_u16);
    let edit = edit.prop_map(|(after, tenant, when, seen_after)| Edit {
        after,
        tenant,
        when,
        seen_after,
    });
    prop::collection::vec(edit, 1..60)
}

fn preference((kind, minute): (u8, u16), how: usize) -> Value {
    let time = format!("{:02}:{:02}", minute / 60, minute % 60);
    let (frequency, zone) = match kind {
        0 => ("hourly", "UTC"),
        1 => ("weekly", "Asia/Kathmandu"),
        2 => ("monthly", "UTC"),
        3 => ("daily", "America/New_York"),
        4 => ("daily", "Pacific/Auckland"),
        _ => ("daily", "Europe/Berlin"),
    };
    json!({"enabled": kind != 6, "frequency": frequency, "preferred_time": time, "timezone": zone,
        "template_overrides": {"how": how}})
}

fn tenant(number: u8) -> TenantId {
    TenantId::new(format!("tenant{number}")).unwrap()
}

type Key = (TenantId, Occurrence);

struct World {
    mirror: Mirror,
    catch_up: CatchUp,
    now: DateTime<Utc>,
    ran: BTreeSet<Key>,
    /// When each occurrence runs, or that it does not, as `explain` says.
    promises: BTreeMap<Key, Option<DateTime<Utc>>>,
}

impl World {
    /// Plans what falls due until `to`, and compares it with what was promised.
    fn run_until(&mut self, to: DateTime<Utc>) {
        while self.now < to {
            self.now = to.min(self.now + TimeDelta::minutes(7));
            for group in plan_mirror(&self.mirror, self.catch_up, self.now) {
                for tenant in group.tenants {
                    let key = (tenant, group.occurrence);
                    if !self.ran.insert(key.clone()) {
                        continue;
                    }
                    if let Some(promise) = self.promises.remove(&key) {
                        assert_eq!(promise, Some(group.scheduled_at), "{key:?}");
                    }
                }
            }
            self.mirror.set_planned_until(self.now);
            let broken = self.promises.iter();
            let broken: Vec<_> = broken
                .filter(|(_, due_at)| due_at.is_some_and(|due_at| due_at <= self.now))
                .collect();
            assert!(broken.is_empty(), "promised and not run: {broken:?}");
        }
    }

    fn ask(&mut self, tenant: &TenantId) {
        let slot = self.mirror.slot_of(tenant);
        let choice = slot.map_or(Choice::Off, |slot| Choice::On {
            schedule: slot.into(),
            spread: self.mirror.spread_of(tenant),
            schedule_since: self.mirror.schedule_since(tenant).unwrap(),
        });
        let Some(occasion) = choice.occasion(None, self.now) else {
            return;
        };
        let key = (tenant.clone(), occasion.occurrence);
        if self.ran.contains(&key) {
            return;
        }
        let verdict = explain(&Facts {
            choice,
            catch_up: self.catch_up,
            date: None,
            now: self.now,
            paused: false,
            paused_when_due: false,
            planned_until: Some(self.now),
            began: None,
            run: None,
            behind: None,
            used: BTreeSet::new(),
        });
        let promise = match verdict {
            Verdict::WillRun { due_at } => Some(due_at),
            Verdict::StoredTooLate { .. } | Verdict::Missed { .. } => None,
            _ => return,
        };
        self.promises.insert(key, promise);
    }

    fn edit(&mut self, tenant: &TenantId, preference: &Value, seen_after: u16) {
        let change = Change {
            tenant_id: tenant.clone(),
            feature_type: FeatureType::new("posts").unwrap(),
            kind: ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone())),
            changed_at: Some(self.now - TimeDelta::seconds(seen_after.into())),
            schedule_since: None,
            organization: None,
        };
        let reading = Reading {
            seen_until: Some(self.now - TimeDelta::seconds(90)),
            ..Reading::first(self.now)
        };
        self.mirror.apply(&change, reading);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_explain_promises_happens(
        edits in edits(),
        spread in prop_oneof![Just(0), Just(45_u32), Just(300)],
        policy in prop_oneof![Just(CatchUpPolicy::Latest), Just(CatchUpPolicy::All)],
    ) {
        let start = "2026-03-26T05:00:00Z".parse().unwrap();
        let mut mirror = Mirror::new(Preference::default(), Zone::utc(), spread);
        mirror.replace(Vec::<punctual_domain::PreferenceRecord>::new(), Reading::first(start));
        mirror.set_planned_until(start);
        let catch_up = CatchUp { policy, window: None };
        let mut world = World {
            mirror,
            catch_up,
            now: start,
            ran: BTreeSet::new(),
            promises: BTreeMap::new(),
        };
        let mut chosen = BTreeMap::new();
        for (how, edit) in edits.iter().enumerate() {
            world.run_until(world.now + TimeDelta::minutes(edit.after.into()));
            let tenant = tenant(edit.tenant);
            if let Some(when) = edit.when && chosen.get(&tenant) != Some(&when) {
                chosen.insert(tenant.clone(), when);
                // A promise is for as long as its tenant does not choose another time.
                world.promises.retain(|(of, _), _| *of != tenant);
            }
            if let Some(when) = chosen.get(&tenant) {
                world.edit(&tenant, &preference(*when, how), edit.seen_after);
                // What came late is planned with the next tick, before anyone asks.
                world.run_until(world.now + TimeDelta::seconds(1));
            }
            for number in 0..TENANTS {
                world.ask(&self::tenant(number));
            }
        }
        world.run_until(world.now + TimeDelta::hours(48));
    }
}
