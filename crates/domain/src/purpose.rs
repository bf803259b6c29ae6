//! `purposes.json`: which handler runs a purpose, read strictly, every mistake reported at once.

use std::time::Duration;

use serde_json::Value;

use crate::{
    ids::PurposeId,
    validation::{FieldErrors, Fields, Invalid, object_at, text, whole_number},
};

/// One purpose and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurposeConfig {
    /// Its name, as jobs use it.
    pub purpose_id: PurposeId,
    /// What runs it.
    pub handler: HandlerConfig,
    /// How long one attempt may take; `None`: the processor's default.
    pub item_timeout: Option<Duration>,
}

/// The built-in handlers and their settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerConfig {
    /// Renders a text template with the tenant's overrides.
    Template {
        /// The file's name in the folder of templates.
        template: String,
    },
}

/// Reads the content of `purposes.json`: `{"purposes": {name: {"handler": …}}}`.
///
/// # Errors
/// Every mistake in it.
pub fn parse_purposes(document: &Value) -> Result<Vec<PurposeConfig>, FieldErrors> {
    let mut fields = Fields::new(object_at(document, "")?, "");
    fields.raw("$schema");
    if fields.raw("purposes").is_none() {
        fields.complain(
            "purposes",
            Invalid::new("is missing", "add \"purposes\": { … }"),
        );
    }
    let purposes = fields.nested("purposes", parse_all);
    fields.deny_others();
    fields.finish(|| purposes)
}

fn parse_all(value: &Value, pointer: &str) -> Result<Vec<PurposeConfig>, FieldErrors> {
    let mut purposes = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in object_at(value, pointer)? {
        let pointer = format!("{pointer}/{name}");
        match parse_one(name, value, &pointer) {
            Ok(purpose) => purposes.push(purpose),
            Err(found) => errors.extend(found.0),
        }
    }
    if errors.is_empty() {
        Ok(purposes)
    } else {
        Err(FieldErrors(errors))
    }
}

fn parse_one(name: &str, value: &Value, pointer: &str) -> Result<PurposeConfig, FieldErrors> {
    let purpose_id = PurposeId::new(name).map_err(|error| {
        FieldErrors(vec![
            Invalid::from(error).at(pointer, Some(&Value::from(name))),
        ])
    })?;
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    fields.required("handler", HANDLERS, |value| match text(value)? {
        "template" => Ok(()),
        _ => Err(Invalid::new("is not a handler", HANDLERS)),
    });
    let template = fields.required(
        "template",
        "add the name of a file in the folder of templates",
        text,
    );
    let timeout = fields.optional("item_timeout_ms", |value| {
        whole_number(value, 1..=86_400_000)
    });
    fields.deny_others();
    fields.finish(|| {
        Some(PurposeConfig {
            purpose_id,
            handler: HandlerConfig::Template {
                template: template?.to_owned(),
            },
            item_timeout: timeout.map(Duration::from_millis),
        })
    })
}

const HANDLERS: &str = "use template";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_purpose_names_its_handler_and_template() {
        let purposes = parse_purposes(&json!({"purposes": {
            "post": {"handler": "template", "template": "post.txt.j2", "item_timeout_ms": 500}
        }}))
        .unwrap();
        assert_eq!(purposes[0].purpose_id.as_str(), "post");
        assert_eq!(purposes[0].item_timeout, Some(Duration::from_millis(500)));
    }

    #[test]
    fn every_mistake_is_reported() {
        let errors = parse_purposes(&json!({"purposes": {
            "a b": {}, "c": {"handler": "magic", "colour": 1}, "d": 3
        }}))
        .unwrap_err();
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        for expected in [
            "/purposes/a b: \"a b\" is not a valid purpose_id",
            "/purposes/c/handler: \"magic\" is not a handler; use template",
            "/purposes/c/template: is missing",
            "/purposes/c/colour: 1 is not a known field",
            "/purposes/d: 3 has the wrong type",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(expected)),
                "{expected} in {lines:#?}"
            );
        }
    }
}
