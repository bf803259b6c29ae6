//! A slot: frequency, days, wall-clock time and time zone. All tenants of a feature with an equal slot fall
//! due together. This is where a preference becomes instants.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};

use crate::time::{occurrence::Occurrence, recurrence::Recurrence, zone::Zone};

/// A time of day, `HH:MM`. An hourly slot uses its minute only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(NaiveTime);

impl TimeOfDay {
    /// `hour` 0–23 and `minute` 0–59; `None` outside.
    #[must_use]
    pub fn new(hour: u32, minute: u32) -> Option<Self> {
        NaiveTime::from_hms_opt(hour, minute, 0).map(Self)
    }

    /// Minutes after the hour, 0–59.
    #[must_use]
    pub fn minute(self) -> u32 {
        self.0.minute()
    }

    /// The same minute of the hour after midnight.
    pub(crate) fn in_first_hour(self) -> Self {
        Self::new(0, self.minute()).unwrap_or_default()
    }

    /// Minutes after midnight, 0–1439.
    pub(crate) fn minute_of_day(self) -> u16 {
        (self.0.hour() * 60 + self.0.minute()) as u16
    }

    /// The time of [`minute_of_day`](Self::minute_of_day).
    pub(crate) fn from_minute_of_day(minute: u16) -> Self {
        Self::new(u32::from(minute) / 60, u32::from(minute) % 60).unwrap_or_default()
    }
}

impl Default for TimeOfDay {
    /// The documented default, 09:00.
    fn default() -> Self {
        Self::new(9, 0).expect("09:00 exists")
    }
}

impl FromStr for TimeOfDay {
    type Err = ();

    /// Reads `HH:MM`, also as `H:MM` or with `:00` seconds.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (hour, rest) = text.split_once(':').ok_or(())?;
        let minute = rest.strip_suffix(":00").unwrap_or(rest);
        let number = |part: &str, shortest: usize| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            if digits && (shortest..=2).contains(&part.len()) {
                part.parse().map_err(|_| ())
            } else {
                Err(())
            }
        };
        Self::new(number(hour, 1)?, number(minute, 2)?).ok_or(())
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%H:%M"))
    }
}

/// When a preference falls due. Written `weekly monday,thursday 10:00 Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// How often, and on which days.
    pub recurrence: Recurrence,
    /// At which time of day; hourly slots use the minute only.
    pub time: TimeOfDay,
    /// In which zone.
    pub zone: Zone,
}

/// What a change of the clocks does to an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    /// The clocks skip the chosen time on that day: it falls due as much later as they skip.
    Skipped,
    /// The clocks show the chosen time twice on that day: it falls due the first time.
    Repeated,
}

/// How many dates to look ahead for the next occurrence: past the longest recurrence (two months when a
/// month ends early) and any date that a zone has skipped.
const DATES_AHEAD: usize = 75;

