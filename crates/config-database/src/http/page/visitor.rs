//! Who looks at the pages: signed in with a key, for twelve hours, by a cookie of which only the hash is kept.

use std::{collections::BTreeSet, sync::Arc};

use askama::filters::{Html, escape};
use axum::{
    Extension, Form,
    extract::{
        FromRequestParts, MatchedPath, Query, RawPathParams, State, rejection::FormRejection,
    },
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use punctual_domain::{OrganizationId, TenantId};
use punctual_web::{
    Peer, Problem,
    key::hash,
    page::is_framed,
    session::{SESSION_TTL, SessionCookie, SignIn, SignInQuery, to_sign_in},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    SITE,
    language::{SeenBy, texts_for, texts_of_tenant},
    open::{LinkSession, ended},
};
use crate::{
    http::{
        App,
        auth::{Caller, Reach},
    },
    keys::Scope,
    links::Features,
    store::{ConfigStore, StoreError, now},
    texts::Texts,
};

/// Links to the pages from elsewhere find the visitor signed in.
const COOKIE: SessionCookie = SessionCookie {
    name: "punctual_session",
    same_site: "Lax",
};

/// Visitor of a page, and what that visitor may do.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    caller: Caller,
    /// The session's cookie; `None` where no key is asked for, and where a link has let the visitor in.
    token: Option<String>,
    csrf: String,
    /// Texts in the visitor's language.
    pub(super) t: Arc<Texts>,
}

impl Visitor {
    pub(super) fn is_operator(&self) -> bool {
        self.caller.reaches_all()
    }

    pub(super) fn is_admin(&self) -> bool {
        self.is_operator() && self.caller.scope >= Scope::Admin
    }

    pub(super) fn can_write(&self) -> bool {
        self.caller.scope >= Scope::Write
    }

    pub(super) fn can_sign_out(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.caller.only_tenant()
    }

    /// The only organization that the visitor may see.
    pub(super) fn organization(&self) -> Option<&OrganizationId> {
        match &self.caller.reach {
            Reach::Organization(organization) => Some(organization),
            Reach::All | Reach::Tenant(_) => None,
        }
    }

    /// The features that a list shows beside those that something is stored of. Tenants do not see what others have made up.
    pub(super) async fn known_features(
        &self,
        store: &ConfigStore,
    ) -> Result<BTreeSet<String>, StoreError> {
        if self.is_operator() {
            Ok(store.feature_names().await?.into_iter().collect())
        } else {
            Ok(store.described_features())
        }
    }

    /// The name of the key, for the history.
    pub(super) fn name(&self) -> &str {
        &self.caller.name
    }

    /// What forms send back, so that no other site's page can send them.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// The tenant of an address, if the visitor may see it.
    pub(super) fn may_see(&self, tenant: &str) -> Result<TenantId, Problem> {
        let tenant = TenantId::new(tenant)?;
        self.may_reach(tenant.clone())?;
        Ok(tenant)
    }

    /// The organization of an address, if the visitor may see its preferences.
    pub(super) fn may_see_organization(&self, id: &str) -> Result<OrganizationId, Problem> {
        let organization = OrganizationId::new(id)?;
        self.may_reach(organization.clone())?;
        Ok(organization)
    }

    fn may_reach(&self, wanted: impl Into<Reach>) -> Result<(), Problem> {
        if self.is_operator() || self.caller.reach == wanted.into() {
            return Ok(());
        }
        let problem = Problem::forbidden("this key is for another tenant's preferences");
        Err(problem.worded(self.t.text("problem-other-tenant")))
    }

    /// Whether the visitor may see this feature of the tenant: a link may be for some only.
    pub(super) fn may_see_feature(&self, feature: &str) -> bool {
        !self.caller.is_kept_from(feature)
    }

    /// Whether the visitor may see all features of the tenant, and with them the history.
    pub(super) fn sees_all_features(&self) -> bool {
        self.caller
            .link
            .as_ref()
            .is_none_or(|features| *features == Features::All)
    }

    pub(super) fn must_be_operator(&self) -> Result<(), Problem> {
        if self.is_operator() {
            Ok(())
        } else {
            Err(Problem::forbidden("this page is for operators"))
        }
    }

    pub(super) fn must_be_admin(&self) -> Result<(), Problem> {
        if self.is_admin() {
            Ok(())
        } else {
            Err(Problem::forbidden("this page is for administrators"))
        }
    }

    /// Checks that a form comes from our page and the visitor may change something.
    pub(super) fn may_change(&self, csrf: Option<&str>) -> Result<(), Problem> {
        self.sent(csrf)?;
        if self.can_write() {
            Ok(())
        } else {
            let problem = Problem::forbidden("this key is read-only");
            Err(problem.worded(self.t.text("form-view-only")))
        }
    }

