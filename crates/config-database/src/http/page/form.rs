//! A preference as a form: filled from what is stored, and as it was sent. An empty field is what is usual: what the feature's job
//! makes of a preference that leaves it out. What is chosen in it, [`chosen`](super::chosen) reads back.

use std::{collections::BTreeSet, iter::once};

use chrono::{NaiveDate, Weekday};
use punctual_domain::{Feature, FieldErrors, Preference, Zone};
use serde_json::{Map, Value};

use super::{
    mistakes::Reader,
    overrides::{OverrideField, plain, pretty},
    usual::Usual,
};
use crate::{layers::merge_within, plan::Plan, store::KnownFeature, texts::Texts};

/// Frequencies as the form offers them.
const FREQUENCIES: [&str; 6] = ["hourly", "daily", "weekly", "biweekly", "monthly", "once"];
/// Days of the week as a preference writes them.
pub(super) const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
/// What names of zones end with that is not the name of a city, nor of another place: `Brazil/East` and `Canada/Atlantic`.
const NOT_PLACES: [&str; 6] = [
    "Atlantic",
    "Continental",
    "East",
    "General",
    "North",
    "South",
];
/// Which one of the month a weekday may be.
const NTHS: [&str; 5] = ["first", "second", "third", "fourth", "last"];

/// The days of the week as a preference writes them, with their names, in the order of the reader's calendar.
pub(super) fn week(t: &Texts) -> Vec<(&'static str, String)> {
    let day = |day: Weekday| {
        let word = WEEKDAYS[day.num_days_from_monday() as usize];
        (word, t.calendar().weekday(day))
    };
    t.calendar().week().map(day).collect()
}

/// Which one of the month a weekday may be, as a preference writes it and in the words of the form; the first one is none.
pub(super) fn nths(t: &Texts) -> Vec<(&'static str, String)> {
    let nth = |word: &'static str| (word, t.text(&format!("form-nth-{word}")));
    let none = ("", t.text("form-nth-none"));
    once(none).chain(NTHS.into_iter().map(nth)).collect()
}

/// What a form is filled from.
#[derive(Debug)]
pub(super) struct Source<'s> {
    pub(super) t: &'s Texts,
    pub(super) stored: Option<&'s Map<String, Value>>,
    pub(super) schema: Option<&'s Value>,
    pub(super) known: &'s KnownFeature,
    /// What the tenant's organization says of the feature; `None`: nothing.
    pub(super) layer: Option<&'s Map<String, Value>>,
    /// Whether the form is that of an organization, for its members.
    pub(super) is_organizations: bool,
}

impl Source<'_> {
    /// A preference over what the tenant's organization says; `None`: neither says anything.
    pub(super) fn in_effect(&self, own: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
        let merged = self.layer.and_then(|layer| merge_within(own, layer));
        merged.map_or_else(|| own.cloned(), |(merged, _)| Some(merged))
    }

    /// Whether the feature is on with what is stored. For members of an organization that says nothing of it, it is as usual.
    fn is_on(&self) -> bool {
        let in_effect = self.in_effect(self.stored);
        let in_effect = in_effect.or(self.is_organizations.then(Map::new));
        in_effect.is_some_and(|preference| Plan::of(&preference, self.known).enabled())
    }
}

