//! The values of a preference's fields. What has one meaning is taken however it is written; what has none or several
//! is refused.

use serde_json::Value;

use super::stored::{Day, Frequency, MONTH_DAYS, WEEKDAYS};
use crate::{
    input::fields::{Invalid, text},
    time::{
        recurrence::{MonthDays, Weekdays},
        slot::TimeOfDay,
        zone::Zone,
    },
};

pub(super) const FREQUENCIES: &str = "use one of hourly, daily, weekly, biweekly, monthly";

/// The longest text of a field that says when, blanks included.
const LONGEST: usize = 64;

/// A text without the blanks around it.
fn word(value: &Value) -> Result<&str, Invalid> {
    let text = text(value)?;
    if text.len() > LONGEST {
        let remedy = format!("use at most {LONGEST} characters");
        return Err(Invalid::new("is too long", remedy));
    }
    Ok(text.trim())
}

pub(super) fn parse_frequency(value: &Value) -> Result<Frequency, Invalid> {
    match word(value)?.to_ascii_lowercase().as_str() {
        "hourly" => Ok(Frequency::Hourly),
        "daily" => Ok(Frequency::Daily),
        "weekly" => Ok(Frequency::Weekly),
        "biweekly" => Ok(Frequency::Biweekly),
        "monthly" => Ok(Frequency::Monthly),
        _ => Err(Invalid::new("is not a frequency", FREQUENCIES)),
    }
}

pub(super) fn parse_time(value: &Value) -> Result<TimeOfDay, Invalid> {
    word(value)?.parse().map_err(|()| {
        Invalid::new(
            "is not a time of day",
            "use HH:MM from 00:00 to 23:59, such as 09:00",
        )
    })
}

pub(crate) fn parse_zone(value: &Value) -> Result<Zone, Invalid> {
    word(value)?.parse().map_err(|_| {
        Invalid::new(
            "is not a time zone",
            "use an IANA name such as Europe/Berlin, America/New_York or UTC",
        )
    })
}

pub(super) fn parse_days(value: &Value) -> Result<Vec<Day>, Invalid> {
    match value {
        Value::Array(list) if list.is_empty() => Err(Invalid::new(
            "is an empty list",
            format!("{WEEKDAYS}; monthly: {MONTH_DAYS}"),
        )),
        // There are 31 days in a month, and `last`.
        Value::Array(list) if list.len() > 32 => Err(Invalid::new(
            "is too long a list",
            "name each day once, 32 entries at most",
        )),
        Value::Array(list) => list.iter().map(parse_day).collect(),
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
                "last" => Some(Day::OfMonth(MonthDays::LAST)),
                word => match Weekdays::parse(word) {
                    Some(day) => Some(Day::OfWeek(day)),
                    None => word
                        .parse::<u8>()
                        .ok()
                        .map(f64::from)
                        .and_then(day_of_month),
                },
            }
        }
        _ => None,
    };
    day.ok_or_else(|| Invalid::new("is not a day", format!("{WEEKDAYS}; monthly: {MONTH_DAYS}")))
}

fn day_of_month(number: f64) -> Option<Day> {
    let whole = (1.0..=31.0).contains(&number) && number.fract() == 0.0;
    whole.then_some(Day::OfMonth(number as u8))
}
