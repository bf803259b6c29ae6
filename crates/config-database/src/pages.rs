//! What the pages of Punctual's servers share, the preference page here and the agent's operations page: how they look,
//! what their answers forbid the browser, and the cookie of who is signed in.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;

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
    let behind_tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|protocol| protocol == "https");
    let secure = if behind_tls { "; Secure" } else { "" };
    let age = age.num_seconds();
    format!("{name}={token}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={age}{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
