//! Who looks at the page: signed in with a key or at the identity provider, for twelve hours. The cookie says who and until when,
//! under a seal that only who knows a secret of the store can make, so every replica knows it. A session that began with a named key
//! is looked up by the key's hash at each request, and ends with the key on every replica at once. Signing out ends a session, also a
//! copy of its cookie: the audit log tells other replicas, and this one after a restart.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::{Form, FromRequestParts, Query, State, rejection::FormRejection},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    Role,
    ports::{AuditFilter, Page},
};
use punctual_web::{
    OtherWay, PageWords, Peer,
    page::at,
    session::{SESSION_TTL, SessionCookie, SignIn, SignInQuery, to_sign_in},
};
use tokio::time::timeout;

use super::{App, Problem, SITE, answer::Done};
use crate::{
    STORE_TIMEOUT,
    auth::{Who, require, tell},
    in_time,
    sealed::{Session, id_of},
};

/// The page is never opened signed in from elsewhere. Browsers send a cookie to every port of a host, so its name is neither that of the
/// Config Database, which may be there as well, nor that of agents before roles, whose cookie means everything.
pub(super) const COOKIE: SessionCookie = SessionCookie {
    name: "punctual_operations",
    same_site: "Strict",
};

/// Tells the seals of sessions from all others.
const SEAL: &str = "punctual agent 2026-11 operators' sessions";

/// Visitor of the page. Without `Debug`: the token of the session is a secret.
#[derive(Clone)]
pub(super) struct Visitor {
    /// The token of the session; `None`: who looks has not signed in here, and cannot sign out.
    pub(super) session: Option<String>,
    /// What they may do.
    role: Role,
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
    fn new(app: &App, parts: &Parts, role: Role, session: Option<String>) -> Self {
        Self {
            session,
            role,
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

    /// Whether the page offers what changes something.
    pub(super) fn may_operate(&self) -> bool {
        self.role >= Role::Operate
    }

    /// Whether the page offers what is about people.
    pub(super) fn may_administer(&self) -> bool {
        self.role >= Role::Administer
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

/// Why a page is not shown.
pub(super) enum NoVisitor {
    /// Who asks has to sign in first.
    SignIn(Redirect),
    /// It cannot be shown, or done.
    Refused(Problem),
}

impl IntoResponse for NoVisitor {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(to) => to.into_response(),
            Self::Refused(problem) => problem.into_response(),
        }
    }
}

impl From<Problem> for NoVisitor {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// To look, the role `view` is needed; to send a form, `operate`.
impl FromRequestParts<App> for Visitor {
    type Rejection = NoVisitor;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, NoVisitor> {
        let known = app.known("page", &parts.headers, &parts.extensions)?;
        let token = COOKIE.token(&parts.headers).map(str::to_owned);
        let (who, session) = match (known, token) {
            (Some(who), _) => (Some(who), None),
            (None, Some(token)) => (app.session(&token).await?, Some(token)),
            (None, None) => (None, None),
        };
        let Some(who) = who else {
            let to = to_sign_in(&parts.method, &parts.uri, &parts.headers);
            return Err(NoVisitor::SignIn(to));
        };
        let needed = if parts.method.is_safe() {
            Role::View
        } else {
            Role::Operate
        };
        who.check(needed)?;
        let visitor = Self::new(app, parts, who.role, session);
        tell(who, &mut parts.extensions);
        Ok(visitor)
    }
}

/// The visitor of what is about people: also to look, the role `administer` is needed.
pub(super) struct Administrator(pub(super) Visitor);

impl FromRequestParts<App> for Administrator {
    type Rejection = NoVisitor;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, NoVisitor> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        require(Role::Administer, &parts.extensions)?;
        Ok(Self(visitor))
    }
}

/// The visitor of a page with parts that are kept up to date. It knows what there was before the page was read, so that the
/// stream of the page begins there.
pub(super) struct Live(pub(super) Visitor);

impl FromRequestParts<App> for Live {
    type Rejection = NoVisitor;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, NoVisitor> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        let seen = app.seen().await;
        Ok(Self(Visitor { seen, ..visitor }))
    }
}

/// The [ids](id_of) of sessions that were signed out in the last twelve hours, and when.
#[derive(Debug, Default)]
pub(crate) struct SignedOut {
    at: Mutex<HashMap<String, DateTime<Utc>>>,
    looks: Mutex<Looks>,
}

/// When the audit log was looked at.
#[derive(Debug, Default)]
struct Looks {
    /// The last look.
    last: Option<DateTime<Utc>>,
    /// The last one that the store has answered to its end.
    answered: Option<DateTime<Utc>>,
}

/// Sessions remembered as signed out. Only who has signed in has one that is counted here.
const MAX_SIGNED_OUT: usize = 10_000;
/// The action of the audit log; its subject is the id of the session.
const SIGN_OUT: &str = "sign_out";
const POLL_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// Replicas' clocks may differ by so much.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);

impl SignedOut {
    fn holds(&self, token: &str) -> bool {
        let ended = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains_key(id_of(token))
    }

