//! The preference page: tenants see and set their preferences, operators everybody's. Rendered here, with assets of
//! its own and nothing from elsewhere; scripts only add comfort.
//!
//! To add a page, write a template in `templates/` that extends `layout.html`, a struct that derives `Template` in the module of
//! its subject, and a function that takes a [`Visitor`], which says whose pages may be seen; list it in [`routes`]. A form
//! carries the visitor's token, which `Visitor::may_change` checks, and its answer is a redirect. Its texts speak to the user:
//! no internals, no jargon. Those of tenants' pages stand in `locales/` ([`Texts`]); pages of operators are in English. A list
//! without rows says what that means, and what to do next ([`punctual_web::Empty`]).

mod chosen;
mod erasures;
mod form;
mod language;
mod mistakes;
mod open;
mod operators;
mod organization;
mod overrides;
mod owner;
mod past_runs;
mod preference;
mod runs;
mod tenants;
mod unsubscribe;
mod usual;
mod visitor;

use askama::Template;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use punctual_web::{
    PageWords, Problem, Site,
    page::{AlsoByGet, asset, assets},
    problem::problems_of_text,
};
use tower_http::limit::RequestBodyLimitLayer;

use self::visitor::Visitor;
use super::{App, BODY_BYTES, IMPORT_BYTES};
use crate::{
    embedding::{LOGO_PATH, Logo},
    texts::Texts,
};

pub(super) fn routes(app: &App) -> Router<App> {
    let small = || RequestBodyLimitLayer::new(BODY_BYTES);
    let pages = Router::new()
        .route("/", get(start))
        .route("/language", get(language::choose))
        .route("/sign-in", get(visitor::form).post(visitor::sign_in))
        .route("/sign-out", post(visitor::sign_out))
        .route("/open", get(open::form).post(open::by_form))
        .route("/open/{token}", get(open::by_address))
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
            "/tenants/{tenant_id}/features/{feature_type}/past-runs",
            get(preference::past_runs),
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
        .route(
            "/organizations/{organization_id}",
            get(organization::overview),
        )
        .route(
            "/organizations/{organization_id}/features/{feature_type}",
            get(preference::show).post(preference::save),
        )
        .route(
            "/organizations/{organization_id}/features/{feature_type}/runs",
            post(preference::runs),
        )
        .route(
            "/organizations/{organization_id}/features/{feature_type}/arrival",
            get(preference::arrival),
        )
        .route(
            "/organizations/{organization_id}/features/{feature_type}/restore",
            post(preference::restore),
        )
        .route(
            "/organizations/{organization_id}/history",
            get(tenants::history),
        )
        .layer(small())
        .layer(middleware::from_fn(language::worded));
    let of_operators = Router::new()
        .route("/operators", get(operators::overview))
        .route("/operators/organizations", get(operators::organizations))
        .route("/operators/groups", get(operators::groups))
        .route("/operators/quarantine", get(operators::quarantine))
        .route("/operators/export", get(operators::export))
        .route(
            "/operators/erasures",
            get(erasures::show).post(erasures::erase),
        )
        .route("/operators/erasures/export", get(erasures::export))
        .layer(small());
    let import = Router::new()
        .route("/operators/import", post(operators::import))
        .layer(RequestBodyLimitLayer::new(IMPORT_BYTES));
    let style = || asset("text/css", include_str!("../../assets/preferences.css"));
    let script = || asset("text/javascript", PAGE_SCRIPT);
    let open_script = || asset("text/javascript", include_str!("../../assets/open.js"));
    let logo = app.embedding.logo.clone();
    let logo = || async move { logo.map_or_else(|| StatusCode::NOT_FOUND.into_response(), shown) };
    pages
        .merge(of_operators)
        .merge(import)
        .layer(DefaultBodyLimit::disable())
        .merge(assets())
        .route("/assets/preferences.css", get(style))
        .route("/assets/page.js", get(script))
        .route("/assets/open.js", get(open_script))
        .route(LOGO_PATH, get(logo))
        .layer(middleware::from_fn_with_state(app.clone(), open::recognize))
        .layer(middleware::from_fn(problems_of_text))
        .layer(middleware::from_fn(|request, next| {
            SITE.answer(request, next)
        }))
}

/// Routes whose address holds a secret, which is all that counts, or that have none: pages of other sites may send to them.
pub(super) fn open_routes() -> Router<App> {
    let unsubscribe = get(unsubscribe::ask).post(unsubscribe::change);
    let pages = Router::new()
        .route("/unsubscribe/{token}", unsubscribe)
        .layer(RequestBodyLimitLayer::new(FORM_BYTES))
        .layer(middleware::from_fn(language::by_headers))
        .layer(middleware::from_fn(problems_of_text))
        .layer(middleware::from_fn(|mut request: Request, next| {
            request.extensions_mut().insert(AlsoByGet);
            SITE.answer(request, next)
        }));
    let embed = || async {
        let script = asset("text/javascript", include_str!("../../assets/embed.js")).await;
        // It is the same for all, and a page may load it as a module.
        let headers = [
            ("access-control-allow-origin", "*"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("x-content-type-options", "nosniff"),
        ];
        (headers, script)
    };
    pages.route("/embed.js", get(embed))
}

/// The script of the pages, and what it does beside in a frame.
const PAGE_SCRIPT: &str = concat!(
    include_str!("../../assets/page.js"),
    include_str!("../../assets/framed.js")
);
/// The largest body of a form that unsubscribes.
const FORM_BYTES: usize = 4 * 1024;

/// The logo, as an answer. Browsers may keep it for five minutes.
fn shown(logo: Logo) -> Response {
    let headers = [
        (header::CONTENT_TYPE, logo.content_type),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, logo.bytes).into_response()
}

async fn start(visitor: Visitor) -> Redirect {
    match visitor.tenant() {
        Some(tenant) => Redirect::to(&format!("/tenants/{tenant}")),
        None => Redirect::to("/operators"),
    }
}

/// How the pages look beside the common layout.
static SITE: Site = Site {
    name: "Punctual",
    styles: &["/assets/preferences.css"],
    shows_version: false,
};

/// Middleware: [`Site::for_browsers`].
pub(super) async fn for_browsers(State(app): State<App>, request: Request, next: Next) -> Response {
    let words = |uri: Uri, headers: HeaderMap| async move {
        open::texts_at(&app, &uri, &headers).await.words()
    };
    SITE.for_browsers(words, request, next).await
}

/// A page for tenants, or the fragment of one, in these texts.
fn render(t: &Texts, template: &impl Template) -> Result<Html<String>, Problem> {
    SITE.render(&t.words(), template)
}

/// A page for operators, which is in English.
fn render_for_operators(template: &impl Template) -> Result<Html<String>, Problem> {
    SITE.render(PageWords::english(), template)
}