    fn sent(&self, csrf: Option<&str>) -> Result<(), Problem> {
        // Hashes, because comparing them takes the same time whatever they are.
        let same =
            blake3::hash(csrf.unwrap_or_default().as_bytes()) == blake3::hash(self.csrf.as_bytes());
        if same {
            Ok(())
        } else {
            let problem = Problem::forbidden("the form is out of date; reload the page");
            Err(problem.worded(self.t.text("problem-outdated-form")))
        }
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        if let Some(session) = parts.extensions.remove::<LinkSession>() {
            return Self::by_link(parts, app, session)
                .await
                .map_err(Problem::into_response);
        }
        let token = COOKIE.token(&parts.headers).map(str::to_owned);
        let caller = match app.without_key(&parts.extensions) {
            Ok(None) => match &token {
                Some(token) => signed_in(app, Peer::of(&parts.extensions), token).await,
                None => Ok(None),
            },
            known => known,
        };
        let caller = caller.map_err(Problem::into_response)?;
        let Some(caller) = caller else {
            if is_framed(&parts.headers) && !app.embedding.origins.is_empty() {
                return Err(ended(&texts_of(parts)));
            }
            return Err(to_sign_in(&parts.method, &parts.uri, &parts.headers).into_response());
        };
        app.limits.known(&caller).map_err(Problem::into_response)?;
        let token = token.filter(|_| app.admin_key.is_some());
        let csrf = token.as_ref().map_or_else(String::new, |token| {
            let derived = blake3::derive_key("punctual config database forms", token.as_bytes());
            blake3::Hash::from_bytes(derived).to_hex().to_string()
        });
        let t = match caller.only_tenant() {
            Some(tenant) => {
                let texts = texts_of_tenant(app, tenant, None, &parts.headers).await;
                texts.map_err(|error| Problem::from(error).into_response())?
            }
            None => texts_of(parts),
        };
        SeenBy::note(&parts.extensions, &t, caller.reaches_all());
        Ok(Self {
            caller,
            token,
            csrf,
            t,
        })
    }
}

impl Visitor {
    /// The visitor whom a link has let in, at an address that the link is for: the list of the features of the tenant or the
    /// organization, the pages of its features, and everything else of it only with a link for all features.
    async fn by_link(parts: &mut Parts, app: &App, session: LinkSession) -> Result<Self, Problem> {
        let LinkSession { caller, csrf, .. } = session;
        app.limits.known(&caller)?;
        let visitor = Self {
            caller,
            token: None,
            csrf,
            t: texts_of(parts),
        };
        let parameters = RawPathParams::from_request_parts(parts, app).await;
        let parameters = parameters.map_err(|error| Problem::bad_request(error.to_string()))?;
        let named = |name: &str| parameters.iter().find(|(given, _)| *given == name);
        if let Some((_, organization)) = named("organization_id") {
            visitor.may_see_organization(organization)?;
        } else {
            let tenant = named("tenant_id").map_or("", |(_, tenant)| tenant);
            visitor.may_see(tenant)?;
        }
        let route = parts.extensions.get::<MatchedPath>();
        let is_list = route.is_some_and(|route| {
            let lists = ["/tenants/{tenant_id}", "/organizations/{organization_id}"];
            lists.iter().any(|list| route.as_str().ends_with(list))
        });
        let allowed = match named("feature_type") {
            Some((_, feature)) => visitor.may_see_feature(feature),
            None => visitor.sees_all_features() || is_list && parts.method.is_safe(),
        };
        if allowed {
            Ok(visitor)
        } else {
            let problem = Problem::forbidden("this link is for other preferences");
            Err(problem.worded(visitor.t.text("problem-other-link")))
        }
    }
}

/// The texts that the request has been found to want.
fn texts_of(parts: &Parts) -> Arc<Texts> {
    let texts = parts.extensions.get::<Arc<Texts>>();
    texts.map_or_else(|| texts_for(&parts.headers), Arc::clone)
}

/// Whose session the token is of. Tokens that are none count as wrong keys.
async fn signed_in(app: &App, peer: Peer, token: &str) -> Result<Option<Caller>, Problem> {
    let token = blake3::hash(token.as_bytes());
    let attempt = app.attempt(peer, token)?;
    let caller = match app.store.session_key(&token).await? {
        Some(key) => app.holder(key).await?,
        None => None,
    };
    match caller {
        Some(_) => attempt.right(),
        None => attempt.wrong("invalid session cookie"),
    }
    Ok(caller)
}

/// The sign-in page.
fn sign_in_page(t: &Texts, next: Option<String>, refused: bool) -> Response {
    let Ok(key_hint) = escape(t.text("sign-in-hint"), Html);
    SITE.sign_in(&t.words(), &key_hint.to_string(), next, refused)
}

pub(super) async fn form(
    Extension(t): Extension<Arc<Texts>>,
    Query(SignInQuery { next }): Query<SignInQuery>,
) -> Response {
    sign_in_page(&t, next, false)
}

pub(super) async fn sign_in(
    State(app): State<App>,
    Extension(t): Extension<Arc<Texts>>,
    peer: Peer,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(SignIn { key, next }) = form?;
    if app.admin_key.is_none() {
        return Ok(Redirect::to("/").into_response());
    }
    let key = hash(&key);
    let holder = app.holder_at(peer, key, "refused at sign-in").await?;
    if holder.is_none() {
        return Ok(sign_in_page(&t, next, true));
    }
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    app.store
        .add_session(&blake3::hash(token.as_bytes()), &key, now() + SESSION_TTL)
        .await?;
    Ok(COOKIE.sign_in(&headers, &token, next))
}

#[derive(Deserialize)]
pub(super) struct SignOut {
    csrf: Option<String>,
}

pub(super) async fn sign_out(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(form): Form<SignOut>,
) -> Result<Response, Problem> {
    visitor.sent(form.csrf.as_deref())?;
    if let Some(token) = &visitor.token {
        app.store
            .end_session(&blake3::hash(token.as_bytes()))
            .await?;
    }
    Ok(COOKIE.sign_out(&headers))
}
