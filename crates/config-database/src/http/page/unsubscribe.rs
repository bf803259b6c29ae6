//! Unsubscribing by the link of an e-mail (RFC 8058): no sign-in, no cookie, no secret in a form. The token in the address is
//! all that counts, so requests of other sites' pages are answered as well: such a page would have to know the token.
//!
//! A GET changes nothing, because programs of mail servers follow links: it asks. A POST with `List-Unsubscribe=One-Click`,
//! as mail programs send it, or with the button of that page, switches the feature off and answers without a redirect, which
//! mail programs do not follow. The page offers to undo it; what the token can do is to switch this one feature off and on.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form, RequestExt,
    extract::{FromRequest, Multipart, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use punctual_domain::{FeatureType, TenantId};
use punctual_web::Problem;
use secrecy::{ExposeSecret, SecretString};

use super::{
    language::{in_words_of, texts_of_tenant},
    open::NO_REFERRER,
    preference::title,
    render,
};
use crate::{
    http::{
        App,
        auth::{Caller, Reach, UNSUBSCRIBE_LINK},
    },
    keys::Scope,
    links::{TokenError, UnsubscribeClaims},
    plan::Plan,
    store::Switch,
    texts::Texts,
};

/// What a POST asks for: field and value.
const ONE_CLICK: (&str, &str) = ("List-Unsubscribe", "One-Click");
const UNDO: (&str, &str) = ("action", "undo");

#[derive(Template)]
#[template(path = "unsubscribe.html")]
struct UnsubscribePage<'t> {
    t: &'t Texts,
    stands: Stands,
    feature: String,
}

/// How the feature stands for the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// It is on: the page asks.
    Asks,
    /// It is off.
    Off,
    /// It was switched on again.
    OnAgain,
    /// The link does not say which feature.
    Expired,
    Invalid,
}

/// Tenant and feature of a link.
struct Subject {
    tenant: TenantId,
    feature: FeatureType,
    /// Texts in the language that the link names, else in that of the tenant, else in that of the browser.
    t: Arc<Texts>,
    /// What people call the feature.
    title: String,
}

impl Subject {
    /// What a link is for; else the page that says why it is for nothing, in the texts `t` for the browser that sends these headers.
    async fn of(
        app: &App,
        t: Arc<Texts>,
        headers: &HeaderMap,
        token: &SecretString,
    ) -> Result<Result<Self, Response>, Problem> {
        let token = token.expose_secret();
        let (stands, status) = match app.links.verify::<UnsubscribeClaims>(token).await? {
            Ok(claims) => {
                let locale = claims.locale.as_ref();
                let t = texts_of_tenant(app, &claims.sub, locale, headers).await?;
                let known = app.store.feature(&claims.feature);
                let subject = Self {
                    tenant: claims.sub,
                    title: title(&t, &known, claims.feature.as_str()).to_owned(),
                    feature: claims.feature,
                    t,
                };
                app.limits.known(&subject.caller())?;
                return Ok(Ok(subject));
            }
            Err(TokenError::Expired) => (Stands::Expired, StatusCode::GONE),
            Err(TokenError::Invalid(why)) => {
                tracing::debug!(why, "Refused a link that unsubscribes: {why}");
                (Stands::Invalid, StatusCode::UNAUTHORIZED)
            }
        };
        let page = UnsubscribePage {
            t: &t,
            stands,
            feature: String::new(),
        };
        Ok(Err(
            (status, NO_REFERRER, render(&t, &page)?).into_response()
        ))
    }

    /// Who changes the preference, for the limit and the history.
    fn caller(&self) -> Caller {
        Caller {
            name: format!("{}{UNSUBSCRIBE_LINK}", self.tenant),
            scope: Scope::Write,
            reach: Reach::Tenant(self.tenant.clone()),
            link: None,
            locale: None,
        }
    }

