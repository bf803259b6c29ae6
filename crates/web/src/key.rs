//! API keys: how they are sent and compared. Only the hash of a key is kept.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use utoipa::{
    Modify,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

/// The hash under which a key is kept. Comparing two takes the same time whatever they are.
#[must_use]
pub fn hash(key: &SecretString) -> blake3::Hash {
    blake3::hash(key.expose_secret().as_bytes())
}

/// Characters of a key at least, where others than this machine can try keys.
const MIN_SHARED_KEY_LENGTH: usize = 16;

/// Checks that a key can be sent in a header, and that it is long enough for a server that listens on `listens_on`.
///
/// # Errors
/// What is wrong with it, without the key.
pub fn check_key(key: &SecretString, listens_on: Option<SocketAddr>) -> Result<(), String> {
    let key = key.expose_secret();
    let sendable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if key.trim().is_empty() {
        return Err("is blank; give the key".into());
    }
    if !key.bytes().all(sendable) || key.trim() != key {
        return Err(
            "cannot be sent in a header; use ASCII letters, digits and signs, without spaces at \
             the ends"
                .into(),
        );
    }
    let exposed = listens_on.filter(|addr| !addr.ip().is_loopback());
    match exposed {
        Some(addr) if key.len() < MIN_SHARED_KEY_LENGTH => Err(format!(
            "has {} characters, and other machines can reach {addr}; use at least {MIN_SHARED_KEY_LENGTH} random characters",
            key.len()
        )),
        _ => Ok(()),
    }
}

/// The key of `Authorization: Bearer KEY`, if one is sent.
///
/// # Errors
/// When there is more than one such header: which one counts would be chance.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (all.next(), all.next());
    if second.is_some() {
        return Err("the request has two headers `Authorization`; send one");
    }
    let key = first
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Ok(key.map(|(_, key)| key.trim()).filter(|key| !key.is_empty()))
}

/// Describes the key that is sent as a bearer token, in a description of an HTTP API.
#[derive(Debug)]
pub struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("key", scheme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_sent_or_is_short_where_others_listen_is_refused() {
        let check = |key: &str, addr: &str| {
            let addr = addr.parse().unwrap();
            check_key(&SecretString::from(key), Some(addr))
        };
        for key in [
            "",
            " ",
            "\t",
            " k",
            "k ",
            "k\n",
            "a\tb",
            "a\u{7f}b",
            "k\u{e9}y",
            "\u{a0}",
            "\u{202e}x",
            "\0",
        ] {
            let why = check(key, "127.0.0.1:80").unwrap_err();
            assert!(key.trim().is_empty() || !why.contains(key), "{why}");
        }
        for key in ["k", "a b", "0123456789abcde"] {
            assert!(check(key, "127.0.0.1:80").is_ok() && check(key, "[::1]:80").is_ok());
            assert!(check_key(&SecretString::from(key), None).is_ok());
            for open in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
                assert!(
                    check(key, open).unwrap_err().contains("characters"),
                    "{key}"
                );
            }
        }
        assert!(check("0123456789abcdef", "0.0.0.0:80").is_ok());
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_two_headers_are_refused() {
        let sent = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(|key| key.map(str::to_owned))
        };
        for value in ["Bearer k", "bearer k", "BEARER k", "Bearer  k"] {
            assert_eq!(sent(&[value]), Ok(Some("k".into())), "{value}");
        }
        for value in ["k", "Basic k", "Bearer", "Bearer ", "Bearerk", ""] {
            assert_eq!(sent(&[value]), Ok(None), "{value}");
        }
        assert_eq!(sent(&[]), Ok(None));
        assert!(sent(&["Bearer k", "Bearer k"]).is_err());
    }
}
