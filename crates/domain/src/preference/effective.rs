//! A preference in effect: what a tenant stored, merged over a job's defaults and what is built in. Nothing is missing.

use std::{
    num::NonZeroU16,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value, json};

use super::{
    day::{Frequency, check_days, days_json, month_day_json, one_or_many, recurrence},
    organization::Membership,
    overrides::merge_objects,
    stored::{Preference, check_date, check_end, check_interval, check_times, times_json},
    values::{DATES, FREQUENCIES},
};
use crate::{
    input::errors::{FieldErrorKind, FieldErrors, Invalid},
    time::{
        bounds::Bounds,
        recurrence::{Recurrence, Weekdays},
        slot::Slot,
        zone::Zone,
    },
};

/// A preference with nothing missing: the tenant's choice over the organization's over the job's defaults over the built-in
/// ones.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedPreference {
    /// On or off.
    pub enabled: bool,
    /// Slot at which the job runs for the tenant.
    pub slot: Slot,
    /// The tenant's overrides merged over the job's.
    pub template_overrides: Arc<Map<String, Value>>,
    /// Fields this version does not know, passed through as they came.
    pub other: Arc<Map<String, Value>>,
    /// The tenant's organization, and which of the stored fields came from it; `None`: the tenant belongs to none.
    pub organization: Option<Arc<Membership>>,
}

/// A preference in effect that several items share, because they were run with the same. Its JSON is made once for all.
#[derive(Debug, Clone)]
pub struct SharedPreference(Arc<(MergedPreference, OnceLock<Arc<Value>>)>);

impl SharedPreference {
    /// The preference as [`to_json`](MergedPreference::to_json) writes it; the same value each time.
    #[must_use]
    pub fn json(&self) -> Arc<Value> {
        let (merged, json) = &*self.0;
        json.get_or_init(|| Arc::new(merged.to_json())).clone()
    }
}

impl From<MergedPreference> for SharedPreference {
    fn from(merged: MergedPreference) -> Self {
        Self(Arc::new((merged, OnceLock::new())))
    }
}

impl Deref for SharedPreference {
    type Target = MergedPreference;

    fn deref(&self) -> &MergedPreference {
        &self.0.0
    }
}

impl PartialEq for SharedPreference {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

/// Where a value of a preference in effect came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The tenant chose it.
    Tenant,
    /// The tenant's organization chose it.
    Organization,
    /// The job's defaults.
    JobDefault,
    /// Built in, or the agent's time zone: neither the tenant nor the job chose.
    BuiltIn,
}

