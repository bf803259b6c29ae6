//! Which local dates a recurrence falls on. Calendar arithmetic only: neither the time of day nor the zone
//! matters here; [`Slot`](crate::Slot) adds both.

use std::fmt;

use chrono::{Datelike, NaiveDate, TimeDelta, Weekday};

/// How often, and on which days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recurrence {
    /// Every real hour, at the slot's minute.
    Hourly,
    /// Every date.
    Daily,
    /// These weekdays of every week.
    Weekly(Weekdays),
    /// These weekdays of every second week: of the even ones, counted from Monday 1970-01-05.
    Biweekly(Weekdays),
    /// These days of every month; days past its end fall on its last day.
    Monthly(MonthDays),
}

impl Recurrence {
    /// Whether the recurrence falls on `date`. Hourly falls on every date.
    #[must_use]
    pub fn falls_on(&self, date: NaiveDate) -> bool {
        match self {
            Self::Hourly | Self::Daily => true,
            Self::Weekly(days) => days.contains(date.weekday()),
            Self::Biweekly(days) => is_even_week(date) && days.contains(date.weekday()),
            Self::Monthly(days) => days.falls_on(date),
        }
    }

    /// The longest time between two occurrences, clock changes aside.
    #[must_use]
    pub fn period(&self) -> TimeDelta {
        match self {
            Self::Hourly => TimeDelta::hours(1),
            Self::Daily => TimeDelta::days(1),
            Self::Weekly(_) => TimeDelta::weeks(1),
            Self::Biweekly(_) => TimeDelta::weeks(2),
            Self::Monthly(_) => TimeDelta::days(31),
        }
    }

    /// The word used in preferences, as `weekly`.
    #[must_use]
    pub fn frequency(&self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly(_) => "weekly",
            Self::Biweekly(_) => "biweekly",
            Self::Monthly(_) => "monthly",
        }
    }
}

fn is_even_week(date: NaiveDate) -> bool {
    const FIRST_MONDAY: i32 = 4; // 1970-01-05, in days after 1970-01-01
    let days = date.signed_duration_since(NaiveDate::default()).num_days() as i32;
    (days - FIRST_MONDAY).div_euclid(7).rem_euclid(2) == 0
}

/// A set of weekdays, never empty when it comes from a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weekdays(u8);

impl Weekdays {
    const ALL: [Weekday; 7] = [
        Weekday::Mon,
        Weekday::Tue,
        Weekday::Wed,
        Weekday::Thu,
        Weekday::Fri,
        Weekday::Sat,
        Weekday::Sun,
    ];

    /// The set as bits, Monday the lowest.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// The set of [`bits`](Self::bits).
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether `day` is in the set.
    #[must_use]
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day.num_days_from_monday()) != 0
    }

    /// The days, Monday first.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        Self::ALL.into_iter().filter(move |day| self.contains(*day))
    }

    /// The English name of a day, as preferences spell it.
    pub(crate) fn name(day: Weekday) -> &'static str {
        match day {
            Weekday::Mon => "monday",
            Weekday::Tue => "tuesday",
            Weekday::Wed => "wednesday",
            Weekday::Thu => "thursday",
            Weekday::Fri => "friday",
            Weekday::Sat => "saturday",
            Weekday::Sun => "sunday",
        }
    }

    /// The day of an English name or of its first three letters, in any case.
    pub(crate) fn parse(name: &str) -> Option<Weekday> {
        let is =
            |full: &str| full.eq_ignore_ascii_case(name) || full[..3].eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(|day| is(Self::name(*day)))
    }
}

impl FromIterator<Weekday> for Weekdays {
    fn from_iter<I: IntoIterator<Item = Weekday>>(days: I) -> Self {
        Self(
            days.into_iter()
                .fold(0, |set, day| set | 1 << day.num_days_from_monday()),
        )
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.iter().map(Self::name))
    }
}

/// A set of days of the month, `last` among them; never empty when it comes from a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonthDays(u32);

impl MonthDays {
    /// The number under which `last` is kept in the set.
    pub const LAST: u8 = 0;

    /// The set of `days`, each 1–31; anything else is left out.
    pub fn of(days: impl IntoIterator<Item = u8>) -> Self {
        days.into_iter()
            .filter(|day| (1..=31).contains(day))
            .collect()
    }

    /// The set that holds only the last day of the month.
    #[must_use]
    pub fn last() -> Self {
        [Self::LAST].into_iter().collect()
    }

    /// The set as bits, `last` the lowest, then the days.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The set of [`bits`](Self::bits).
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    fn falls_on(self, date: NaiveDate) -> bool {
        let length = date.num_days_in_month();
        let day = date.day();
        let past_the_end = if u32::from(length) == day {
            !0u32 << length | 1
        } else {
            0
        };
        self.0 & (1 << day | past_the_end) != 0
    }

    /// The days in order; [`LAST`](Self::LAST) comes at the end.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=31)
            .chain([Self::LAST])
            .filter(move |day| self.0 & (1 << day) != 0)
    }
}

impl FromIterator<u8> for MonthDays {
    fn from_iter<I: IntoIterator<Item = u8>>(days: I) -> Self {
        Self(days.into_iter().fold(0, |set, day| set | 1 << day))
    }
}

impl fmt::Display for MonthDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(
            f,
            self.iter().map(|day| {
                if day == Self::LAST {
                    "last".to_owned()
                } else {
                    day.to_string()
                }
            }),
        )
    }
}

fn write_list(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        write!(f, "{}{item}", if index > 0 { "," } else { "" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn biweekly_counts_even_weeks_from_the_first_monday_of_the_epoch() {
        let mondays = Recurrence::Biweekly([Weekday::Mon].into_iter().collect());
        assert!(mondays.falls_on(date("1970-01-05")));
        assert!(!mondays.falls_on(date("1970-01-12")));
        assert!(mondays.falls_on(date("1970-01-19")));
        assert!(!mondays.falls_on(date("1969-12-29")));
        assert!(mondays.falls_on(date("1969-12-22")));
    }

    #[test]
    fn days_past_the_end_fall_on_the_last_day_and_never_drift() {
        let month_ends = |days: MonthDays| -> Vec<String> {
            let rule = Recurrence::Monthly(days);
            date("2024-01-01")
                .iter_days()
                .take(366)
                .filter(|d| rule.falls_on(*d))
                .map(|d| d.to_string())
                .collect()
        };
        let on_31 = month_ends(MonthDays::of([31]));
        assert_eq!(on_31.len(), 12);
        assert_eq!(
            &on_31[..4],
            ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]
        );
        assert_eq!(month_ends(MonthDays::last()), on_31);
        assert_eq!(month_ends(MonthDays::of([30]))[1], "2024-02-29");
        assert_eq!(month_ends(MonthDays::of([30]))[2], "2024-03-30");
        // 29, 30, 31 and `last` meet on the last day of February: one date, not four.
        let all = month_ends([29, 30, 31, MonthDays::LAST].into_iter().collect());
        assert_eq!(all.iter().filter(|d| d.starts_with("2024-02")).count(), 1);
    }
}
