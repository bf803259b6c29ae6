//! Template overrides: free-form JSON that a tenant may set, within limits, merged over a job's defaults.

use serde_json::{Map, Value};

use crate::input::{
    errors::FieldErrors,
    fields::object_at,
    limits::{MAX_DEPTH, check_content, check_size},
};

/// Largest overrides, in bytes of compact JSON.
pub const MAX_OVERRIDES_BYTES: usize = 16 * 1024;
/// Deepest nesting of overrides; the object itself is level 1.
pub const MAX_OVERRIDES_DEPTH: usize = MAX_DEPTH;

/// Checks overrides that stand at `pointer`.
///
/// # Errors
/// Everything that breaks a limit: not an object, larger than [`MAX_OVERRIDES_BYTES`], or what no field may hold
/// ([`check_content`]).
pub fn parse_overrides(value: &Value, pointer: &str) -> Result<Map<String, Value>, FieldErrors> {
    let object = object_at(value, pointer)?;
    let mut errors = Vec::from_iter(check_size(value, pointer, MAX_OVERRIDES_BYTES));
    check_content(value, pointer, &mut errors);
    if errors.is_empty() {
        Ok(object.clone())
    } else {
        Err(FieldErrors(errors))
    }
}

/// `over` laid over `base`: objects merge key by key, everything else is replaced.
#[must_use]
pub fn merge_objects(base: &Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = base.clone();
    for (key, value) in over {
        match (merged.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => *old = merge_objects(old, new),
            _ => {
                merged.insert(key.clone(), value.clone());
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("[a-c]", value(), 0..4)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn nothing_laid_over_changes_nothing(a in object()) {
            let empty = Map::new();
            prop_assert_eq!(&merge_objects(&a, &empty), &a);
            prop_assert_eq!(&merge_objects(&empty, &a), &a);
            prop_assert_eq!(&merge_objects(&a, &a), &a);
        }

        #[test]
        fn merging_the_same_twice_is_merging_it_once(a in object(), b in object()) {
            let once = merge_objects(&a, &b);
            prop_assert_eq!(&merge_objects(&once, &b), &once);
        }

        #[test]
        fn the_tenants_leaf_always_wins_and_untouched_keys_stay(a in object(), b in object()) {
            let merged = merge_objects(&a, &b);
            for (key, value) in &b {
                if !value.is_object() {
                    prop_assert_eq!(&merged[key], value);
                }
            }
            for (key, value) in &a {
                if !b.contains_key(key) {
                    prop_assert_eq!(&merged[key], value);
                }
            }
            prop_assert!(merged.keys().all(|key| a.contains_key(key) || b.contains_key(key)));
        }
    }

    #[test]
    fn limits_name_the_place_and_the_remedy() {
        let deep = (0..20).fold(json!(1), |inner, _| json!({ "a": inner }));
        let errors = parse_overrides(&deep, "/template_overrides").unwrap_err().0;
        assert!(errors[0].pointer.starts_with("/template_overrides/a/a"));
        assert!(errors[0].remedy.contains("16 levels"));

        let errors = parse_overrides(
            &json!({"n": 9_007_199_254_740_993_u64, "m": -9_007_199_254_740_993_i64}),
            "",
        )
        .unwrap_err();
        assert_eq!(errors.0.len(), 2);
        assert_eq!(errors.0[1].pointer, "/n");

        let long = json!({ "text": "x".repeat(MAX_OVERRIDES_BYTES) });
        assert!(
            parse_overrides(&long, "")
                .unwrap_err()
                .to_string()
                .contains("16384 bytes")
        );
        assert!(parse_overrides(&json!({"n": 9_007_199_254_740_991_u64}), "").is_ok());
    }
}
