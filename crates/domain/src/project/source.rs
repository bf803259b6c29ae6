//! Where the records of plain jobs come from, and which of them are wanted.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde_json::Value;

use crate::input::{
    errors::{FieldErrors, Invalid},
    fields::{Fields, object_at},
    values::{boolean, http_url, text, whole_number},
};

/// Records, and which of them are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Where they are.
    pub location: Location,
    /// What a record must fulfil, all of it.
    pub filters: Vec<Filter>,
    /// So many at most, after the filters.
    pub limit: Option<usize>,
}

/// Where records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file: a JSON array, NDJSON when its name ends in `.ndjson`, CSV with a header when it ends in `.csv`. From the
    /// folder of `batch_config.json`.
    File(String),
    /// A JSON document at a URL.
    Http {
        /// Where.
        url: String,
        /// Where in the document the array of records stands, as a JSON pointer; empty: it is the document.
        items: String,
        /// The environment variable that holds the key to send; `None`: none is sent.
        api_key_env: Option<String>,
        /// Whether the URL may lead to this machine or into a private network.
        allow_private_addresses: bool,
    },
}

/// One condition on a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// `min_FIELD`: the field is a number, or an instant, that is not below it.
    Min(String, Value),
    /// `max_FIELD`: the field is a number, or an instant, that is not above it.
    Max(String, Value),
    /// `tags`: the record has one of them at least.
    Tags(Vec<String>),
    /// `created_after`: the field `created_at` is later.
    CreatedAfter(DateTime<Utc>),
    /// Any other name: the field equals the value, or one of a list.
    Equals(String, Value),
}

impl Source {
    /// Those of `records` that are wanted, in their order.
    #[must_use]
    pub fn choose(&self, records: Vec<Value>) -> Vec<Value> {
        let wanted = |record: &Value| self.filters.iter().all(|filter| filter.lets(record));
        let limit = self.limit.unwrap_or(usize::MAX);
        records.into_iter().filter(wanted).take(limit).collect()
    }

    /// Reads a source at `pointer`.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn parse(value: &Value, pointer: &str) -> Result<Self, FieldErrors> {
        let mut fields = Fields::new(object_at(value, pointer)?, pointer);
        let file = fields.optional("file", text);
        let url = fields.optional("url", http_url);
        let items = fields.optional("items", |value| match text(value)? {
            "" => Ok(""),
            pointer if pointer.starts_with('/') => Ok(pointer),
            _ => Err(Invalid::new(
                "is not a JSON pointer",
                "use one such as /data/items",
            )),
        });
        let api_key_env = fields.optional("api_key_env", text);
        let private = fields.optional("allow_private_addresses", boolean);
        if file.is_some() == url.is_some() && (file.is_some() || value.get("url").is_none()) {
            let remedy =
                "add the path from the folder of batch_config.json, or a \"url\"; one of them";
            fields.complain(
                "file",
                Invalid::new("is missing or given beside a url", remedy),
            );
        }
        let of_url = items.is_some() || api_key_env.is_some() || private.is_some();
        if file.is_some() && of_url {
            let problem = "goes without items, api_key_env and allow_private_addresses";
            fields.complain("file", Invalid::new(problem, "take them out"));
        }
        let filters = fields.nested("filters", parse_filters).unwrap_or_default();
        let limit = fields.optional("limit", |value| whole_number(value, 1..=10_000_000));
        fields.deny_others();
        fields.finish(|| {
            let location = match (file, url) {
                (Some(file), _) => Location::File(file.to_owned()),
                (None, Some(url)) => Location::Http {
                    url: url.to_owned(),
                    items: items.unwrap_or_default().to_owned(),
                    api_key_env: api_key_env.map(str::to_owned),
                    allow_private_addresses: private.unwrap_or(false),
                },
                (None, None) => return None,
            };
            Some(Self {
                location,
                filters,
                limit: limit.map(|limit| limit as usize),
            })
        })
    }
}

fn parse_filters(value: &Value, pointer: &str) -> Result<Vec<Filter>, FieldErrors> {
    let mut errors = Vec::new();
    let mut filters = Vec::new();
    for (name, value) in object_at(value, pointer)? {
        match Filter::parse(name, value) {
            Ok(filter) => filters.push(filter),
            Err(invalid) => errors.push(invalid.at(format!("{pointer}/{name}"), Some(value))),
        }
    }
    if errors.is_empty() {
        Ok(filters)
    } else {
        Err(FieldErrors(errors))
    }
}

impl Filter {
    fn parse(name: &str, value: &Value) -> Result<Self, Invalid> {
        let bound = |value: &Value| match number(value).is_some() || instant(value).is_some() {
            true => Ok(value.clone()),
            false => Err(Invalid::new(
                "is not a bound",
                "use a number, a date such as 2026-03-01, or an instant such as 2026-03-01T09:00:00Z",
            )),
        };
        if name == "tags" {
            let tags = tags_of(value);
            return match tags.is_empty() {
                true => Err(Invalid::new(
                    "is not a list of tags",
                    "use a list such as [\"sale\", \"new\"]",
                )),
                false => Ok(Self::Tags(tags)),
            };
        }
        if name == "created_after" {
            return instant(value).map(Self::CreatedAfter).ok_or_else(|| {
                Invalid::new(
                    "is not a time",
                    "use a date such as 2026-03-01, or an instant such as 2026-03-01T09:00:00Z",
                )
            });
        }
        if let Some(field) = name.strip_prefix("min_").filter(|field| !field.is_empty()) {
            return Ok(Self::Min(field.to_owned(), bound(value)?));
        }
        if let Some(field) = name.strip_prefix("max_").filter(|field| !field.is_empty()) {
            return Ok(Self::Max(field.to_owned(), bound(value)?));
        }
        if value.is_object() {
            return Err(Invalid::new(
                "is an object",
                "use a value, or a list of those that are allowed",
            ));
        }
        Ok(Self::Equals(name.to_owned(), value.clone()))
    }

