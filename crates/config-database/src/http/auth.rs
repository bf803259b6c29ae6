//! Who may call. Everything under `/api/v1` goes through here, also what does not exist.

use std::fmt;

use axum::{
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{Extensions, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use punctual_domain::{LanguageTag, OrganizationId, TenantId};
use punctual_web::{
    Attempt, Peer, Problem,
    key::{bearer, hash},
};
use secrecy::SecretString;

use super::App;
use crate::{
    keys::Scope,
    links::{AnyLink, Features, LinkClaims, Subject, TokenError},
    validate::FEATURE_PREFERENCES,
};

/// What the history keeps behind the tenant whom a link has let in.
pub(super) const LINK: &str = " (link)";
/// What it keeps where the link was one of an e-mail that unsubscribes.
pub(super) const UNSUBSCRIBE_LINK: &str = " (unsubscribe link)";

/// Whose preferences a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those of all tenants and organizations.
    All,
    Tenant(TenantId),
    /// Those that the organization has for its members, and none of a member's.
    Organization(OrganizationId),
}

impl From<TenantId> for Reach {
    fn from(tenant: TenantId) -> Self {
        Self::Tenant(tenant)
    }
}

impl From<OrganizationId> for Reach {
    fn from(organization: OrganizationId) -> Self {
        Self::Organization(organization)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all tenants"),
            Self::Tenant(tenant) => tenant.fmt(f),
            Self::Organization(organization) => organization.fmt(f),
        }
    }
}

/// Who calls, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name of the key or of the signed-in user, which the history shows.
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) reach: Reach,
    /// Whom a link has let in, and to which features; `None`: no link.
    pub(super) link: Option<Features>,
    /// The language that the link names.
    pub(super) locale: Option<LanguageTag>,
}

impl Caller {
    /// A tenant, who reads and changes their own preferences only.
    #[must_use]
    pub fn tenant(tenant_id: TenantId) -> Self {
        Self {
            name: tenant_id.to_string(),
            scope: Scope::Write,
            reach: Reach::Tenant(tenant_id),
            link: None,
            locale: None,
        }
    }

    /// A tenant, or somebody of an organization, whom a link has let in. The history shows the tenant or the organization, and that
    /// it was a link.
    pub(super) fn by_link(reach: Reach, features: Features, locale: Option<LanguageTag>) -> Self {
        Self {
            name: format!("{reach}{LINK}"),
            scope: Scope::Write,
            reach,
            link: Some(features),
            locale,
        }
    }

    /// The only tenant the caller may see.
    pub(super) fn only_tenant(&self) -> Option<&TenantId> {
        match &self.reach {
            Reach::Tenant(tenant) => Some(tenant),
            Reach::All | Reach::Organization(_) => None,
        }
    }

    /// Whether the caller may see what all tenants have stored.
    pub(super) fn reaches_all(&self) -> bool {
        self.reach == Reach::All
    }

    /// Whether a link is all that the caller has, and not to this feature.
    pub(super) fn is_kept_from(&self, feature: &str) -> bool {
        self.link
            .as_ref()
            .is_some_and(|features| !features.contain(feature))
    }

    /// An operator, who may do everything. The history shows `name`.
    #[must_use]
    pub fn operator(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            scope: Scope::Admin,
            reach: Reach::All,
            link: None,
            locale: None,
        }
    }
}

impl App {
    /// The caller when no key is asked for; `None`: a key decides.
    pub(super) fn without_key(&self, extensions: &Extensions) -> Result<Option<Caller>, Problem> {
        if self.guarded {
            let caller = extensions.get::<Caller>().cloned();
            let unknown = "the caller is not known; the service around this router must put a `Caller` into the \
                           extensions of the request";
            return caller.map(Some).ok_or_else(|| Problem::forbidden(unknown));
        }
        let asks_for_key = self.admin_key.is_some();
        Ok((!asks_for_key).then(|| Caller::operator("anonymous")))
    }

    /// The holder of the key with this hash.
    pub(super) async fn holder(&self, key: blake3::Hash) -> Result<Option<Caller>, Problem> {
        if self.admin_key == Some(key) {
            return Ok(Some(Caller::operator("admin")));
        }
        let found = self.store.find_key(&key).await?;
        Ok(found.map(|found| Caller {
            name: found.name,
            scope: found.scope,
            reach: found.tenant_id.map_or(Reach::All, Reach::Tenant),
            link: None,
            locale: None,
        }))
    }

    /// Whom a link that is sent as a bearer token lets in; `None`: it is not a link, or is one that opens once, which is for the
    /// pages.
    async fn caller_by_link(&self, token: &str) -> Result<Option<Caller>, Problem> {
        match self.links.verify_link(token).await? {
            Ok(AnyLink::OfTenant(claims)) => Ok(caller_of(claims)),
            Ok(AnyLink::OfOrganization(claims)) => Ok(caller_of(claims)),
            Err(TokenError::Expired) => {
                let detail = "the link has expired; send the token of a new one";
                Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
            }
            Err(TokenError::Invalid(_)) => Ok(None),
        }
    }

