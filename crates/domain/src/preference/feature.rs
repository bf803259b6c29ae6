//! A feature, as the Config Database keeps it: what people call it, and what a preference for it may say.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    day::Frequency,
    language::LanguageTag,
    stored::Preference,
    values::{parse_frequency, parse_time},
};
use crate::{
    input::{
        errors::{FieldErrorKind, FieldErrors, Invalid},
        fields::{Fields, below, object_at},
        values::{boolean, text},
    },
    time::times::TimeOfDay,
};

/// Characters of a title, and of a description.
const MAX_TITLE: usize = 100;
const MAX_DESCRIPTION: usize = 1_000;
/// Languages of a feature's texts.
const MAX_LOCALES: usize = 100;

/// What people call a feature, and what a preference for it may say. Everything may be missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Feature {
    /// Its name for people, at most 100 characters.
    pub title: Option<String>,
    /// What it does for them, at most 1,000 characters.
    pub description: Option<String>,
    /// How often it may run; `None`: as often as there is.
    frequencies: Option<Vec<Frequency>>,
    /// The earliest time of day that may be chosen. Hourly runs are not bounded.
    pub earliest_time: Option<TimeOfDay>,
    /// The latest time of day that may be chosen.
    pub latest_time: Option<TimeOfDay>,
    /// Whether tenants see on its page what has run for them.
    pub show_runs: bool,
    /// Title and description in other languages, at most 100.
    pub locales: BTreeMap<LanguageTag, FeatureTexts>,
}

/// Texts of a feature in one language. For what is missing, the text of the feature stands in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureTexts {
    /// Its name for people, at most 100 characters.
    pub title: Option<String>,
    /// What it does for them, at most 1,000 characters.
    pub description: Option<String>,
}

impl Feature {
    /// Reads the fields of a feature out of `fields`. What is wrong is collected there.
    pub fn read(fields: &mut Fields<'_>) -> Self {
        let frequencies = fields.optional("frequencies", |value| {
            let words = value.as_array().filter(|words| !words.is_empty());
            let words = words.ok_or_else(|| {
                Invalid::wrong_type("a list such as [\"daily\", \"weekly\"], or leave it out")
            })?;
            words.iter().map(parse_frequency).collect()
        });
        let feature = Self {
            title: fields.optional("title", title),
            description: fields.optional("description", description),
            frequencies,
            earliest_time: fields.optional("earliest_time", parse_time),
            latest_time: fields.optional("latest_time", parse_time),
            show_runs: fields.optional("show_runs", boolean).unwrap_or_default(),
            locales: fields.nested("locales", read_locales).unwrap_or_default(),
        };
        if let (Some(earliest), Some(latest)) = (feature.earliest_time, feature.latest_time)
            && earliest > latest
        {
            let problem = format!("is before earliest_time, {earliest}");
            fields.complain(
                "latest_time",
                Invalid::new(problem, "use a later time of day"),
            );
        }
        feature
    }