/// The form.
#[derive(Debug, Default, Clone)]
pub(super) struct PreferenceForm {
    pub(super) enabled: bool,
    /// Empty: as usual.
    pub(super) frequency: String,
    pub(super) weekdays: BTreeSet<String>,
    pub(super) monthdays: BTreeSet<String>,
    pub(super) times: Vec<String>,
    /// The minute of every hour.
    pub(super) minute: String,
    pub(super) interval: String,
    pub(super) date: String,
    pub(super) start_date: String,
    pub(super) end_date: String,
    pub(super) paused_until: String,
    pub(super) zone: String,
    /// Nothing is stored yet: the browser's zone is the better guess.
    pub(super) detect_zone: bool,
    pub(super) overrides: Vec<OverrideField>,
    pub(super) raw: String,
    /// What the form was filled from, to notice who else has changed it.
    pub(super) version: String,
    pub(super) usual: Usual,
    /// The frequencies that the feature offers, and one that is stored.
    pub(super) frequencies: Vec<(&'static str, String)>,
    pub(super) errors: Vec<String>,
    wrong: Vec<String>,
}

impl PreferenceForm {
    /// The form of what is stored.
    pub(super) fn of(source: &Source<'_>) -> Self {
        let Source {
            t,
            stored,
            schema,
            known,
            layer,
            is_organizations,
        } = source;
        let empty = Map::new();
        let preference = stored.unwrap_or(&empty);
        let fields: Value = preference.iter().map(as_read).collect();
        let value = |name: &str| match &fields[name] {
            Value::Null => String::new(),
            value => plain(value),
        };
        let values = |name: &str| -> Vec<String> {
            match &fields[name] {
                Value::Array(values) => values.iter().map(plain).collect(),
                Value::Null => Vec::new(),
                value => vec![plain(value)],
            }
        };
        let (weekdays, monthdays) = values("preferred_day")
            .into_iter()
            .partition(|day| WEEKDAYS.contains(&day.as_str()));
        let times = values("preferred_time");
        let usual = Usual::of(t, known, *layer);
        let frequency = value("frequency");
        let overrides = overrides_of(*stored);
        let fields = OverrideField::all(t, *schema, &overrides, &usual.overrides);
        let mut rest = overrides;
        rest.retain(|name, _| !fields.iter().any(|field| field.name == *name));
        let offered: Vec<&str> = known.feature.frequencies().collect();
        let frequencies = FREQUENCIES
            .into_iter()
            .filter(|word| offered.contains(word) || *word == frequency)
            .map(|word| (word, t.text(&format!("frequency-{word}"))))
            .collect();
        let mut form = Self {
            enabled: source.is_on(),
            frequency,
            weekdays,
            monthdays,
            minute: times
                .first()
                .and_then(|time| time.rsplit_once(':'))
                .map_or_else(String::new, |(_, minute)| {
                    minute.trim_start_matches('0').to_owned()
                }),
            times,
            interval: value("interval"),
            date: value("date"),
            start_date: value("start_date"),
            end_date: value("end_date"),
            paused_until: value("paused_until"),
            zone: value("timezone"),
            detect_zone: stored.is_none() && !is_organizations && !usual.is_of_organization("zone"),
            overrides: fields,
            raw: if rest.is_empty() {
                String::new()
            } else {
                pretty(&Value::Object(rest))
            },
            version: version_of(*stored),
            usual,
            frequencies,
            ..Self::default()
        };
        if !form.times.is_empty() && form.minute.is_empty() {
            "0".clone_into(&mut form.minute);
        }
        form
    }

    /// This form as it was sent.
    pub(super) fn sent(&self, t: &Texts, pairs: &[(String, String)]) -> Self {
        let all = |name: &str| -> Vec<String> {
            let named = pairs.iter().filter(|(given, _)| given == name);
            let values = named.map(|(_, value)| value.trim().replace("\r\n", "\n"));
            values.collect()
        };
        let one = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let counted = all("nth").into_iter().zip(all("nth_day"));
        let counted = counted
            .filter(|(nth, _)| !nth.is_empty())
            .map(|(nth, day)| format!("{nth} {day}"));
        let mut form = self.clone();
        for field in &mut form.overrides {
            field.take(&all(&format!("o.{}", field.name)));
        }
        Self {
            enabled: one("enabled") == "true",
            frequency: one("frequency"),
            weekdays: all("weekday").into_iter().collect(),
            monthdays: all("monthday").into_iter().chain(counted).collect(),
            times: all("time")
                .into_iter()
                .filter(|time| !time.is_empty())
                .collect(),
            minute: one("minute"),
            interval: one("interval"),
            date: one("date"),
            start_date: one("start_date"),
            end_date: one("end_date"),
            paused_until: one("paused_until"),
            zone: zone_of(t, &one("zone")),
            raw: one("raw"),
            version: one("version"),
            detect_zone: false,
            ..form
        }
    }

