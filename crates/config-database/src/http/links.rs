//! Links that let a product's users in: made over HTTP by who may change the preferences of the tenant, or of the organization.
//!
//! The scope is `write`: a link gives away what its maker has, for a time, and no more. A key for one tenant makes links for
//! that tenant only; a link makes none.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{FeatureType, LanguageTag, OrganizationId, TenantId};
use punctual_links::{ONE_CLICK, unsubscribe_url};
use punctual_web::{Problem, page::root_of, session::behind_tls};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::{
    App,
    problem::{self, AnyProblem, JsonBody},
};
use crate::{
    links::{Claims, Features, LinkClaims, SignError, Subject, UnsubscribeClaims},
    store::{StoreError, now},
};

const DEFAULT_LIFETIME: u32 = 15 * 60;
const MIN_LIFETIME: u32 = 1;

/// A link to be made.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRequest {
    /// Features that the link gives access to, at most 20 (default: all).
    #[serde(default)]
    #[schema(value_type = Option<Vec<FeatureType>>, min_items = 1, max_items = 20)]
    features: Features,
    /// Language of the pages, such as `de` or `pt-BR`; its region decides dates, times and the first day of the week. One that the
    /// pages do not have counts as not named.
    #[schema(value_type = Option<String>, max_length = 35)]
    locale: Option<LanguageTag>,
    /// Seconds until the link, and each session that it opens, ends, at most a day (default: 900).
    #[schema(minimum = 1, maximum = 86_400)]
    expires_in_seconds: Option<u32>,
    /// Whether the link opens a session once only (default: false). Programs that look at links, such as those of mail
    /// servers, may open it first.
    #[serde(default)]
    once: bool,
}

/// A link to the pages of a tenant or an organization. It cannot be shown again.
#[derive(Serialize, ToSchema)]
pub(super) struct Link {
    /// Address that opens the pages; it is a secret of its user.
    url: String,
    /// The secret in the address, for `<punctual-preferences token=…>`, and for `Authorization: Bearer …` unless the link
    /// opens once.
    token: String,
    /// When the link ends, and each session that it has opened.
    expires_at: DateTime<Utc>,
}

/// A link of an e-mail to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnsubscribeRequest {
    /// The feature that the link switches off.
    feature: FeatureType,
    /// Language of the page, such as `de` or `pt-BR`. One that the pages do not have counts as not named.
    #[schema(value_type = Option<String>, max_length = 35)]
    locale: Option<LanguageTag>,
}

/// A link that switches a feature off, for the e-mails of that feature.
#[derive(Serialize, ToSchema)]
pub(super) struct UnsubscribeLink {
    /// Address of a page that asks, for the text of the e-mail. A POST to it switches the feature off at once.
    url: String,
    /// When the link ends.
    expires_at: DateTime<Utc>,
    /// Headers of the e-mail.
    headers: UnsubscribeHeaders,
}

/// Headers of an e-mail that let a mail program unsubscribe by one click (RFC 8058). Mail programs want an address with
/// `https`, and both headers signed by DKIM.
#[derive(Serialize, ToSchema)]
pub(super) struct UnsubscribeHeaders {
    #[serde(rename = "List-Unsubscribe")]
    list_unsubscribe: String,
    #[serde(rename = "List-Unsubscribe-Post")]
    list_unsubscribe_post: String,
}

/// The address at which browsers reach the service, without a slash at the end: the one that is set, or else the one that the
/// request was sent to.
pub(super) struct BaseUrl(String);

impl FromRequestParts<App> for BaseUrl {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let root = root_of(&parts.uri, &parts.extensions);
        let root = root.strip_suffix("/api/v1").unwrap_or(&root);
        if let Some(url) = &app.embedding.public_url {
            return Ok(Self(format!("{}{root}", url.origin)));
        }
        let host = parts.headers.get(header::HOST);
        let host = host
            .and_then(|host| host.to_str().ok())
            .or(parts.uri.host());
        let scheme = if behind_tls(&parts.headers) {
            "https"
        } else {
            "http"
        };
        let url = host.and_then(|host| Url::parse(&format!("{scheme}://{host}")).ok());
        let origin = url.filter(|url| url.path() == "/" && url.username().is_empty());
        let origin = origin.map(|url| url.origin().ascii_serialization());
        origin
            .map(|origin| Self(format!("{origin}{root}")))
            .ok_or_else(|| {
                Problem::bad_request(
                    "the header `Host` is missing or not valid; send the name of this server",
                )
            })
    }
}

