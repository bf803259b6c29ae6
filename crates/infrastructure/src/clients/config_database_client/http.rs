//! One call of the Config Database: timeouts, a bounded answer, retries in this one layer, with a circuit breaker, and
//! errors that say what happened and what to check next. The key goes into a header and nowhere else.

use std::time::Duration;

use punctual_application::{
    backoff::{Backoff, jittered},
    ports::{ConfigDatabaseError, ConfigErrorKind},
};
use punctual_domain::FieldError;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH},
};
use serde_json::Value;

use super::{ClientOptions, breaker::Breaker};
use crate::{
    clients::api::{authorization, base_of, reason_of, shown},
    handlers::endpoint::body,
    outbound::client_builder,
    retry_after::retry_after,
};

/// No longer than this is waited because the server asked for it.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Waits between the attempts of a call, before jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(20));

/// What the server said, where it is not an error.
#[derive(Debug)]
pub(super) enum ServerAnswer {
    /// A JSON document, and its `ETag` where it has one.
    Json {
        body: Vec<u8>,
        etag: Option<HeaderValue>,
    },
    /// It is what the caller knows already (304).
    NotModified,
    /// It does not have what was asked for (404, in JSON).
    Missing,
    /// It no longer has what was asked for (410).
    Gone,
}

/// Options of one call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CallOptions<'a> {
    /// How long the server may hold it.
    pub(super) wait: Duration,
    /// The `ETag` of what is known already.
    pub(super) known: Option<&'a HeaderValue>,
    /// Whether the call is made only once: the caller retries later.
    pub(super) once: bool,
}

pub(super) struct Http {
    client: Client,
    breaker: Breaker,
    base: Url,
    authorization: Option<HeaderValue>,
    options: ClientOptions,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http")
            .field("url", &self.shown_url())
            .finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn new(options: ClientOptions) -> Result<Self, ConfigDatabaseError> {
        let names = options.names;
        let invalid = |problem: String| {
            error(
                ConfigErrorKind::Malformed,
                format!(
                    "invalid {}: {problem}; use a URL such as http://127.0.0.1:8000",
                    names.url
                ),
            )
        };
        let base = base_of(&options.url).map_err(invalid)?;
        let key = options.api_key.as_ref().map(|key| {
            authorization(key).ok_or_else(|| {
                let message = format!(
                    "{} contains a character that is not allowed in an HTTP header",
                    names.api_key
                );
                error(ConfigErrorKind::Malformed, message)
            })
        });
        let authorization = key.transpose()?;
        let client = client_builder(Duration::from_secs(5).min(options.timeout))
            .user_agent(user_agent())
            .build()
            .map_err(|e| invalid(e.to_string()))?;
        Ok(Self {
            client,
            breaker: Breaker::default(),
            base,
            authorization,
            options,
        })
    }

    /// The server's address without anything secret.
    pub(super) fn shown_url(&self) -> String {
        shown(&self.base)
    }

    /// What `read` makes of the document of an answer.
    pub(super) fn read<'a, T>(
        &self,
        answer: &'a ServerAnswer,
        read: impl FnOnce(&'a [u8]) -> Result<T, FieldError>,
    ) -> Result<T, ConfigDatabaseError> {
        let setting = self.options.names.url;
        let message = match answer {
            ServerAnswer::Json { body, .. } => match read(body) {
                Ok(document) => return Ok(document),
                Err(cause) => format!(
                    "Config Database at {} sent an answer that cannot be read ({cause}); check that {setting} \
                     points at a Config Database",
                    self.shown_url()
                ),
            },
            ServerAnswer::NotModified | ServerAnswer::Missing | ServerAnswer::Gone => {
                format!(
                    "Config Database does not serve this address; check that {setting} points at a Config Database"
                )
            }
        };
        Err(error(ConfigErrorKind::Malformed, message))
    }

