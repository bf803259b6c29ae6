use std::sync::Arc;

use serde_json::json;

use super::*;

fn record(tenant: &str, preference: Value, updated_at: &str) -> PreferenceRecord {
    PreferenceRecord {
        tenant_id: TenantId::new(tenant).unwrap(),
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some(updated_at.parse().unwrap()),
        schedule_since: None,
    }
}

fn change(tenant: &str, kind: ChangeKind) -> Change {
    Change {
        tenant_id: TenantId::new(tenant).unwrap(),
        feature_type: crate::FeatureType::new("instagram_posts").unwrap(),
        kind,
        changed_at: None,
        schedule_since: None,
    }
}

fn upserted(preference: Value) -> ChangeKind {
    ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone()))
}

fn mirror(records: &[PreferenceRecord]) -> Mirror {
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    mirror.replace(records, None);
    mirror
}

fn standing(mirror: &Mirror) -> Vec<(String, usize)> {
    mirror
        .slots()
        .into_iter()
        .map(|(slot, tenants)| (slot.to_string(), tenants))
        .collect()
}

const DAY: &str = "2026-01-01T00:00:00Z";

#[test]
fn tenants_with_an_equal_slot_share_it_and_move_with_a_change() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let mut mirror = mirror(&[
        record("a", daily.clone(), DAY),
        record("b", daily.clone(), DAY),
        record("off", json!({"enabled": false, "frequency": "daily"}), DAY),
    ]);
    assert_eq!(standing(&mirror), [("daily 09:00 UTC".to_owned(), 2)]);

    let now = DAY.parse().unwrap();
    let weekly = json!({"enabled": true, "frequency": "weekly"});
    mirror.apply(&change("a", upserted(weekly)), now);
    assert_eq!(
        standing(&mirror),
        [
            ("daily 09:00 UTC".to_owned(), 1),
            ("weekly monday 09:00 UTC".to_owned(), 1)
        ]
    );
    mirror.apply(
        &change(
            "a",
            upserted(json!({"enabled": false, "frequency": "daily"})),
        ),
        now,
    );
    mirror.apply(&change("b", ChangeKind::Deleted), now);
    assert!(mirror.is_empty() && mirror.slots().is_empty());
}

#[test]
fn an_invalid_preference_stops_and_says_why_while_the_others_go_on() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let mut mirror = mirror(&[
        record("a", daily.clone(), DAY),
        record("b", daily.clone(), DAY),
    ]);
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "25:00"});
    mirror.apply(&change("a", upserted(broken)), DAY.parse().unwrap());
    assert_eq!(mirror.len(), 1);
    let (tenant, errors) = mirror.quarantine().iter().next().unwrap();
    assert_eq!(tenant.as_str(), "a");
    assert!(errors.to_string().contains("25:00"));
    mirror.apply(&change("a", upserted(daily)), DAY.parse().unwrap());
    assert_eq!((mirror.len(), mirror.quarantine().len()), (2, 0));
}

#[test]
fn tenants_can_be_spread_anew_and_counted_without_being_named() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let ids: Vec<String> = (0..500).map(|n| format!("user{n}")).collect();
    let records: Vec<_> = ids
        .iter()
        .map(|id| record(id, daily.clone(), DAY))
        .collect();
    let mut mirror = mirror(&records);
    let from: DateTime<Utc> = "2026-03-01T08:00:00Z".parse().unwrap();
    mirror.set_planned_until(from);
    let nine = "2026-03-01T09:00:00Z".parse().unwrap();
    assert_eq!(mirror.next_due_count(), Some((nine, 500)));
    mirror.spread_over(30);
    let mut counted = Vec::new();
    while let Some((due, tenants)) = mirror.next_due_count()
        && due < from + TimeDelta::hours(2)
    {
        counted.push(tenants);
        mirror.set_planned_until(due);
    }
    assert_eq!((counted.len(), counted.iter().sum::<usize>()), (30, 500));
    mirror.spread_over(0);
    assert_eq!(mirror.group_count(), 1);
    assert_eq!(standing(&mirror), [("daily 09:00 UTC".to_owned(), 500)]);
}

#[test]
fn a_full_read_counts_what_differs_and_repairs_it() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let mut mirror = mirror(&[
        record("a", daily.clone(), DAY),
        record("b", daily.clone(), DAY),
    ]);
    let same = [
        record("a", daily.clone(), DAY),
        record("b", daily.clone(), DAY),
    ];
    assert_eq!(mirror.replace(&same, None), MirrorDifference::default());
    let other = [record(
        "a",
        json!({"enabled": true, "frequency": "monthly"}),
        DAY,
    )];
    assert_eq!(
        mirror.replace(&other, None),
        MirrorDifference {
            changed: 1,
            removed: 1
        }
    );
    assert_eq!(standing(&mirror), [("monthly 1 09:00 UTC".to_owned(), 1)]);
}
