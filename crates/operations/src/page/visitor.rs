//! Who looks at the page: signed in with the agent's key, for twelve hours. The cookie says until when, under a seal
//! that only who knows the key can make, so every replica knows it and a new key ends it. Signing out ends it, also a
//! copy of it: the audit log tells other replicas, and this one after a restart.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Form, FromRequestParts, Query, State, rejection::FormRejection},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{AuditFilter, Page};
use punctual_web::{
    PageWords, Peer,
    page::at,
    session::{SESSION_TTL, SessionCookie, SignIn, SignInQuery, to_sign_in},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{App, Problem, SITE, answer::Done};
use crate::audit::RequestActor;

/// The page is never opened signed in from elsewhere.
const COOKIE: SessionCookie = SessionCookie {
    name: "punctual_operator",
    same_site: "Strict",
};

/// Visitor of the page.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Without a key there is neither sign-in nor sign-out.
    pub(super) signed_in: bool,
    /// The path of the page, below the root.
    path: String,
    /// The address, below the root, that shows the page as it is; `None`: there is none, as after a form that was refused.
    pub(super) page: Option<String>,
    /// What the action before has done.
    pub(super) done: Option<Done>,
    /// Why what was asked for is not done.
    pub(super) refused: Option<String>,
    /// The time for which the page holds.
    pub(super) at: DateTime<Utc>,
    /// The [hash](super::live::Snapshot) of what there was before the page was read; `None`: not known, or the page is not [`Live`].
    pub(super) seen: Option<u64>,
}

/// A page of the menu.
pub(super) struct MenuEntry {
    pub(super) href: String,
    pub(super) name: &'static str,
    /// For `aria-current`: `page`, `true` for a page below it, or nothing.
    pub(super) current: &'static str,
}

const MENU: [(&str, &str); 9] = [
    ("/", "Overview"),
    ("/jobs", "Jobs"),
    ("/batches", "Batches"),
    ("/tenants", "Tenants"),
    ("/dead-letters", "Dead letters"),
    ("/deliveries", "Deliveries"),
    ("/quarantine", "Quarantine"),
    ("/replicas", "Replicas"),
    ("/audit-log", "Audit log"),
];

impl Visitor {
    fn new(app: &App, parts: &Parts, signed_in: bool) -> Self {
        Self {
            signed_in,
            path: parts.uri.path().to_owned(),
            page: parts
                .uri
                .path_and_query()
                .filter(|_| parts.method.is_safe())
                .map(ToString::to_string),
            refused: None,
            done: Done::of(&parts.headers),
            at: app.operator.clock.now(),
            seen: None,
        }
    }

    /// The same, whose page says why what they asked for is not done. What was put in has no address.
    pub(super) fn refused(self, why: impl Into<String>) -> Self {
        Self {
            refused: Some(why.into()),
            page: None,
            ..self
        }
    }

    /// The same, whose page is shown by this address, below the root, apart from what they have put in.
    pub(super) fn on(self, page: impl Into<String>) -> Self {
        Self {
            page: Some(page.into()),
            ..self
        }
    }

    /// What a form sends as the address to come back to.
    pub(super) fn back(&self) -> &str {
        self.page.as_deref().unwrap_or_default()
    }

    /// Where to sign in again, and be led back from.
    pub(super) fn sign_in(&self) -> String {
        let next = serde_urlencoded::to_string([("next", self.back())]);
        format!("{}?{}", at("/sign-in"), next.unwrap_or_default())
    }