    /// GETs a path below `/api/v1/`, again where that may help: at most `attempts` times, and only while the circuit is closed.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        call_options: CallOptions<'_>,
    ) -> Result<ServerAnswer, ConfigDatabaseError> {
        let attempts = if call_options.once {
            1
        } else {
            self.options.attempts
        };
        let mut attempt = 1;
        let mut last = None;
        while self.breaker.allows() {
            let answer = self.try_get(path, query, call_options).await;
            let error = match answer {
                Err(error) if error.kind == ConfigErrorKind::Unavailable => error,
                answer => {
                    self.breaker.note(None);
                    return answer;
                }
            };
            self.breaker.note(Some(error.to_string()));
            if attempt as usize >= attempts {
                return Err(error);
            }
            let asked = error.retry_after.unwrap_or_default();
            last = Some(error);
            tokio::time::sleep(jittered(BACKOFF.after(attempt), fastrand::f64()).max(asked)).await;
            attempt += 1;
        }
        Err(last.unwrap_or_else(|| self.circuit_open()))
    }

    async fn try_get(
        &self,
        path: &str,
        query: &[(&str, String)],
        call_options: CallOptions<'_>,
    ) -> Result<ServerAnswer, ConfigDatabaseError> {
        let mut request = self
            .request(Method::GET, path, call_options.wait)?
            .query(query);
        if let Some(etag) = call_options.known {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        self.answer(request, call_options.known.is_some()).await
    }

    /// PUTs a document to a path below `/api/v1/`, once and only while the circuit is closed.
    pub(super) async fn put(
        &self,
        path: &str,
        document: &Value,
    ) -> Result<ServerAnswer, ConfigDatabaseError> {
        if !self.breaker.allows() {
            return Err(self.circuit_open());
        }
        let request = self.request(Method::PUT, path, Duration::ZERO)?;
        self.answer(request.json(document), false).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        wait: Duration,
    ) -> Result<RequestBuilder, ConfigDatabaseError> {
        let url = self
            .base
            .join(path)
            .map_err(|e| error(ConfigErrorKind::Malformed, e.to_string()))?;
        let request = self
            .client
            .request(method, url)
            .header(ACCEPT, "application/json")
            .timeout(self.options.timeout + wait);
        Ok(match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        })
    }

    /// Sends a request; a 304 answers one that says what is `known` already.
    async fn answer(
        &self,
        request: RequestBuilder,
        known: bool,
    ) -> Result<ServerAnswer, ConfigDatabaseError> {
        let response = request.send().await.map_err(|e| self.connecting(e))?;
        let header = |name| response.headers().get(name);
        let is_json = header(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains("json"));
        match response.status() {
            status if status.is_success() => {
                let etag = header(ETAG).cloned();
                let body = self.body(response).await?;
                Ok(ServerAnswer::Json { body, etag })
            }
            StatusCode::NOT_MODIFIED if known => Ok(ServerAnswer::NotModified),
            StatusCode::NOT_FOUND if is_json => Ok(ServerAnswer::Missing),
            StatusCode::GONE => Ok(ServerAnswer::Gone),
            status => {
                let wait = retry_after(response.headers(), MAX_RETRY_AFTER);
                Err(self.refused(status, wait))
            }
        }
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, ConfigDatabaseError> {
        let limit = self.options.max_answer_bytes;
        let (body, longer) = body(response, limit)
            .await
            .map_err(|cause| self.connecting(cause))?;
        if longer {
            return Err(error(
                ConfigErrorKind::Malformed,
                format!(
                    "Config Database at {} sent more than {limit} bytes; the answer was dropped. Check \
                     that {} points at a Config Database",
                    self.shown_url(),
                    self.options.names.url
                ),
            ));
        }
        Ok(body)
    }

    fn connecting(&self, cause: reqwest::Error) -> ConfigDatabaseError {
        let reason = reason_of(&cause);
        error(
            ConfigErrorKind::Unavailable,
            format!(
                "Error connecting to Config Database at {}: {reason}; check that it runs and that {} is right",
                self.shown_url(),
                self.options.names.url
            ),
        )
        .with_source(cause.without_url())
    }

    /// The failure of calls that are not made, because those before failed: the same one, as it is the same cause.
    fn circuit_open(&self) -> ConfigDatabaseError {
        let reason = self.breaker.reason().unwrap_or_else(|| {
            let url = self.shown_url();
            format!("Error connecting to Config Database at {url}: it failed repeatedly")
        });
        error(ConfigErrorKind::Unavailable, reason)
    }

    fn refused(&self, status: StatusCode, retry_after: Option<Duration>) -> ConfigDatabaseError {
        let url = self.shown_url();
        let overloaded = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
        let (kind, message) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                ConfigErrorKind::Unauthorized,
                format!(
                    "Config Database at {url} refused the key ({status}); check {}",
                    self.options.names.api_key
                ),
            ),
            _ if status.is_server_error() || overloaded => (
                ConfigErrorKind::Unavailable,
                format!(
                    "Error connecting to Config Database at {url}: it answered {status}; check its log and \
                     its health"
                ),
            ),
            _ => (
                ConfigErrorKind::Malformed,
                format!(
                    "Config Database at {url} answered {status}; check that {} points at a Config Database",
                    self.options.names.url
                ),
            ),
        };
        ConfigDatabaseError::new(kind, message).with_retry_after(retry_after)
    }
}

/// Says who asks, and which of many: a Config Database can show how far each has read.
fn user_agent() -> String {
    let instance = uuid::Uuid::new_v4().simple().to_string();
    format!(
        "punctual/{} ({})",
        env!("CARGO_PKG_VERSION"),
        &instance[..8]
    )
}

fn error(kind: ConfigErrorKind, message: String) -> ConfigDatabaseError {
    ConfigDatabaseError::new(kind, message)
}
