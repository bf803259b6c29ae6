//! A form read back: the preference that is chosen in it. What was not touched is stored as it was, however it was written.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    form::{PreferenceForm, Source, WEEKDAYS},
    mistakes::mistake_of,
};
use crate::{json::read_as, plan::Plan, texts::Texts};

impl PreferenceForm {
    /// The preference that is chosen, over what is stored: what was not touched stays as it was written, and so do fields that the
    /// form does not know. `filled` is the form of the same source before anything was chosen.
    pub(super) fn preference(
        &self,
        source: &Source<'_>,
        filled: &Self,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let mut preference = source.stored.cloned().unwrap_or_default();
        let mut set = |name: &str, value: Option<Value>| match value {
            Some(value) => _ = preference.insert(name.to_owned(), value),
            None => _ = preference.remove(name),
        };
        let given = |text: &String| (!text.is_empty()).then(|| json!(text));
        if self.enabled != filled.enabled {
            set("enabled", Some(json!(self.enabled)));
        }
        if self.frequency != filled.frequency {
            set("frequency", given(&self.frequency));
        }
        let (chosen, before) = (self.days(), filled.days());
        if chosen != before || (chosen.is_none() && self.frequency != filled.frequency) {
            set("preferred_day", chosen.and_then(|(_, days)| day_list(days)));
        }
        if self.is_hourly() {
            let had_several = self.changes_frequency(filled) && filled.times.len() > 1;
            if self.minute != filled.minute || had_several {
                let minute = self.minute.parse::<u8>();
                let minute =
                    minute.map_or_else(|_| self.minute.clone(), |minute| format!("{minute:02}"));
                set(
                    "preferred_time",
                    given(&self.minute).map(|_| json!(format!("00:{minute}"))),
                );
            }
        } else if self.times != filled.times {
            set("preferred_time", one_or_many(&self.times));
        }
        for (name, chosen, before) in [
            ("date", &self.date, &filled.date),
            ("start_date", &self.start_date, &filled.start_date),
            ("end_date", &self.end_date, &filled.end_date),
            ("paused_until", &self.paused_until, &filled.paused_until),
        ] {
            if chosen != before {
                set(name, given(chosen));
            }
        }
        if self.interval != filled.interval {
            let number = self.interval.parse::<u16>();
            let number =
                number.map_or_else(|_| given(&self.interval), |number| Some(json!(number)));
            set("interval", number);
        }
        let other_date = self.frequency_in_effect() == "once" && self.date != filled.date;
        if self.changes_frequency(filled) || other_date {
            // What the form hides for this frequency is not kept to be in its way.
            let hidden: &[&str] = match self.frequency_in_effect() {
                "once" => &["interval", "start_date", "end_date"],
                "hourly" | "biweekly" => &["interval", "date"],
                _ => &["date"],
            };
            for name in hidden {
                set(name, None);
            }
        }
        if self.zone != filled.zone {
            set("timezone", given(&self.zone));
        }
        if self.overrides != filled.overrides || self.raw != filled.raw.trim() {
            let overrides = self.read_overrides(source.t)?;
            let overrides = (!overrides.is_empty()).then_some(Value::Object(overrides));
            set("template_overrides", overrides);
        }
        // What is usual may be the other way round.
        let changes = source.stored != Some(&preference) && !preference.is_empty();
        let in_effect = source.in_effect(Some(&preference)).unwrap_or_default();
        if changes && Plan::of(&in_effect, source.known).enabled() != self.enabled {
            preference.insert("enabled".to_owned(), json!(self.enabled));
        }
        Ok(preference)
    }

    fn frequency_in_effect(&self) -> &str {
        match self.frequency.as_str() {
            "" => &self.usual.frequency,
            chosen => chosen,
        }
    }

    fn changes_frequency(&self, filled: &Self) -> bool {
        self.frequency_in_effect() != filled.frequency_in_effect()
    }

    fn is_hourly(&self) -> bool {
        self.frequency_in_effect() == "hourly"
    }

    /// The days that are ticked, and of what.
    fn days(&self) -> Option<(&'static str, &BTreeSet<String>)> {
        match self.frequency_in_effect() {
            "weekly" | "biweekly" => Some(("week", &self.weekdays)),
            "monthly" => Some(("month", &self.monthdays)),
            _ => None,
        }
    }

