//! JSON as it comes from outside, read in one way wherever it comes in: a key that is given twice is refused, and a byte
//! order mark at the beginning is skipped.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Error, Map, Value};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The longest message about what is wrong; one may quote what was sent.
const MAX_MESSAGE_LENGTH: usize = 300;

/// Reads a document. The error is a message of bounded length.
pub(crate) fn read(document: &[u8]) -> Result<Value, String> {
    let document = document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document);
    let mut deserializer = serde_json::Deserializer::from_slice(document);
    let value = Unambiguous.deserialize(&mut deserializer);
    let whole = value.and_then(|value| deserializer.end().map(|()| value));
    whole.map_err(|error| message(&error))
}

/// Reads a document of a known form.
pub(crate) fn read_as<T: DeserializeOwned>(document: &[u8]) -> Result<T, String> {
    serde_json::from_value(read(document)?).map_err(|error| message(&error))
}

fn message(error: &Error) -> String {
    cut(&error.to_string(), MAX_MESSAGE_LENGTH)
}

/// `text`, or its beginning and `…`: `longest` characters at most.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    if text.chars().nth(longest).is_none() {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

/// A JSON value in which no object has a key twice.
struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Unambiguous)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                let name = cut(&name, 60);
                return Err(A::Error::custom(format_args!(
                    "the key {name:?} is given twice; keep one of them"
                )));
            }
            let value = fields.next_value_seed(Unambiguous)?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_given_twice_is_refused_at_any_depth_and_named() {
        for document in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"x": [{"a": 1, "b": 2, "a": 3}]}"#,
            r#"[[{"a": {}, "\u0061": {}}]]"#,
        ] {
            let error = read(document.as_bytes()).unwrap_err();
            assert!(error.starts_with("the key \"a\" is given twice"), "{error}");
        }
        assert_eq!(
            read(br#"{"a": {"a": [1, -2, 0.5, null, true, "x"]}}"#).unwrap(),
            json!({"a": {"a": [1, -2, 0.5, null, true, "x"]}})
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped_where_a_document_begins_and_nowhere_else() {
        assert_eq!(read(b"\xef\xbb\xbf{}").unwrap(), json!({}));
        assert!(read(b"\xef\xbb\xbf\xef\xbb\xbf{}").is_err());
        assert!(read(b"{}\xef\xbb\xbf").is_err());
    }

    #[test]
    fn what_is_not_json_is_refused_with_a_short_message() {
        for document in [
            &b"{\"a\": \"\xe9\"}"[..],
            br#"{"a": "\ud800"}"#,
            b"{\"a\": \"\x01\"}",
            b"{} {}",
            b"",
            b"nul",
            b"[NaN]",
            b"1e999",
            "[".repeat(100_000).as_bytes(),
        ] {
            assert!(read(document).unwrap_err().len() < 400);
        }
        let long = format!("{{\"n\": \"{}\"}}", "x".repeat(100_000));
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "only read")]
        struct Number {
            n: u8,
        }
        let error = read_as::<Number>(long.as_bytes()).err().unwrap();
        assert!(error.len() < 1_000);
    }
}
