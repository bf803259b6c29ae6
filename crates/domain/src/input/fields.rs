//! Reading JSON that people wrote: every mistake is collected, not only the first, and each names the field, the value
//! that was given and the remedy. Preferences, jobs and purposes are all read this way.

use serde_json::{Map, Value};

use super::errors::{FieldError, FieldErrorKind, FieldErrors, Invalid};

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

    /// The pointer of the object.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The pointer of the field `name`.
    #[must_use]
    pub fn pointer_of(&self, name: &str) -> String {
        below(&self.pointer, name)
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
            let missing = Invalid::new("is missing", remedy).of_kind(FieldErrorKind::Missing);
            self.complain(name, missing);
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
    pub fn add(&mut self, errors: Vec<FieldError>) {
        self.errors.extend(errors);
    }

    /// The fields that have not been read.
    #[must_use]
    pub fn others(&self) -> Map<String, Value> {
        let unknown = |(name, _): &(&String, &Value)| !self.known.contains(&name.as_str());
        self.object
            .iter()
            .filter(unknown)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Reports every field that has not been read as unknown.
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

/// The pointer of the field `name` of the object at `pointer`.
#[must_use]
pub fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The value as an object at `pointer`.
///
/// # Errors
/// One [`FieldError`] when it is anything else.
pub fn object_at<'a>(
    value: &'a Value,
    pointer: &str,
) -> Result<&'a Map<String, Value>, FieldErrors> {
    value.as_object().ok_or_else(|| {
        FieldErrors(vec![
            Invalid::wrong_type("an object, { … }").at(pointer, Some(value)),
        ])
    })
}