    /// The fields that are not missing, as JSON that [`read`](Self::read) reads.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let words = |all: &Vec<Frequency>| all.iter().map(|one| json!(one.word())).collect();
        let time = |time: TimeOfDay| json!(time.to_string());
        present([
            ("title", self.title.as_ref().map(|title| json!(title))),
            (
                "description",
                self.description.as_ref().map(|text| json!(text)),
            ),
            ("frequencies", self.frequencies.as_ref().map(words)),
            ("earliest_time", self.earliest_time.map(time)),
            ("latest_time", self.latest_time.map(time)),
            ("show_runs", self.show_runs.then_some(json!(true))),
            (
                "locales",
                (!self.locales.is_empty()).then(|| {
                    let texts = |(language, texts): (&LanguageTag, &FeatureTexts)| {
                        (language.to_string(), texts.to_json())
                    };
                    Value::Object(self.locales.iter().map(texts).collect())
                }),
            ),
        ])
    }

    /// Its name for people in a language, such as `de-AT`: in that language, else in a more general one (`de`) or in that of
    /// another region (`de-CH`), else the title.
    #[must_use]
    pub fn title_in(&self, language: &str) -> Option<&str> {
        let translated = self.text_in(language, |texts| texts.title.as_deref());
        translated.or(self.title.as_deref())
    }

    /// What it does for people, in a language; which text that is, [`title_in`](Self::title_in) says.
    #[must_use]
    pub fn description_in(&self, language: &str) -> Option<&str> {
        let translated = self.text_in(language, |texts| texts.description.as_deref());
        translated.or(self.description.as_deref())
    }

    fn text_in<'f>(
        &'f self,
        language: &str,
        text: impl Fn(&'f FeatureTexts) -> Option<&'f str>,
    ) -> Option<&'f str> {
        let known = self.locales.keys().map(LanguageTag::as_str);
        LanguageTag::best(known, language, |known| {
            let texts = self.locales.iter().find(|(tag, _)| tag.as_str() == known);
            texts.and_then(|(_, texts)| text(texts))
        })
    }

    /// The frequencies that may be chosen, as a preference writes them.
    pub fn frequencies(&self) -> impl Iterator<Item = &'static str> {
        Frequency::ALL
            .into_iter()
            .filter(|frequency| self.takes(*frequency))
            .map(Frequency::word)
    }

    fn takes(&self, frequency: Frequency) -> bool {
        self.frequencies
            .as_ref()
            .is_none_or(|allowed| allowed.contains(&frequency))
    }

    /// Checks that a preference says nothing that the feature does not take. `usual` are the defaults of the feature's jobs: the
    /// times of hourly runs are not bounded.
    ///
    /// # Errors
    /// Each field that says so, with pointers from the preference.
    pub fn check<'d>(
        &self,
        preference: &Preference,
        usual: impl IntoIterator<Item = &'d Preference>,
    ) -> Result<(), FieldErrors> {
        let mut errors = Vec::new();
        if let Some(frequency) = preference.frequency
            && !self.takes(frequency)
        {
            let allowed: Vec<&str> = self.frequencies().collect();
            let invalid = Invalid::new(
                "is not offered by this feature",
                format!("use one of {}", allowed.join(", ")),
            )
            .of_kind(FieldErrorKind::FrequencyNotOffered);
            errors.push(invalid.at("/frequency", Some(&json!(frequency.word()))));
        }
        let not_offered = |time: &TimeOfDay| {
            self.earliest_time.is_some_and(|earliest| *time < earliest)
                || self.latest_time.is_some_and(|latest| *time > latest)
        };
        if let Some(times) = &preference.preferred_time
            && !is_hourly(preference.frequency, usual)
            && let Some(time) = times.iter().find(not_offered)
        {
            let bound = |word: &str, time: Option<TimeOfDay>| {
                time.map_or_else(String::new, |time| format!(" {word} {time}"))
            };
            let remedy = format!(
                "use a time{}{}",
                bound("from", self.earliest_time),
                bound("to", self.latest_time)
            );
            let invalid = Invalid::new("is a time that this feature does not offer", remedy)
                .of_kind(FieldErrorKind::TimeNotOffered);
            errors.push(invalid.at("/preferred_time", Some(&json!(time.to_string()))));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(FieldErrors(errors))
        }
    }
}

/// Whether a frequency is hourly, or where it is left open that of one of these.
fn is_hourly<'d>(
    frequency: Option<Frequency>,
    usual: impl IntoIterator<Item = &'d Preference>,
) -> bool {
    match frequency {
        Some(frequency) => frequency == Frequency::Hourly,
        None => usual
            .into_iter()
            .any(|usual| usual.frequency == Some(Frequency::Hourly)),
    }
}

impl FeatureTexts {
    fn to_json(&self) -> Value {
        Value::Object(present([
            ("title", self.title.as_ref().map(|title| json!(title))),
            (
                "description",
                self.description.as_ref().map(|text| json!(text)),
            ),
        ]))
    }
}

fn read_locales(
    value: &Value,
    pointer: &str,
) -> Result<BTreeMap<LanguageTag, FeatureTexts>, FieldErrors> {
    let object = object_at(value, pointer)?;
    if object.len() > MAX_LOCALES {
        let problem = format!("has {} languages", object.len());
        let invalid = Invalid::new(problem, format!("name at most {MAX_LOCALES}"));
        return Err(invalid.at(pointer, None).into());
    }
    let read = |(tag, texts): (&String, &Value)| -> Result<_, FieldErrors> {
        let pointer = below(pointer, tag);
        let language = tag.parse::<LanguageTag>().map_err(|_| {
            let remedy = "use one such as `de` or `pt-BR`";
            Invalid::new("is not a valid language tag", remedy).at(&pointer, Some(&json!(tag)))
        })?;
        let mut fields = Fields::new(object_at(texts, &pointer)?, pointer);
        let texts = FeatureTexts {
            title: fields.optional("title", title),
            description: fields.optional("description", description),
        };
        fields.deny_others();
        fields.finish(|| Some((language, texts)))
    };
    let read = FieldErrors::collect(object.iter().map(read))?;
    Ok(read.into_iter().collect())
}

/// The fields that are not missing.
fn present<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn title(value: &Value) -> Result<String, Invalid> {
    short_text(value, MAX_TITLE)
}

fn description(value: &Value) -> Result<String, Invalid> {
    short_text(value, MAX_DESCRIPTION)
}

