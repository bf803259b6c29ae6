//! What calls to a remote endpoint have in common: answers of bounded size, and what a status means for a retry.

use std::{error::Error, io, time::Duration};

use punctual_application::ports::HandlerError;
use reqwest::{Response, StatusCode, Url, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};

use crate::retry_after::retry_after;

/// Marks a call of a preview, that is to have no effect: `Punctual-Dry-Run: 1`.
pub(crate) const DRY_RUN: &str = "Punctual-Dry-Run";

/// No `Retry-After` is taken for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The host that a URL leads to, with its port, such as `crm.example:443`: all of it that is shown, as the rest may hold a secret.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the endpoint");
    url.port_or_known_default()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Why a call that got no answer from `host` failed, as text and as the cause.
pub(crate) fn no_answer(host: &str, error: reqwest::Error) -> (String, reqwest::Error) {
    let error = error.without_url();
    let refused = causes(&error).any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
    });
    let message = if refused {
        format!("{host} refused the connection")
    } else if error.is_timeout() {
        format!("{host} did not answer in time")
    } else {
        format!("{host} did not answer: {}", innermost(&error))
    };
    (message, error)
}

/// The innermost cause of an error, which says most; the outer ones repeat the URL.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let cause = causes(error).last();
    cause.map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// The failure of an item whose call got no answer from `host`.
pub(crate) fn unanswered(host: &str, error: reqwest::Error) -> HandlerError {
    let (message, error) = no_answer(host, error);
    HandlerError::retryable(message).with_source(error)
}

/// What an answer of `host` other than success means.
pub(crate) fn refused(
    host: &str,
    status: StatusCode,
    retry_after: Option<Duration>,
    detail: &str,
) -> HandlerError {
    let detail: String = detail.trim().chars().take(300).collect();
    let message = if detail.is_empty() {
        format!("{host} answered {status}")
    } else {
        format!("{host} answered {status}: {detail}")
    };
    match status.as_u16() {
        429 | 503 | 529 => HandlerError::throttled(message, retry_after),
        408 | 409 | 425 | 500..=599 => {
            HandlerError::retryable(message).with_retry_after(retry_after)
        }
        300..=399 => HandlerError::permanent(format!("{message}; redirects are not followed")),
        _ => HandlerError::permanent(message),
    }
}

/// How long an answer asks to wait.
pub(crate) fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers, MAX_RETRY_AFTER)
}

/// The beginning of an answer's body, and whether there was more.
pub(crate) async fn body(
    mut response: Response,
    limit: usize,
) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    let read = read_on(&mut response, &mut body, usize::MAX, limit).await?;
    Ok((body, read == Read::Cut))
}

/// How far an answer's body has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// To its end.
    Whole,
    /// To the limit: the body is longer.
    Cut,
    /// To the size at which to pause; it may be the end.
    Paused,
}

/// Reads on in an answer's body, until it has more than `pause` bytes, or `limit` at most.
pub(crate) async fn read_on(
    response: &mut Response,
    body: &mut Vec<u8>,
    pause: usize,
    limit: usize,
) -> Result<Read, reqwest::Error> {
    while let Some(piece) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok(Read::Cut);
        }
        if body.len() > pause {
            return Ok(Read::Paused);
        }
    }
    Ok(Read::Whole)
}

/// Redacts the API key from a response body; some providers echo it in error messages, which are kept.
pub(crate) fn without_key(body: Vec<u8>, key: Option<&SecretString>) -> Vec<u8> {
    let key = key.map_or("", ExposeSecret::expose_secret).as_bytes();
    if key.is_empty() || !body.windows(key.len()).any(|part| part == key) {
        return body;
    }
    let text = String::from_utf8_lossy(&body);
    let key = String::from_utf8_lossy(key);
    text.replace(key.as_ref(), "[key]").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_thrown_back_is_taken_out() {
        let key = SecretString::from("sk-4711");
        let without = |body: &str, key: Option<&SecretString>| {
            String::from_utf8(without_key(body.as_bytes().to_vec(), key)).unwrap()
        };
        let redacted = without("{\"error\": \"sk-4711 is not a key; sk-4711\"}", Some(&key));
        assert_eq!(redacted, "{\"error\": \"[key] is not a key; [key]\"}");
        assert_eq!(without("fine", Some(&key)), "fine");
        assert_eq!(without("fine", Some(&SecretString::from(""))), "fine");
        assert_eq!(without("fine", None), "fine");
    }

    #[test]
    fn of_a_url_the_host_is_shown() {
        for (url, host) in [
            (
                "https://me:pw@crm.example/hook?token=abc",
                "crm.example:443",
            ),
            ("http://127.0.0.1:81/", "127.0.0.1:81"),
            ("http://[::1]/", "[::1]:80"),
        ] {
            assert_eq!(host_of(&url.parse().unwrap()), host);
        }
    }

    #[test]
    fn a_status_says_whether_to_try_again() {
        use punctual_application::ports::HandlerErrorKind::{Permanent, Retryable, Throttled};
        for (status, kind) in [
            (429, Throttled),
            (503, Throttled),
            (500, Retryable),
            (502, Retryable),
            (408, Retryable),
            (400, Permanent),
            (401, Permanent),
            (404, Permanent),
            (410, Permanent),
            (302, Permanent),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = refused("crm.example:443", status, None, "");
            assert_eq!(error.kind, kind, "{status}");
            let expected = format!("crm.example:443 answered {status}");
            assert!(error.message.starts_with(&expected), "{error}");
        }
    }
}
