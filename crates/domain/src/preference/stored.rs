//! A preference as a tenant stored it (fields may be missing), and merged with a job's defaults (none are).

use std::sync::Arc;

use chrono::Weekday;
use serde_json::{Map, Value, json};

use super::values::{FREQUENCIES, parse_days, parse_frequency, parse_time, parse_zone};
use crate::{
    input::{
        fields::{FieldErrors, Fields, Invalid, boolean, object_at},
        limits::{MAX_PREFERENCE_BYTES, check_content, check_name, check_size},
    },
    preference::overrides::{merge_objects, parse_overrides},
    time::{
        recurrence::{MonthDays, Recurrence, Weekdays},
        slot::{Slot, TimeOfDay},
        zone::Zone,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frequency {
    Hourly,
    Daily,
    Weekly,
    Biweekly,
    Monthly,
}

/// One entry of `preferred_day`. Whether it fits is known only together with the frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Day {
    OfWeek(Weekday),
    OfMonth(u8),
}

/// One tenant's choice for one feature, as it is stored: every field may be missing.
///
/// Unknown fields are kept in [`other`](Self::other).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preference {
    /// On or off.
    pub enabled: Option<bool>,
    frequency: Option<Frequency>,
    preferred_time: Option<TimeOfDay>,
    preferred_day: Option<Vec<Day>>,
    timezone: Option<Zone>,
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
    pub(crate) fn parse_strictly(value: &Value, pointer: &str) -> Result<Self, FieldErrors> {
        Self::read(object_at(value, pointer)?, pointer, true)
    }

    /// The fields that say whether and when, as JSON that [`parse`](Self::parse) reads. Those that are missing stay so.
    pub(crate) fn schedule_fields(&self) -> Map<String, Value> {
        let frequency = self.frequency.map(|frequency| {
            let recurrence = built_in_day(frequency);
            json!(recurrence.frequency())
        });
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

    fn when(&self) -> When {
        let days = |frequency| match &self.preferred_day {
            Some(days) => recurrence(frequency, days).ok(),
            None => Some(built_in_day(frequency)),
        };
        // Without a frequency, the days may be of a week or of a month.
        let recurrences = match self.frequency {
            Some(frequency) => [days(frequency), None],
            None => [Frequency::Weekly, Frequency::Monthly].map(days),
        };
        let time = self.preferred_time.unwrap_or_default();
        let time = match self.frequency {
            Some(Frequency::Hourly) => time.in_first_hour(),
            _ => time,
        };
        When {
            enabled: self.enabled.unwrap_or(false),
            frequency: self.frequency,
            recurrences,
            time,
            zone: self.timezone.clone().unwrap_or_else(Zone::utc),
        }
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

/// Whether two stored preferences say the same about *when*: `enabled`, frequency, time, day and zone, by their meaning.
///
/// What is missing is what is built in: off, 09:00, monday or 1, UTC. A job's defaults may say otherwise; that errs on the
/// side on which no run is lost. A preference that is not valid is compared as it is written.
#[must_use]
pub fn same_schedule(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    match (Preference::parse(one), Preference::parse(other)) {
        (Ok(one), Ok(other)) => one.when() == other.when(),
        _ => WHEN.iter().all(|name| one.get(*name) == other.get(*name)),
    }
}

/// What a stored preference says about *when*, as a text that is equal for two that [say the same](same_schedule).
#[must_use]
pub fn schedule_text(preference: &Map<String, Value>) -> String {
    match Preference::parse(preference) {
        Ok(preference) => format!("{:?}", preference.when()),
        Err(_) => format!("{:?}", WHEN.map(|name| preference.get(name))),
    }
}

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

/// A preference with nothing missing: the tenant's choice over the job's defaults over the built-in ones.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedPreference {
    /// On or off.
    pub enabled: bool,
    /// When it falls due.
    pub slot: Slot,
    /// The tenant's overrides merged over the job's.
    pub template_overrides: Arc<Map<String, Value>>,
    /// Fields this version does not know, passed through as they came.
    pub other: Arc<Map<String, Value>>,
}

/// Where a value of a preference in effect came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The tenant chose it.
    Tenant,
    /// The job's defaults.
    JobDefault,
    /// Nobody chose: built in, or the agent's time zone.
    BuiltIn,
}

impl MergedPreference {
    /// Merges `stored` over `defaults`, over time 09:00, day monday or 1, and `default_zone`.
    ///
    /// A default day that does not fit the frequency (`monday` for a tenant who chose monthly) gives way to
    /// the built-in one. Without `enabled` in either, it is off.
    ///
    /// # Errors
    /// When no frequency is known, or the tenant's own day does not fit it.
    pub fn merge(
        stored: &Preference,
        defaults: &Preference,
        default_zone: &Zone,
    ) -> Result<Self, FieldErrors> {
        let frequency = stored.frequency.or(defaults.frequency).ok_or_else(|| {
            FieldErrors(vec![
                Invalid::new("is missing", FREQUENCIES).at("/frequency", None),
            ])
        })?;
        let recurrence = match &stored.preferred_day {
            Some(days) => recurrence(frequency, days).map_err(|invalid| {
                FieldErrors(vec![invalid.at("/preferred_day", Some(&days_json(days)))])
            })?,
            None => defaults
                .preferred_day
                .as_ref()
                .and_then(|days| recurrence(frequency, days).ok())
                .unwrap_or_else(|| built_in_day(frequency)),
        };
        let zone = stored
            .timezone
            .as_ref()
            .or(defaults.timezone.as_ref())
            .unwrap_or(default_zone);
        let time = stored
            .preferred_time
            .or(defaults.preferred_time)
            .unwrap_or_default();
        let slot = Slot {
            recurrence,
            // Two who want the same minute of every hour fall due together, whatever hour they wrote.
            time: match recurrence {
                Recurrence::Hourly => time.in_first_hour(),
                _ => time,
            },
            zone: zone.clone(),
        };
        Ok(Self {
            enabled: stored.enabled.or(defaults.enabled).unwrap_or(false),
            ..Self::with_slot(stored, defaults, slot)
        })
    }

    /// The fields of a preference in effect, as JSON, and where each value came from.
    #[must_use]
    pub fn with_origins(
        &self,
        stored: &Preference,
        defaults: &Preference,
    ) -> Vec<(&'static str, Value, Origin)> {
        let frequency = stored.frequency.or(defaults.frequency);
        let day_of_defaults = frequency
            .zip(defaults.preferred_day.as_ref())
            .is_some_and(|(frequency, days)| recurrence(frequency, days).is_ok());
        let origin = |stored: bool, defaults: bool| match (stored, defaults) {
            (true, _) => Origin::Tenant,
            (false, true) => Origin::JobDefault,
            (false, false) => Origin::BuiltIn,
        };
        let json = self.to_json();
        let field = |name: &'static str, stored: bool, defaults: bool| {
            (name, json[name].clone(), origin(stored, defaults))
        };
        let mut fields = vec![
            field(
                "enabled",
                stored.enabled.is_some(),
                defaults.enabled.is_some(),
            ),
            field(
                "frequency",
                stored.frequency.is_some(),
                defaults.frequency.is_some(),
            ),
        ];
        if !json["preferred_day"].is_null() {
            let stored = stored.preferred_day.is_some();
            fields.push(field("preferred_day", stored, day_of_defaults));
        }
        fields.extend([
            field(
                "preferred_time",
                stored.preferred_time.is_some(),
                defaults.preferred_time.is_some(),
            ),
            field(
                "timezone",
                stored.timezone.is_some(),
                defaults.timezone.is_some(),
            ),
        ]);
        fields
    }

    /// What `stored` wants to be different, merged over `defaults`, for a tenant who is known to be due in `slot`.
    pub(crate) fn with_slot(stored: &Preference, defaults: &Preference, slot: Slot) -> Self {
        let overrides = merge_objects(&defaults.template_overrides, &stored.template_overrides);
        Self {
            enabled: true,
            slot,
            template_overrides: Arc::new(overrides),
            other: Arc::new(merge_objects(&defaults.other, &stored.other)),
        }
    }

    /// What a tenant gets who has stored nothing and for whom the job is run by hand.
    ///
    /// # Errors
    /// When the defaults cannot be used by themselves.
    pub fn of_defaults(defaults: &Preference, default_zone: &Zone) -> Result<Self, FieldErrors> {
        let stored = Preference {
            enabled: defaults.enabled.or(Some(true)),
            // A run by hand has no schedule to be without.
            frequency: defaults.frequency.or(Some(Frequency::Daily)),
            ..Preference::default()
        };
        Self::merge(&stored, defaults, default_zone)
    }

    /// The preference as JSON, in the form tenants store it, with every field present.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = (*self.other).clone();
        let preferred_day = match self.slot.recurrence {
            Recurrence::Hourly | Recurrence::Daily => Value::Null,
            Recurrence::Weekly(days) | Recurrence::Biweekly(days) => {
                one_or_many(days.iter().map(|day| json!(Weekdays::name(day))))
            }
            Recurrence::Monthly(days) => one_or_many(days.iter().map(month_day_json)),
        };
        object.insert("enabled".into(), json!(self.enabled));
        object.insert("frequency".into(), json!(self.slot.recurrence.frequency()));
        object.insert("preferred_time".into(), json!(self.slot.time.to_string()));
        object.insert("preferred_day".into(), preferred_day);
        object.insert("timezone".into(), json!(self.slot.zone.name()));
        object.insert(
            "template_overrides".into(),
            Value::Object((*self.template_overrides).clone()),
        );
        Value::Object(object)
    }
}

