//! The HTTP side: routes, their description as `OpenAPI`, and what every call goes through.
//!
//! To add an endpoint, write a function with `#[utoipa::path]` in the module of its subject and list it in [`calls`], which
//! puts it below `/api/v1` and behind the keys. Its doc comment and its types, which derive `ToSchema`, are the
//! description: run `make reference`. What it stores goes through [`ConfigStore`], so that embedders can do it without
//! HTTP. The head of `page` says how to add a page.

mod auth;
mod conditions;
mod configs;
mod features;
mod health;
mod import;
mod keys;
mod limits;
mod links;
mod organizations;
mod page;
mod preferences;
mod preview;
mod problem;
mod schemas;
mod tenants;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::Request,
    http::{HeaderValue, Method, header},
    middleware,
    response::Redirect,
    routing::get,
};
use punctual_web::{
    Access, Guesses, ProblemBody,
    key::BearerKey,
    origin::{Origin, Senders},
    page::described,
    problem::{method_not_allowed, not_found, problems_of_text, retry_unavailable},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    limit::RequestBodyLimitLayer,
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::auth::Caller;
use self::limits::Limits;
use crate::{
    embedding::{Embedding, PublicUrl},
    links::Links,
    names::ServerSettingNames,
    store::ConfigStore,
};

/// The largest body of a call other than an import.
const BODY_BYTES: usize = 1024 * 1024;
/// Seconds after which to try again what could not be served.
const RETRY_AFTER: u64 = 1;
/// How long browsers may remember what pages of other origins may send.
const PREFLIGHT_TTL: Duration = Duration::from_mins(10);
/// The largest import.
const IMPORT_BYTES: usize = 4 * 1024 * 1024 * 1024;

#[derive(Clone)]
struct App {
    store: ConfigStore,
    admin_key: Option<blake3::Hash>,
    /// Whether the service around the router says who calls.
    guarded: bool,
    limits: Arc<Limits>,
    guesses: Arc<Guesses>,
    links: Arc<Links>,
    embedding: Arc<Embedding>,
    /// Is cancelled when the process stops, and waiting calls end.
    stop: CancellationToken,
    names: ServerSettingNames,
    /// What else is wrong with the process, for its readiness.
    warning: watch::Receiver<Option<String>>,
}

impl App {
    /// Whether browsers reach the service over https, as far as its settings say.
    fn is_https(&self) -> bool {
        let url = self.embedding.public_url.as_ref();
        url.is_some_and(PublicUrl::is_https)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Punctual Config Database",
        description = "Stores the preferences of each tenant and serves them by tenant, in groups with \
                       the same schedule, and as a feed of changes. Errors are problem+json (RFC 9457)."
    ),
    components(schemas(ProblemBody)),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Description;

/// The calls below `/api/v1`.
fn calls() -> OpenApiRouter<App> {
    let small = OpenApiRouter::new()
        .routes(routes!(
            configs::read,
            configs::store,
            configs::patch,
            configs::remove
        ))
        .routes(routes!(configs::history))
        .routes(routes!(configs::restore))
        .routes(routes!(organizations::organization))
        .routes(routes!(
            organizations::read,
            organizations::store,
            organizations::remove
        ))
        .routes(routes!(organizations::history))
        .routes(routes!(organizations::restore))
        .routes(routes!(preferences::groups))
        .routes(routes!(preferences::changes))
        .routes(routes!(preferences::erased))
        .routes(routes!(preferences::feature_types))
        .routes(routes!(features::read, features::store))
        .routes(routes!(features::publish))
        .routes(routes!(schemas::read, schemas::store, schemas::remove))
        .routes(routes!(tenants::erase))
        .routes(routes!(tenants::export))
        .routes(routes!(tenants::erasures))
        .routes(routes!(preview::preview))
        .routes(routes!(links::create))
        .routes(routes!(links::create_for_organization))
        .routes(routes!(links::create_unsubscribe))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES));
    let large = OpenApiRouter::new()
        .routes(routes!(import::import))
        .layer(RequestBodyLimitLayer::new(IMPORT_BYTES));
    small.merge(large)
}

/// The calls that need no key.
fn open_calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(punctual_web::health::live))
        .routes(routes!(health::ready))
        .routes(routes!(punctual_web::health::version))
}

/// The description of the HTTP API, as at `/openapi.json`.
#[must_use]
pub fn description() -> utoipa::openapi::OpenApi {
    let (_, open) = open_calls().split_for_parts();
    let (_, keyed) = calls().split_for_parts();
    Description::openapi()
        .merge_from(open)
        .nest("/api/v1", keyed)
}

