//! What the pages of Punctual's servers share, the preference page here and the agent's operations page: how they look,
//! what their answers forbid the browser, and the cookie of who is signed in.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;
use serde_json::json;

/// The style sheet of every page.
pub const STYLE: &str = include_str!("../assets/style.css");

/// A file that is built in; browsers may keep it for five minutes.
pub async fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, text).into_response()
}

/// Answers a page with `policy` as its content security policy, and with what else keeps it to itself.
pub async fn with_security_headers(policy: &'static str, request: Request, next: Next) -> Response {
    let fixed: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What a page shows belongs to who is signed in.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Where a visitor who is not signed in goes first; from there on to the page that was asked for.
pub fn to_sign_in(method: &Method, uri: &Uri) -> Redirect {
    let next = match uri.path_and_query() {
        Some(path) if method.is_safe() => path.as_str(),
        _ => "/",
    };
    Redirect::to(&format!("/sign-in?next={}", encode(next)))
}

fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            (byte as char).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// An address of the server's own, whatever was asked for.
#[must_use]
pub fn within(next: Option<String>) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    next.filter(|next| next.starts_with('/') && !next.starts_with("//") && next.bytes().all(plain))
        .unwrap_or_else(|| "/".to_owned())
}

/// The cookie of that name.
#[must_use]
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(given, value)| (given == name).then_some(value))
}

/// A cookie that is sent back only to the server's own pages, never shown to scripts, and only over TLS where there is
/// TLS. `same_site` is `Lax` or `Strict`; no `age` takes the cookie away.
#[must_use]
pub fn set_cookie(
    headers: &HeaderMap,
    name: &str,
    token: &str,
    same_site: &str,
    age: TimeDelta,
) -> String {
    let secure = if behind_tls(headers) { "; Secure" } else { "" };
    let age = age.num_seconds();
    format!("{name}={token}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={age}{secure}")
}

/// Whether the client speaks TLS with the proxy in front: `X-Forwarded-Proto`, or else `Forwarded`, whose first entries
/// are what the proxy next to the client says.
fn behind_tls(headers: &HeaderMap) -> bool {
    let first = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next()
    };
    match first("x-forwarded-proto") {
        Some(protocol) => protocol.trim().eq_ignore_ascii_case("https"),
        None => first("forwarded").is_some_and(|entry| {
            entry.split(';').any(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or_default();
                name.trim().eq_ignore_ascii_case("proto")
                    && value.trim().trim_matches('"').eq_ignore_ascii_case("https")
            })
        }),
    }
}

/// An error as `application/problem+json` (RFC 9457).
#[must_use]
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body =
        json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, content_type, body.to_string()).into_response()
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
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = if text.trim().is_empty() {
        title
    } else {
        text.trim()
    };
    let made = problem(status, detail);
    let (problem, body) = made.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    for (name, value) in &problem.headers {
        parts.headers.insert(name, value.clone());
    }
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_for_tls_only_where_the_client_speaks_tls() {
        let secure = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            set_cookie(&headers, "c", "t", "Lax", TimeDelta::hours(1)).ends_with("; Secure")
        };
        for value in ["https", "HTTPS", "https, http", " Https ,http"] {
            assert!(secure("x-forwarded-proto", value), "{value}");
        }
        for value in ["http", "http, https", "", "httpsx"] {
            assert!(!secure("x-forwarded-proto", value), "{value}");
        }
        for value in ["proto=https", "for=192.0.2.1;Proto=\"https\", proto=http"] {
            assert!(secure("forwarded", value), "{value}");
        }
        assert!(!secure(
            "forwarded",
            "for=192.0.2.1;proto=http, proto=https"
        ));
    }

    #[test]
    fn a_visitor_is_sent_to_the_servers_own_pages_only() {
        for next in [
            "//elsewhere.example",
            "https://elsewhere.example",
            "/\\elsewhere",
            "/\r\nx",
        ] {
            assert_eq!(within(Some(next.into())), "/", "{next:?}");
        }
        assert_eq!(within(Some("/jobs?a=b".into())), "/jobs?a=b");
    }
}
