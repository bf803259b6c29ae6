//! Who may call. Everything under `/api/v1` goes through here, also what does not exist.

use axum::{
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{Extensions, Method},
    middleware::Next,
    response::Response,
};
use punctual_domain::TenantId;
use punctual_web::{
    Peer, Problem,
    key::{bearer, hash},
};
use secrecy::SecretString;

use super::App;
use crate::keys::Scope;

/// Who calls, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name of the key or of the signed-in user, which the history shows.
    pub(super) name: String,
    pub(super) scope: Scope,
    /// The only tenant the caller may see; `None`: all.
    pub(super) tenant_id: Option<TenantId>,
}

impl Caller {
    /// A tenant, who reads and changes their own preferences only.
    #[must_use]
    pub fn tenant(tenant_id: TenantId) -> Self {
        Self {
            name: tenant_id.to_string(),
            scope: Scope::Write,
            tenant_id: Some(tenant_id),
        }
    }

    /// An operator, who may do everything. The history shows `name`.
    #[must_use]
    pub fn operator(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            scope: Scope::Admin,
            tenant_id: None,
        }
    }
}

impl App {
    /// The caller when no key is asked for; `None`: a key decides.
    pub(super) fn without_key(&self, extensions: &Extensions) -> Result<Option<Caller>, Problem> {
        if self.guarded {
            let caller = extensions.get::<Caller>().cloned();
            let unknown = "the caller is not known; the service around this router must put a `Caller` into the \
                           extensions of the request";
            return caller.map(Some).ok_or_else(|| Problem::forbidden(unknown));
        }
        let asks_for_key = self.admin_key.is_some();
        Ok((!asks_for_key).then(|| Caller::operator("anonymous")))
    }

    /// The holder of the key with this hash.
    pub(super) async fn holder(&self, key: blake3::Hash) -> Result<Option<Caller>, Problem> {
        if self.admin_key == Some(key) {
            return Ok(Some(Caller::operator("admin")));
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
        peer: Peer,
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
    peer: Peer,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = bearer(request.headers())
        .map_err(Problem::bad_request)?
        .map(|key| hash(&SecretString::from(key)));
    let caller = match (app.without_key(request.extensions())?, given) {
        (Some(caller), _) => Some(caller),
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

/// The route by which agents publish their jobs.
const PUBLISHED_JOBS: &str = "/feature-types/{feature_type}/jobs";

/// Decided by the route, so that no name in a path is taken for a part of it.
fn needed_scope(request: &Request) -> Scope {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    // The router may be nested.
    let route = route.rsplit_once("/api/v1").map_or(route, |(_, own)| own);
    match *request.method() {
        _ if route == "/preferences/import" => Scope::Admin,
        _ if route.starts_with("/keys") => Scope::Admin,
        Method::GET | Method::HEAD => Scope::Read,
        _ if route.ends_with("/preview") => Scope::Read,
        Method::PUT if route == PUBLISHED_JOBS => Scope::Agent,
        // A feature decides what everybody else may store.
        _ if route.starts_with("/feature-types/") => Scope::Admin,
        _ => Scope::Write,
    }
}
