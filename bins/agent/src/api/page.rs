//! The operations page: what runs, what is wrong, and what an operator can do about it. Rendered here, with assets of
//! its own and nothing from elsewhere; the script only keeps it up to date.

mod backfill;
mod batches;
mod dead_letters;
mod jobs;
mod overview;
mod tenant;
mod visitor;

use askama::Template;
use axum::{
    Router,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use punctual_application::{
    OperatorError,
    ports::{AuditEntry, StoreError, Working},
};
use punctual_config_database::pages::{STYLE, asset, with_security_headers};
use punctual_domain::InvalidId;

pub(super) use self::visitor::SignedOut;
use self::visitor::Visitor;
use super::{App, PageQuery, problem::Problem};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(overview::show))
        .route("/live", get(overview::live))
        .route("/sign-in", get(visitor::form).post(visitor::sign_in))
        .route("/sign-out", post(visitor::sign_out))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job_id}", get(jobs::one).post(jobs::act))
        .route(
            "/jobs/{job_id}/backfill",
            get(backfill::preview).post(backfill::run),
        )
        .route("/batches", get(batches::list))
        .route(
            "/batches/{batch_id}",
            get(batches::one).post(batches::cancel),
        )
        .route("/tenants", get(tenant::search))
        .route("/tenants/{tenant_id}", get(tenant::one))
        .route(
            "/dead-letters",
            get(dead_letters::list).post(dead_letters::act),
        )
        .route("/quarantine", get(dead_letters::quarantine))
        .route("/replicas", get(replicas))
        .route("/audit-log", get(audit_log))
        .route("/assets/style.css", get(|| asset("text/css", STYLE)))
        .route(
            "/assets/operations.css",
            get(|| asset("text/css", include_str!("../../assets/operations.css"))),
        )
        .route(
            "/assets/page.js",
            get(|| asset("text/javascript", include_str!("../../assets/page.js"))),
        )
        .layer(middleware::from_fn(|request, next| {
            with_security_headers(POLICY, request, next)
        }))
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";

fn render(template: &impl Template) -> Result<Html<String>, PageError> {
    template.render().map(Html).map_err(|error| {
        tracing::error!(%error, "A page cannot be rendered: {error}");
        PageError(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this page cannot be shown; see the log".to_owned(),
        )
    })
}

/// An error, as a page.
#[derive(Debug)]
struct PageError(StatusCode, String);

impl From<Problem> for PageError {
    fn from(problem: Problem) -> Self {
        Self(problem.status(), problem.detail().to_owned())
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl From<OperatorError> for PageError {
    fn from(error: OperatorError) -> Self {
        Problem::from(error).into()
    }
}

impl From<InvalidId> for PageError {
    fn from(error: InvalidId) -> Self {
        Problem::from(error).into()
    }
}

impl From<QueryRejection> for PageError {
    fn from(error: QueryRejection) -> Self {
        Problem::bad_request(error.body_text()).into()
    }
}

impl From<FormRejection> for PageError {
    fn from(error: FormRejection) -> Self {
        Problem::bad_request(error.body_text()).into()
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
        let Self(status, detail) = self;
        let title = status.canonical_reason().unwrap_or("Error");
        let page = ProblemPage { title, detail };
        let html = page.render().unwrap_or_else(|_| title.to_owned());
        let mut response = (status, Html(html)).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

/// An instant as operators compare it with logs.
fn utc(instant: &DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn utc_or_dash(instant: &Option<DateTime<Utc>>) -> String {
    instant.as_ref().map_or_else(|| "–".to_owned(), utc)
}

#[derive(Template)]
#[template(path = "audit_log.html")]
struct AuditLogPage {
    visitor: Visitor,
    entries: Vec<AuditEntry>,
    next: Option<String>,
}

async fn audit_log(
    State(app): State<App>,
    visitor: Visitor,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Html<String>, PageError> {
    let Query(page) = query?;
    let (entries, next) = app.operator.operations.audit_log(&page.into()).await?;
    render(&AuditLogPage {
        visitor,
        entries,
        next,
    })
}

#[derive(Template)]
#[template(path = "replicas.html")]
struct ReplicasPage {
    visitor: Visitor,
    leader: Option<(String, DateTime<Utc>)>,
    working: Vec<Working>,
    now: DateTime<Utc>,
}

async fn replicas(State(app): State<App>, visitor: Visitor) -> Result<Html<String>, PageError> {
    render(&ReplicasPage {
        visitor,
        leader: app.operator.operations.leader().await?,
        working: app.operator.operations.working().await?,
        now: app.operator.clock.now(),
    })
}
