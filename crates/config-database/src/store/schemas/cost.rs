//! What checking against a JSON Schema costs at most, found out before it is used: `$ref`s that multiply make a small
//! schema as expensive as a huge one.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// The most that a schema may cost: so many values in it, each counted as often as it is referred to.
const MAX_COST: u64 = 10_000;
/// How deep a `$ref` that leads back to itself is followed: overrides are not nested deeper.
const MAX_RECURSION: u32 = 16;

/// How deep a schema may be nested, through references.
const MAX_DEPTH: u32 = 500;

/// The keywords that lead to another place of the schema.
const REFERENCE_KEYWORDS: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// How many values there are in `value`, itself included.
pub(super) fn size(value: &Value) -> u64 {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(object) => object.values().map(size).sum(),
        _ => 0,
    }
}

/// What checking one value against `schema` costs at most, unless that is too much; then what is wrong with it.
pub(super) fn of(schema: &Value) -> Result<u64, String> {
    let own = size(schema);
    if own > MAX_COST {
        return Err(format!(
            "it has {own} values; at most {MAX_COST} are allowed"
        ));
    }
    if inner_objects(schema).any(|object| object.get("$id").is_some_and(Value::is_string)) {
        return Err("only the whole schema may have an `$id`".to_owned());
    }
    let places = places(schema)?;
    let looping = places
        .keys()
        .copied()
        .filter(|place| leads_back(place, &places))
        .collect();
    let mut costs = Costs {
        schema,
        looping,
        known: HashMap::new(),
        depth: 0,
    };
    let cost = costs.of_value(schema, MAX_RECURSION);
    if cost > MAX_COST {
        return Err(format!(
            "its references multiply to more than {MAX_COST} values; refer to each part fewer times"
        ));
    }
    Ok(cost)
}

/// Every place that is referred to, with the places that it refers to itself.
type References<'s> = HashMap<&'s str, BTreeSet<&'s str>>;

fn places(schema: &Value) -> Result<References<'_>, String> {
    let mut places = References::new();
    let mut next = Vec::from_iter(references(schema));
    while let Some(place) = next.pop() {
        if places.contains_key(place) {
            continue;
        }
        let target = resolve(schema, place).ok_or_else(|| {
            let place = crate::json::cut(place, 60);
            format!(
                "`{place}` does not exist; refer to a place in this schema, such as #/$defs/name"
            )
        })?;
        let further = references(target);
        next.extend(&further);
        places.insert(place, further);
    }
    Ok(places)
}

fn leads_back(place: &str, places: &References<'_>) -> bool {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&str> = places[place].iter().copied().collect();
    while let Some(other) = next.pop() {
        if other == place {
            return true;
        }
        if seen.insert(other) {
            next.extend(&places[other]);
        }
    }
    false
}

/// The references anywhere in `value`.
fn references(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .into_iter()
        .chain(inner_objects(value))
        .flat_map(|object| object.iter().filter_map(reference))
        .collect()
}

fn reference<'s>((keyword, value): (&'s String, &'s Value)) -> Option<&'s str> {
    if REFERENCE_KEYWORDS.contains(&keyword.as_str()) {
        value.as_str()
    } else {
        None
    }
}

/// The objects anywhere in `value`, but not itself.
fn inner_objects(value: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let mut next = vec![value];
    std::iter::from_fn(move || {
        loop {
            let inner: Vec<&Value> = match next.pop()? {
                Value::Array(list) => list.iter().collect(),
                Value::Object(object) => object.values().collect(),
                _ => continue,
            };
            let objects: Vec<_> = inner.iter().filter_map(|inner| inner.as_object()).collect();
            next.extend(inner);
            return Some(objects);
        }
    })
    .flatten()
}

fn resolve<'s>(schema: &'s Value, place: &str) -> Option<&'s Value> {
    let place = place.strip_prefix('#')?;
    if place.is_empty() || place.starts_with('/') {
        return schema.pointer(place);
    }
    let named = |value: &Value| {
        ["$anchor", "$dynamicAnchor"]
            .iter()
            .any(|anchor| value.get(anchor).and_then(Value::as_str) == Some(place))
    };
    let mut next = vec![schema];
    while let Some(value) = next.pop() {
        if named(value) {
            return Some(value);
        }
        match value {
            Value::Array(list) => next.extend(list),
            Value::Object(object) => next.extend(object.values()),
            _ => {}
        }
    }
    None
}

