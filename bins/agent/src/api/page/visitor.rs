//! Who looks at the page: signed in with the agent's key, for twelve hours. The cookie says until when, under a seal
//! that only who knows the key can make, so every replica knows it and a new key ends it.

use askama::Template;
use axum::{
    extract::{Form, FromRequestParts, Query, State, rejection::FormRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;
use punctual_application::ports::{Clock, SystemClock};
use punctual_config_database::pages::{cookie, set_cookie, to_sign_in, within};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::{App, PageError, render};

const COOKIE: &str = "punctual_operator";
/// The page is never opened signed in from elsewhere.
const SAME_SITE: &str = "Strict";
const SIGNED_IN_FOR: TimeDelta = TimeDelta::hours(12);

/// Who looks at the page.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Without a key nobody signs in, nor out.
    pub(super) signed_in: bool,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Redirect> {
        let Some(key) = &app.api_key else {
            return Ok(Self { signed_in: false });
        };
        match cookie(&parts.headers, COOKIE) {
            Some(token) if is_sealed(token, key) => Ok(Self { signed_in: true }),
            _ => Err(to_sign_in(&parts.method, &parts.uri)),
        }
    }
}

/// `until.nonce.seal`, the first in seconds since 1970.
fn token(key: &blake3::Hash) -> String {
    let until = (SystemClock.now() + SIGNED_IN_FOR).timestamp();
    let content = format!("{until}.{}", Uuid::new_v4().simple());
    let seal = seal(&content, key);
    format!("{content}.{seal}")
}

fn seal(content: &str, key: &blake3::Hash) -> blake3::Hash {
    let own = blake3::derive_key("punctual agent 2026-11 operators' cookies", key.as_bytes());
    blake3::keyed_hash(&own, content.as_bytes())
}

fn is_sealed(token: &str, key: &blake3::Hash) -> bool {
    let Some((content, given)) = token.rsplit_once('.') else {
        return false;
    };
    let until = content
        .split('.')
        .next()
        .and_then(|until| until.parse::<i64>().ok());
    // Comparing two hashes takes the same time whatever they are.
    let genuine = blake3::Hash::from_hex(given).is_ok_and(|given| given == seal(content, key));
    genuine && until.is_some_and(|until| until > SystemClock.now().timestamp())
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    next: String,
    problem: Option<&'static str>,
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

pub(super) async fn form(Query(Next { next }): Query<Next>) -> Result<Html<String>, PageError> {
    render(&SignInPage {
        next: within(next),
        problem: None,
    })
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    key: SecretString,
    next: Option<String>,
}

pub(super) async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, PageError> {
    let Form(SignIn { key, next }) = form?;
    let given = blake3::hash(key.expose_secret().as_bytes());
    match app.api_key {
        Some(own) if own == given => {
            let cookie = set_cookie(&headers, COOKIE, &token(&own), SAME_SITE, SIGNED_IN_FOR);
            let to = Redirect::to(&within(next));
            Ok(([(header::SET_COOKIE, cookie)], to).into_response())
        }
        Some(_) => {
            tracing::warn!(
                "Somebody tried to sign in to the operations page with a key that is not BATCH_API_KEY"
            );
            let problem = Some("This is not the agent's key.");
            let page = render(&SignInPage {
                next: within(next),
                problem,
            })?;
            Ok((StatusCode::UNAUTHORIZED, page).into_response())
        }
        None => Ok(Redirect::to("/").into_response()),
    }
}

pub(super) async fn sign_out(headers: HeaderMap) -> Response {
    let cookie = set_cookie(&headers, COOKIE, "", SAME_SITE, TimeDelta::zero());
    ([(header::SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_makes_a_cookie_and_it_ends() {
        let (key, other) = (blake3::hash(b"key"), blake3::hash(b"other"));
        let token = token(&key);
        assert!(is_sealed(&token, &key));
        assert!(!is_sealed(&token, &other));
        let (until, rest) = token.split_once('.').unwrap();
        let longer = format!("{}.{rest}", until.parse::<i64>().unwrap() + 1);
        assert!(!is_sealed(&longer, &key));
        let old = "1000000000.0";
        assert!(!is_sealed(&format!("{old}.{}", seal(old, &key)), &key));
        for broken in ["", ".", "..", "x.y.z"] {
            assert!(!is_sealed(broken, &key));
        }
    }
}
