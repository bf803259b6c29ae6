//! The preference page: tenants see and set their preferences, operators everybody's. Rendered here, with assets of
//! its own and nothing from elsewhere; scripts only add comfort.
//!
//! To add a page, write a template in `templates/` that extends `layout.html`, a struct that derives `Template` in the module
//! of its subject, and a function that takes a [`Visitor`], which says whose pages may be seen; list it in [`routes`]. A form
//! carries the visitor's token, which `Visitor::may_change` checks, and its answer is a redirect. Its texts speak to the user: no internals, no jargon.

mod form;
mod operators;
mod overrides;
mod preference;
mod runs;
mod tenants;
mod visitor;

use askama::Template;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{Html, Redirect},
    routing::{get, post},
};
use punctual_web::{
    Problem, Site,
    page::{asset, assets},
};
use tower_http::limit::RequestBodyLimitLayer;

use self::visitor::Visitor;
use super::{App, BODY_BYTES, IMPORT_BYTES};

pub(super) fn routes() -> Router<App> {
    let pages = Router::new()
        .route("/", get(start))
        .route("/sign-in", get(visitor::form).post(visitor::sign_in))
        .route("/sign-out", post(visitor::sign_out))
        .route("/tenants/{tenant_id}", get(tenants::overview))
        .route("/tenants/{tenant_id}/features", get(tenants::open))
        .route(
            "/tenants/{tenant_id}/features/{feature_type}",
            get(preference::show).post(preference::save),
        )
        .route(
            "/tenants/{tenant_id}/features/{feature_type}/runs",
            post(preference::runs),
        )
        .route(
            "/tenants/{tenant_id}/features/{feature_type}/arrival",
            get(preference::arrival),
        )
        .route(
            "/tenants/{tenant_id}/features/{feature_type}/switch",
            post(preference::switch),
        )
        .route(
            "/tenants/{tenant_id}/features/{feature_type}/restore",
            post(preference::restore),
        )
        .route("/tenants/{tenant_id}/history", get(tenants::history))
        .route("/operators", get(operators::overview))
        .route("/operators/groups", get(operators::groups))
        .route("/operators/quarantine", get(operators::quarantine))
        .route("/operators/export", get(operators::export))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES));
    let import = Router::new()
        .route("/operators/import", post(operators::import))
        .layer(RequestBodyLimitLayer::new(IMPORT_BYTES));
    let style = || asset("text/css", include_str!("../../assets/preferences.css"));
    let script = || asset("text/javascript", include_str!("../../assets/page.js"));
    pages
        .merge(import)
        .layer(DefaultBodyLimit::disable())
        .merge(assets())
        .route("/assets/preferences.css", get(style))
        .route("/assets/page.js", get(script))
        .layer(middleware::from_fn(|request, next| {
            SITE.answer(request, next)
        }))
}

async fn start(visitor: Visitor) -> Redirect {
    match visitor.tenant() {
        Some(tenant) => Redirect::to(&format!("/tenants/{tenant}")),
        None => Redirect::to("/operators"),
    }
}

/// What the sign-in page says about the key.
const KEY_HINT: &str = "The key for your account, or an operator's.";

/// How the pages look beside the common layout.
static SITE: Site = Site {
    name: "Punctual",
    styles: &["/assets/preferences.css"],
    shows_version: false,
};

/// A page, or the fragment of one.
fn render(template: &impl Template) -> Result<Html<String>, Problem> {
    SITE.render(template)
}