    /// Leaves everything to what is usual.
    pub(super) fn reset(&mut self) {
        if !self.usual.frequency.is_empty() {
            self.frequency.clear();
        }
        self.weekdays.clear();
        self.monthdays.clear();
        self.times.clear();
        for field in [
            &mut self.minute,
            &mut self.interval,
            &mut self.date,
            &mut self.start_date,
            &mut self.end_date,
            &mut self.paused_until,
            &mut self.zone,
        ] {
            field.clear();
        }
        self.raw.clear();
        for field in &mut self.overrides {
            field.value.clear();
        }
    }

    /// Shows what is wrong with what was sent, to an operator or to a tenant.
    pub(super) fn add_errors(
        &mut self,
        t: &Texts,
        feature: &Feature,
        for_operator: bool,
        errors: &FieldErrors,
    ) {
        let reader = Reader {
            t,
            feature,
            fields: &self.overrides,
            for_operator,
        };
        for error in &errors.0 {
            self.errors.push(reader.of(error));
            let name = error.pointer.split('/').nth(1).unwrap_or_default();
            self.wrong.push(name.to_owned());
        }
    }

    pub(super) fn has_day(&self, day: &str) -> bool {
        self.weekdays.contains(day) || self.monthdays.contains(day)
    }

    /// The weekdays that are counted within the month, such as `second` and `tuesday`, and a row for another one.
    pub(super) fn counted_days(&self) -> Vec<(&str, &str)> {
        let counted = self.monthdays.iter().filter_map(|day| day.split_once(' '));
        counted.chain([("", "")]).collect()
    }

    /// The times, and a field for another one; the first one stands by itself.
    pub(super) fn more_times(&self) -> impl Iterator<Item = &str> {
        let more = self.times.iter().skip(1).map(String::as_str);
        more.chain((!self.times.is_empty()).then_some(""))
    }

    /// The kind of input that can show a date, or what stands in place of one.
    pub(super) fn date_input(&self, value: &str) -> &'static str {
        match value.parse::<NaiveDate>() {
            Err(_) if !value.is_empty() => "text",
            _ => "date",
        }
    }

    pub(super) fn is_wrong(&self, field: &str) -> bool {
        self.wrong.iter().any(|wrong| wrong == field)
    }
}

/// A field as it is read; as it stands where it cannot be.
fn as_read((name, value): (&String, &Value)) -> (String, Value) {
    let alone = Map::from_iter([(name.clone(), value.clone())]);
    let read = Preference::parse(&alone)
        .ok()
        .and_then(|read| read.to_json().get(name).cloned());
    (name.clone(), read.unwrap_or_else(|| value.clone()))
}

/// The zone that a text names: its name, or the city at the end of it, in English or in the language of the reader, where that is
/// one zone's alone. The `GMT-5` of `Etc/GMT-5` is none: people mean five hours behind UTC by it, and the zone is ahead.
fn zone_of(t: &Texts, text: &str) -> String {
    if text.is_empty() || text.parse::<Zone>().is_ok() {
        return text.to_owned();
    }
    let wanted = text.replace(' ', "_");
    let mut cities = Zone::names().filter(|name| {
        let parts = name.rsplit_once('/');
        parts.is_some_and(|(area, city)| {
            area != "Etc" && !NOT_PLACES.contains(&city) && city.eq_ignore_ascii_case(&wanted)
        })
    });
    match (cities.next(), cities.next()) {
        (Some(only), None) => only,
        _ => t.calendar().zone_of_city(text).unwrap_or(text).to_owned(),
    }
}

fn overrides_of(stored: Option<&Map<String, Value>>) -> Map<String, Value> {
    stored
        .and_then(|stored| stored.get("template_overrides")?.as_object())
        .cloned()
        .unwrap_or_default()
}

