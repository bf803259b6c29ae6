//! A preference as a tenant stored it (fields may be missing), and merged with a job's defaults (none are).

use std::sync::Arc;

use chrono::Weekday;
use serde_json::{Map, Value, json};

use crate::{
    overrides::{merge_objects, parse_overrides},
    recurrence::{MonthDays, Recurrence, Weekdays},
    slot::{Slot, TimeOfDay},
    validation::{FieldErrors, Fields, Invalid, boolean, text},
    zone::Zone,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Hourly,
    Daily,
    Weekly,
    Biweekly,
    Monthly,
}

/// One entry of `preferred_day`. Whether it fits is known only together with the frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
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
        Self::read(Fields::new(object, ""), false)
    }

    /// Reads a preference that stands at `pointer` of a document in which unknown fields are mistakes.
    pub(crate) fn parse_strictly(value: &Value, pointer: &str) -> Result<Self, FieldErrors> {
        Self::read(
            Fields::new(crate::validation::object_at(value, pointer)?, pointer),
            true,
        )
    }

    /// The fields that say whether and when, as JSON that [`parse`](Self::parse) reads. Those that are missing stay so.
    #[must_use]
    pub fn schedule_fields(&self) -> Map<String, Value> {
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

    fn read(mut fields: Fields<'_>, strict: bool) -> Result<Self, FieldErrors> {
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

const FREQUENCIES: &str = "use one of hourly, daily, weekly, biweekly, monthly";
const WEEKDAYS: &str = "use a weekday as monday, or a list of them";
const MONTH_DAYS: &str = "use a day from 1 to 31, last, or a list of them";

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

fn parse_frequency(value: &Value) -> Result<Frequency, Invalid> {
    match text(value)? {
        "hourly" => Ok(Frequency::Hourly),
        "daily" => Ok(Frequency::Daily),
        "weekly" => Ok(Frequency::Weekly),
        "biweekly" => Ok(Frequency::Biweekly),
        "monthly" => Ok(Frequency::Monthly),
        _ => Err(Invalid::new("is not a frequency", FREQUENCIES)),
    }
}

fn parse_time(value: &Value) -> Result<TimeOfDay, Invalid> {
    text(value)?.parse().map_err(|()| {
        Invalid::new(
            "is not a time of day",
            "use HH:MM from 00:00 to 23:59, as 09:00",
        )
    })
}

pub(crate) fn parse_zone(value: &Value) -> Result<Zone, Invalid> {
    text(value)?.parse().map_err(|_| {
        Invalid::new(
            "is not a time zone",
            "use an IANA name as Europe/Berlin, America/New_York or UTC",
        )
    })
}

fn parse_days(value: &Value) -> Result<Vec<Day>, Invalid> {
    match value {
        Value::Array(list) if list.is_empty() => Err(Invalid::new(
            "is an empty list",
            format!("{WEEKDAYS}; monthly: {MONTH_DAYS}"),
        )),
        // There are 31 days in a month, and `last`.
        Value::Array(list) if list.len() > 32 => Err(Invalid::new(
            "is too long a list",
            "name each day once, 32 entries at most",
        )),
        Value::Array(list) => list.iter().map(parse_day).collect(),
        single => parse_day(single).map(|day| vec![day]),
    }
}

fn parse_day(value: &Value) -> Result<Day, Invalid> {
    let unknown = || Invalid::new("is not a day", format!("{WEEKDAYS}; monthly: {MONTH_DAYS}"));
    let of_month = |number: u64| match u8::try_from(number) {
        Ok(day @ 1..=31) => Ok(Day::OfMonth(day)),
        _ => Err(unknown()),
    };
    match value {
        Value::Number(number) => of_month(number.as_u64().ok_or_else(unknown)?),
        Value::String(text) if text.eq_ignore_ascii_case("last") => {
            Ok(Day::OfMonth(MonthDays::LAST))
        }
        Value::String(text) => match Weekdays::parse(text) {
            Some(day) => Ok(Day::OfWeek(day)),
            None => of_month(text.parse().map_err(|_| unknown())?),
        },
        _ => Err(unknown()),
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
            "enabled": "yes", "frequency": "dayly", "preferred_time": "9:00", "preferred_day": [],
            "timezone": "Mars/Olympus", "template_overrides": []
        }))
        .unwrap_err();
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "/enabled: \"yes\" has the wrong type; use true or false",
                "/frequency: \"dayly\" is not a frequency; use one of hourly, daily, weekly, biweekly, monthly",
                "/preferred_time: \"9:00\" is not a time of day; use HH:MM from 00:00 to 23:59, as 09:00",
                "/preferred_day: [] is an empty list; use a weekday as monday, or a list of them; monthly: use a day from 1 to 31, last, or a list of them",
                "/timezone: \"Mars/Olympus\" is not a time zone; use an IANA name as Europe/Berlin, America/New_York or UTC",
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
