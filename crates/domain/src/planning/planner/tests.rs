use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    ids::FeatureType,
    planning::{catch_up::CatchUpPolicy, mirror::update::Reading},
    preference::{
        change::{Change, ChangeKind, PreferenceRecord},
        stored::Preference,
    },
    time::zone::Zone,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn mirror_of(tenants: &[(&str, Value, &str)]) -> Mirror {
    spread_mirror_of(tenants, 0)
}

fn spread_mirror_of(tenants: &[(&str, Value, &str)], spread_minutes: u32) -> Mirror {
    let records: Vec<_> = tenants
        .iter()
        .map(|(tenant, preference, updated_at)| PreferenceRecord {
            tenant_id: TenantId::new(tenant).unwrap(),
            preference: Arc::new(preference.as_object().unwrap().clone()),
            updated_at: Some(at(updated_at)),
            schedule_since: None,
            organization: None,
        })
        .collect();
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), spread_minutes);
    mirror.replace(&records, Reading::first(at("2026-12-31T00:00:00Z")));
    mirror
}

fn planned(mut mirror: Mirror, catch_up: CatchUp, from: &str, to: &str) -> Vec<String> {
    mirror.set_planned_until(at(from));
    plan_at(&mirror, catch_up, to)
}

fn plan_at(mirror: &Mirror, catch_up: CatchUp, to: &str) -> Vec<String> {
    plan_mirror(mirror, catch_up, at(to))
        .into_iter()
        .map(|group| {
            let why = match group.trigger {
                Trigger::LateChange => " late",
                Trigger::ClockStep => " again",
                _ => "",
            };
            format!("{} {}{why}", group.occurrence, group.tenants.len())
        })
        .collect()
}

#[test]
fn who_falls_due_together_is_one_batch_whatever_the_dates_are() {
    let since = "2026-01-01T00:00:00Z";
    let with =
        |name: &str, value: &str| json!({"enabled": true, "frequency": "daily", name: value});
    let mirror = mirror_of(&[
        ("a", with("paused_until", "2026-01-02T03:04:05Z"), since),
        ("b", with("start_date", "2026-01-03"), since),
        ("c", with("end_date", "2026-02-01"), since),
        ("d", daily(), since),
    ]);
    let (from, to) = ("2026-02-01T00:00:00Z", "2026-02-02T12:00:00Z");
    let all = CatchUp {
        policy: CatchUpPolicy::All,
        window: None,
    };
    assert_eq!(
        planned(mirror, all, from, to),
        ["2026-02-01 4", "2026-02-02 3"]
    );
}

fn daily() -> Value {
    json!({"enabled": true, "frequency": "daily"})
}

/// A reading of the feed, which had been followed until `from`.
fn followed(from: &str, to: &str) -> Reading {
    Reading {
        seen_until: Some(at(from)),
        followed_until: Some(at(from)),
        ..Reading::first(at(to))
    }
}

fn policy(policy: CatchUpPolicy) -> CatchUp {
    CatchUp {
        policy,
        window: None,
    }
}

#[test]
fn a_tick_finds_what_fell_due_since_the_last_one_and_only_that() {
    let tenants = [
        ("a", daily(), "2026-01-01T00:00:00Z"),
        ("b", daily(), "2026-01-01T00:00:00Z"),
    ];
    let mut mirror = mirror_of(&tenants);
    let mut tick = |to: &str| {
        let planned = plan_at(&mirror, CatchUp::default(), to);
        mirror.set_planned_until(at(to));
        planned
    };
    assert!(
        tick("2026-03-01T08:00:00Z").is_empty(),
        "the begin is unknown"
    );
    assert!(tick("2026-03-01T08:59:59Z").is_empty());
    assert_eq!(tick("2026-03-01T09:00:00Z"), ["2026-03-01 2"]);
    assert!(tick("2026-03-01T09:01:00Z").is_empty());
    assert!(
        tick("2026-02-28T08:00:00Z").is_empty(),
        "the clock stepped back"
    );
    assert_eq!(
        tick("2026-02-28T09:00:00Z"),
        ["2026-02-28 2 again"],
        "what may have been run is planned apart"
    );
    assert_eq!(tick("2026-03-01T09:01:00Z"), ["2026-03-01 2 again"]);
    assert_eq!(tick("2026-03-02T09:00:00Z"), ["2026-03-02 2"]);
}

#[test]
fn three_days_down_follow_the_policy() {
    let plan = |catch_up| {
        planned(
            mirror_of(&[("a", daily(), "2026-01-01T00:00:00Z")]),
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
        weekly,
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
        twice_a_week,
        CatchUp::default(),
        "2026-03-01T12:00:00Z",
        "2026-03-04T12:00:00Z",
    );
    assert_eq!(latest, ["2026-03-03 1"]);
}

#[test]
fn nothing_runs_for_a_time_before_the_preference_was_stored() {
    let mut mirror = mirror_of(&[
        ("early", daily(), "2026-03-01T09:00:00Z"),
        ("tooLate", daily(), "2026-03-01T09:00:00.000001Z"),
    ]);
    mirror.set_planned_until(at("2026-03-01T08:00:00Z"));
    let groups = plan_mirror(&mirror, CatchUp::default(), at("2026-03-01T10:00:00Z"));
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
        schedule_since: None,
        organization: None,
    };
    mirror.set_planned_until(at("2026-03-01T09:00:00Z"));
    mirror.apply(
        &change,
        followed("2026-03-01T08:59:20Z", "2026-03-01T09:00:20Z"),
    );
    let plan = |mirror: &Mirror| plan_at(mirror, CatchUp::default(), "2026-03-01T09:00:20Z");
    assert_eq!(plan(&mirror), ["2026-03-01 1 late"]);
    mirror.set_planned_until(at("2026-03-01T09:00:20Z"));
    assert!(plan(&mirror).is_empty());
}