fn one_or_many(mut values: impl Iterator<Item = Value>) -> Value {
    let first = values.next().unwrap_or(Value::Null);
    let rest: Vec<Value> = values.collect();
    if rest.is_empty() {
        first
    } else {
        std::iter::once(first).chain(rest).collect()
    }
}

fn month_day_json(day: u8) -> Value {
    if day == MonthDays::LAST {
        json!("last")
    } else {
        json!(day)
    }
}

fn days_json(days: &[Day]) -> Value {
    one_or_many(days.iter().map(|day| match day {
        Day::OfWeek(day) => json!(Weekdays::name(*day)),
        Day::OfMonth(day) => month_day_json(*day),
    }))
}

pub(super) const WEEKDAYS: &str = "use a weekday as monday, or a list of them";
pub(super) const MONTH_DAYS: &str = "use a day from 1 to 31, last, or a list of them";

fn recurrence(frequency: Frequency, days: &[Day]) -> Result<Recurrence, Invalid> {
    let weekdays = || -> Result<Weekdays, Invalid> {
        let of_week = |day: &Day| match day {
            Day::OfWeek(day) => Ok(*day),
            Day::OfMonth(_) => Err(Invalid::new("does not fit the frequency", WEEKDAYS)),
        };
        days.iter().map(of_week).collect()
    };
    Ok(match frequency {
        Frequency::Hourly => Recurrence::Hourly,
        Frequency::Daily => Recurrence::Daily,
        Frequency::Weekly => Recurrence::Weekly(weekdays()?),
        Frequency::Biweekly => Recurrence::Biweekly(weekdays()?),
        Frequency::Monthly => {
            let of_month = |day: &Day| match day {
                Day::OfMonth(day) => Ok(*day),
                Day::OfWeek(_) => Err(Invalid::new("does not fit the frequency", MONTH_DAYS)),
            };
            Recurrence::Monthly(days.iter().map(of_month).collect::<Result<_, _>>()?)
        }
    })
}