fn short_text(value: &Value, longest: usize) -> Result<String, Invalid> {
    let text = text(value)?.trim();
    if text.is_empty() || text.chars().count() > longest || text.contains('\0') {
        return Err(Invalid::new(
            "is empty or too long",
            format!("use 1 to {longest} characters, or leave it out"),
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(value: &Value) -> Result<Feature, FieldErrors> {
        let mut fields = Fields::new(value.as_object().unwrap(), "");
        let feature = Feature::read(&mut fields);
        fields.finish(|| Some(feature))
    }

    fn preference(value: Value) -> Preference {
        Preference::parse(value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_feature_reads_back_what_it_writes() {
        let json = json!({"title": "Posts", "description": "One a day", "frequencies": ["daily", "weekly"],
            "earliest_time": "06:00", "latest_time": "22:00", "show_runs": true});
        let read = feature(&json).unwrap();
        assert_eq!(Value::Object(read.to_json()), json);
        assert_eq!(read.frequencies().collect::<Vec<_>>(), ["daily", "weekly"]);
        assert_eq!(feature(&json!({})).unwrap(), Feature::default());
        assert_eq!(Feature::default().frequencies().count(), 6);
    }

    #[test]
    fn texts_of_a_language_stand_in_for_those_of_its_regions() {
        let json = json!({"title": "Posts", "description": "One a day", "locales": {
            "de": {"title": "Beiträge"}, "pt-BR": {"title": "Postagens", "description": "Uma por dia"},
            "de-CH": {"title": "Beiträge (CH)"}}});
        let feature = feature(&json).unwrap();
        assert_eq!(Value::Object(feature.to_json()), json);
        for (language, title, description) in [
            ("de", "Beiträge", "One a day"),
            ("de-AT", "Beiträge", "One a day"),
            ("DE-ch", "Beiträge (CH)", "One a day"),
            ("pt", "Postagens", "Uma por dia"),
            ("pt-PT", "Postagens", "Uma por dia"),
            ("d", "Posts", "One a day"),
            ("en-001", "Posts", "One a day"),
        ] {
            assert_eq!(feature.title_in(language), Some(title), "{language}");
            assert_eq!(
                feature.description_in(language),
                Some(description),
                "{language}"
            );
        }
        assert_eq!(Feature::default().title_in("de"), None);
    }

    #[test]
    fn what_is_wrong_with_the_texts_of_a_language_is_named() {
        let wrong = feature(&json!({"locales": {"german": {}, "de": {"titel": "x"}, "fr": 1}}));
        let shown = wrong.unwrap_err().to_string();
        for part in ["/locales/german", "/locales/de/titel", "/locales/fr"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let tags = |count: u8| (0..count).map(|n| (format!("a{}", char::from(b'a' + n % 26)), n));
        let many: Map<String, Value> = tags(101)
            .map(|(tag, n)| (format!("{tag}-{n}"), json!({})))
            .collect();
        let wrong = feature(&json!({ "locales": many }))
            .unwrap_err()
            .to_string();
        assert!(
            wrong.contains("has 101 languages; name at most 100"),
            "{wrong}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_feature_names_field_and_remedy() {
        let wrong = feature(
            &json!({"title": "", "frequencies": [], "earliest_time": "22:00", "latest_time": "6:00", "show_runs": "yes"}),
        );
        let shown = wrong.unwrap_err().to_string();
        for part in [
            "/title",
            "/frequencies",
            "/show_runs",
            "/latest_time: \"6:00\" is before earliest_time, 22:00",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_preference_says_only_what_the_feature_offers() {
        let feature = feature(&json!({"frequencies": ["daily", "hourly"], "earliest_time": "06:00", "latest_time": "22:00"}))
            .unwrap();
        let check = |value: Value| {
            let checked = feature.check(&preference(value), []);
            checked.map_err(|errors| errors.to_string())
        };
        assert_eq!(
            check(json!({"frequency": "daily", "preferred_time": "06:00"})),
            Ok(())
        );
        assert_eq!(
            check(json!({"frequency": "hourly", "preferred_time": "00:30"})),
            Ok(())
        );
        assert_eq!(check(json!({})), Ok(()));
        let (at_night, hourly) = (
            json!({"preferred_time": "00:30"}),
            json!({"frequency": "hourly"}),
        );
        assert!(check(at_night.clone()).is_err());
        assert_eq!(
            feature.check(&preference(at_night), [&preference(hourly)]),
            Ok(())
        );
        assert_eq!(
            check(json!({"frequency": "weekly", "preferred_time": "22:01"})).unwrap_err(),
            "/frequency: \"weekly\" is not offered by this feature; use one of hourly, daily | \
             /preferred_time: \"22:01\" is a time that this feature does not offer; use a time from 06:00 to 22:00"
        );
    }
}
