//! Operators whom a proxy in front has signed in, and names in a header.

use std::{net::IpAddr, str::FromStr};

use axum::http::{HeaderMap, HeaderName, StatusCode};
use punctual_application::{Actor, Role};
use punctual_domain::visible;
use punctual_web::{Peer, Problem};

use crate::{auth::Who, roles::RoleMap};

/// Characters of a name at most.
const MAX_NAME: usize = 256;

/// A proxy in front that signs operators in and says who asks.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    /// The header with the name of who asks, such as `X-Forwarded-User`. The proxy has to remove it from what clients send.
    pub header: HeaderName,
    /// Addresses whose header is believed; from all others it is refused.
    pub proxies: Networks,
    /// The roles of the names.
    pub roles: RoleMap,
}

impl TrustedProxy {
    /// Whom the header names; `None`: the request does not have it.
    pub(crate) fn who(&self, peer: Peer, headers: &HeaderMap) -> Result<Option<Who>, Problem> {
        let header = &self.header;
        let mut values = headers.get_all(header).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let ip = peer.ip();
        if ip.is_unspecified() || !self.proxies.contain(ip) {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                format!(
                    "the header `{header}` is believed from trusted proxies only, and {ip} is not one; add the address to the \
                     trusted proxies, or remove the header"
                ),
            ));
        }
        if values.next().is_some() {
            return Err(Problem::bad_request(format!(
                "the request has two headers `{header}`; let the proxy replace the one of the client"
            )));
        }
        let name = std::str::from_utf8(value.as_bytes())
            .unwrap_or_default()
            .trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || visible(name) != name {
            return Err(Problem::bad_request(format!(
                "the header `{header}` holds no name; expected 1 to {MAX_NAME} characters, none of them a control character"
            )));
        }
        let role = self.roles.role_of(&[name]).ok_or_else(|| {
            Problem::forbidden(format!(
                "`{name}` has no role here; expected a name with one of the roles {}",
                Role::ALL.map(Role::as_str).join(", ")
            ))
        })?;
        Ok(Some(Who {
            actor: Actor::new(format!("{name} (proxy)")),
            role,
        }))
    }
}

/// Addresses, alone or as networks, such as `10.0.0.7,192.168.0.0/16,fd00::/8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// How many of the first bits count.
    bits: u32,
}

impl Networks {
    fn contain(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }
}

impl Network {
    fn contains(self, ip: IpAddr) -> bool {
        // An IPv4 client of a socket for both kinds.
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let wide = |bits: u32| u128::from(bits) << 96;
                begin_alike(wide(own.to_bits()), wide(ip.to_bits()), self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                begin_alike(own.to_bits(), ip.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

fn begin_alike(one: u128, other: u128, bits: u32) -> bool {
    bits == 0 || (one ^ other) >> (128 - bits) == 0
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = |text: &str| {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits)),
                None => (text, None),
            };
            let address: Option<IpAddr> = address.parse().ok();
            let most = address.map(|address| if address.is_ipv4() { 32 } else { 128 });
            let bits = match bits {
                Some(bits) => bits.parse().ok(),
                None => most,
            };
            match (address, bits, most) {
                (Some(address), Some(bits), Some(most)) if bits <= most => {
                    Ok(Network { address, bits })
                }
                _ => Err(format!(
                    "has `{text}`; expected addresses or networks, such as `10.0.0.7,192.168.0.0/16`"
                )),
            }
        };
        let networks = text.split(',').map(str::trim).map(network);
        networks.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{extract::ConnectInfo, http::Extensions};

    use super::*;

    #[test]
    fn addresses_and_networks_contain_what_they_say() {
        let networks: Networks = "10.0.0.7, 192.168.0.0/16,fd00::/8".parse().unwrap();
        for (ip, inside) in [
            ("10.0.0.7", true),
            ("10.0.0.8", false),
            ("::ffff:10.0.0.7", true),
            ("192.168.255.1", true),
            ("192.169.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(networks.contain(ip.parse().unwrap()), inside, "{ip}");
        }
        let all: Networks = "0.0.0.0/0,::/0".parse().unwrap();
        assert!(all.contain("203.0.113.9".parse().unwrap()) && all.contain("::1".parse().unwrap()));
        for wrong in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.7,",
            "10.0.0.7/",
            "10.0.0.7/-1",
        ] {
            let error = wrong.parse::<Networks>().unwrap_err();
            assert!(error.contains("expected addresses"), "{error}");
        }
    }

    fn asks(peer: Option<&str>, names: &[&str]) -> Result<Option<(String, Role)>, StatusCode> {
        let proxy = TrustedProxy {
            header: HeaderName::from_static("x-forwarded-user"),
            proxies: "10.0.0.0/8".parse().unwrap(),
            roles: "operate=eve,administer=ann@shop.example".parse().unwrap(),
        };
        let mut extensions = Extensions::new();
        if let Some(peer) = peer {
            let peer = SocketAddr::new(peer.parse().unwrap(), 9);
            extensions.insert(ConnectInfo(peer));
        }
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append("x-forwarded-user", name.parse().unwrap());
        }
        let who = proxy.who(Peer::of(&extensions), &headers);
        let named = |who: Who| (who.actor.name, who.role);
        who.map(|who| who.map(named))
            .map_err(|problem| problem.status())
    }

    #[test]
    fn a_header_is_believed_from_trusted_addresses_only_and_refused_from_others() {
        let ann = "ann@shop.example";
        let named = ("ann@shop.example (proxy)".to_owned(), Role::Administer);
        assert_eq!(asks(Some("10.1.2.3"), &[ann]), Ok(Some(named)));
        assert_eq!(asks(Some("10.1.2.3"), &[]), Ok(None));
        assert_eq!(asks(Some("192.0.2.1"), &[]), Ok(None));
        assert_eq!(
            asks(Some("192.0.2.1"), &[ann]),
            Err(StatusCode::UNAUTHORIZED)
        );
        assert_eq!(asks(None, &[ann]), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(
            asks(Some("10.1.2.3"), &[ann, ann]),
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(asks(Some("10.1.2.3"), &[""]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(asks(Some("10.1.2.3"), &["bob"]), Err(StatusCode::FORBIDDEN));
    }
}