    /// The page that asks, or that says that it is off.
    async fn asked(&self, app: &App) -> Result<Response, Problem> {
        let stored = app
            .store
            .preference_in_effect(&self.tenant, &self.feature)
            .await?;
        let known = app.store.feature(&self.feature);
        self.page(match stored {
            Some(stored) if !Plan::of(&stored, &known).enabled() => Stands::Off,
            // What nothing is stored for may be sent all the same.
            Some(_) | None => Stands::Asks,
        })
    }

    /// Does what was sent.
    async fn changed(&self, app: &App, request: Request) -> Result<Response, Problem> {
        let fields = fields_of(request).await?;
        let sent = |wanted: (&str, &str)| {
            let is_wanted =
                |(name, value): &(String, String)| (name.as_str(), value.as_str()) == wanted;
            fields.iter().any(is_wanted)
        };
        let on = match (sent(ONE_CLICK), sent(UNDO)) {
            (true, false) => false,
            (false, true) => true,
            _ => {
                let problem = Problem::bad_request(
                    "the body is not `List-Unsubscribe=One-Click`; send it, or use the button of the page",
                );
                return Err(problem.worded(self.t.text("problem-not-one-click")));
            }
        };
        let Self {
            tenant, feature, ..
        } = self;
        let stored = app.store.preference(tenant, feature).await?;
        let says_so = stored.as_ref().and_then(|stored| stored.get("enabled")) == Some(&on.into());
        // There is something to undo only where something is stored.
        if !says_so && (stored.is_some() || !on) {
            let actor = self.caller().name;
            let switch = if on { Switch::On } else { Switch::Unsubscribe };
            app.store.switch(tenant, feature, switch, &actor).await?;
        }
        self.page(if on { Stands::OnAgain } else { Stands::Off })
    }

    fn page(&self, stands: Stands) -> Result<Response, Problem> {
        let page = UnsubscribePage {
            t: &self.t,
            stands,
            feature: self.title.clone(),
        };
        let page: Html<String> = render(&self.t, &page)?;
        Ok((NO_REFERRER, page).into_response())
    }
}

pub(super) async fn ask(
    State(app): State<App>,
    Extension(t): Extension<Arc<Texts>>,
    headers: HeaderMap,
    Path(token): Path<SecretString>,
) -> Result<Response, Problem> {
    let subject = match Subject::of(&app, t, &headers, &token).await? {
        Ok(subject) => subject,
        Err(refused) => return Ok(refused),
    };
    let answer = subject.asked(&app).await;
    Ok(in_words_of(&subject.t, answer.into_response()))
}

pub(super) async fn change(
    State(app): State<App>,
    Extension(t): Extension<Arc<Texts>>,
    headers: HeaderMap,
    Path(token): Path<SecretString>,
    request: Request,
) -> Result<Response, Problem> {
    let subject = match Subject::of(&app, t, &headers, &token).await? {
        Ok(subject) => subject,
        Err(refused) => return Ok(refused),
    };
    let answer = subject.changed(&app, request).await;
    Ok(in_words_of(&subject.t, answer.into_response()))
}

/// The fields of a form: mail programs send either encoding.
async fn fields_of(request: Request) -> Result<Vec<(String, String)>, Problem> {
    let unreadable =
        |error: String| Problem::bad_request(format!("the form cannot be read: {error}"));
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let multipart =
        content_type.is_some_and(|of| of.as_bytes().starts_with(b"multipart/form-data"));
    if !multipart {
        let Form(fields) = request.extract::<Form<Vec<(String, String)>>, _>().await?;
        return Ok(fields);
    }
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|error| unreadable(error.body_text()))?;
    let mut fields = Vec::new();
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|error| unreadable(error.body_text()))?
    {
        let name = field.name().unwrap_or_default().to_owned();
        let value = field
            .text()
            .await
            .map_err(|error| unreadable(error.body_text()))?;
        fields.push((name, value));
    }
    Ok(fields)
}
