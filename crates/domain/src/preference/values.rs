//! The values of a preference's fields. What has one meaning is taken however it is written; what has none or several
//! is refused.

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use serde_json::Value;

use super::day::{Day, Frequency, MONTH_DAYS, WEEKDAYS};
use crate::{
    input::{
        errors::{FieldErrorKind, Invalid},
        values::text,
    },
    time::{
        bounds::PauseEnd,
        recurrence::{MonthDays, MonthWeekday, Weekdays},
        times::{TimeOfDay, Times},
        zone::Zone,
    },
};

/// What may be written as a frequency.
pub(super) const FREQUENCIES: &str = "use one of hourly, daily, weekly, biweekly, monthly, once";

/// What may be written as a date.
pub(super) const DATES: &str = "use a date such as 2026-12-24, from 1970 to 2100";

/// The longest text of a field that says when, blanks included.
const LONGEST: usize = 64;

/// Most entries of a list of days: there are 31 in a month, `last`, and forty counted weekdays.
const MAX_DAYS: usize = 72;

/// A text without the blanks around it.
fn word(value: &Value) -> Result<&str, Invalid> {
    let text = text(value)?;
    if text.len() > LONGEST {
        let remedy = format!("use at most {LONGEST} characters");
        let kind = FieldErrorKind::TooLong(LONGEST as u64);
        return Err(Invalid::new("is too long", remedy).of_kind(kind));
    }
    Ok(text.trim())
}

pub(super) fn parse_frequency(value: &Value) -> Result<Frequency, Invalid> {
    let word = word(value)?;
    Frequency::ALL
        .into_iter()
        .find(|frequency| frequency.word().eq_ignore_ascii_case(word))
        .ok_or_else(|| {
            Invalid::new("is not a frequency", FREQUENCIES).of_kind(FieldErrorKind::NotAFrequency)
        })
}

pub(super) fn parse_time(value: &Value) -> Result<TimeOfDay, Invalid> {
    word(value)?.parse().map_err(|()| {
        Invalid::new(
            "is not a time of day",
            "use HH:MM from 00:00 to 23:59, such as 09:00",
        )
        .of_kind(FieldErrorKind::NotATimeOfDay)
    })
}

/// An entry of a list; what is wrong with it names it, for the list may be long.
fn of_list<T>(
    parse: impl Fn(&Value) -> Result<T, Invalid>,
) -> impl Fn(&Value) -> Result<T, Invalid> {
    move |entry| parse(entry).map_err(|wrong| wrong.of_entry(entry))
}

/// One time or a list of times.
pub(super) fn parse_times(value: &Value) -> Result<Times, Invalid> {
    let Value::Array(list) = value else {
        return parse_time(value).map(Times::from);
    };
    if list.len() > Times::MAX {
        let remedy = format!("use at most {} times", Times::MAX);
        let kind = FieldErrorKind::TooManyEntries(Times::MAX as u64);
        return Err(Invalid::new("has too many entries", remedy).of_kind(kind));
    }
    let times: Vec<TimeOfDay> = list
        .iter()
        .map(of_list(parse_time))
        .collect::<Result<_, _>>()?;
    Times::of(times).ok_or_else(|| {
        Invalid::new("is an empty list", "use HH:MM, or a list of such times")
            .of_kind(FieldErrorKind::NotATimeOfDay)
    })
}

pub(super) fn parse_date(value: &Value) -> Result<NaiveDate, Invalid> {
    let word = word(value)?;
    let date = NaiveDate::parse_from_str(word, "%Y-%m-%d").ok();
    date.filter(|date| date.to_string() == word && (1970..=2100).contains(&date.year()))
        .ok_or_else(|| Invalid::new("is not a date", DATES).of_kind(FieldErrorKind::NotADate))
}

pub(super) fn parse_pause_end(value: &Value) -> Result<PauseEnd, Invalid> {
    if let Ok(date) = parse_date(value) {
        return Ok(PauseEnd::Date(date));
    }
    let instant = word(value)?.parse::<DateTime<Utc>>().ok();
    instant
        .filter(|end| (1970..=2100).contains(&end.year()))
        .map(|end| PauseEnd::Instant(end.trunc_subsecs(0)))
        .ok_or_else(|| {
            let remedy = format!("{DATES}, or an instant such as 2026-12-24T18:00:00Z");
            Invalid::new("is not a date", remedy).of_kind(FieldErrorKind::NotADate)
        })
}

/// The value as an IANA time zone.
///
/// # Errors
/// The problem with the value, and the remedy.
pub fn parse_zone(value: &Value) -> Result<Zone, Invalid> {
    word(value)?.parse().map_err(|_| {
        Invalid::new(
            "is not a time zone",
            "use an IANA name such as Europe/Berlin, America/New_York or UTC",
        )
        .of_kind(FieldErrorKind::NotATimeZone)
    })
}

pub(super) fn parse_days(value: &Value) -> Result<Vec<Day>, Invalid> {
    match value {
        Value::Array(list) if list.is_empty() => Err(Invalid::new(
            "is an empty list",
            format!("{WEEKDAYS}; monthly: {MONTH_DAYS}"),
        )
        .of_kind(FieldErrorKind::NotADay)),
        Value::Array(list) if list.len() > MAX_DAYS => Err(Invalid::new(
            "has too many entries",
            format!("name each day once, at most {MAX_DAYS} entries"),
        )
        .of_kind(FieldErrorKind::TooManyEntries(MAX_DAYS as u64))),
        Value::Array(list) => list.iter().map(of_list(parse_day)).collect(),
        single => parse_day(single).map(|day| vec![day]),
    }
}

