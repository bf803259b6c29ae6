//! Which days a recurrence names. Calendar arithmetic only: which of them count is up to [`Bounds`](crate::Bounds), and
//! [`Slot`](crate::Slot) adds time of day and zone.

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
    /// These weekdays of every second week: of the even ones, counted from Monday 1970-01-05 where the bounds have no start.
    Biweekly(Weekdays),
    /// These days of every month; days past its end fall on its last day.
    Monthly(MonthDays),
    /// This date only.
    Once(NaiveDate),
}

impl Recurrence {
    /// Whether it names the day `date`, in whichever week or month. Hourly names every day.
    pub(crate) fn names(&self, date: NaiveDate) -> bool {
        match self {
            Self::Hourly | Self::Daily => true,
            Self::Weekly(days) | Self::Biweekly(days) => days.contains(date.weekday()),
            Self::Monthly(days) => days.name(date),
            Self::Once(only) => *only == date,
        }
    }

    /// The longest time between two occurrences where no interval is given, clock changes aside; of a single date, a month.
    #[must_use]
    pub fn period(&self) -> TimeDelta {
        match self {
            Self::Hourly => TimeDelta::hours(1),
            Self::Daily => TimeDelta::days(1),
            Self::Weekly(_) => TimeDelta::weeks(1),
            Self::Biweekly(_) => TimeDelta::weeks(2),
            // From the second Tuesday to the next one there may be five weeks.
            Self::Monthly(days) if days.weekdays != 0 => TimeDelta::weeks(5),
            Self::Monthly(_) | Self::Once(_) => TimeDelta::days(31),
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
            Self::Once(_) => "once",
        }
    }
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

/// A weekday that is counted within its month, such as the second tuesday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonthWeekday {
    /// Which one: 1–4, or [`LAST`](Self::LAST).
    nth: u8,
    /// Monday 0 to sunday 6, or [`WORKDAY`](Self::WORKDAY).
    day: u8,
}

impl MonthWeekday {
    const LAST: u8 = 0;
    /// Any day from monday to friday.
    const WORKDAY: u8 = 7;
    const NTHS: [&'static str; 5] = ["last", "first", "second", "third", "fourth"];

    /// Reads `second tuesday`, `last fri` or `first weekday`, in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (nth, day) = text.split_once(char::is_whitespace)?;
        let nth = Self::NTHS
            .iter()
            .position(|word| word.eq_ignore_ascii_case(nth))?;
        let day = day.trim_start();
        let day = if day.eq_ignore_ascii_case("weekday") {
            Self::WORKDAY
        } else {
            Weekdays::parse(day)?.num_days_from_monday() as u8
        };
        Some(Self {
            nth: nth as u8,
            day,
        })
    }

    /// Which one of its kind, 1–4; `None`: the last one.
    #[must_use]
    pub fn nth(self) -> Option<u8> {
        Some(self.nth).filter(|nth| *nth != Self::LAST)
    }

    /// The day of the week; `None`: any from monday to friday.
    #[must_use]
    pub fn weekday(self) -> Option<Weekday> {
        Weekday::try_from(self.day).ok()
    }

    fn is(self, date: NaiveDate) -> bool {
        let place = |date: NaiveDate| date.weekday().num_days_from_monday() as u8;
        let counts = |date: NaiveDate| match self.day {
            Self::WORKDAY => place(date) < 5,
            day => place(date) == day,
        };
        if !counts(date) {
            return false;
        }
        let of_month = |date: &NaiveDate, other: &NaiveDate| date.month() == other.month();
        match self.nth {
            Self::LAST => !date
                .iter_days()
                .skip(1)
                .take_while(|later| of_month(later, &date))
                .any(counts),
            nth => {
                let first = date.with_day(1).unwrap_or(date);
                let until = first.iter_days().take_while(|earlier| *earlier <= date);
                until.filter(|day| counts(*day)).count() == usize::from(nth)
            }
        }
    }
}

impl fmt::Display for MonthWeekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = self.weekday().map_or("weekday", Weekdays::name);
        write!(f, "{} {day}", Self::NTHS[usize::from(self.nth)])
    }
}

