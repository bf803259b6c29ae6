//! Who may call: with a key set, everything but health and version needs it, also what does not exist.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    Extension,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use punctual_web::{
    Problem,
    key::{bearer, hash},
};
use secrecy::SecretString;

use super::App;

/// The address of the client, where the router is served with it.
pub(super) type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

impl App {
    /// Whether this is the agent's key, within the limit on wrong keys of the address `peer`, or of all clients where no
    /// address is known. `what` is what the key was sent for.
    pub(super) fn is_own_key(
        &self,
        peer: Peer,
        given: &SecretString,
        what: &str,
    ) -> Result<bool, Problem> {
        let given = hash(given);
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = peer.map_or(unknown, |Extension(ConnectInfo(peer))| peer.ip());
        let attempt = self.guesses.begin(address, given);
        let attempt = attempt.map_err(|wait| Problem::too_many("wrong keys", wait))?;
        // Comparing two hashes takes the same time whatever they are.
        let own = self.api_key == Some(given);
        match own {
            true => attempt.right(),
            false => attempt.wrong(what),
        }
        Ok(own)
    }
}

pub(super) async fn require_key(
    State(app): State<App>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = bearer(request.headers()).map_err(Problem::bad_request)?;
    let allowed = match given {
        _ if app.api_key.is_none() => true,
        Some(given) => app.is_own_key(peer, &given.into(), "refused by the API")?,
        None => false,
    };
    match allowed {
        true => Ok(next.run(request).await),
        false => Err(Problem::unauthorized()),
    }
}

/// Without a key (`key_setting` is then the name of the setting that would hold one), refuses other machines.
pub(super) async fn refuse_other_machines(
    State(key_setting): State<Option<&'static str>>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let is_local = peer.is_some_and(|Extension(ConnectInfo(peer))| peer.ip().is_loopback());
    match key_setting {
        Some(setting) if !is_local => Err(Problem::forbidden(format!(
            "without a key, only clients on this machine are answered; set {setting}"
        ))),
        _ => Ok(next.run(request).await),
    }
}
