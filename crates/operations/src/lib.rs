#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod alerts;
mod audit;
mod auth;
mod backfill;
mod batches;
mod control;
mod dead_letters;
mod deliveries;
mod events;
mod explain;
mod feed;
mod findings;
mod health;
mod idempotency;
mod keys;
pub mod model;
mod oidc;
mod page;
mod preview;
mod problem;
mod proxy;
pub mod remedies;
mod restore;
mod retention;
mod roles;
mod schedule;
mod sealed;
mod suppressions;
mod tenants;
mod waiting;
mod whole_unions;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Query, Request},
    http::{HeaderMap, Uri, header::HOST, request::Parts, uri::Authority},
    middleware,
    routing::get,
};
use punctual_application::{
    FindingKind, Operator, Patience, Role,
    ports::{Page, StoreError, StoreErrorKind},
};
pub use punctual_web::Access;
use punctual_web::{
    Guesses, ProblemBody,
    key::BearerKey,
    page::described,
    problem::{method_not_allowed, not_found, problems_of_text, retry_unavailable},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::OnceCell, time::timeout};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{feed::Feed, problem::Problem, sealed::Seal, whole_unions::whole_unions};
pub use self::{
    oidc::{InvalidOidc, Oidc, OidcSettings},
    proxy::{Networks, TrustedProxy},
    roles::RoleMap,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Punctual Agent",
        description = "Past, current and upcoming runs, and the calls that operate jobs. \
                       Errors are problem+json (RFC 9457). `/metrics` has the metrics for Prometheus."
    ),
    components(schemas(ProblemBody)),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Description;

/// How calls and pages speak of the program that they belong to.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// What the sign-in page says about the key, as HTML.
    pub key_hint: &'static str,
    /// What to do about something that is wrong.
    pub remedy: fn(&FindingKind) -> String,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            key_hint: "The key for operators.",
            remedy: remedies::remedy,
        }
    }
}

/// Renders metrics for Prometheus.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// How operators are known, beside by keys.
#[derive(Debug, Clone, Default)]
pub struct SignIn {
    /// The identity provider at which they sign in; `None`: there is none.
    pub oidc: Option<Arc<Oidc>>,
    /// The proxy in front that names them; `None`: no header names anyone.
    pub proxy: Option<TrustedProxy>,
}

/// The HTTP API and the operations page of an operator.
pub struct Operations {
    /// Does what is asked for.
    pub operator: Operator,
    /// Is cancelled when the process stops, and streams end.
    pub stop: CancellationToken,
    /// Access control of the API and the page.
    pub access: Access,
    /// How operators are known, beside by keys.
    pub sign_in: SignIn,
    /// What `GET /metrics` answers with; `None`: the address does not exist.
    pub metrics: Option<Metrics>,
    /// How they speak of the program.
    pub words: Words,
    /// Address of the Config Database, whose pages show the preferences of tenants: `http` or `https`, for the browsers of operators.
    /// Names, passwords, queries and the path of the API in it are left out. `None`, or another address: the pages do not link there;
    /// to a loopback address they do only where they are shown at one.
    pub config_database: Option<String>,
}

#[derive(Clone)]
struct App {
    operator: Operator,
    words: Words,
    metrics: Option<Metrics>,
    /// Address of the Config Database's pages, without anything secret.
    config_database: Option<Arc<str>>,
    access: Access,
    sign_in: SignIn,
    /// The secret of the store that seals cookies.
    stored_secret: Arc<OnceCell<[u8; 32]>>,
    guesses: Arc<Guesses>,
    /// Wrong tokens of workers, which do not count against the key of operators.
    wrong_tokens: Arc<Guesses>,
    /// For workers that were faster than the store.
    patience: Arc<Patience>,
    signed_out: Arc<page::SignedOut>,
    /// What all open overviews show.
    live: Arc<Feed<page::LiveSection>>,
    /// What all other open pages show.
    snapshots: Arc<Feed<page::Snapshot>>,
    /// What all open event streams have seen.
    batches: Arc<Feed<events::Batches>>,
    /// Is cancelled when the process stops, and streams end.
    stop: CancellationToken,
}

/// The calls that need no key.
fn open_calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(punctual_web::health::live))
        .routes(routes!(health::ready))
        .routes(routes!(punctual_web::health::version))
}

/// The calls of workers, whose token is in the address.
fn calls_of_workers() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(waiting::complete))
        .routes(routes!(waiting::fail))
        .routes(routes!(waiting::extend))
}

