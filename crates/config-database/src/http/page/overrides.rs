//! The template overrides as fields of a form: each property of the feature's schema is one, in the order of its `x-order`; whatever
//! the schema does not describe stays JSON. An empty field is what is usual.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::json::read;

/// How a value is put in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// One of these.
    Choice(Vec<String>),
    /// Any of these.
    Choices(Vec<String>),
    Number {
        step: &'static str,
        minimum: Option<String>,
        maximum: Option<String>,
    },
    Text,
    /// A text of several lines.
    Paragraph,
    /// A list of texts.
    Lines,
    Json,
}

/// A field of the overrides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OverrideField {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    pub(super) input: Input,
    pub(super) value: String,
    /// What is in effect where the field is empty.
    pub(super) usual: Option<String>,
}

const BOOLEAN_CHOICES: &[&str] = &["true", "false"];
/// Texts that may be longer get several lines.
const LONGEST_LINE: u64 = 200;

impl OverrideField {
    /// The fields of a schema, filled from overrides; `usual` are those of the feature's job.
    pub(super) fn all(
        schema: Option<&Value>,
        overrides: &Map<String, Value>,
        usual: &Map<String, Value>,
    ) -> Vec<Self> {
        let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
        let mut properties: Vec<(&String, &Value)> = properties.into_iter().flatten().collect();
        let place = |property: &Value| property["x-order"].as_f64().unwrap_or(f64::MAX);
        properties.sort_by(|one, other| place(one.1).total_cmp(&place(other.1)));
        let field = |(name, property): (&String, &Value)| {
            let value = overrides.get(name);
            let input = fitting(input_of(property), value);
            let text = |key: &str| property.get(key).and_then(Value::as_str).map(str::to_owned);
            let usual = usual.get(name).or_else(|| property.get("default"));
            let mut field = Self {
                name: name.clone(),
                label: text("title").unwrap_or_else(|| name.replace('_', " ")),
                help: text("description"),
                value: shown(value, &input),
                usual: None,
                input,
            };
            field.usual = usual.map(|usual| field.in_words(usual));
            field
        };
        properties.into_iter().map(field).collect()
    }

    /// A choice as people read it.
    pub(super) fn label_of<'c>(&self, choice: &'c str) -> &'c str {
        match (&self.input, choice) {
            (Input::Choice(choices), "true") if choices == BOOLEAN_CHOICES => "Yes",
            (Input::Choice(choices), "false") if choices == BOOLEAN_CHOICES => "No",
            _ => choice,
        }
    }

    /// Takes what was sent. In which order choices were ticked says nothing.
    pub(super) fn take(&mut self, sent: &[String]) {
        let same_choices = matches!(self.input, Input::Choices(_)) && {
            let sent: BTreeSet<&str> = sent.iter().map(String::as_str).collect();
            sent == self.value.lines().collect()
        };
        if !same_choices {
            self.value = sent.join("\n");
        }
    }

    pub(super) fn has(&self, choice: &str) -> bool {
        self.value.lines().any(|line| line == choice)
    }

    fn in_words(&self, value: &Value) -> String {
        match value {
            Value::Array(values) => values
                .iter()
                .map(|value| self.in_words(value))
                .collect::<Vec<_>>()
                .join(", "),
            Value::Bool(_) => self.label_of(&value.to_string()).to_owned(),
            other => plain(other),
        }
    }

    /// The value that the field holds; `None`: it is empty.
    pub(super) fn read(&self) -> Result<Option<Value>, String> {
        let text = self.value.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let json_of = |what: &str| {
            read(text.as_bytes())
                .map_err(|_| format!("{}: {text} cannot be read as {what}.", self.label))
        };
        Ok(Some(match &self.input {
            Input::Choice(choices) if choices == BOOLEAN_CHOICES => json_of("choice")?,
            Input::Text | Input::Paragraph | Input::Choice(_) => json!(text),
            Input::Lines | Input::Choices(_) => text
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

fn input_of(property: &Value) -> Input {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value
            .as_array()?
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    let choices = |property: &Value| property.get("enum").and_then(texts);
    if let Some(choices) = choices(property) {
        return Input::Choice(choices);
    }
    let bound = |name: &str| {
        property
            .get(name)
            .filter(|bound| bound.is_number())
            .map(plain)
    };
    let is_long = property["x-widget"] == "textarea"
        || property["maxLength"]
            .as_u64()
            .is_some_and(|longest| longest > LONGEST_LINE);
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
        Some("string") if is_long => Input::Paragraph,
        Some("string") => Input::Text,
        Some("array") => match choices(&property["items"]) {
            Some(choices) => Input::Choices(choices),
            None if property["items"]["type"] == "string" => Input::Lines,
            None => Input::Json,
        },
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
    let all = |fits: &dyn Fn(&Value) -> bool| {
        let values = value.as_array();
        values.is_some_and(|values| values.iter().all(fits))
    };
    let fits = match &input {
        Input::Choice(choices) if choices == BOOLEAN_CHOICES => value.is_boolean(),
        Input::Choice(choices) => value.is_string() && choices.contains(&plain(value)),
        Input::Choices(choices) => {
            all(&|value| value.is_string() && choices.contains(&plain(value)))
        }
        Input::Number { .. } => value.is_number(),
        Input::Text => one_line(value),
        Input::Paragraph => value
            .as_str()
            .is_some_and(|text| !text.contains('\r') && text.trim() == text),
        Input::Lines => all(&one_line),
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
        (Some(Value::Array(lines)), Input::Lines | Input::Choices(_)) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_the_order_of_the_schema_with_what_is_usual() {
        let schema = json!({"properties": {
            "tone": {"enum": ["dry", "warm"], "x-order": 2},
            "areas": {"type": "array", "items": {"enum": ["a", "b"]}, "x-order": 1, "title": "Areas"},
            "emoji": {"type": "boolean", "default": true},
            "notes": {"type": "string", "maxLength": 2000, "x-order": 3},
        }});
        let overrides = json!({"areas": ["b"], "notes": "one\ntwo"});
        let usual = json!({"tone": "warm", "areas": ["a", "b"]});
        let fields = OverrideField::all(
            Some(&schema),
            overrides.as_object().unwrap(),
            usual.as_object().unwrap(),
        );
        let shown: Vec<(&str, &str, Option<&str>)> = fields
            .iter()
            .map(|field| {
                (
                    field.label.as_str(),
                    field.value.as_str(),
                    field.usual.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("Areas", "b", Some("a, b")),
                ("tone", "", Some("warm")),
                ("notes", "one\ntwo", None),
                ("emoji", "", Some("Yes")),
            ]
        );
        let mut areas = fields[0].clone();
        areas.value = "b\na".to_owned();
        areas.take(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(areas.read(), Ok(Some(json!(["b", "a"]))));
        areas.take(&["a".to_owned()]);
        assert_eq!(areas.read(), Ok(Some(json!(["a"]))));
        let read: Vec<Option<Value>> = fields.iter().map(|field| field.read().unwrap()).collect();
        assert_eq!(
            read,
            [Some(json!(["b"])), None, Some(json!("one\ntwo")), None]
        );
    }
}
