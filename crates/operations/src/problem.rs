//! The agent's errors as [`punctual_web::Problem`].

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::rejection::{FormRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use punctual_application::{OperatorError, ports::StoreError};
use punctual_domain::InvalidId;
use punctual_web::problem::responses;
use tracing::error;
use utoipa::{IntoResponses, openapi::RefOr};

/// When to send again what may have come too early.
const RETRY_EARLY_AFTER: Duration = Duration::from_secs(2);

/// An answer that is an error: [`punctual_web::Problem`], which the use cases' errors become with `?`.
#[derive(Debug)]
pub(super) struct Problem(punctual_web::Problem);

impl Problem {
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self(punctual_web::Problem::bad_request(detail))
    }

    /// What is wrong, and what to do.
    pub(super) fn detail(&self) -> &str {
        self.0.detail()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(store_error: StoreError) -> Self {
        if store_error.is_callers() {
            return Self::bad_request(store_error.to_string());
        }
        error!(error = %store_error, "The store failed: {store_error}");
        Self(punctual_web::Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store failed; try again, and see the log",
        ))
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let status = match error {
            OperatorError::Store(error) => return error.into(),
            OperatorError::Invalid(_) => StatusCode::BAD_REQUEST,
            OperatorError::NotFound(_) => StatusCode::NOT_FOUND,
            OperatorError::NotYet(problem) => {
                let problem = punctual_web::Problem::new(StatusCode::CONFLICT, problem);
                return Self(problem.retry_after(RETRY_EARLY_AFTER));
            }
            OperatorError::Conflict(_) | OperatorError::Changed(_) => StatusCode::CONFLICT,
            OperatorError::OtherShard(_) => StatusCode::MISDIRECTED_REQUEST,
            OperatorError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            OperatorError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(punctual_web::Problem::new(status, error.to_string()))
    }
}

/// Errors that the server library knows already.
macro_rules! known {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self(error.into())
            }
        }
    )*};
}

known!(
    punctual_web::Problem,
    InvalidId,
    QueryRejection,
    FormRejection
);

/// Every answer that is an error, as it is described.
pub(super) struct AnyProblem;

impl IntoResponses for AnyProblem {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::response::Response>> {
        responses(&[
            ("400", "The request is not valid"),
            ("401", "The API key is missing or wrong"),
            (
                "403",
                "The role of the caller does not suffice, or the request comes from another site or names another host",
            ),
            ("404", "It does not exist"),
            ("409", "The current state does not allow it"),
            ("413", "The request is too large"),
            ("421", "Another agent serves the shard of the tenant"),
            (
                "422",
                "The request names tenants without a stored preference, or reuses an `Idempotency-Key`",
            ),
            (
                "429",
                "Too many wrong keys; `Retry-After` says when to retry",
            ),
            (
                "503",
                "The store does not answer, or preferences have not been read yet",
            ),
        ])
    }
}
