//! This server's errors as [`Problem`], and bodies of JSON.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use punctual_web::{Problem, problem::responses};
use serde::de::DeserializeOwned;
use tracing::error;
use utoipa::{
    IntoResponses,
    openapi::{RefOr, response::Response},
};

use crate::{
    json::read_as,
    store::{ChangeError, FeedError, GroupsError, KeyError, SchemaError, StoreError},
};

/// When to try again what the store could not do.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The errors that any call may answer with.
pub(super) struct AnyProblem;

impl IntoResponses for AnyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[
            ("400", "The request cannot be read"),
            ("401", "The API key is missing or wrong"),
            ("403", "The API key does not permit this"),
            ("413", "The request is too large"),
            ("422", "The request is not valid"),
            ("429", "Too many calls; `Retry-After` says when to retry"),
            (
                "503",
                "The store does not answer, or the server is stopping",
            ),
        ])
    }
}

/// A JSON body, whatever its content type says; a mistake in it becomes a `Problem`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
        json_of(&body).map(Self)
    }
}

pub(super) fn json_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    read_as(body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body: {error}; see /openapi.json for its schema"
        ))
    })
}

impl From<StoreError> for Problem {
    fn from(store_error: StoreError) -> Self {
        error!(error = %store_error, "The store failed: {store_error}");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store failed; try again, and see the log",
        )
        .retry_after(STORE_RETRY_AFTER)
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Missing => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            ChangeError::Unexpected(current) => {
                let current =
                    current.map_or_else(|| "none".to_owned(), |version| version.to_string());
                let detail = format!("{error}: its version is {current}; read it again");
                Self::new(StatusCode::PRECONDITION_FAILED, detail)
            }
            ChangeError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            ChangeError::Invalid(errors) => errors.into(),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<SchemaError> for Problem {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Invalid(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            SchemaError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Name => Self::bad_request(error.to_string()),
            KeyError::Taken(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Ahead { .. } | FeedError::Purged { .. } => {
                Self::new(StatusCode::GONE, error.to_string())
            }
            FeedError::Store(error) => error.into(),
        }
    }
}

impl From<GroupsError> for Problem {
    fn from(error: GroupsError) -> Self {
        match error {
            GroupsError::Cursor(_) => Self::bad_request(error.to_string()),
            GroupsError::Store(error) => error.into(),
        }
    }
}
