//! Errors as `application/problem+json` (RFC 9457).

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{
        FromRequest, Request,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use punctual_domain::{FieldErrors, InvalidId};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracing::error;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{ContentBuilder, RefOr, ResponseBuilder},
};

use crate::{
    json::{cut, read_as},
    store::{ChangeError, FeedError, GroupsError, KeyError, SchemaError, StoreError},
};

const CONTENT_TYPE: &str = "application/problem+json";
/// Seconds after which it is worth trying again what could not be served.
const COME_BACK_AFTER: u64 = 1;
/// The longest detail. What is quoted in one was sent by the caller.
const LONGEST_DETAIL: usize = 2_000;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// What is wrong field by field, and how many mistakes there are in all.
    errors: Option<(Value, usize)>,
    retry_after: Option<Duration>,
}

/// What an error says.
#[derive(Serialize, ToSchema)]
#[schema(title = "Problem")]
pub(super) struct ProblemBody {
    /// Always `about:blank`: the status says which kind.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// What is wrong with what was sent, field by field: the first 100 mistakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    errors: Option<Value>,
    /// How many mistakes there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_total: Option<usize>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: cut(&detail.into(), LONGEST_DETAIL),
            errors: None,
            retry_after: None,
        }
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil();
        Self {
            retry_after: Some(wait),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many calls; try again in {seconds} s"),
            )
        }
    }

    /// What is wrong, for a page.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this address; see /openapi.json for those there are",
    )
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not take this method; see /openapi.json",
    )
}

/// The response, with `Retry-After` where it says that the server cannot serve now.
pub(super) fn come_back(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, COME_BACK_AFTER.into());
    }
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (errors, errors_total) = self.errors.unzip();
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
            errors,
            errors_total,
        };
        let mut response = come_back((self.status, Json(body)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil() as u64;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The errors that any call may answer with.
pub(super) struct AnyProblem;

impl IntoResponses for AnyProblem {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::response::Response>> {
        [
            ("400", "What was sent cannot be read"),
            ("401", "A key is needed"),
            ("403", "The key may not do this"),
            ("413", "What was sent is too large"),
            ("422", "What was sent is not valid"),
            ("429", "Too many calls; Retry-After says when to come back"),
            (
                "503",
                "The store does not answer, or the server is stopping",
            ),
        ]
        .into_iter()
        .map(|(status, description)| {
            let content = ContentBuilder::new()
                .schema(Some(ProblemBody::schema()))
                .build();
            let response = ResponseBuilder::new()
                .description(description)
                .content(CONTENT_TYPE, content)
                .build();
            (status.to_owned(), RefOr::T(response))
        })
        .collect()
    }
}

/// A body of JSON, whatever its content type says; mistakes are told as problems.
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
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body cannot be used: {error}; see /openapi.json for what it may be"),
        )
    })
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
        let listed = &errors.0[..errors.0.len().min(FieldErrors::LISTED)];
        Self {
            errors: Some((json!(listed), errors.0.len())),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, errors.to_string())
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
            KeyError::Name => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            KeyError::Taken(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
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