/// Makes a link that opens a tenant's pages, for a short time. The product gives it to a user whom it has signed in.
///
/// The same link can be made without this call: its token is a JSON Web Token that a product signs with a shared key.
#[utoipa::path(post, operation_id = "create_link", path = "/tenants/{tenant_id}/links", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), request_body = Option<LinkRequest>, responses(
    (status = 201, body = Link, description = "The link"),
    AnyProblem,
))]
pub(super) async fn create(
    State(app): State<App>,
    Path(tenant): Path<String>,
    BaseUrl(base): BaseUrl,
    body: Bytes,
) -> Result<Response, Problem> {
    made(&app, &base, TenantId::new(&tenant)?, &body).await
}

/// Makes a link that opens the page of an organization's preferences, for a short time. It opens no pages of the members.
///
/// The same link can be made without this call: its token is a JSON Web Token that a product signs with a shared key.
#[utoipa::path(post, operation_id = "create_organization_link", path = "/organizations/{organization_id}/links", params(("organization_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), request_body = Option<LinkRequest>, responses(
    (status = 201, body = Link, description = "The link"),
    AnyProblem,
))]
pub(super) async fn create_for_organization(
    State(app): State<App>,
    Path(organization): Path<String>,
    BaseUrl(base): BaseUrl,
    body: Bytes,
) -> Result<Response, Problem> {
    made(&app, &base, OrganizationId::new(&organization)?, &body).await
}

/// A link to the pages of `subject`, as the body wants it.
async fn made(
    app: &App,
    base: &str,
    subject: impl Subject,
    body: &[u8],
) -> Result<Response, Problem> {
    let wanted = if body.is_empty() {
        LinkRequest::default()
    } else {
        problem::json_of::<Option<LinkRequest>>(body)?.unwrap_or_default()
    };
    let seconds = wanted.expires_in_seconds.unwrap_or(DEFAULT_LIFETIME);
    let longest = <LinkClaims>::MAX_LIFETIME.num_seconds();
    if seconds < MIN_LIFETIME || i64::from(seconds) > longest {
        return Err(Problem::bad_request(format!(
            "expires_in_seconds is {seconds}; use {MIN_LIFETIME} to {longest}"
        )));
    }
    let (exp, expires_at) = after(TimeDelta::seconds(seconds.into()));
    let claims = LinkClaims {
        locale: wanted.locale,
        once: wanted.once,
        ..LinkClaims::new(subject, wanted.features, exp)
    };
    let token = app.links.sign(&claims).await?;
    let token = token.expose_secret();
    let link = Link {
        url: format!("{base}/open/{token}"),
        token: token.to_owned(),
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(link)).into_response())
}

/// Makes a link that switches one feature of a tenant off, for the e-mails of that feature, with the headers by which a mail
/// program does it at one click (RFC 8058). It works for a year.
#[utoipa::path(post, operation_id = "create_unsubscribe_link", path = "/tenants/{tenant_id}/unsubscribe-links", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), request_body = UnsubscribeRequest, responses(
    (status = 201, body = UnsubscribeLink, description = "The link"),
    AnyProblem,
))]
pub(super) async fn create_unsubscribe(
    State(app): State<App>,
    Path(tenant): Path<String>,
    BaseUrl(base): BaseUrl,
    JsonBody(wanted): JsonBody<UnsubscribeRequest>,
) -> Result<Response, Problem> {
    let tenant = TenantId::new(&tenant)?;
    let (exp, expires_at) = after(UnsubscribeClaims::LIFETIME);
    let claims = UnsubscribeClaims {
        locale: wanted.locale,
        ..UnsubscribeClaims::new(tenant, wanted.feature, exp)
    };
    let token = app.links.sign(&claims).await?;
    let url = unsubscribe_url(&base, &token);
    let link = UnsubscribeLink {
        headers: UnsubscribeHeaders {
            list_unsubscribe: format!("<{url}>"),
            list_unsubscribe_post: ONE_CLICK.to_owned(),
        },
        url,
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(link)).into_response())
}

/// The instant after a time from now, in whole seconds.
fn after(time: TimeDelta) -> (i64, DateTime<Utc>) {
    let at = now() + time;
    let seconds = at.timestamp();
    (seconds, DateTime::from_timestamp(seconds, 0).unwrap_or(at))
}

impl From<SignError> for Problem {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Token(error @ punctual_links::SignError::TooLong(_)) => {
                Self::bad_request(error.to_string())
            }
            SignError::Token(error) => StoreError::new(error).into(),
            SignError::Store(error) => error.into(),
        }
    }
}