    fn read_overrides(&self, t: &Texts) -> Result<Map<String, Value>, Vec<String>> {
        let mut errors = Vec::new();
        let mut overrides = match self.raw.as_str() {
            "" => Map::new(),
            raw => read_as(raw.as_bytes()).unwrap_or_else(|error| {
                let detail = t.text_of("mistake-json-object", "detail", &error);
                errors.push(mistake_of(t, &t.text("form-advanced"), &detail));
                Map::new()
            }),
        };
        for field in &self.overrides {
            match field.read(t) {
                Ok(Some(value)) => {
                    overrides.insert(field.name.clone(), value);
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(overrides)
        } else {
            Err(errors)
        }
    }
}

/// Ticked days as a preference writes them.
fn day_list(days: &BTreeSet<String>) -> Option<Value> {
    let day = |day: &String| {
        day.parse::<u8>()
            .map_or_else(|_| json!(day), |day| json!(day))
    };
    let mut days: Vec<&String> = days.iter().collect();
    let place = |day: &String| {
        let weekday = WEEKDAYS.iter().position(|weekday| weekday == day);
        weekday.unwrap_or_else(|| day.parse().unwrap_or(usize::MAX))
    };
    days.sort_by_key(|day| place(day));
    one_or_many(&days.into_iter().map(day).collect::<Vec<_>>())
}

/// A value by itself, several as a list, and of none nothing.
fn one_or_many<T: serde::Serialize>(values: &[T]) -> Option<Value> {
    match values {
        [] => None,
        [only] => Some(json!(only)),
        many => Some(json!(many)),
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::{JobDefaults, JobId, Preference};

    use super::*;
    use crate::store::KnownFeature;

    fn known(defaults: Option<Value>) -> KnownFeature {
        let jobs = defaults.into_iter().map(|defaults| {
            let job = JobDefaults {
                defaults: Preference::parse(defaults.as_object().unwrap()).unwrap(),
                ..JobDefaults::default()
            };
            (JobId::new("posts").unwrap(), job)
        });
        KnownFeature {
            jobs: jobs.collect(),
            ..KnownFeature::default()
        }
    }

    /// The fields of a form as a browser sends them when nothing is touched.
    fn untouched(form: &PreferenceForm) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("frequency".to_owned(), form.frequency.clone()),
            ("interval".to_owned(), form.interval.clone()),
            ("date".to_owned(), form.date.clone()),
            ("start_date".to_owned(), form.start_date.clone()),
            ("end_date".to_owned(), form.end_date.clone()),
            ("paused_until".to_owned(), form.paused_until.clone()),
            ("minute".to_owned(), form.minute.clone()),
            ("zone".to_owned(), form.zone.clone()),
            ("raw".to_owned(), form.raw.clone()),
        ];
        if form.enabled {
            pairs.push(("enabled".to_owned(), "true".to_owned()));
        }
        let days = form.weekdays.iter().map(|day| ("weekday", day));
        let numbers = form.monthdays.iter().filter(|day| !day.contains(' '));
        let days = days.chain(numbers.map(|day| ("monthday", day)));
        let days = days.chain(form.times.iter().map(|time| ("time", time)));
        pairs.extend(days.map(|(name, day)| (name.to_owned(), day.clone())));
        pairs.push(("time".to_owned(), String::new()));
        for (nth, day) in form.counted_days() {
            pairs.push(("nth".to_owned(), nth.to_owned()));
            pairs.push(("nth_day".to_owned(), day.to_owned()));
        }
        let overrides = form.overrides.iter();
        pairs.extend(overrides.map(|field| (format!("o.{}", field.name), field.value.clone())));
        pairs
    }

    #[test]
    fn what_is_not_touched_stays_as_it_was_written() {
        let usual =
            json!({"frequency": "weekly", "preferred_day": "monday", "preferred_time": "10:00"});
        let schema = json!({"properties": {"tone": {"enum": ["dry"]}, "n": {"type": "integer"}}});
        for stored in [
            json!({}),
            json!({"enabled": true}),
            json!({"enabled": true, "timezone": "europe/berlin"}),
            json!({"enabled": true, "frequency": "Weekly", "preferred_day": ["FRI", "mon"]}),
            json!({"enabled": true, "frequency": "hourly", "preferred_time": "9:05", "preferred_day": 3}),
            json!({"enabled": true, "frequency": "monthly", "preferred_day": ["last", "31"], "own": 1}),
            json!({"frequency": "dayly", "preferred_time": 9}),
            json!({"enabled": true, "frequency": "daily", "preferred_time": ["18:00", "9:00"], "interval": 3,
                "start_date": "2026-12-01", "end_date": " 2027-01-31", "paused_until": "2026-12-24T18:00:00+01:00"}),
            json!({"frequency": "monthly", "preferred_day": ["second TUE", 15, "last weekday"], "paused_until": "2026-12-24"}),
            json!({"frequency": "once", "date": "2026-12-24"}),
            json!({"preferred_day": "friday", "template_overrides": {"tone": "odd", "n": "x", "deep": {"a": [1]}}}),
        ] {
            for defaults in [None, Some(usual.clone()), Some(json!({"enabled": true}))] {
                let known = known(defaults);
                let texts = Texts::of(None, None, None);
                let source = Source {
                    t: &texts,
                    stored: stored.as_object(),
                    schema: Some(&schema),
                    known: &known,
                    layer: None,
                    is_organizations: false,
                };
                let form = PreferenceForm::of(&source);
                let sent = form.sent(&texts, &untouched(&form));
                assert_eq!(
                    sent.preference(&source, &form).map(Value::Object),
                    Ok(stored.clone()),
                    "{known:?}"
                );
            }
        }
    }

    #[test]
    fn another_frequency_is_not_held_back_by_what_the_form_hides() {
        let known = known(None);
        let texts = Texts::of(None, None, None);
        for (stored, frequency, expected) in [
            (
                json!({"enabled": true, "frequency": "daily", "preferred_time": ["09:00", "18:30"]}),
                "hourly",
                json!({"enabled": true, "frequency": "hourly", "preferred_time": "00:00"}),
            ),
            (
                json!({"enabled": true, "frequency": "weekly", "interval": 3, "start_date": "2026-12-01"}),
                "biweekly",
                json!({"enabled": true, "frequency": "biweekly", "start_date": "2026-12-01"}),
            ),
            (
                json!({"enabled": true, "frequency": "daily", "interval": 3, "start_date": "2026-12-01",
                    "end_date": "2026-12-20", "date": "2026-12-24"}),
                "once",
                json!({"enabled": true, "frequency": "once", "date": "2026-12-24"}),
            ),
            (
                json!({"enabled": true, "frequency": "once", "date": "2026-12-24", "paused_until": "2026-12-02"}),
                "daily",
                json!({"enabled": true, "frequency": "daily", "paused_until": "2026-12-02"}),
            ),
        ] {
            let source = Source {
                t: &texts,
                stored: stored.as_object(),
                schema: None,
                known: &known,
                layer: None,
                is_organizations: false,
            };
            let filled = PreferenceForm::of(&source);
            let mut pairs = untouched(&filled);
            pairs[0].1 = frequency.to_owned();
            let sent = filled.sent(&texts, &pairs);
            let chosen = sent.preference(&source, &filled).map(Value::Object);
            assert_eq!(chosen, Ok(expected), "{stored}");
        }
    }

    #[test]
    fn an_emptied_field_is_left_to_what_is_usual() {
        let known = known(Some(
            json!({"frequency": "weekly", "preferred_time": "10:00"}),
        ));
        let stored = json!({"enabled": true, "frequency": "monthly", "preferred_day": 3, "preferred_time": "11:00",
            "timezone": "UTC", "own": 1});
        let texts = Texts::of(None, None, None);
        let source = Source {
            t: &texts,
            stored: stored.as_object(),
            schema: None,
            known: &known,
            layer: None,
            is_organizations: false,
        };
        let filled = PreferenceForm::of(&source);
        let mut form = filled.clone();
        assert_eq!(
            form.usual.sentence.as_deref(),
            Some("Every Monday at 10:00, UTC")
        );
        form.reset();
        let reset = form.preference(&source, &filled).map(Value::Object);
        assert_eq!(reset, Ok(json!({"enabled": true, "own": 1})));
    }

    #[test]
    fn what_is_chosen_is_written_as_a_preference_has_it() {
        let known = known(Some(json!({"frequency": "weekly"})));
        let texts = Texts::of(None, None, None);
        let source = Source {
            t: &texts,
            stored: None,
            schema: None,
            known: &known,
            layer: None,
            is_organizations: false,
        };
        let chosen = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let filled = PreferenceForm::of(&source);
            let sent = filled.sent(&texts, &pairs);
            Value::Object(sent.preference(&source, &filled).unwrap())
        };
        assert_eq!(chosen(&[]), json!({}));
        // Left unticked is off, also where the job is on as usual.
        let on = self::known(Some(json!({"enabled": true, "frequency": "daily"})));
        let source_on = Source {
            known: &on,
            ..source
        };
        let pairs = [("time".to_owned(), "09:30".to_owned())];
        let filled = PreferenceForm::of(&source_on);
        let form = filled.sent(&texts, &pairs);
        assert_eq!(
            form.preference(&source_on, &filled).map(Value::Object),
            Ok(json!({"enabled": false, "preferred_time": "09:30"}))
        );
        assert_eq!(
            chosen(&[
                ("enabled", "true"),
                ("weekday", "friday"),
                ("weekday", "tuesday"),
                ("zone", "new york"),
                ("time", "09:30")
            ]),
            json!({"enabled": true, "preferred_day": ["tuesday", "friday"], "timezone": "America/New_York",
                "preferred_time": "09:30"})
        );
        assert_eq!(
            chosen(&[
                ("frequency", "monthly"),
                ("weekday", "friday"),
                ("monthday", "last"),
                ("monthday", "2")
            ]),
            json!({"frequency": "monthly", "preferred_day": [2, "last"]})
        );
        assert_eq!(
            chosen(&[
                ("frequency", "monthly"),
                ("nth", "second"),
                ("nth_day", "tuesday"),
                ("nth", ""),
                ("nth_day", "monday"),
                ("monthday", "15"),
                ("time", "18:00"),
                ("time", "09:00"),
                ("time", ""),
                ("interval", "2"),
                ("start_date", "2026-12-01"),
                ("paused_until", "2026-12-24"),
            ]),
            json!({"frequency": "monthly", "preferred_day": [15, "second tuesday"], "preferred_time": ["18:00", "09:00"],
                "interval": 2, "start_date": "2026-12-01", "paused_until": "2026-12-24"})
        );
        assert_eq!(
            chosen(&[
                ("frequency", "hourly"),
                ("minute", "5"),
                ("time", "09:30"),
                ("weekday", "friday")
            ]),
            json!({"frequency": "hourly", "preferred_time": "00:05"})
        );
    }
}
