//! Layers of stored preferences: what a tenant has stored, over what the tenant's organization has. Both are merged as they
//! were written, when they are stored, so that what reads them needs no join; [`MergedPreference`] is what comes of it over a
//! job's defaults.
//!
//! [`MergedPreference`]: super::effective::MergedPreference

use serde_json::{Map, Value, json};

use super::{
    day::{Frequency, check_days},
    overrides::merge_objects,
    stored::check_times,
    values::{parse_days, parse_frequency, parse_times},
    when::says_when,
};

/// What a tenant has stored for a feature, over the layer of the tenant's organization, and the names of the fields that came
/// from that layer, sorted. `None`: the tenant has stored nothing.
///
/// Field by field the tenant's wins; objects of template overrides and of unknown fields merge key by key. What depends on the
/// frequency goes with it, as [`MergedPreference::merge`](super::effective::MergedPreference::merge) has it with a job's
/// defaults: the organization's day gives way where it does not fit the frequency, its interval and date count only with its
/// frequency, and of its times hourly takes the first. What it says for hourly runs is a minute, which no other frequency takes.
#[must_use]
pub fn merge_stored(
    tenant: Option<&Map<String, Value>>,
    organization: &Map<String, Value>,
) -> (Map<String, Value>, Vec<String>) {
    let mut merged = tenant.cloned().unwrap_or_default();
    let mut fields = Vec::new();
    for (name, given) in fitting(&merged, organization) {
        let own = merged.get(&name).filter(|own| !is_absent(&name, own));
        let value = match (own, given) {
            (None, given) => given,
            (Some(Value::Object(own)), Value::Object(given)) => {
                Value::Object(merge_objects(&given, own))
            }
            (Some(_), _) => continue,
        };
        if own != Some(&value) {
            merged.insert(name.clone(), value);
            fields.push(name);
        }
    }
    fields.sort_unstable();
    (merged, fields)
}

/// The fields of an organization's layer that can be beside what a tenant has stored.
fn fitting(own: &Map<String, Value>, organization: &Map<String, Value>) -> Map<String, Value> {
    let mut given = organization.clone();
    given.retain(|name, value| !is_absent(name, value));
    let own_frequency = own.get("frequency").filter(|value| !value.is_null());
    if own_frequency.is_some() {
        given.remove("interval");
        given.remove("date");
    }
    let frequency = own_frequency.or(given.get("frequency"));
    let Some(frequency) = frequency.and_then(|value| parse_frequency(value).ok()) else {
        return given;
    };
    let of_layer = given.get("frequency").map(parse_frequency);
    if frequency != Frequency::Hourly && matches!(of_layer, Some(Ok(Frequency::Hourly))) {
        given.remove("preferred_time");
    }
    let days = given.get("preferred_day").map(parse_days);
    if let Some(Ok(days)) = days
        && check_days(frequency, &days).is_err()
    {
        given.remove("preferred_day");
    }
    let times = given.get("preferred_time").map(parse_times);
    if let Some(Ok(times)) = times
        && check_times(frequency, &times).is_err()
    {
        let first = json!(times.first().to_string());
        given.insert("preferred_time".to_owned(), first);
    }
    given
}

