//! When a preference runs, in a sentence for people.

use chrono::{NaiveDate, Weekday};
use punctual_domain::{
    Bounds, MonthDays, MonthWeekday, PauseEnd, Recurrence, Slot, Times, Weekdays, Zone,
};

/// When a slot falls due, such as `Every Tuesday and Friday at 09:00, Berlin time`.
pub(crate) fn sentence(slot: &Slot) -> String {
    let zone = zone_name(&slot.zone);
    let times = times(&slot.times);
    let interval = slot.bounds.interval.get();
    let each = |one: &str, many: &str| match interval {
        1 => format!("Every {one}"),
        2 => format!("Every second {one}"),
        _ => format!("Every {interval} {many}"),
    };
    let when = match slot.recurrence {
        Recurrence::Hourly => match slot.times.first().minute() {
            0 => "Every hour, on the hour".to_owned(),
            minute => format!("Every hour at {minute} minutes past"),
        },
        Recurrence::Daily => format!("{} at {times}", each("day", "days")),
        Recurrence::Weekly(days) if interval == 1 => {
            format!("Every {} at {times}", weekdays(days))
        }
        Recurrence::Weekly(days) => {
            format!(
                "{} on {} at {times}",
                each("week", "weeks"),
                in_a_week(days)
            )
        }
        Recurrence::Biweekly(days) => {
            format!("Every second week on {} at {times}", in_a_week(days))
        }
        Recurrence::Monthly(days) => {
            format!(
                "{} on {} at {times}",
                each("month", "months"),
                month_days(days)
            )
        }
        Recurrence::Once(date) => format!("Once, on {} at {times}", date_of(date)),
    };
    format!("{when}, {zone}{}", bounds(&slot.bounds))
}

/// The times of a day, such as `09:00 and 18:00`.
pub(crate) fn times(times: &Times) -> String {
    listed(times.iter().map(|time| time.to_string()).collect())
}

/// Which of the days count, with a comma before it, or nothing.
fn bounds(bounds: &Bounds) -> String {
    let Bounds {
        start,
        end,
        paused_until,
        ..
    } = bounds;
    let start = start.map(|date| format!(", from {}", date_of(date)));
    let end = end.map(|date| format!(", until {}", date_of(date)));
    let paused = paused_until.map(|end| match end {
        PauseEnd::Date(date) => format!(", paused until {}", date_of(date)),
        PauseEnd::Instant(end) => format!(", paused until {} UTC", end.format("%-d %B %Y, %H:%M")),
    });
    [start, end, paused].into_iter().flatten().collect()
}

fn date_of(date: NaiveDate) -> String {
    date.format("%-d %B %Y").to_string()
}

/// The days of a recurrence, such as `Tuesday and Friday`; `None`: it has none to choose.
pub(crate) fn days_of(recurrence: Recurrence) -> Option<String> {
    match recurrence {
        Recurrence::Hourly | Recurrence::Daily | Recurrence::Once(_) => None,
        Recurrence::Weekly(days) | Recurrence::Biweekly(days) => Some(weekdays(days)),
        Recurrence::Monthly(days) => Some(month_days(days)),
    }
}

/// A zone as people call it: `Berlin time`, or `UTC`.
pub(crate) fn zone_name(zone: &Zone) -> String {
    match zone.name().rsplit_once('/') {
        Some(("Etc", _)) | None => zone.name().to_owned(),
        Some((_, city)) => format!("{} time", city.replace('_', " ")),
    }
}

fn weekdays(days: Weekdays) -> String {
    if days.iter().count() == 7 {
        return "day of the week".to_owned();
    }
    listed(days.iter().map(|day| weekday(day).to_owned()).collect())
}

/// Days of weeks that are left out in between, after "on".
fn in_a_week(days: Weekdays) -> String {
    match days.iter().count() {
        7 => "every day".to_owned(),
        _ => weekdays(days),
    }
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    }
}

fn month_days(days: MonthDays) -> String {
    let day = |day| match day {
        MonthDays::LAST => "the last day".to_owned(),
        1 | 21 | 31 => format!("the {day}st"),
        2 | 22 => format!("the {day}nd"),
        3 | 23 => format!("the {day}rd"),
        _ => format!("the {day}th"),
    };
    let counted = |day: MonthWeekday| {
        let nth = match day.nth() {
            Some(1) => "first",
            Some(2) => "second",
            Some(3) => "third",
            Some(_) => "fourth",
            None => "last",
        };
        format!("the {nth} {}", day.weekday().map_or("weekday", weekday))
    };
    listed(
        days.iter()
            .map(day)
            .chain(days.weekdays().map(counted))
            .collect(),
    )
}

/// `a`, `a and b`, or `a, b and c`.
fn listed(mut parts: Vec<String>) -> String {
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        return last;
    }
    format!("{} and {last}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use punctual_domain::{JobDefaults, Preference};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_slot_is_a_sentence() {
        let said = |preference: Value| {
            let stored = Preference::parse(preference.as_object().unwrap()).unwrap();
            sentence(&JobDefaults::default().effective(&stored).unwrap().slot)
        };
        for (preference, expected) in [
            (
                json!({"frequency": "weekly", "preferred_day": ["friday", "tuesday"], "timezone": "Europe/Berlin"}),
                "Every Tuesday and Friday at 09:00, Berlin time",
            ),
            (
                json!({"frequency": "monthly", "preferred_day": ["last", 1, 22]}),
                "Every month on the 1st, the 22nd and the last day at 09:00, UTC",
            ),
            (
                json!({"frequency": "daily", "timezone": "America/New_York", "preferred_time": "6:30"}),
                "Every day at 06:30, New York time",
            ),
            (
                json!({"frequency": "biweekly"}),
                "Every second week on Monday at 09:00, UTC",
            ),
            (
                json!({"frequency": "monthly", "interval": 3, "start_date": "2026-12-01", "end_date": "2027-12-31",
                    "preferred_day": ["second tuesday", 15], "preferred_time": ["18:00", "9:00"], "paused_until": "2027-01-02"}),
                "Every 3 months on the 15th and the second Tuesday at 09:00 and 18:00, UTC, from 1 December 2026, \
                 until 31 December 2027, paused until 2 January 2027",
            ),
            (
                json!({"frequency": "once", "date": "2026-12-24", "timezone": "Europe/Berlin"}),
                "Once, on 24 December 2026 at 09:00, Berlin time",
            ),
            (
                json!({"frequency": "biweekly", "preferred_day": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}),
                "Every second week on every day at 09:00, UTC",
            ),
            (
                json!({"frequency": "hourly", "preferred_time": "10:15"}),
                "Every hour at 15 minutes past, UTC",
            ),
            (
                json!({"frequency": "hourly", "preferred_time": "10:00"}),
                "Every hour, on the hour, UTC",
            ),
        ] {
            assert_eq!(said(preference), expected);
        }
    }
}