    /// Begins an attempt with a key, or with the token of a session, within the limit on wrong ones of the address `peer`.
    pub(super) fn attempt(&self, peer: Peer, key: blake3::Hash) -> Result<Attempt<'_>, Problem> {
        let attempt = self.guesses.begin(peer.ip(), key);
        attempt.map_err(|wait| Problem::too_many("wrong keys", wait))
    }

    /// Who has sent this bearer token: a link or a key, within the limit on wrong keys of the address `peer`.
    async fn holder_of_bearer(&self, peer: Peer, token: &str) -> Result<Option<Caller>, Problem> {
        if let Some(caller) = self.caller_by_link(token).await? {
            return Ok(Some(caller));
        }
        let key = hash(&SecretString::from(token));
        self.holder_at(peer, key, "refused by the API").await
    }

    /// The holder of the key with this hash, within the limit on wrong keys of the address `peer`. `what` is what the key was sent for.
    pub(super) async fn holder_at(
        &self,
        peer: Peer,
        key: blake3::Hash,
        what: &str,
    ) -> Result<Option<Caller>, Problem> {
        let attempt = self.attempt(peer, key)?;
        let holder = self.holder(key).await?;
        match holder {
            Some(_) => attempt.right(),
            None => attempt.wrong(what),
        }
        Ok(holder)
    }
}

/// Whom a link lets in that opens more than once.
fn caller_of<S: Subject + Into<Reach>>(link: LinkClaims<S>) -> Option<Caller> {
    (!link.once).then(|| Caller::by_link(link.sub.into(), link.features, link.locale))
}

pub(super) async fn require_key(
    State(app): State<App>,
    peer: Peer,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = bearer(request.headers()).map_err(Problem::bad_request)?;
    let caller = match given {
        Some(token) if app.admin_key.is_some() => app.holder_of_bearer(peer, token).await?,
        Some(token) => match app.caller_by_link(token).await? {
            None => app.without_key(request.extensions())?,
            by_link => by_link,
        },
        None => app.without_key(request.extensions())?,
    };
    let Some(caller) = caller else {
        return Err(Problem::unauthorized());
    };
    app.limits.known(&caller)?;
    let own = match &caller.reach {
        Reach::All => None,
        Reach::Tenant(tenant) => Some(("tenant_id", tenant.as_str())),
        Reach::Organization(organization) => Some(("organization_id", organization.as_str())),
    };
    if let Some((kind, own)) = own {
        let about = parameters.iter().find(|(name, _)| *name == kind);
        if about.is_none_or(|(_, about)| about != own) {
            return Err(Problem::forbidden(format!(
                "this key is for the configurations of {own} only"
            )));
        }
    }
    if let Some(features) = &caller.link {
        may_by_link(&request, &parameters, features)?;
    }
    let needed = needed_scope(&request);
    if caller.scope < needed {
        return Err(Problem::forbidden(format!(
            "this key may {}; the call needs {needed}",
            caller.scope
        )));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The route by which agents publish their jobs.
const PUBLISHED_JOBS: &str = "/feature-types/{feature_type}/jobs";

/// Refuses what a link is not for: it reads and changes preferences of its tenant or organization for its features, and nothing
/// else. A call that is not named here is refused.
fn may_by_link(
    request: &Request,
    parameters: &RawPathParams,
    features: &Features,
) -> Result<(), Problem> {
    let named = |name: &str| {
        let found = parameters.iter().find(|(given, _)| *given == name);
        found.map_or("", |(_, value)| value)
    };
    let own = named("config_key") == FEATURE_PREFERENCES;
    let allowed = match (request.method(), route_of(request)) {
        (&Method::GET | &Method::HEAD | &Method::PATCH, CONFIG)
        | (&Method::GET | &Method::HEAD, ORGANIZATION_CONFIG) => own,
        // What the call replaces has all features.
        (&Method::PUT, CONFIG | ORGANIZATION_CONFIG) => own && *features == Features::All,
        (&Method::POST, PREVIEW) => features.contain(named("feature_type")),
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    Err(Problem::forbidden(
        "a link reads and changes the preferences of its features only; send an API key",
    ))
}

/// The route of a preview.
const PREVIEW: &str = "/tenants/{tenant_id}/features/{feature_type}/preview";

/// The route of a tenant's configuration.
const CONFIG: &str = "/tenants/{tenant_id}/configs/{config_key}";

/// The routes of everything that is held of a tenant, of a copy of it, and of the list of erasures.
const TENANT: &str = "/tenants/{tenant_id}";
const TENANT_EXPORT: &str = "/tenants/{tenant_id}/export";
const ERASURES: &str = "/erasures";

/// The route of an organization's configuration.
const ORGANIZATION_CONFIG: &str = "/organizations/{organization_id}/configs/{config_key}";

/// The route of a call below `/api/v1`.
fn route_of(request: &Request) -> &str {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    // The router may be nested.
    route.rsplit_once("/api/v1").map_or(route, |(_, own)| own)
}

/// Decided by the route, so that no name in a path is taken for a part of it.
fn needed_scope(request: &Request) -> Scope {
    let route = route_of(request);
    match *request.method() {
        _ if route == "/preferences/import" => Scope::Admin,
        _ if route.starts_with("/keys") => Scope::Admin,
        _ if [TENANT, TENANT_EXPORT, ERASURES].contains(&route) => Scope::Admin,
        Method::GET | Method::HEAD => Scope::Read,
        Method::POST if route == PREVIEW => Scope::Read,
        Method::PUT if route == PUBLISHED_JOBS => Scope::Agent,
        // A feature decides what everybody else may store.
        _ if route.starts_with("/feature-types/") => Scope::Admin,
        _ => Scope::Write,
    }
}