fn built_in_day(frequency: Frequency) -> Recurrence {
    let monday = || [Weekday::Mon].into_iter().collect();
    match frequency {
        Frequency::Hourly => Recurrence::Hourly,
        Frequency::Daily => Recurrence::Daily,
        Frequency::Weekly => Recurrence::Weekly(monday()),
        Frequency::Biweekly => Recurrence::Biweekly(monday()),
        Frequency::Monthly => Recurrence::Monthly(MonthDays::of([1])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> Result<Preference, FieldErrors> {
        Preference::parse(value.as_object().unwrap())
    }

    fn merged(stored: Value, defaults: Value) -> Result<MergedPreference, FieldErrors> {
        MergedPreference::merge(
            &parse(stored).unwrap(),
            &parse(defaults).unwrap(),
            &Zone::utc(),
        )
    }

    fn slot(stored: Value, defaults: Value) -> String {
        merged(stored, defaults).unwrap().slot.to_string()
    }

    #[test]
    fn missing_fields_come_from_the_job_and_then_from_the_documented_defaults() {
        let job =
            json!({"frequency": "weekly", "preferred_day": "Monday", "preferred_time": "10:00"});
        assert_eq!(slot(json!({}), job.clone()), "weekly monday 10:00 UTC");
        assert_eq!(
            slot(json!({"frequency": "daily"}), json!({})),
            "daily 09:00 UTC"
        );
        assert_eq!(
            slot(json!({"frequency": "weekly"}), json!({})),
            "weekly monday 09:00 UTC"
        );
        assert_eq!(
            slot(json!({"frequency": "monthly"}), json!({})),
            "monthly 1 09:00 UTC"
        );
        assert_eq!(
            slot(json!({"timezone": "asia/tokyo"}), job.clone()),
            "weekly monday 10:00 Asia/Tokyo"
        );
        // The job's monday does not fit a tenant who chose monthly.
        assert_eq!(
            slot(json!({"frequency": "monthly"}), job),
            "monthly 1 10:00 UTC"
        );
    }

    #[test]
    fn days_are_read_in_every_documented_form() {
        let days = |frequency: &str, day: Value| {
            slot(
                json!({"frequency": frequency, "preferred_day": day}),
                json!({}),
            )
        };
        assert_eq!(
            days("weekly", json!(["FRIDAY", "monday"])),
            "weekly monday,friday 09:00 UTC"
        );
        assert_eq!(days("monthly", json!("15")), "monthly 15 09:00 UTC");
        assert_eq!(
            days("monthly", json!([31, "1", "last"])),
            "monthly 1,31,last 09:00 UTC"
        );
        assert_eq!(days("daily", json!("monday")), "daily 09:00 UTC");
        assert_eq!(
            slot(
                json!({"frequency": "hourly", "preferred_time": "00:15"}),
                json!({})
            ),
            "hourly :15 UTC"
        );
        let hourly = |time: &str| {
            let stored = json!({"frequency": "hourly", "preferred_time": time});
            merged(stored, json!({})).unwrap().slot
        };
        assert_eq!(hourly("03:15"), hourly("22:15"));
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
                "/preferred_day: [] is an empty list; use a weekday as monday, or a list of them; monthly: use a day from 1 to 31, last, or a list of them",
                "/timezone: \"Mars/Olympus\" is not a time zone; use an IANA name such as Europe/Berlin, America/New_York or UTC",
                "/template_overrides: [] has the wrong type; use an object, { … }",
            ]
        );
        assert!(parse(json!({"frequency": "weekly", "preferred_day": 15})).is_err());
        assert!(parse(json!({"frequency": "monthly", "preferred_day": 32})).is_err());
        assert!(merged(json!({"preferred_day": 3}), json!({"frequency": "weekly"})).is_err());
        assert!(
            merged(json!({}), json!({}))
                .unwrap_err()
                .to_string()
                .contains("/frequency: is missing")
        );
    }

    #[test]
    fn a_time_a_day_or_a_word_with_one_meaning_is_taken_however_it_is_written() {
        for (field, values, meaning) in [
            (
                "preferred_time",
                vec![
                    json!("09:00"),
                    json!("9:00"),
                    json!("09:00:00"),
                    json!("9:00:00"),
                    json!(" 09:00\n"),
                ],
                "weekly monday 09:00 UTC",
            ),
            (
                "preferred_day",
                vec![
                    json!("mon"),
                    json!("Mon"),
                    json!("MONDAY"),
                    json!(" monday "),
                    json!(["mon", "Monday"]),
                ],
                "weekly monday 09:00 UTC",
            ),
            (
                "frequency",
                vec![json!("Weekly"), json!("WEEKLY"), json!(" weekly")],
                "weekly monday 09:00 UTC",
            ),
            (
                "timezone",
                vec![json!(" utc "), json!("UTC")],
                "weekly monday 09:00 UTC",
            ),
        ] {
            for value in values {
                let mut stored = json!({"frequency": "weekly"});
                stored[field] = value.clone();
                assert_eq!(slot(stored, json!({})), meaning, "{field} {value}");
            }
        }
        for day in [
            json!(3),
            json!(3.0),
            json!("3"),
            json!(" 3 "),
            json!("03"),
            json!([3, 3.0]),
        ] {
            let stored = json!({"frequency": "monthly", "preferred_day": day});
            assert_eq!(slot(stored, json!({})), "monthly 3 09:00 UTC", "{day}");
        }
    }

    #[test]
    fn what_has_no_meaning_or_several_stays_refused() {
        let blanks = " ".repeat(30_000) + "09:00";
        for (field, value) in [
            ("preferred_time", json!("0900")),
            ("preferred_time", json!("9")),
            ("preferred_time", json!("9:0")),
            ("preferred_time", json!("009:00")),
            ("preferred_time", json!("+9:00")),
            ("preferred_time", json!("09:00:30")),
            ("preferred_time", json!("09:00:00:00")),
            ("preferred_time", json!("09:00:")),
            ("preferred_time", json!("9:00 pm")),
            ("preferred_time", json!("24:00")),
            ("preferred_time", json!("09:60")),
            ("preferred_time", json!("٠٩:٠٠")),
            ("preferred_time", json!("")),
            ("preferred_time", json!(blanks)),
            ("preferred_time", json!(9)),
            ("preferred_day", json!("mo")),
            ("preferred_day", json!("tues")),
            ("preferred_day", json!("m")),
            ("preferred_day", json!("")),
            ("preferred_day", json!(3.5)),
            ("preferred_day", json!(0)),
            ("preferred_day", json!(-1)),
            ("preferred_day", json!(259)),
            ("preferred_day", json!(1e300)),
            ("preferred_day", json!("3.0")),
            ("preferred_day", json!("32")),
            ("preferred_day", json!([["mon"]])),
            ("frequency", json!("day")),
            ("frequency", json!("")),
            ("timezone", json!("")),
            ("timezone", json!("Berlin")),
        ] {
            let mut stored = json!({});
            stored[field] = value.clone();
            let errors = parse(stored).unwrap_err().0;
            assert_eq!(errors.len(), 1, "{field} {value}");
            assert!(errors[0].remedy.starts_with("use "), "{}", errors[0]);
        }
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

    #[test]
    fn off_unless_somebody_says_on_and_the_tenant_has_the_last_word() {
        let enabled = |stored: Value, defaults: Value| merged(stored, defaults).unwrap().enabled;
        assert!(!enabled(json!({"frequency": "daily"}), json!({})));
        assert!(enabled(
            json!({"frequency": "daily"}),
            json!({"enabled": true})
        ));
        assert!(!enabled(
            json!({"frequency": "daily", "enabled": false}),
            json!({"enabled": true})
        ));
    }

    #[test]
    fn unknown_fields_pass_through_and_json_reads_back_as_the_same_preference() {
        let merged = merged(
            json!({"enabled": true, "frequency": "monthly", "preferred_day": [3, "last"], "channel": "reels",
                   "template_overrides": {"tone": {"mood": "dry"}}}),
            json!({"template_overrides": {"tone": {"mood": "warm", "emoji": 1}, "length": "short"}}),
        )
        .unwrap();
        let json = merged.to_json();
        assert_eq!(json["channel"], "reels");
        assert_eq!(
            json["template_overrides"],
            json!({"tone": {"mood": "dry", "emoji": 1}, "length": "short"})
        );
        let again = parse(json).unwrap();
        assert_eq!(
            MergedPreference::merge(&again, &Preference::default(), &Zone::utc()).unwrap(),
            merged
        );
    }

    #[test]
    fn every_value_tells_where_it_came_from() {
        let parse = |value: Value| Preference::parse(value.as_object().unwrap()).unwrap();
        let stored = parse(json!({"enabled": true, "frequency": "weekly"}));
        let defaults = parse(json!({"preferred_day": "friday", "preferred_time": "10:00"}));
        let merged = MergedPreference::merge(&stored, &defaults, &Zone::utc()).unwrap();
        let fields = merged.with_origins(&stored, &defaults);
        let told: Vec<_> = fields
            .iter()
            .map(|(name, value, origin)| format!("{name} {value} {origin:?}"))
            .collect();
        assert_eq!(
            told,
            [
                "enabled true Tenant",
                "frequency \"weekly\" Tenant",
                "preferred_day \"friday\" JobDefault",
                "preferred_time \"10:00\" JobDefault",
                "timezone \"UTC\" BuiltIn",
            ]
        );
        // A day that does not fit gives way, and is not said to be in effect.
        let monthly = parse(json!({"frequency": "monthly"}));
        let merged = MergedPreference::merge(&monthly, &defaults, &Zone::utc()).unwrap();
        let day = &merged.with_origins(&monthly, &defaults)[2];
        assert_eq!(day, &("preferred_day", json!(1), Origin::BuiltIn));
    }
}
