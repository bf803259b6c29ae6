//! Who may call: with a key set, everything but health and version needs it, also what does not exist.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use punctual_web::{
    Peer, Problem,
    key::{bearer, hash},
};
use secrecy::SecretString;

use super::App;

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
        let attempt = self.guesses.begin(peer.ip(), given);
        let attempt = attempt.map_err(|wait| Problem::too_many("wrong keys", wait))?;
        // Comparing two hashes takes the same time whatever they are.
        let own = self.api_key == Some(given);
        if own {
            attempt.right();
        } else {
            attempt.wrong(what);
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
    if allowed {
        Ok(next.run(request).await)
    } else {
        Err(Problem::unauthorized())
    }
}
