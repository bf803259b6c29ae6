//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    extract::rejection::QueryRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use punctual_application::ports::StoreError;
use serde_json::json;
use tracing::error;
use utoipa::{IntoResponses, ToSchema};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem(StatusCode, String);

impl Problem {
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, detail.into())
    }

    pub(super) fn missing(detail: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, detail.into())
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, detail.into())
    }

    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, detail.into())
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, detail.into())
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self(StatusCode::FORBIDDEN, detail.into())
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0
    }

    pub(super) fn detail(&self) -> &str {
        &self.1
    }

    pub(super) fn unauthorized() -> Self {
        Self(
            StatusCode::UNAUTHORIZED,
            "a key is needed: send it as `Authorization: Bearer KEY`".into(),
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
    Problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not take this method".into(),
    )
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, detail) = self;
        let title = status.canonical_reason().unwrap_or("Error");
        let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (status, Json(body)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(store_error: StoreError) -> Self {
        if store_error.invalid_input {
            return Self::bad_request(store_error.message);
        }
        error!(error = %store_error, "The store failed: {store_error}");
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store failed; try again, and see the log".into(),
        )
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}
