//! Sign-in at the identity provider: how it begins, and where the browser comes back to.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;
use punctual_web::{
    Peer,
    page::at,
    problem::not_found,
    session::{SESSION_TTL, SessionCookie, SignInQuery, within},
};
use serde::Deserialize;
use tracing::warn;

use super::{App, Problem, render, visitor::COOKIE};
use crate::{
    oidc::{Oidc, OidcError, shown},
    sealed::{Flow, Seal, Session},
};

/// The browser comes back from the provider with it, by a link.
const FLOW_COOKIE: SessionCookie = SessionCookie {
    name: "punctual_sign_in",
    same_site: "Lax",
};

/// Tells the seals of sign-ins that have begun from all others.
const FLOW_SEAL: &str = "punctual agent 2026-11 operators' sign-ins";

/// How long a sign-in may take.
const FLOW_TTL: TimeDelta = TimeDelta::minutes(10);

/// Characters of the address to go on to at most. Browsers keep no cookie of more than 4,096, which has each one twice.
const MAX_NEXT: usize = 1_500;

/// Leads on from a page of ours: one that came straight from the provider would be sent no cookie that is for our pages alone.
#[derive(Template)]
#[template(path = "signed_in.html")]
struct SignedIn {
    next: String,
}

impl App {
    async fn flow_seal(&self) -> Result<Seal, Problem> {
        Ok(self.seal(FLOW_SEAL).await?)
    }

    /// The provider; the error is that there is none.
    async fn oidc(&self) -> Result<&Oidc, Problem> {
        match &self.sign_in.oidc {
            Some(oidc) => Ok(&**oidc),
            None => Err(not_found().await.into()),
        }
    }

    /// The sign-in page, after a sign-in at the provider has failed.
    fn failed_sign_in(&self, error: &OidcError, next: Option<String>) -> Response {
        let (status, problem) = match error {
            OidcError::Unavailable(_) | OidcError::StillUnavailable(_) => {
                if matches!(error, OidcError::Unavailable(_)) {
                    warn!(%error, "Failed to reach the identity provider: {error}");
                }
                let problem = "The identity provider does not answer. Try again later, or sign in with a key.";
                (StatusCode::SERVICE_UNAVAILABLE, problem)
            }
            OidcError::Refused(_) => {
                warn!(%error, "Failed to verify a sign-in at the identity provider: {error}");
                let problem = "Signing in failed: the answer of the identity provider cannot be used. The log says why.";
                (StatusCode::UNAUTHORIZED, problem)
            }
        };
        self.sign_in_page(next, false, Some((status, problem.to_owned())))
    }
}

/// The page to go on to, if its address has room in a cookie, and else the first one.
fn kept(next: Option<String>) -> String {
    within(next.filter(|next| next.len() <= MAX_NEXT))
}

/// Sends the browser to the provider.
pub(super) async fn begin(
    State(app): State<App>,
    headers: HeaderMap,
    Query(SignInQuery { next }): Query<SignInQuery>,
) -> Result<Response, Problem> {
    let begun = match app.oidc().await?.begin().await {
        Ok(begun) => begun,
        Err(error) => return Ok(app.failed_sign_in(&error, next)),
    };
    let flow = Flow {
        state: begun.state,
        nonce: begun.nonce,
        verifier: begun.verifier,
        next: kept(next),
    };
    let until = app.operator.clock.now() + FLOW_TTL;
    let token = app.flow_seal().await?.token(until, &flow);
    let token = token.ok_or_else(|| Problem::bad_request("this page cannot be led back to"))?;
    let cookie = FLOW_COOKIE.header(&headers, &token, FLOW_TTL);
    let kept = [(header::SET_COOKIE, cookie)];
    Ok((kept, Redirect::to(&begun.url)).into_response())
}

/// What the provider sends the browser back with.
#[derive(Deserialize)]
pub(super) struct Returned {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// The end of a sign-in, where the browser comes back to.
pub(super) async fn end(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    query: Result<Query<Returned>, QueryRejection>,
) -> Result<Response, Problem> {
    let oidc = app.oidc().await?;
    let Query(returned) = query?;
    let now = app.operator.clock.now();
    let seal = app.flow_seal().await?;
    let flow = FLOW_COOKIE.token(&headers);
    let flow = flow.and_then(|token| seal.open::<Flow>(token, now));
    let state = returned.state.unwrap_or_default();
    // Comparing two hashes takes the same time whatever they are.
    let hash = blake3::hash(state.as_bytes());
    let own = flow.filter(|flow| blake3::hash(flow.state.as_bytes()) == hash);
    let Some(flow) = own else {
        let problem = "This sign-in was begun in another window, or took too long. Begin again.";
        let problem = (StatusCode::BAD_REQUEST, problem.to_owned());
        return Ok(app.sign_in_page(None, false, Some(problem)));
    };
    // Each code has the provider asked, and each error is a line of the log, in words that anyone can make up.
    let attempt = app.guesses.begin(peer.ip(), hash);
    let attempt = attempt.map_err(|wait| punctual_web::Problem::too_many("sign-ins", wait))?;
    let Some(code) = returned.code else {
        attempt.wrong("refused at sign-in");
        let error = shown(&returned.error.unwrap_or_default());
        let description = shown(&returned.error_description.unwrap_or_default());
        let error = OidcError::Refused(format!("the provider says {error}: {description}"));
        return Ok(app.failed_sign_in(&error, Some(flow.next)));
    };
    let finished = oidc.finish(code, flow.nonce, flow.verifier, now).await;
    let person = match finished {
        Ok(person) => {
            attempt.right();
            person
        }
        Err(error) => {
            attempt.wrong("refused at sign-in");
            return Ok(app.failed_sign_in(&error, Some(flow.next)));
        }
    };
    let Some(role) = person.role else {
        let name = person.name;
        let problem = format!(
            "{name} is in none of the groups that have a role here. Ask who administers Punctual for one."
        );
        let problem = (StatusCode::FORBIDDEN, problem);
        return Ok(app.sign_in_page(Some(flow.next), false, Some(problem)));
    };
    let session = Session::Oidc {
        name: format!("{} (OIDC)", person.name),
        role,
    };
    let token = app.begin_session(&session).await?;
    let next = at(&flow.next);
    let refresh = [(header::REFRESH, format!("0; url={next}"))];
    let cookies = AppendHeaders([
        (
            header::SET_COOKIE,
            COOKIE.header(&headers, &token, SESSION_TTL),
        ),
        (
            header::SET_COOKIE,
            FLOW_COOKIE.header(&headers, "", TimeDelta::zero()),
        ),
    ]);
    Ok((cookies, refresh, render(&SignedIn { next })?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_has_room_in_a_cookie_wherever_it_leads() {
        let longest = format!("/{}", "a".repeat(MAX_NEXT - 1));
        assert_eq!(kept(Some(longest.clone())), longest);
        assert_eq!(kept(Some(format!("{longest}a"))), "/");
        assert_eq!(kept(Some("//elsewhere.example".to_owned())), "/");
        let random = "a".repeat(43);
        let flow = Flow {
            state: random.clone(),
            nonce: random.clone(),
            verifier: random,
            next: longest,
        };
        let until = "2026-03-01T09:10:00Z".parse().unwrap();
        let token = Seal::new(FLOW_SEAL, &[1; 32]).token(until, &flow).unwrap();
        let cookie = FLOW_COOKIE.header(&HeaderMap::new(), &token, FLOW_TTL);
        assert!(cookie.len() <= 4_096, "{}", cookie.len());
    }
}
