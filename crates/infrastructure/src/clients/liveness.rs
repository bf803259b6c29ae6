//! Whether a server on this machine is alive, as the health check of a container asks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::outbound::client_builder;

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The address at which a server that listens on `address` is reached from this machine.
#[must_use]
pub fn from_here(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Asks the server that listens on `address` whether it is alive.
///
/// # Errors
/// Why it is not: it does not answer, or says no.
pub async fn check_alive(address: SocketAddr) -> Result<(), String> {
    let url = format!("http://{}/health/live", from_here(address));
    let client = client_builder(TIMEOUT).timeout(TIMEOUT).no_proxy().build();
    let answered = client.map_err(|error| error.to_string())?.get(&url).send();
    let status = answered
        .await
        .map_err(|error| format!("{url} does not answer: {}", error.without_url()))?
        .status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("{url} answers {status}"))
    }
}
