//! Some fields of a preference as canonical JSON: equal for two preferences that have the same values in them.

use serde::Serializer;
use serde_json::{Map, Value};

/// Writes some fields of a preference as an object, in place of what was there.
pub(super) fn write_fields(
    json: &mut Vec<u8>,
    preference: &Map<String, Value>,
    which: impl Fn(&str) -> bool,
) {
    json.clear();
    serde_json::Serializer::new(json)
        .collect_map(preference.iter().filter(|(name, _)| which(name)))
        .expect("JSON can be written to memory");
}
