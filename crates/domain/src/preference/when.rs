//! What a stored preference says about *when*, by its meaning: a change of anything else moves no run.

use std::num::NonZeroU16;

use serde_json::{Map, Value};

use super::{
    day::{Day, Frequency, check_days, recurrence},
    stored::Preference,
};
use crate::time::{bounds::Bounds, recurrence::Recurrence, times::Times, zone::Zone};

/// The fields of a preference that say whether and when.
const WHEN: [&str; 10] = [
    "enabled",
    "frequency",
    "preferred_day",
    "preferred_time",
    "timezone",
    "interval",
    "date",
    "start_date",
    "end_date",
    "paused_until",
];

/// Whether a field of a preference belongs to its schedule.
#[must_use]
pub fn says_when(field: &str) -> bool {
    WHEN.contains(&field)
}

/// Whether two stored preferences say the same about *when*: `enabled`, frequency, times, days, bounds and zone, by their
/// meaning.
///
/// What is missing is what is built in: off, 09:00, monday or 1, UTC. A job's defaults may say otherwise; that errs on the
/// side on which no run is lost. A preference that is not valid is compared as it is written.
#[must_use]
pub fn same_schedule(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    match (Preference::parse(one), Preference::parse(other)) {
        (Ok(one), Ok(other)) => When::of(&one) == When::of(&other),
        _ => WHEN.iter().all(|name| one.get(*name) == other.get(*name)),
    }
}

/// What a stored preference says about *when*, as a text that is equal for two that [say the same](same_schedule).
#[must_use]
pub fn schedule_text(preference: &Map<String, Value>) -> String {
    match Preference::parse(preference) {
        Ok(preference) => format!("{:?}", When::of(&preference)),
        Err(_) => format!("{:?}", WHEN.map(|name| preference.get(name))),
    }
}

/// What a preference says about *when*, in one form for each meaning.
#[derive(Debug, PartialEq)]
struct When {
    enabled: bool,
    frequency: Option<Frequency>,
    recurrences: [Option<Recurrence>; 2],
    times: Times,
    bounds: Bounds,
    zone: Zone,
}

impl When {
    fn of(preference: &Preference) -> Self {
        let days = |frequency| {
            let days: Option<&[Day]> = preference.preferred_day.as_deref();
            if days.is_some_and(|days| check_days(frequency, days).is_err()) {
                return None;
            }
            recurrence(frequency, days, preference.date)
        };
        // Without a frequency, the days may be of a week or of a month.
        let recurrences = match preference.frequency {
            Some(frequency) => [days(frequency), None],
            None => [Frequency::Weekly, Frequency::Monthly].map(days),
        };
        let times = preference.preferred_time.clone().unwrap_or_default();
        let times = match preference.frequency {
            Some(Frequency::Hourly) => times.first().in_first_hour().into(),
            _ => times,
        };
        let bounds = Bounds {
            interval: preference.interval.unwrap_or(NonZeroU16::MIN),
            start: preference.start_date,
            end: preference.end_date,
            paused_until: preference.paused_until,
        };
        Self {
            enabled: preference.enabled.unwrap_or(false),
            frequency: preference.frequency,
            recurrences,
            times,
            bounds,
            zone: preference.timezone.clone().unwrap_or_else(Zone::utc),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schedules_are_compared_by_what_they_mean() {
        let same = |one: &Value, other: &Value| {
            same_schedule(one.as_object().unwrap(), other.as_object().unwrap())
        };
        let daily = json!({"enabled": true, "frequency": "daily", "timezone": "Europe/Berlin"});
        let with = |base: &Value, field: &str, value: Value| {
            let mut changed = base.clone();
            changed[field] = value;
            changed
        };
        for (field, value) in [
            ("template_overrides", json!({"tone": "dry"})),
            ("channel", json!("reels")),
            ("preferred_time", json!("9:00")),
            ("preferred_time", Value::Null),
            ("preferred_day", json!("friday")),
            ("frequency", json!("Daily")),
            ("timezone", json!("europe/berlin")),
        ] {
            assert!(
                same(&daily, &with(&daily, field, value.clone())),
                "{field} {value}"
            );
        }
        for (field, value) in [
            ("enabled", json!(false)),
            ("enabled", Value::Null),
            ("frequency", json!("weekly")),
            ("frequency", Value::Null),
            ("preferred_time", json!("09:01")),
            ("timezone", json!("UTC")),
            ("timezone", Value::Null),
        ] {
            assert!(
                !same(&daily, &with(&daily, field, value.clone())),
                "{field} {value}"
            );
        }
        let monthly = json!({"frequency": "monthly", "preferred_day": ["3", 31]});
        assert!(same(
            &monthly,
            &json!({"frequency": "monthly", "preferred_day": [31, 3, 3.0]})
        ));
        assert!(!same(
            &monthly,
            &json!({"frequency": "monthly", "preferred_day": [3]})
        ));
        assert!(same(
            &json!({"frequency": "weekly"}),
            &json!({"frequency": "weekly", "preferred_day": "Mon"})
        ));
        assert!(same(
            &json!({"frequency": "monthly"}),
            &json!({"frequency": "monthly", "preferred_day": "1"})
        ));
        assert!(same(
            &json!({}),
            &json!({"enabled": false, "timezone": "UTC"})
        ));
        for (field, value, same_value) in [
            (
                "preferred_time",
                json!(["18:00", "9:00"]),
                json!(["09:00", "18:00", "18:00"]),
            ),
            ("start_date", json!("2026-12-01"), json!(" 2026-12-01 ")),
            ("end_date", json!("2026-12-01"), json!("2026-12-01 ")),
            (
                "paused_until",
                json!("2026-12-01T00:00:00Z"),
                json!("2026-12-01T01:00:00+01:00"),
            ),
            ("interval", json!(2), json!(2)),
        ] {
            let changed = with(&daily, field, value);
            assert!(!same(&daily, &changed), "{field}");
            assert!(same(&changed, &with(&daily, field, same_value)), "{field}");
        }
        assert!(same(&daily, &with(&daily, "interval", json!(1))));
        let hourly = |time: &str| json!({"frequency": "hourly", "preferred_time": time});
        assert!(same(&hourly("03:15"), &hourly("22:15")));
        assert!(!same(&hourly("03:15"), &hourly("03:16")));
        // What cannot be read is compared as it is written.
        let broken = json!({"frequency": "dayly", "preferred_time": "9:00"});
        assert!(same(&broken, &with(&broken, "channel", json!(1))));
        assert!(!same(
            &broken,
            &with(&broken, "preferred_time", json!("09:00"))
        ));
    }
}
