use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    update::{MirrorDifference, Reading},
    *,
};
use crate::{
    planning::placement::Placement,
    preference::change::{Change, ChangeKind, PreferenceRecord},
};

fn record(tenant: &str, preference: Value, updated_at: &str) -> PreferenceRecord {
    PreferenceRecord {
        tenant_id: TenantId::new(tenant).unwrap(),
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some(updated_at.parse().unwrap()),
        schedule_since: None,
        organization: None,
    }
}

fn change(tenant: &str, kind: ChangeKind) -> Change {
    Change {
        tenant_id: TenantId::new(tenant).unwrap(),
        feature_type: crate::ids::FeatureType::new("instagram_posts").unwrap(),
        kind,
        changed_at: None,
        schedule_since: None,
        organization: None,
    }
}

fn upserted(preference: Value) -> ChangeKind {
    ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone()))
}

fn mirror(records: &[PreferenceRecord]) -> Mirror {
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    mirror.replace(records, first());
    mirror
}

fn standing(mirror: &Mirror) -> Vec<(String, usize)> {
    mirror
        .slots()
        .into_iter()
        .map(|(slot, tenants)| (slot.to_string(), tenants))
        .collect()
}

fn first() -> Reading {
    Reading::first("2026-12-31T00:00:00Z".parse().unwrap())
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

    let now = first();
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

fn membership(id: &str) -> Arc<Membership> {
    let membership = json!({"id": id, "fields": ["preferred_time"]});
    Arc::new(serde_json::from_value(membership).unwrap())
}

#[test]
fn another_organization_is_a_change_of_how_and_makes_no_run_late() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let of = |organization: Option<Arc<Membership>>| PreferenceRecord {
        organization,
        ..record("a", daily.clone(), DAY)
    };
    let mut mirror = mirror(&[of(None), record("b", daily.clone(), DAY)]);
    let read_at: DateTime<Utc> = "2026-03-02T09:10:00Z".parse().unwrap();
    mirror.set_planned_until(read_at);
    let reading = Reading {
        seen_until: Some(read_at - TimeDelta::hours(1)),
        ..Reading::first(read_at)
    };
    let a = TenantId::new("a").unwrap();
    for (organization, sets) in [
        (Some(membership("acme")), 2),
        (Some(membership("umbrella")), 2),
        (None, 1),
    ] {
        let moved = Change {
            changed_at: Some(read_at),
            organization: organization.clone(),
            ..change("a", upserted(daily.clone()))
        };
        mirror.apply(&moved, reading);
        assert_eq!(mirror.organization_of(&a), Some(organization.clone()));
        assert_eq!(mirror.preference_of(&a).unwrap().organization, organization);
        assert_eq!(mirror.parameter_count(), sets);
        assert_eq!(since(&mirror, "a"), "01 00:00:00");
        let records = [of(organization), record("b", daily.clone(), DAY)];
        assert_eq!(
            mirror.replace(&records, reading),
            MirrorDifference::default()
        );
    }
    // A full read that finds another organization repairs it, and counts it.
    let records = [
        of(Some(membership("acme"))),
        record("b", daily.clone(), DAY),
    ];
    let changed = MirrorDifference {
        changed: 1,
        removed: 0,
    };
    assert_eq!(mirror.replace(&records, reading), changed);
    assert_eq!(mirror.organization_of(&a), Some(Some(membership("acme"))));
    assert_eq!(mirror.late().count(), 0);
    let unknown = TenantId::new("c").unwrap();
    assert_eq!(mirror.organization_of(&unknown), None);
}

