//! The frequency and the days of a preference, and the recurrence they come to.

use chrono::Weekday;
use serde_json::{Value, json};

use crate::{
    input::errors::Invalid,
    time::recurrence::{MonthDays, Recurrence, Weekdays},
};

/// How often, in the words of a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frequency {
    Hourly,
    Daily,
    Weekly,
    Biweekly,
    Monthly,
}

impl Frequency {
    pub(super) const ALL: [Self; 5] = [
        Self::Hourly,
        Self::Daily,
        Self::Weekly,
        Self::Biweekly,
        Self::Monthly,
    ];

    /// As a preference writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Biweekly => "biweekly",
            Self::Monthly => "monthly",
        }
    }
}

/// One entry of `preferred_day`. Whether it fits is known only together with the frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Day {
    OfWeek(Weekday),
    OfMonth(u8),
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
        Day::OfWeek(day) => json!(Weekdays::name(*day)),
        Day::OfMonth(day) => month_day_json(*day),
    }))
}

pub(super) const WEEKDAYS: &str = "use a weekday such as monday, or a list of weekdays";
pub(super) const MONTH_DAYS: &str = "use a day from 1 to 31, last, or a list of days";

/// The recurrence that a frequency comes to on these days.
pub(super) fn recurrence(frequency: Frequency, days: &[Day]) -> Result<Recurrence, Invalid> {
    let weekdays = || -> Result<Weekdays, Invalid> {
        let of_week = |day: &Day| match day {
            Day::OfWeek(day) => Ok(*day),
            Day::OfMonth(_) => Err(Invalid::new("does not fit the frequency", WEEKDAYS)),
        };
        days.iter().map(of_week).collect()
    };
    Ok(match frequency {
        Frequency::Hourly => Recurrence::Hourly,
        Frequency::Daily => Recurrence::Daily,
        Frequency::Weekly => Recurrence::Weekly(weekdays()?),
        Frequency::Biweekly => Recurrence::Biweekly(weekdays()?),
        Frequency::Monthly => {
            let of_month = |day: &Day| match day {
                Day::OfMonth(day) => Ok(*day),
                Day::OfWeek(_) => Err(Invalid::new("does not fit the frequency", MONTH_DAYS)),
            };
            Recurrence::Monthly(days.iter().map(of_month).collect::<Result<_, _>>()?)
        }
    })
}

/// The recurrence of a frequency on the days that are built in: monday, or 1.
pub(super) fn built_in_day(frequency: Frequency) -> Recurrence {
    let monday = || [Weekday::Mon].into_iter().collect();
    match frequency {
        Frequency::Hourly => Recurrence::Hourly,
        Frequency::Daily => Recurrence::Daily,
        Frequency::Weekly => Recurrence::Weekly(monday()),
        Frequency::Biweekly => Recurrence::Biweekly(monday()),
        Frequency::Monthly => Recurrence::Monthly(MonthDays::of([1])),
    }
}
