//! `purposes.json`: which handler runs a purpose and how fast it may, read strictly, every mistake reported at once. The
//! options of a handler are read by that handler, which stands with the options in one object.

use std::time::Duration;

use punctual_domain::{
    FieldErrors, Fields, Invalid, PurposeId, below, object_at,
    values::{text, whole_number},
};
use serde_json::Value;

/// What every purpose may say, whatever runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Purpose {
    /// Its name, as jobs use it.
    pub purpose_id: PurposeId,
    /// How long one attempt may take; `None`: the processor's default.
    pub item_timeout: Option<Duration>,
    /// Calls at one time, over all jobs of the process.
    pub concurrency: Option<u32>,
    /// Calls begun in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens used in a minute, as results report them.
    pub tokens_per_minute: Option<u32>,
    /// Calls begun in a minute for the items of one organization.
    pub requests_per_minute_per_organization: Option<u32>,
    /// Tokens used in a minute for the items of one organization.
    pub tokens_per_minute_per_organization: Option<u32>,
}

/// Reads the content of `purposes.json`: `{"purposes": {name: {"handler": …}}}`. `read` takes the place of the named
/// handler among `handlers` and reads the handler's options; mistakes stay with the fields.
///
/// # Errors
/// Every mistake in it.
pub fn parse_purposes<H>(
    document: &Value,
    handlers: &[&str],
    mut read: impl FnMut(usize, &Purpose, &mut Fields<'_>) -> Option<H>,
) -> Result<Vec<(Purpose, H)>, FieldErrors> {
    let mut fields = Fields::new(object_at(document, "")?, "");
    fields.raw("$schema");
    if fields.raw("purposes").is_none() {
        let missing = Invalid::new("is missing", "add \"purposes\": { … }");
        fields.complain("purposes", missing);
    }
    let purposes = fields.nested("purposes", |value, pointer| {
        let purposes = object_at(value, pointer)?.iter();
        FieldErrors::collect(purposes.map(|(name, value)| {
            parse_purpose(name, value, &below(pointer, name), handlers, &mut read)
        }))
    });
    fields.deny_others();
    fields.finish(|| purposes)
}

fn parse_purpose<H>(
    name: &str,
    value: &Value,
    pointer: &str,
    handlers: &[&str],
    read: &mut impl FnMut(usize, &Purpose, &mut Fields<'_>) -> Option<H>,
) -> Result<(Purpose, H), FieldErrors> {
    let purpose_id = PurposeId::new(name)
        .map_err(|error| Invalid::from(error).at(pointer, Some(&Value::from(name))))?;
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let one_of = format!("use one of {}", handlers.join(", "));
    let handler = fields.required("handler", &one_of, |value| {
        let name = text(value)?;
        let place = handlers.iter().position(|known| *known == name);
        place.ok_or_else(|| Invalid::new("is not a handler", &one_of))
    });
    let timeout = fields.optional("item_timeout_ms", |value| {
        whole_number(value, 1..=86_400_000)
    });
    let per_minute = |value: &Value| whole_number(value, 1..=1_000_000_000).map(|n| n as u32);
    let purpose = Purpose {
        purpose_id,
        item_timeout: timeout.map(Duration::from_millis),
        concurrency: fields.optional("concurrency", |value| {
            whole_number(value, 1..=10_000).map(|n| n as u32)
        }),
        requests_per_minute: fields.optional("requests_per_minute", per_minute),
        tokens_per_minute: fields.optional("tokens_per_minute", per_minute),
        requests_per_minute_per_organization: fields
            .optional("requests_per_minute_per_organization", per_minute),
        tokens_per_minute_per_organization: fields
            .optional("tokens_per_minute_per_organization", per_minute),
    };
    // Which other fields there may be, only the handler knows.
    let Some(handler) = handler else {
        return fields.finish(|| None);
    };
    let handler = read(handler, &purpose, &mut fields);
    fields.deny_others();
    fields.finish(|| Some((purpose, handler?)))
}

#[cfg(test)]
mod tests {
    use punctual_domain::values::http_url;
    use serde_json::json;

    use super::*;

    /// Purposes of two handlers: `quiet`, which has no options, and `call`, which needs a URL.
    fn parse(document: &Value) -> Result<Vec<(Purpose, Option<String>)>, FieldErrors> {
        parse_purposes(document, &["quiet", "call"], |kind, _, fields| match kind {
            0 => Some(None),
            _ => fields
                .required("url", "add one", http_url)
                .map(|url| Some(url.to_owned())),
        })
    }

    #[test]
    fn a_purpose_names_its_handler_and_what_it_needs() {
        let purposes = parse(&json!({"$schema": "x", "purposes": {
            "post": {"handler": "quiet", "item_timeout_ms": 500, "concurrency": 4,
                     "requests_per_minute_per_organization": 60, "tokens_per_minute_per_organization": 9000},
            "crm": {"handler": "call", "url": "https://crm.example/hook"}
        }}))
        .unwrap();
        let of = |name: &str| {
            let found = purposes
                .iter()
                .find(|(one, _)| one.purpose_id.as_str() == name);
            found.unwrap().clone()
        };
        let (post, options) = of("post");
        assert_eq!(post.item_timeout, Some(Duration::from_millis(500)));
        assert_eq!((post.concurrency, options), (Some(4), None));
        assert_eq!(post.requests_per_minute_per_organization, Some(60));
        assert_eq!(post.tokens_per_minute_per_organization, Some(9000));
        assert_eq!(
            (post.requests_per_minute, post.tokens_per_minute),
            (None, None)
        );
        assert_eq!(of("crm").1.as_deref(), Some("https://crm.example/hook"));
    }

    #[test]
    fn every_mistake_is_reported() {
        let errors = parse(&json!({"purposes": {
            "a b": {}, "c": {"handler": "magic"}, "d": 3,
            "e": {"handler": "call", "colour": 1},
            "f": {"handler": "call", "url": "ftp://x", "requests_per_minute": 0},
            "g": {"handler": "quiet", "requests_per_minute_per_organization": 0,
                  "tokens_per_minute_per_organization": "9000"}
        }}))
        .unwrap_err();
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        for expected in [
            "/purposes/a b: \"a b\" is not a valid purpose_id",
            "/purposes/c/handler: \"magic\" is not a handler; use one of quiet, call",
            "/purposes/d: 3 has the wrong type",
            "/purposes/e/url: is missing",
            "/purposes/e/colour: 1 is not a known field",
            "/purposes/f/url: \"ftp://x\" is not a URL",
            "/purposes/f/requests_per_minute: 0 is out of range",
            "/purposes/g/requests_per_minute_per_organization: 0 is out of range",
            "/purposes/g/tokens_per_minute_per_organization: \"9000\" is out of range",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(expected)),
                "{expected} in {lines:#?}"
            );
        }
    }
}
