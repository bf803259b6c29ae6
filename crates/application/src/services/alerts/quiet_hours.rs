//! Hours in which only the worst is reported.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveTime, Utc};
use punctual_domain::Zone;
use thiserror::Error;

/// Hours of the local day, such as `22:00-07:00`, in which only critical findings are reported. The clock on the wall decides, also
/// on days on which it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: NaiveTime,
    until: NaiveTime,
}

/// Text that does not say which hours are quiet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` does not say which hours are quiet; use two different times such as `22:00-07:00`")]
pub struct InvalidQuietHours(String);

impl QuietHours {
    /// Whether an instant is within them, in a zone.
    #[must_use]
    pub fn contain(&self, now: DateTime<Utc>, zone: &Zone) -> bool {
        let time = zone.local(now).unwrap_or_else(|| now.naive_utc()).time();
        if self.from < self.until {
            (self.from..self.until).contains(&time)
        } else {
            time >= self.from || time < self.until
        }
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}",
            self.from.format("%H:%M"),
            self.until.format("%H:%M")
        )
    }
}

impl FromStr for QuietHours {
    type Err = InvalidQuietHours;

    fn from_str(text: &str) -> Result<Self, InvalidQuietHours> {
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let times = text
            .split_once('-')
            .and_then(|(from, until)| time(from).zip(time(until)));
        match times {
            Some((from, until)) if from != until => Ok(Self { from, until }),
            _ => Err(InvalidQuietHours(text.chars().take(60).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(hours: &str, at: &str, zone: &str) -> bool {
        let hours: QuietHours = hours.parse().unwrap();
        hours.contain(at.parse().unwrap(), &zone.parse().unwrap())
    }

    #[test]
    fn they_may_go_over_midnight_and_end_before_their_last_minute() {
        for (hours, at, expected) in [
            ("22:00-07:00", "2026-03-02T21:59:59Z", false),
            ("22:00-07:00", "2026-03-02T22:00:00Z", true),
            ("22:00-07:00", "2026-03-03T00:00:00Z", true),
            ("22:00-07:00", "2026-03-03T06:59:59Z", true),
            ("22:00-07:00", "2026-03-03T07:00:00Z", false),
            ("12:00-13:30", "2026-03-03T12:00:00Z", true),
            ("12:00-13:30", "2026-03-03T13:30:00Z", false),
            ("12:00-13:30", "2026-03-03T00:00:00Z", false),
            ("00:00-07:00", "2026-03-03T00:00:00Z", true),
            ("22:00-00:00", "2026-03-03T23:59:59Z", true),
            ("22:00-00:00", "2026-03-03T00:00:00Z", false),
        ] {
            assert_eq!(quiet(hours, at, "UTC"), expected, "{hours} {at}");
        }
    }

    #[test]
    fn the_clock_on_the_wall_decides_on_days_on_which_it_is_changed() {
        // In Berlin 02:00 is followed by 03:00 on 29 March 2026, and on 25 October the hour from 02:00 comes twice.
        for (hours, at, expected) in [
            ("02:30-04:00", "2026-03-29T00:59:59Z", false),
            ("02:30-04:00", "2026-03-29T01:00:00Z", true),
            ("02:30-04:00", "2026-03-29T02:00:00Z", false),
            ("22:00-07:00", "2026-03-29T04:59:59Z", true),
            ("22:00-07:00", "2026-03-29T05:00:00Z", false),
            ("02:30-03:00", "2026-10-25T00:30:00Z", true),
            ("02:30-03:00", "2026-10-25T01:00:00Z", false),
            ("02:30-03:00", "2026-10-25T01:30:00Z", true),
            ("02:30-03:00", "2026-10-25T02:00:00Z", false),
        ] {
            assert_eq!(quiet(hours, at, "Europe/Berlin"), expected, "{hours} {at}");
        }
    }

    #[test]
    fn what_does_not_say_two_times_is_refused_with_the_remedy() {
        for text in [
            "",
            "22:00",
            "22-7",
            "22:00-24:00",
            "22:00-22:00",
            "x-07:00",
            "22:00-07:00-08:00",
        ] {
            let error = text.parse::<QuietHours>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("22:00-07:00"));
        }
        let hours: QuietHours = " 9:05 - 17:00 ".parse().unwrap();
        assert_eq!(hours.to_string(), "09:05-17:00");
    }
}
