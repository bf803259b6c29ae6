//! What a stored preference says about *when*, by its meaning: a change of anything else moves no run.

use serde_json::{Map, Value};

use super::{
    day::{Frequency, built_in_day, recurrence},
    stored::Preference,
};
use crate::time::{recurrence::Recurrence, slot::TimeOfDay, zone::Zone};

/// The fields of a preference that say whether and when.
const WHEN: [&str; 5] = [
    "enabled",
    "frequency",
    "preferred_day",
    "preferred_time",
    "timezone",
];

/// Whether a field of a preference belongs to its schedule.
#[must_use]
pub fn says_when(field: &str) -> bool {
    WHEN.contains(&field)
}

/// Whether two stored preferences say the same about *when*: `enabled`, frequency, time, day and zone, by their meaning.
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
    time: TimeOfDay,
    zone: Zone,
}

impl When {
    fn of(preference: &Preference) -> Self {
        let days = |frequency| match &preference.preferred_day {
            Some(days) => recurrence(frequency, days).ok(),
            None => Some(built_in_day(frequency)),
        };
        // Without a frequency, the days may be of a week or of a month.
        let recurrences = match preference.frequency {
            Some(frequency) => [days(frequency), None],
            None => [Frequency::Weekly, Frequency::Monthly].map(days),
        };
        let time = preference.preferred_time.unwrap_or_default();
        let time = match preference.frequency {
            Some(Frequency::Hourly) => time.in_first_hour(),
            _ => time,
        };
        Self {
            enabled: preference.enabled.unwrap_or(false),
            frequency: preference.frequency,
            recurrences,
            time,
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
