//! What was to come when the job file was edited, where clocks change.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    CatchUp, Mirror, Placement, Preference, PreferenceRecord, Reading, TenantId, Zone, plan_mirror,
};
use serde_json::json;

#[test]
fn the_second_of_two_equal_hours_is_not_taken_for_the_first() {
    let at = |time: &str| -> DateTime<Utc> { format!("2026-10-25T{time}:00Z").parse().unwrap() };
    let before = Placement {
        defaults: Preference::default(),
        default_zone: Zone::utc(),
        spread_minutes: 240,
    };
    let spread = Mirror::new(Preference::default(), Zone::utc(), before.spread_minutes);
    // Whose 02:15 in summer time has run by 01:36 UTC, and whose 02:15 in winter time is to come.
    let tenant_id = (0..)
        .map(|number| TenantId::new(format!("t{number}")).unwrap())
        .find(|tenant| (30..60).contains(&spread.spread_of(tenant).num_minutes()))
        .unwrap();
    let preference = json!({"enabled": true, "frequency": "hourly", "preferred_time": "00:15",
        "timezone": "Europe/Berlin"});
    let record = PreferenceRecord {
        tenant_id,
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some(at("00:00") - TimeDelta::days(9)),
        schedule_since: None,
    };
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    mirror.set_planned_until(at("01:36"));
    mirror.replace([&record], Reading::first(at("01:36")));
    mirror.moved_from(&before, [&record]);
    let planned = plan_mirror(&mirror, CatchUp::default(), at("01:36"));
    let due: Vec<_> = planned.iter().map(|group| group.scheduled_at).collect();
    assert_eq!(due, [at("01:15")]);
}
