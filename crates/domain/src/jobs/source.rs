//! Where the records of plain jobs come from, and which of them are wanted.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde_json::Value;

use crate::{ids::ItemId, input::errors::Invalid};

/// Records, and which of them are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Location of the records.
    pub location: Location,
    /// What a record must fulfil, all of it.
    pub filters: Vec<Filter>,
    /// So many at most, after the filters.
    pub limit: Option<usize>,
}

/// Location of records: a file or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Records that are ids alone, listed in the job.
    Listed(Vec<ItemId>),
    /// A file: a JSON array, NDJSON when its name ends in `.ndjson`, CSV with a header when it ends in `.csv`. From the
    /// folder of `batch_config.json`.
    File(String),
    /// A JSON document at a URL.
    Http {
        /// Address of the document.
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
    /// The file, or the URL without what may hold a secret, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        match &self.location {
            Location::Listed(_) => "the listed ids",
            Location::File(file) => file,
            Location::Http { url, .. } => url.split(['?', '#']).next().unwrap_or_default(),
        }
    }

    /// Those of `records` that are wanted, in their order.
    #[must_use]
    pub fn choose(&self, records: Vec<Value>) -> Vec<Value> {
        self.choose_by(records, |record| record).collect()
    }

    /// The same, of things that have a record each.
    pub fn choose_by<T>(
        &self,
        things: impl IntoIterator<Item = T>,
        record: impl Fn(&T) -> &Value,
    ) -> impl Iterator<Item = T> {
        things
            .into_iter()
            .filter(move |thing| self.filters.iter().all(|filter| filter.lets(record(thing))))
            .take(self.limit.unwrap_or(usize::MAX))
    }
}

impl Filter {
    /// The filter that a job's file calls `name`.
    ///
    /// # Errors
    /// The value cannot be compared with.
    pub fn new(name: &str, value: &Value) -> Result<Self, Invalid> {
        let bound = |value: &Value| {
            if number(value).is_some() || instant(value).is_some() {
                Ok(value.clone())
            } else {
                Err(Invalid::new(
                    "is not a valid bound",
                    "use a number, a date such as 2026-03-01, or an instant such as 2026-03-01T09:00:00Z",
                ))
            }
        };
        if name == "tags" {
            let tags = tags_of(value);
            return if tags.is_empty() {
                Err(Invalid::new(
                    "is not a list of tags",
                    "use a list such as [\"sale\", \"new\"]",
                ))
            } else {
                Ok(Self::Tags(tags))
            };
        }
        if name == "created_after" {
            return instant(value).map(Self::CreatedAfter).ok_or_else(|| {
                Invalid::new(
                    "is not a date or an instant",
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
                compare(&record[field], bound).is_some_and(std::cmp::Ordering::is_ge)
            }
            Self::Max(field, bound) => {
                compare(&record[field], bound).is_some_and(std::cmp::Ordering::is_le)
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
            #[expect(clippy::float_cmp, reason = "both were written by people")]
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
