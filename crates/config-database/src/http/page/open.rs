//! The way in by a link, and the session that follows.
//!
//! **Two ways to open a link.** `/open/TOKEN` works everywhere, without scripts: an answer with status 303 that sets a
//! cookie and leads to the page, so that the token is neither in the history nor in a `Referer`. A proxy in front sees it in
//! the address. `/open#token=TOKEN` is what the web component uses: what follows `#` is never sent, so the token reaches the
//! server in the body of a form that a script fills in.
//!
//! **The session is a cookie**, also in a frame: the pages are forms and links that work without scripts, so a token in a
//! header would not reach them, and one in every address would be in logs and histories. Browsers that refuse cookies of
//! other sites keep one that is `Partitioned`: it holds for the pair of sites, the one around the frame and ours, and no
//! other site's frame has it. It has to be `Secure`, which browsers allow over https and on this machine over http
//! (Chromium: tried on both, also with cookies of other sites switched off). Over http in a network only pages of the same
//! site can frame the pages. Where a browser keeps no such cookie, the frame says so, to the page around it as well.
//!
//! **What the cookie cannot do.** It is sent for the pages of its tenant or organization only (`Path`), so opening the link of an attacker
//! neither ends nor replaces another session: one sees the attacker's tenant, at the attacker's address. It is a token of its
//! own, drawn anew at each opening, so who knows the link does not know the session, nor the secret in its forms. It ends
//! with the link, and when the key that has signed it is removed.
//!
//! **A link opens again** until it ends: users reload, go back, and open the same e-mail twice. One that is made with `once`
//! is noted when it opens a session, and refused from then on. Who only looks at it (HEAD, prefetch) uses nothing up.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, RawPathParams, Request, State, rejection::FormRejection},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use chrono::DateTime;
use punctual_domain::{FeatureType, OrganizationId, TenantId};
use punctual_web::{
    Problem,
    page::{Framable, at, is_framed},
    session::{SessionCookie, behind_tls, is_trustworthy},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    language::{in_words_of, texts_for, texts_within},
    render,
};
use crate::{
    http::{
        App,
        auth::{Caller, Reach},
    },
    links::{AnyLink, LinkClaims, SessionClaims, Subject, TokenError},
    store::now,
    texts::Texts,
};

const COOKIE: SessionCookie = SessionCookie {
    name: "punctual_link",
    same_site: "Lax",
};
/// No address, also of our own pages, gets to know one that has a token in it.
pub(super) const NO_REFERRER: [(&str, &str); 1] = [("referrer-policy", "no-referrer")];

/// The session of a visitor whom a link has let in, as an extension of the request.
#[derive(Debug, Clone)]
pub(super) struct LinkSession {
    pub(super) caller: Caller,
    /// What forms send back.
    pub(super) csrf: String,
}

/// Why a link opens nothing, or a session has ended.
#[derive(Template)]
#[template(path = "link.html")]
struct LinkPage<'t> {
    t: &'t Texts,
    state: LinkState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Expired,
    Used,
    Invalid,
    /// The visitor has no session: it has ended, or the browser has not kept it.
    Ended,
}

impl LinkState {
    /// What a page around the frame gets to know.
    fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Invalid => "invalid",
            Self::Ended => "ended",
        }
    }

    /// Id of the text that says what is wrong.
    fn title(self) -> &'static str {
        match self {
            Self::Expired => "link-expired-title",
            Self::Used => "link-used-title",
            Self::Invalid => "link-invalid-title",
            Self::Ended => "link-ended-title",
        }
    }

    /// Id of the text that says what to do.
    fn text(self) -> &'static str {
        match self {
            Self::Expired => "link-expired",
            Self::Used => "link-used",
            Self::Invalid => "link-invalid",
            Self::Ended => "link-ended",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Expired | Self::Used => StatusCode::GONE,
            Self::Invalid | Self::Ended => StatusCode::UNAUTHORIZED,
        }
    }

    /// The page that says so, also in a frame: it shows nothing of anybody.
    fn page(self, t: &Texts) -> Response {
        let page = render(t, &LinkPage { t, state: self });
        let page = page.map_or_else(Problem::into_response, IntoResponse::into_response);
        let mut response = (self.status(), NO_REFERRER, page).into_response();
        response.extensions_mut().insert(Framable);
        response
    }
}

