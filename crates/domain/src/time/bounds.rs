//! Which of the days that a recurrence names count: every so many weeks or months, from one date to another, and none before
//! a pause ends.

use std::{fmt, num::NonZeroU16};

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, TimeDelta, Utc};

use super::recurrence::Recurrence;

/// Which of the days that a recurrence names count; the default is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounds {
    /// Every so many days, weeks or months, counted from the one of `start`.
    pub interval: NonZeroU16,
    /// The first date that counts.
    pub start: Option<NaiveDate>,
    /// The last date that counts.
    pub end: Option<NaiveDate>,
    /// When a pause ends.
    pub paused_until: Option<PauseEnd>,
}

/// When a pause ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseEnd {
    /// With the beginning of this local date.
    Date(NaiveDate),
    /// At this instant, in whole seconds.
    Instant(DateTime<Utc>),
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            interval: NonZeroU16::MIN,
            start: None,
            end: None,
            paused_until: None,
        }
    }
}

/// Dates that are looked at for the next one that counts: what is left of one month, and a whole one.
const DATES_AHEAD: usize = 75;

impl Bounds {
    /// The first date from `from` on that `recurrence` names and that counts.
    pub(crate) fn next_date(&self, recurrence: Recurrence, from: NaiveDate) -> Option<NaiveDate> {
        let resumed = match self.paused_until {
            Some(PauseEnd::Date(date)) => Some(date),
            _ => None,
        };
        let mut date = [self.start, resumed]
            .into_iter()
            .flatten()
            .fold(from, NaiveDate::max);
        if let Recurrence::Once(only) = recurrence {
            date = date.max(only);
        }
        for _ in 0..DATES_AHEAD {
            if self.end.is_some_and(|end| date > end) {
                return None;
            }
            let counts = self.in_cycle(recurrence, date)?;
            date = if counts > date {
                counts
            } else if recurrence.names(date) {
                return Some(date);
            } else {
                date.succ_opt()?
            };
        }
        None
    }

    /// Whether an instant of a date that counts does: not before a pause ends.
    pub(crate) fn allow(&self, instant: DateTime<Utc>) -> bool {
        self.resumes_at().is_none_or(|end| instant >= end)
    }

    /// The instant at which a pause ends that ends at one.
    pub(crate) fn resumes_at(&self) -> Option<DateTime<Utc>> {
        match self.paused_until {
            Some(PauseEnd::Instant(end)) => Some(end),
            _ => None,
        }
    }

    /// The first date from `date` on whose day, week or month is one of those that count.
    fn in_cycle(&self, recurrence: Recurrence, date: NaiveDate) -> Option<NaiveDate> {
        let interval = i64::from(self.interval.get());
        // Without a start, weeks count from Monday 1970-01-05.
        let first = self
            .start
            .unwrap_or(NaiveDate::default() + TimeDelta::days(4));
        let missing = |passed: i64, every: i64| -passed.rem_euclid(every) + every;
        match recurrence {
            Recurrence::Daily if interval > 1 => {
                let days = missing((date - first).num_days(), interval) % interval;
                date.checked_add_signed(TimeDelta::days(days))
            }
            Recurrence::Weekly(_) if interval == 1 => Some(date),
            Recurrence::Weekly(_) | Recurrence::Biweekly(_) => {
                let every = match recurrence {
                    Recurrence::Biweekly(_) => 2,
                    _ => interval,
                };
                let monday = |date: NaiveDate| {
                    date - TimeDelta::days(date.weekday().num_days_from_monday().into())
                };
                let weeks = missing((monday(date) - monday(first)).num_weeks(), every) % every;
                if weeks == 0 {
                    return Some(date);
                }
                monday(date).checked_add_signed(TimeDelta::weeks(weeks))
            }
            Recurrence::Monthly(_) if interval > 1 => {
                let month =
                    |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month0());
                let months = missing(month(date) - month(first), interval) % interval;
                if months == 0 {
                    return Some(date);
                }
                let month = month(date) + months;
                let year = month.div_euclid(12).try_into().ok()?;
                NaiveDate::from_ymd_opt(year, month.rem_euclid(12) as u32 + 1, 1)
            }
            _ => Some(date),
        }
    }
}