fn parse_day(value: &Value) -> Result<Day, Invalid> {
    let day = match value {
        // 3.0 is 3.
        Value::Number(number) => number.as_f64().and_then(day_of_month),
        Value::String(_) => {
            let word = word(value)?.to_ascii_lowercase();
            match word.as_str() {
                "last" => Some(Day::Month(MonthDays::LAST)),
                word => match (Weekdays::parse(word), MonthWeekday::parse(word)) {
                    (Some(day), _) => Some(Day::Week(day)),
                    (None, Some(day)) => Some(Day::Counted(day)),
                    (None, None) => word
                        .parse::<u8>()
                        .ok()
                        .map(f64::from)
                        .and_then(day_of_month),
                },
            }
        }
        _ => None,
    };
    day.ok_or_else(|| {
        Invalid::new("is not a day", format!("{WEEKDAYS}; monthly: {MONTH_DAYS}"))
            .of_kind(FieldErrorKind::NotADay)
    })
}

fn day_of_month(number: f64) -> Option<Day> {
    let whole = (1.0..=31.0).contains(&number) && number.fract() == 0.0;
    whole.then_some(Day::Month(number as u8))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::preference::{effective::MergedPreference, stored::Preference};

    fn slot(stored: Value) -> String {
        let stored = Preference::parse(stored.as_object().unwrap()).unwrap();
        let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
        merged.unwrap().slot.to_string()
    }

    #[test]
    fn days_are_read_in_every_documented_form() {
        let days = |frequency: &str, day: Value| {
            slot(json!({"frequency": frequency, "preferred_day": day}))
        };
        assert_eq!(
            days("weekly", json!(["FRIDAY", "monday"])),
            "weekly monday,friday 09:00 UTC"
        );
        assert_eq!(days("monthly", json!("15")), "monthly 15 09:00 UTC");
        assert_eq!(
            days("monthly", json!([31, "1", "last"])),
            "monthly 1,31,last 09:00 UTC"
        );
        assert_eq!(days("daily", json!("monday")), "daily 09:00 UTC");
        assert_eq!(
            slot(json!({"frequency": "hourly", "preferred_time": "00:15"})),
            "hourly :15 UTC"
        );
        let hourly = |time: &str| {
            let stored = json!({"frequency": "hourly", "preferred_time": time});
            slot(stored)
        };
        assert_eq!(hourly("03:15"), hourly("22:15"));
    }

    #[test]
    fn a_time_a_day_or_a_word_with_one_meaning_is_taken_however_it_is_written() {
        for (field, values, meaning) in [
            (
                "preferred_time",
                vec![
                    json!("09:00"),
                    json!("9:00"),
                    json!("09:00:00"),
                    json!("9:00:00"),
                    json!(" 09:00\n"),
                ],
                "weekly monday 09:00 UTC",
            ),
            (
                "preferred_day",
                vec![
                    json!("mon"),
                    json!("Mon"),
                    json!("MONDAY"),
                    json!(" monday "),
                    json!(["mon", "Monday"]),
                ],
                "weekly monday 09:00 UTC",
            ),
            (
                "frequency",
                vec![json!("Weekly"), json!("WEEKLY"), json!(" weekly")],
                "weekly monday 09:00 UTC",
            ),
            (
                "timezone",
                vec![json!(" utc "), json!("UTC")],
                "weekly monday 09:00 UTC",
            ),
        ] {
            for value in values {
                let mut stored = json!({"frequency": "weekly"});
                stored[field] = value.clone();
                assert_eq!(slot(stored), meaning, "{field} {value}");
            }
        }
        for day in [
            json!(3),
            json!(3.0),
            json!("3"),
            json!(" 3 "),
            json!("03"),
            json!([3, 3.0]),
        ] {
            let stored = json!({"frequency": "monthly", "preferred_day": day});
            assert_eq!(slot(stored), "monthly 3 09:00 UTC", "{day}");
        }
    }

    #[test]
    fn what_has_no_meaning_or_several_stays_refused() {
        let blanks = " ".repeat(30_000) + "09:00";
        for (field, value) in [
            ("preferred_time", json!("0900")),
            ("preferred_time", json!("9")),
            ("preferred_time", json!("9:0")),
            ("preferred_time", json!("009:00")),
            ("preferred_time", json!("+9:00")),
            ("preferred_time", json!("09:00:30")),
            ("preferred_time", json!("09:00:00:00")),
            ("preferred_time", json!("09:00:")),
            ("preferred_time", json!("9:00 pm")),
            ("preferred_time", json!("24:00")),
            ("preferred_time", json!("09:60")),
            ("preferred_time", json!("٠٩:٠٠")),
            ("preferred_time", json!("")),
            ("preferred_time", json!(blanks)),
            ("preferred_time", json!(9)),
            ("preferred_day", json!("mo")),
            ("preferred_day", json!("tues")),
            ("preferred_day", json!("m")),
            ("preferred_day", json!("")),
            ("preferred_day", json!(3.5)),
            ("preferred_day", json!(0)),
            ("preferred_day", json!(-1)),
            ("preferred_day", json!(259)),
            ("preferred_day", json!(1e300)),
            ("preferred_day", json!("3.0")),
            ("preferred_day", json!("32")),
            ("preferred_day", json!([["mon"]])),
            ("frequency", json!("day")),
            ("frequency", json!("")),
            ("timezone", json!("")),
            ("timezone", json!("Berlin")),
        ] {
            let mut stored = json!({});
            stored[field] = value.clone();
            let errors = Preference::parse(stored.as_object().unwrap())
                .unwrap_err()
                .0;
            assert_eq!(errors.len(), 1, "{field} {value}");
            assert!(errors[0].remedy.starts_with("use "), "{}", errors[0]);
        }
    }
}