    /// Whether a record fulfils it. A field that is missing fulfils nothing.
    #[must_use]
    pub fn lets(&self, record: &Value) -> bool {
        match self {
            Self::Min(field, bound) => {
                compare(&record[field], bound).is_some_and(|order| order.is_ge())
            }
            Self::Max(field, bound) => {
                compare(&record[field], bound).is_some_and(|order| order.is_le())
            }
            Self::Tags(wanted) => {
                let tags = tags_of(&record["tags"]);
                wanted.iter().any(|tag| tags.contains(tag))
            }
            Self::CreatedAfter(time) => instant(&record["created_at"]).is_some_and(|at| at > *time),
            Self::Equals(field, Value::Array(allowed)) => {
                allowed.iter().any(|value| equal(&record[field], value))
            }
            Self::Equals(field, value) => equal(&record[field], value),
        }
    }
}

/// Records of CSV hold text only, so a text that reads as the value equals it.
fn equal(field: &Value, value: &Value) -> bool {
    match (field, value) {
        (Value::Null, _) => false,
        (Value::String(text), Value::String(value)) => text == value,
        (Value::String(text), Value::Bool(value)) => *text == value.to_string(),
        (field, value) => match (number(field), number(value)) {
            (Some(a), Some(b)) => a == b,
            _ => field == value,
        },
    }
}

fn compare(field: &Value, bound: &Value) -> Option<std::cmp::Ordering> {
    match (number(field), number(bound)) {
        (Some(field), Some(bound)) => field.partial_cmp(&bound),
        _ => Some(instant(field)?.cmp(&instant(bound)?)),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

fn instant(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?.trim();
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Some(date.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.to_utc())
}

fn tags_of(value: &Value) -> Vec<String> {
    let tag = |tag: &str| tag.trim().to_owned();
    match value {
        Value::Array(tags) => tags.iter().filter_map(Value::as_str).map(tag).collect(),
        Value::String(tags) => tags
            .split([',', ';'])
            .map(tag)
            .filter(|tag| !tag.is_empty())
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(filters: Value) -> Result<Source, String> {
        let value = json!({"file": "x.json", "filters": filters});
        Source::parse(&value, "/source").map_err(|errors| errors.to_string())
    }

    #[test]
    fn records_are_chosen_by_bounds_tags_time_and_equality() {
        let records = vec![
            json!({"id": "a", "price": 5, "tags": ["sale"], "created_at": "2026-01-01", "kind": "mug", "on": true}),
            json!({"id": "b", "price": "12.5", "tags": "new, sale", "created_at": "2026-02-01T10:00:00+01:00", "kind": "mug", "on": "true"}),
            json!({"id": "c", "price": 20, "tags": [], "created_at": "2026-03-01", "kind": "cup", "on": false}),
            json!({"id": "d"}),
        ];
        let chosen = |filters: Value| -> String {
            let chosen = source(filters).unwrap().choose(records.clone());
            chosen
                .iter()
                .map(|record| record["id"].as_str().unwrap())
                .collect()
        };
        for (filters, expected) in [
            (json!({}), "abcd"),
            (json!({"min_price": 12.5}), "bc"),
            (json!({"max_price": 12.5}), "ab"),
            (json!({"min_price": 6, "max_price": 15}), "b"),
            (json!({"tags": ["sale"]}), "ab"),
            (json!({"tags": ["old", "new"]}), "b"),
            (json!({"created_after": "2026-01-01"}), "bc"),
            (json!({"created_after": "2026-02-01T09:00:00Z"}), "c"),
            (json!({"min_created_at": "2026-02-01"}), "bc"),
            (json!({"kind": "mug"}), "ab"),
            (json!({"kind": ["cup", "pot"]}), "c"),
            (json!({"on": true}), "ab"),
            (json!({"price": 12.5}), "b"),
            (json!({"kind": "mug", "tags": ["new"]}), "b"),
        ] {
            assert_eq!(chosen(filters.clone()), expected, "{filters}");
        }
        let mut limited = source(json!({"kind": ["mug", "cup"]})).unwrap();
        limited.limit = Some(2);
        assert_eq!(
            limited.choose(records).len(),
            2,
            "the limit counts what is wanted"
        );
    }

    #[test]
    fn what_cannot_be_a_filter_or_a_source_is_said() {
        for (filters, expected) in [
            (
                json!({"min_price": "cheap"}),
                "/source/filters/min_price: \"cheap\" is not a bound",
            ),
            (
                json!({"tags": 3}),
                "/source/filters/tags: 3 is not a list of tags",
            ),
            (
                json!({"created_after": "soon"}),
                "/source/filters/created_after: \"soon\" is not a time",
            ),
            (
                json!({"kind": {"in": []}}),
                "/source/filters/kind: {\"in\":[]} is an object",
            ),
        ] {
            let error = source(filters).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        for (value, expected) in [
            (json!({}), "/source/file: is missing"),
            (
                json!({"file": "a", "url": "https://x"}),
                "/source/file: \"a\" is missing or given beside a url",
            ),
            (json!({"url": "x"}), "/source/url: \"x\" is not a URL"),
            (
                json!({"url": "https://x", "items": "data"}),
                "/source/items: \"data\" is not a JSON pointer",
            ),
        ] {
            let errors = Source::parse(&value, "/source").unwrap_err().to_string();
            assert!(errors.starts_with(expected), "{errors}");
            assert!(
                !errors.contains(" | "),
                "one mistake is one error: {errors}"
            );
        }
    }
}
