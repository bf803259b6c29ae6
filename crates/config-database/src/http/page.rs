//! The preference page: tenants see and set their preferences, operators everybody's. Rendered here, with assets of
//! its own and nothing from elsewhere; scripts only add comfort.

mod form;
mod operators;
mod preference;
mod runs;
mod tenants;
mod visitor;

use askama::Template;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tower_http::limit::RequestBodyLimitLayer;

use self::visitor::Visitor;
use super::{
    App, BODY_BYTES, IMPORT_BYTES,
    problem::{Problem, come_back},
};
use crate::pages::{STYLE, asset, with_security_headers};

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
            "/tenants/{tenant_id}/history",
            get(tenants::history).post(tenants::restore),
        )
        .route("/operators", get(operators::overview))
        .route("/operators/groups", get(operators::groups))
        .route("/operators/quarantine", get(operators::quarantine))
        .route("/operators/export", get(operators::export))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES));
    let import = Router::new()
        .route("/operators/import", post(operators::import))
        .layer(RequestBodyLimitLayer::new(IMPORT_BYTES));
    let assets = Router::new()
        .route("/assets/style.css", get(|| asset("text/css", STYLE)))
        .route(
            "/assets/page.js",
            get(|| asset("text/javascript", include_str!("../../assets/page.js"))),
        )
        .route(
            "/assets/icon.svg",
            get(|| asset("image/svg+xml", include_str!("../../assets/icon.svg"))),
        );
    pages
        .merge(import)
        .layer(DefaultBodyLimit::disable())
        .merge(assets)
        .layer(middleware::from_fn(|request, next| {
            with_security_headers(POLICY, request, next)
        }))
}

async fn start(visitor: Visitor) -> Redirect {
    match visitor.tenant() {
        Some(tenant) => Redirect::to(&format!("/tenants/{tenant}")),
        None => Redirect::to("/operators"),
    }
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A page, or the fragment of one.
fn render(template: &impl Template) -> Result<Html<String>, PageError> {
    template.render().map(Html).map_err(|error| {
        tracing::error!(%error, "A page cannot be rendered: {error}");
        PageError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            detail: "this page cannot be shown; see the log".to_owned(),
        }
    })
}

/// An error, as a page.
#[derive(Debug)]
struct PageError {
    status: StatusCode,
    detail: String,
}

impl PageError {
    fn forbidden(detail: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            detail: detail.to_owned(),
        }
    }

    fn bad(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            detail: detail.into(),
        }
    }
}

impl<E: Into<Problem>> From<E> for PageError {
    fn from(error: E) -> Self {
        let problem: Problem = error.into();
        Self {
            status: problem.status(),
            detail: problem.detail().to_owned(),
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    title: &'static str,
    detail: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let page = ProblemPage {
            title: self.status.canonical_reason().unwrap_or("Error"),
            detail: self.detail,
        };
        let html = page.render().unwrap_or_else(|_| page.title.to_owned());
        come_back((self.status, Html(html)))
    }
}
