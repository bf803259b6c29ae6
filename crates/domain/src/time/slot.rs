//! A slot: frequency, days, wall-clock times, bounds and time zone. All tenants of a feature with an equal slot fall
//! due together. This is where a preference becomes instants.

use std::fmt;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::time::{
    bounds::{Bounds, PauseEnd},
    occurrence::Occurrence,
    recurrence::Recurrence,
    times::{TimeOfDay, Times},
    zone::Zone,
};

/// When a preference falls due. Written `weekly monday,thursday 10:00 Europe/Berlin`, and where only some of these days count
/// `daily 09:00,18:00 UTC every 3 from 2026-11-02 to 2027-01-31 paused until 2026-12-24`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// How often, and on which days.
    pub recurrence: Recurrence,
    /// At which times of day; hourly slots use the minute of the first only.
    pub times: Times,
    /// Which of the days count.
    pub bounds: Bounds,
    /// In which zone.
    pub zone: Zone,
}

/// What a change of the clocks does to an occurrence, with the time of day that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    /// The clocks skip the chosen time on that day: it falls due as much later as they skip.
    Skipped(TimeOfDay),
    /// The clocks show the chosen time twice on that day: it falls due the first time.
    Repeated(TimeOfDay),
}

/// How many dates that count to look ahead for the next occurrence: past those before `instant`, and any that a zone has
/// skipped.
const DATES_AHEAD: usize = 16;

impl Slot {
    /// The slot of every day that `recurrence` names, at one time.
    #[must_use]
    pub fn new(recurrence: Recurrence, time: TimeOfDay, zone: Zone) -> Self {
        Self {
            recurrence,
            times: time.into(),
            bounds: Bounds::default(),
            zone,
        }
    }

