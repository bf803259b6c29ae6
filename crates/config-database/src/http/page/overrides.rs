//! The template overrides as fields of a form: each property of the feature's schema is one, in the order of its `x-order`; whatever
//! the schema does not describe stays JSON. An empty field is what is usual. `x-locales` of a property has its texts in other
//! languages.

use std::collections::{BTreeMap, BTreeSet};

use punctual_domain::LanguageTag;
use serde_json::{Map, Value, json};

use super::mistakes::mistake_of;
use crate::{json::read, texts::Texts};

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
    /// The choices as people read them, where that is not as they are written.
    choice_labels: BTreeMap<String, String>,
}

const BOOLEAN_CHOICES: &[&str] = &["true", "false"];
/// Texts that may be longer get several lines.
const LONGEST_LINE: u64 = 200;

impl OverrideField {
    /// The fields of a schema, filled from overrides; `usual` are those of the feature's job.
    pub(super) fn all(
        t: &Texts,
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
            let said = |key: &str| {
                let text =
                    |texts: &Value| texts.get(key).and_then(Value::as_str).map(str::to_owned);
                translated(t, property, text).or_else(|| text(property))
            };
            let usual = usual.get(name).or_else(|| property.get("default"));
            let mut field = Self {
                name: name.clone(),
                label: said("title").unwrap_or_else(|| name.replace('_', " ")),
                help: said("description"),
                value: shown(value, &input),
                usual: None,
                choice_labels: choice_labels(t, property, &input),
                input,
            };
            field.usual = usual.map(|usual| field.in_words(t, usual));
            field
        };
        properties.into_iter().map(field).collect()
    }

    /// A choice as people read it.
    pub(super) fn label_of<'c>(&'c self, choice: &'c str) -> &'c str {
        let label = self.choice_labels.get(choice);
        label.map_or(choice, String::as_str)
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

    /// Whether it holds a text of people's own, which pages quote.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.input, Input::Text | Input::Paragraph)
    }

    pub(super) fn has(&self, choice: &str) -> bool {
        self.value.lines().any(|line| line == choice)
    }

    fn in_words(&self, t: &Texts, value: &Value) -> String {
        match value {
            Value::Array(values) => {
                let values = values.iter().map(|value| self.in_words(t, value));
                t.calendar().list(&values.collect::<Vec<_>>())
            }
            other => self.label_of(&plain(other)).to_owned(),
        }
    }

    /// The value that the field holds; `None`: it is empty.
    ///
    /// # Errors
    /// What is wrong with it, in words for people.
    pub(super) fn read(&self, t: &Texts) -> Result<Option<Value>, String> {
        let text = self.value.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |id: &str| mistake_of(t, &self.label, &t.text_of(id, "value", text));
        let json_of = |id: &str| read(text.as_bytes()).map_err(|_| wrong(id));
        Ok(Some(match &self.input {
            Input::Choice(choices) if choices == BOOLEAN_CHOICES => json_of("mistake-choice")?,
            Input::Text | Input::Paragraph | Input::Choice(_) => json!(text),
            Input::Lines | Input::Choices(_) => text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect(),
            Input::Number { .. } => Value::Number(
                json_of("mistake-number")?
                    .as_number()
                    .ok_or_else(|| wrong("mistake-number"))?
                    .clone(),
            ),
            Input::Json => json_of("mistake-json")?,
        }))
    }
}

/// What `text` finds in the texts of a property that suit the reader best.
fn translated<T>(t: &Texts, property: &Value, text: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let locales = property.get("x-locales")?.as_object()?;
    let tags = locales.keys().map(String::as_str);
    LanguageTag::best(tags, t.locale(), |tag| text(locales.get(tag)?))
}

/// The choices of a property as people read them.
fn choice_labels(t: &Texts, property: &Value, input: &Input) -> BTreeMap<String, String> {
    let choices = match input {
        Input::Choice(choices) if choices == BOOLEAN_CHOICES => {
            let (yes, no) = (t.text("form-yes"), t.text("form-no"));
            return [("true".to_owned(), yes), ("false".to_owned(), no)].into();
        }
        Input::Choice(choices) | Input::Choices(choices) => choices,
        _ => return BTreeMap::new(),
    };
    let label = |choice: &String| {
        let text = |texts: &Value| {
            texts["choices"][choice.as_str()]
                .as_str()
                .map(str::to_owned)
        };
        Some((choice.clone(), translated(t, property, text)?))
    };
    choices.iter().filter_map(label).collect()
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
        let texts = Texts::of(None, None, None);
        let fields = OverrideField::all(
            &texts,
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
                ("Areas", "b", Some("a and b")),
                ("tone", "", Some("warm")),
                ("notes", "one\ntwo", None),
                ("emoji", "", Some("Yes")),
            ]
        );
        let mut areas = fields[0].clone();
        areas.value = "b\na".to_owned();
        areas.take(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(areas.read(&texts), Ok(Some(json!(["b", "a"]))));
        areas.take(&["a".to_owned()]);
        assert_eq!(areas.read(&texts), Ok(Some(json!(["a"]))));
        let read: Vec<Option<Value>> = fields
            .iter()
            .map(|field| field.read(&texts).unwrap())
            .collect();
        assert_eq!(
            read,
            [Some(json!(["b"])), None, Some(json!("one\ntwo")), None]
        );
    }

    #[test]
    fn fields_are_labelled_in_the_language_of_the_reader() {
        let schema = json!({"properties": {
            "tone": {"enum": ["dry", "warm"], "title": "Tone", "description": "How it sounds", "x-order": 1,
                "x-locales": {"de": {"title": "Ton", "choices": {"dry": "Trocken"}}, "fr": 1}},
            "emoji": {"type": "boolean", "x-order": 2},
        }});
        let usual = json!({"tone": "dry", "emoji": false});
        let shown = |locale: &str| {
            let texts = Texts::of(None, Some(locale), None);
            let none = Map::new();
            let usual = usual.as_object().unwrap();
            let fields = OverrideField::all(&texts, Some(&schema), &none, usual);
            fields
                .into_iter()
                .map(|field| {
                    let choice = field.label_of("dry").to_owned();
                    (field.label, field.help, field.usual, choice)
                })
                .collect::<Vec<_>>()
        };
        let owned = |text: &str| text.to_owned();
        let help = Some(owned("How it sounds"));
        assert_eq!(
            shown("de-AT"),
            [
                (
                    owned("Ton"),
                    help.clone(),
                    Some(owned("Trocken")),
                    owned("Trocken")
                ),
                (owned("emoji"), None, Some(owned("Nein")), owned("dry")),
            ]
        );
        assert_eq!(
            shown("fr")[0],
            (owned("Tone"), help, Some(owned("dry")), owned("dry"))
        );
    }
}
