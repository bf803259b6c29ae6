//! A preference as a form: filled from what is stored, and read back. Overrides become fields by the feature's
//! schema; whatever the schema does not describe stays JSON.

use punctual_domain::{FieldErrors, MergedPreference};
use serde_json::{Map, Value, json};

use super::runs::merged;
use crate::json::{read, read_as};

pub(super) const FREQUENCIES: [(&str, &str); 5] = [
    ("hourly", "Every hour"),
    ("daily", "Every day"),
    ("weekly", "Every week"),
    ("biweekly", "Every second week"),
    ("monthly", "Every month"),
];
pub(super) const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// How a value is put in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    Choice(Vec<String>),
    Number {
        step: &'static str,
        minimum: Option<String>,
        maximum: Option<String>,
    },
    Text,
    /// A list of texts.
    Lines,
    Json,
}

/// A field of the overrides.
#[derive(Debug, Clone)]
pub(super) struct OverrideField {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    pub(super) input: Input,
    pub(super) value: String,
}

/// The form.
#[derive(Debug, Default)]
pub(super) struct PreferenceForm {
    pub(super) enabled: bool,
    pub(super) frequency: String,
    pub(super) days: Vec<String>,
    pub(super) time: String,
    pub(super) zone: String,
    /// Nothing is stored yet: the browser's zone is the better guess.
    pub(super) detect_zone: bool,
    pub(super) overrides: Vec<OverrideField>,
    pub(super) raw: String,
    /// What the form was filled from, to notice who else has changed it.
    pub(super) version: String,
    pub(super) errors: Vec<String>,
    wrong: Vec<String>,
}

impl PreferenceForm {
    /// The form of what is stored.
    pub(super) fn of(stored: Option<&Map<String, Value>>, schema: Option<&Value>) -> Self {
        let empty = Map::new();
        let preference = stored.unwrap_or(&empty);
        let full = merged(preference).map(|merged: MergedPreference| merged.to_json());
        // What cannot be merged is shown as it stands.
        let full = full.unwrap_or_else(|_| Value::Object(preference.clone()));
        let text = |name: &str, default: &str| match &full[name] {
            Value::String(text) => text.clone(),
            Value::Null => default.to_owned(),
            other => other.to_string(),
        };
        let days = match &full["preferred_day"] {
            Value::Array(days) => days.iter().map(plain).collect(),
            Value::Null => Vec::new(),
            day => vec![plain(day)],
        };
        let overrides = overrides_of(stored);
        let fields = fields(schema, &overrides);
        let mut rest = overrides;
        rest.retain(|name, _| !fields.iter().any(|field| field.name == *name));
        let raw = if rest.is_empty() {
            String::new()
        } else {
            pretty(&Value::Object(rest))
        };
        Self {
            enabled: preference.get("enabled") == Some(&Value::Bool(true)),
            frequency: text("frequency", "daily"),
            days,
            time: text("preferred_time", "09:00"),
            zone: text("timezone", "UTC"),
            detect_zone: stored.is_none(),
            overrides: fields,
            raw,
            version: version_of(stored),
            ..Self::default()
        }
    }

