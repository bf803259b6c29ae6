//! `Slot::next_after` and `Slot::occurrence_key` against a second, slower way to find the same instants:
//! walk the real minutes of a stretch of time, read the zone's clock at each, and apply the rules of the
//! contract to what it shows. Over every zone of the database, around its changes of offset.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{
    DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc,
    Weekday,
};
use proptest::prelude::*;
use punctual_domain::{
    Bounds, ClockChange, MergedPreference, MonthDays, Occurrence, PauseEnd, Preference, Recurrence,
    Slot, TimeOfDay, Times, Weekdays, Zone,
};
use serde_json::{Value, json};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn slot(recurrence: Recurrence, time: &str, zone: Zone) -> Slot {
    Slot::new(recurrence, time.parse().unwrap(), zone)
}

fn occurrences(slot: &Slot, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    std::iter::successors(slot.next_after(from), |last| slot.next_after(*last))
        .take_while(|instant| *instant <= to)
        .collect()
}

/// What the clocks of a zone show at every whole minute of a stretch of time.
struct Clock {
    shown: Vec<(DateTime<Utc>, NaiveDateTime)>,
    first: HashMap<NaiveDateTime, DateTime<Utc>>,
}

impl Clock {
    fn watch(zone: &Zone, from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let minutes = (to - from).num_minutes();
        let shown: Vec<_> = (0..=minutes)
            .map(|minute| from + TimeDelta::minutes(minute))
            .map(|instant| (instant, zone.local(instant).unwrap()))
            .collect();
        let first = shown
            .iter()
            .rev()
            .map(|(instant, local)| (*local, *instant))
            .collect();
        Self { shown, first }
    }

    /// The first instant that shows `local`, or, when none does, the instant as long after the jump as
    /// `local` lies after the last minute shown before it.
    fn when(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        if let Some(instant) = self.first.get(&local) {
            return Some(*instant);
        }
        let jump = self
            .shown
            .windows(2)
            .find(|pair| pair[0].1 < local && local < pair[1].1)?;
        Some(jump[0].0 + (local - jump[0].1))
    }

    fn dates(&self) -> BTreeSet<NaiveDate> {
        let (first, last) = (
            self.shown[0].1.date(),
            self.shown[self.shown.len() - 1].1.date(),
        );
        first.iter_days().take_while(|date| *date <= last).collect()
    }
}

