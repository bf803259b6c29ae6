//! Cron expressions in a time zone.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use super::zone::Zone;

/// A cron expression of five fields (minute, hour, day of month, month, day of week) in a time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct CronSchedule {
    cron: Box<Cron>,
    zone: Zone,
}

/// The fields of an expression, and what each may hold.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of week", "0 to 7 or SUN to SAT"),
];

/// An expression that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCron(String);

impl CronSchedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// When it has not five fields, one of them cannot be read, or no date matches it.
    pub fn new(expression: &str, zone: Zone) -> Result<Self, InvalidCron> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(expression)
            .map_err(|_| InvalidCron(mistake(parser, expression)))?;
        let schedule = Self {
            cron: Box::new(cron),
            zone,
        };
        match schedule.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(InvalidCron("no date matches it".into())),
        }
    }

    /// An expression that leaves hours out means the wall clock, like slots do, whether it lists them (`2,6,10`) or
    /// steps through them (`2-10/4`): a time that the clocks skip falls due as much later, a time that they show twice
    /// falls due the first time. An expression of every hour, such as `*/15 * * * *`, means real time: nothing is left
    /// out and nothing is doubled.
    fn names_hours(&self) -> bool {
        (0..24).any(|hour| !self.cron.pattern.hour_match(hour).unwrap_or(false))
    }

    /// In which zone it is meant.
    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first instant strictly after `instant` that fulfils it; `None` only where the calendar ends.
    pub(super) fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.names_hours() {
            self.next_of_wall_clock(instant)
        } else {
            self.next_of_real_time(instant)
        }
    }

    fn next_of_wall_clock(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Two days early: a gap may have moved an earlier time past `instant`.
        let start = self
            .zone
            .local(instant)?
            .checked_sub_signed(TimeDelta::days(2))?;
        let first = self.cron.find_next_occurrence(&start, true).ok();
        std::iter::successors(first, |last| {
            self.cron.find_next_occurrence(last, false).ok()
        })
        .filter_map(|local| self.zone.resolve(local.date(), local.time()))
        .find(|due| *due > instant)
    }

    fn next_of_real_time(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = instant;
        // Each round covers one stretch of constant offset.
        loop {
            let local = self.zone.local(from)?;
            let next = self
                .cron
                .find_next_occurrence(&local, from != instant)
                .ok()?;
            let due = from.checked_add_signed(next - local)?;
            match self.zone.next_transition(from) {
                Some(transition) if transition <= due => from = transition,
                _ => return Some(due),
            }
        }
    }
}

/// What is wrong with an expression that cannot be read: the first field that cannot be read by itself.
fn mistake(parser: CronParser, expression: &str) -> String {
    let given: Vec<&str> = expression.split_whitespace().collect();
    if given.len() != FIELDS.len() {
        return format!("the number of its fields is {}", given.len());
    }
    for (index, (name, expected)) in FIELDS.into_iter().enumerate() {
        let mut alone = ["*"; FIELDS.len()];
        alone[index] = given[index];
        if parser.parse(&alone.join(" ")).is_err() {
            let value = given[index];
            return format!("its {name} is \"{value}\", expected {expected}");
        }
    }
    "its fields do not go together".to_owned()
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {} {}", self.cron.as_str(), self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let cron = CronSchedule::new(expression, zone.parse().unwrap()).unwrap();
        let next = |after: &DateTime<Utc>| cron.next_after(*after);
        let first = next(&format!("2026-{from}:00Z").parse().unwrap());
        std::iter::successors(first, next)
            .take(count)
            .map(|instant| instant.format("%m-%dT%H:%M").to_string())
            .collect()
    }

    #[test]
    fn expressions_are_meant_in_their_zone() {
        let working_days = due("30 9 * * 1-5", "Asia/Tokyo", "03-05T12:00", 3);
        assert_eq!(working_days, ["03-06T00:30", "03-09T00:30", "03-10T00:30"]);
        assert_eq!(
            due("0 0 1 1 *", "UTC", "01-01T00:00", 1).len(),
            1,
            "strictly after"
        );
        assert_eq!(
            due("0 12 L * *", "UTC", "02-01T00:00", 2),
            ["02-28T12:00", "03-31T12:00"]
        );
    }

    #[test]
    fn named_hours_follow_the_wall_clock_through_its_changes() {
        // Berlin's clocks skip 02:00–03:00 on 29 March and show it twice on 25 October.
        let spring = due("30 2,14 * * *", "Europe/Berlin", "03-28T12:00", 4);
        assert_eq!(
            spring,
            ["03-28T13:30", "03-29T01:30", "03-29T12:30", "03-30T00:30"]
        );
        let autumn = due("30 2 * * *", "Europe/Berlin", "10-24T12:00", 2);
        assert_eq!(autumn, ["10-25T00:30", "10-26T01:30"]);
    }

    #[test]
    fn stepped_hours_fall_due_like_the_same_hours_listed() {
        for (stepped, listed) in [
            ("30 2-22/4 * * *", "30 2,6,10,14,18,22 * * *"),
            ("15 */2 * * *", "15 0,2,4,6,8,10,12,14,16,18,20,22 * * *"),
            ("0 1-3,20-23/3 * * *", "0 1,2,3,20,23 * * *"),
            ("30 0-23 * * *", "30 * * * *"),
            ("30 */1 * * *", "30 * * * *"),
        ] {
            for (zone, from) in [
                ("Europe/Berlin", "03-28T00:00"),
                ("Europe/Berlin", "10-24T00:00"),
                ("Australia/Lord_Howe", "04-04T00:00"),
                ("America/Havana", "11-01T00:00"),
            ] {
                assert_eq!(
                    due(stepped, zone, from, 50),
                    due(listed, zone, from, 50),
                    "{stepped} in {zone}"
                );
            }
        }
        let autumn = due("30 2-22/4 * * *", "Europe/Berlin", "10-24T21:00", 2);
        assert_eq!(autumn, ["10-25T00:30", "10-25T05:30"]);
    }

    #[test]
    fn every_hour_means_real_hours() {
        let autumn = due("0 * * * *", "Europe/Berlin", "10-24T23:30", 4);
        assert_eq!(
            autumn,
            ["10-25T00:00", "10-25T01:00", "10-25T02:00", "10-25T03:00"]
        );
        let spring = due("*/30 * * * *", "Europe/Berlin", "03-29T00:40", 3);
        assert_eq!(spring, ["03-29T01:00", "03-29T01:30", "03-29T02:00"]);
    }

    #[test]
    fn an_invalid_expression_is_refused_with_the_reason() {
        for (expression, reason) in [
            ("", "the number of its fields is 0"),
            ("* * * *", "the number of its fields is 4"),
            ("0 0 9 * * *", "the number of its fields is 6"),
            ("61 * * * *", "its minute is \"61\", expected 0 to 59"),
            (
                "0 9 * * monday!",
                "its day of week is \"monday!\", expected 0 to 7 or SUN to SAT",
            ),
            ("0 0 30 2 *", "no date matches it"),
        ] {
            let error = CronSchedule::new(expression, Zone::utc()).unwrap_err();
            assert_eq!(error.to_string(), reason, "{expression}");
        }
    }
}
