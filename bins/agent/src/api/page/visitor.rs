//! Who looks at the page: signed in with the agent's key, for twelve hours. The cookie says until when, under a seal
//! that only who knows the key can make, so every replica knows it and a new key ends it.

use std::convert::Infallible;

use askama::Template;
use axum::{
    extract::{
        Form, FromRequestParts, OptionalFromRequestParts, Query, State, rejection::FormRejection,
    },
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
};
use punctual_application::ports::{Clock, SystemClock};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::{App, PageError, render};

const COOKIE: &str = "punctual_operator";
const SIGNED_IN_SECONDS: i64 = 12 * 3600;

/// Who looks at the page.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Without a key nobody signs in, nor out.
    pub(super) signed_in: bool,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let visitor = <Self as OptionalFromRequestParts<App>>::from_request_parts(parts, app).await;
        let Ok(visitor) = visitor;
        visitor.ok_or_else(|| {
            let path = parts.uri.path();
            let next = if parts.method.is_safe() && path != "/live" {
                path
            } else {
                "/"
            };
            Redirect::to(&format!("/sign-in?next={next}")).into_response()
        })
    }
}

impl OptionalFromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>, Infallible> {
        let Some(key) = &app.api_key else {
            return Ok(Some(Self { signed_in: false }));
        };
        let sealed = cookie(&parts.headers).is_some_and(|token| is_sealed(token, key));
        Ok(sealed.then_some(Self { signed_in: true }))
    }
}

/// `until.nonce.seal`, the first in seconds since 1970.
fn token(key: &blake3::Hash) -> String {
    let until = SystemClock.now().timestamp() + SIGNED_IN_SECONDS;
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

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
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

/// An address of ours, whatever was asked for.
fn within(next: Option<String>) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    next.filter(|next| next.starts_with('/') && !next.starts_with("//") && next.bytes().all(plain))
        .unwrap_or_else(|| "/".to_owned())
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
            let to = Redirect::to(&within(next));
            Ok((
                [(
                    header::SET_COOKIE,
                    set_cookie(&headers, &token(&own), SIGNED_IN_SECONDS),
                )],
                to,
            )
                .into_response())
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
    (
        [(header::SET_COOKIE, set_cookie(&headers, "", 0))],
        Redirect::to("/sign-in"),
    )
        .into_response()
}

/// Sent back only by our own pages, never shown to scripts, and only over TLS where there is TLS.
fn set_cookie(headers: &HeaderMap, token: &str, seconds: i64) -> String {
    let behind_tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|protocol| protocol == "https");
    let secure = if behind_tls { "; Secure" } else { "" };
    format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
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

    #[test]
    fn a_visitor_is_sent_to_our_own_pages_only() {
        for next in [
            "//elsewhere.example",
            "https://elsewhere.example",
            "/\\elsewhere",
            "/\r\nx",
        ] {
            assert_eq!(within(Some(next.into())), "/", "{next:?}");
        }
        assert_eq!(within(Some("/jobs".into())), "/jobs");
    }
}
