//! A preference as a tenant stored it: every field may be missing.

use serde_json::{Map, Value, json};

use super::{
    day::{Day, Frequency, days_json, recurrence},
    overrides::parse_overrides,
    values::{parse_days, parse_frequency, parse_time, parse_zone},
};
use crate::{
    input::{
        errors::FieldErrors,
        fields::{Fields, object_at},
        limits::{MAX_PREFERENCE_BYTES, check_content, check_name, check_size},
        values::boolean,
    },
    time::{slot::TimeOfDay, zone::Zone},
};

/// One tenant's choice for one feature, as it is stored: every field may be missing.
///
/// Unknown fields are kept in [`other`](Self::other).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preference {
    /// On or off.
    pub enabled: Option<bool>,
    pub(super) frequency: Option<Frequency>,
    pub(super) preferred_time: Option<TimeOfDay>,
    pub(super) preferred_day: Option<Vec<Day>>,
    pub(super) timezone: Option<Zone>,
    /// What the tenant wants to be different in the template.
    pub template_overrides: Map<String, Value>,
    /// Fields this version does not know, passed through as they came.
    pub other: Map<String, Value>,
}

impl Preference {
    /// Reads a preference object.
    ///
    /// # Errors
    /// Everything that is wrong with it, with pointers from the object.
    pub fn parse(object: &Map<String, Value>) -> Result<Self, FieldErrors> {
        Self::read(object, "", false)
    }

    /// Reads a preference that stands at `pointer` of a document in which unknown fields are mistakes.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_strictly(value: &Value, pointer: &str) -> Result<Self, FieldErrors> {
        Self::read(object_at(value, pointer)?, pointer, true)
    }

    /// Whether it is on: as it says, or as these defaults say; off without either.
    #[must_use]
    pub fn is_on(&self, defaults: &Self) -> bool {
        self.enabled.or(defaults.enabled).unwrap_or(false)
    }

    /// The fields that say whether and when, as JSON that [`parse`](Self::parse) reads. Those that are missing stay so.
    pub(crate) fn schedule_fields(&self) -> Map<String, Value> {
        let frequency = self.frequency.map(|frequency| json!(frequency.word()));
        [
            ("enabled", self.enabled.map(Value::Bool)),
            ("frequency", frequency),
            (
                "preferred_time",
                self.preferred_time.map(|time| json!(time.to_string())),
            ),
            (
                "preferred_day",
                self.preferred_day.as_deref().map(days_json),
            ),
            (
                "timezone",
                self.timezone.as_ref().map(|zone| json!(zone.name())),
            ),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    /// The preference as JSON that [`parse`](Self::parse) reads. Fields that are missing stay so.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = self.schedule_fields();
        if !self.template_overrides.is_empty() {
            let overrides = Value::Object(self.template_overrides.clone());
            fields.insert("template_overrides".into(), overrides);
        }
        fields.extend(self.other.clone());
        Value::Object(fields)
    }

    fn read(object: &Map<String, Value>, pointer: &str, strict: bool) -> Result<Self, FieldErrors> {
        if let Some(too_large) = check_size(object, pointer, MAX_PREFERENCE_BYTES) {
            return Err(FieldErrors(vec![too_large]));
        }
        let mut fields = Fields::new(object, pointer);
        let enabled = fields.optional("enabled", boolean);
        let frequency = fields.optional("frequency", parse_frequency);
        let preferred_time = fields.optional("preferred_time", parse_time);
        let preferred_day = fields.optional("preferred_day", parse_days);
        let timezone = fields.optional("timezone", parse_zone);
        let template_overrides = fields
            .nested("template_overrides", parse_overrides)
            .unwrap_or_default();
        if let (Some(frequency), Some(days)) = (frequency, &preferred_day)
            && let Err(invalid) = recurrence(frequency, days)
        {
            fields.complain("preferred_day", invalid);
        }
        if strict {
            fields.deny_others();
        }
        let other = fields.others();
        let mut errors = Vec::new();
        for (name, value) in &other {
            let place = fields.pointer_of(name);
            check_name(name, &place, &mut errors);
            check_content(value, &place, &mut errors);
        }
        fields.add(errors);
        fields.finish(|| {
            Some(Self {
                enabled,
                frequency,
                preferred_time,
                preferred_day,
                timezone,
                template_overrides,
                other,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> Result<Preference, FieldErrors> {
        Preference::parse(value.as_object().unwrap())
    }

    #[test]
    fn every_mistake_is_reported_with_field_value_and_remedy() {
        let errors = parse(json!({
            "enabled": "yes", "frequency": "dayly", "preferred_time": "9am", "preferred_day": [],
            "timezone": "Mars/Olympus", "template_overrides": []
        }))
        .unwrap_err();
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "/enabled: \"yes\" has the wrong type; use true or false",
                "/frequency: \"dayly\" is not a frequency; use one of hourly, daily, weekly, biweekly, monthly",
                "/preferred_time: \"9am\" is not a time of day; use HH:MM from 00:00 to 23:59, such as 09:00",
                "/preferred_day: [] is an empty list; use a weekday such as monday, or a list of \
                 weekdays; monthly: use a day from 1 to 31, last, or a list of days",
                "/timezone: \"Mars/Olympus\" is not a time zone; use an IANA name such as Europe/Berlin, America/New_York or UTC",
                "/template_overrides: [] has the wrong type; use an object, { … }",
            ]
        );
        assert!(parse(json!({"frequency": "weekly", "preferred_day": 15})).is_err());
        assert!(parse(json!({"frequency": "monthly", "preferred_day": 32})).is_err());
    }

    #[test]
    fn a_preference_is_bounded_whatever_its_fields_are_called() {
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(parse(json!({"x": deep(16)})).is_ok());
        let refused = |value: Value| parse(value).unwrap_err().to_string();
        assert!(refused(json!({"x": deep(17)})).contains("/x/0/0/0"));
        assert!(refused(json!({"a/b": deep(124)})).starts_with("/a~1b/0"));
        assert!(refused(json!({"x": 1e300})).contains("/x: 1e+300 loses digits"));
        assert!(refused(json!({"x\0": 1})).contains("U+0000"));
        assert!(refused(json!({"x": {"y": "\0"}})).contains("/x/y"));
        assert!(
            refused(json!({"x": "y".repeat(MAX_PREFERENCE_BYTES)}))
                .contains("keep it within 32768 bytes")
        );
        let many: Map<String, Value> = (0..900).map(|n| (format!("x{n}"), json!(1e300))).collect();
        let errors = parse(Value::Object(many)).unwrap_err();
        assert_eq!(errors.0.len(), 900);
        assert!(errors.to_string().ends_with("| and 800 more"));
    }
}
