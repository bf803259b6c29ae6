//! What is usual for a feature: what its job makes of a preference that leaves something out, and of a member's what the
//! organization says before.

use std::collections::BTreeSet;

use punctual_domain::{JobDefaults, Preference, Slot, Zone, merge_objects, merge_stored};
use serde_json::{Map, Value, json};

use crate::{
    sentence::{days_of, sentence, times, zone_name},
    store::KnownFeature,
    texts::Texts,
};

/// What is usual for a feature, in words.
#[derive(Debug, Default, Clone)]
pub(super) struct Usual {
    /// All of it, such as `Every Monday at 10:00, UTC`; `None`: the jobs name no frequency, or are not known.
    pub(super) sentence: Option<String>,
    /// The frequency as a preference writes it; empty: the jobs name none, or are not known.
    pub(super) frequency: String,
    /// The frequency in the words of the form.
    pub(super) frequency_in_words: Option<String>,
    pub(super) weekdays: Option<String>,
    pub(super) monthdays: Option<String>,
    pub(super) time: Option<String>,
    pub(super) minute: Option<String>,
    /// The name of the zone.
    pub(super) zone: String,
    pub(super) zone_name: String,
    /// Values of the template overrides.
    pub(super) overrides: Map<String, Value>,
    /// Parts of it that come from the tenant's organization: `frequency`, `weekdays`, `monthdays`, `time` and `zone`.
    of_organization: BTreeSet<&'static str>,
    /// The template overrides that do.
    overrides_of_organization: BTreeSet<String>,
}

impl Usual {
    /// Whether there is a time for who chooses none.
    pub(super) fn is_known(known: &KnownFeature) -> bool {
        let first = known.jobs.values().next();
        first.is_some_and(|job| slot_of(job, &json!({})).is_some())
    }

    /// Whether a part of it comes from the tenant's organization.
    pub(super) fn is_of_organization(&self, part: &str) -> bool {
        self.of_organization.contains(part)
    }

    /// Whether a template override does.
    pub(super) fn is_override_of_organization(&self, name: &str) -> bool {
        self.overrides_of_organization.contains(name)
    }

    /// Whether anything of when does.
    pub(super) fn is_any_of_organization(&self) -> bool {
        !self.of_organization.is_empty()
    }

    /// That of the feature's first job, over which the tenant's organization has `layer`: what the others make of it, the runs show.
    pub(super) fn of(t: &Texts, known: &KnownFeature, layer: Option<&Map<String, Value>>) -> Self {
        let Some(job) = known.jobs.values().next() else {
            return Self::default();
        };
        let merged = |preference: Value| match (preference, layer) {
            (Value::Object(own), Some(layer)) => {
                let (merged, fields) = merge_stored(Some(&own), layer);
                (Value::Object(merged), fields)
            }
            (alone, _) => (alone, Vec::new()),
        };
        let slot = |preference: Value| slot_of(job, &merged(preference).0);
        let gives = |preference: Value, field: &str| {
            let (_, fields) = merged(preference);
            fields.iter().any(|name| name == field)
        };
        let of_organization = [
            ("frequency", json!({}), "frequency"),
            ("weekdays", json!({"frequency": "weekly"}), "preferred_day"),
            (
                "monthdays",
                json!({"frequency": "monthly"}),
                "preferred_day",
            ),
            ("time", json!({"frequency": "daily"}), "preferred_time"),
            ("minute", json!({"frequency": "hourly"}), "preferred_time"),
            ("zone", json!({"frequency": "daily"}), "timezone"),
        ];
        let of_organization = of_organization
            .into_iter()
            .filter(|(_, preference, field)| gives(preference.clone(), field))
            .map(|(part, ..)| part);
        let layer_overrides = layer.and_then(|layer| layer.get("template_overrides"));
        let none = Map::new();
        let layer_overrides = layer_overrides.and_then(Value::as_object).unwrap_or(&none);
        let days = |frequency: &str| {
            let slot = slot(json!({"frequency": frequency}));
            slot.and_then(|slot| days_of(t, slot.recurrence))
        };
        let as_usual = slot(json!({}));
        let daily = slot(json!({"frequency": "daily"}));
        let zone = daily.as_ref().map(|slot| &slot.zone);
        let frequency = as_usual.as_ref().map(|slot| slot.recurrence.frequency());
        Self {
            frequency: frequency.unwrap_or_default().to_owned(),
            frequency_in_words: frequency.map(|word| t.text(&format!("usual-{word}"))),
            sentence: as_usual.as_ref().map(|slot| sentence(t, slot)),
            weekdays: days("weekly"),
            monthdays: days("monthly"),
            time: daily.as_ref().map(|slot| times(t, &slot.times)),
            minute: slot(json!({"frequency": "hourly"}))
                .map(|slot| slot.times.first().minute().to_string()),
            zone: zone.map_or_else(String::new, Zone::to_string),
            zone_name: zone.map_or_else(String::new, |zone| zone_name(t, zone)),
            overrides: merge_objects(&job.defaults.template_overrides, layer_overrides),
            of_organization: of_organization.collect(),
            overrides_of_organization: layer_overrides.keys().cloned().collect(),
        }
    }
}

/// When a preference runs with a job; `None`: it cannot.
pub(super) fn slot_of(job: &JobDefaults, preference: &Value) -> Option<Slot> {
    let preference = Preference::parse(preference.as_object()?).ok()?;
    Some(job.effective(&preference).ok()?.slot)
}
