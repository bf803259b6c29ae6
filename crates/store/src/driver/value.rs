//! Values that statements are given.

use chrono::{DateTime, Utc};
use punctual_domain::{ItemId, JobId};
use uuid::Uuid;

/// A parameter of a statement. The lists are for the marks `@texts` and `@integers`.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Integers(Vec<i64>),
    Texts(Vec<String>),
}

/// A column of rows that are inserted together.
#[derive(Debug)]
pub(crate) enum Column {
    /// The same value in each row.
    Same(Value),
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    /// An integer for each row.
    pub(crate) fn integers<'r, T>(rows: &'r [T], value: impl Fn(&'r T) -> i64) -> Self {
        Self::Integers(rows.iter().map(|row| Some(value(row))).collect())
    }

    /// A text for each row.
    pub(crate) fn texts<'r, T, S: Into<String>>(rows: &'r [T], value: impl Fn(&'r T) -> S) -> Self {
        Self::Texts(rows.iter().map(|row| Some(value(row).into())).collect())
    }

    /// Number of rows; `None`: as many as the other columns have.
    pub(super) fn rows(&self) -> Option<usize> {
        match self {
            Self::Same(_) => None,
            Self::Integers(values) => Some(values.len()),
            Self::Texts(values) => Some(values.len()),
            Self::Bytes(values) => Some(values.len()),
        }
    }
}

/// A list of [`Value`]s, in the order of the parameters.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::driver::Value::from($value)),*] };
}
pub(crate) use values;

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Integer(Some(value as i64))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

/// Microseconds since 1970.
impl From<DateTime<Utc>> for Value {
    fn from(value: DateTime<Utc>) -> Self {
        Self::Integer(Some(value.timestamp_micros()))
    }
}

impl From<Option<DateTime<Utc>>> for Value {
    fn from(value: Option<DateTime<Utc>>) -> Self {
        Self::Integer(value.map(|value| value.timestamp_micros()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<&JobId> for Value {
    fn from(value: &JobId) -> Self {
        value.as_str().into()
    }
}

impl From<&ItemId> for Value {
    fn from(value: &ItemId) -> Self {
        value.as_str().into()
    }
}

impl From<&[ItemId]> for Value {
    fn from(value: &[ItemId]) -> Self {
        Self::Texts(value.iter().map(ToString::to_string).collect())
    }
}

impl From<&[i64]> for Value {
    fn from(value: &[i64]) -> Self {
        Self::Integers(value.to_vec())
    }
}
