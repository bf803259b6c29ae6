//! JSON of others. A list or an object is split where its brackets and quotes say, without a look at what stands in
//! it, so that one entry that is broken, nested too deep or not UTF-8 spoils that entry alone. A value is then read
//! without guessing: a name that comes twice is refused.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a value whose lists and objects nest at most `levels` deep.
pub(crate) fn read(json: &[u8], levels: usize) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Strict {
        levels,
        left: levels,
    }
    .deserialize(&mut reader)?;
    reader.end().map(|()| value)
}

/// The entries of a list.
pub(crate) fn elements(json: &[u8]) -> Result<Vec<&[u8]>, String> {
    split(json, b'[', b']', "is not a list")
}

/// The members of an object.
pub(crate) struct Members<'j> {
    /// By name. One that comes twice has no value that can be read.
    pub(crate) by_name: BTreeMap<String, &'j [u8]>,
    /// What is wrong with one of them.
    pub(crate) problem: Option<String>,
}

/// The members of an object.
pub(crate) fn members(json: &[u8]) -> Result<Members<'_>, String> {
    let (mut by_name, mut problem) = (BTreeMap::new(), None);
    for member in split(json, b'{', b'}', "is not an object")? {
        let Some((name, value)) = name_and_value(member) else {
            problem.get_or_insert_with(|| "has a member without a name".to_owned());
            continue;
        };
        match by_name.entry(name) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(mut place) => {
                problem.get_or_insert_with(|| format!("has the name {:?} twice", place.key()));
                place.insert(b"");
            }
        }
    }
    Ok(Members { by_name, problem })
}

fn name_and_value(member: &[u8]) -> Option<(String, &[u8])> {
    let mut escaped = false;
    let ends = member.iter().skip(1).position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    })?;
    let (name, rest) = member.split_at(ends + 2);
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    Some((serde_json::from_slice(name).ok()?, value.trim_ascii()))
}

/// What stands between `open` and `close`, at each comma.
fn split<'j>(
    json: &'j [u8],
    open: u8,
    close: u8,
    otherwise: &str,
) -> Result<Vec<&'j [u8]>, String> {
    let json = json.trim_ascii();
    if json.first() != Some(&open) {
        return Err(otherwise.to_owned());
    }
    let (mut pieces, mut begins) = (Vec::new(), 1);
    let (mut level, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        if in_text {
            in_text = escaped || *byte != b'"';
            escaped = *byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => level += 1,
            b',' if level == 1 => {
                pieces.push(json[begins..at].trim_ascii());
                begins = at + 1;
            }
            b']' | b'}' => {
                level -= 1;
                if level > 0 {
                    continue;
                }
                if *byte != close || at + 1 < json.len() {
                    break;
                }
                let last = json[begins..at].trim_ascii();
                if !last.is_empty() || !pieces.is_empty() {
                    pieces.push(last);
                }
                return Ok(pieces);
            }
            _ => {}
        }
    }
    Err("does not end where it should".to_owned())
}

struct Strict {
    levels: usize,
    left: usize,
}

impl Strict {
    fn within<E: serde::de::Error>(&self) -> Result<Self, E> {
        let levels = self.levels;
        let left = self.left.checked_sub(1);
        let left =
            left.ok_or_else(|| E::custom(format_args!("nests more than {levels} levels")))?;
        Ok(Self { levels, left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self.within()?)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "the name {name:?} comes twice"
                )));
            }
            object.insert(name, entries.next_value_seed(self.within()?)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_whatever_stands_in_them() {
        let texts = |json: &str| -> Result<Vec<String>, String> {
            let pieces = elements(json.as_bytes())?;
            Ok(pieces
                .iter()
                .map(|piece| String::from_utf8_lossy(piece).into_owned())
                .collect())
        };
        let list = r#" [1, {"a": "],}", "b\"": [2, 3]} , "x\\", NaN, [[[,]]], ]  "#;
        assert_eq!(
            texts(list).unwrap(),
            [
                "1",
                r#"{"a": "],}", "b\"": [2, 3]}"#,
                r#""x\\""#,
                "NaN",
                "[[[,]]]",
                ""
            ]
        );
        assert!(texts("[ ]").unwrap().is_empty());
        for broken in ["", "{}", "[1", "[1}", "[1]]", "[1] x", "[\"1]", "]"] {
            assert!(texts(broken).is_err(), "{broken}");
        }
        let object = members(r#"{"a": 1, "b\"\u0063" : {"d": [1]}}"#.as_bytes()).unwrap();
        assert_eq!(object.by_name["a"], b"1");
        assert_eq!(object.by_name["b\"c"], br#"{"d": [1]}"#);
        assert_eq!(object.problem, None);
        for broken in [
            r#"{"a": 1, "\u0061": 2}"#,
            "{a: 1}",
            r#"{"a" 1}"#,
            "{,}",
            "[]",
            r#"{"a}"#,
        ] {
            let members = members(broken.as_bytes());
            assert!(
                members.is_err() || members.unwrap().problem.is_some(),
                "{broken}"
            );
        }
    }

    #[test]
    fn a_value_is_read_as_it_stands_or_refused() {
        let json = r#"{"a": [1, -2, 2.5, "x\u00e9", null, true], "b": {}}"#;
        let plain: Value = serde_json::from_str(json).unwrap();
        assert_eq!(read(json.as_bytes(), 2).unwrap(), plain);
        for (json, reason) in [
            (r#"{"a": {"b": 1, "b": 2}}"#, "the name \"b\" comes twice"),
            ("[[[]]]", "nests more than 2 levels"),
            ("1e400", "number out of range"),
            ("NaN", "expected"),
            ("\"\u{1}\"", "control character"),
            ("1 2", "trailing characters"),
        ] {
            let error = read(json.as_bytes(), 2).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
        assert!(read(b"\"\xff\"", 2).is_err());
    }
}
