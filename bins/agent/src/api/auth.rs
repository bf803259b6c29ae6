//! Who may call: with a key set, everything but health and version needs it, also what does not exist. What other
//! sites make a browser send is refused.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use punctual_config_database::{bearer, origin};

use super::{App, problem::Problem};

impl App {
    /// Whether this is the agent's key, within the limit on wrong keys of the address `peer`. `what` is what the key was
    /// sent for.
    pub(super) fn is_own_key(
        &self,
        peer: SocketAddr,
        given: &str,
        what: &str,
    ) -> Result<bool, Problem> {
        let given = blake3::hash(given.as_bytes());
        let attempt = self.guesses.begin(peer.ip(), given);
        let attempt = attempt.map_err(Problem::too_many)?;
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
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = bearer(request.headers()).map_err(Problem::bad_request)?;
    let allowed = match given {
        _ if app.api_key.is_none() => true,
        Some(given) => app.is_own_key(peer, given, "refused at the API")?,
        None => false,
    };
    match allowed {
        true => Ok(next.run(request).await),
        false => Err(Problem::unauthorized()),
    }
}

/// Refuses what a page of another site makes a browser send.
pub(super) async fn refuse_other_sites(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let key_setting = app.api_key.is_none().then_some("BATCH_API_KEY");
    let checked = origin::check(
        request.method(),
        request.uri(),
        request.headers(),
        key_setting,
    );
    match checked {
        Ok(()) => next.run(request).await,
        Err(reason) => Problem::forbidden(reason).into_response(),
    }
}