    pub(super) fn menu(&self) -> Vec<MenuEntry> {
        let entry = |(path, name): (&str, &'static str)| {
            let below = self.path.strip_prefix(path);
            let current = match below {
                Some("") => "page",
                Some(rest) if path != "/" && rest.starts_with('/') => "true",
                _ => "",
            };
            MenuEntry {
                href: at(path),
                name,
                current,
            }
        };
        MENU.into_iter().map(entry).collect()
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Redirect> {
        let Some(key) = &app.api_key else {
            return Ok(Self::new(app, parts, false));
        };
        let sealed = COOKIE.token(&parts.headers);
        let sealed = sealed.filter(|token| is_sealed(token, key, app.operator.clock.now()));
        if sealed.is_some() {
            // A store that hangs keeps no page waiting; it is asked again with the next look.
            let _ = timeout(STORE_TIMEOUT, app.follow_sign_outs()).await;
        }
        match sealed {
            Some(token) if !app.signed_out.holds(token) => Ok(Self::new(app, parts, true)),
            _ => Err(to_sign_in(&parts.method, &parts.uri, &parts.headers)),
        }
    }
}

/// The visitor of a page with parts that are kept up to date. It knows what there was before the page was read, so that the
/// stream of the page begins there.
pub(super) struct Live(pub(super) Visitor);

impl FromRequestParts<App> for Live {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Redirect> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        let seen = app.seen().await;
        Ok(Self(Visitor { seen, ..visitor }))
    }
}

/// `until.nonce.seal`, the first in seconds since 1970.
fn token(key: &blake3::Hash, now: DateTime<Utc>) -> String {
    let until = (now + SESSION_TTL).timestamp();
    let content = format!("{until}.{}", Uuid::new_v4().simple());
    let seal = seal(&content, key);
    format!("{content}.{seal}")
}

fn seal(content: &str, key: &blake3::Hash) -> blake3::Hash {
    let own = blake3::derive_key("punctual agent 2026-11 operators' cookies", key.as_bytes());
    blake3::keyed_hash(&own, content.as_bytes())
}

fn is_sealed(token: &str, key: &blake3::Hash, now: DateTime<Utc>) -> bool {
    let Some((content, given)) = token.rsplit_once('.') else {
        return false;
    };
    let until = content
        .split('.')
        .next()
        .and_then(|until| until.parse::<i64>().ok());
    // Comparing two hashes takes the same time whatever they are.
    let genuine = blake3::Hash::from_hex(given).is_ok_and(|given| given == seal(content, key));
    genuine && until.is_some_and(|until| until > now.timestamp())
}

/// What a cookie says, without its seal: the seal may be written in either case.
fn content_of(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(content, _)| content)
}

/// The contents of cookies that were signed out in the last twelve hours, and when.
#[derive(Debug, Default)]
pub(crate) struct SignedOut {
    at: Mutex<HashMap<String, DateTime<Utc>>>,
    /// When the audit log was looked at.
    looked_at: Mutex<Option<DateTime<Utc>>>,
}

/// Cookies remembered as signed out. Only who has the key gets cookies that are counted here.
const MAX_SIGNED_OUT: usize = 10_000;
/// The action of the audit log; its subject is the content of the cookie.
const SIGN_OUT: &str = "sign_out";
const POLL_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// How long the store may take to say who signed out.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Replicas' clocks may differ by so much.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);

impl SignedOut {
    fn holds(&self, token: &str) -> bool {
        let ended = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains_key(content_of(token))
    }

    fn add(&self, content: &str, at: DateTime<Utc>) {
        let mut ended = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(content.to_owned(), at);
        if ended.len() > MAX_SIGNED_OUT {
            ended.retain(|_, ended_at| *ended_at > at - SESSION_TTL);
        }
        if ended.len() > MAX_SIGNED_OUT {
            let first = ended.iter().min_by_key(|(_, at)| **at);
            if let Some(first) = first.map(|(content, _)| content.clone()) {
                ended.remove(&first);
            }
        }
    }

    /// Since when the audit log is to be read, if it is time to look.
    fn read_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut looked_at = self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match looked_at.replace(now) {
            Some(last) if last + POLL_INTERVAL > now => {
                *looked_at = Some(last);
                None
            }
            Some(last) => Some((last - CLOCK_SKEW).max(now - SESSION_TTL)),
            None => Some(now - SESSION_TTL),
        }
    }
}

