//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    extract::rejection::QueryRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use punctual_domain::{FieldErrors, InvalidId};
use serde_json::{Value, json};
use tracing::error;

use crate::store::{ChangeError, FeedError, GroupsError, SchemaError, StoreError};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    errors: Option<Value>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: None,
        }
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this address; see the README for those there are",
    )
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not take this method",
    )
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(errors) = self.errors {
            body["errors"] = errors;
        }
        let mut response = (self.status, Json(body)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(store_error: StoreError) -> Self {
        error!(error = %store_error, "The store failed: {store_error}");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store failed; try again, and see the log",
        )
    }
}

impl From<FieldErrors> for Problem {
    fn from(errors: FieldErrors) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: errors.to_string(),
            errors: Some(json!(errors)),
        }
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
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

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
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
            GroupsError::Cursor(_) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            GroupsError::Store(error) => error.into(),
        }
    }
}