/// The calls below `/api/v1` that change nothing.
fn calls_to_view() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(findings::list))
        .routes(routes!(alerts::list))
        .routes(routes!(deliveries::list))
        .routes(routes!(schedule::jobs))
        .routes(routes!(schedule::job))
        .routes(routes!(schedule::upcoming))
        .routes(routes!(schedule::quarantine))
        .routes(routes!(schedule::zones))
        .routes(routes!(schedule::zone_schedules))
        .routes(routes!(batches::list))
        .routes(routes!(batches::one))
        .routes(routes!(batches::results))
        .routes(routes!(events::stream))
        .routes(routes!(dead_letters::list))
        .routes(routes!(suppressions::list))
        .routes(routes!(retention::report))
        .routes(routes!(waiting::list))
        .routes(routes!(audit::list))
        .routes(routes!(restore::show))
        .routes(routes!(tenants::runs))
        .routes(routes!(tenants::past_runs))
        .routes(routes!(explain::tenant))
        .route("/batch/{batch_id}", get(batches::one))
}

/// The calls below `/api/v1` that act on jobs, batches and items.
fn calls_to_operate() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(control::trigger))
        .routes(routes!(preview::run))
        .routes(routes!(backfill::backfill))
        .routes(routes!(control::pause))
        .routes(routes!(control::resume))
        .routes(routes!(batches::cancel))
        .routes(routes!(dead_letters::replay_many))
        .routes(routes!(dead_letters::discard_many))
        .routes(routes!(dead_letters::reopen_many))
        .routes(routes!(dead_letters::replay_one))
        .routes(routes!(dead_letters::discard_one))
        .routes(routes!(deliveries::deliver_again))
        .routes(routes!(findings::acknowledge))
        .routes(routes!(alerts::test))
        .routes(routes!(suppressions::add))
        .routes(routes!(suppressions::remove))
        .routes(routes!(restore::settle))
}

/// The calls below `/api/v1` that are about people rather than work.
fn calls_to_administer() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(keys::list))
        .routes(routes!(keys::add))
        .routes(routes!(keys::revoke))
        .routes(routes!(tenants::erase))
        .routes(routes!(tenants::export))
}

/// Calls that need a role, each of them.
struct Calls(OpenApiRouter<App>);

impl Calls {
    fn for_role(role: Role, calls: OpenApiRouter<App>) -> Self {
        let layer = middleware::from_fn_with_state(role, auth::require_role);
        let mut calls = calls.route_layer(layer);
        roles::describe(role, calls.get_openapi_mut());
        Self(calls)
    }

    fn and(self, others: Self) -> Self {
        Self(self.0.merge(others.0))
    }

    fn split(self) -> (Router<App>, utoipa::openapi::OpenApi) {
        self.0.split_for_parts()
    }
}

/// The calls below `/api/v1`. Each is in one of the lists by role: none is answered without.
fn calls() -> Calls {
    Calls::for_role(Role::View, calls_to_view())
        .and(Calls::for_role(Role::Operate, calls_to_operate()))
        .and(Calls::for_role(Role::Administer, calls_to_administer()))
}