    /// The form as it was sent, which was filled from what is stored.
    pub(super) fn sent(
        pairs: &[(String, String)],
        stored: Option<&Map<String, Value>>,
        schema: Option<&Value>,
    ) -> Self {
        let one = |name: &str| {
            let found = pairs.iter().find(|(given, _)| given == name);
            found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let frequency = one("frequency");
        let of_days = match frequency.as_str() {
            "weekly" | "biweekly" => "weekday",
            "monthly" => "monthday",
            _ => "",
        };
        let days = pairs
            .iter()
            .filter(|(name, _)| name == of_days)
            .map(|(_, day)| day.clone())
            .collect();
        let mut overrides = fields(schema, &overrides_of(stored));
        for field in &mut overrides {
            field.value = one(&format!("o.{}", field.name));
        }
        Self {
            enabled: one("enabled") == "true",
            frequency,
            days,
            time: one("time"),
            zone: one("zone"),
            overrides,
            raw: one("raw"),
            version: one("version"),
            ..Self::default()
        }
    }

    /// The preference that is chosen, over what is stored: fields the form does not know are kept.
    pub(super) fn preference(
        &self,
        stored: Option<&Map<String, Value>>,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let mut preference = stored.cloned().unwrap_or_default();
        preference.insert("enabled".into(), json!(self.enabled));
        preference.insert("frequency".into(), json!(self.frequency));
        preference.insert("preferred_time".into(), json!(self.time));
        preference.insert("timezone".into(), json!(self.zone));
        let day = |day: &String| {
            day.parse::<u8>()
                .map_or_else(|_| json!(day), |day| json!(day))
        };
        match self.days.as_slice() {
            [] => preference.remove("preferred_day"),
            [only] => preference.insert("preferred_day".into(), day(only)),
            many => preference.insert("preferred_day".into(), many.iter().map(day).collect()),
        };
        let overrides = self.overrides()?;
        if overrides.is_empty() {
            preference.remove("template_overrides")
        } else {
            preference.insert("template_overrides".into(), Value::Object(overrides))
        };
        Ok(preference)
    }

    fn overrides(&self) -> Result<Map<String, Value>, Vec<String>> {
        let mut errors = Vec::new();
        let mut overrides = match self.raw.as_str() {
            "" => Map::new(),
            raw => read_as(raw.as_bytes()).unwrap_or_else(|error| {
                errors.push(format!("The overrides are not a JSON object: {error}."));
                Map::new()
            }),
        };
        for field in &self.overrides {
            match field.read() {
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

    /// Shows what is wrong with what was sent.
    pub(super) fn add_error(&mut self, feature: &str, errors: &FieldErrors) {
        let own = format!("/config_value/{feature}/");
        for error in &errors.0 {
            let place = error.pointer.strip_prefix(&own);
            let field = place.unwrap_or(&error.pointer).to_owned();
            let value = error
                .value
                .as_ref()
                .map_or_else(String::new, |value| format!(" {value}"));
            self.errors.push(format!(
                "{field}:{value} {}; {}.",
                error.problem, error.remedy
            ));
            let name = field.split('/').next().unwrap_or_default().to_owned();
            self.wrong.push(name);
        }
    }

    pub(super) fn has_day(&self, day: &str) -> bool {
        self.days
            .iter()
            .any(|chosen| chosen.eq_ignore_ascii_case(day))
    }

    pub(super) fn is_wrong(&self, field: &str) -> bool {
        self.wrong.iter().any(|wrong| wrong == field)
    }
}

impl OverrideField {
    fn read(&self) -> Result<Option<Value>, String> {
        let text = self.value.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let json_of = |what: &str| {
            read(text.as_bytes())
                .map_err(|_| format!("{}: {text} cannot be read as {what}.", self.label))
        };
        Ok(Some(match &self.input {
            // `true` and `false` of a switch, or a text.
            Input::Choice(choices) if choices == BOOLEAN_CHOICES => json_of("choice")?,
            Input::Text | Input::Choice(_) => json!(text),
            Input::Lines => text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect(),
            Input::Number { .. } => Value::Number(
                json_of("number")?
                    .as_number()
                    .ok_or_else(|| format!("{}: {text} is not a number.", self.label))?
                    .clone(),
            ),
            Input::Json => json_of("JSON")?,
        }))
    }
}

fn overrides_of(stored: Option<&Map<String, Value>>) -> Map<String, Value> {
    stored
        .and_then(|stored| stored.get("template_overrides")?.as_object())
        .cloned()
        .unwrap_or_default()
}

const BOOLEAN_CHOICES: &[&str] = &["true", "false"];

fn fields(schema: Option<&Value>, overrides: &Map<String, Value>) -> Vec<OverrideField> {
    let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
    let Some(properties) = properties else {
        return Vec::new();
    };
    let field = |(name, property): (&String, &Value)| {
        let value = overrides.get(name);
        let input = fitting(input_of(property), value);
        let text = |key: &str| property.get(key).and_then(Value::as_str).map(str::to_owned);
        OverrideField {
            name: name.clone(),
            label: text("title").unwrap_or_else(|| name.replace('_', " ")),
            help: text("description"),
            value: shown(value, &input),
            input,
        }
    };
    properties.iter().map(field).collect()
}

fn input_of(property: &Value) -> Input {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value
            .as_array()?
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    if let Some(choices) = property.get("enum").and_then(texts) {
        return Input::Choice(choices);
    }
    let bound = |name: &str| {
        property
            .get(name)
            .filter(|bound| bound.is_number())
            .map(plain)
    };
    match property.get("type").and_then(Value::as_str) {
        Some("boolean") => Input::Choice(
            BOOLEAN_CHOICES
                .iter()
                .map(|text| (*text).to_owned())
                .collect(),
        ),
        Some(kind @ ("integer" | "number")) => Input::Number {
            step: if kind == "integer" { "1" } else { "any" },
            minimum: bound("minimum"),
            maximum: bound("maximum"),
        },
        Some("string") => Input::Text,
        Some("array") if property["items"]["type"] == "string" => Input::Lines,
        _ => Input::Json,
    }
}

/// An input that can show the value there is, also one that the schema does not allow (any more).
fn fitting(input: Input, value: Option<&Value>) -> Input {
    let Some(value) = value else { return input };
    let one_line = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| !text.contains(['\n', '\r']) && text.trim() == text)
    };
    let fits = match &input {
        Input::Choice(choices) if choices == BOOLEAN_CHOICES => value.is_boolean(),
        Input::Choice(choices) => value.is_string() && choices.contains(&plain(value)),
        Input::Number { .. } => value.is_number(),
        Input::Text => one_line(value),
        Input::Lines => value
            .as_array()
            .is_some_and(|lines| lines.iter().all(one_line)),
        Input::Json => true,
    };
    match input {
        input if fits => input,
        // A stored choice that the schema dropped stays selected until the user makes another one.
        Input::Choice(mut choices) if value.is_string() && choices != BOOLEAN_CHOICES => {
            choices.push(plain(value));
            Input::Choice(choices)
        }
        _ => Input::Json,
    }
}

fn shown(value: Option<&Value>, input: &Input) -> String {
    match (value, input) {
        (None, _) => String::new(),
        (Some(Value::Array(lines)), Input::Lines) => {
            lines.iter().map(plain).collect::<Vec<_>>().join("\n")
        }
        (Some(value), Input::Json) => pretty(value),
        (Some(value), _) => plain(value),
    }
}

/// A text without its quotes, anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn pretty(value: &Value) -> String {
    // Printing JSON cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Tells one stored preference from another.
pub(super) fn version_of(stored: Option<&Map<String, Value>>) -> String {
    let text = stored.map_or_else(String::new, |stored| {
        Value::Object(stored.clone()).to_string()
    });
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}
