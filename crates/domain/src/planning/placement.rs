//! How a job places its tenants: the defaults that say when, the default zone, and the spread; of a job with a fixed schedule,
//! the schedule. An edit of the job file changes it for all of them at once, so it is kept beside the job's progress: the
//! scheduler, in this process or the next one, then knows who was still to come.

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use serde_json::{Map, Value, json};

use crate::{
    ids::FeatureType,
    preference::{effective::MergedPreference, stored::Preference},
    time::{
        occurrence::Occurrence, recurrence::Recurrence, schedule::Schedule, slot::Slot, zone::Zone,
    },
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

/// A fixed schedule as a text that [`plan_edited`] reads. Equal schedules have equal texts.
#[must_use]
pub fn fixed_placement(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Slot(slot) => {
            json!({ "schedule": MergedPreference::of_slot(slot.clone()).to_json() })
        }
        Schedule::Cron(cron) => json!({ "cron": cron.to_string() }),
    }
    .to_string()
}

/// What was still to come of a fixed schedule, given as its text, when the job file was edited, and falls due now because its
/// new time for the same date, or for the same hour, is not later than `until`.
///
/// A cron expression names instants, and no dates to which they belong: none of its runs is known to be the same as one that was
/// still to come, so the times of the new schedule count from the edit on.
#[must_use]
pub fn plan_edited(
    before: &str,
    schedule: &Schedule,
    until: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, Occurrence)> {
    let (Some(old), Schedule::Slot(new)) = (parse_fixed(before), schedule) else {
        return Vec::new();
    };
    let zero = TimeDelta::zero();
    let first = still_to_come((&old, zero), (new, zero), until, until);
    std::iter::successors(first, |instant| new.next_after(*instant))
        .take_while(|instant| *instant <= until)
        .map(|instant| (instant, new.occurrence_key(instant)))
        .collect()
}

/// The slot of a fixed schedule; `None` when the text is of another one.
fn parse_fixed(text: &str) -> Option<Slot> {
    let value: Value = serde_json::from_str(text).ok()?;
    let stored = Preference::parse(value["schedule"].as_object()?).ok()?;
    let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
    Some(merged.ok()?.slot)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::cron::CronSchedule;

    fn schedule(fields: &Value) -> Schedule {
        if let Some(cron) = fields["cron"].as_str() {
            Schedule::Cron(CronSchedule::new(cron, Zone::utc()).unwrap())
        } else {
            let stored = Preference::parse(fields.as_object().unwrap()).unwrap();
            let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
            merged.unwrap().slot.into()
        }
    }

    #[test]
    fn the_text_of_a_fixed_schedule_tells_it_from_others() {
        let all = [
            json!({"frequency": "daily", "preferred_time": "09:00"}),
            json!({"frequency": "daily", "preferred_time": ["09:00", "18:00"]}),
            json!({"frequency": "daily", "preferred_time": "09:00", "timezone": "Europe/Berlin"}),
            json!({"frequency": "daily", "interval": 3, "start_date": "2026-03-01", "end_date": "2026-04-01"}),
            json!({"frequency": "daily", "paused_until": "2026-03-05"}),
            json!({"frequency": "weekly", "preferred_day": ["monday", "friday"]}),
            json!({"frequency": "monthly", "preferred_day": "last friday"}),
            json!({"frequency": "once", "date": "2026-03-05"}),
            json!({"frequency": "hourly", "preferred_time": "00:20"}),
            json!({"cron": "0 9 * * *"}),
            json!({"cron": "0 9 * * 1"}),
        ];
        let texts: std::collections::BTreeSet<String> = all
            .iter()
            .map(|fields| fixed_placement(&schedule(fields)))
            .collect();
        assert_eq!(texts.len(), all.len());
        for fields in &all {
            let schedule = schedule(fields);
            let read = parse_fixed(&fixed_placement(&schedule)).map(Schedule::Slot);
            let slot = matches!(schedule, Schedule::Slot(_)).then_some(schedule);
            assert_eq!(read, slot, "{fields}");
        }
    }

    #[test]
    fn what_was_still_to_come_of_a_fixed_schedule_falls_due_where_its_new_time_has_passed() {
        // A Monday.
        let until = "2026-03-02T14:20:00Z".parse().unwrap();
        let daily = |times: Value| json!({"frequency": "daily", "preferred_time": times});
        let hourly = |time: &str| json!({"frequency": "hourly", "preferred_time": time});
        let cron = |text: &str| json!({ "cron": text });
        let weekly = |day: &str| {
            json!({"frequency": "weekly", "preferred_day": day,
            "preferred_time": "14:22"})
        };
        for (before, after, expected) in [
            (
                daily(json!("14:22")),
                daily(json!("13:59")),
                "2026-03-02 13:59",
            ),
            (daily(json!("14:22")), daily(json!("14:22")), ""),
            (daily(json!("14:22")), daily(json!("16:00")), ""),
            // It has run for this date.
            (daily(json!("14:19")), daily(json!("13:59")), ""),
            (
                daily(json!(["10:00", "14:22"])),
                daily(json!(["09:00", "13:59"])),
                "2026-03-02#2 13:59",
            ),
            (
                daily(json!(["14:22", "15:00"])),
                daily(json!(["13:00", "13:59"])),
                "2026-03-02 13:00, 2026-03-02#2 13:59",
            ),
            (weekly("monday"), daily(json!("13:59")), "2026-03-02 13:59"),
            // It was not due on this date.
            (weekly("friday"), daily(json!("13:59")), ""),
            (
                hourly("00:30"),
                hourly("00:10"),
                "2026-03-02T14:10:00Z 14:10",
            ),
            (hourly("00:10"), hourly("00:15"), ""),
            // A cron expression names no date.
            (cron("22 14 * * *"), cron("59 13 * * *"), ""),
            (cron("22 14 * * *"), daily(json!("13:59")), ""),
            (daily(json!("14:22")), cron("59 13 * * *"), ""),
        ] {
            let (old, new) = (schedule(&before), schedule(&after));
            let planned = plan_edited(&fixed_placement(&old), &new, until);
            let planned: Vec<String> = planned
                .iter()
                .map(|(instant, key)| format!("{key} {}", instant.format("%H:%M")))
                .collect();
            assert_eq!(planned.join(", "), expected, "{before} {after}");
        }
        let others = Placement {
            feature_type: None,
            defaults: Preference::default(),
            default_zone: Zone::utc(),
            spread_minutes: 1,
        };
        let new = schedule(&daily(json!("13:59")));
        for text in [others.to_text().as_str(), "", "{}"] {
            assert!(plan_edited(text, &new, until).is_empty(), "{text}");
        }
    }
}