impl Slot {
    /// The first occurrence strictly after `instant`; `None` only where the calendar ends.
    ///
    /// A local time in a daylight-saving gap moves later by the gap's length, in an overlap the first of the
    /// two counts; hourly slots take every instant at which the local clock shows their minute.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.recurrence == Recurrence::Hourly {
            return self.next_hourly(instant);
        }
        // Two dates early: a gap may have moved an earlier date's time past `instant`.
        let start = self.zone.local(instant)?.date().pred_opt()?.pred_opt()?;
        start
            .iter_days()
            .take(DATES_AHEAD)
            .filter(|date| self.recurrence.falls_on(*date))
            .filter_map(|date| self.zone.resolve(date, self.time.0))
            .find(|due| *due > instant)
    }

    /// Which occurrence `instant` is: the local date that the slot's rule chose, for hourly slots the
    /// instant itself. A time that a gap moved past midnight still belongs to the date before it.
    #[must_use]
    pub fn occurrence_key(&self, instant: DateTime<Utc>) -> Occurrence {
        if self.recurrence == Recurrence::Hourly {
            return Occurrence::Instant(instant);
        }
        let local = self
            .zone
            .local(instant)
            .map_or(instant.date_naive(), |local| local.date());
        let chosen = |date: &NaiveDate| {
            self.recurrence.falls_on(*date)
                && self.zone.resolve(*date, self.time.0) == Some(instant)
        };
        let earlier = [Some(local), local.pred_opt()]
            .into_iter()
            .flatten()
            .find(chosen);
        Occurrence::Date(earlier.unwrap_or(local))
    }

    /// When the occurrence of this key falls due; `None` where the slot has no such occurrence.
    #[must_use]
    pub fn instant_of(&self, occurrence: Occurrence) -> Option<DateTime<Utc>> {
        let hourly = self.recurrence == Recurrence::Hourly;
        match occurrence {
            Occurrence::Date(date) if !hourly && self.recurrence.falls_on(date) => {
                self.zone.resolve(date, self.time.0)
            }
            Occurrence::Instant(instant) if hourly => {
                let just_before = instant.checked_sub_signed(TimeDelta::seconds(1))?;
                self.next_after(just_before).filter(|due| *due == instant)
            }
            Occurrence::Date(_) | Occurrence::Instant(_) | Occurrence::Run(_) => None,
        }
    }

    /// What a change of the clocks does to the occurrence at `instant`; `None` on nearly all days, and always for
    /// hourly slots, which take every hour as it comes.
    #[must_use]
    pub fn clock_change(&self, instant: DateTime<Utc>) -> Option<ClockChange> {
        if self.recurrence == Recurrence::Hourly {
            return None;
        }
        let local = self.zone.local(instant)?;
        if local.time() != self.time.0 {
            return Some(ClockChange::Skipped);
        }
        let transition = self.zone.next_transition(instant)?;
        let back = self.zone.offset_seconds(instant)? - self.zone.offset_seconds(transition)?;
        let again = instant.checked_add_signed(TimeDelta::seconds(back.into()))?;
        (back > 0 && again >= transition).then_some(ClockChange::Repeated)
    }

    fn next_hourly(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after;
        // Each round covers one stretch of constant offset; a stretch shorter than an hour may hold none.
        for _ in 0..8 {
            let minute = i64::from(self.time.minute()) * 60;
            let local = from.timestamp() + i64::from(self.zone.offset_seconds(from)?);
            let ahead = (minute - local).rem_euclid(3600);
            let strictly = from == after && ahead == 0;
            let whole = DateTime::from_timestamp(from.timestamp(), 0)?;
            let candidate = whole.checked_add_signed(TimeDelta::seconds(if strictly {
                3600
            } else {
                ahead
            }))?;
            match self.zone.next_transition(from) {
                Some(transition) if transition <= candidate => from = transition,
                _ => return Some(candidate),
            }
        }
        None
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            recurrence,
            time,
            zone,
        } = self;
        let word = recurrence.frequency();
        match recurrence {
            Recurrence::Hourly => write!(f, "{word} :{:02} {zone}", time.minute()),
            Recurrence::Daily => write!(f, "{word} {time} {zone}"),
            Recurrence::Weekly(days) | Recurrence::Biweekly(days) => {
                write!(f, "{word} {days} {time} {zone}")
            }
            Recurrence::Monthly(days) => write!(f, "{word} {days} {time} {zone}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{MergedPreference, Preference};

    fn slot(preference: serde_json::Value) -> Slot {
        let stored = Preference::parse(preference.as_object().unwrap()).unwrap();
        let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
        merged.unwrap().slot
    }

    #[test]
    fn the_key_of_an_occurrence_leads_back_to_its_instant() {
        let berlin = |frequency: &str, time: &str| {
            slot(
                json!({"enabled": true, "frequency": frequency, "preferred_time": time,
                "timezone": "Europe/Berlin"}),
            )
        };
        // Across the change of the clocks on 2026-03-29, when 02:30 does not exist.
        for slot in [
            berlin("daily", "02:30"),
            berlin("weekly", "09:00"),
            berlin("biweekly", "00:15"),
            berlin("monthly", "23:59"),
            berlin("hourly", "00:20"),
        ] {
            let mut instant = "2026-03-20T00:00:00Z".parse().unwrap();
            for _ in 0..40 {
                instant = slot.next_after(instant).unwrap();
                assert_eq!(
                    slot.instant_of(slot.occurrence_key(instant)),
                    Some(instant),
                    "{slot}"
                );
            }
        }
    }

    #[test]
    fn a_key_that_the_slot_does_not_have_has_no_instant() {
        let friday =
            slot(json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday"}));
        let daily = slot(json!({"enabled": true, "frequency": "daily"}));
        let hourly = slot(json!({"enabled": true, "frequency": "hourly"}));
        for (slot, key) in [
            (&friday, "2026-03-02"),
            (&daily, "2026-03-02T09:00:00Z"),
            (&hourly, "2026-03-02"),
            (&hourly, "2026-03-02T09:30:00Z"),
            (&daily, "run-6ba7b811-9dad-11d1-80b4-00c04fd430c8"),
        ] {
            assert_eq!(slot.instant_of(key.parse().unwrap()), None, "{slot} {key}");
        }
    }
}