#[test]
fn an_invalid_preference_stops_and_says_why_while_the_others_go_on() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let mut mirror = mirror(&[
        record("a", daily.clone(), DAY),
        record("b", daily.clone(), DAY),
    ]);
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "25:00"});
    mirror.apply(&change("a", upserted(broken)), first());
    assert_eq!(mirror.len(), 1);
    let (tenant, errors) = mirror.quarantine().iter().next().unwrap();
    assert_eq!(tenant.as_str(), "a");
    assert!(errors.to_string().contains("25:00"));
    mirror.apply(&change("a", upserted(daily)), first());
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
    assert_eq!(mirror.replace(&same, first()), MirrorDifference::default());
    let other = [record(
        "a",
        json!({"enabled": true, "frequency": "monthly"}),
        DAY,
    )];
    assert_eq!(
        mirror.replace(&other, first()),
        MirrorDifference {
            changed: 1,
            removed: 1
        }
    );
    assert_eq!(standing(&mirror), [("monthly 1 09:00 UTC".to_owned(), 1)]);
}

#[test]
fn a_full_read_given_up_half_way_removes_no_tenant_and_does_not_spoil_the_next() {
    let daily = || json!({"enabled": true, "frequency": "daily"});
    let weekly = || json!({"enabled": true, "frequency": "weekly"});
    let broken = || json!({"enabled": true, "frequency": "daily", "preferred_time": "25:00"});
    let all = |preference: fn() -> Value| {
        let ids = ["a", "b", "c"];
        ids.map(|id| record(id, preference(), DAY))
    };
    let mut mirror = mirror(&all(daily));
    mirror.replace(
        [record("x", broken(), DAY)].iter().chain(&all(daily)),
        first(),
    );
    let counts = |mirror: &Mirror| (mirror.len(), mirror.quarantine().len());
    assert_eq!(counts(&mirror), (3, 1));

    mirror.begin_full_read();
    mirror.take_page(&all(weekly)[..2], first());
    assert_eq!(
        standing(&mirror),
        [
            ("daily 09:00 UTC".to_owned(), 1),
            ("weekly monday 09:00 UTC".to_owned(), 2)
        ],
        "a page is in effect at once"
    );
    // The next read holds only the last of them: what the pages of the first have brought counts for nothing now.
    mirror.begin_full_read();
    mirror.take_page(&all(daily)[2..], first());
    assert_eq!(counts(&mirror), (3, 1));
    let removed = MirrorDifference {
        changed: 0,
        removed: 3,
    };
    assert_eq!(mirror.end_full_read(), removed);
    assert_eq!(counts(&mirror), (1, 0));
    assert_eq!(mirror.end_full_read(), MirrorDifference::default());
    assert_eq!(mirror.len(), 1, "without a read nothing ends");
}

#[test]
fn what_a_first_full_read_finds_late_stays_late_when_it_is_given_up_and_repeated() {
    let at = |time: &str| {
        format!("2026-03-01T{time}Z")
            .parse::<DateTime<Utc>>()
            .unwrap()
    };
    let daily = json!({"enabled": true, "frequency": "daily"});
    let records = [record("a", daily, "2026-03-01T08:30:00Z")];
    let reading = Reading {
        at: at("09:10:00"),
        seen_until: Some(at("08:00:00")),
        followed_until: None,
    };
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    mirror.set_planned_until(at("09:05:00"));
    for _ in 0..2 {
        mirror.begin_full_read();
        mirror.take_page(&records, reading);
        mirror.set_planned_until(at("09:05:00"));
    }
    mirror.end_full_read();
    let late: Vec<_> = mirror.late().map(|(_, _, _, late)| late.chosen).collect();
    assert_eq!(late, [Some(at("08:30:00"))]);
}

fn since(mirror: &Mirror, tenant: &str) -> String {
    let since = mirror.schedule_since(&TenantId::new(tenant).unwrap());
    since.unwrap().map_or("long ago".into(), |since| {
        since.format("%d %H:%M:%S").to_string()
    })
}

