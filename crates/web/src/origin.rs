//! Which requests a page of another site makes a browser send, and how they are refused.

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, Uri, header},
    middleware::Next,
    response::Response,
};
use url::Url;

use crate::Problem;

/// The most origins of a list: all of them stand in a header of every page.
const MAX_ORIGINS: usize = 50;

/// The origin of a site's pages as browsers send it, such as `https://shop.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Checks an origin and takes it.
    ///
    /// # Errors
    /// What is wrong with the text: it is not exactly scheme, host and, where it is not the usual one, port.
    pub fn new(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).ok();
        // Other characters, as in `*.example` and `a;b`, would say something else in a content security policy.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let url = url.filter(|url| {
            let host = url.host_str().unwrap_or_default();
            matches!(url.scheme(), "http" | "https") && !host.is_empty() && host.bytes().all(plain)
        });
        let written = url.map(|url| url.origin().ascii_serialization());
        match written {
            Some(written) if written == text => Ok(Self(written)),
            Some(written) => Err(format!(
                "`{text}` is not an origin; write it as `{written}`"
            )),
            None => Err(format!(
                "`{text}` is not an origin; write scheme, host and port of each site, such as \
                 `https://shop.example`"
            )),
        }
    }

    /// Reads a list of origins with commas between.
    ///
    /// # Errors
    /// The first one that is not an origin, or that there are more than 50.
    pub fn list(text: &str) -> Result<Arc<[Self]>, String> {
        let origins: Arc<[Self]> = text
            .split(',')
            .map(|origin| Self::new(origin.trim()))
            .collect::<Result<_, _>>()?;
        if origins.len() > MAX_ORIGINS {
            let count = origins.len();
            return Err(format!("has {count} origins; list at most {MAX_ORIGINS}"));
        }
        Ok(origins)
    }

    /// The origin as browsers send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pages whose requests may change something. Requests that no page sends are answered as well.
#[derive(Debug, Clone, Default)]
pub enum Senders {
    /// The server's own pages.
    #[default]
    Own,
    /// Besides, pages of these origins with a key in the header `Authorization`, which browsers never add by themselves:
    /// what a visitor of theirs is signed in to here is of no use to such a page.
    WithKey(Arc<[Origin]>),
    /// All pages: the address holds a secret, and nothing else of a request counts.
    All,
}

impl Senders {
    fn include(&self, origin: Option<&str>, headers: &HeaderMap) -> bool {
        match (self, origin) {
            (Self::All, _) => true,
            (Self::WithKey(origins), Some(origin)) => {
                headers.contains_key(header::AUTHORIZATION)
                    && origins.iter().any(|known| known.as_str() == origin)
            }
            _ => false,
        }
    }
}

/// What a request has to be like to be answered.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Without a key, the name of the setting that would hold one.
    pub(crate) key_setting: Option<&'static str>,
    pub(crate) senders: Senders,
}

/// Refuses, as a middleware, requests that change something and do not come from the server's own pages, from a page of
/// the rule's senders, or from no page at all. Without a key a request also has to name this machine: the page of another
/// site could otherwise have its own name resolve to this machine, and read everything.
///
/// # Errors
/// Status 403 with the reason.
pub(crate) async fn refuse_other_sites(
    State(rule): State<Rule>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    check(request.method(), request.uri(), request.headers(), &rule).map_err(Problem::forbidden)?;
    Ok(next.run(request).await)
}

fn check(method: &Method, uri: &Uri, headers: &HeaderMap, rule: &Rule) -> Result<(), String> {
    let key_setting = rule.key_setting;
    let named = uri.authority().map(axum::http::uri::Authority::as_str);
    // HTTP/2 names the host in the address of the request.
    let host = only(headers, header::HOST)?.or(named).unwrap_or_default();
    if let Some(setting) = key_setting {
        for name in std::iter::once(host).chain(named) {
            if !is_this_machine(name) {
                return Err(format!(
                    "without an API key, requests must be sent to this machine by name, not to \
                     `{name}`; use 127.0.0.1 or localhost, or set {setting}"
                ));
            }
        }
    }
    if method.is_safe() {
        return Ok(());
    }
    let origin = only(headers, header::ORIGIN)?;
    if rule.senders.include(origin, headers) {
        return Ok(());
    }
    let other_origin = origin.is_some_and(|origin| {
        let of = origin.split_once("://").map_or(origin, |(_, of)| of);
        !of.eq_ignore_ascii_case(host)
    });
    let site = only(headers, HeaderName::from_static("sec-fetch-site"))?;
    let other_site = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    if other_origin || other_site {
        Err("requests from pages of other sites are refused; use the server's own page".into())
    } else {
        Ok(())
    }
}

/// The only header of that name; an error when there are two, or one that is not text.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, String> {
    let mut all = headers.get_all(&name).iter();
    let (Some(first), None) = (all.next(), all.next()) else {
        return if headers.contains_key(&name) {
            Err(format!("the request has two headers `{name}`; send one"))
        } else {
            Ok(None)
        };
    };
    let text = first.to_str();
    text.map(Some)
        .map_err(|_| format!("the header `{name}` has characters outside ASCII"))
}

