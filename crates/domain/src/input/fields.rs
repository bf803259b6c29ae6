//! Reading JSON that people wrote: every mistake is collected, not only the first, and each names the
//! field, the value that was given and the remedy. Preferences, jobs and purposes are all read this way.

use std::{fmt, str::FromStr};

use chrono::TimeDelta;
use serde::Serialize;
use serde_json::{Map, Value};

/// One mistake in input from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, as a JSON pointer (`/jobs/0/priority`), cut to 256 characters.
    pub pointer: String,
    /// The value that was given, as JSON, cut to 60 characters; `None` when it is missing.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{}", self.listed())]
#[serde(transparent)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// How many mistakes are listed wherever they are shown; further ones are only counted.
    pub const LISTED: usize = 100;

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

/// What is wrong with one value, before anybody says where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    problem: String,
    remedy: String,
}

impl Invalid {
    /// A problem (`is not a frequency`) and its remedy (`use one of daily, weekly`).
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The usual complaint about a JSON value of the wrong type.
    #[must_use]
    pub fn wrong_type(expected: &str) -> Self {
        Self::new("has the wrong type", format!("use {expected}"))
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

/// Reads the fields of one JSON object and collects what is wrong with them. `null` counts as absent.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Reads `object`, which stands at `pointer` in its document.
    pub fn new(object: &'a Map<String, Value>, pointer: impl Into<String>) -> Self {
        Self {
            object,
            pointer: pointer.into(),
            known: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The pointer of the field `name`.
    #[must_use]
    pub fn pointer_of(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.pointer,
            name.replace('~', "~0").replace('/', "~1")
        )
    }

    /// The raw value of a field that is present and not null.
    pub fn raw(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A field that may be missing.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(invalid) => {
                self.complain(name, invalid);
                None
            }
        }
    }

    /// A field that must be there; `remedy` says what to add when it is not.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        remedy: &str,
        parse: impl FnOnce(&'a Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        if self.raw(name).is_none() {
            self.complain(name, Invalid::new("is missing", remedy));
            return None;
        }
        self.optional(name, parse)
    }

    /// A field whose own reader reports errors with full pointers.
    pub fn nested<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a Value, &str) -> Result<T, FieldErrors>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        let pointer = self.pointer_of(name);
        parse(value, &pointer)
            .map_err(|errors| self.errors.extend(errors.0))
            .ok()
    }

    /// Records a complaint about the field `name`.
    pub fn complain(&mut self, name: &'static str, invalid: Invalid) {
        let value = self.raw(name);
        self.errors.push(invalid.at(self.pointer_of(name), value));
    }

    /// Records complaints that have their full pointers.
    pub(crate) fn add(&mut self, errors: Vec<FieldError>) {
        self.errors.extend(errors);
    }

    /// The fields nobody has asked for.
    #[must_use]
    pub fn others(&self) -> Map<String, Value> {
        let unknown = |(name, _): &(&String, &Value)| !self.known.contains(&name.as_str());
        self.object
            .iter()
            .filter(unknown)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Complains about every field nobody has asked for.
    pub fn deny_others(&mut self) {
        let allowed = self.known.join(", ");
        for (name, value) in &self.others() {
            let invalid = Invalid::new(
                "is not a known field",
                format!("remove it or use one of {allowed}"),
            );
            self.errors
                .push(invalid.at(self.pointer_of(name), Some(value)));
        }
    }

    /// `value` if nothing was wrong, else every complaint.
    ///
    /// # Errors
    /// [`FieldErrors`] with everything that was collected.
    pub fn finish<T>(self, value: impl FnOnce() -> Option<T>) -> Result<T, FieldErrors> {
        if self.errors.is_empty()
            && let Some(value) = value()
        {
            return Ok(value);
        }
        Err(FieldErrors(self.errors))
    }
}

/// The value as an object at `pointer`.
///
/// # Errors
/// One [`FieldError`] when it is anything else.
pub(crate) fn object_at<'a>(
    value: &'a Value,
    pointer: &str,
) -> Result<&'a Map<String, Value>, FieldErrors> {
    value.as_object().ok_or_else(|| {
        FieldErrors(vec![
            Invalid::wrong_type("an object, { … }").at(pointer, Some(value)),
        ])
    })
}

/// The value as text.
pub(crate) fn text(value: &Value) -> Result<&str, Invalid> {
    value
        .as_str()
        .ok_or_else(|| Invalid::wrong_type("text in quotes"))
}

/// The value as `true` or `false`.
pub(crate) fn boolean(value: &Value) -> Result<bool, Invalid> {
    value
        .as_bool()
        .ok_or_else(|| Invalid::wrong_type("true or false"))
}

/// The value as a whole number within `range`.
pub(crate) fn whole_number(
    value: &Value,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, Invalid> {
    value
        .as_u64()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            Invalid::new(
                "is out of range",
                format!(
                    "use a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )
        })
}

/// The value as a length of time from a minute to a year: numbers with a unit, such as `90m`, `1h30m` or `2d`.
pub(crate) fn duration(value: &Value) -> Result<TimeDelta, Invalid> {
    let invalid = || {
        Invalid::new(
            "is not a length of time",
            "use a text from `1m` to `366d` with the units s, m, h, d, w, such as `90m`, `12h` or `2d`",
        )
    };
    let mut seconds = 0_i64;
    for part in text(value)?.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = part.split_at_checked(part.len() - 1).ok_or_else(invalid)?;
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(invalid()),
        };
        let part = number.parse::<i64>().ok().and_then(|n| n.checked_mul(unit));
        let sum = part.and_then(|part| seconds.checked_add(part));
        seconds = sum.ok_or_else(invalid)?;
    }
    match seconds {
        60..=31_622_400 => Ok(TimeDelta::seconds(seconds)),
        _ => Err(invalid()),
    }
}

/// The value as a text that parses, such as an id.
pub(crate) fn parsed<T: FromStr>(value: &Value) -> Result<T, Invalid>
where
    Invalid: From<T::Err>,
{
    Ok(text(value)?.parse()?)
}

/// A URL without user and password: those would stand in logs.
pub(crate) fn http_url(value: &Value) -> Result<&str, Invalid> {
    let url = text(value)?;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    match authority {
        Some(authority) if authority.contains('@') => Err(Invalid::new(
            "holds a user or password",
            "take it out of the URL, and name a variable of the environment instead",
        )),
        Some(authority) if !authority.is_empty() => Ok(url),
        _ => Err(Invalid::new(
            "is no URL",
            "use one that begins with https:// or http://",
        )),
    }
}

/// The name of an environment variable.
pub(crate) fn variable(value: &Value) -> Result<&str, Invalid> {
    let name = text(value)?;
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && name.chars().all(allowed) {
        return Ok(name);
    }
    Err(Invalid::new(
        "is not the name of a variable",
        "use one of the characters A-Z 0-9 _, and put the secret itself into the environment",
    ))
}