impl App {
    /// Takes in who signed out at other replicas, or before this process began. When the store fails, it is asked again
    /// with the next look: pages show its failure anyway.
    async fn follow_sign_outs(&self) {
        let Some(since) = self.signed_out.read_since(self.operator.clock.now()) else {
            return;
        };
        let mut page = Page {
            cursor: None,
            limit: 200,
        };
        let sign_outs = AuditFilter {
            action: Some(SIGN_OUT.to_owned()),
            subject: None,
        };
        let operations = &self.operator.operations;
        while let Ok((entries, next)) = operations.audit_log(&sign_outs, &page).await {
            for entry in entries.iter().take_while(|entry| entry.at >= since) {
                self.signed_out.add(&entry.subject, entry.at);
            }
            page.cursor = next;
            if page.cursor.is_none() || entries.last().is_some_and(|last| last.at < since) {
                return;
            }
        }
    }
}

pub(super) async fn form(
    State(app): State<App>,
    Query(SignInQuery { next }): Query<SignInQuery>,
) -> Response {
    SITE.sign_in(PageWords::english(), app.words.key_hint, next, false)
}

pub(super) async fn sign_in(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(SignIn { key, next }) = form?;
    let Some(own) = app.api_key else {
        return Ok(Redirect::to("/").into_response());
    };
    if app.is_own_key(peer, &key, "refused at sign-in")? {
        let token = token(&own, app.operator.clock.now());
        Ok(COOKIE.sign_in(&headers, &token, next))
    } else {
        Ok(SITE.sign_in(PageWords::english(), app.words.key_hint, next, true))
    }
}

pub(super) async fn sign_out(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    headers: HeaderMap,
) -> Response {
    if let (Some(token), Some(key)) = (COOKIE.token(&headers), &app.api_key)
        && is_sealed(token, key, app.operator.clock.now())
    {
        let content = content_of(token);
        app.signed_out.add(content, app.operator.clock.now());
        // It has ended here in any case; the store's failure is in the log.
        let _ = app.operator.record(&actor, SIGN_OUT, content, "").await;
    }
    COOKIE.sign_out(&headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_out_ends_every_copy_of_a_cookie_and_no_other() {
        let (key, signed_out) = (blake3::hash(b"key"), SignedOut::default());
        let now = "2026-03-01T09:00:00Z".parse().unwrap();
        let (one, other) = (token(&key, now), token(&key, now));
        signed_out.add(content_of(&one), now);
        assert!(signed_out.holds(&one) && !signed_out.holds(&other));
        let (content, seal) = one.rsplit_once('.').unwrap();
        assert!(signed_out.holds(&format!("{content}.{}", seal.to_uppercase())));
        for n in 0..12_000 {
            signed_out.add(&format!("{n}.x"), now + TimeDelta::seconds(n));
        }
        assert!(signed_out.at.lock().unwrap().len() <= MAX_SIGNED_OUT);
    }

    #[test]
    fn only_the_key_makes_a_cookie_and_it_ends() {
        let (key, other) = (blake3::hash(b"key"), blake3::hash(b"other"));
        let now = "2026-03-01T09:00:00Z".parse().unwrap();
        let token = token(&key, now);
        assert!(is_sealed(&token, &key, now));
        assert!(!is_sealed(&token, &other, now));
        assert!(!is_sealed(&token, &key, now + SESSION_TTL));
        let (until, rest) = token.split_once('.').unwrap();
        let longer = format!("{}.{rest}", until.parse::<i64>().unwrap() + 1);
        assert!(!is_sealed(&longer, &key, now));
        let old = "1000000000.0";
        assert!(!is_sealed(&format!("{old}.{}", seal(old, &key)), &key, now));
        for broken in ["", ".", "..", "x.y.z"] {
            assert!(!is_sealed(broken, &key, now));
        }
    }
}