/// Tells one stored preference from another.
pub(super) fn version_of(stored: Option<&Map<String, Value>>) -> String {
    let text = stored.map_or_else(String::new, |stored| {
        Value::Object(stored.clone()).to_string()
    });
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_zone_is_found_by_the_name_of_its_city_in_the_language_of_the_reader() {
        for (locale, city, zone) in [
            ("en", "new york", "America/New_York"),
            ("es", "new york", "America/New_York"),
            ("es", "Nueva York", "America/New_York"),
            ("es", "tokio", "Asia/Tokyo"),
            ("pt-BR", "são paulo", "America/Sao_Paulo"),
            ("pt-BR", "Sao Paulo", "America/Sao_Paulo"),
            ("de", "Wien", "Europe/Vienna"),
            ("fr", "Londres", "Europe/London"),
            ("ja", "東京", "Asia/Tokyo"),
            ("en", "honolulu", "Pacific/Honolulu"),
            ("en", "hawaii", "US/Hawaii"),
            ("fr", "Wien", "Wien"),
            ("en", "GMT-5", "GMT-5"),
            ("de", "gmt+2", "gmt+2"),
            ("en", "East", "East"),
            ("en", "Atlantic", "Atlantic"),
            ("de", "", ""),
        ] {
            let texts = Texts::of(None, Some(locale), None);
            assert_eq!(zone_of(&texts, city), zone, "{locale}: {city}");
        }
        // The cities that the pages name.
        for (locale, cities) in [
            ("en", ["Berlin", "New York"]),
            ("de", ["Berlin", "New York"]),
            ("fr", ["Paris", "New York"]),
            ("es", ["Madrid", "Nueva York"]),
            ("pt", ["São Paulo", "Nova York"]),
            ("ja", ["Tokyo", "New York"]),
        ] {
            let texts = Texts::of(None, Some(locale), None);
            let hint = texts.text("form-zone-hint");
            let remedy = texts.text_of("mistake-zone", "value", "x");
            for city in cities {
                assert!(
                    hint.contains(city) && remedy.contains(city),
                    "{locale}: {city}"
                );
                let zone = zone_of(&texts, city);
                assert!(zone.parse::<Zone>().is_ok(), "{locale}: {city}");
            }
        }
    }

    #[test]
    fn what_is_too_large_over_the_organizations_is_shown_without_it_as_it_runs() {
        let texts = Texts::of(None, None, None);
        let overrides = |name: &str| json!({name: "x".repeat(10_000)});
        let layer = json!({"enabled": false, "template_overrides": overrides("a")});
        let own = json!({"enabled": true, "template_overrides": overrides("b")});
        let known = KnownFeature::default();
        let source = Source {
            t: &texts,
            stored: own.as_object(),
            schema: None,
            known: &known,
            layer: layer.as_object(),
            is_organizations: false,
        };
        assert_eq!(source.in_effect(source.stored), own.as_object().cloned());
        assert_eq!(source.in_effect(None), layer.as_object().cloned());
        let small = json!({"frequency": "daily"});
        let in_effect = source.in_effect(small.as_object()).unwrap();
        assert!(
            in_effect.contains_key("template_overrides") && in_effect.contains_key("frequency")
        );
    }

    #[test]
    fn what_can_be_read_is_shown_as_it_is_read_whatever_is_wrong_beside_it() {
        let stored = json!({"frequency": "montly", "preferred_day": "Second TUE", "start_date": " 2026-12-01", "end_date": "soon"});
        let texts = Texts::of(None, None, None);
        let form = PreferenceForm::of(&Source {
            t: &texts,
            stored: stored.as_object(),
            schema: None,
            known: &KnownFeature::default(),
            layer: None,
            is_organizations: false,
        });
        assert_eq!(form.counted_days()[0], ("second", "tuesday"));
        assert_eq!(form.start_date, "2026-12-01");
        assert_eq!(form.date_input(&form.start_date), "date");
        assert_eq!(form.date_input(&form.end_date), "text");
    }
}
