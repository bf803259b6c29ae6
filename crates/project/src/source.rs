//! Where the records of a job with a schedule of its own come from: a source, among the fields of a job.

use std::collections::BTreeSet;

use punctual_domain::{
    FieldErrors, Fields, Filter, Invalid, ItemId, Location, Source, below, object_at,
    values::{boolean, http_url, text, whole_number},
};
use serde_json::Value;

/// Reads a source at `pointer`.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn parse_source(value: &Value, pointer: &str) -> Result<Source, FieldErrors> {
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    if fields.raw("ids").is_some() {
        let ids = fields.nested("ids", parse_ids);
        fields.deny_others();
        return fields.finish(|| {
            Some(Source {
                location: Location::Listed(ids?),
                filters: Vec::new(),
                limit: None,
            })
        });
    }
    let file = fields.optional("file", text);
    let url = fields.optional("url", http_url);
    let items = fields.optional("items", json_pointer);
    let api_key_env = fields.optional("api_key_env", text);
    let private = fields.optional("allow_private_addresses", boolean);
    if file.is_some() == url.is_some() && (file.is_some() || value.get("url").is_none()) {
        let remedy = "add exactly one of: the path from the folder of batch_config.json, a \"url\", or \"ids\"";
        fields.complain(
            "file",
            Invalid::new("is missing or given beside a url", remedy),
        );
    }
    let of_url = items.is_some() || api_key_env.is_some() || private.is_some();
    if file.is_some() && of_url {
        let problem = "cannot be combined with items, api_key_env or allow_private_addresses";
        fields.complain("file", Invalid::new(problem, "remove them"));
    }
    let filters = fields.nested("filters", parse_filters).unwrap_or_default();
    let limit = fields.optional("limit", |value| whole_number(value, 1..=10_000_000));
    fields.deny_others();
    fields.finish(|| {
        let location = match (file, url) {
            (Some(file), _) => Location::File(file.to_owned()),
            (None, Some(url)) => Location::Http {
                url: url.to_owned(),
                items: items.unwrap_or_default().to_owned(),
                api_key_env: api_key_env.map(str::to_owned),
                allow_private_addresses: private.unwrap_or(false),
            },
            (None, None) => return None,
        };
        Some(Source {
            location,
            filters,
            limit: limit.map(|limit| limit as usize),
        })
    })
}

/// A place in a JSON document.
pub(crate) fn json_pointer(value: &Value) -> Result<&str, Invalid> {
    match text(value)? {
        "" => Ok(""),
        pointer if pointer.starts_with('/') => Ok(pointer),
        _ => Err(Invalid::new(
            "is not a JSON pointer",
            "use one such as /data/items",
        )),
    }
}

/// The ids of records that are nothing else, each once.
fn parse_ids(value: &Value, pointer: &str) -> Result<Vec<ItemId>, FieldErrors> {
    let list = value.as_array().ok_or_else(|| {
        Invalid::wrong_type("a list of ids, such as [\"north\", \"south\"]")
            .at(pointer, Some(value))
    })?;
    let mut seen = BTreeSet::new();
    FieldErrors::collect(list.iter().enumerate().map(|(place, value)| {
        let id = text(value).and_then(|id| {
            let id = ItemId::record(id)?;
            if seen.insert(id.clone()) {
                Ok(id)
            } else {
                Err(Invalid::new("is listed twice", "list every id once"))
            }
        });
        id.map_err(|invalid| invalid.at(format!("{pointer}/{place}"), Some(value)).into())
    }))
}