impl MergedPreference {
    /// Merges `stored` over `defaults`, over time 09:00, day monday or 1, and `default_zone`.
    ///
    /// A default day that does not fit the frequency (`monday` for a tenant who chose monthly) gives way to
    /// the built-in one, and a default interval or date goes with the default frequency. Without `enabled` in either, it is off.
    ///
    /// # Errors
    /// When no frequency is known, or the date that it needs, or the tenant's own day or interval does not fit it.
    pub fn merge(
        stored: &Preference,
        defaults: &Preference,
        default_zone: &Zone,
    ) -> Result<Self, FieldErrors> {
        let frequency = stored.frequency.or(defaults.frequency).ok_or_else(|| {
            let missing = Invalid::new("is missing", FREQUENCIES).of_kind(FieldErrorKind::Missing);
            FieldErrors(vec![missing.at("/frequency", None)])
        })?;
        let invalid = |pointer: &str, invalid: Invalid, value: Option<Value>| {
            FieldErrors(vec![invalid.at(pointer, value.as_ref())])
        };
        let days = match &stored.preferred_day {
            Some(days) => {
                check_days(frequency, days)
                    .map_err(|wrong| invalid("/preferred_day", wrong, Some(days_json(days))))?;
                Some(days)
            }
            None => defaults
                .preferred_day
                .as_ref()
                .filter(|days| check_days(frequency, days).is_ok()),
        };
        let with_frequency = if stored.frequency.is_some() {
            stored
        } else {
            defaults
        };
        let date = stored.date.or(with_frequency.date);
        let recurrence = recurrence(frequency, days.map(Vec::as_slice), date).ok_or_else(|| {
            let missing = Invalid::new("is missing", DATES).of_kind(FieldErrorKind::Missing);
            invalid("/date", missing, None)
        })?;
        let bounds = Bounds {
            interval: stored
                .interval
                .or(with_frequency.interval)
                .unwrap_or(NonZeroU16::MIN),
            start: stored.start_date.or(defaults.start_date),
            end: stored.end_date.or(defaults.end_date),
            paused_until: stored.paused_until.or(defaults.paused_until),
        };
        check_interval(frequency, bounds.interval)
            .map_err(|wrong| invalid("/interval", wrong, Some(json!(bounds.interval))))?;
        if bounds.interval > NonZeroU16::MIN && bounds.start.is_none() {
            let wrong = Invalid::new("is missing, and the interval counts from it", DATES)
                .of_kind(FieldErrorKind::MissingStart);
            return Err(invalid("/start_date", wrong, None));
        }
        check_end(bounds.start, bounds.end)
            .map_err(|wrong| invalid("/end_date", wrong, bounds.end.map(|end| json!(end))))?;
        if let Recurrence::Once(date) = recurrence {
            check_date(date, bounds.start, bounds.end)
                .map_err(|wrong| invalid("/date", wrong, Some(json!(date))))?;
        }
        if let Some(times) = &stored.preferred_time {
            check_times(frequency, times)
                .map_err(|wrong| invalid("/preferred_time", wrong, Some(times_json(times))))?;
        }
        let zone = stored
            .timezone
            .as_ref()
            .or(defaults.timezone.as_ref())
            .unwrap_or(default_zone);
        let times = stored
            .preferred_time
            .as_ref()
            .or(defaults.preferred_time.as_ref())
            .cloned()
            .unwrap_or_default();
        let slot = Slot {
            recurrence,
            // Two who want the same minute of every hour fall due together, whatever hour they wrote.
            times: match recurrence {
                Recurrence::Hourly => times.first().in_first_hour().into(),
                _ => times,
            },
            bounds,
            zone: zone.clone(),
        };
        Ok(Self {
            enabled: stored.is_on(defaults),
            ..Self::with_slot(stored, defaults, slot)
        })
    }

    /// A preference that is on, and says nothing but when.
    #[must_use]
    pub fn of_slot(slot: Slot) -> Self {
        Self::with_slot(&Preference::default(), &Preference::default(), slot)
    }

