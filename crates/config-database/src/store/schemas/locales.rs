//! The texts that a schema gives the fields of the form in other languages: `x-locales` of a property, by tag. A misspelled key
//! would otherwise be a text that no page shows.

use punctual_domain::LanguageTag;
use serde_json::{Map, Value};

/// The keys of a language's texts that are texts themselves; `choices` names each choice.
const TEXTS: [&str; 2] = ["title", "description"];

/// Checks the texts of all properties.
///
/// # Errors
/// The first key or value that no page could show, with where it stands, and the remedy.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let Some(locales) = property.get("x-locales") else {
            continue;
        };
        let place = format!("/properties/{name}/x-locales");
        for (tag, texts) in object(locales, &place, "an object of languages")? {
            let place = format!("{place}/{tag}");
            if tag.parse::<LanguageTag>().is_err() {
                return Err(format!(
                    "{place}: \"{tag}\" is not a language; use a language tag such as de or pt-BR"
                ));
            }
            check_texts(texts, &place)?;
        }
    }
    Ok(())
}

/// Checks the texts of a language.
fn check_texts(texts: &Value, place: &str) -> Result<(), String> {
    for (key, text) in object(texts, place, "an object with title, description or choices")? {
        let place = format!("{place}/{key}");
        match key.as_str() {
            key if TEXTS.contains(&key) => check_text(text, &place)?,
            "choices" => {
                for (choice, text) in object(text, &place, "an object of texts by choice")? {
                    check_text(text, &format!("{place}/{choice}"))?;
                }
            }
            _ => {
                return Err(format!(
                    "{place}: \"{key}\" is not known; use title, description or choices"
                ));
            }
        }
    }
    Ok(())
}

fn object<'v>(
    value: &'v Value,
    place: &str,
    expected: &str,
) -> Result<&'v Map<String, Value>, String> {
    let object = value.as_object();
    object.ok_or_else(|| format!("{place}: {value} has the wrong type; use {expected}"))
}

fn check_text(value: &Value, place: &str) -> Result<(), String> {
    if value.is_string() {
        return Ok(());
    }
    Err(format!(
        "{place}: {value} has the wrong type; use text in quotes"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_that_no_page_could_show_are_refused() {
        let with = |locales: Value| {
            let property = json!({"enum": ["dry"], "x-locales": locales});
            check(&json!({"properties": {"tone": property, "other": true}}))
        };
        let good = json!({"de": {"title": "Ton", "choices": {"dry": "Trocken"}}, "pt-BR": {"description": "Tom"}});
        assert_eq!(with(good), Ok(()));
        assert_eq!(check(&json!({})), Ok(()));
        for (wrong, part) in [
            (json!([]), "x-locales: [] has the wrong type"),
            (
                json!({"german": {}}),
                "x-locales/german: \"german\" is not a language",
            ),
            (json!({"de": "Ton"}), "/de: \"Ton\" has the wrong type"),
            (
                json!({"de": {"titel": "Ton"}}),
                "/de/titel: \"titel\" is not known",
            ),
            (
                json!({"de": {"title": 1}}),
                "/de/title: 1 has the wrong type",
            ),
            (json!({"de": {"choices": ["Trocken"]}}), "/de/choices: "),
            (
                json!({"de": {"choices": {"dry": null}}}),
                "/de/choices/dry: null ",
            ),
        ] {
            let refused = with(wrong).unwrap_err();
            assert!(refused.contains(part), "{part}: {refused}");
            assert!(
                refused.starts_with("/properties/tone/x-locales"),
                "{refused}"
            );
        }
    }
}
