//! When a preference runs, in a sentence for people.

use chrono::Weekday;
use punctual_domain::{MonthDays, Recurrence, Slot, Weekdays, Zone};

/// When a slot falls due, such as `Every Tuesday and Friday at 09:00, Berlin time`.
pub(crate) fn sentence(slot: &Slot) -> String {
    let zone = zone_name(&slot.zone);
    let time = slot.time;
    match slot.recurrence {
        Recurrence::Hourly => match time.minute() {
            0 => format!("Every hour, on the hour, {zone}"),
            minute => format!("Every hour at {minute} minutes past, {zone}"),
        },
        Recurrence::Daily => format!("Every day at {time}, {zone}"),
        Recurrence::Weekly(days) => format!("Every {} at {time}, {zone}", weekdays(days)),
        Recurrence::Biweekly(days) => {
            let days = match days.iter().count() {
                7 => "every day".to_owned(),
                _ => weekdays(days),
            };
            format!("Every second week on {days} at {time}, {zone}")
        }
        Recurrence::Monthly(days) => {
            format!("Every month on {} at {time}, {zone}", month_days(days))
        }
    }
}

/// The days of a recurrence, such as `Tuesday and Friday`; `None`: it has none to choose.
pub(crate) fn days_of(recurrence: Recurrence) -> Option<String> {
    match recurrence {
        Recurrence::Hourly | Recurrence::Daily => None,
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
    listed(days.iter().map(day).collect())
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
