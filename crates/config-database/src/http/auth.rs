//! Who may call. Everything under `/api/v1` goes through here, also what does not exist.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use punctual_domain::TenantId;
use punctual_web::{
    Problem,
    key::{bearer, hash},
};
use secrecy::SecretString;

use super::App;
use crate::keys::Scope;

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The name of the key.
    pub(super) name: String,
    pub(super) scope: Scope,
    /// The only tenant the caller may see; `None`: all.
    pub(super) tenant_id: Option<TenantId>,
}

impl Caller {
    fn admin(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scope: Scope::Admin,
            tenant_id: None,
        }
    }
}

impl App {
    /// The caller when no key is asked for.
    pub(super) fn anonymous(&self) -> Option<Caller> {
        self.admin_key.is_none().then(|| Caller::admin("anonymous"))
    }

    /// The holder of the key with this hash.
    pub(super) async fn holder(&self, key: blake3::Hash) -> Result<Option<Caller>, Problem> {
        if self.admin_key == Some(key) {
            return Ok(Some(Caller::admin("admin")));
        }
        let found = self.store.find_key(&key).await?;
        Ok(found.map(|found| Caller {
            name: found.name,
            scope: found.scope,
            tenant_id: found.tenant_id,
        }))
    }

    /// The same, within the limit on wrong keys of the address `peer`. `what` is what the key was sent for.
    pub(super) async fn holder_at(
        &self,
        peer: SocketAddr,
        key: blake3::Hash,
        what: &str,
    ) -> Result<Option<Caller>, Problem> {
        let attempt = self.guesses.begin(peer.ip(), key);
        let attempt = attempt.map_err(|wait| Problem::too_many("wrong keys", wait))?;
        let holder = self.holder(key).await?;
        match holder {
            Some(_) => attempt.right(),
            None => attempt.wrong(what),
        }
        Ok(holder)
    }
}

pub(super) async fn require_key(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = bearer(request.headers())
        .map_err(Problem::bad_request)?
        .map(|key| hash(&SecretString::from(key)));
    let caller = match (app.anonymous(), given) {
        (Some(anonymous), _) => Some(anonymous),
        (None, Some(key)) => app.holder_at(peer, key, "refused by the API").await?,
        (None, None) => None,
    };
    let Some(caller) = caller else {
        return Err(Problem::unauthorized());
    };
    app.limits.known(&caller)?;
    if let Some(own) = &caller.tenant_id {
        let about = parameters.iter().find(|(name, _)| *name == "tenant_id");
        if about.is_none_or(|(_, tenant)| tenant != own.as_str()) {
            return Err(Problem::forbidden(format!(
                "this key is for the configurations of {own} only"
            )));
        }
    }
    let needed = needed_scope(&request);
    if caller.scope < needed {
        return Err(Problem::forbidden(format!(
            "this key may {}; the call needs {needed}",
            caller.scope
        )));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Decided by the route, so that no name in a path is taken for a part of it.
fn needed_scope(request: &Request) -> Scope {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    match *request.method() {
        _ if route.ends_with("/preferences/import") => Scope::Admin,
        _ if route.starts_with("/api/v1/keys") => Scope::Admin,
        Method::GET | Method::HEAD => Scope::Read,
        // A schema decides what everybody else may store.
        _ if route.starts_with("/api/v1/feature-types/") => Scope::Admin,
        _ => Scope::Write,
    }
}
