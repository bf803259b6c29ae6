//! What is wrong with input: where, with which value, and what to write instead.

use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One mistake in input from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Where, as a JSON pointer (`/jobs/0/priority`), cut to 256 characters.
    pub pointer: String,
    /// The value that was given, as JSON, cut to 60 characters; `None` when it is missing.
    pub value: Option<String>,
    /// Problem with the value, such as "is not a number".
    pub problem: String,
    /// Remedy: what to write instead.
    pub remedy: String,
    /// Kind of the problem; it stays in the process.
    #[serde(skip)]
    pub kind: FieldErrorKind,
}

/// Kind of a mistake in a preference, for those who word it themselves, such as a page in the language of its user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// None of the others.
    #[default]
    Other,
    /// The field is missing.
    Missing,
    /// The object lacks the property of this name.
    MissingProperty(Box<str>),
    /// The value is of another type.
    WrongType,
    /// The value is not a frequency.
    NotAFrequency,
    /// The value is not a time of day.
    NotATimeOfDay,
    /// The value is not a time zone.
    NotATimeZone,
    /// The value is not a day, or not a list of days.
    NotADay,
    /// The value is not a date.
    NotADate,
    /// The days do not fit the frequency.
    DaysDoNotFit,
    /// The interval does not fit the frequency.
    IntervalDoesNotFit,
    /// The interval counts from a start date, which is missing.
    MissingStart,
    /// The date is before this start date.
    BeforeStart(NaiveDate),
    /// The date is after this end date.
    AfterEnd(NaiveDate),
    /// The list has several times of day where the frequency has one.
    SeveralTimes,
    /// The feature does not offer this frequency.
    FrequencyNotOffered,
    /// The feature does not offer this time of day.
    TimeNotOffered,
    /// The value is longer than this many bytes of compact JSON.
    TooLarge(usize),
    /// The text is longer than this many characters.
    TooLong(u64),
    /// The text is shorter than this many characters.
    TooShort(u64),
    /// The value is not a whole number within these bounds, both included.
    OutOfRange {
        /// The smallest number that is taken.
        least: u64,
        /// The greatest number that is taken.
        most: u64,
    },
    /// The number is greater than this one.
    TooGreat(Box<str>),
    /// The number is smaller than this one.
    TooSmall(Box<str>),
    /// The number is not below this one.
    NotBelow(Box<str>),
    /// The number is not above this one.
    NotAbove(Box<str>),
    /// The number is not a multiple of this one.
    NotAMultiple(Box<str>),
    /// The list has more entries than this many.
    TooManyEntries(u64),
    /// The list has fewer entries than this many.
    TooFewEntries(u64),
    /// This entry of the list, as JSON cut to 60 characters, has a mistake of this kind.
    Entry(Box<(String, FieldErrorKind)>),
    /// The list has an entry twice.
    RepeatedEntries,
    /// The value is not one of those that may be chosen.
    NotAChoice,
    /// The text does not have the form that is asked for.
    WrongFormat,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() {
            "/"
        } else {
            &self.pointer
        };
        write!(f, "{pointer}: ")?;
        if let Some(value) = &self.value {
            write!(f, "{value} ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// Everything that is wrong with one document; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{}", self.listed())]
#[serde(transparent)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// How many mistakes are listed wherever they are shown; further ones are only counted.
    pub const LISTED: usize = 100;

    /// Every value, or every mistake in all of them.
    ///
    /// # Errors
    /// The mistakes, in their order.
    pub fn collect<T>(read: impl IntoIterator<Item = Result<T, Self>>) -> Result<Vec<T>, Self> {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for one in read {
            match one {
                Ok(value) => values.push(value),
                Err(found) => errors.extend(found.0),
            }
        }
        Self::unless_empty(errors).map(|()| values)
    }

    /// These mistakes, if there are any.
    ///
    /// # Errors
    /// There are errors.
    pub fn unless_empty(errors: Vec<FieldError>) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self(errors))
        }
    }

    fn listed(&self) -> String {
        let mut lines: Vec<String> = self
            .0
            .iter()
            .take(Self::LISTED)
            .map(ToString::to_string)
            .collect();
        if self.0.len() > Self::LISTED {
            lines.push(format!("and {} more", self.0.len() - Self::LISTED));
        }
        lines.join(" | ")
    }
}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

/// What is wrong with one value, before anybody says where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    problem: String,
    remedy: String,
    kind: FieldErrorKind,
}

impl Invalid {
    /// The same of a list that has this entry.
    pub(crate) fn of_entry(self, entry: &Value) -> Self {
        let entry = shorten(entry);
        Self {
            problem: format!("has the entry {entry}, which {}", self.problem),
            remedy: self.remedy,
            kind: FieldErrorKind::Entry(Box::new((entry, self.kind))),
        }
    }

    /// A problem (`is not a frequency`) and its remedy (`use one of daily, weekly`).
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
            kind: FieldErrorKind::Other,
        }
    }

    /// The usual complaint about a JSON value of the wrong type.
    #[must_use]
    pub fn wrong_type(expected: &str) -> Self {
        Self::new("has the wrong type", format!("use {expected}"))
            .of_kind(FieldErrorKind::WrongType)
    }

    /// The same complaint, of this kind.
    #[must_use]
    pub fn of_kind(self, kind: FieldErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// The complaint that stands at `pointer` about `value`.
    #[must_use]
    pub fn at(self, pointer: impl Into<String>, value: Option<&Value>) -> FieldError {
        let pointer: String = pointer.into();
        FieldError {
            pointer: cut(&pointer, MAX_POINTER),
            value: value.map(shorten),
            problem: self.problem,
            remedy: self.remedy,
            kind: self.kind,
        }
    }
}

const MAX_POINTER: usize = 256;

fn shorten(value: &Value) -> String {
    cut(&value.to_string(), 60)
}

/// `text`, or its beginning and `…`: `longest` characters at most.
fn cut(text: &str, longest: usize) -> String {
    if text.chars().nth(longest).is_none() {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}