#[test]
fn a_change_of_long_ago_runs_nothing_from_before_it_came() {
    for seen_until in ["2026-03-01T11:59:00Z", "2026-03-01T12:00:00Z"] {
        for all in [CatchUpPolicy::All, CatchUpPolicy::Latest] {
            let mut mirror = mirror_of(&[]);
            mirror.set_planned_until(at("2026-03-01T12:00:00Z"));
            for (tenant, preference, schedule_since) in [
                ("old", daily(), None),
                ("reported", daily(), Some(at("2026-01-02T00:00:00Z"))),
                (
                    "hourly",
                    json!({"enabled": true, "frequency": "hourly"}),
                    None,
                ),
            ] {
                let change = Change {
                    tenant_id: TenantId::new(tenant).unwrap(),
                    feature_type: FeatureType::new("f").unwrap(),
                    kind: ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone())),
                    changed_at: Some(at("2026-01-02T00:00:00Z")),
                    schedule_since,
                    organization: None,
                };
                mirror.apply(&change, followed(seen_until, "2026-03-01T12:00:01Z"));
            }
            let planned = plan_at(&mirror, policy(all), "2026-03-01T12:00:02Z");
            assert!(
                planned.len() <= 1 && planned.iter().all(|one| one.contains("T12:00:00Z")),
                "{planned:?}"
            );
        }
    }
}

#[test]
fn a_change_of_how_in_the_middle_of_the_spread_costs_no_run() {
    let mut mirror = spread_mirror_of(&[("user2", daily(), "2026-01-01T00:00:00Z")], 60);
    let due_at = at("2026-03-01T09:00:00Z") + mirror.spread_of(&TenantId::new("user2").unwrap());
    mirror.set_planned_until(due_at - TimeDelta::minutes(1));
    let mut how = daily();
    how["template_overrides"] = json!({"tone": "dry"});
    let mut when = daily();
    when["preferred_time"] = json!("09:05");
    for (preference, minutes) in [(how, 0), (when, 5)] {
        let change = Change {
            tenant_id: TenantId::new("user2").unwrap(),
            feature_type: FeatureType::new("f").unwrap(),
            kind: ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone())),
            changed_at: Some(due_at - TimeDelta::seconds(30)),
            schedule_since: None,
            organization: None,
        };
        let followed = Reading {
            seen_until: Some(due_at - TimeDelta::seconds(60)),
            ..Reading::first(due_at - TimeDelta::seconds(29))
        };
        mirror.apply(&change, followed);
        let plan = plan_mirror(&mirror, CatchUp::default(), due_at + TimeDelta::hours(1));
        assert_eq!(plan[0].scheduled_at, due_at + TimeDelta::minutes(minutes));
    }
}

#[test]
fn after_a_restart_only_preferences_stored_since_the_last_plan_count_as_late() {
    let record = |tenant: &str, updated_at: &str| PreferenceRecord {
        tenant_id: TenantId::new(tenant).unwrap(),
        preference: Arc::new(daily().as_object().unwrap().clone()),
        updated_at: Some(at(updated_at)),
        schedule_since: None,
        organization: None,
    };
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    let records = [
        record("known", "2026-03-01T08:00:00Z"),
        record("new", "2026-03-01T08:59:30Z"),
    ];
    mirror.set_planned_until(at("2026-03-01T09:00:10Z"));
    let seen_until = Some(at("2026-03-01T08:59:00Z"));
    let reading = Reading {
        seen_until,
        ..Reading::first(at("2026-03-01T09:04:00Z"))
    };
    mirror.replace(&records, reading);
    let groups = plan_mirror(&mirror, CatchUp::default(), at("2026-03-01T09:05:00Z"));
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].tenants, [TenantId::new("new").unwrap()]);
}

#[test]
fn spread_gives_every_tenant_a_lasting_minute_and_loses_none() {
    let ids: Vec<String> = (0..600).map(|n| format!("user{n}")).collect();
    let tenants: Vec<_> = ids
        .iter()
        .map(|id| (id.as_str(), daily(), "2026-01-01T00:00:00Z"))
        .collect();
    let mut mirror = spread_mirror_of(&tenants, 60);
    let mut minutes: BTreeMap<DateTime<Utc>, usize> = BTreeMap::new();
    let mut from = at("2026-03-01T08:59:00Z");
    mirror.set_planned_until(from);
    while from < at("2026-03-01T11:00:00Z") {
        let to = from + TimeDelta::seconds(50);
        for group in plan_mirror(&mirror, CatchUp::default(), to) {
            assert_eq!(group.occurrence.to_string(), "2026-03-01");
            *minutes.entry(group.scheduled_at).or_default() += group.tenants.len();
        }
        mirror.set_planned_until(to);
        from = to;
    }
    assert_eq!(minutes.values().sum::<usize>(), 600);
    assert!(
        minutes.len() > 50 && minutes.values().all(|n| *n < 40),
        "{minutes:?}"
    );
}