/// A set of days of the month, `last` and counted weekdays among them; never empty when it comes from a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonthDays {
    numbers: u32,
    /// A bit for each weekday that can be counted.
    weekdays: u64,
}

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

    /// The set as bits, `last` the lowest, then the days; `None`: it counts weekdays.
    pub(crate) fn bits(self) -> Option<u32> {
        (self.weekdays == 0).then_some(self.numbers)
    }

    /// The set of [`bits`](Self::bits).
    pub(crate) fn from_bits(numbers: u32) -> Self {
        Self {
            numbers,
            weekdays: 0,
        }
    }

    fn name(self, date: NaiveDate) -> bool {
        let length = date.num_days_in_month();
        let day = date.day();
        let past_the_end = if u32::from(length) == day {
            !0u32 << length | 1
        } else {
            0
        };
        self.numbers & (1 << day | past_the_end) != 0 || self.weekdays().any(|day| day.is(date))
    }

    /// The days in order; [`LAST`](Self::LAST) comes at the end.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=31)
            .chain([Self::LAST])
            .filter(move |day| self.numbers & (1 << day) != 0)
    }

    /// The counted weekdays, the last ones at the end.
    pub fn weekdays(self) -> impl Iterator<Item = MonthWeekday> {
        let nths = (self.weekdays != 0).then_some([1, 2, 3, 4, MonthWeekday::LAST]);
        let all = nths
            .into_iter()
            .flatten()
            .flat_map(|nth| (0..=MonthWeekday::WORKDAY).map(move |day| MonthWeekday { nth, day }));
        all.filter(move |day| self.weekdays & weekday_bit(*day) != 0)
    }
}

fn weekday_bit(day: MonthWeekday) -> u64 {
    1 << (day.nth * 8 + day.day)
}

impl FromIterator<u8> for MonthDays {
    fn from_iter<I: IntoIterator<Item = u8>>(days: I) -> Self {
        let mut set = Self::default();
        set.extend(days);
        set
    }
}

impl Extend<u8> for MonthDays {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, days: I) {
        self.numbers = days
            .into_iter()
            .fold(self.numbers, |set, day| set | 1 << day);
    }
}

impl Extend<MonthWeekday> for MonthDays {
    fn extend<I: IntoIterator<Item = MonthWeekday>>(&mut self, days: I) {
        self.weekdays = days
            .into_iter()
            .fold(self.weekdays, |set, day| set | weekday_bit(day));
    }
}

impl fmt::Display for MonthDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.iter().map(|day| {
            if day == Self::LAST {
                "last".to_owned()
            } else {
                day.to_string()
            }
        });
        write_list(f, numbers.chain(self.weekdays().map(|day| day.to_string())))
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
    fn days_past_the_end_fall_on_the_last_day_and_never_drift() {
        let month_ends = |days: MonthDays| -> Vec<String> {
            let rule = Recurrence::Monthly(days);
            date("2024-01-01")
                .iter_days()
                .take(366)
                .filter(|d| rule.names(*d))
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
    #[test]
    fn weekdays_are_counted_within_the_month() {
        let in_2026 = |text: &str| -> Vec<String> {
            let mut days = MonthDays::default();
            days.extend(MonthWeekday::parse(text));
            assert_eq!(days.to_string(), text);
            let rule = Recurrence::Monthly(days);
            let all = date("2026-01-01").iter_days().take(365);
            all.filter(|day| rule.names(*day))
                .map(|day| day.to_string())
                .collect()
        };
        let second_tuesdays = in_2026("second tuesday");
        assert_eq!(second_tuesdays.len(), 12);
        assert_eq!(
            second_tuesdays[..3],
            ["2026-01-13", "2026-02-10", "2026-03-10"]
        );
        assert_eq!(
            in_2026("last friday")[..3],
            ["2026-01-30", "2026-02-27", "2026-03-27"]
        );
        // 2026-02-01 is a sunday, 2026-05-31 as well.
        assert_eq!(
            in_2026("first weekday")[..3],
            ["2026-01-01", "2026-02-02", "2026-03-02"]
        );
        assert_eq!(in_2026("last weekday")[4], "2026-05-29");
        for text in [
            "fifth monday",
            "second",
            "second  ",
            "second foo",
            "2 monday",
        ] {
            assert_eq!(MonthWeekday::parse(text), None, "{text}");
        }
        assert_eq!(
            MonthWeekday::parse("Last  FRI"),
            MonthWeekday::parse("last friday")
        );
    }
}