    /// The first occurrence strictly after `instant`; `None` where none follows.
    ///
    /// A local time in a daylight-saving gap moves later by the gap's length, in an overlap the first of the
    /// two counts; hourly slots take every instant at which the local clock shows their minute.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.recurrence == Recurrence::Hourly {
            return self.next_hourly_that_counts(instant);
        }
        let resumes_at = self.bounds.resumes_at().unwrap_or(instant);
        // Two dates early: a gap may have moved an earlier date's time past `instant`.
        let start = self
            .zone
            .local(instant.max(resumes_at))?
            .date()
            .pred_opt()?
            .pred_opt()?;
        let first_of = |date: NaiveDate| {
            let due = self
                .times
                .iter()
                .filter_map(|time| self.zone.resolve(date, time.clock()));
            due.filter(|due| *due > instant && *due >= resumes_at).min()
        };
        let mut dates = self.dates_from(start).take(DATES_AHEAD);
        let first = dates.by_ref().find_map(first_of)?;
        if self.times.only().is_some() {
            return Some(first);
        }
        // A gap moves a time behind later ones of its date, or of the next.
        let next = dates.next().and_then(first_of);
        Some(next.map_or(first, |next| first.min(next)))
    }

    /// The longest time between two of its dates, clock changes aside; of a single date, a month.
    #[must_use]
    pub fn period(&self) -> TimeDelta {
        self.recurrence.period() * i32::from(self.bounds.interval.get())
    }

    /// The same slot without the dates that bound it: who falls due together in it runs in one batch.
    #[must_use]
    pub fn without_dates(&self) -> Self {
        let bounds = Bounds {
            interval: self.bounds.interval,
            ..Bounds::default()
        };
        Self {
            bounds,
            ..self.clone()
        }
    }

    /// The same slot without a pause that has ended at `instant`.
    #[must_use]
    pub fn without_ended_pause(mut self, instant: DateTime<Utc>) -> Self {
        let has_ended = |end: PauseEnd| match end {
            PauseEnd::Instant(end) => end <= instant,
            PauseEnd::Date(date) => self
                .zone
                .local(instant)
                .is_some_and(|now| now.date() >= date),
        };
        if self.bounds.paused_until.is_some_and(has_ended) {
            self.bounds.paused_until = None;
        }
        self
    }

    /// The dates that count, from one on.
    fn dates_from(&self, first: NaiveDate) -> impl Iterator<Item = NaiveDate> {
        let next = |from: NaiveDate| self.bounds.next_date(self.recurrence, from);
        std::iter::successors(next(first), move |last| next(last.succ_opt()?))
    }

    fn falls_on(&self, date: NaiveDate) -> bool {
        self.bounds.next_date(self.recurrence, date) == Some(date)
    }

    /// Which occurrence `instant` is: the local date that the slot's rule chose, with the place of the time from the second
    /// one on; for hourly slots the instant itself. A time that a gap moved past midnight still belongs to the date before it.
    #[must_use]
    pub fn occurrence_key(&self, instant: DateTime<Utc>) -> Occurrence {
        if self.recurrence == Recurrence::Hourly {
            return Occurrence::Instant(instant);
        }
        let local = self
            .zone
            .local(instant)
            .map_or(instant.date_naive(), |local| local.date());
        let chosen = |date: NaiveDate| {
            let is_it = |time: TimeOfDay| self.zone.resolve(date, time.clock()) == Some(instant);
            let place = (1..).zip(self.times.iter()).find(|(_, time)| is_it(*time));
            let (place, _) = place?;
            self.falls_on(date).then_some(Occurrence::Date(date, place))
        };
        [Some(local), local.pred_opt()]
            .into_iter()
            .flatten()
            .find_map(chosen)
            .unwrap_or(Occurrence::Date(local, 1))
    }

    /// When the occurrence of this key falls due; `None` where the slot has no such occurrence.
    #[must_use]
    pub fn instant_of(&self, occurrence: Occurrence) -> Option<DateTime<Utc>> {
        let hourly = self.recurrence == Recurrence::Hourly;
        match occurrence {
            Occurrence::Date(date, place) if !hourly => {
                let time = self.times.iter().nth(usize::from(place).checked_sub(1)?)?;
                let due = self.zone.resolve(date, time.clock())?;
                let is_it = self.falls_on(date) && self.occurrence_key(due) == occurrence;
                (is_it && self.bounds.allow(due)).then_some(due)
            }
            Occurrence::Instant(instant) if hourly => {
                let just_before = instant.checked_sub_signed(TimeDelta::seconds(1))?;
                self.next_after(just_before).filter(|due| *due == instant)
            }
            Occurrence::Date(..) | Occurrence::Instant(_) | Occurrence::Run(_) => None,
        }
    }

    /// What a change of the clocks does to the occurrence at `instant`; `None` on nearly all days, and always for
    /// hourly slots, which take every hour as it comes.
    #[must_use]
    pub fn clock_change(&self, instant: DateTime<Utc>) -> Option<ClockChange> {
        let Occurrence::Date(_, place) = self.occurrence_key(instant) else {
            return None;
        };
        let time = self.times.iter().nth(usize::from(place).checked_sub(1)?)?;
        if time.clock() != self.zone.local(instant)?.time() {
            return Some(ClockChange::Skipped(time));
        }
        let transition = self.zone.next_transition(instant)?;
        let back = self.zone.offset_seconds(instant)? - self.zone.offset_seconds(transition)?;
        let again = instant.checked_add_signed(TimeDelta::seconds(back.into()))?;
        (back > 0 && again >= transition).then_some(ClockChange::Repeated(time))
    }

    /// The next hour of a date that counts.
    fn next_hourly_that_counts(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let just_before =
            |instant: DateTime<Utc>| instant.checked_sub_signed(TimeDelta::seconds(1));
        let mut after = match self.bounds.resumes_at() {
            Some(end) if end > instant => just_before(end)?,
            _ => instant,
        };
        // The first hour found may lie on a date before those that count; the next one does not.
        for _ in 0..DATES_AHEAD {
            let due = self.next_hourly(after)?;
            let date = self.zone.local(due)?.date();
            let counts = self.bounds.next_date(self.recurrence, date)?;
            if counts == date {
                return Some(due);
            }
            let midnight = self.zone.resolve(counts, chrono::NaiveTime::MIN)?;
            after = due.max(just_before(midnight)?);
        }
        None
    }

    fn next_hourly(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after;
        // Each round covers one stretch of constant offset; a stretch shorter than an hour may hold none.
        for _ in 0..8 {
            let minute = i64::from(self.times.first().minute()) * 60;
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
            times,
            bounds,
            zone,
        } = self;
        let word = recurrence.frequency();
        match recurrence {
            Recurrence::Hourly => write!(f, "{word} :{:02}", times.first().minute()),
            Recurrence::Daily => write!(f, "{word} {times}"),
            Recurrence::Weekly(days) | Recurrence::Biweekly(days) => {
                write!(f, "{word} {days} {times}")
            }
            Recurrence::Monthly(days) => write!(f, "{word} {days} {times}"),
            Recurrence::Once(date) => write!(f, "{word} {date} {times}"),
        }?;
        write!(f, " {zone}{bounds}")
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
