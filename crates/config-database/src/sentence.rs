//! When a preference runs, in a sentence for people.

use std::iter::once;

use chrono::{DateTime, Utc};
use punctual_domain::{
    Bounds, MonthDays, MonthWeekday, PauseEnd, Recurrence, Slot, Times, Weekdays, Zone,
};

use crate::texts::{FluentValue, Texts};

/// When a slot falls due, such as `Every Tuesday and Friday at 09:00, Berlin time`.
pub(crate) fn sentence(t: &Texts, slot: &Slot) -> String {
    let time = times(t, &slot.times);
    let zone = zone_name(t, &slot.zone);
    let say = |id: &str, more: &[(&str, FluentValue<'_>)]| {
        let mut values: Vec<(&str, FluentValue<'_>)> = vec![
            ("time", time.as_str().into()),
            ("zone", zone.as_str().into()),
        ];
        values.extend(more.iter().cloned());
        t.with(id, &values)
    };
    let every = |interval: u16| ("interval", FluentValue::from(interval));
    let on = |days: String| ("days", FluentValue::from(days));
    let weeks = |interval: u16, days: Weekdays| match (interval, days.iter().count()) {
        (1, 7) => say("sentence-daily", &[every(1)]),
        (1, _) => say("sentence-weekly", &[on(weekdays(t, days))]),
        (_, 7) => say("sentence-weeks-every-day", &[every(interval)]),
        _ => say("sentence-weeks", &[every(interval), on(weekdays(t, days))]),
    };
    let interval = slot.bounds.interval.get();
    let sentence = match slot.recurrence {
        Recurrence::Hourly => {
            let minute = slot.times.first().minute();
            say("sentence-hourly", &[("minute", minute.into())])
        }
        Recurrence::Daily => say("sentence-daily", &[every(interval)]),
        Recurrence::Weekly(days) => weeks(interval, days),
        Recurrence::Biweekly(days) => weeks(2, days),
        Recurrence::Monthly(days) => {
            let days = on(month_days(t, days));
            say("sentence-monthly", &[every(interval), days])
        }
        Recurrence::Once(date) => {
            let date = t.calendar().date(date);
            say("sentence-once", &[("date", date.into())])
        }
    };
    within(t, sentence, &slot.bounds, &slot.zone)
}

/// A sentence, and from when to when it holds.
fn within(t: &Texts, sentence: String, bounds: &Bounds, zone: &Zone) -> String {
    let say = |id: &str, sentence: String, dates: &[(&'static str, String)]| {
        let sentence = once(("sentence", FluentValue::from(sentence)));
        let dates = dates
            .iter()
            .map(|(name, date)| (*name, FluentValue::from(date.clone())));
        t.with(id, &sentence.chain(dates).collect::<Vec<_>>())
    };
    let date = |date| t.calendar().date(date);
    let sentence = match (bounds.start.map(date), bounds.end.map(date)) {
        (None, None) => sentence,
        (Some(start), None) => say("sentence-from", sentence, &[("start", start)]),
        (None, Some(end)) => say("sentence-until", sentence, &[("end", end)]),
        (Some(start), Some(end)) => {
            let dates = [("start", start), ("end", end)];
            say("sentence-from-until", sentence, &dates)
        }
    };
    let end = match bounds.paused_until {
        None => return sentence,
        Some(PauseEnd::Date(end)) => date(end),
        Some(PauseEnd::Instant(end)) => local(t, zone, end),
    };
    say("sentence-paused", sentence, &[("end", end)])
}

/// The days of a recurrence, such as `Tuesday and Friday`; `None`: it has none to choose.
pub(crate) fn days_of(t: &Texts, recurrence: Recurrence) -> Option<String> {
    match recurrence {
        Recurrence::Hourly | Recurrence::Daily | Recurrence::Once(_) => None,
        Recurrence::Weekly(days) | Recurrence::Biweekly(days) => Some(weekdays(t, days)),
        Recurrence::Monthly(days) => Some(month_days(t, days)),
    }
}

/// Times of day, such as `09:00 and 18:00`.
pub(crate) fn times(t: &Texts, times: &Times) -> String {
    let times: Vec<String> = times.iter().map(|time| t.calendar().time(time)).collect();
    t.calendar().list(&times)
}

/// The local time of an instant as people write it; empty where the zone has none.
pub(crate) fn local(t: &Texts, zone: &Zone, instant: DateTime<Utc>) -> String {
    let moment = |local| t.text_of("moment", "moment", t.calendar().moment(local));
    zone.local(instant).map_or_else(String::new, moment)
}

/// A zone as people call it: `Berlin time`, or `UTC`.
pub(crate) fn zone_name(t: &Texts, zone: &Zone) -> String {
    match zone.name().rsplit_once('/') {
        Some(("Etc", _)) | None => zone.name().to_owned(),
        Some((_, city)) => {
            let known = t.calendar().city(zone);
            t.text_of(
                "zone-city",
                "city",
                known.unwrap_or_else(|| city.replace('_', " ")),
            )
        }
    }
}

fn weekdays(t: &Texts, days: Weekdays) -> String {
    let chosen = t.calendar().week().filter(|day| days.contains(*day));
    let names: Vec<String> = chosen.map(|day| t.calendar().weekday(day)).collect();
    t.calendar().list(&names)
}

fn month_days(t: &Texts, days: MonthDays) -> String {
    let day = |day| match day {
        MonthDays::LAST => t.text("month-day-last"),
        day => t.with("month-day", &[("day", day.into())]),
    };
    let counted = days.weekdays().map(|day| month_weekday(t, day));
    let days: Vec<String> = days.iter().map(day).chain(counted).collect();
    t.calendar().list(&days)
}

/// A counted weekday, such as `the second Tuesday`.
fn month_weekday(t: &Texts, counted: MonthWeekday) -> String {
    let day = counted.weekday().map(|day| t.calendar().weekday(day));
    // As a preference writes it, such as `second tuesday`.
    let written = counted.to_string();
    let (nth, weekday) = written.split_once(' ').unwrap_or_default();
    t.with(
        "month-weekday",
        &[
            ("nth", nth.into()),
            ("weekday", weekday.into()),
            ("day", day.unwrap_or_default().into()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use punctual_domain::{JobDefaults, Preference};
    use serde_json::{Value, json};

    use super::*;

    fn slots() -> Vec<Slot> {
        let week = json!(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
        [
            json!({"frequency": "weekly", "preferred_day": ["friday", "tuesday"], "timezone": "Europe/Berlin"}),
            json!({"frequency": "weekly", "preferred_day": week}),
            json!({"frequency": "weekly", "interval": 3, "start_date": "2026-12-01", "preferred_day": "monday"}),
            json!({"frequency": "biweekly", "preferred_day": ["sunday", "monday"]}),
            json!({"frequency": "biweekly", "preferred_day": week}),
            json!({"frequency": "weekly", "interval": 3, "start_date": "2026-12-01", "preferred_day": week}),
            json!({"frequency": "monthly", "preferred_day": ["last", 1, 22]}),
            json!({"frequency": "monthly", "interval": 2, "start_date": "2026-12-01", "preferred_day": ["first monday", "last weekday"]}),
            json!({"frequency": "monthly", "interval": 3, "start_date": "2026-12-01", "end_date": "2027-12-31",
                "preferred_day": ["third saturday", 15], "preferred_time": ["18:00", "9:00"], "paused_until": "2027-01-02"}),
            json!({"frequency": "daily", "timezone": "America/New_York", "preferred_time": "18:30", "end_date": "2026-12-31"}),
            json!({"frequency": "daily", "interval": 2, "start_date": "2026-12-01"}),
            json!({"frequency": "daily", "interval": 10, "start_date": "2026-12-01"}),
            json!({"frequency": "daily", "timezone": "Europe/Berlin", "paused_until": "2026-12-24T18:00:00Z"}),
            json!({"frequency": "once", "date": "2026-12-24", "timezone": "Europe/Berlin"}),
            json!({"frequency": "hourly", "preferred_time": "10:15"}),
            json!({"frequency": "hourly", "preferred_time": "10:00", "timezone": "Asia/Tokyo"}),
        ]
        .map(|preference: Value| {
            let stored = Preference::parse(preference.as_object().unwrap()).unwrap();
            JobDefaults::default().effective(&stored).unwrap().slot
        })
        .into()
    }

    #[test]
    fn a_slot_is_a_sentence() {
        let texts = Texts::of(None, None, None);
        let said: Vec<String> = slots().iter().map(|slot| sentence(&texts, slot)).collect();
        assert_eq!(
            said,
            [
                "Every Tuesday and Friday at 09:00, Berlin time",
                "Every day at 09:00, UTC",
                "Every 3 weeks on Monday at 09:00, UTC, from 1 December 2026",
                "Every second week on Monday and Sunday at 09:00, UTC",
                "Every day of every second week at 09:00, UTC",
                "Every 3 weeks on every day of the week at 09:00, UTC, from 1 December 2026",
                "Every month on the 1st, the 22nd and the last day at 09:00, UTC",
                "Every second month on the first Monday and the last weekday at 09:00, UTC, from 1 December 2026",
                "Every 3 months on the 15th and the third Saturday at 09:00 and 18:00, UTC, \
                 from 1 December 2026 until 31 December 2027, paused until 2 January 2027",
                "Every day at 18:30, New York time, until 31 December 2026",
                "Every second day at 09:00, UTC, from 1 December 2026",
                "Every 10 days at 09:00, UTC, from 1 December 2026",
                "Every day at 09:00, Berlin time, paused until Thursday, 24 December 2026 at 19:00",
                "Once, on 24 December 2026 at 09:00, Berlin time",
                "Every hour at 15 minutes past, UTC",
                "Every hour, on the hour, Tokyo time",
            ]
        );
    }

    #[test]
    fn a_slot_is_a_sentence_in_every_language() {
        let mut said = String::new();
        for locale in ["en-US", "de", "fr", "es", "pt-BR", "ja"] {
            let texts = Texts::of(None, Some(locale), None);
            writeln!(said, "{locale}").unwrap();
            for slot in slots() {
                writeln!(said, "  {}", sentence(&texts, &slot)).unwrap();
            }
        }
        insta::assert_snapshot!("sentences", said);
    }
}