/// The page for a frame whose visitor has no session.
pub(super) fn ended(t: &Texts) -> Response {
    LinkState::Ended.page(t)
}

/// Opens a link.
pub(super) async fn by_address(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    Path(token): Path<SecretString>,
) -> Result<Response, Problem> {
    // Browsers that guess where a person goes next, and programs that look at links, open nothing.
    let purpose = headers.get("sec-purpose").and_then(|of| of.to_str().ok());
    let looks_only = method == Method::HEAD || purpose.is_some_and(|of| of.contains("prefetch"));
    Ok(open_in_frames(&app, &headers, &token, None, looks_only).await)
}

/// The page that takes the token from behind the `#` of its address, and sends it.
pub(super) async fn form(Extension(t): Extension<Arc<Texts>>) -> Result<Response, Problem> {
    #[derive(Template)]
    #[template(path = "open.html")]
    struct OpenPage<'t> {
        t: &'t Texts,
    }
    let mut response = render(&t, &OpenPage { t: &t })?.into_response();
    response.extensions_mut().insert(Framable);
    Ok(response)
}

/// The form of that page.
#[derive(Deserialize)]
pub(super) struct OpenForm {
    token: SecretString,
    /// The feature to begin with; empty: the list of all.
    #[serde(default)]
    feature: String,
}

pub(super) async fn by_form(
    State(app): State<App>,
    headers: HeaderMap,
    form: Result<Form<OpenForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(OpenForm { token, feature }) = form?;
    let feature = Some(feature).filter(|feature| !feature.is_empty());
    let feature = feature.map(FeatureType::new).transpose()?;
    Ok(open_in_frames(&app, &headers, &token, feature, false).await)
}

/// Opens a link. A frame may show all that is answered, refusals too: there is nothing of anybody in it, and a frame follows no
/// redirect that may not be shown in it.
async fn open_in_frames(
    app: &App,
    headers: &HeaderMap,
    token: &SecretString,
    feature: Option<FeatureType>,
    looks_only: bool,
) -> Response {
    let opened = open(app, headers, token, feature, looks_only).await;
    let mut response = opened.into_response();
    response.extensions_mut().insert(Framable);
    response
}

async fn open(
    app: &App,
    headers: &HeaderMap,
    token: &SecretString,
    feature: Option<FeatureType>,
    looks_only: bool,
) -> Result<Response, Problem> {
    // Wrong ones are not counted: a signature cannot be guessed, and those who share an address with someone who tries would be
    // locked out.
    match app.links.verify_link(token.expose_secret()).await? {
        Ok(AnyLink::OfTenant(link)) => open_pages(app, headers, link, feature, looks_only).await,
        Ok(AnyLink::OfOrganization(link)) => {
            open_pages(app, headers, link, feature, looks_only).await
        }
        Err(TokenError::Invalid(why)) => {
            tracing::debug!(why, "Refused a link: {why}");
            Ok(LinkState::Invalid.page(&texts_for(headers)))
        }
        Err(TokenError::Expired) => Ok(LinkState::Expired.page(&texts_for(headers))),
    }
}

