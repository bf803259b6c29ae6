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

pub(super) async fn require_key(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(admin_key) = app.admin_key else {
        return Ok(next.run(request).await);
    };
    let needed = match (
        request.method(),
        request.uri().path().ends_with("/preferences/import"),
    ) {
        (_, true) => Scope::Admin,
        (&Method::GET | &Method::HEAD, _) => Scope::Read,
        _ => Scope::Write,
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(|key| hash(&SecretString::from(key)));
    let scope = match given {
        None => None,
        Some(given) if given == admin_key => Some(Scope::Admin),
        Some(given) => app.store.scope_of(&given).await?,
    };
    match scope {
        None => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "a key is needed: send it as `Authorization: Bearer KEY`",
        )),
        Some(scope) if scope < needed => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("this key may {scope}; the call needs {needed}"),
        )),
        Some(_) => Ok(next.run(request).await),
    }
}
