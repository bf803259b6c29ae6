//! Errors as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::{
    extract::rejection::QueryRejection,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use punctual_application::{OperatorError, ports::StoreError};
use punctual_config_database::pages::problem;
use punctual_domain::InvalidId;
use tracing::error;
use utoipa::{IntoResponses, ToSchema};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem(StatusCode, String, Option<Duration>);

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(status, detail.into(), None)
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil();
        let detail = format!("too many wrong keys; try again in {seconds} s");
        Self(StatusCode::TOO_MANY_REQUESTS, detail, Some(wait))
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0
    }

    pub(super) fn detail(&self) -> &str {
        &self.1
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "a key is needed: send it as `Authorization: Bearer KEY`",
        )
    }
}

/// The body of a problem, as it is described.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) struct ProblemBody {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
}

/// Every answer that is an error, as it is described.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) enum AnyProblem {
    /// What was sent cannot be used
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemBody),
    /// A key is needed
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody),
    /// Another site asks, or another name is asked for
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody),
    /// There is none
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemBody),
    /// It cannot be done now
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(ProblemBody),
    /// What was sent is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// Too many wrong keys; Retry-After says when to come back
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(ProblemBody),
    /// What was sent names tenants who have stored nothing, or reuses an `Idempotency-Key`
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(ProblemBody),
    /// The store does not answer, or preferences have not been read yet
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody),
}

pub(super) async fn not_found() -> Problem {
    Problem::missing("there is nothing at this address; GET /openapi.json lists those there are")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not take this method",
    )
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, detail, retry_after) = self;
        let mut response = problem(status, &detail);
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs_f64().ceil() as u64;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(store_error: StoreError) -> Self {
        if store_error.is_callers() {
            return Self::bad_request(store_error.to_string());
        }
        error!(error = %store_error, "The store failed: {store_error}");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store failed; try again, and see the log",
        )
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let status = match error {
            OperatorError::Store(error) => return error.into(),
            OperatorError::Invalid(_) => StatusCode::BAD_REQUEST,
            OperatorError::NotFound(_) => StatusCode::NOT_FOUND,
            OperatorError::Conflict(_) => StatusCode::CONFLICT,
            OperatorError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            OperatorError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}
