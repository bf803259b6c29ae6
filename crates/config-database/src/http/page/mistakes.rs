//! Mistakes in a preference, for those who see the form and not the document, in their language.

use std::iter::once;

use punctual_domain::{Feature, FieldError, FieldErrorKind, FieldErrors, TimeOfDay};

use super::overrides::OverrideField;
use crate::texts::Texts;

/// Who reads about mistakes, and what the form shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'t, 'f> {
    pub(super) t: &'t Texts,
    pub(super) feature: &'f Feature,
    /// Fields of the template overrides; empty: they are called by their names.
    pub(super) fields: &'f [OverrideField],
    /// Whether an operator reads, who can do something with what the schema says.
    pub(super) for_operator: bool,
}

impl Reader<'_, '_> {
    /// All of these mistakes.
    pub(super) fn of_all(&self, errors: &FieldErrors) -> String {
        self.t
            .sentences(errors.0.iter().map(|error| self.of(error)))
    }

    /// The field, and what is wrong with it.
    pub(super) fn of(&self, error: &FieldError) -> String {
        mistake_of(self.t, &self.label(&error.pointer), &self.mistake(error))
    }

    fn label(&self, pointer: &str) -> String {
        let pointer = pointer.trim_start_matches('/');
        let (name, below) = pointer.split_once('/').unwrap_or((pointer, ""));
        match name {
            "frequency" => self.t.text("form-how-often"),
            "preferred_time" => self.t.text("form-time"),
            "preferred_day" => self.t.text("mistake-days"),
            "interval" => self.t.text("form-interval"),
            "date" => self.t.text("form-date"),
            "start_date" => self.t.text("form-start"),
            "end_date" => self.t.text("form-end"),
            "paused_until" => self.t.text("form-paused"),
            "timezone" => self.t.text("form-zone"),
            "enabled" => self.t.text("form-switched-on"),
            "template_overrides" if below.is_empty() => self.t.text("mistake-settings"),
            "template_overrides" => self.label_of(below),
            // Where all preferences of a tenant are checked together.
            "" | "config_value" => self.t.text("mistake-preference"),
            other => other.to_owned(),
        }
    }

    /// What the form calls a property, or a part of one.
    fn label_of(&self, below: &str) -> String {
        let name = below.split('/').next().unwrap_or(below);
        let field = self.fields.iter().find(|field| field.name == name);
        field.map_or_else(|| below.to_owned(), |field| field.label.clone())
    }

