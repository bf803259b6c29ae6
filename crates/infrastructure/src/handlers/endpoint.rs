//! What calls to a remote endpoint have in common: a client that goes only where it may, answers of bounded size,
//! and what a status means for a retry.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use punctual_application::ports::{HandlerError, error_chain};
use reqwest::{
    Client, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect::Policy,
};
use secrecy::{ExposeSecret, SecretString};

use crate::retry_after::retry_after;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No `Retry-After` is taken for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Why calls to a URL that a job or a purpose names cannot be set up. Without the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The URL is not one.
    #[error("is not a URL: {0}")]
    InvalidUrl(#[from] url::ParseError),
    /// The URL names no host.
    #[error("has no host")]
    NoHost,
    /// The URL leads to this machine or to a private network, which the configuration does not allow.
    #[error(
        "resolves to {0}, which is not public; to allow it, set \"allow_private_addresses\": true"
    )]
    NotPublic(String),
    /// The secret for signatures has the prefix `whsec_` and is not base64.
    #[error("has a secret that is not `whsec_` and base64")]
    InvalidSecret,
    /// No HTTP client can be built, for example without TLS roots.
    #[error("{0}")]
    NoClient(#[source] reqwest::Error),
}

/// A client without redirects and without a proxy, for every URL that a job or a purpose names. Unless `private` ones are allowed, it connects to no address of this
/// machine or of a private network, whatever a name resolves to.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn client(timeout: Duration, private: bool) -> Result<Client, EndpointError> {
    let builder = Client::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("punctual/", env!("CARGO_PKG_VERSION")));
    let builder = if private {
        builder
    } else {
        builder.dns_resolver(Arc::new(PublicOnly(SystemResolver)))
    };
    builder.build().map_err(EndpointError::NoClient)
}

/// Refuses a URL whose host is an address that may not be connected to (the client resolves names, not addresses), or a
/// name that always resolves to this machine.
///
/// # Errors
/// What is wrong with it, and that `allow_private_addresses` allows it.
pub(crate) fn check_literal(url: &Url, private: bool) -> Result<(), EndpointError> {
    let host = url.host().ok_or(EndpointError::NoHost)?;
    let public = match &host {
        url::Host::Ipv4(address) => is_public((*address).into()),
        url::Host::Ipv6(address) => is_public((*address).into()),
        url::Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name != "localhost" && !name.ends_with(".localhost")
        }
    };
    if private || public {
        return Ok(());
    }
    Err(EndpointError::NotPublic(host.to_string()))
}

/// The URL of a configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn outgoing(url: &str, private: bool) -> Result<Url, EndpointError> {
    let url = url.parse()?;
    check_literal(&url, private)?;
    Ok(url)
}

/// Whether anybody on the internet may be behind an address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared by the customers of a provider; protocols; benchmarks; the relays of 6to4.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 88 && c == 99))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Addresses that carry one of the older kind are as public as that.
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        // Only these are given out; of them, documentation, Teredo and the like are not.
        [first, second, ..] => {
            first & 0xe000 == 0x2000
                && !(first == 0x2001 && (second < 0x0200 || second == 0x0db8))
                && !(first == 0x3fff && second < 0x1000)
        }
    }
}

/// Resolves names as the system does.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Passes on the public ones of the addresses that another resolver finds. The connection is made to these and no
/// others, so a name that resolves otherwise the next time changes nothing.
struct PublicOnly<R>(R);

impl<R: Resolve> Resolve for PublicOnly<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let resolving = self.0.resolve(name);
        Box::pin(async move {
            let public: Vec<SocketAddr> = resolving
                .await?
                .filter(|address| is_public(address.ip()))
                .collect();
            if public.is_empty() {
                let problem = format!(
                    "{host} has no public address; to allow it, set \"allow_private_addresses\": true"
                );
                return Err(problem.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Why a call that got no answer failed; without its URL, which may hold a secret.
pub(crate) fn unanswered(error: reqwest::Error) -> HandlerError {
    let error = error.without_url();
    let message = format!(
        "the remote endpoint did not answer: {}",
        error_chain(&error)
    );
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
    retry_after(headers, LONGEST_RETRY_AFTER)
}

/// The beginning of an answer's body, and whether there was more.
pub(crate) async fn body(
    mut response: Response,
    limit: usize,
) -> Result<(Vec<u8>, bool), HandlerError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unanswered)? {
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
    fn addresses_that_are_not_public_are_recognized() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "ff02::1",
            "::7f00:1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_literal_is_seen_through_however_it_is_written() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest",
            "http://0/",
            "http://10.0.0.1:8080/",
            "http://localhost/",
            "http://LOCALHOST.:80/",
            "http://a.localhost/",
        ] {
            let url: Url = url.parse().unwrap();
            assert!(check_literal(&url, false).is_err(), "{url}");
            assert!(check_literal(&url, true).is_ok(), "{url}");
        }
        assert!(check_literal(&"https://crm.example/".parse().unwrap(), false).is_ok());
        assert!(check_literal(&"https://8.8.8.8/".parse().unwrap(), false).is_ok());
    }

    /// Resolves every name to these addresses.
    struct Scripted(Vec<SocketAddr>);

    impl Resolve for Scripted {
        fn resolve(&self, _: Name) -> Resolving {
            let found = self.0.clone();
            Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_followed_there() {
        let resolve = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
            PublicOnly(Scripted(addresses)).resolve("rebinding.example".parse().unwrap())
        };
        assert!(
            resolve(&["127.0.0.1:0", "[::1]:0", "10.0.0.7:0"])
                .await
                .is_err()
        );
        let mixed: Vec<_> = resolve(&["127.0.0.1:0", "8.8.8.8:0"])
            .await
            .unwrap()
            .collect();
        assert_eq!(mixed, ["8.8.8.8:0".parse().unwrap()]);
    }

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
