//! Who may call. Everything under `/api/v1` goes through here, also what does not exist.

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use secrecy::SecretString;

use super::{App, problem::Problem};
use crate::keys::{Scope, hash};

/// Who calls: the name of the key.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) String);

pub(super) async fn require_key(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = match app.admin_key {
        None => "anonymous".to_owned(),
        Some(admin_key) => {
            let (needed, given) = (needed_scope(&request), given_key(&request));
            identify(&app, admin_key, needed, given).await?
        }
    };
    request.extensions_mut().insert(Caller(caller));
    Ok(next.run(request).await)
}

fn needed_scope(request: &Request) -> Scope {
    let path = request.uri().path();
    match *request.method() {
        _ if path.ends_with("/preferences/import") => Scope::Admin,
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

/// The name of the key, if it may do what is needed.
async fn identify(
    app: &App,
    admin_key: blake3::Hash,
    needed: Scope,
    given: Option<blake3::Hash>,
) -> Result<String, Problem> {
    let key = match given {
        None => None,
        Some(given) if given == admin_key => Some(("admin".to_owned(), Scope::Admin)),
        Some(given) => app.store.find_key(&given).await?,
    };
    match key {
        None => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "a key is needed: send it as `Authorization: Bearer KEY`",
        )),
        Some((_, scope)) if scope < needed => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("this key may {scope}; the call needs {needed}"),
        )),
        Some((name, _)) => Ok(name),
    }
}