    fn mistake(&self, error: &FieldError) -> String {
        use FieldErrorKind as Kind;
        let t = self.t;
        // Of a list, the entry says more: the list may be long.
        let (kind, value) = match &error.kind {
            Kind::Entry(entry) => (&entry.1, entry.0.as_str()),
            kind => (kind, error.value.as_deref().unwrap_or_default()),
        };
        let value = plain(value);
        let about_value = |id: &str| match value.as_str() {
            "" => t.text("mistake-not-allowed"),
            value => t.text_of(id, "value", value),
        };
        let most = |id: &str, most: u64| t.with(id, &[("most", most.into())]);
        let fewest = |id: &str, fewest: u64| t.with(id, &[("fewest", fewest.into())]);
        match kind {
            Kind::Missing => t.text("mistake-missing"),
            Kind::MissingProperty(name) => {
                t.text_of("mistake-property", "name", self.label_of(name))
            }
            Kind::WrongType => about_value("mistake-wrong-type"),
            Kind::NotAFrequency => about_value("mistake-frequency"),
            Kind::NotATimeOfDay => about_value("mistake-time"),
            Kind::NotATimeZone => about_value("mistake-zone"),
            Kind::NotADay => about_value("mistake-day"),
            Kind::NotADate => about_value("mistake-date"),
            Kind::DaysDoNotFit => t.text("mistake-days-unfit"),
            Kind::IntervalDoesNotFit => t.text("mistake-interval-unfit"),
            Kind::MissingStart => t.text("mistake-start-missing"),
            Kind::BeforeStart(start) => {
                t.text_of("mistake-before-start", "start", t.calendar().date(*start))
            }
            Kind::AfterEnd(end) => t.text_of("mistake-after-end", "end", t.calendar().date(*end)),
            Kind::SeveralTimes => t.text("mistake-several-times"),
            Kind::FrequencyNotOffered => {
                let value = t.text(&format!("frequency-{value}"));
                t.text_of("mistake-frequency-not-offered", "value", value)
            }
            Kind::TimeNotOffered => {
                let time: Result<TimeOfDay, ()> = value.parse();
                let time = time.map_or_else(|()| value.clone(), |time| t.calendar().time(time));
                let refused = t.text_of("mistake-time-not-offered", "value", time);
                t.sentences(once(refused).chain(bounds(t, self.feature)))
            }
            Kind::TooLarge(_) => t.text("mistake-too-large"),
            Kind::TooLong(characters) => most("mistake-too-long", *characters),
            Kind::TooShort(characters) => fewest("mistake-too-short", *characters),
            Kind::OutOfRange { least, most } => t.with(
                "mistake-out-of-range",
                &[("least", (*least).into()), ("most", (*most).into())],
            ),
            Kind::TooGreat(number) => t.text_of("mistake-too-great", "most", number),
            Kind::TooSmall(number) => t.text_of("mistake-too-small", "least", number),
            Kind::NotBelow(number) => t.text_of("mistake-not-below", "limit", number),
            Kind::NotAbove(number) => t.text_of("mistake-not-above", "limit", number),
            Kind::NotAMultiple(number) => t.text_of("mistake-not-a-multiple", "number", number),
            Kind::TooManyEntries(entries) => most("mistake-too-many", *entries),
            Kind::TooFewEntries(entries) => fewest("mistake-too-few", *entries),
            Kind::RepeatedEntries => t.text("mistake-repeated"),
            Kind::NotAChoice => about_value("mistake-choice"),
            Kind::WrongFormat => about_value("mistake-format"),
            _ if !self.for_operator && error.pointer.starts_with("/template_overrides") => {
                t.text("mistake-not-allowed")
            }
            _ => {
                let value = error.value.as_ref();
                let value = value.map_or_else(String::new, |value| format!("{value} "));
                let detail = format!("{value}{}; {}", error.problem, error.remedy);
                t.text_of("mistake-other", "detail", detail)
            }
        }
    }
}

/// A field, and what is wrong with it.
pub(super) fn mistake_of(t: &Texts, field: &str, mistake: &str) -> String {
    t.with(
        "mistake-of",
        &[("field", field.into()), ("mistake", mistake.into())],
    )
}

/// Between which times of day a feature may run.
pub(super) fn bounds(t: &Texts, feature: &Feature) -> Vec<String> {
    let bound = |id: &str, time: Option<TimeOfDay>| {
        time.map(|time| t.text_of(id, "time", t.calendar().time(time)))
    };
    let earliest = bound("form-not-before", feature.earliest_time);
    let latest = bound("form-not-after", feature.latest_time);
    earliest.into_iter().chain(latest).collect()
}