/// Opens the pages that a link is for.
async fn open_pages<S: Subject + Into<Reach>>(
    app: &App,
    headers: &HeaderMap,
    link: LinkClaims<S>,
    feature: Option<FeatureType>,
    looks_only: bool,
) -> Result<Response, Problem> {
    let reach = link.sub.clone().into();
    let caller = Caller::by_link(reach, link.features.clone(), link.locale.clone());
    app.limits.known(&caller)?;
    let feature = feature.as_ref().or(link.features.only_one());
    let pages = pages_of(&caller.reach);
    let to = match feature {
        Some(feature) => format!("{pages}/features/{feature}"),
        None => pages.clone(),
    };
    if looks_only {
        return Ok((NO_REFERRER, Redirect::to(&to)).into_response());
    }
    if link.once {
        let expires_at = DateTime::from_timestamp(link.exp, 0).unwrap_or_else(now);
        let refused = match &link.jti {
            Some(id) => {
                let subject = match &caller.reach {
                    Reach::Tenant(tenant) => tenant.as_str(),
                    // A tenant may have the same name.
                    Reach::Organization(_) | Reach::All => pages.as_str(),
                };
                let fresh = app.links.use_up(subject, id.as_str(), expires_at).await?;
                (!fresh).then_some(LinkState::Used)
            }
            // Without an id, nothing tells it from others.
            None => Some(LinkState::Invalid),
        };
        if let Some(state) = refused {
            let t = texts_within(app, &caller.reach, link.locale.as_ref(), headers).await?;
            return Ok(state.page(&t));
        }
    }
    let session = SessionClaims::of(link);
    let token = app.links.sign(&session).await?;
    let (token, ends_at) = (token.expose_secret(), session.exp);
    let cookie = cookie(headers, &pages, ends_at, token, app.is_https());
    let headers = [(header::SET_COOKIE, cookie)];
    Ok((NO_REFERRER, headers, Redirect::to(&to)).into_response())
}

/// The address of the pages of a tenant or an organization, below that of the service.
fn pages_of(reach: &Reach) -> String {
    match reach {
        Reach::All => String::new(),
        Reach::Tenant(tenant) => format!("/tenants/{tenant}"),
        Reach::Organization(organization) => format!("/organizations/{organization}"),
    }
}

/// The cookie of a session for these pages. It ends with the session, `ends_at` seconds after 1970.
fn cookie(headers: &HeaderMap, pages: &str, ends_at: i64, token: &str, https: bool) -> String {
    let name = COOKIE.name;
    let path = at(pages);
    let age = ends_at.saturating_sub(now().timestamp()).max(0);
    let policy = if is_framed(headers) && (https || is_trustworthy(headers)) {
        "SameSite=None; Secure; Partitioned"
    } else if https || behind_tls(headers) {
        "SameSite=Lax; Secure"
    } else {
        "SameSite=Lax"
    };
    format!("{name}={token}; Path={path}; HttpOnly; Max-Age={age}; {policy}")
}

/// Middleware for pages: recognizes the visitor whom a link has let in, and lets the pages of allowed origins show what is
/// answered then. Finds the language of the page.
pub(super) async fn recognize(
    State(app): State<App>,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let reach = parameters.iter().find_map(|(name, value)| match name {
        "tenant_id" => TenantId::new(value).ok().map(Reach::from),
        "organization_id" => OrganizationId::new(value).ok().map(Reach::from),
        _ => None,
    });
    let (session, texts) = match recognized(&app, reach.as_ref(), request.headers()).await {
        Ok(found) => found,
        Err(problem) => {
            let texts = texts_for(request.headers());
            return in_words_of(&texts, problem.into_response());
        }
    };
    request.extensions_mut().insert(texts);
    let Some(session) = session else {
        return next.run(request).await;
    };
    request.extensions_mut().insert(session);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Framable);
    response
}

/// The texts for the visitor of an address, whether there is a page or not.
pub(super) async fn texts_at(app: &App, uri: &Uri, headers: &HeaderMap) -> Arc<Texts> {
    let mut parts = uri.path().split('/').skip(1);
    let reach = match (parts.next(), parts.next()) {
        (Some("tenants"), Some(id)) => TenantId::new(id).ok().map(Reach::from),
        (Some("organizations"), Some(id)) => OrganizationId::new(id).ok().map(Reach::from),
        _ => None,
    };
    match recognized(app, reach.as_ref(), headers).await {
        Ok((_, texts)) => texts,
        Err(_) => texts_for(headers),
    }
}