    fn add(&self, id: &str, at: DateTime<Utc>) {
        let mut ended = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(id.to_owned(), at);
        if ended.len() > MAX_SIGNED_OUT {
            ended.retain(|_, ended_at| *ended_at > at - SESSION_TTL);
        }
        if ended.len() > MAX_SIGNED_OUT {
            let first = ended.iter().min_by_key(|(_, at)| **at);
            if let Some(first) = first.map(|(id, _)| id.clone()) {
                ended.remove(&first);
            }
        }
    }

    /// Since when the audit log is to be read, if it is time to look: since the last look that was answered. A clock that was set
    /// back does not keep from looking.
    fn read_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut looks = self.looks();
        let is_recent = |last: DateTime<Utc>| last <= now && now < last + POLL_INTERVAL;
        if looks.last.is_some_and(is_recent) {
            return None;
        }
        looks.last = Some(now);
        let first = now - SESSION_TTL;
        let answered = looks.answered.map(|at| at.min(now) - CLOCK_SKEW);
        Some(answered.map_or(first, |since| since.max(first)))
    }

    /// The look that began at this time was answered to its end.
    fn answered(&self, looked_at: DateTime<Utc>) {
        self.looks().answered = Some(looked_at);
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Takes in who signed out at other replicas, or before this process began. When the store fails or is too slow, the next look
    /// reads the same again: pages show its failure anyway.
    async fn follow_sign_outs(&self) {
        let now = self.operator.clock.now();
        let Some(since) = self.signed_out.read_since(now) else {
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
                self.signed_out.answered(now);
                return;
            }
        }
    }
}

impl App {
    /// Who has the session with this token; `None`: it has ended, or is not one of ours.
    pub(super) async fn session(&self, token: &str) -> Result<Option<Who>, Problem> {
        let now = self.operator.clock.now();
        let Some(session) = self.seal(SEAL).await?.open::<Session>(token, now) else {
            return Ok(None);
        };
        // A store that hangs keeps no page waiting; it is asked again with the next look.
        let _ = timeout(STORE_TIMEOUT, self.follow_sign_outs()).await;
        if self.signed_out.holds(token) {
            return Ok(None);
        }
        Ok(match session {
            Session::Own => Some(Who::with_own_key()),
            Session::Key { hash } => self.has_key(&hash).await?,
            // Where no one can sign in so any more, what began so has ended.
            Session::Oidc { name, role } => self.sign_in.oidc.as_ref().map(|_| Who {
                actor: name.as_str().into(),
                role,
            }),
        })
    }

    /// Whether the session of who keeps a page open goes on. While the store does not answer, it does.
    pub(super) async fn still_sees(&self, visitor: &Visitor) -> bool {
        let Some(token) = &visitor.session else {
            return true;
        };
        let who = self.session(token).await;
        who.map_or(true, |who| who.is_some())
    }

    /// Whether an answer that goes on may do so: it ends with the named key that it was asked for with. While the store does not
    /// answer, it goes on.
    pub(crate) async fn goes_on(&self, session: Option<&Session>) -> bool {
        let Some(Session::Key { hash }) = session else {
            return true;
        };
        let who = self.has_key(hash).await;
        who.map_or(true, |who| who.is_some())
    }

