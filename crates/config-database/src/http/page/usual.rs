//! What is usual for a feature: what its job makes of a preference that leaves something out.

use punctual_domain::{JobDefaults, Preference, Slot, Zone};
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
}

impl Usual {
    /// Whether there is a time for who chooses none.
    pub(super) fn is_known(known: &KnownFeature) -> bool {
        let first = known.jobs.values().next();
        first.is_some_and(|job| slot_of(job, &json!({})).is_some())
    }

    /// That of the feature's first job: what the others make of it, the runs show.
    pub(super) fn of(t: &Texts, known: &KnownFeature) -> Self {
        let Some(job) = known.jobs.values().next() else {
            return Self::default();
        };
        let slot = |preference: Value| slot_of(job, &preference);
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
            minute: daily
                .as_ref()
                .map(|slot| slot.times.first().minute().to_string()),
            zone: zone.map_or_else(String::new, Zone::to_string),
            zone_name: zone.map_or_else(String::new, |zone| zone_name(t, zone)),
            overrides: job.defaults.template_overrides.clone(),
        }
    }
}

/// When a preference runs with a job; `None`: it cannot.
pub(super) fn slot_of(job: &JobDefaults, preference: &Value) -> Option<Slot> {
    let preference = Preference::parse(preference.as_object()?).ok()?;
    Some(job.effective(&preference).ok()?.slot)
}
