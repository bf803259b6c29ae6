//! A preference as a tenant stored it: every field may be missing.

use std::num::NonZeroU16;

use chrono::NaiveDate;
use serde_json::{Map, Value, json};

use super::{
    day::{Day, Frequency, check_days, days_json, one_or_many},
    overrides::parse_overrides,
    values::{parse_date, parse_days, parse_frequency, parse_pause_end, parse_times, parse_zone},
};
use crate::{
    input::{
        errors::{FieldErrorKind, FieldErrors, Invalid},
        fields::{Fields, object_at},
        limits::{MAX_PREFERENCE_BYTES, check_content, check_name, check_size},
        values::{boolean, whole_number},
    },
    time::{bounds::PauseEnd, times::Times, zone::Zone},
};

/// One tenant's choice for one feature, as it is stored: every field may be missing.
///
/// Unknown fields are kept in [`other`](Self::other).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preference {
    /// On or off.
    pub enabled: Option<bool>,
    pub(super) frequency: Option<Frequency>,
    pub(super) preferred_time: Option<Times>,
    pub(super) preferred_day: Option<Vec<Day>>,
    pub(super) interval: Option<NonZeroU16>,
    pub(super) date: Option<NaiveDate>,
    pub(super) start_date: Option<NaiveDate>,
    pub(super) end_date: Option<NaiveDate>,
    pub(super) paused_until: Option<PauseEnd>,
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
        let date = |date: Option<NaiveDate>| date.map(|date| json!(date));
        [
            ("enabled", self.enabled.map(Value::Bool)),
            ("frequency", frequency),
            (
                "preferred_time",
                self.preferred_time.as_ref().map(times_json),
            ),
            (
                "preferred_day",
                self.preferred_day.as_deref().map(days_json),
            ),
            ("interval", self.interval.map(|interval| json!(interval))),
            ("date", date(self.date)),
            ("start_date", date(self.start_date)),
            ("end_date", date(self.end_date)),
            (
                "paused_until",
                self.paused_until.map(|end| json!(end.to_string())),
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
        let preferred_time = fields.optional("preferred_time", parse_times);
        let preferred_day = fields.optional("preferred_day", parse_days);
        let interval = fields.optional("interval", parse_interval);
        let date = fields.optional("date", parse_date);
        let start_date = fields.optional("start_date", parse_date);
        let end_date = fields.optional("end_date", parse_date);
        let paused_until = fields.optional("paused_until", parse_pause_end);
        let timezone = fields.optional("timezone", parse_zone);
        let template_overrides = fields
            .nested("template_overrides", parse_overrides)
            .unwrap_or_default();
        if let (Some(frequency), Some(days)) = (frequency, &preferred_day)
            && let Err(invalid) = check_days(frequency, days)
        {
            fields.complain("preferred_day", invalid);
        }
        if let (Some(frequency), Some(interval)) = (frequency, interval)
            && let Err(invalid) = check_interval(frequency, interval)
        {
            fields.complain("interval", invalid);
        }
        if let Err(invalid) = check_end(start_date, end_date) {
            fields.complain("end_date", invalid);
        }
        if let (Some(frequency), Some(times)) = (frequency, &preferred_time)
            && let Err(invalid) = check_times(frequency, times)
        {
            fields.complain("preferred_time", invalid);
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
                interval,
                date,
                start_date,
                end_date,
                paused_until,
                timezone,
                template_overrides,
                other,
            })
        })
    }
}

/// Times in the form tenants store them.
pub(super) fn times_json(times: &Times) -> Value {
    one_or_many(times.iter().map(|time| json!(time.to_string())))
}

/// The longest interval: a thousand days, weeks or months.
const MAX_INTERVAL: u16 = 1_000;

fn parse_interval(value: &Value) -> Result<NonZeroU16, Invalid> {
    let interval = whole_number(value, 1..=MAX_INTERVAL.into())?;
    Ok(NonZeroU16::new(interval as u16).unwrap_or(NonZeroU16::MIN))
}

/// Whether an interval fits a frequency.
///
/// # Errors
/// It counts neither days nor weeks nor months.
pub(super) fn check_interval(frequency: Frequency, interval: NonZeroU16) -> Result<(), Invalid> {
    let remedy = match frequency {
        Frequency::Daily | Frequency::Weekly | Frequency::Monthly => return Ok(()),
        _ if interval == NonZeroU16::MIN => return Ok(()),
        Frequency::Biweekly => "use weekly with an interval, or leave it out",
        Frequency::Hourly | Frequency::Once => {
            "leave it out, or use daily, weekly or monthly with it"
        }
    };
    let wrong = Invalid::new("does not fit the frequency", remedy);
    Err(wrong.of_kind(FieldErrorKind::IntervalDoesNotFit))
}

/// Whether times fit a frequency.
///
/// # Errors
/// It is hourly, and there are several.
pub(super) fn check_times(frequency: Frequency, times: &Times) -> Result<(), Invalid> {
    if frequency != Frequency::Hourly || times.only().is_some() {
        return Ok(());
    }
    let remedy = "hourly uses the minute of one time, such as 00:15";
    Err(Invalid::new("names several times", remedy).of_kind(FieldErrorKind::SeveralTimes))
}

/// Whether there are dates from a start to an end.
///
/// # Errors
/// The end is before the start.
pub(super) fn check_end(start: Option<NaiveDate>, end: Option<NaiveDate>) -> Result<(), Invalid> {
    match start.zip(end) {
        Some((start, end)) if end < start => Err(Invalid::new(
            format!("is before start_date, {start}"),
            "use the same date or a later one",
        )
        .of_kind(FieldErrorKind::BeforeStart(start))),
        _ => Ok(()),
    }
}

/// Whether a single date is one of those from a start to an end.
///
/// # Errors
/// It is before the start or after the end.
pub(super) fn check_date(
    date: NaiveDate,
    start: Option<NaiveDate>,
    end: Option<NaiveDate>,
) -> Result<(), Invalid> {
    let kind = match (start, end) {
        (Some(start), _) if date < start => FieldErrorKind::BeforeStart(start),
        (_, Some(end)) if date > end => FieldErrorKind::AfterEnd(end),
        _ => return Ok(()),
    };
    let remedy = "use a date from start_date to end_date, or leave them out";
    Err(Invalid::new("is outside of start_date and end_date", remedy).of_kind(kind))
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
                "/frequency: \"dayly\" is not a frequency; use one of hourly, daily, weekly, biweekly, monthly, once",
                "/preferred_time: \"9am\" is not a time of day; use HH:MM from 00:00 to 23:59, such as 09:00",
                "/preferred_day: [] is an empty list; use a weekday such as monday, or a list of \
                 weekdays; monthly: use a day from 1 to 31, last, a counted weekday such as second tuesday or last weekday, \
                 or a list of days",
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
