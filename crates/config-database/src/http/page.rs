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
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tower_http::limit::RequestBodyLimitLayer;

use self::visitor::Visitor;
use super::{App, BODY_BYTES, IMPORT_BYTES, problem::Problem};

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
        .route(
            "/assets/style.css",
            get(|| asset("text/css", include_str!("../../assets/style.css"))),
        )
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
        .layer(middleware::from_fn(with_security_headers))
}

async fn start(visitor: Visitor) -> Redirect {
    match visitor.tenant() {
        Some(tenant) => Redirect::to(&format!("/tenants/{tenant}")),
        None => Redirect::to("/operators"),
    }
}

async fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, text).into_response()
}

async fn with_security_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What a page shows belongs to who is signed in.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

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
        (self.status, Html(html)).into_response()
    }
}