#[test]
fn only_a_change_of_when_moves_the_moment_from_which_occurrences_count() {
    let at = |time: &str| -> DateTime<Utc> { format!("2026-03-02T{time}Z").parse().unwrap() };
    let seen = |time: &str| Reading {
        at: at(time),
        seen_until: Some(at("08:00:00")),
        followed_until: Some(at("08:00:00")),
    };
    let daily = |time: &str, tone: &str| {
        let overrides = json!({"tone": tone});
        json!({"enabled": true, "frequency": "daily", "preferred_time": time, "template_overrides": overrides})
    };
    let stored = |preference: Value, changed: &str, schedule_since: Option<&str>| {
        let mut record = record("a", preference, &format!("2026-03-02T{changed}Z"));
        record.schedule_since = schedule_since.map(at);
        record
    };
    let apply = |mirror: &mut Mirror, record: PreferenceRecord, reading| {
        let PreferenceRecord {
            tenant_id,
            preference,
            updated_at: changed_at,
            schedule_since,
            organization,
        } = record;
        let change = Change {
            kind: ChangeKind::Upserted(preference),
            changed_at,
            schedule_since,
            organization,
            ..change(tenant_id.as_str(), ChangeKind::Deleted)
        };
        mirror.apply(&change, reading);
    };
    // A server that does not say since when: the mirror compares. One that says so is believed.
    for said in [false, true] {
        let reported = |time: &'static str| said.then_some(time);
        let mut mirror = mirror(&[stored(
            daily("09:00", "dry"),
            "06:00:00",
            reported("06:00:00"),
        )]);
        assert_eq!(since(&mirror, "a"), "02 06:00:00");
        let how = stored(daily("09:00", "warm"), "09:10:00", reported("06:00:00"));
        apply(&mut mirror, how.clone(), seen("09:10:05"));
        assert_eq!(since(&mirror, "a"), "02 06:00:00", "{said}");
        mirror.replace(&[how], seen("09:11:00"));
        assert_eq!(since(&mirror, "a"), "02 06:00:00", "{said}");
        let when = stored(daily("10:00", "warm"), "09:12:00", reported("09:12:00"));
        apply(&mut mirror, when, seen("09:12:05"));
        assert_eq!(since(&mirror, "a"), "02 09:12:00");
        let back = stored(daily("09:00", "warm"), "09:13:00", reported("09:13:00"));
        mirror.replace(&[back], seen("09:14:00"));
        assert_eq!(since(&mirror, "a"), "02 09:13:00");
        // Off and on again while the mirror was not looking: only the server knows.
        let again = stored(daily("09:00", "warm"), "09:20:00", reported("09:20:00"));
        mirror.replace(&[again], seen("09:21:00"));
        let expected = if said { "02 09:20:00" } else { "02 09:13:00" };
        assert_eq!(since(&mirror, "a"), expected);
        let ahead = stored(daily("11:00", "warm"), "09:35:00", reported("09:35:00"));
        apply(&mut mirror, ahead, seen("09:30:00"));
        assert_eq!(
            since(&mirror, "a"),
            "02 09:30:00",
            "a server's clock that is ahead puts nothing off"
        );
    }
}

