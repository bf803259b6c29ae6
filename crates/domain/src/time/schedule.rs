//! The fixed schedule of a plain job: a slot as tenants choose them, or a cron expression in a time zone.

use std::fmt;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::time::{cron::CronSchedule, occurrence::Occurrence, slot::Slot, zone::Zone};

/// Schedule of a plain job.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// A frequency with its days, time and zone.
    Slot(Slot),
    /// A cron expression.
    Cron(CronSchedule),
}

impl Schedule {
    /// The first occurrence strictly after `instant`; `None` where none follows.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Slot(slot) => slot.next_after(instant),
            Self::Cron(cron) => cron.next_after(instant),
        }
    }

    /// Which occurrence `instant` is; of a cron expression the instant itself, for a date may have several.
    #[must_use]
    pub fn occurrence_key(&self, instant: DateTime<Utc>) -> Occurrence {
        match self {
            Self::Slot(slot) => slot.occurrence_key(instant),
            Self::Cron(_) => Occurrence::Instant(instant),
        }
    }

    /// The date in its zone to which one of its occurrences belongs; `None` for a manual run.
    #[must_use]
    pub fn date_of(&self, occurrence: Occurrence) -> Option<NaiveDate> {
        match occurrence {
            Occurrence::Date(date, _) => Some(date),
            Occurrence::Instant(instant) => self.zone().local(instant).map(|local| local.date()),
            Occurrence::Run(_) => None,
        }
    }

    /// The same schedule without the dates that bound it, as its batches name it.
    #[must_use]
    pub fn without_dates(&self) -> Self {
        match self {
            Self::Slot(slot) => Self::Slot(slot.without_dates()),
            Self::Cron(cron) => Self::Cron(cron.clone()),
        }
    }

    /// In which zone it is meant.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        match self {
            Self::Slot(slot) => &slot.zone,
            Self::Cron(cron) => cron.zone(),
        }
    }

    /// How long after the occurrence at `instant` the next one falls due: one period, and of a cron expression the time
    /// to its next instant.
    #[must_use]
    pub fn period_from(&self, instant: DateTime<Utc>) -> TimeDelta {
        match self {
            Self::Slot(_) => self.period(),
            Self::Cron(cron) => cron
                .next_after(instant)
                .map_or(self.period(), |next| next - instant),
        }
    }

    /// How old a missed occurrence may be that is still made up for, unless the job says otherwise: one period, and of
    /// a cron expression a month.
    pub(crate) fn period(&self) -> TimeDelta {
        match self {
            Self::Slot(slot) => slot.period(),
            Self::Cron(_) => TimeDelta::days(31),
        }
    }
}

impl From<Slot> for Schedule {
    fn from(slot: Slot) -> Self {
        Self::Slot(slot)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => slot.fmt(f),
            Self::Cron(cron) => cron.fmt(f),
        }
    }
}