/// Whether a field counts as not there: `null` does for those that have a meaning here, and is a value of all others.
fn is_absent(name: &str, value: &Value) -> bool {
    value.is_null() && (says_when(name) || name == "template_overrides")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::{option::of, prelude::*, sample::select};

    use super::*;
    use crate::{
        preference::{
            day::recurrence,
            effective::MergedPreference,
            stored::{Preference, check_date, check_end, check_interval},
        },
        time::{bounds::Bounds, recurrence::Recurrence, slot::Slot, times::Times, zone::Zone},
    };

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn merged(tenant: Value, organization: Value) -> (Value, Vec<String>) {
        let (merged, fields) = merge_stored(Some(&object(tenant)), &object(organization));
        (Value::Object(merged), fields)
    }

    #[test]
    fn the_tenants_fields_win_and_the_others_are_named() {
        let (preference, fields) = merged(
            json!({"enabled": true, "preferred_time": "18:00", "timezone": null,
                   "template_overrides": {"tone": "dry"}, "channel": "reels"}),
            json!({"enabled": false, "frequency": "weekly", "preferred_day": "friday", "timezone": "Europe/Berlin",
                   "template_overrides": {"tone": "warm", "length": 3}, "channel": "stories"}),
        );
        assert_eq!(
            preference,
            json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday", "preferred_time": "18:00",
                   "timezone": "Europe/Berlin", "template_overrides": {"tone": "dry", "length": 3}, "channel": "reels"})
        );
        assert_eq!(
            fields,
            [
                "frequency",
                "preferred_day",
                "template_overrides",
                "timezone"
            ]
        );
    }

    #[test]
    fn a_tenant_without_a_preference_has_the_organizations() {
        let layer = object(json!({"enabled": true, "frequency": "daily", "timezone": null}));
        let (preference, fields) = merge_stored(None, &layer);
        assert_eq!(
            Value::Object(preference),
            json!({"enabled": true, "frequency": "daily"})
        );
        assert_eq!(fields, ["enabled", "frequency"]);
    }

    #[test]
    fn what_goes_with_the_frequency_goes_with_the_one_that_counts() {
        let every_second = json!({"frequency": "weekly", "interval": 2, "start_date": "2026-01-05",
            "preferred_day": "friday", "preferred_time": ["18:20", "09:10"]});
        let (monthly, fields) = merged(json!({"frequency": "monthly"}), every_second.clone());
        assert_eq!(
            monthly,
            json!({"frequency": "monthly", "start_date": "2026-01-05", "preferred_time": ["18:20", "09:10"]})
        );
        assert_eq!(fields, ["preferred_time", "start_date"]);
        let (hourly, _) = merged(json!({"frequency": "hourly"}), every_second.clone());
        assert_eq!(hourly["preferred_time"], "09:10");
        let (same, fields) = merged(json!({"enabled": true}), every_second.clone());
        assert_eq!(same["interval"], 2);
        assert_eq!(fields.len(), 5);
        // A minute of hourly runs is not a time of day, which a feature may bound.
        let at_quarter =
            json!({"frequency": "hourly", "preferred_time": "00:15", "timezone": "Asia/Tokyo"});
        let (daily, fields) = merged(json!({"frequency": "daily"}), at_quarter.clone());
        assert_eq!(
            daily,
            json!({"frequency": "daily", "timezone": "Asia/Tokyo"})
        );
        assert_eq!(fields, ["timezone"]);
        for own in [json!({"frequency": "hourly"}), json!({"enabled": true})] {
            assert_eq!(merged(own, at_quarter.clone()).0["preferred_time"], "00:15");
        }
        let once = json!({"frequency": "once", "date": "2026-12-24"});
        let (weekly, fields) = merged(json!({"frequency": "weekly"}), once);
        assert_eq!(weekly, json!({"frequency": "weekly"}));
        assert!(fields.is_empty());
    }

    /// A layer as tenants, organizations and jobs write them. What is an object in one is one in all.
    fn layer() -> impl Strategy<Value = Map<String, Value>> {
        let word = |words: &'static [&'static str]| of(select(words).prop_map(|word| json!(word)));
        let time = select(vec![
            json!("09:15"),
            json!(["18:30", "07:45"]),
            json!("20:00"),
            Value::Null,
        ]);
        let day = select(vec![
            json!("monday"),
            json!(["tuesday", "fri"]),
            json!(15),
            json!("last"),
            json!("second tuesday"),
        ]);
        let overrides = (of(0..3_i32), of(0..3_i32), of(0..3_i32)).prop_map(|(tone, a, b)| {
            let inner = [("a", a), ("b", b)].into_iter();
            let inner = inner.filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
            let mut overrides = object(json!({ "deep": inner.collect::<Map<_, _>>() }));
            overrides.extend(tone.map(|tone| ("tone".to_owned(), json!(tone))));
            Value::Object(overrides)
        });
        let overrides = overrides.boxed();
        let when = vec![
            of(any::<bool>().prop_map(Value::from)).boxed(),
            word(&[
                "hourly", "daily", "weekly", "biweekly", "monthly", "once", "Weekly",
            ])
            .boxed(),
            of(time).boxed(),
            of(day).boxed(),
            of((1..4_i32).prop_map(Value::from)).boxed(),
            word(&["2026-12-24", "2026-03-01"]).boxed(),
            word(&["2026-01-05", "2026-12-01"]).boxed(),
            word(&["2026-06-30", "2027-01-01"]).boxed(),
            word(&["2026-05-01", "2026-05-01T12:00:00Z"]).boxed(),
            word(&["Europe/Berlin", "Asia/Tokyo"]).boxed(),
        ];
        let names = [
            "enabled",
            "frequency",
            "preferred_time",
            "preferred_day",
            "interval",
            "date",
            "start_date",
            "end_date",
            "paused_until",
            "timezone",
        ];
        let fields = (
            when,
            of(overrides.clone()),
            of(overrides),
            word(&["a", "b"]),
        );
        fields.prop_filter_map(
            "a layer that is not valid",
            move |(when, how, own, channel)| {
                let when = names.into_iter().zip(when);
                let how = [
                    ("template_overrides", how),
                    ("own", own),
                    ("channel", channel),
                ];
                let fields = when.chain(how);
                let fields: Map<String, Value> = fields
                    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                    .collect();
                Preference::parse(&fields).ok().map(|_| fields)
            },
        )
    }

    /// The three layers at once, as the guide says it; `None`: they cannot run together.
    fn expected(t: &Preference, o: &Preference, j: &Preference) -> Option<Slot> {
        let frequency = t.frequency.or(o.frequency).or(j.frequency)?;
        let of_job = t.frequency.is_none() && o.frequency.is_none();
        let fits = |layer: &&Preference| {
            let days = layer.preferred_day.as_ref();
            days.is_some_and(|days| check_days(frequency, days).is_ok())
        };
        // A day that was chosen without a frequency has to fit the one that others chose below.
        let strict = if of_job { vec![t, o] } else { vec![t] };
        let chosen = strict.iter().find(|layer| layer.preferred_day.is_some());
        let days = match chosen {
            Some(layer) => Some(fits(layer).then_some(*layer)?),
            None => [o, j].into_iter().find(fits),
        };
        let days = days.and_then(|layer| layer.preferred_day.as_deref());
        // Layers whose interval and date count: down to the one that chose the frequency.
        let with_frequency = match (t.frequency, o.frequency) {
            (Some(_), _) => vec![t],
            (None, Some(_)) => vec![t, o],
            (None, None) => vec![t, o, j],
        };
        let date = with_frequency.iter().find_map(|layer| layer.date);
        let interval = with_frequency.iter().find_map(|layer| layer.interval);
        let recurrence = recurrence(frequency, days, date)?;
        let bounds = Bounds {
            interval: interval.unwrap_or(NonZeroU16::MIN),
            start: t.start_date.or(o.start_date).or(j.start_date),
            end: t.end_date.or(o.end_date).or(j.end_date),
            paused_until: t.paused_until.or(o.paused_until).or(j.paused_until),
        };
        check_interval(frequency, bounds.interval).ok()?;
        if bounds.interval > NonZeroU16::MIN && bounds.start.is_none() {
            return None;
        }
        check_end(bounds.start, bounds.end).ok()?;
        if let Recurrence::Once(date) = recurrence {
            check_date(date, bounds.start, bounds.end).ok()?;
        }
        let named = strict
            .iter()
            .find_map(|layer| layer.preferred_time.as_ref());
        if frequency == Frequency::Hourly && named.is_some_and(|times| times.only().is_none()) {
            return None;
        }
        let is_minute = o.frequency == Some(Frequency::Hourly) && frequency != Frequency::Hourly;
        let of_organization = o.preferred_time.clone().filter(|_| !is_minute);
        let times = t.preferred_time.clone().or(of_organization);
        let times = times.or(j.preferred_time.clone()).unwrap_or_default();
        let zone = t.timezone.clone().or(o.timezone.clone());
        Some(Slot {
            recurrence,
            times: match frequency {
                Frequency::Hourly => Times::from(times.first().in_first_hour()),
                _ => times,
            },
            bounds,
            zone: zone.or(j.timezone.clone()).unwrap_or_else(Zone::utc),
        })
    }

    proptest! {
        #[test]
        fn three_layers_come_to_the_same_in_two_steps(t in layer(), o in layer(), j in layer()) {
            let parse = |layer: &Map<String, Value>| Preference::parse(layer);
            let job = parse(&j).unwrap();
            let (stored, fields) = merge_stored(Some(&t), &o);
            let stored = parse(&stored);
            let in_effect = stored.and_then(|stored| MergedPreference::merge(&stored, &job, &Zone::utc()));
            let (t, o) = (parse(&t).unwrap(), parse(&o).unwrap());
            let slot = expected(&t, &o, &job);
            prop_assert_eq!(in_effect.as_ref().ok().map(|merged| &merged.slot), slot.as_ref());
            if let Ok(merged) = in_effect {
                let enabled = t.enabled.or(o.enabled).or(job.enabled).unwrap_or(false);
                prop_assert_eq!(merged.enabled, enabled);
                let overrides = merge_objects(&job.template_overrides, &o.template_overrides);
                let overrides = merge_objects(&overrides, &t.template_overrides);
                prop_assert_eq!(&*merged.template_overrides, &overrides);
                let other = merge_objects(&merge_objects(&job.other, &o.other), &t.other);
                prop_assert_eq!(&*merged.other, &other);
            }
            prop_assert!(fields.is_sorted());
        }

        #[test]
        fn a_layer_that_says_nothing_changes_nothing(t in layer()) {
            prop_assert_eq!(merge_stored(Some(&t), &Map::new()), (t, Vec::new()));
        }

        #[test]
        fn what_is_not_named_is_as_the_tenant_has_stored_it(t in layer(), o in layer()) {
            let (merged, fields) = merge_stored(Some(&t), &o);
            for (name, value) in &merged {
                let named = fields.contains(name);
                prop_assert_eq!(t.get(name) != Some(value), named, "{}", name);
                prop_assert!(!named || o.contains_key(name));
            }
            prop_assert!(t.keys().all(|name| merged.contains_key(name)));
        }
    }
}
