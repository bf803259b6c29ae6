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
    ClockChange, MonthDays, Occurrence, Recurrence, Slot, TimeOfDay, Weekdays, Zone,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn slot(recurrence: Recurrence, time: &str, zone: Zone) -> Slot {
    Slot {
        recurrence,
        time: time.parse().unwrap(),
        zone,
    }
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
    let time: NaiveTime = NaiveTime::parse_from_str(&slot.time.to_string(), "%H:%M").unwrap();
    clock
        .dates()
        .into_iter()
        .filter(|date| chosen_independently(slot.recurrence, *date))
        .filter_map(|date| Some((clock.when(date.and_time(time))?, date)))
        .filter(|(instant, _)| *instant > from && *instant <= to)
        .collect()
}

/// The days a recurrence chooses, computed from other facts than the code under test uses.
fn chosen_independently(recurrence: Recurrence, date: NaiveDate) -> bool {
    match recurrence {
        Recurrence::Hourly | Recurrence::Daily => true,
        Recurrence::Weekly(days) => days.iter().any(|day| day == date.weekday()),
        Recurrence::Biweekly(days) => {
            let since = date - NaiveDate::from_ymd_opt(1970, 1, 5).unwrap();
            days.iter().any(|day| day == date.weekday())
                && (since.num_days() + 14_000_000) / 7 % 2 == 0
        }
        Recurrence::Monthly(days) => {
            let month_ends = (date + Days::new(1)).day() == 1;
            days.to_string()
                .split(',')
                .any(|day| match day.parse::<u32>() {
                    Ok(day) => date.day() == day || (month_ends && day > date.day()),
                    Err(_) => month_ends,
                })
        }
    }
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
                        Occurrence::Date(date),
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
            let slot = Slot {
                recurrence: Recurrence::Hourly,
                time: TimeOfDay::new(9, minute).unwrap(),
                zone: zone.clone(),
            };
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
        weekdays().prop_map(Recurrence::Biweekly),
        prop::collection::vec(1u8..=31, 1..4)
            .prop_map(|days| Recurrence::Monthly(MonthDays::of(days))),
        Just(Recurrence::Monthly(MonthDays::last())),
    ]
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
        let slot = Slot { recurrence, time: TimeOfDay::new(hour, minute).unwrap(), zone: zone.clone() };
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
    fn occurrence_keys_never_repeat(
        recurrence in recurrences(),
        hour in 0u32..24,
        zone_index in 0usize..590,
    ) {
        let names: Vec<String> = Zone::names().collect();
        let zone = zone(&names[zone_index % names.len()]);
        let slot = Slot { recurrence, time: TimeOfDay::new(hour, 30).unwrap(), zone };
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
    let (skipped, repeated) = (Some(ClockChange::Skipped), Some(ClockChange::Repeated));
    // Berlin skips 02:00–03:00 on 29 March 2026 and shows it twice on 25 October.
    assert_eq!(
        changes("02:30", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        skipped
    );
    assert_eq!(
        changes("02:00", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        skipped
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
        repeated
    );
    assert_eq!(
        changes("02:59", "Europe/Berlin", "2026-10-24T12:00:00Z"),
        repeated
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
        skipped
    );
    let hourly = slot(Recurrence::Hourly, "00:30", zone("Europe/Berlin"));
    assert_eq!(hourly.clock_change(at("2026-03-29T00:30:00Z")), None);
}
