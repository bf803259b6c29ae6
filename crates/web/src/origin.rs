//! Which requests a page of another site makes a browser send, and how they are refused.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, Uri, header},
    middleware::Next,
    response::Response,
};

use crate::Problem;

/// Refuses, as a middleware, requests that do not come from the server's own pages or from no page at all. Without a key
/// (`key_setting` is then the name of the setting that would hold one) a request also has to name this machine: the page
/// of another site could otherwise have its own name resolve to this machine, and read everything.
///
/// # Errors
/// Status 403 with the reason.
pub async fn refuse_other_sites(
    State(key_setting): State<Option<&'static str>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    check(
        request.method(),
        request.uri(),
        request.headers(),
        key_setting,
    )
    .map_err(Problem::forbidden)?;
    Ok(next.run(request).await)
}

fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    key_setting: Option<&str>,
) -> Result<(), String> {
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
fn is_this_machine(host: &str) -> bool {
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
        let setting = (!key).then_some("THE_KEY");
        check(method, &Uri::from_static("/"), &headers, setting).is_ok()
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
        assert!(check(&method, &uri, &headers, Some("THE_KEY")).is_err());
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
