//! Who may call: each call and each form has a role that it needs. Where keys are asked for, everything but health and version
//! needs one, also what does not exist.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Extensions, HeaderMap},
    middleware::Next,
    response::Response,
};
use punctual_application::{Actor, OPERATOR_KEY, Role};
use punctual_web::{
    Peer,
    key::{bearer, hash},
};
use secrecy::SecretString;

use super::{App, problem::Problem, sealed::Session};

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) actor: Actor,
    pub(super) role: Role,
}

impl Who {
    /// Who has the key of the configuration.
    pub(super) fn with_own_key() -> Self {
        Self::with_key(OPERATOR_KEY, Role::Administer)
    }

    pub(super) fn with_key(name: &str, role: Role) -> Self {
        Self {
            actor: Actor::new(format!("{name} (key)")),
            role,
        }
    }

    /// Refuses who has a lower role.
    pub(super) fn check(&self, needed: Role) -> Result<(), Problem> {
        check(needed, self.role, &self.actor)
    }
}

fn check(needed: Role, role: Role, actor: &Actor) -> Result<(), Problem> {
    if role >= needed {
        return Ok(());
    }
    let problem = format!(
        "this needs the role `{needed}`, and {actor} has the role `{role}`; ask who administers Punctual for it"
    );
    Err(punctual_web::Problem::forbidden(problem).into())
}

/// A caller where no one is asked for a key: the interface and the address.
fn caller(way: &str, extensions: &Extensions) -> Actor {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    Actor::new(match peer {
        Some(ConnectInfo(peer)) => format!("{way} from {}", peer.ip()),
        None => way.to_owned(),
    })
}

impl App {
    /// Who asks without a key or a session of ours: whom the service around the router or the proxy in front has signed in, and
    /// everyone where no key is asked for. `way` is the interface, `api` or `page`.
    pub(super) fn known(
        &self,
        way: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<Who>, Problem> {
        if self.access.is_guarded() {
            let role = extensions.get::<Role>().copied();
            return Ok(Some(Who {
                actor: caller(way, extensions),
                role: role.unwrap_or(Role::Administer),
            }));
        }
        if let Some(proxy) = &self.sign_in.proxy
            && let Some(who) = proxy.who(Peer::of(extensions), headers)?
        {
            return Ok(Some(who));
        }
        let everyone = self.access.is_open().then(|| Who {
            actor: caller(way, extensions),
            role: Role::Administer,
        });
        Ok(everyone)
    }

    /// Who has this key, and the session that begins with it, within the limit on wrong keys of the address `peer`, or of all
    /// clients where no address is known. `None`: it is not a key of ours. `what` is what the key was sent for.
    pub(super) async fn holder(
        &self,
        peer: Peer,
        given: &SecretString,
        what: &str,
    ) -> Result<Option<(Who, Session)>, Problem> {
        let given = hash(given);
        let attempt = self.guesses.begin(peer.ip(), given);
        let attempt =
            attempt.map_err(|wait| punctual_web::Problem::too_many("wrong keys", wait))?;
        // Comparing two hashes takes the same time whatever they are.
        let holder = if self.access.key_hash() == Some(given) {
            Some((Who::with_own_key(), Session::Own))
        } else {
            // Looking a hash up tells nothing about a key through time: it cannot be chosen.
            self.operator.key(&given).await?.map(|key| {
                let hash = given.to_hex().to_string();
                (Who::with_key(&key.name, key.role), Session::Key { hash })
            })
        };
        match holder {
            Some(_) => attempt.right(),
            None => attempt.wrong(what),
        }
        Ok(holder)
    }
}

/// Middleware: lets those through who have a key, or need none, and tells the calls who asks.
pub(super) async fn require_key(
    State(app): State<App>,
    peer: Peer,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = bearer(request.headers()).map_err(Problem::bad_request)?;
    let given = given.map(SecretString::from);
    let known = app.known("api", request.headers(), request.extensions())?;
    let who = match (known, given) {
        (Some(who), _) => Some(who),
        (None, Some(given)) => {
            let holder = app.holder(peer, &given, "refused by the API").await?;
            holder.map(|(who, session)| {
                request.extensions_mut().insert(session);
                who
            })
        }
        (None, None) => None,
    };
    let who = who.ok_or_else(punctual_web::Problem::unauthorized)?;
    tell(who, request.extensions_mut());
    Ok(next.run(request).await)
}

/// Tells what is to answer a request who asks. A name that the service around the router has given stays.
pub(super) fn tell(who: Who, extensions: &mut Extensions) {
    extensions.insert(who.role);
    if extensions.get::<Actor>().is_none() {
        extensions.insert(who.actor);
    }
}

/// Middleware: refuses who has a lower role.
pub(super) async fn require_role(
    State(needed): State<Role>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    require(needed, request.extensions())?;
    Ok(next.run(request).await)
}

/// Refuses a request of who has a lower role.
pub(super) fn require(needed: Role, extensions: &Extensions) -> Result<(), Problem> {
    let role = extensions.get::<Role>().copied();
    let role = role.ok_or_else(punctual_web::Problem::unauthorized)?;
    let actor = extensions.get::<Actor>();
    check(needed, role, actor.unwrap_or(&Actor::from("the caller")))
}
