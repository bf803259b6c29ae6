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
mod page;
mod preferences;
mod preview;
mod problem;
mod schemas;

use std::sync::Arc;

use axum::{Router, extract::Request, middleware, routing::get};
use punctual_web::{
    Access, Guesses, ProblemBody,
    key::BearerKey,
    page::described,
    problem::{method_not_allowed, not_found, problems_of_text, retry_unavailable},
};
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::auth::Caller;
use self::limits::Limits;
use crate::{names::ServerSettingNames, store::ConfigStore};

/// The largest body of a call other than an import.
const BODY_BYTES: usize = 1024 * 1024;
/// Seconds after which to try again what could not be served.
const RETRY_AFTER: u64 = 1;
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
    /// Is cancelled when the process stops, and waiting calls end.
    stop: CancellationToken,
    names: ServerSettingNames,
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
        .routes(routes!(preferences::groups))
        .routes(routes!(preferences::changes))
        .routes(routes!(preferences::feature_types))
        .routes(routes!(features::read, features::store))
        .routes(routes!(features::publish))
        .routes(routes!(schemas::read, schemas::store, schemas::remove))
        .routes(routes!(preview::preview))
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
        self.router_with(access, stop, ServerSettingNames::default())
    }

    /// The same, for a program that calls its settings by these names.
    pub(crate) fn router_with<S: Clone + Send + Sync + 'static>(
        &self,
        access: Access,
        stop: CancellationToken,
        names: ServerSettingNames,
    ) -> Router<S> {
        let app = App {
            store: self.clone(),
            admin_key: access.key_hash(),
            guarded: access.is_guarded(),
            limits: Arc::default(),
            guesses: Arc::default(),
            stop,
            names,
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
        let router = open
            .nest("/api/v1", api)
            .route("/openapi.json", get(openapi))
            .merge(page::routes())
            .fallback(not_found);
        access
            .protect(router)
            .layer(CatchPanicLayer::new())
            .layer(middleware::from_fn(problems_of_text))
            .layer(middleware::map_response(|response| {
                retry_unavailable(RETRY_AFTER, response)
            }))
            .with_state(app)
    }
}

#[cfg(test)]
mod tests;
