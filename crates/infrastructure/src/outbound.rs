//! The one place where HTTP clients are built, and the rules about addresses that URLs of jobs and purposes keep to.
//!
//! Every client of Punctual begins with [`client_builder`], which `clippy.toml` enforces. A client for a new kind of remote
//! endpoint adds its timeouts to it; one for URLs that somebody else writes is an [`endpoint_client`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client, ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A builder of a client that connects in time, follows no redirect and says who it is.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that all others use"
)]
pub fn client_builder(connect_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .connect_timeout(connect_timeout)
        .redirect(Policy::none())
        .user_agent(concat!("punctual/", env!("CARGO_PKG_VERSION")))
}

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

/// A client for every URL that a job or a purpose names: without a proxy and without retries of its own. Unless `private`
/// addresses are allowed, it connects to no address of this machine or of a private network, whatever a name resolves to.
///
/// # Errors
/// The client cannot be built.
pub(crate) fn endpoint_client(timeout: Duration, private: bool) -> Result<Client, EndpointError> {
    let builder = client_builder(CONNECT_TIMEOUT)
        .timeout(timeout)
        .retry(reqwest::retry::never())
        .no_proxy();
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

/// Whether a host is this machine: what is sent there cannot be read on the way. An IPv6 address may stand in brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The URL of a configuration.
///
/// # Errors
/// The URL cannot be used.
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
}
