//! What JSON from tenants may be, wherever it is stored: bounded in size and depth, with nothing in it that some reader
//! of JSON or some database loses.

use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::input::errors::{FieldError, FieldErrorKind, Invalid};

/// Largest preference, in bytes of compact JSON.
pub const MAX_PREFERENCE_BYTES: usize = 32 * 1024;
/// Deepest nesting of a field's value; an object or a list that stands in the field is level 1.
pub const MAX_DEPTH: usize = 16;
/// Largest number that survives every JSON reader: 2^53 − 1.
const MAX_NUMBER: f64 = 9_007_199_254_740_991.0;

/// Complains when `value`, which stands at `pointer`, is longer than `longest` bytes of compact JSON.
#[must_use]
pub fn check_size(value: &impl Serialize, pointer: &str, longest: usize) -> Option<FieldError> {
    let bytes = size_of(value);
    let problem = || {
        Invalid::new(
            format!("is {bytes} bytes long"),
            format!("keep it within {longest} bytes of compact JSON"),
        )
        .of_kind(FieldErrorKind::TooLarge(longest))
    };
    (bytes > longest).then(|| problem().at(pointer, None))
}

/// Complains about everything in `value`, the value of a field, that cannot be kept: nested deeper than [`MAX_DEPTH`],
/// numbers that lose digits, and U+0000 in texts and names.
pub fn check_content(value: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    check(value, pointer, 1, errors);
}

/// Complains about U+0000 in a field's name.
pub(crate) fn check_name(name: &str, pointer: &str, errors: &mut Vec<FieldError>) {
    if name.contains('\0') {
        errors.push(nul().at(pointer, Some(&Value::from(name))));
    }
}

fn check(value: &Value, pointer: &str, depth: usize, errors: &mut Vec<FieldError>) {
    let is_container = value.is_object() || value.is_array();
    if is_container && depth > MAX_DEPTH {
        let remedy = format!("nest at most {MAX_DEPTH} levels");
        errors.push(Invalid::new("is nested too deep", remedy).at(pointer, Some(value)));
        return;
    }
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let place = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                check_name(key, &place, errors);
                check(inner, &place, depth + 1, errors);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                check(inner, &format!("{pointer}/{index}"), depth + 1, errors);
            }
        }
        // Numbers beyond 64 bits have become floating-point numbers by now.
        Value::Number(number) if !number.as_f64().is_some_and(|n| n.abs() <= MAX_NUMBER) => {
            let remedy = "use a number within ±9007199254740991, or text";
            errors.push(Invalid::new("loses digits in JSON", remedy).at(pointer, Some(value)));
        }
        Value::String(text) if text.contains('\0') => errors.push(nul().at(pointer, Some(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn nul() -> Invalid {
    Invalid::new("contains the character U+0000", "leave that character out")
}

/// The length of `value` as compact JSON.
fn size_of(value: &impl Serialize) -> usize {
    struct Counted(usize);
    impl io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    match serde_json::to_writer(&mut counted, value) {
        Ok(()) => counted.0,
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaints(value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check_content(value, "/x", &mut errors);
        errors
            .iter()
            .map(|error| format!("{} {}", error.pointer, error.problem))
            .collect()
    }

    #[test]
    fn numbers_beyond_two_to_the_53_are_refused_however_they_are_written() {
        for text in [
            "9007199254740992",
            "-9007199254740992",
            "9007199254740993.0",
            "18446744073709551616",
            "-9223372036854775809",
            "1e300",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                complaints(&json!([value])),
                ["/x/0 loses digits in JSON"],
                "{text}"
            );
        }
        assert!(complaints(&json!([9_007_199_254_740_991_u64, -0.5, 1e15])).is_empty());
    }

    #[test]
    fn the_character_u0000_is_refused_in_texts_and_in_names_and_other_control_characters_are_not() {
        assert_eq!(
            complaints(&json!({"a": "b\0", "c\0": 1})),
            [
                "/x/a contains the character U+0000",
                "/x/c\0 contains the character U+0000"
            ]
        );
        assert!(
            complaints(&json!({"a": "\u{1}\n\u{7f}\u{feff}\u{ffff}", "\u{2028}": 1})).is_empty()
        );
    }

    #[test]
    fn a_complaint_is_short_however_long_the_names_above_it_are() {
        let name = "n".repeat(30_000);
        let mut errors = Vec::new();
        check_content(&json!({name: [1e300, 1e300]}), "", &mut errors);
        assert_eq!(errors.len(), 2);
        assert!(errors.iter().all(|error| error.to_string().len() < 1_000));
    }
}