    /// Who has the key with this hash now: it may have been revoked or have expired.
    async fn has_key(&self, hash: &str) -> Result<Option<Who>, Problem> {
        let Ok(hash) = blake3::Hash::from_hex(hash) else {
            return Ok(None);
        };
        let found = in_time(self.operator.key(&hash)).await?;
        Ok(found.map(|key| Who::with_key(&key.name, key.role)))
    }

    /// The token of a session that begins now.
    pub(super) async fn begin_session(&self, session: &Session) -> Result<String, Problem> {
        let until = self.operator.clock.now() + SESSION_TTL;
        let token = self.seal(SEAL).await?.token(until, session);
        token.ok_or_else(|| Problem::bad_request("this name cannot be kept; sign in with a key"))
    }

    /// The sign-in page, with what went wrong.
    pub(super) fn sign_in_page(
        &self,
        next: Option<String>,
        refused: bool,
        problem: Option<(axum::http::StatusCode, String)>,
    ) -> Response {
        let other = self.sign_in.oidc.as_ref().map(|_| OtherWay {
            path: "/sign-in/oidc/begin",
            label: "Sign in with your organization’s account",
            problem,
        });
        let (words, hint) = (PageWords::english(), self.words.key_hint);
        SITE.sign_in_beside(words, hint, next, refused, other.as_ref())
    }
}

pub(super) async fn form(
    State(app): State<App>,
    Query(SignInQuery { next }): Query<SignInQuery>,
) -> Response {
    app.sign_in_page(next, false, None)
}

pub(super) async fn sign_in(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(SignIn { key, next }) = form?;
    if app.access.is_open() || app.access.is_guarded() {
        return Ok(Redirect::to("/").into_response());
    }
    match app.holder(peer, &key, "refused at sign-in").await? {
        Some((_, session)) => {
            let token = app.begin_session(&session).await?;
            Ok(COOKIE.sign_in(&headers, &token, next))
        }
        None => Ok(app.sign_in_page(next, true, None)),
    }
}

pub(super) async fn sign_out(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(token) = COOKIE.token(&headers)
        && let Some(who) = app.session(token).await?
    {
        let id = id_of(token);
        app.signed_out.add(id, app.operator.clock.now());
        // It has ended here in any case; the store's failure is in the log.
        let _ = app.operator.record(&who.actor, SIGN_OUT, id, "").await;
    }
    Ok(COOKIE.sign_out(&headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_out_ends_every_copy_of_a_cookie_and_no_other() {
        let signed_out = SignedOut::default();
        let now = "2026-03-01T09:00:00Z".parse().unwrap();
        let (one, other) = ("1772398800.a1.c0ffee.5ea1", "1772398800.b2.c0ffee.5ea1");
        signed_out.add(id_of(one), now);
        assert!(signed_out.holds(one) && !signed_out.holds(other));
        assert!(signed_out.holds("1772398800.a1.c0ffee.5EA1"));
        for n in 0..12_000 {
            signed_out.add(&format!("{n}.x"), now + TimeDelta::seconds(n));
        }
        assert!(signed_out.at.lock().unwrap().len() <= MAX_SIGNED_OUT);
    }

    #[test]
    fn what_the_store_did_not_answer_is_read_with_the_next_look() {
        let signed_out = SignedOut::default();
        let now: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
        let since = |seconds| signed_out.read_since(now + TimeDelta::seconds(seconds));
        let first = |seconds| Some(now + TimeDelta::seconds(seconds) - SESSION_TTL);
        assert_eq!(since(0), first(0));
        assert_eq!(since(9), None, "not more often than every ten seconds");
        // The first look was not answered, and the second neither.
        assert_eq!(since(10), first(10));
        assert_eq!(since(300), first(300));
        signed_out.answered(now + TimeDelta::seconds(300));
        let answered = Some(now + TimeDelta::seconds(300) - CLOCK_SKEW);
        assert_eq!(since(310), answered);
        assert_eq!(since(900), answered, "whatever was not answered between");
        // The clock was set back.
        assert_eq!(since(200), Some(now + TimeDelta::seconds(200) - CLOCK_SKEW));
        assert_eq!(since(205), None);
    }
}