fn parse_filters(value: &Value, pointer: &str) -> Result<Vec<Filter>, FieldErrors> {
    FieldErrors::collect(object_at(value, pointer)?.iter().map(|(name, value)| {
        Filter::new(name, value)
            .map_err(|invalid| invalid.at(below(pointer, name), Some(value)).into())
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(filters: Value) -> Result<Source, String> {
        let value = json!({"file": "x.json", "filters": filters});
        parse_source(&value, "/source").map_err(|errors| errors.to_string())
    }

    #[test]
    fn records_are_chosen_by_bounds_tags_time_and_equality() {
        let records = vec![
            json!({"id": "a", "price": 5, "tags": ["sale"], "created_at": "2026-01-01", "kind": "mug", "on": true}),
            json!({"id": "b", "price": "12.5", "tags": "new, sale", "created_at": "2026-02-01T10:00:00+01:00", "kind": "mug", "on": "true"}),
            json!({"id": "c", "price": 20, "tags": [], "created_at": "2026-03-01", "kind": "cup", "on": false}),
            json!({"id": "d"}),
        ];
        let chosen = |filters: Value| -> String {
            let chosen = source(filters).unwrap().choose(records.clone());
            chosen
                .iter()
                .map(|record| record["id"].as_str().unwrap())
                .collect()
        };
        for (filters, expected) in [
            (json!({}), "abcd"),
            (json!({"min_price": 12.5}), "bc"),
            (json!({"max_price": 12.5}), "ab"),
            (json!({"min_price": 6, "max_price": 15}), "b"),
            (json!({"tags": ["sale"]}), "ab"),
            (json!({"tags": ["old", "new"]}), "b"),
            (json!({"created_after": "2026-01-01"}), "bc"),
            (json!({"created_after": "2026-02-01T09:00:00Z"}), "c"),
            (json!({"min_created_at": "2026-02-01"}), "bc"),
            (json!({"kind": "mug"}), "ab"),
            (json!({"kind": ["cup", "pot"]}), "c"),
            (json!({"on": true}), "ab"),
            (json!({"price": 12.5}), "b"),
            (json!({"kind": "mug", "tags": ["new"]}), "b"),
        ] {
            assert_eq!(chosen(filters.clone()), expected, "{filters}");
        }
        let mut limited = source(json!({"kind": ["mug", "cup"]})).unwrap();
        limited.limit = Some(2);
        assert_eq!(
            limited.choose(records).len(),
            2,
            "the limit counts what is wanted"
        );
    }

    #[test]
    fn what_cannot_be_a_filter_or_a_source_is_said() {
        for (filters, expected) in [
            (
                json!({"min_price": "cheap"}),
                "/source/filters/min_price: \"cheap\" is not a valid bound",
            ),
            (
                json!({"tags": 3}),
                "/source/filters/tags: 3 is not a list of tags",
            ),
            (
                json!({"created_after": "soon"}),
                "/source/filters/created_after: \"soon\" is not a date or an instant",
            ),
            (
                json!({"kind": {"in": []}}),
                "/source/filters/kind: {\"in\":[]} is an object",
            ),
        ] {
            let error = source(filters).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        for (value, expected) in [
            (json!({}), "/source/file: is missing"),
            (
                json!({"file": "a", "url": "https://x"}),
                "/source/file: \"a\" is missing or given beside a url",
            ),
            (
                json!({"ids": ["a", "b c"]}),
                "/source/ids/1: \"b c\" is not a valid id",
            ),
            (
                json!({"ids": ["a", "a"]}),
                "/source/ids/1: \"a\" is listed twice",
            ),
            (json!({"ids": "a"}), "/source/ids: \"a\" has the wrong type"),
            (
                json!({"ids": ["a"], "limit": 3}),
                "/source/limit: 3 is not a known field",
            ),
            (json!({"url": "x"}), "/source/url: \"x\" is not a URL"),
            (
                json!({"url": "https://x", "items": "data"}),
                "/source/items: \"data\" is not a JSON pointer",
            ),
        ] {
            let errors = parse_source(&value, "/source").unwrap_err().to_string();
            assert!(errors.starts_with(expected), "{errors}");
            assert!(
                !errors.contains(" | "),
                "one mistake is one error: {errors}"
            );
        }
    }
}
