//! What was to come when the job file was edited, where clocks change.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    CatchUp, CatchUpPolicy, Change, ChangeKind, FeatureType, Mirror, Placement, Preference,
    PreferenceRecord, Reading, TenantId, Zone, plan_mirror,
};
use serde_json::json;

/// A tenant who is spread by between `least` and 30 minutes more, of 240.
fn spread_by(least: i64) -> TenantId {
    let spread = Mirror::new(Preference::default(), Zone::utc(), 240);
    (0..100_000)
        .map(|number| TenantId::new(format!("t{number}")).unwrap())
        .find(|tenant| (least..least + 30).contains(&spread.spread_of(tenant).num_minutes()))
        .unwrap()
}

/// What is planned late for an hourly tenant when the spread of 240 minutes goes, everything until then being planned.
fn planned(tenant_id: TenantId, minute: u32, zone: &str, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    planned_since(now - TimeDelta::days(9), tenant_id, minute, zone, now)
}

/// The same for a tenant who has chosen it at `since`.
fn planned_since(
    since: DateTime<Utc>,
    tenant_id: TenantId,
    minute: u32,
    zone: &str,
    now: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let reading = Reading::first(now);
    planned_after(since, tenant_id, minute, zone, reading, CatchUp::default())
}

/// The same after such a reading, for a job that makes up so much.
fn planned_after(
    since: DateTime<Utc>,
    tenant_id: TenantId,
    minute: u32,
    zone: &str,
    reading: Reading,
    catch_up: CatchUp,
) -> Vec<DateTime<Utc>> {
    let before = Placement {
        feature_type: None,
        defaults: Preference::default(),
        default_zone: Zone::utc(),
        spread_minutes: 240,
    };
    let preference = json!({"enabled": true, "frequency": "hourly",
        "preferred_time": format!("00:{minute:02}"), "timezone": zone});
    let record = PreferenceRecord {
        tenant_id,
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some(since),
        schedule_since: None,
        organization: None,
    };
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    mirror.set_planned_until(reading.at);
    mirror.replace([&record], reading);
    mirror.moved_from(&before, [&record]);
    let planned = plan_mirror(&mirror, catch_up, reading.at);
    planned.iter().map(|group| group.scheduled_at).collect()
}

#[test]
fn the_second_of_two_equal_hours_is_not_taken_for_the_first() {
    let at = |time: &str| -> DateTime<Utc> { format!("2026-10-25T{time}:00Z").parse().unwrap() };
    // Whose 02:15 in summer time has run by 01:36 UTC, and whose 02:15 in winter time is to come.
    let due = planned(spread_by(30), 15, "Europe/Berlin", at("01:36"));
    assert_eq!(due, [at("01:15")]);
}

#[test]
fn all_that_were_still_to_come_come() {
    let at =
        |hour: u32| -> DateTime<Utc> { format!("2026-06-15T{hour:02}:00:00Z").parse().unwrap() };
    // Three hours late: 9:00, due after 12:00, and what followed it.
    let due = planned(spread_by(181), 0, "UTC", at(12));
    assert_eq!(due, [at(9), at(10), at(11), at(12)]);
}

#[test]
fn what_was_to_come_before_the_tenant_chose_it_does_not() {
    let at = |hour: u32, minute: u32| -> DateTime<Utc> {
        format!("2026-06-15T{hour:02}:{minute:02}:00Z")
            .parse()
            .unwrap()
    };
    // 9:00 would have been due soon after 12:00, and 10:00 soon after 13:00.
    let due = planned_since(at(12, 45), spread_by(181), 0, "UTC", at(12, 0));
    assert_eq!(due, [at(10, 0), at(11, 0), at(12, 0)]);
}

#[test]
fn a_choice_seen_late_keeps_its_own_when_the_job_file_was_edited_too() {
    let at =
        |hour: u32| -> DateTime<Utc> { format!("2026-06-15T{hour:02}:00:00Z").parse().unwrap() };
    let tenant = spread_by(30);
    let reading = Reading {
        seen_until: Some(at(9)),
        ..Reading::first(at(12))
    };
    let all = CatchUp {
        policy: CatchUpPolicy::All,
        window: None,
    };
    // By the old file 12:00 was still to come; 10:00 and 11:00 had been chosen, but the agent had not seen it.
    let since = at(9) + TimeDelta::minutes(45);
    let due = planned_after(since, tenant, 0, "UTC", reading, all);
    assert_eq!(due, [at(10), at(11), at(12)]);
}