/// A value of an error, which is JSON that may have been cut, as people write it.
fn plain(value: &str) -> String {
    let whole = serde_json::from_str::<String>(value).ok();
    whole.unwrap_or_else(|| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use punctual_domain::{Invalid, JobDefaults, Preference};
    use serde_json::{Value, json};

    use super::*;

    /// What is wrong with a preference for a feature that runs daily, weekly or once, not before 6.
    fn said(locale: &str, preference: &Value) -> String {
        let feature = json!({"frequencies": ["daily", "weekly", "once"], "earliest_time": "06:00"});
        let mut fields = punctual_domain::Fields::new(feature.as_object().unwrap(), "");
        let feature = Feature::read(&mut fields);
        let texts = Texts::of(None, Some(locale), None);
        let reader = Reader {
            t: &texts,
            feature: &feature,
            fields: &[],
            for_operator: false,
        };
        let read = Preference::parse(preference.as_object().unwrap());
        let wrong = match read {
            Err(errors) => errors,
            Ok(stored) => match feature.check(&stored, []) {
                Err(errors) => errors,
                Ok(()) => JobDefaults::default().effective(&stored).unwrap_err(),
            },
        };
        reader.of(&wrong.0[0])
    }

    #[test]
    fn what_a_form_can_get_wrong_is_said_in_the_language_of_its_reader() {
        let overrides = json!({"a": "x".repeat(17_000)});
        for (preference, english, german) in [
            (
                json!({}),
                "How often: choose a value.",
                "Wie oft: Bitte wählen Sie einen Wert.",
            ),
            (
                json!({"timezone": "Berlin \"x\""}),
                "Time zone: we don't know the time zone “Berlin \"x\"”. Use a city such as Berlin or New York.",
                "Zeitzone: Die Zeitzone „Berlin \"x\"“ kennen wir nicht. Geben Sie eine Stadt an, zum Beispiel Berlin oder New York.",
            ),
            (
                json!({"preferred_time": "00:75"}),
                "Time: “00:75” is not a time of day. Use a time such as 09:00.",
                "Uhrzeit: „00:75“ ist keine Uhrzeit. Schreiben Sie zum Beispiel 09:00.",
            ),
            (
                json!({"frequency": "monthly"}),
                "How often: “Every month” is not offered here. Choose another one.",
                "Wie oft: „Jeden Monat“ wird hier nicht angeboten. Wählen Sie etwas anderes.",
            ),
            (
                json!({"frequency": "daily", "preferred_time": "5:59"}),
                "Time: 05:59 is not offered here. Not before 06:00.",
                "Uhrzeit: 05:59 Uhr wird hier nicht angeboten. Nicht vor 06:00 Uhr.",
            ),
            (
                json!({"frequency": "daily", "start_date": "24.12.2026"}),
                "First day: “24.12.2026” is not a date. Use a date such as 2026-12-24.",
                "Erster Tag: „24.12.2026“ ist kein Datum. Schreiben Sie zum Beispiel 2026-12-24.",
            ),
            (
                json!({"frequency": "daily", "start_date": "2026-12-24", "end_date": "2026-12-01"}),
                "Last day: this is before the first day, 24 December 2026.",
                "Letzter Tag: Das liegt vor dem ersten Tag, dem 24. Dezember 2026.",
            ),
            (
                json!({"frequency": "once", "date": "2026-11-30", "start_date": "2026-12-01"}),
                "Date: this is before the first day, 1 December 2026.",
                "Datum: Das liegt vor dem ersten Tag, dem 1. Dezember 2026.",
            ),
            (
                json!({"frequency": "once", "date": "2027-01-01", "end_date": "2026-12-31"}),
                "Date: this is after the last day, 31 December 2026.",
                "Datum: Das liegt nach dem letzten Tag, dem 31. Dezember 2026.",
            ),
            (
                json!({"frequency": "daily", "interval": 2}),
                "First day: choose a date. It counts from there.",
                "Erster Tag: Bitte wählen Sie ein Datum. Von dort aus wird gezählt.",
            ),
            (
                json!({"frequency": "daily", "interval": 1_001}),
                "Every how many days, weeks or months: use a whole number from 1 to 1000.",
                "Abstand in Tagen, Wochen oder Monaten: Bitte eine ganze Zahl von 1 bis 1000.",
            ),
            (
                json!({"frequency": "biweekly", "interval": 2}),
                "Every how many days, weeks or months: this doesn't fit how often it runs. Leave it empty.",
                "Abstand in Tagen, Wochen oder Monaten: Das passt nicht zur gewählten Häufigkeit. Bitte lassen Sie es leer.",
            ),
            (
                json!({"frequency": "hourly", "preferred_time": ["09:00", "10:30"]}),
                "Time: choose a single time: “Every hour” uses only its minute.",
                "Uhrzeit: Bitte nur eine Uhrzeit: Bei „Jede Stunde“ zählt nur ihre Minute.",
            ),
            (
                json!({"frequency": "daily", "preferred_time": ["09:00", "25:00"]}),
                "Time: “25:00” is not a time of day. Use a time such as 09:00.",
                "Uhrzeit: „25:00“ ist keine Uhrzeit. Schreiben Sie zum Beispiel 09:00.",
            ),
            (
                json!({"frequency": "weekly", "preferred_day": ["monday", "mo"]}),
                "Days: “mo” is not a day.",
                "Tage: „mo“ ist kein Tag.",
            ),
            (
                json!({"frequency": "daily", "preferred_time": vec!["09:00"; 25]}),
                "Time: use at most 24 entries.",
                "Uhrzeit: Bitte höchstens 24 Angaben.",
            ),
            (
                json!({"frequency": "weekly", "preferred_day": 3}),
                "Days: these days don't fit how often it runs.",
                "Tage: Diese Tage passen nicht zur gewählten Häufigkeit.",
            ),
            (
                json!({ "template_overrides": overrides }),
                "Settings: this is too long to be saved. Shorten it.",
                "Angaben: Das ist zu lang, um gespeichert zu werden. Bitte kürzen Sie es.",
            ),
        ] {
            assert_eq!(said("en-GB", &preference), english);
            assert_eq!(said("de", &preference), german);
        }
        let other = said("de", &json!({"own": 1e300}));
        assert!(other.contains("loses digits"), "{other}");
        // Japanese sentences have no space between.
        let both = |locale| {
            let texts = Texts::of(None, Some(locale), None);
            texts.sentences(["一。".to_owned(), "二。".to_owned()])
        };
        assert_eq!(
            (both("ja").as_str(), both("de").as_str()),
            ("一。二。", "一。 二。")
        );
    }

    #[test]
    fn what_a_schema_does_not_take_is_said_in_the_language_of_its_reader() {
        let invalid = || Invalid::new("is not taken", "see the schema");
        let value = json!("x");
        for (kind, pointer, german) in [
            (
                FieldErrorKind::WrongFormat,
                "/template_overrides/tone",
                "tone: „x“ hat nicht die verlangte Form.",
            ),
            (
                FieldErrorKind::NotAChoice,
                "/template_overrides/tone",
                "tone: „x“ steht nicht zur Auswahl.",
            ),
            (
                FieldErrorKind::NotBelow("10".into()),
                "/template_overrides/tone",
                "tone: Bitte eine Zahl unter 10.",
            ),
            (
                FieldErrorKind::NotAbove("0".into()),
                "/template_overrides/tone",
                "tone: Bitte eine Zahl über 0.",
            ),
            (
                FieldErrorKind::NotAMultiple("5".into()),
                "/template_overrides/tone",
                "tone: Bitte ein Vielfaches von 5.",
            ),
            (
                FieldErrorKind::Other,
                "/template_overrides",
                "Angaben: Dieser Wert ist hier nicht erlaubt.",
            ),
            (
                FieldErrorKind::Other,
                "/config_value",
                "Einstellung: Das wird nicht angenommen (\"x\" is not taken; see the schema).",
            ),
        ] {
            let error = invalid().of_kind(kind).at(pointer, Some(&value));
            let texts = Texts::of(None, Some("de"), None);
            let feature = Feature::default();
            let reader = Reader {
                t: &texts,
                feature: &feature,
                fields: &[],
                for_operator: false,
            };
            assert_eq!(reader.of(&error), german);
            let operator = Reader {
                for_operator: true,
                ..reader
            };
            let has_detail = operator.of(&error).contains("see the schema");
            assert_eq!(has_detail, error.kind == FieldErrorKind::Other, "{error}");
        }
    }
}
