//! How a job places its tenants: the defaults that say when, the default zone, and the spread. An edit of the job file
//! changes it for all of them at once, so it is kept beside the job's progress: the scheduler, in this process or the next
//! one, then knows who was still to come.

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use serde_json::{Map, Value, json};

use crate::{
    ids::FeatureType,
    preference::stored::Preference,
    time::{occurrence::Occurrence, recurrence::Recurrence, slot::Slot, zone::Zone},
};

/// How a job places its tenants.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The feature whose preferences place the tenants; `None`: an earlier version stored the placement without it.
    pub feature_type: Option<FeatureType>,
    /// What a preference leaves out. Only the fields that say when count.
    pub defaults: Preference,
    /// The zone where neither the tenant nor the job names one.
    pub default_zone: Zone,
    /// Over how many minutes after the slot the tenants are spread; 0 and 1: not at all.
    pub spread_minutes: u32,
}

impl Placement {
    /// The placement as a text that [`parse`](Self::parse) reads. Equal placements have equal texts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self {
            feature_type,
            defaults,
            default_zone,
            spread_minutes,
        } = self;
        json!({
            "feature_type": feature_type,
            "defaults": defaults.schedule_fields(),
            "timezone": default_zone.name(),
            "spread_minutes": spread_minutes.max(&1),
        })
        .to_string()
    }

    /// Whether it places the tenants of this feature, as far as is known.
    #[must_use]
    pub fn is_of_feature(&self, feature_type: &FeatureType) -> bool {
        self.feature_type
            .as_ref()
            .is_none_or(|own| own == feature_type)
    }

    /// Reads a placement; `None` when the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let defaults: &Map<String, Value> = value["defaults"].as_object()?;
        let feature_type = match &value["feature_type"] {
            Value::Null => None,
            name => Some(FeatureType::new(name.as_str()?).ok()?),
        };
        Some(Self {
            feature_type,
            defaults: Preference::parse(defaults).ok()?,
            default_zone: value["timezone"].as_str()?.parse().ok()?,
            spread_minutes: value["spread_minutes"].as_u64()?.try_into().ok()?,
        })
    }
}

/// When a tenant falls due whose next occurrence after `after` was still to come in `old`, and whose time for the same
/// date, or for the same hour, is not later than `until` in `new`. Slots come with their spread.
///
/// Of a date with several times, only as many fall due as were still to come in `old` and are not in `new`, the latest.
pub(crate) fn still_to_come(
    old: (&Slot, TimeDelta),
    new: (&Slot, TimeDelta),
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let next = old.0.next_after(after.checked_sub_signed(old.1)?)?;
    let last = until.checked_sub_signed(new.1)?;
    // A date begins and ends in one zone a day before or after another, and a spread is a day at most.
    let start = last.checked_sub_signed(TimeDelta::days(3))?;
    let behind: Vec<DateTime<Utc>> = from(new.0, start)
        .take_while(|instant| *instant <= last)
        .skip_while(|instant| !is_as_late(new.0, *instant, old.0, next))
        .collect();
    let date = date_of(old.0, next);
    let is_of_date = |slot: &Slot, instant| date.is_some() && date_of(slot, instant) == date;
    let left = |slot: &Slot, after| {
        from(slot, after)
            .take_while(|instant| is_of_date(slot, *instant))
            .count()
    };
    let missing = left(old.0, after.checked_sub_signed(old.1)?).saturating_sub(left(new.0, last));
    let of_date = behind
        .iter()
        .take_while(|instant| is_of_date(new.0, **instant));
    let surplus = of_date.count().saturating_sub(missing);
    Some(*behind.get(surplus)? + new.1)
}

/// The occurrences after an instant.
fn from(slot: &Slot, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    std::iter::successors(slot.next_after(after), |instant| slot.next_after(*instant))
}

/// The date of an occurrence; `None`: the slot is hourly.
fn date_of(slot: &Slot, instant: DateTime<Utc>) -> Option<NaiveDate> {
    match slot.occurrence_key(instant) {
        Occurrence::Date(date, _) => Some(date),
        Occurrence::Instant(_) | Occurrence::Run(_) => None,
    }
}

/// Whether an occurrence of `new` stands for the date or the hour of `next`, or for a later one.
fn is_as_late(new: &Slot, instant: DateTime<Utc>, old: &Slot, next: DateTime<Utc>) -> bool {
    let (key, next_key) = (new.occurrence_key(instant), old.occurrence_key(next));
    match (key, next_key) {
        (Occurrence::Date(..), Occurrence::Date(..)) => key >= next_key,
        _ if new.recurrence == Recurrence::Hourly && old.recurrence == Recurrence::Hourly => {
            // When the local hour began: an hour that a clock change repeats begins twice.
            let hour = |slot: &Slot, instant: DateTime<Utc>| {
                let local = slot.zone.local(instant)?;
                let passed = TimeDelta::minutes(local.minute().into());
                Some(instant - passed - TimeDelta::seconds(local.second().into()))
            };
            hour(new, instant) >= hour(old, next)
        }
        _ => false,
    }
}
