//! The frequency and the days of a preference, and the recurrence they come to.

use chrono::{NaiveDate, Weekday};
use serde_json::{Value, json};

use crate::{
    input::errors::{FieldErrorKind, Invalid},
    time::recurrence::{MonthDays, MonthWeekday, Recurrence, Weekdays},
};

/// How often, in the words of a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frequency {
    Hourly,
    Daily,
    Weekly,
    Biweekly,
    Monthly,
    Once,
}

impl Frequency {
    pub(super) const ALL: [Self; 6] = [
        Self::Hourly,
        Self::Daily,
        Self::Weekly,
        Self::Biweekly,
        Self::Monthly,
        Self::Once,
    ];

    /// As a preference writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Biweekly => "biweekly",
            Self::Monthly => "monthly",
            Self::Once => "once",
        }
    }
}

/// One entry of `preferred_day`. Whether it fits is known only together with the frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Day {
    Week(Weekday),
    Month(u8),
    Counted(MonthWeekday),
}

/// One value by itself, several as a list.
pub(super) fn one_or_many(mut values: impl Iterator<Item = Value>) -> Value {
    let first = values.next().unwrap_or(Value::Null);
    let rest: Vec<Value> = values.collect();
    if rest.is_empty() {
        first
    } else {
        std::iter::once(first).chain(rest).collect()
    }
}

/// A day of the month in the form tenants store it.
pub(super) fn month_day_json(day: u8) -> Value {
    if day == MonthDays::LAST {
        json!("last")
    } else {
        json!(day)
    }
}

/// Days in the form tenants store them.
pub(super) fn days_json(days: &[Day]) -> Value {
    one_or_many(days.iter().map(|day| match day {
        Day::Week(day) => json!(Weekdays::name(*day)),
        Day::Month(day) => month_day_json(*day),
        Day::Counted(day) => json!(day.to_string()),
    }))
}

pub(super) const WEEKDAYS: &str = "use a weekday such as monday, or a list of weekdays";
pub(super) const MONTH_DAYS: &str = "use a day from 1 to 31, last, a counted weekday such as second tuesday or last weekday, or a list of days";

/// Whether days fit a frequency. Where a frequency has no days, all do.
///
/// # Errors
/// One does not.
pub(super) fn check_days(frequency: Frequency, days: &[Day]) -> Result<(), Invalid> {
    let of_week = |day: &Day| matches!(day, Day::Week(_));
    let (fit, remedy) = match frequency {
        Frequency::Weekly | Frequency::Biweekly => (days.iter().all(of_week), WEEKDAYS),
        Frequency::Monthly => (!days.iter().any(of_week), MONTH_DAYS),
        Frequency::Hourly | Frequency::Daily | Frequency::Once => return Ok(()),
    };
    if fit {
        Ok(())
    } else {
        Err(Invalid::new("does not fit the frequency", remedy)
            .of_kind(FieldErrorKind::DaysDoNotFit))
    }
}

/// The recurrence that a frequency comes to on days that [fit](check_days), without any on what is built in: monday, or 1;
/// or once on a date. `None`: the date is missing.
pub(super) fn recurrence(
    frequency: Frequency,
    days: Option<&[Day]>,
    date: Option<NaiveDate>,
) -> Option<Recurrence> {
    let weekdays = || -> Weekdays {
        let days = days.unwrap_or(&[Day::Week(Weekday::Mon)]).iter();
        days.filter_map(|day| match day {
            Day::Week(day) => Some(*day),
            Day::Month(_) | Day::Counted(_) => None,
        })
        .collect()
    };
    let month_days = || {
        let mut found = MonthDays::default();
        for day in days.unwrap_or(&[Day::Month(1)]) {
            match day {
                Day::Month(day) => found.extend([*day]),
                Day::Counted(day) => found.extend([*day]),
                Day::Week(_) => {}
            }
        }
        found
    };
    Some(match frequency {
        Frequency::Hourly => Recurrence::Hourly,
        Frequency::Daily => Recurrence::Daily,
        Frequency::Weekly => Recurrence::Weekly(weekdays()),
        Frequency::Biweekly => Recurrence::Biweekly(weekdays()),
        Frequency::Monthly => Recurrence::Monthly(month_days()),
        Frequency::Once => Recurrence::Once(date?),
    })
}
