//! Reads the `Idempotency-Key` of a request.

use axum::{extract::FromRequestParts, http::request::Parts};
use punctual_application::{IdempotencyKey, OperatorError};
use serde::Serialize;
use serde_json::json;

use super::{App, problem::Problem};

const HEADER: &str = "idempotency-key";

/// The `Idempotency-Key` of a request, if it has one.
#[derive(Debug, Default)]
pub(super) struct IdempotencyHeader(pub(super) Option<IdempotencyKey>);

impl IdempotencyHeader {
    /// The key of what a form asks for: all buttons of a page send the key of the page, and each action on each selection is a
    /// request of its own. One without a key is done each time that it is sent.
    pub(super) fn of_form(
        key: Option<String>,
        action: &str,
        asked: &impl Serialize,
    ) -> Result<Self, OperatorError> {
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Ok(Self(None));
        };
        let asked = blake3::hash(json!([action, asked]).to_string().as_bytes()).to_hex();
        let key = IdempotencyKey::new(&format!("{key}-{}", &asked[..16]))?;
        Ok(Self(Some(key)))
    }
}

impl FromRequestParts<App> for IdempotencyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all(HEADER).iter();
        match (keys.next(), keys.next()) {
            (None, _) => Ok(Self(None)),
            // A value that is not text becomes an empty key, which is refused.
            (Some(key), None) => {
                let key = IdempotencyKey::new(key.to_str().unwrap_or_default())?;
                Ok(Self(Some(key)))
            }
            (Some(_), Some(_)) => Err(Problem::bad_request(
                "the header Idempotency-Key is given twice; send it once",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_on_each_selection_of_a_page_has_a_key_of_its_own() {
        let key = |action: &str, ids: &[i64]| {
            let key = Some("page".to_owned());
            let IdempotencyHeader(key) = IdempotencyHeader::of_form(key, action, &ids).unwrap();
            key.unwrap().to_string()
        };
        assert_eq!(key("discard", &[1]), key("discard", &[1]));
        let keys = [
            key("discard", &[1]),
            key("discard", &[2]),
            key("replay", &[1]),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), 3, "{keys:?}");
        assert!(keys.iter().all(|key| key.starts_with("page-")), "{keys:?}");
        for none in [None, Some(String::new())] {
            let IdempotencyHeader(key) = IdempotencyHeader::of_form(none, "replay", &1).unwrap();
            assert_eq!(key, None);
        }
    }
}