struct Costs<'s> {
    schema: &'s Value,
    /// The places that lead back to themselves.
    looping: BTreeSet<&'s str>,
    known: HashMap<(&'s str, u32), u64>,
    /// How deep the value is nested that is being counted, through references.
    depth: u32,
}

impl<'s> Costs<'s> {
    fn of_value(&mut self, value: &'s Value, levels: u32) -> u64 {
        if self.depth >= MAX_DEPTH {
            return u64::MAX;
        }
        self.depth += 1;
        let mut cost: u64 = 1;
        match value {
            Value::Array(list) => {
                for inner in list {
                    cost = cost.saturating_add(self.of_value(inner, levels));
                }
            }
            Value::Object(object) => {
                for (keyword, inner) in object {
                    let inner = match reference((keyword, inner)) {
                        Some(place) => self.of_place(place, levels),
                        None => self.of_value(inner, levels),
                    };
                    cost = cost.saturating_add(inner);
                }
                // What was not evaluated is found by evaluating once more.
                if object
                    .keys()
                    .any(|keyword| keyword.starts_with("unevaluated"))
                {
                    cost = cost.saturating_mul(2);
                }
            }
            _ => {}
        }
        self.depth -= 1;
        cost
    }

    fn of_place(&mut self, place: &'s str, levels: u32) -> u64 {
        let levels = match self.looping.contains(place) {
            true if levels == 0 => return 1,
            true => levels - 1,
            false => levels,
        };
        if let Some(known) = self.known.get(&(place, levels)) {
            return *known;
        }
        let cost = match resolve(self.schema, place) {
            Some(target) => self.of_value(target, levels),
            None => 1,
        };
        self.known.insert((place, levels), cost);
        cost
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `levels` definitions, each of `keyword` with the one before it twice.
    fn doubling(levels: usize, keyword: &str) -> Value {
        let mut definitions = Map::from_iter([("d0".to_owned(), json!({"const": 1}))]);
        for level in 1..=levels {
            let before = json!({"$ref": format!("#/$defs/d{}", level - 1)});
            definitions.insert(format!("d{level}"), json!({keyword: [before, before]}));
        }
        json!({"$defs": definitions, "properties": {"a": {"$ref": format!("#/$defs/d{levels}")}}})
    }

    #[test]
    fn references_that_multiply_are_refused_whatever_multiplies_them() {
        for keyword in ["anyOf", "allOf", "oneOf", "prefixItems"] {
            assert!(of(&doubling(4, keyword)).is_ok());
            for levels in [12, 24, 2_000] {
                let refused = of(&doubling(levels, keyword)).unwrap_err();
                assert!(refused.contains("multiply") || levels == 2_000, "{refused}");
            }
        }
        let twice = json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}});
        assert!(
            of(&twice).is_err(),
            "it doubles with every level of what is checked"
        );
        let anchored = json!({"$defs": {"n": {"$anchor": "n", "anyOf": [{"$ref": "#n"}, {"$ref": "#n"}]}}, "$ref": "#n"});
        assert!(of(&anchored).is_err());
        let unevaluated = (0..20).fold(
            json!({}),
            |inner, _| json!({"allOf": [inner], "unevaluatedProperties": false}),
        );
        assert!(of(&unevaluated).is_err());
        assert!(of(&json!({"enum": vec![1; 20_000]})).is_err());
    }

    #[test]
    fn usual_schemas_are_accepted_also_those_that_lead_back_to_themselves() {
        let tree = json!({"properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}}});
        assert!(of(&tree).unwrap() < 300);
        let shared = json!({"$id": "https://shop.example/overrides", "$defs": {"text": {"type": "string", "maxLength": 80}},
            "properties": (0..100).map(|n| (format!("p{n}"), json!({"$ref": "#/$defs/text"}))).collect::<Map<_, _>>()});
        assert!(of(&shared).is_ok());
        assert!(of(&json!(true)).is_ok());
    }

    #[test]
    fn references_out_of_the_schema_are_refused() {
        for place in [
            "http://127.0.0.1:1/schema.json",
            "https://json-schema.org/draft/2020-12/schema",
            "other",
            "#/$defs/missing",
            "#missing",
        ] {
            assert!(
                of(&json!({"$ref": place}))
                    .unwrap_err()
                    .contains("does not exist"),
                "{place}"
            );
        }
        let inner = json!({"$defs": {"a": {"$id": "https://shop.example/a", "$ref": "#"}}, "$ref": "#/$defs/a"});
        assert!(of(&inner).unwrap_err().contains("`$id`"));
    }
}
