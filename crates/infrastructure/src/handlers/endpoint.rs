//! What calls to a remote endpoint have in common: answers of bounded size, and what a status means for a retry.

use std::time::Duration;

use punctual_application::ports::{HandlerError, error_chain};
use reqwest::{Response, StatusCode, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};

use crate::retry_after::retry_after;

/// No `Retry-After` is taken for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Why a call that got no answer failed, as text and as the cause; without its URL, which may hold a secret.
pub(crate) fn no_answer(error: reqwest::Error) -> (String, reqwest::Error) {
    let error = error.without_url();
    let message = format!(
        "the remote endpoint did not answer: {}",
        error_chain(&error)
    );
    (message, error)
}

/// The failure of an item whose call got no answer.
pub(crate) fn unanswered(error: reqwest::Error) -> HandlerError {
    let (message, error) = no_answer(error);
    HandlerError::retryable(message).with_source(error)
}

/// What an answer other than success means.
pub(crate) fn refused(
    status: StatusCode,
    retry_after: Option<Duration>,
    detail: &str,
) -> HandlerError {
    let detail: String = detail.trim().chars().take(300).collect();
    let message = if detail.is_empty() {
        format!("the remote endpoint answered {status}")
    } else {
        format!("the remote endpoint answered {status}: {detail}")
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
    while let Some(piece) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
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
            assert_eq!(refused(status, None, "").kind, kind, "{status}");
        }
    }
}