#[test]
fn an_edit_of_the_job_file_costs_no_run_of_those_who_were_still_to_come() {
    let until: DateTime<Utc> = "2026-03-02T09:20:00Z".parse().unwrap(); // A Monday.
    let placement = |defaults: Value, spread_minutes| Placement {
        feature_type: None,
        defaults: Preference::parse(defaults.as_object().unwrap()).unwrap(),
        default_zone: Zone::utc(),
        spread_minutes,
    };
    let daily = |time: &str| json!({"frequency": "daily", "preferred_time": time});
    let hourly = |minute: &str| json!({"frequency": "hourly", "preferred_time": minute});
    let tokyo = |time: &str| json!({"frequency": "daily", "preferred_time": time, "timezone": "Asia/Tokyo"});
    let weekly = |day: &str| json!({"frequency": "weekly", "preferred_day": day});
    for (before, after, expected) in [
        (daily("10:00"), daily("08:00"), Some("02 08:00")),
        (daily("09:00"), daily("08:00"), None), // It ran today.
        (daily("10:00"), daily("11:00"), None), // It is still to come.
        (daily("10:00"), tokyo("12:00"), Some("02 03:00")),
        (hourly("00:50"), hourly("00:10"), Some("02 09:10")),
        (hourly("00:10"), hourly("00:05"), None),
        (hourly("00:50"), daily("08:00"), None),
        (weekly("tuesday"), weekly("monday"), None),
        (weekly("monday"), daily("08:00"), None),
        (daily("10:00"), weekly("monday"), Some("02 09:00")),
    ] {
        let (before, after) = (placement(before, 0), placement(after, 0));
        let mut mirror = Mirror::new(after.defaults.clone(), Zone::utc(), 0);
        mirror.set_planned_until(until);
        let own = json!({"enabled": true, "frequency": "daily", "preferred_time": "08:30"});
        let records = [
            record("own", own, DAY),
            record("a", json!({"enabled": true}), DAY),
        ];
        mirror.replace(&records, first());
        mirror.moved_from(&before, &records);
        let moved: Vec<_> = mirror
            .late()
            .map(|(tenant, _, _, late)| {
                assert_eq!(late.chosen, None);
                format!("{tenant} {}", late.moved.unwrap().format("%d %H:%M"))
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|due_at| format!("a {due_at}"))
            .collect();
        assert_eq!(moved, expected, "{before:?} to {after:?}");
    }
}

#[test]
fn a_spread_that_ends_in_its_middle_leaves_no_tenant_out() {
    let daily = json!({"enabled": true, "frequency": "daily"});
    let records: Vec<_> = (0..200)
        .map(|number| record(&format!("user{number}"), daily.clone(), DAY))
        .collect();
    let until: DateTime<Utc> = "2026-03-02T09:20:00Z".parse().unwrap();
    for spread_minutes in [0, 7, 30, 90] {
        let before = Placement {
            feature_type: None,
            defaults: Preference::default(),
            default_zone: Zone::utc(),
            spread_minutes: 60,
        };
        assert_eq!(Placement::parse(&before.to_text()), Some(before.clone()));
        let run_before = |tenant: &TenantId| spread_minute(tenant, 60) <= 20;
        let mut mirror = Mirror::new(Preference::default(), Zone::utc(), spread_minutes);
        mirror.set_planned_until(until);
        mirror.replace(&records, first());
        mirror.moved_from(&before, &records);
        let late: Vec<TenantId> = mirror.late().map(|(tenant, ..)| tenant).collect();
        let mut rest = records.iter().map(|record| &record.tenant_id);
        assert!(rest.all(|tenant| {
            let to_come = spread_minute(tenant, spread_minutes) > 20;
            late.contains(tenant) == (!run_before(tenant) && !to_come)
        }));
        assert!(!late.is_empty());
    }
}

#[test]
fn who_is_scheduled_in_a_zone_is_listed_by_slot() {
    let daily = |time: &str, zone: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": time, "timezone": zone});
    let berlin = "Europe/Berlin";
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 30);
    let mut records = vec![
        record("early", daily("07:00", berlin), DAY),
        record("elsewhere", daily("09:00", "Asia/Tokyo"), DAY),
        record("off", json!({"enabled": false, "frequency": "daily"}), DAY),
    ];
    records.extend((0..40).map(|n| record(&format!("t{n}"), daily("09:00", berlin), DAY)));
    mirror.replace(&records, first());
    let listed = |most, in_all| -> Vec<(String, usize, usize)> {
        let slots = mirror.slots_in_zone(berlin, most, in_all).into_iter();
        slots
            .map(|(slot, tenants, named)| (slot.to_string(), tenants, named.len()))
            .collect()
    };
    let [early, late] = ["07:00", "09:00"].map(|time| format!("daily {time} {berlin}"));
    assert_eq!(
        listed(3, 100),
        [(early.clone(), 1, 1), (late.clone(), 40, 3)]
    );
    assert_eq!(listed(100, 100), [(early, 1, 1), (late, 40, 40)]);
    let few = listed(100, 10);
    let counted: usize = few.iter().map(|(_, tenants, _)| tenants).sum();
    let named: usize = few.iter().map(|(_, _, named)| named).sum();
    assert_eq!((counted, named), (41, 10), "{few:?}");
    assert!(mirror.slots_in_zone("America/Lima", 3, 100).is_empty());
}