fn expected(
    slot: &Slot,
    clock: &Clock,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> BTreeMap<DateTime<Utc>, NaiveDate> {
    let times = slot.times.to_string();
    let time = |time: &str| NaiveTime::parse_from_str(time, "%H:%M").unwrap();
    let times: Vec<NaiveTime> = times.split(',').map(time).collect();
    clock
        .dates()
        .into_iter()
        .filter(|date| chosen_independently(slot.recurrence, *date) && within(slot, *date))
        .flat_map(|date| times.iter().map(move |time| (date, date.and_time(*time))))
        .filter_map(|(date, local)| Some((clock.when(local)?, date)))
        .filter(|(instant, _)| *instant > from && *instant <= to)
        .filter(|(instant, _)| match slot.bounds.paused_until {
            Some(PauseEnd::Instant(end)) => *instant >= end,
            _ => true,
        })
        .collect()
}

/// Whether a date is within the bounds of a slot, by walking from its start, a day at a time.
fn within(slot: &Slot, date: NaiveDate) -> bool {
    let Bounds {
        interval,
        start,
        end,
        paused_until,
    } = slot.bounds;
    let resumed = !matches!(paused_until, Some(PauseEnd::Date(end)) if date < end);
    if !resumed || start.is_some_and(|start| date < start) || end.is_some_and(|end| date > end) {
        return false;
    }
    let every = match slot.recurrence {
        Recurrence::Biweekly(_) => 2,
        _ => interval.get(),
    };
    // Without a start, every second week counts from Monday 1970-01-05.
    let start = match (start, slot.recurrence) {
        (Some(start), _) => start,
        (None, Recurrence::Biweekly(_)) => NaiveDate::from_ymd_opt(1970, 1, 5).unwrap(),
        (None, _) => return true,
    };
    let begins = |day: NaiveDate| match slot.recurrence {
        Recurrence::Weekly(_) | Recurrence::Biweekly(_) => day.weekday() == Weekday::Mon,
        Recurrence::Monthly(_) => day.day() == 1,
        _ => true,
    };
    let passed = start.iter_days().skip(1).take_while(|day| *day <= date);
    passed.filter(|day| begins(*day)).count() % usize::from(every) == 0
}

/// The days a recurrence chooses, computed from other facts than the code under test uses.
fn chosen_independently(recurrence: Recurrence, date: NaiveDate) -> bool {
    match recurrence {
        Recurrence::Once(only) => only == date,
        Recurrence::Hourly | Recurrence::Daily => true,
        Recurrence::Weekly(days) => days.iter().any(|day| day == date.weekday()),
        // Of which weeks, the start says.
        Recurrence::Biweekly(days) => days.iter().any(|day| day == date.weekday()),
        Recurrence::Monthly(days) => {
            let month_ends = (date + Days::new(1)).day() == 1;
            let text = days.to_string();
            text.split(',').any(|day| {
                if let Ok(day) = day.parse::<u32>() {
                    return date.day() == day || (month_ends && day > date.day());
                }
                match day.split_once(' ') {
                    Some((nth, kind)) => counted(date, nth, kind),
                    None => month_ends,
                }
            })
        }
    }
}

/// Whether a date is, say, the `second` `tuesday` of its month: from a list of all of them.
fn counted(date: NaiveDate, nth: &str, kind: &str) -> bool {
    let month = date.with_day(1).unwrap().iter_days();
    let of_kind = |day: &NaiveDate| match kind {
        "weekday" => !["Sat", "Sun"].contains(&day.format("%a").to_string().as_str()),
        name => day.format("%A").to_string().eq_ignore_ascii_case(name),
    };
    let all: Vec<NaiveDate> = month
        .take_while(|day| day.month() == date.month())
        .filter(of_kind)
        .collect();
    let found = match nth {
        "last" => all.last(),
        nth => all.get(
            ["first", "second", "third", "fourth"]
                .iter()
                .position(|word| *word == nth)
                .unwrap(),
        ),
    };
    found == Some(&date)
}

fn transitions(zone: &Zone, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    std::iter::successors(zone.next_transition(from), |last| {
        zone.next_transition(*last)
    })
    .take_while(|transition| *transition < to)
    .collect()
}

#[test]
fn every_zone_around_every_change_of_its_clocks() {
    let mut changes = 0;
    for name in Zone::names() {
        let zone = zone(&name);
        for transition in transitions(
            &zone,
            at("2025-01-01T00:00:00Z"),
            at("2028-01-01T00:00:00Z"),
        ) {
            changes += 1;
            let (from, to) = (
                transition - TimeDelta::hours(30),
                transition + TimeDelta::hours(30),
            );
            let clock = Clock::watch(&zone, from - TimeDelta::days(2), to + TimeDelta::days(2));
            for time in [
                "00:00", "00:30", "01:30", "02:00", "02:30", "09:00", "23:30",
            ] {
                let slot = slot(Recurrence::Daily, time, zone.clone());
                let wanted = expected(&slot, &clock, from, to);
                let found = occurrences(&slot, from, to);
                assert_eq!(
                    found,
                    wanted.keys().copied().collect::<Vec<_>>(),
                    "{name} {time} at {transition}"
                );
                for (instant, date) in wanted {
                    assert_eq!(
                        slot.occurrence_key(instant),
                        Occurrence::Date(date, 1),
                        "{name} {time} {instant}"
                    );
                }
            }
        }
    }
    assert!(
        changes > 1000,
        "only {changes} changes of clocks were looked at"
    );
}

#[test]
fn daily_is_once_per_local_date_in_every_zone_for_ten_years() {
    let (from, to) = (at("2024-01-01T00:00:00Z"), at("2034-01-01T00:00:00Z"));
    for name in Zone::names() {
        let slot = slot(Recurrence::Daily, "02:30", zone(&name));
        let found = occurrences(&slot, from, to);
        let keys: BTreeSet<Occurrence> = found
            .iter()
            .map(|instant| slot.occurrence_key(*instant))
            .collect();
        assert_eq!(keys.len(), found.len(), "{name}: a date twice");
        let days = (to - from).num_days();
        let off = found.len() as i64 - days;
        assert!(
            (-1..=1).contains(&off),
            "{name}: {} runs in {days} days",
            found.len()
        );
        assert!(
            found
                .windows(2)
                .all(|pair| pair[1] - pair[0] < TimeDelta::hours(27)),
            "{name}: a day lost"
        );
    }
}

#[test]
fn hourly_is_every_real_instant_that_shows_the_minute() {
    for (name, transition) in [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Asia/Kathmandu", "2026-01-01T00:00:00Z"),
    ] {
        let (zone, transition) = (zone(name), at(transition));
        let (from, to) = (
            transition - TimeDelta::hours(5),
            transition + TimeDelta::hours(5),
        );
        for minute in [0, 15, 30, 45] {
            let time = TimeOfDay::new(9, minute).unwrap();
            let slot = Slot::new(Recurrence::Hourly, time, zone.clone());
            let clock = Clock::watch(&zone, from + TimeDelta::minutes(1), to);
            let wanted: Vec<_> = clock
                .shown
                .iter()
                .filter(|(_, shown)| shown.minute() == minute)
                .map(|(instant, _)| *instant)
                .collect();
            assert_eq!(occurrences(&slot, from, to), wanted, "{name} :{minute}");
        }
    }
}

#[test]
fn two_dates_that_land_on_one_instant_are_one_occurrence() {
    // Samoa had no 2011-12-30.
    let slot = slot(Recurrence::Daily, "09:00", zone("Pacific/Apia"));
    let found = occurrences(
        &slot,
        at("2011-12-29T00:00:00Z"),
        at("2011-12-31T00:00:00Z"),
    );
    let keys: Vec<String> = found
        .iter()
        .map(|instant| slot.occurrence_key(*instant).to_string())
        .collect();
    assert_eq!(keys, ["2011-12-29", "2011-12-31"]);
}

fn recurrences() -> impl Strategy<Value = Recurrence> {
    let weekday = (0u8..7).prop_map(|n| Weekday::try_from(n).unwrap());
    let weekdays = || prop::collection::vec(weekday.clone(), 1..4).prop_map(Weekdays::from_iter);
    prop_oneof![
        Just(Recurrence::Daily),
        weekdays().prop_map(Recurrence::Weekly),
        prop::collection::vec(1u8..=31, 1..4)
            .prop_map(|days| Recurrence::Monthly(MonthDays::of(days))),
        Just(Recurrence::Monthly(MonthDays::last())),
    ]
}

/// Rules as tenants write them, with everything that they may say.
fn preferences() -> impl Strategy<Value = Value> {
    let weekdays = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let weekday = prop::sample::select(weekdays.to_vec());
    let nth = prop::sample::select(vec!["first", "second", "third", "fourth", "last"]);
    let counted = (nth, prop_oneof![weekday.clone(), Just("weekday")])
        .prop_map(|(nth, day)| json!(format!("{nth} {day}")));
    let month_day = prop_oneof![
        (1..=31).prop_map(|day| json!(day)),
        Just(json!("last")),
        counted
    ];
    let times = prop::collection::vec((0..24, 0..60), 1..5).prop_map(|times| {
        json!(
            times
                .iter()
                .map(|(h, m)| format!("{h:02}:{m:02}"))
                .collect::<Vec<_>>()
        )
    });
    let date = |days: std::ops::Range<i64>| {
        days.prop_map(|day| {
            json!(NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + TimeDelta::days(day))
        })
    };
    let frequency = prop_oneof![
        Just(json!({"frequency": "daily"})),
        prop::collection::vec(weekday.clone(), 1..4)
            .prop_map(|days| json!({"frequency": "weekly", "preferred_day": days})),
        prop::collection::vec(weekday, 1..4)
            .prop_map(|days| json!({"frequency": "biweekly", "preferred_day": days})),
        prop::collection::vec(month_day, 1..4)
            .prop_map(|days| json!({"frequency": "monthly", "preferred_day": days})),
        date(0..1500).prop_map(|date| json!({"frequency": "once", "date": date})),
    ];
    let paused = prop_oneof![
        3 => Just(Value::Null),
        1 => date(0..700),
        1 => (0..700 * 86_400_i64).prop_map(|s| json!((at("2024-01-01T00:00:00Z") + TimeDelta::seconds(s)).to_rfc3339())),
    ];
    (
        frequency,
        times,
        1..14,
        prop::option::of(date(0..400)),
        prop::option::of(date(400..1200)),
        paused,
    )
        .prop_map(|(mut rule, times, interval, start, end, paused)| {
            rule["preferred_time"] = times;
            rule["start_date"] = json!(start);
            rule["end_date"] = json!(end);
            rule["paused_until"] = paused;
            let counts_alone = ["biweekly", "once"].contains(&rule["frequency"].as_str().unwrap());
            if rule["frequency"] == "once" {
                rule["start_date"] = Value::Null;
                rule["end_date"] = Value::Null;
            }
            if !counts_alone && start.is_some() {
                rule["interval"] = json!(interval);
            }
            rule
        })
}

fn slot_of(preference: &Value, zone: &Zone) -> Slot {
    let stored = Preference::parse(preference.as_object().unwrap()).unwrap();
    MergedPreference::merge(&stored, &Preference::default(), zone)
        .unwrap()
        .slot
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_rule_in_any_zone_agrees_with_the_calendar(
        recurrence in recurrences(),
        (hour, minute) in (0u32..24, 0u32..60),
        zone_index in 0usize..590,
        start in 0i64..(14 * 365 * 24 * 60),
    ) {
        let names: Vec<String> = Zone::names().collect();
        let zone = zone(&names[zone_index % names.len()]);
        let slot = Slot::new(recurrence, TimeOfDay::new(hour, minute).unwrap(), zone.clone());
        let from = at("2024-01-01T00:00:00Z") + TimeDelta::minutes(start);
        let next = slot.next_after(from).unwrap();
        prop_assert!(next > from);

        // The next occurrence is right, and nothing lies between.
        let to = next.min(from + TimeDelta::days(20));
        let clock = Clock::watch(&zone, from - TimeDelta::days(2), to + TimeDelta::days(2));
        let wanted: Vec<_> = expected(&slot, &clock, from, to).into_keys().collect();
        let found = if next <= to { vec![next] } else { vec![] };
        prop_assert_eq!(found, wanted, "{} in {}", slot, zone);
    }

    #[test]
    fn all_that_a_preference_may_say_agrees_with_the_calendar(
        preference in preferences(),
        zone_index in 0usize..590,
        start in 0i64..(3 * 365 * 24 * 60),
    ) {
        let names: Vec<String> = Zone::names().collect();
        let zone = zone(&names[zone_index % names.len()]);
        let slot = slot_of(&preference, &zone);
        let from = at("2024-01-01T00:00:00Z") + TimeDelta::minutes(start);
        let to = from + TimeDelta::days(20);
        let clock = Clock::watch(&zone, from - TimeDelta::days(2), to + TimeDelta::days(2));
        let wanted: Vec<_> = expected(&slot, &clock, from, to).into_keys().collect();
        let found = occurrences(&slot, from, to);
        prop_assert_eq!(&found, &wanted, "{}", slot);

        // Each has a key of its own, which leads back to it; and what is written reads back.
        let keys: BTreeSet<Occurrence> = found.iter().map(|instant| slot.occurrence_key(*instant)).collect();
        prop_assert_eq!(keys.len(), found.len());
        for instant in found {
            let key = slot.occurrence_key(instant);
            prop_assert_eq!(slot.instant_of(key), Some(instant), "{}", key);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
        let merged = MergedPreference { enabled: true, slot: slot.clone(), template_overrides: std::sync::Arc::default(), other: std::sync::Arc::default(), organization: None };
        prop_assert_eq!(slot_of(&merged.to_json(), &zone), slot);
    }

    #[test]
    fn occurrence_keys_never_repeat(
        recurrence in recurrences(),
        hour in 0u32..24,
        zone_index in 0usize..590,
    ) {
        let names: Vec<String> = Zone::names().collect();
        let zone = zone(&names[zone_index % names.len()]);
        let slot = Slot::new(recurrence, TimeOfDay::new(hour, 30).unwrap(), zone);
        let found = occurrences(&slot, at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
        let keys: BTreeSet<Occurrence> = found.iter().map(|instant| slot.occurrence_key(*instant)).collect();
        prop_assert_eq!(keys.len(), found.len());
    }
}

#[test]
fn a_day_on_which_the_clocks_change_is_pointed_out() {
    let changes = |time: &str, zone_name: &str, from: &str| {
        let slot = slot(Recurrence::Daily, time, zone(zone_name));
        let next = slot.next_after(at(from)).unwrap();
        slot.clock_change(next)
    };
    let skipped = |time: &str| Some(ClockChange::Skipped(time.parse().unwrap()));
    let repeated = |time: &str| Some(ClockChange::Repeated(time.parse().unwrap()));
    // Berlin skips 02:00–03:00 on 29 March 2026 and shows it twice on 25 October.
    assert_eq!(
        changes("02:30", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        skipped("02:30")
    );
    assert_eq!(
        changes("02:00", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        skipped("02:00")
    );
    assert_eq!(
        changes("01:59", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        None
    );
    assert_eq!(
        changes("03:00", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        None
    );
    assert_eq!(
        changes("02:00", "Europe/Berlin", "2026-10-24T12:00:00Z"),
        repeated("02:00")
    );
    assert_eq!(
        changes("02:59", "Europe/Berlin", "2026-10-24T12:00:00Z"),
        repeated("02:59")
    );
    assert_eq!(
        changes("03:00", "Europe/Berlin", "2026-10-24T12:00:00Z"),
        None
    );
    assert_eq!(
        changes("01:59", "Europe/Berlin", "2026-10-24T12:00:00Z"),
        None
    );
    assert_eq!(changes("02:30", "UTC", "2026-03-28T12:00:00Z"), None);
    // Half an hour on Lord Howe Island.
    assert_eq!(
        changes("02:10", "Australia/Lord_Howe", "2026-10-03T00:00:00Z"),
        skipped("02:10")
    );
    let hourly = slot(Recurrence::Hourly, "00:30", zone("Europe/Berlin"));
    assert_eq!(hourly.clock_change(at("2026-03-29T00:30:00Z")), None);
    // Of several times a day, the one that it is.
    let slot = slot_of(
        &json!({"frequency": "daily", "preferred_time": ["02:30", "03:30", "18:00"]}),
        &zone("Europe/Berlin"),
    );
    let next = slot.next_after(at("2026-03-28T22:00:00Z")).unwrap();
    assert_eq!(slot.clock_change(next), skipped("02:30"));
    let evening = slot.next_after(next).unwrap();
    assert_eq!(slot.clock_change(evening), None);
}

#[test]
fn an_hour_counts_where_its_date_does() {
    let hourly = |more: Value| {
        let mut rule =
            json!({"frequency": "hourly", "preferred_time": "00:30", "timezone": "Asia/Kathmandu"});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        slot_of(&rule, &Zone::utc())
    };
    let (from, to) = (at("2026-03-01T00:00:00Z"), at("2026-03-20T00:00:00Z"));
    let found = occurrences(
        &hourly(json!({"start_date": "2026-03-10", "end_date": "2026-03-10"})),
        from,
        to,
    );
    let shown =
        |instants: &[DateTime<Utc>]| (instants[0], instants[instants.len() - 1], instants.len());
    assert_eq!(
        shown(&found),
        (at("2026-03-09T18:45:00Z"), at("2026-03-10T17:45:00Z"), 24)
    );
    let paused = hourly(json!({"paused_until": "2026-03-19T20:45:00Z"}));
    let found = occurrences(&paused, from, to);
    assert_eq!(
        shown(&found),
        (at("2026-03-19T20:45:00Z"), at("2026-03-19T23:45:00Z"), 4)
    );
}

#[test]
fn a_time_that_a_gap_moves_behind_a_later_one_keeps_back_neither() {
    let due = |times: Value, zone: &str, from: &str| -> Vec<String> {
        let slot = slot_of(
            &json!({"frequency": "daily", "preferred_time": times, "timezone": zone}),
            &Zone::utc(),
        );
        let found = occurrences(&slot, at(from), at(from) + TimeDelta::hours(26));
        found
            .iter()
            .map(|due| format!("{} {}", slot.occurrence_key(*due), due.format("%dT%H:%M")))
            .collect()
    };
    assert_eq!(
        due(
            json!(["02:44", "03:42"]),
            "Europe/Madrid",
            "2019-03-31T00:00:00Z"
        ),
        [
            "2019-03-31#2 31T01:42",
            "2019-03-31 31T01:44",
            "2019-04-01 01T00:44",
            "2019-04-01#2 01T01:42"
        ]
    );
}

#[test]
fn two_times_that_the_clocks_make_one_are_one_run() {
    let slot = slot_of(
        &json!({"frequency": "daily", "preferred_time": ["03:30", "02:30", "18:00"], "timezone": "Europe/Berlin"}),
        &Zone::utc(),
    );
    assert_eq!(
        slot.times,
        Times::of(["02:30", "03:30", "18:00"].map(|time| time.parse().unwrap())).unwrap()
    );
    let (from, to) = (at("2026-03-29T00:00:00Z"), at("2026-03-30T02:00:00Z"));
    let keys: Vec<String> = occurrences(&slot, from, to)
        .into_iter()
        .map(|instant| {
            format!(
                "{} {}",
                slot.occurrence_key(instant),
                instant.format("%dT%H:%M")
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            "2026-03-29 29T01:30",
            "2026-03-29#3 29T16:00",
            "2026-03-30 30T00:30",
            "2026-03-30#2 30T01:30"
        ]
    );
}
