//! Who may call. Everything under `/api/v1` goes through here, also what does not exist.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, RawPathParams, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use punctual_domain::TenantId;
use secrecy::SecretString;

use super::{App, problem::Problem};
use crate::keys::{Scope, hash};

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
    /// Who holds the key with this hash. Without an administrator's key nobody is asked for one.
    pub(super) async fn caller(
        &self,
        key: Option<blake3::Hash>,
    ) -> Result<Option<Caller>, Problem> {
        Ok(match (self.admin_key, key) {
            (None, _) => Some(Caller::admin("anonymous")),
            (Some(_), None) => None,
            (Some(admin_key), Some(key)) if key == admin_key => Some(Caller::admin("admin")),
            (Some(_), Some(key)) => self.store.find_key(&key).await?.map(|found| Caller {
                name: found.name,
                scope: found.scope,
                tenant_id: found.tenant_id,
            }),
        })
    }
}

pub(super) async fn require_key(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(caller) = app.caller(given_key(&request)).await? else {
        app.limits.unknown(peer.ip())?;
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "a key is needed: send it as `Authorization: Bearer KEY`",
        ));
    };
    app.limits.known(&caller)?;
    if let Some(own) = &caller.tenant_id {
        let about = parameters.iter().find(|(name, _)| *name == "tenant_id");
        if about.is_none_or(|(_, tenant)| tenant != own.as_str()) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!("this key is for the configurations of {own} only"),
            ));
        }
    }
    let needed = needed_scope(&request);
    if caller.scope < needed {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("this key may {}; the call needs {needed}", caller.scope),
        ));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn needed_scope(request: &Request) -> Scope {
    let path = request.uri().path();
    match *request.method() {
        _ if path.ends_with("/preferences/import") => Scope::Admin,
        // `keys` is a collection, not only the end of some name.
        _ if path.split('/').any(|part| part == "keys") => Scope::Admin,
        Method::GET | Method::HEAD => Scope::Read,
        // A schema decides what everybody else may store.
        _ if path.contains("/feature-types/") => Scope::Admin,
        _ => Scope::Write,
    }
}

fn given_key(request: &Request) -> Option<blake3::Hash> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    Some(hash(&SecretString::from(value.strip_prefix("Bearer ")?)))
}

/// Refuses what another site's page makes a browser send: calls with an origin that is not ours, and, where no key
/// is asked for, calls by a name that is not this machine's.
pub(super) async fn refuse_other_origins(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match foreign(&request, app.admin_key.is_some()) {
        Some(reason) => Err(Problem::new(StatusCode::FORBIDDEN, reason)),
        None => Ok(next.run(request).await),
    }
}

fn foreign(request: &Request, keys_are_asked_for: bool) -> Option<&'static str> {
    let header = |name| request.headers().get(name)?.to_str().ok();
    let host = header(header::HOST).unwrap_or_default();
    let origin = header(header::ORIGIN).filter(|_| !request.method().is_safe());
    if origin.is_some_and(|origin| origin.split_once("://").map(|(_, of)| of) != Some(host)) {
        return Some("calls from the pages of other sites are refused");
    }
    if !keys_are_asked_for && !is_loopback(host) {
        return Some(
            "without CONFIG_SERVICE_API_KEY, only calls to 127.0.0.1 or localhost are answered",
        );
    }
    None
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