impl fmt::Display for PauseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Instant(end) => f.write_str(&end.to_rfc3339_opts(SecondsFormat::Secs, true)),
        }
    }
}

impl fmt::Display for Bounds {
    /// What is not the default, each after a blank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interval,
            start,
            end,
            paused_until,
        } = self;
        if interval.get() > 1 {
            write!(f, " every {interval}")?;
        }
        if let Some(start) = start {
            write!(f, " from {start}")?;
        }
        if let Some(end) = end {
            write!(f, " to {end}")?;
        }
        if let Some(end) = paused_until {
            write!(f, " paused until {end}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::Weekday;

    use super::*;
    use crate::MonthDays;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn first(bounds: &Bounds, recurrence: Recurrence, from: &str, count: usize) -> Vec<String> {
        let next = |from: NaiveDate| bounds.next_date(recurrence, from);
        std::iter::successors(next(date(from)), |last| next(last.succ_opt()?))
            .take(count)
            .map(|date| date.to_string())
            .collect()
    }

    fn mondays() -> Recurrence {
        Recurrence::Biweekly([Weekday::Mon].into_iter().collect())
    }

    #[test]
    fn biweekly_counts_even_weeks_from_the_first_monday_of_the_epoch() {
        let all = Bounds::default();
        assert_eq!(
            first(&all, mondays(), "1969-12-10", 3),
            ["1969-12-22", "1970-01-05", "1970-01-19"]
        );
        // From a start on, it counts from the week of the start.
        let started = Bounds {
            start: Some(date("1970-01-14")),
            ..all
        };
        assert_eq!(
            first(&started, mondays(), "1970-01-01", 2),
            ["1970-01-26", "1970-02-09"]
        );
    }

    #[test]
    fn an_interval_counts_from_the_start_and_ends_with_the_end() {
        let every = |interval, start: &str, end: &str| Bounds {
            interval: NonZeroU16::new(interval).unwrap(),
            start: Some(date(start)),
            end: Some(date(end)),
            paused_until: None,
        };
        let days = every(3, "2026-11-02", "2026-11-09");
        assert_eq!(
            first(&days, Recurrence::Daily, "2020-01-01", 9),
            ["2026-11-02", "2026-11-05", "2026-11-08"]
        );
        assert_eq!(
            first(&days, Recurrence::Daily, "2026-11-06", 1),
            ["2026-11-08"]
        );
        let weekdays = [Weekday::Tue, Weekday::Sun].into_iter().collect();
        let weeks = every(3, "2026-11-04", "2026-12-31");
        assert_eq!(
            first(&weeks, Recurrence::Weekly(weekdays), "2026-01-01", 9),
            [
                "2026-11-08",
                "2026-11-24",
                "2026-11-29",
                "2026-12-15",
                "2026-12-20"
            ]
        );
        let months = every(5, "2026-10-31", "2028-01-01");
        assert_eq!(
            first(
                &months,
                Recurrence::Monthly(MonthDays::of([31])),
                "2026-01-01",
                9
            ),
            ["2026-10-31", "2027-03-31", "2027-08-31"]
        );
        let long = every(u16::MAX, "2026-10-31", "9999-12-31");
        for recurrence in [Recurrence::Daily, Recurrence::Monthly(MonthDays::last())] {
            assert_eq!(first(&long, recurrence, "2026-01-01", 1), ["2026-10-31"]);
            first(&long, recurrence, "2026-11-01", 2);
        }
    }

    #[test]
    fn a_pause_and_a_single_date_leave_the_rest_out() {
        let paused = Bounds {
            interval: NonZeroU16::new(2).unwrap(),
            start: Some(date("2026-11-01")),
            paused_until: Some(PauseEnd::Date(date("2026-11-10"))),
            end: None,
        };
        // The rhythm stays that of the start.
        assert_eq!(
            first(&paused, Recurrence::Daily, "2026-01-01", 2),
            ["2026-11-11", "2026-11-13"]
        );
        let only = Recurrence::Once(date("2030-02-28"));
        assert_eq!(
            first(&Bounds::default(), only, "2026-01-01", 3),
            ["2030-02-28"]
        );
        assert_eq!(
            first(&Bounds::default(), only, "2030-03-01", 3),
            [] as [&str; 0]
        );
    }
}
