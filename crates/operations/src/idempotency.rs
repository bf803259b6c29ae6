//! Reads the `Idempotency-Key` of a request.

use axum::{extract::FromRequestParts, http::request::Parts};
use punctual_application::{IdempotencyKey, OperatorError};

use super::{App, problem::Problem};

const HEADER: &str = "idempotency-key";

/// The `Idempotency-Key` of a request, if it has one.
#[derive(Debug, Default)]
pub(super) struct IdempotencyHeader(pub(super) Option<IdempotencyKey>);

impl IdempotencyHeader {
    /// The key of a form; one without a key is done each time that it is sent.
    pub(super) fn of_form(key: Option<String>) -> Result<Self, OperatorError> {
        let key = key.filter(|key| !key.is_empty());
        Ok(Self(key.map(|key| IdempotencyKey::new(&key)).transpose()?))
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