    /// The same preference, of a tenant who belongs to this organization; `None`: to none.
    #[must_use]
    pub fn of_organization(self, organization: Option<Arc<Membership>>) -> Self {
        Self {
            organization,
            ..self
        }
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
            .is_some_and(|(frequency, days)| check_days(frequency, days).is_ok());
        let of_organization = |name: &str| {
            let organization = self.organization.as_ref();
            organization.is_some_and(|organization| organization.gave(name))
        };
        let origin = |name: &str, stored: bool, defaults: bool| match (stored, defaults) {
            (true, _) if of_organization(name) => Origin::Organization,
            (true, _) => Origin::Tenant,
            (false, true) => Origin::JobDefault,
            (false, false) => Origin::BuiltIn,
        };
        let json = self.to_json();
        let field = |name: &'static str, stored: bool, defaults: bool| {
            (name, json[name].clone(), origin(name, stored, defaults))
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
        let rare = [
            ("interval", stored.interval.is_some()),
            ("date", stored.date.is_some()),
            ("start_date", stored.start_date.is_some()),
            ("end_date", stored.end_date.is_some()),
            ("paused_until", stored.paused_until.is_some()),
        ];
        // What nothing sets is not there.
        let set = rare
            .into_iter()
            .filter(|(name, _)| json.get(name).is_some());
        fields.extend(set.map(|(name, stored)| field(name, stored, true)));
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
            organization: None,
        }
    }

    /// The preference of a manual run for a tenant who has stored none.
    ///
    /// # Errors
    /// When the defaults cannot be used by themselves.
    pub fn of_defaults(defaults: &Preference, default_zone: &Zone) -> Result<Self, FieldErrors> {
        let stored = Preference {
            enabled: defaults.enabled.or(Some(true)),
            // A manual run needs no schedule, but the merge needs a frequency.
            frequency: defaults.frequency.or(Some(Frequency::Daily)),
            ..Preference::default()
        };
        Self::merge(&stored, defaults, default_zone)
    }

    /// The preference as JSON, in the form tenants store it, with every field present but for `interval`, `date` and bounds
    /// that nothing sets.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = (*self.other).clone();
        let Slot {
            recurrence,
            times,
            bounds,
            zone,
        } = &self.slot;
        let preferred_day = match recurrence {
            Recurrence::Hourly | Recurrence::Daily | Recurrence::Once(_) => Value::Null,
            Recurrence::Weekly(days) | Recurrence::Biweekly(days) => {
                one_or_many(days.iter().map(|day| json!(Weekdays::name(day))))
            }
            Recurrence::Monthly(days) => {
                let counted = days.weekdays().map(|day| json!(day.to_string()));
                one_or_many(days.iter().map(month_day_json).chain(counted))
            }
        };
        object.insert("enabled".into(), json!(self.enabled));
        object.insert("frequency".into(), json!(recurrence.frequency()));
        object.insert("preferred_time".into(), times_json(times));
        object.insert("preferred_day".into(), preferred_day);
        object.insert("timezone".into(), json!(zone.name()));
        let date = match recurrence {
            Recurrence::Once(date) => Some(json!(date)),
            _ => None,
        };
        let interval = (bounds.interval > NonZeroU16::MIN).then(|| json!(bounds.interval));
        let rare = [
            ("interval", interval),
            ("date", date),
            ("start_date", bounds.start.map(|date| json!(date))),
            ("end_date", bounds.end.map(|date| json!(date))),
            (
                "paused_until",
                bounds.paused_until.map(|end| json!(end.to_string())),
            ),
        ];
        let set = rare
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        object.extend(set);
        object.insert(
            "template_overrides".into(),
            Value::Object((*self.template_overrides).clone()),
        );
        Value::Object(object)
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
        let shown: Vec<_> = fields
            .iter()
            .map(|(name, value, origin)| format!("{name} {value} {origin:?}"))
            .collect();
        assert_eq!(
            shown,
            [
                "enabled true Tenant",
                "frequency \"weekly\" Tenant",
                "preferred_day \"friday\" JobDefault",
                "preferred_time \"10:00\" JobDefault",
                "timezone \"UTC\" BuiltIn",
            ]
        );
        // The organization gave what its membership names, as far as it is in effect.
        let membership = json!({"id": "acme", "fields": ["frequency", "preferred_day", "pet"]});
        let membership = serde_json::from_value(membership).unwrap();
        let of_acme = merged.clone().of_organization(Some(Arc::new(membership)));
        let origins: Vec<_> = of_acme
            .with_origins(&stored, &defaults)
            .into_iter()
            .map(|(name, _, origin)| (name, origin))
            .collect();
        assert_eq!(
            origins,
            [
                ("enabled", Origin::Tenant),
                ("frequency", Origin::Organization),
                ("preferred_day", Origin::JobDefault),
                ("preferred_time", Origin::JobDefault),
                ("timezone", Origin::BuiltIn),
            ]
        );
        assert_eq!(of_acme.to_json(), merged.to_json());
        // A day that does not fit gives way, and is not said to be in effect.
        let monthly = parse(json!({"frequency": "monthly"}));
        let merged = MergedPreference::merge(&monthly, &defaults, &Zone::utc()).unwrap();
        let day = &merged.with_origins(&monthly, &defaults)[2];
        assert_eq!(day, &("preferred_day", json!(1), Origin::BuiltIn));
    }

    #[test]
    fn a_frequency_must_come_from_somewhere_and_the_tenants_own_day_must_fit_it() {
        assert!(merged(json!({"preferred_day": 3}), json!({"frequency": "weekly"})).is_err());
        assert!(
            merged(json!({}), json!({}))
                .unwrap_err()
                .to_string()
                .contains("/frequency: is missing")
        );
    }
}
