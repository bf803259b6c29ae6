//! Who may use a router, and from which address they call.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{Extensions, request::Parts},
    middleware::{self, Next},
    response::Response,
};
use secrecy::SecretString;

use crate::{
    Problem,
    key::{check_key, hash},
    origin::{Rule, Senders, refuse_other_sites},
};

/// Who may use the API and the page.
#[derive(Debug, Clone)]
pub struct Access(Guard);

#[derive(Debug, Clone)]
enum Guard {
    Key(SecretString),
    ThisMachine(&'static str),
    Accounts,
    Host,
}

impl Access {
    /// Clients that have this key: as a bearer token at the API, on the sign-in page at the page. The service listens on
    /// `address`.
    ///
    /// # Errors
    /// What is wrong with the key, without the key: it is blank, cannot be sent in a header, or has fewer than 16 characters
    /// although other machines can reach the address.
    pub fn key(key: SecretString, address: SocketAddr) -> Result<Self, String> {
        check_key(&key, Some(address))?;
        Ok(Self(Guard::Key(key)))
    }

    /// Clients on this machine, by their address and by the host that they name, so that no page of another site can ask.
    /// Error messages mention the setting that would hold a key.
    #[must_use]
    pub const fn this_machine(key_setting: &'static str) -> Self {
        Self(Guard::ThisMachine(key_setting))
    }

    /// Everyone whom the service around the router lets through: it has a sign-in of its own in front of it, and says who
    /// asks in the extensions of the request. The router says with which type.
    #[must_use]
    pub const fn guarded() -> Self {
        Self(Guard::Host)
    }

    /// Those whom the router knows by itself: by keys that it keeps, at an identity provider, or through a proxy in front. Which of
    /// these it has, the router says.
    #[must_use]
    pub const fn accounts() -> Self {
        Self(Guard::Accounts)
    }

    /// The hash of the key, where one is given.
    #[must_use]
    pub fn key_hash(&self) -> Option<blake3::Hash> {
        match &self.0 {
            Guard::Key(key) => Some(hash(key)),
            Guard::ThisMachine(_) | Guard::Accounts | Guard::Host => None,
        }
    }

    /// Whether every client on this machine may do everything.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.0, Guard::ThisMachine(_))
    }

    /// Whether the service around the router decides.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        matches!(self.0, Guard::Host)
    }

    /// Refuses requests of other sites' pages and, where only this machine is answered, of other machines.
    pub fn protect<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        self.protect_from(router, Senders::Own)
    }

    /// The same, but takes changes from the pages of these senders.
    pub fn protect_from<S: Clone + Send + Sync + 'static>(
        &self,
        router: Router<S>,
        senders: Senders,
    ) -> Router<S> {
        let key_setting = match self.0 {
            Guard::ThisMachine(setting) => Some(setting),
            Guard::Key(_) | Guard::Accounts | Guard::Host => None,
        };
        router
            .layer(middleware::from_fn_with_state(
                Rule {
                    key_setting,
                    senders,
                },
                refuse_other_sites,
            ))
            .layer(middleware::from_fn_with_state(
                key_setting,
                refuse_other_machines,
            ))
    }
}

/// Without a key (`key_setting` is then the name of the setting that would hold one), refuses other machines.
async fn refuse_other_machines(
    State(key_setting): State<Option<&'static str>>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match key_setting {
        Some(setting) if !peer.ip().is_loopback() => Err(Problem::forbidden(format!(
            "without a key, only clients on this machine are answered; set {setting}"
        ))),
        _ => Ok(next.run(request).await),
    }
}

/// The address of a client, where the router is served with it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(Option<SocketAddr>);

impl Peer {
    /// That of a request, by its extensions.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let known = extensions.get::<ConnectInfo<SocketAddr>>();
        Self(known.map(|ConnectInfo(peer)| *peer))
    }

    /// The address without the port; `0.0.0.0` for all clients whose address is not known, so that they share each limit.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.0.map_or(unknown, |peer| peer.ip())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