#[test]
fn a_day_has_no_more_runs_after_an_edit_of_its_times_than_were_to_come() {
    let now: DateTime<Utc> = "2026-06-15T09:20:00Z".parse().unwrap();
    let edited = |before: &[&str], after: &[&str]| -> Vec<String> {
        let times = |times: &[&str]| {
            let defaults = json!({"enabled": true, "frequency": "daily", "preferred_time": times});
            Preference::parse(defaults.as_object().unwrap()).unwrap()
        };
        let before = Placement {
            feature_type: None,
            defaults: times(before),
            default_zone: Zone::utc(),
            spread_minutes: 0,
        };
        let record = PreferenceRecord {
            tenant_id: TenantId::new("a").unwrap(),
            preference: Arc::default(),
            updated_at: Some(now - TimeDelta::days(9)),
            schedule_since: None,
            organization: None,
        };
        let mut mirror = Mirror::new(times(after), Zone::utc(), 0);
        mirror.set_planned_until(now);
        mirror.replace([&record], Reading::first(now));
        mirror.moved_from(&before, [&record]);
        let planned = plan_mirror(&mirror, CatchUp::default(), now + TimeDelta::hours(12));
        let shown = planned
            .iter()
            .map(|due| format!("{} {}", due.scheduled_at.format("%H:%M"), due.occurrence));
        shown.collect()
    };
    assert_eq!(edited(&["10:00"], &["09:00"]), ["09:00 2026-06-15"]);
    assert_eq!(
        edited(&["10:00"], &["07:00", "08:00"]),
        ["08:00 2026-06-15#2"]
    );
    assert_eq!(
        edited(&["10:00"], &["09:00", "18:00"]),
        ["18:00 2026-06-15#2"]
    );
    assert_eq!(
        edited(&["09:00", "18:00"], &["06:00", "07:00", "08:00", "17:00"]),
        ["17:00 2026-06-15#4"]
    );
    assert_eq!(
        edited(&["10:00", "11:00"], &["07:00", "08:00", "09:00"]),
        ["08:00 2026-06-15#2", "09:00 2026-06-15#3"]
    );
}

#[test]
fn who_chooses_another_time_after_an_edit_runs_at_that_alone() {
    let now: DateTime<Utc> = "2026-06-15T09:04:00Z".parse().unwrap();
    let preference = |time: &str| {
        let preference = json!({"enabled": true, "frequency": "daily", "preferred_time": time});
        Arc::new(preference.as_object().unwrap().clone())
    };
    let record = PreferenceRecord {
        tenant_id: spread_by(30),
        preference: preference("09:00"),
        updated_at: Some(now - TimeDelta::days(9)),
        schedule_since: None,
        organization: None,
    };
    let before = Placement {
        feature_type: None,
        defaults: Preference::default(),
        default_zone: Zone::utc(),
        spread_minutes: 240,
    };
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    mirror.set_planned_until(now);
    mirror.replace([&record], Reading::first(now));
    mirror.moved_from(&before, [&record]);
    assert_eq!(plan_mirror(&mirror, CatchUp::default(), now).len(), 1);

    let change = Change {
        tenant_id: record.tenant_id.clone(),
        feature_type: FeatureType::new("posts").unwrap(),
        kind: ChangeKind::Upserted(preference("20:00")),
        changed_at: Some(now),
        schedule_since: None,
        organization: None,
    };
    mirror.apply(&change, Reading::first(now));
    assert_eq!(plan_mirror(&mirror, CatchUp::default(), now), []);
}

#[test]
fn a_choice_made_after_its_time_does_not_run_where_an_edit_puts_the_time_off() {
    let until: DateTime<Utc> = "2026-06-15T05:00:00Z".parse().unwrap();
    let chosen_at: DateTime<Utc> = "2026-06-15T04:05:00Z".parse().unwrap();
    let preference = json!({"enabled": true, "frequency": "daily", "preferred_time": "04:00"});
    let record = PreferenceRecord {
        tenant_id: spread_by(10),
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some(chosen_at),
        schedule_since: None,
        organization: None,
    };
    let placed = |spread_minutes: u32| Placement {
        feature_type: None,
        defaults: Preference::default(),
        default_zone: Zone::utc(),
        spread_minutes,
    };
    let planned = |before: Placement, after: u32| {
        let reading = Reading {
            seen_until: Some(chosen_at - TimeDelta::minutes(10)),
            ..Reading::first(until)
        };
        let mut mirror = Mirror::new(Preference::default(), Zone::utc(), after);
        mirror.set_planned_until(until);
        mirror.replace([&record], reading);
        mirror.moved_from(&before, [&record]);
        plan_mirror(&mirror, CatchUp::default(), until).len()
    };
    // Seen by the old file, the day was over. By the new one alone it would not have been.
    assert_eq!(planned(placed(0), 240), 0);
    // Seen by the old file, it was still to come.
    assert_eq!(planned(placed(240), 240), 1);
    assert_eq!(planned(placed(240), 0), 1);
}
