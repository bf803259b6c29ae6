//! Errors as `application/problem+json` (RFC 9457). An error of a server becomes one by `From`, beside the error or in
//! the server; [`Site::answer`](crate::Site::answer) shows it as a page to who asked for a page.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{
        Request,
        rejection::{FormRejection, PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use punctual_domain::{FieldError, FieldErrors, InvalidId};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder},
};

const CONTENT_TYPE: &str = "application/problem+json";
/// The most characters of a detail. What is quoted in one was sent by the caller.
const MAX_DETAIL_LENGTH: usize = 2_000;

/// An answer that is an error.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// What is wrong field by field, and how many mistakes there are in all.
    errors: Option<(Vec<FieldError>, usize)>,
    retry_after: Option<Duration>,
    /// What a page says in place of the detail, in the language of the page.
    words: Option<String>,
}

/// Body of an error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(title = "Problem")]
pub struct ProblemBody {
    /// Always `about:blank`: the status says which kind.
    pub r#type: String,
    /// Status in words.
    pub title: String,
    /// Status code.
    pub status: u16,
    /// Description of the problem and its remedy.
    pub detail: String,
    /// The first 100 mistakes in the request, field by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<FieldError>>,
    /// Number of mistakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_total: Option<usize>,
}

impl Problem {
    /// An error with this status. `detail` says what is wrong and what to do; of a long one the beginning is kept.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_LENGTH) {
            detail.truncate(end);
            detail.pop();
            detail.push('…');
        }
        Self {
            status,
            detail,
            errors: None,
            retry_after: None,
            words: None,
        }
    }

    /// The same error, for which a page has these words in place of the detail.
    #[must_use]
    pub fn worded(self, words: impl Into<String>) -> Self {
        Self {
            words: Some(words.into()),
            ..self
        }
    }

    /// Status 400: what was sent cannot be used.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Status 401: an API key is required.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "an API key is required; send it as `Authorization: Bearer KEY`",
        )
    }

    /// Status 403: the caller may not do this.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// Status 429: too many `what` lately; the next one is allowed after `wait`.
    #[must_use]
    pub fn too_many(what: &str, wait: Duration) -> Self {
        let seconds = whole_seconds(wait);
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("too many {what}; try again in {seconds} s"),
        )
        .retry_after(wait)
    }

    /// The same error, with `Retry-After`.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// Status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Description of the problem and its remedy.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What a page says in place of the detail.
    pub(crate) fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs_f64().ceil() as u64
}

pub(crate) fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = {
            let (errors, errors_total) = self.errors.clone().unzip();
            ProblemBody {
                r#type: "about:blank".to_owned(),
                title: title(self.status).to_owned(),
                status: self.status.as_u16(),
                detail: self.detail.clone(),
                errors,
                errors_total,
            }
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Answers an address at which there is nothing.
pub async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "this address does not exist; see /openapi.json for the addresses",
    )
}

/// Answers a method that an address does not take.
pub async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not support this method; see /openapi.json",
    )
}

/// Makes problems of errors that are plain text or have no body: those of the framework, such as a path that is not
/// UTF-8 or a body that is too large.
pub async fn problems_of_text(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let plain = content_type.is_none_or(|of| of.as_bytes().starts_with(b"text/plain"));
    if !is_error || !plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = match text.trim() {
        "" => title(status),
        text => text,
    };
    let (problem, body) = Problem::new(status, detail).into_response().into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(problem.headers);
    parts.extensions.extend(problem.extensions);
    Response::from_parts(parts, body)
}

/// Adds to an answer with status 503 that says nothing else `Retry-After`, in seconds.
pub async fn retry_unavailable(after: u64, mut response: Response) -> Response {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.entry(header::RETRY_AFTER).or_insert(after.into());
    }
    response
}

/// Describes errors for `OpenAPI`: each status with what it means. The description names the schema [`ProblemBody`], which
/// the document has to list among its components.
#[must_use]
pub fn responses(
    errors: &[(&str, &str)],
) -> BTreeMap<String, RefOr<utoipa::openapi::response::Response>> {
    let response = |(status, meaning): &(&str, &str)| {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(ProblemBody::name())))
            .build();
        let response = ResponseBuilder::new()
            .description(*meaning)
            .content(CONTENT_TYPE, content)
            .build();
        ((*status).to_owned(), RefOr::T(response))
    };
    errors.iter().map(response).collect()
}

impl From<FieldErrors> for Problem {
    fn from(errors: FieldErrors) -> Self {
        let listed = errors.0.iter().take(FieldErrors::LISTED);
        Self {
            errors: Some((listed.cloned().collect(), errors.0.len())),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, errors.to_string())
        }
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

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<FormRejection> for Problem {
    fn from(rejection: FormRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_detail_the_beginning_is_kept() {
        let detail = |length| Problem::bad_request("ö".repeat(length)).detail;
        assert_eq!(detail(MAX_DETAIL_LENGTH), "ö".repeat(MAX_DETAIL_LENGTH));
        let cut = detail(MAX_DETAIL_LENGTH + 1);
        assert_eq!(cut, "ö".repeat(MAX_DETAIL_LENGTH - 1) + "…");
    }

    #[tokio::test]
    async fn what_cannot_be_served_now_says_when_to_come_back() {
        let unavailable = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy");
        let with_delay = unavailable
            .clone()
            .retry_after(Duration::from_millis(2_100));
        for (problem, seconds) in [(unavailable, "5"), (with_delay, "3")] {
            let response = retry_unavailable(5, problem.into_response()).await;
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
        let other = retry_unavailable(5, not_found().await.into_response()).await;
        assert!(!other.headers().contains_key(header::RETRY_AFTER));
    }
}
