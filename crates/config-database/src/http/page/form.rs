//! A preference as a form: filled from what is stored, and read back. An empty field is what is usual: what the feature's job makes
//! of a preference that leaves it out. What was not touched is stored as it was, however it was written.

use std::{collections::BTreeSet, iter::once};

use chrono::{NaiveDate, Weekday};
use punctual_domain::{Feature, FieldErrors, JobDefaults, Preference, Slot, Zone};
use serde_json::{Map, Value, json};

use super::{
    mistakes::{Reader, mistake_of},
    overrides::{OverrideField, plain, pretty},
};
use crate::{
    json::read_as,
    plan::Plan,
    sentence::{days_of, sentence, times, zone_name},
    store::KnownFeature,
    texts::Texts,
};

/// Frequencies as the form offers them.
const FREQUENCIES: [&str; 6] = ["hourly", "daily", "weekly", "biweekly", "monthly", "once"];
const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
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
    overrides: Map<String, Value>,
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
fn slot_of(job: &JobDefaults, preference: &Value) -> Option<Slot> {
    let preference = Preference::parse(preference.as_object()?).ok()?;
    Some(job.effective(&preference).ok()?.slot)
}

/// What a form is filled from.
#[derive(Debug)]
pub(super) struct Source<'s> {
    pub(super) t: &'s Texts,
    pub(super) stored: Option<&'s Map<String, Value>>,
    pub(super) schema: Option<&'s Value>,
    pub(super) known: &'s KnownFeature,
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
        let usual = Usual::of(t, known);
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
            enabled: stored.is_some_and(|stored| Plan::of(stored, known).enabled()),
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
            detect_zone: stored.is_none(),
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
        if changes && Plan::of(&preference, source.known).enabled() != self.enabled {
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

    pub(super) fn is_hourly(&self) -> bool {
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

    /// Shows what is wrong with what was sent, to an operator or to a tenant.
    pub(super) fn add_errors(
        &mut self,
        t: &Texts,
        feature: &Feature,
        for_operator: bool,
        errors: &FieldErrors,
    ) {
        for error in &errors.0 {
            let reader = Reader {
                t,
                feature,
                fields: &self.overrides,
                for_operator,
            };
            let said = reader.of(error);
            self.errors.push(said);
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
/// one zone's alone.
fn zone_of(t: &Texts, text: &str) -> String {
    if text.is_empty() || text.parse::<Zone>().is_ok() {
        return text.to_owned();
    }
    let wanted = text.replace(' ', "_");
    let mut cities = Zone::names().filter(|name| {
        let city = name.rsplit_once('/').map(|(_, city)| city);
        city.is_some_and(|city| city.eq_ignore_ascii_case(&wanted))
    });
    match (cities.next(), cities.next()) {
        (Some(only), None) => only,
        _ => t.calendar().zone_of_city(text).unwrap_or(text).to_owned(),
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
    use punctual_domain::JobId;

    use super::*;

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
            ("fr", "Wien", "Wien"),
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
    fn what_can_be_read_is_shown_as_it_is_read_whatever_is_wrong_beside_it() {
        let stored = json!({"frequency": "montly", "preferred_day": "Second TUE", "start_date": " 2026-12-01", "end_date": "soon"});
        let texts = Texts::of(None, None, None);
        let form = PreferenceForm::of(&Source {
            t: &texts,
            stored: stored.as_object(),
            schema: None,
            known: &known(None),
        });
        assert_eq!(form.counted_days()[0], ("second", "tuesday"));
        assert_eq!(form.start_date, "2026-12-01");
        assert_eq!(form.date_input(&form.start_date), "date");
        assert_eq!(form.date_input(&form.end_date), "text");
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