/// The `OpenAPI` description of the API.
#[must_use]
pub fn description() -> utoipa::openapi::OpenApi {
    let (_, open) = open_calls().split_for_parts();
    let (_, of_workers) = calls_of_workers().split_for_parts();
    let (_, keyed) = calls().split();
    let mut description = Description::openapi()
        .merge_from(open)
        .merge_from(of_workers)
        .nest("/api/v1", keyed);
    whole_unions(&mut description);
    description
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Operations {
    /// A router with all of it, to be served as it is or nested below a path: its pages then lead to each other there.
    /// Served with the addresses of its clients (`into_make_service_with_connect_info::<SocketAddr>()`), it limits wrong
    /// keys by address and names the address in the audit log. With [`Access::guarded`], the service around it may say who
    /// asks with an [`Actor`](punctual_application::Actor) in the extensions of the request, and what they may do with a [`Role`]: without
    /// one, everything. It has to let workers through to `/api/v1/waiting/{token}/…`: the token is their authentication.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let app = App {
            operator: self.operator,
            words: self.words,
            guesses: Arc::default(),
            wrong_tokens: Arc::default(),
            patience: Arc::new(waiting::patience()),
            signed_out: Arc::default(),
            stored_secret: Arc::default(),
            sign_in: self.sign_in,
            access: self.access.clone(),
            live: Arc::default(),
            snapshots: Arc::default(),
            batches: Arc::default(),
            stop: self.stop,
            metrics: self.metrics,
            config_database: self.config_database.as_deref().and_then(public_address),
        };
        let (api, _) = calls().split();
        let api = api
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed);
        let (open, _) = open_calls().split_for_parts();
        let open = open.route(
            "/openapi.json",
            get(|request: Request| async move { described(description(), &request) }),
        );
        let (of_workers, _) = calls_of_workers().split_for_parts();
        let of_workers = of_workers.layer(DefaultBodyLimit::max(waiting::MAX_BODY_BYTES));
        let mut keyed = Router::new();
        if app.metrics.is_some() {
            keyed = keyed.route("/metrics", get(health::metrics));
        }
        let keyed = keyed
            .nest("/api/v1", api)
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(middleware::from_fn_with_state(
                app.clone(),
                auth::require_key,
            ));
        let router = open
            .merge(of_workers)
            .merge(keyed)
            .merge(page::routes())
            .layer(middleware::from_fn(page::for_browsers));
        self.access
            .protect(router)
            .layer(CatchPanicLayer::new())
            .layer(middleware::from_fn(problems_of_text))
            .layer(middleware::map_response(|response| {
                retry_unavailable(RETRY_AFTER, response)
            }))
            .with_state(app)
    }
}

impl App {
    /// What seals the cookies of this kind: a secret of the store, so that every replica knows them, and the key of the configuration
    /// where there is one, so that they end with it. That key alone would not do: a person may have chosen it, and who gets a cookie
    /// could try keys against its seal where no one counts them.
    async fn seal(&self, context: &str) -> Result<Seal, StoreError> {
        let drawn = || in_time(self.operator.keys.session_secret());
        let mut secret = self.stored_secret.get_or_try_init(drawn).await?.to_vec();
        if let Some(key) = self.access.key_hash() {
            secret.extend_from_slice(key.as_bytes());
        }
        Ok(Seal::new(context, &secret))
    }
}

/// How long the store may take to say who asks.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the store answers, unless that takes too long.
async fn in_time<T, E: From<StoreError>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let answered = timeout(STORE_TIMEOUT, answer).await;
    answered.unwrap_or_else(|_| {
        let late = "the store does not answer in time";
        Err(StoreError::new(StoreErrorKind::Unavailable, late).into())
    })
}

/// An address of pages, as far as it may be shown: scheme, host, port and path.
fn public_address(address: &str) -> Option<Arc<str>> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri.scheme_str()?;
    if !["http", "https"].contains(&scheme) {
        return None;
    }
    let authority = uri.authority()?;
    let (host, path) = (authority.host(), uri.path().trim_end_matches('/'));
    let path = path.strip_suffix("/api/v1").unwrap_or(path);
    let port = authority.port_u16();
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{scheme}://{host}{port}{path}").into())
}

/// Whether the browser that sends these headers may reach an address: a loopback address only from a page at one.
fn is_reachable(address: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let page = host.and_then(|host| host.parse::<Authority>().ok());
    let uri = address.parse::<Uri>().ok();
    let is_here = |authority: &Authority| {
        let host = authority.host().trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    };
    let leads_here = uri.as_ref().and_then(Uri::authority).is_some_and(is_here);
    !leads_here || page.as_ref().is_some_and(is_here)
}

/// Seconds after which to try again what cannot be done.
const RETRY_AFTER: u64 = 5;

/// A page of a list, as asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Cursor that the previous page returned.
    cursor: Option<String>,
    /// Page size, 1 to 1000 (default: 100).
    limit: Option<u32>,
}

impl From<PageQuery> for Page {
    fn from(query: PageQuery) -> Self {
        Self {
            cursor: query.cursor,
            limit: query.limit.unwrap_or(100).clamp(1, 1_000),
        }
    }
}

/// What a list is asked for: which entries, and a page of them.
struct Listed<F>(F, Page);

impl<F: DeserializeOwned, S: Sync> FromRequestParts<S> for Listed<F> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(filter) = Query::try_from_uri(&parts.uri)?;
        let Query(page) = Query::<PageQuery>::try_from_uri(&parts.uri)?;
        Ok(Self(filter, page.into()))
    }
}

#[cfg(test)]
mod tests;
