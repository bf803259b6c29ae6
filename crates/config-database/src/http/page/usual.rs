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
    /// All of it, such as `Every Monday at 10:00, UTC`; `None`: no frequency is usual, or the jobs are not known.
    pub(super) sentence: Option<String>,
    /// The frequency as a preference writes it; empty: neither the job nor the organization names one.
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
    /// Where no job is known, it is what the organization says.
    pub(super) fn of(t: &Texts, known: &KnownFeature, layer: Option<&Map<String, Value>>) -> Self {
        let (first, unknown) = (known.jobs.values().next(), JobDefaults::default());
        let job = first.unwrap_or(&unknown);
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
        let of_organization: BTreeSet<&'static str> = of_organization
            .into_iter()
            .filter(|(_, preference, field)| gives(preference.clone(), field))
            .map(|(part, ..)| part)
            .collect();
        // A job that is not known may have other values than those that are built in.
        let is_known = |part: &str| first.is_some() || of_organization.contains(part);
        let layer_overrides = layer.and_then(|layer| layer.get("template_overrides"));
        let none = Map::new();
        let layer_overrides = layer_overrides.and_then(Value::as_object).unwrap_or(&none);
        let days = |part: &str, frequency: &str| {
            let slot = slot(json!({"frequency": frequency})).filter(|_| is_known(part));
            slot.and_then(|slot| days_of(t, slot.recurrence))
        };
        let as_usual = slot(json!({}));
        let daily = slot(json!({"frequency": "daily"}));
        let zone = daily.as_ref().map(|slot| &slot.zone);
        let zone = zone.filter(|_| is_known("zone"));
        let minute = slot(json!({"frequency": "hourly"})).filter(|_| is_known("minute"));
        let frequency = as_usual.as_ref().map(|slot| slot.recurrence.frequency());
        Self {
            frequency: frequency.unwrap_or_default().to_owned(),
            frequency_in_words: frequency.map(|word| t.text(&format!("usual-{word}"))),
            sentence: as_usual
                .as_ref()
                .filter(|_| first.is_some())
                .map(|slot| sentence(t, slot)),
            weekdays: days("weekdays", "weekly"),
            monthdays: days("monthdays", "monthly"),
            time: daily
                .as_ref()
                .filter(|_| is_known("time"))
                .map(|slot| times(t, &slot.times)),
            minute: minute.map(|slot| slot.times.first().minute().to_string()),
            zone: zone.map_or_else(String::new, Zone::to_string),
            zone_name: zone.map_or_else(String::new, |zone| zone_name(t, zone)),
            overrides: merge_objects(&job.defaults.template_overrides, layer_overrides),
            of_organization,
            overrides_of_organization: layer_overrides.keys().cloned().collect(),
        }
    }
}

/// When a preference runs with a job; `None`: it cannot.
pub(super) fn slot_of(job: &JobDefaults, preference: &Value) -> Option<Slot> {
    let preference = Preference::parse(preference.as_object()?).ok()?;
    Some(job.effective(&preference).ok()?.slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_organization_says_is_usual_where_no_job_is_known() {
        let texts = Texts::of(None, None, None);
        let known = KnownFeature::default();
        let layer = json!({"frequency": "daily", "preferred_time": "07:30", "template_overrides": {"tone": "dry"}});
        let usual = Usual::of(&texts, &known, layer.as_object());
        assert_eq!(usual.frequency, "daily");
        let time = usual.time.clone().unwrap();
        assert!(time.contains("7:30"), "{time}");
        assert!(usual.is_of_organization("frequency") && usual.is_of_organization("time"));
        assert_eq!(usual.overrides["tone"], "dry");
        assert!(usual.is_override_of_organization("tone"));
        // What it leaves open is not what is built in.
        assert_eq!(usual.zone, "");
        assert_eq!((usual.weekdays, usual.sentence), (None, None));
        let zone = json!({"timezone": "Asia/Tokyo"});
        let usual = Usual::of(&texts, &known, zone.as_object());
        assert_eq!(usual.zone, "Asia/Tokyo");
        assert!(usual.is_of_organization("zone"));
        assert_eq!((usual.time, usual.minute), (None, None));
    }
}