/// The session of this tenant or organization, and the texts for its visitor.
async fn recognized(
    app: &App,
    reach: Option<&Reach>,
    headers: &HeaderMap,
) -> Result<(Option<LinkSession>, Arc<Texts>), Problem> {
    let session = newest_session(app, reach, headers).await?;
    let texts = match session.as_ref().map(|session| &session.caller) {
        Some(caller) => texts_within(app, &caller.reach, caller.locale.as_ref(), headers).await?,
        None => texts_for(headers),
    };
    Ok((session, texts))
}

/// The session of this tenant or organization, the one that lasts longest.
async fn newest_session(
    app: &App,
    reach: Option<&Reach>,
    headers: &HeaderMap,
) -> Result<Option<LinkSession>, Problem> {
    let mut newest: Option<(i64, LinkSession)> = None;
    for token in COOKIE.tokens(headers) {
        let Some((ends_at, session)) = session_of(app, token).await? else {
            continue;
        };
        // The cookie may have been set by another server of the same domain, for another tenant; and frames have cookies of
        // their own beside those of the site.
        let fits = reach == Some(&session.caller.reach);
        if fits && newest.as_ref().is_none_or(|(before, _)| *before < ends_at) {
            newest = Some((ends_at, session));
        }
    }
    Ok(newest.map(|(_, session)| session))
}

/// The session that the token of a cookie is of, with the instant at which it ends, in seconds after 1970; `None`: it has ended,
/// or is none, as after the key of links was replaced.
async fn session_of(app: &App, token: &str) -> Result<Option<(i64, LinkSession)>, Problem> {
    if let Ok(claims) = app.links.verify::<SessionClaims>(token).await? {
        return Ok(Some(session_by(claims, token)));
    }
    let of_organization = app.links.verify::<SessionClaims<OrganizationId>>(token);
    let claims = of_organization.await?;
    Ok(claims.ok().map(|claims| session_by(claims, token)))
}

/// The session of these claims, with the instant at which it ends.
fn session_by<S: Subject + Into<Reach>>(
    claims: SessionClaims<S>,
    token: &str,
) -> (i64, LinkSession) {
    let csrf = blake3::derive_key("punctual config database forms by link", token.as_bytes());
    let session = LinkSession {
        caller: Caller::by_link(claims.sub.into(), claims.features, claims.locale),
        csrf: blake3::Hash::from_bytes(csrf).to_hex().to_string(),
    };
    (claims.exp, session)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_cookie_is_for_one_tenant_and_is_partitioned_in_frames_that_the_browser_trusts() {
        let ends_at = now().timestamp() + 100;
        let set = |sent: &[(&'static str, &'static str)], https: bool| {
            let headers = sent
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            let headers = HeaderMap::from_iter(headers);
            cookie(&headers, "/tenants/ann", ends_at, "token", https)
        };
        let frame = ("sec-fetch-dest", "iframe");
        let tls = ("x-forwarded-proto", "https");
        for (sent, https, ending) in [
            (&[("host", "127.0.0.1:80")][..], false, "SameSite=Lax"),
            (
                &[("host", "shop.example"), tls],
                false,
                "SameSite=Lax; Secure",
            ),
            (&[("host", "shop.example")], true, "SameSite=Lax; Secure"),
            (&[("host", "shop.example"), frame], false, "SameSite=Lax"),
            (
                &[("host", "shop.example"), frame, tls],
                false,
                "SameSite=None; Secure; Partitioned",
            ),
            (
                &[("host", "shop.example"), frame],
                true,
                "SameSite=None; Secure; Partitioned",
            ),
            (
                &[("host", "localhost:80"), frame],
                false,
                "SameSite=None; Secure; Partitioned",
            ),
        ] {
            let cookie = set(sent, https);
            let (rest, policy) = cookie.split_once("; SameSite").unwrap();
            assert_eq!(format!("SameSite{policy}"), ending, "{sent:?}");
            assert!(
                rest.starts_with("punctual_link=token; Path=/tenants/ann; HttpOnly; Max-Age="),
                "{rest}"
            );
        }
    }
}