/// Whether a host, with or without a port, is a name of this machine that no name server decides.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (
            address,
            port.strip_prefix(':').or(port.is_empty().then_some("")),
        ),
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("")),
        },
    };
    let port_is_number = port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let address = name.parse::<std::net::IpAddr>();
    port_is_number
        && (name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(method: &Method, sent: &[(&str, &str)], key: bool) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let rule = Rule {
            key_setting: (!key).then_some("THE_KEY"),
            senders: Senders::Own,
        };
        check(method, &Uri::from_static("/"), &headers, &rule).is_ok()
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        let list = Origin::list("https://shop.example, http://127.0.0.1:3000").unwrap();
        assert_eq!(list.len(), 2);
        for (text, remedy) in [
            (
                "https://shop.example/",
                "write it as `https://shop.example`",
            ),
            (
                "https://shop.example:443",
                "write it as `https://shop.example`",
            ),
            ("https://SHOP.example", "write it as `https://shop.example`"),
            (
                "https://a@shop.example",
                "write it as `https://shop.example`",
            ),
            (
                "https://shop.example/embed",
                "write it as `https://shop.example`",
            ),
            ("*", "write scheme, host and port"),
            ("null", "write scheme, host and port"),
            ("", "write scheme, host and port"),
            ("shop.example", "write scheme, host and port"),
            ("file:///a", "write scheme, host and port"),
            ("https://*.shop.example", "write scheme, host and port"),
            ("https://a;script-src", "write scheme, host and port"),
            ("https://a script-src", "write scheme, host and port"),
        ] {
            let error = Origin::new(text).expect_err(text);
            assert!(error.contains(remedy), "{error}");
            assert!(
                Origin::list(&format!("https://a.example,{text}")).is_err(),
                "{text}"
            );
        }
        let many = vec!["https://a.example"; MAX_ORIGINS + 1].join(",");
        assert!(Origin::list(&many).unwrap_err().contains("51 origins"));
    }

    #[test]
    fn pages_of_listed_origins_change_something_only_with_a_key_in_a_header() {
        let sent = |senders: &Senders, origin: &'static str, key: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "here.example".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
            if key {
                headers.insert(header::AUTHORIZATION, "Bearer x".parse().unwrap());
            }
            let rule = Rule {
                key_setting: None,
                senders: senders.clone(),
            };
            check(&Method::PUT, &Uri::from_static("/"), &headers, &rule).is_ok()
        };
        let listed = Senders::WithKey(Origin::list("https://shop.example").unwrap());
        assert!(sent(&listed, "https://shop.example", true));
        assert!(!sent(&listed, "https://shop.example", false));
        for other in [
            "https://evil.example",
            "http://shop.example",
            "null",
            "https://shop.example:81",
        ] {
            assert!(!sent(&listed, other, true), "{other}");
            assert!(sent(&Senders::All, other, false), "{other}");
        }
        assert!(!sent(&Senders::Own, "https://shop.example", true));
    }

    #[test]
    fn without_a_key_only_names_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(allowed(&Method::GET, &[("host", host)], false), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:80",
            "evil@127.0.0.1",
            "127.0.0.1:evil",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "[::1]x",
            "[::1",
        ] {
            assert!(!allowed(&Method::GET, &[("host", host)], false), "{host}");
            assert!(allowed(&Method::GET, &[("host", host)], true), "{host}");
        }
        assert!(!allowed(&Method::GET, &[], false), "no Host at all");
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert!(!allowed(&Method::GET, &two, false) && !allowed(&Method::GET, &two, true));
        let (uri, method) = (Uri::from_static("http://evil.example/"), Method::GET);
        let headers = HeaderMap::from_iter([(header::HOST, "localhost".parse().unwrap())]);
        let rule = Rule {
            key_setting: Some("THE_KEY"),
            senders: Senders::All,
        };
        assert!(check(&method, &uri, &headers, &rule).is_err());
    }

    #[test]
    fn changes_come_from_the_own_pages_or_from_no_page() {
        let sent = |more: &[(&str, &str)]| {
            let mut sent = vec![("host", "here.example:80")];
            sent.extend(more);
            allowed(&Method::POST, &sent, true)
        };
        assert!(sent(&[]));
        assert!(sent(&[
            ("origin", "https://here.example:80"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(sent(&[
            ("origin", "http://HERE.example:80"),
            ("sec-fetch-site", "none")
        ]));
        for origin in [
            "null",
            "http://evil.example",
            "http://here.example",
            "http://here.example:81",
            "",
        ] {
            assert!(!sent(&[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            assert!(!sent(&[("sec-fetch-site", site)]), "{site}");
        }
        let evil = [("host", "here.example"), ("origin", "http://evil.example")];
        assert!(allowed(&Method::GET, &evil, true));
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!allowed(&method, &evil, true), "{method}");
        }
    }
}
