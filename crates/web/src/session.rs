//! Who is signed in on a server's pages: the cookie, the way to the sign-in page and from there back.

use axum::{
    http::{
        HeaderMap, Method, Uri, header,
        uri::{Authority, PathAndQuery},
    },
    response::{IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::{
    origin::is_this_machine,
    page::{at, root},
};

/// How long a visitor stays signed in.
pub const SESSION_TTL: TimeDelta = TimeDelta::hours(12);

/// Sends a visitor who is not signed in to the sign-in page, and from there on to the page that was asked for, or that a form
/// was sent from.
pub fn to_sign_in(method: &Method, uri: &Uri, headers: &HeaderMap) -> Redirect {
    Redirect::to(&sign_in_to(&page_of(method, uri, headers, &root())))
}

/// The address of the sign-in page that leads on to the page `next`.
pub(crate) fn sign_in_to(next: &str) -> String {
    format!("/sign-in?next={}", encode(next))
}

/// Path and query of the page that a request shows, or that its form was sent from: the first page where that is not known. A
/// router that is nested at `root` sees addresses without it; a browser does not.
pub(crate) fn page_of(method: &Method, uri: &Uri, headers: &HeaderMap, root: &str) -> String {
    if method.is_safe() {
        return path_of(uri).to_owned();
    }
    let from = own_referer(uri, headers);
    let from = from.as_ref().map_or("/", path_of);
    match from.strip_prefix(root) {
        Some("") => "/".to_owned(),
        below => below.unwrap_or(from).to_owned(),
    }
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// The page of this server from which a request was sent.
fn own_referer(uri: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let from: Uri = named(header::REFERER)?.parse().ok()?;
    // HTTP/2 names the host in the address of the request.
    let host = named(header::HOST).or(uri.authority().map(Authority::as_str))?;
    let is_own = from.authority()?.as_str().eq_ignore_ascii_case(host);
    is_own.then_some(from)
}

pub(crate) fn encode(text: &str) -> String {
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

/// The cookie of who is signed in. It is sent back only to the server's own pages, never shown to scripts, and sent over
/// TLS only where the client speaks TLS. What its token says, and how it ends, is the server's business.
#[derive(Debug, Clone, Copy)]
pub struct SessionCookie {
    /// Name of the cookie.
    pub name: &'static str,
    /// `Strict`, or `Lax` where links from elsewhere are to find the visitor signed in.
    pub same_site: &'static str,
}

impl SessionCookie {
    /// The token that the browser sends back, if it does.
    #[must_use]
    pub fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        self.tokens(headers).next()
    }

    /// The tokens that the browser sends back: several, where it has a cookie of this name for frames as well.
    pub fn tokens<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h str> {
        sent(headers, self.name)
    }

    /// Signs the visitor in, and sends them on to the page `next`. `headers` are those of the request.
    #[must_use]
    pub fn sign_in(&self, headers: &HeaderMap, token: &str, next: Option<String>) -> Response {
        self.set(headers, token, SESSION_TTL, &within(next))
    }

    /// Takes the cookie away, and sends the visitor to the sign-in page. `headers` are those of the request.
    #[must_use]
    pub fn sign_out(&self, headers: &HeaderMap) -> Response {
        self.set(headers, "", TimeDelta::zero(), "/sign-in")
    }

    /// A header `Set-Cookie` that has the browser keep the token for so long. `headers` are those of the request.
    #[must_use]
    pub fn header(&self, headers: &HeaderMap, token: &str, age: TimeDelta) -> String {
        let (Self { name, same_site }, age) = (self, age.num_seconds());
        let secure = if behind_tls(headers) { "; Secure" } else { "" };
        let path = at("/");
        format!(
            "{name}={token}; Path={path}; HttpOnly; SameSite={same_site}; Max-Age={age}{secure}"
        )
    }

    fn set(&self, headers: &HeaderMap, token: &str, age: TimeDelta, to: &str) -> Response {
        let cookie = self.header(headers, token, age);
        ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
    }
}

/// A cookie that remembers a choice of a visitor, and nothing that is secret.
#[derive(Debug, Clone, Copy)]
pub struct PlainCookie {
    /// Name of the cookie.
    pub name: &'static str,
    /// How long the browser keeps it.
    pub max_age: TimeDelta,
}

impl PlainCookie {
    /// The value that the browser sends back, if it does.
    #[must_use]
    pub fn value<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        sent(headers, self.name).next()
    }

    /// A header `Set-Cookie` for all pages of the server. `headers` are those of the request.
    #[must_use]
    pub fn set(&self, headers: &HeaderMap, value: &str) -> String {
        let (name, age) = (self.name, self.max_age.num_seconds());
        let secure = if behind_tls(headers) { "; Secure" } else { "" };
        let path = at("/");
        format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={age}{secure}")
    }
}

/// The values of the cookies of this name that the browser sends back.
fn sent<'h>(headers: &'h HeaderMap, name: &'static str) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(move |(given, value)| (given == name).then_some(value))
}

/// Sends the visitor to the page `next`, if that is one of the server's own, and else to the first one.
pub fn redirect_within(next: Option<String>) -> Redirect {
    Redirect::to(&within(next))
}

/// Whether the browser treats the connection as secure: it speaks TLS with the proxy in front, or the server is on the same
/// machine. Only then it keeps cookies that are marked as secure.
#[must_use]
pub fn is_trustworthy(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    behind_tls(headers) || host.is_some_and(is_this_machine)
}

/// Fields of the sign-in form.
#[derive(Debug, Deserialize)]
pub struct SignIn {
    /// The key, without the blanks around it that come along when it is copied: no key begins or ends with one.
    #[serde(deserialize_with = "trimmed")]
    pub key: SecretString,
    /// The page that was asked for first.
    pub next: Option<String>,
}

fn trimmed<'de, D: Deserializer<'de>>(sent: D) -> Result<SecretString, D::Error> {
    let key = SecretString::deserialize(sent)?;
    Ok(key.expose_secret().trim().into())
}

/// Query of the sign-in page.
#[derive(Debug, Deserialize)]
pub struct SignInQuery {
    /// The page that was asked for first.
    pub next: Option<String>,
}

/// Whether the client speaks TLS with the proxy in front: `X-Forwarded-Proto`, or else `Forwarded`, whose first entries
/// are what the proxy next to the client says.
#[must_use]
pub fn behind_tls(headers: &HeaderMap) -> bool {
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn cookies_are_for_tls_only_where_the_client_speaks_tls() {
        let secure = |name: &'static str, value: &'static str| {
            let (name, value) = (HeaderName::from_static(name), value.parse().unwrap());
            let headers = HeaderMap::from_iter([(name, value)]);
            let cookie = SessionCookie {
                name: "c",
                same_site: "Lax",
            };
            let response = cookie.sign_in(&headers, "t", None);
            let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
            set.ends_with("; Secure")
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
    fn the_page_of_a_request_is_its_own_or_the_one_that_its_form_is_on() {
        let page = |method: &Method, from: &'static str| {
            let sent = [(header::HOST, "shop.example"), (header::REFERER, from)];
            let sent = sent.map(|(name, value)| (name, value.parse().unwrap()));
            let uri = Uri::from_static("/tenants/a/switch?x=1");
            page_of(method, &uri, &HeaderMap::from_iter(sent), "/own")
        };
        let list = "https://shop.example/own/tenants/a?b=c";
        assert_eq!(page(&Method::GET, list), "/tenants/a/switch?x=1");
        for (from, expected) in [
            (list, "/tenants/a?b=c"),
            ("https://SHOP.example/own", "/"),
            ("https://shop.example", "/"),
            ("https://evil.example/own/tenants/a", "/"),
            ("/own/tenants/a", "/"),
            ("", "/"),
        ] {
            assert_eq!(page(&Method::POST, from), expected, "{from}");
        }
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
