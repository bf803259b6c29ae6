//! What a job would have run on dates that have passed: somebody asks for it after an outage that was not caught up
//! with, or for a job that is new. Occurrences keep their keys, so who has run for a date does not run for it again.

use std::fmt;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::{
    ids::ItemId,
    time::{occurrence::Occurrence, schedule::Schedule},
};

/// Dates from one to another, both included, each in the time zone of the tenant concerned; at most
/// [`MOST_DAYS`](Self::MOST_DAYS) of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    from: NaiveDate,
    to: NaiveDate,
}

/// Items that fell due together.
#[derive(Debug, Clone, PartialEq)]
pub struct BackfillGroup {
    /// When they fall due.
    pub schedule: Schedule,
    /// When they fell due, spread included, with the keys of the runs.
    pub occurrences: Vec<(DateTime<Utc>, Occurrence)>,
    /// Their items.
    pub items: Vec<ItemId>,
}

/// Dates that are no range to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDates(Dates);

impl fmt::Display for InvalidDates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Dates { from, to }) = self;
        if from > to {
            write!(
                f,
                "from: {from} is after to: {to}; give the earlier date as from"
            )
        } else {
            let most = Dates::MOST_DAYS;
            write!(
                f,
                "from: {from} to: {to} cover more than {most} days; request fewer days at a time"
            )
        }
    }
}

impl std::error::Error for InvalidDates {}

impl Dates {
    /// How many days a range has at most.
    pub const MOST_DAYS: i64 = 366;

    /// The dates from `from` to `to`.
    ///
    /// # Errors
    ///
    /// `from` is after `to`, or they are too many.
    pub fn new(from: NaiveDate, to: NaiveDate) -> Result<Self, InvalidDates> {
        let dates = Self { from, to };
        let days = (to - from).num_days();
        if (0..Self::MOST_DAYS).contains(&days) {
            Ok(dates)
        } else {
            Err(InvalidDates(dates))
        }
    }

    /// Only this date.
    #[must_use]
    pub fn only(date: NaiveDate) -> Self {
        Self {
            from: date,
            to: date,
        }
    }

    /// When somebody fell due on these dates, until `until`, who falls due by `spread` after `schedule`.
    #[must_use]
    pub fn passed(
        self,
        schedule: &Schedule,
        spread: TimeDelta,
        until: DateTime<Utc>,
    ) -> Vec<(DateTime<Utc>, Occurrence)> {
        self.occurrences_of(schedule)
            .map(|(instant, occurrence)| (instant + spread, occurrence))
            .take_while(|(scheduled_at, _)| *scheduled_at <= until)
            .collect()
    }

    /// When `schedule` falls due on these dates in its zone, in the order of time, with the keys of the runs.
    pub fn occurrences_of(
        self,
        schedule: &Schedule,
    ) -> impl Iterator<Item = (DateTime<Utc>, Occurrence)> {
        let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
        // Wherever the zone lies, its dates begin and end within these.
        let begin = midnight(self.from).checked_sub_signed(TimeDelta::hours(16));
        let end = midnight(self.to).checked_add_signed(TimeDelta::hours(40));
        let next_after = |instant| schedule.next_after(instant);
        std::iter::successors(begin.and_then(next_after), move |last| next_after(*last))
            .take_while(move |instant| end.is_some_and(|end| *instant < end))
            .map(|instant| (instant, schedule.occurrence_key(instant)))
            .filter(move |(_, occurrence)| {
                let date = schedule.date_of(*occurrence);
                date.is_some_and(|date| (self.from..=self.to).contains(&date))
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        preference::{effective::MergedPreference, stored::Preference},
        time::{cron::CronSchedule, zone::Zone},
    };

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn dates(from: &str, to: &str) -> Dates {
        Dates::new(date(from), date(to)).unwrap()
    }

    fn daily_at(time: &str, zone: &str) -> Schedule {
        let stored = json!({"enabled": true, "frequency": "daily", "preferred_time": time, "timezone": zone});
        let stored = Preference::parse(stored.as_object().unwrap()).unwrap();
        MergedPreference::merge(&stored, &Preference::default(), &Zone::utc())
            .unwrap()
            .slot
            .into()
    }

    fn keys(schedule: &Schedule, dates: Dates) -> Vec<String> {
        let keys = dates.occurrences_of(schedule);
        keys.map(|(instant, key)| format!("{key} at {}", instant.format("%dT%H:%M")))
            .collect()
    }

    #[test]
    fn dates_are_those_of_the_zone_also_where_it_is_far_from_utc() {
        let east = daily_at("00:30", "Pacific/Kiritimati");
        let west = daily_at("23:30", "Pacific/Pago_Pago");
        let days = dates("2026-03-02", "2026-03-03");
        assert_eq!(
            keys(&east, days),
            ["2026-03-02 at 01T10:30", "2026-03-03 at 02T10:30"]
        );
        assert_eq!(
            keys(&west, days),
            ["2026-03-02 at 03T10:30", "2026-03-03 at 04T10:30"]
        );
    }

    #[test]
    fn several_instants_of_a_date_are_all_of_it() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let cron = CronSchedule::new("0 */12 * * *", zone).unwrap();
        assert_eq!(
            keys(&Schedule::Cron(cron), dates("2026-03-02", "2026-03-02")),
            [
                "2026-03-01T23:00:00Z at 01T23:00",
                "2026-03-02T11:00:00Z at 02T11:00"
            ]
        );
    }

    #[test]
    fn an_invalid_range_says_why() {
        let wrong = |from, to| Dates::new(date(from), date(to)).unwrap_err().to_string();
        assert_eq!(
            wrong("2026-03-02", "2026-03-01"),
            "from: 2026-03-02 is after to: 2026-03-01; give the earlier date as from"
        );
        assert_eq!(
            wrong("2026-01-01", "2027-01-02"),
            "from: 2026-01-01 to: 2027-01-02 cover more than 366 days; request fewer days at a time"
        );
        assert!(Dates::new(NaiveDate::MIN, NaiveDate::MAX).is_err());
        // The ends of the calendar have nothing to run, and do no harm.
        let last = Dates::only(NaiveDate::MAX);
        assert_eq!(keys(&daily_at("09:00", "UTC"), last), [] as [String; 0]);
    }

    proptest! {
        #[test]
        fn a_daily_slot_runs_once_on_every_date(
            minute in 0_u32..1440, first in 0_i64..9000, days in 0_i64..40, zone in 0_usize..4,
        ) {
            let zone = ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"][zone];
            let schedule = daily_at(&format!("{:02}:{:02}", minute / 60, minute % 60), zone);
            let from = date("2010-01-01") + TimeDelta::days(first);
            let to = from + TimeDelta::days(days);
            let found: Vec<_> = Dates::new(from, to).unwrap().occurrences_of(&schedule).collect();
            let expected: Vec<_> = from.iter_days().take(days as usize + 1).map(|date| Occurrence::Date(date, 1)).collect();
            prop_assert_eq!(found.iter().map(|(_, key)| *key).collect::<Vec<_>>(), expected);
        }
    }
}
