//! How a job places its tenants: the defaults that say when, the default zone, and the spread; of a job with a fixed schedule,
//! the schedule. An edit of the job file changes it for all of them at once, so it is kept beside the job's progress: the
//! scheduler, in this process or the next one, then knows who was still to come.

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use serde_json::{Map, Value, json};

use crate::{
    ids::FeatureType,
    planning::catch_up::{CatchUp, due_after_edit},
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

/// What a job with a fixed schedule has to run in (`from`, `to`] after an edit of the job file, and what falls due now because
/// its new time for the same date, or for the same hour, has passed. `before` is the schedule until then, as its text.
///
/// What was due by `to` in `before` was missed whatever the schedule, so it counts with the rest for `catch_up`. What is still
/// to come in `before` falls due whatever the job makes up for.
///
/// A cron expression names instants, and no dates to which they belong: none of its runs is known to be the same as one that was
/// still to come, so the times of the new schedule count from the edit on.
#[must_use]
pub fn plan_edited(
    before: &str,
    schedule: &Schedule,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, Occurrence)> {
    let old = parse_fixed(before);
    let zero = TimeDelta::zero();
    let moved = |after| match (&old, schedule) {
        (Some(old), Schedule::Slot(new)) => still_to_come((old, zero), (new, zero), after, after),
        _ => None,
    };
    let next_after = |after| schedule.next_after(after);
    due_after_edit(next_after, moved, schedule.period(), catch_up, from, to)
        .into_iter()
        .map(|instant| (instant, schedule.occurrence_key(instant)))
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
    use crate::{planning::catch_up::CatchUpPolicy, time::cron::CronSchedule};

    const POLICIES: [CatchUpPolicy; 3] = [
        CatchUpPolicy::Skip,
        CatchUpPolicy::Latest,
        CatchUpPolicy::All,
    ];

    /// What is planned, as `occurrence time`.
    fn planned(
        (before, after): (&Value, &Value),
        catch_up: CatchUp,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> String {
        let before = fixed_placement(&schedule(before));
        let planned = plan_edited(&before, &schedule(after), catch_up, from, to);
        let planned: Vec<String> = planned
            .iter()
            .map(|(instant, key)| format!("{key} {}", instant.format("%H:%M")))
            .collect();
        planned.join(", ")
    }

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
            for policy in POLICIES {
                let catch_up = CatchUp {
                    policy,
                    window: None,
                };
                let planned = planned((&before, &after), catch_up, until, until);
                assert_eq!(planned, expected, "{before} {after} {policy:?}");
            }
        }
        let others = Placement {
            feature_type: None,
            defaults: Preference::default(),
            default_zone: Zone::utc(),
            spread_minutes: 1,
        };
        let new = schedule(&daily(json!("13:59")));
        for text in [others.to_text().as_str(), "", "{}"] {
            let planned = plan_edited(text, &new, CatchUp::default(), until, until);
            assert!(planned.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_was_missed_whatever_the_schedule_follows_catch_up_after_an_edit() {
        let at = |time: &str| -> DateTime<Utc> { format!("2026-03-{time}:00Z").parse().unwrap() };
        let daily = |times: Value| json!({"frequency": "daily", "preferred_time": times});
        let one = (daily(json!("14:22")), daily(json!("13:59")));
        let two = (
            daily(json!(["14:22", "15:00"])),
            daily(json!(["13:00", "13:59"])),
        );
        // Until when it is planned, and what is with `skip`, `latest` and `all`.
        for ((before, after), to, expected) in [
            // The old time is to come, or was on time.
            (&one, "02T14:21", ["2026-03-02 13:59"; 3]),
            (&one, "02T14:23", ["2026-03-02 13:59"; 3]),
            (
                &one,
                "02T15:00",
                ["", "2026-03-02 13:59", "2026-03-02 13:59"],
            ),
            (
                &one,
                "05T10:00",
                [
                    "",
                    "2026-03-04 13:59",
                    "2026-03-02 13:59, 2026-03-03 13:59, 2026-03-04 13:59",
                ],
            ),
            (
                &one,
                "05T14:10",
                [
                    "2026-03-05 13:59",
                    "2026-03-05 13:59",
                    "2026-03-02 13:59, 2026-03-03 13:59, 2026-03-04 13:59, 2026-03-05 13:59",
                ],
            ),
            (
                &two,
                "02T14:21",
                ["2026-03-02 13:00, 2026-03-02#2 13:59"; 3],
            ),
            // The first was missed, the second is to come.
            (
                &two,
                "02T14:40",
                [
                    "2026-03-02#2 13:59",
                    "2026-03-02#2 13:59",
                    "2026-03-02 13:00, 2026-03-02#2 13:59",
                ],
            ),
        ] {
            for (policy, expected) in POLICIES.into_iter().zip(expected) {
                let catch_up = CatchUp {
                    policy,
                    window: None,
                };
                let planned = planned((before, after), catch_up, at("02T14:20"), at(to));
                assert_eq!(planned, expected, "{before} {after} {to} {policy:?}");
            }
        }
        // A run is as old as the time at which it was missed.
        for (minutes, expected) in [(30, ""), (39, "2026-03-02 13:59")] {
            for policy in [CatchUpPolicy::Latest, CatchUpPolicy::All] {
                let catch_up = CatchUp {
                    policy,
                    window: Some(TimeDelta::minutes(minutes)),
                };
                let edit = (&one.0, &one.1);
                let planned = planned(edit, catch_up, at("02T14:20"), at("02T15:00"));
                assert_eq!(planned, expected, "{minutes} {policy:?}");
            }
        }
    }
}