impl ConfigStore {
    /// A router with the HTTP API and the preference page, to be served as it is or nested below a path without parameters:
    /// its pages then lead to each other there. Calls that wait for changes end when `stop` is cancelled.
    ///
    /// With [`Access::guarded`], the service around it says who asks with a [`Caller`] in the extensions of each request;
    /// requests without one are refused. Served with the addresses of its clients
    /// (`into_make_service_with_connect_info::<SocketAddr>()`), it limits wrong keys by address. A program without a
    /// [`Server`](crate::Server) also spawns [`upkeep`](Self::upkeep).
    pub fn router<S: Clone + Send + Sync + 'static>(
        &self,
        access: Access,
        stop: CancellationToken,
    ) -> Router<S> {
        self.embeddable_router(access, stop, Embedding::default())
    }

    /// The same, whose pages other products embed.
    pub fn embeddable_router<S: Clone + Send + Sync + 'static>(
        &self,
        access: Access,
        stop: CancellationToken,
        embedding: Embedding,
    ) -> Router<S> {
        let (_, warning) = watch::channel(None);
        self.router_with(
            access,
            stop,
            ServerSettingNames::default(),
            embedding,
            warning,
        )
    }

    /// The same, for a program that calls its settings by these names and has this to say of itself.
    pub(crate) fn router_with<S: Clone + Send + Sync + 'static>(
        &self,
        access: Access,
        stop: CancellationToken,
        names: ServerSettingNames,
        embedding: Embedding,
        warning: watch::Receiver<Option<String>>,
    ) -> Router<S> {
        let base_path = embedding.base_path().to_owned();
        let appearance = Arc::new(embedding.appearance());
        // Where no key is asked for, a page that may call the API could do everything.
        let api_origins = if access.is_open() {
            Arc::default()
        } else {
            Arc::clone(&embedding.origins)
        };
        let app = App {
            store: self.clone(),
            admin_key: access.key_hash(),
            guarded: access.is_guarded(),
            limits: Arc::default(),
            guesses: Arc::default(),
            links: Arc::new(Links::new(self.clone(), embedding.link_keys.clone())),
            embedding: Arc::new(embedding),
            stop,
            names,
            warning,
        };
        let (api, _) = calls().split_for_parts();
        let api = api
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(
                app.clone(),
                auth::require_key,
            ));
        let openapi = |request: Request| async move { described(description(), &request) };
        let (open, _) = open_calls().split_for_parts();
        let own = open
            .route("/openapi.json", get(openapi))
            .merge(page::routes(&app))
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(
                app.clone(),
                page::for_browsers,
            ));
        let api = Router::new().nest("/api/v1", api);
        let api = access.protect_from(api, Senders::WithKey(Arc::clone(&api_origins)));
        let router = access
            .protect(own)
            .merge(cross_origin(api, &api_origins))
            .merge(access.protect_from(page::open_routes(), Senders::All))
            .layer(Extension(appearance))
            .layer(CatchPanicLayer::new())
            .layer(middleware::from_fn(problems_of_text))
            .layer(middleware::map_response(|response| {
                retry_unavailable(RETRY_AFTER, response)
            }))
            .with_state(app);
        below(router, &base_path)
    }
}

/// Lets browsers show the answers of the API to pages of these origins. They send no cookies with it: what a page may do, the
/// key or the link that it sends says.
fn cross_origin(api: Router<App>, origins: &[Origin]) -> Router<App> {
    if origins.is_empty() {
        return api;
    }
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok());
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
    ];
    api.layer(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::PUT, Method::PATCH, Method::POST])
            .allow_headers(headers)
            .expose_headers([header::ETAG, header::RETRY_AFTER])
            .max_age(PREFLIGHT_TTL),
    )
}

/// A router that is also there below the path at which a proxy in front serves it, whether the proxy takes the path off or not.
fn below<S: Clone + Send + Sync + 'static>(router: Router<S>, path: &str) -> Router<S> {
    if path.is_empty() {
        return router;
    }
    let to = path.to_owned();
    // Not for ever: a proxy may redirect the other way round.
    let start = get(move || async move { Redirect::temporary(&to) });
    Router::new()
        .nest(path, router.clone())
        .route(&format!("{path}/"), start)
        .merge(router)
}

#[cfg(test)]
mod tests;
