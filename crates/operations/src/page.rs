//! The operations page: what runs, what is wrong, and what an operator can do about it. Rendered here, with assets of
//! its own and nothing from elsewhere; the script only keeps it up to date.
//!
//! # Adding a page
//!
//! 1. A template in `templates/` that extends `layout.html`, and a struct that derives `Template` in the module of its subject
//!    here, or in a new one. Its fields are what the page shows: types of [`model`](crate::model) or of the use case.
//! 2. A function that asks [`Operator`](punctual_application::Operator), never a handler of the API, and ends with [`render`].
//!    It takes a [`Visitor`], so the page asks for the key. Errors leave with `?`: a [`Problem`] becomes a page, too.
//! 3. A line in [`routes`], one in `templates/nav.html` if it belongs into every page's head, and a sentence in
//!    `docs/architecture/batch_processing_architecture.md`.
//!
//! A form posts to the address of its page, which answers with a redirect; every change goes through the operator, which
//! writes the audit log. Addresses begin with `punctual_web::page::root`, since the router may be nested.

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
    extract::{Query, State, rejection::QueryRejection},
    middleware,
    response::Html,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use punctual_application::{Replicas, ports::AuditEntry};
use punctual_web::{
    Site,
    format::utc,
    page::{asset, assets},
};

use self::visitor::Visitor;
pub(super) use self::{overview::LiveSection, visitor::SignedOut};
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
        .merge(assets())
        .route(
            "/assets/operations.css",
            get(|| asset("text/css", include_str!("../assets/operations.css"))),
        )
        .route(
            "/assets/page.js",
            get(|| asset("text/javascript", include_str!("../assets/page.js"))),
        )
        .layer(middleware::from_fn(|request, next| {
            SITE.answer(request, next)
        }))
}

/// How the pages look beside the common layout. It also makes a page of a [`Problem`].
static SITE: Site = Site {
    name: "Punctual operations",
    styles: &["/assets/operations.css"],
    shows_version: true,
};

/// A page, or the fragment of one.
fn render(template: &impl Template) -> Result<Html<String>, Problem> {
    Ok(SITE.render(template)?)
}

#[expect(clippy::ref_option, reason = "templates lend a field")]
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
) -> Result<Html<String>, Problem> {
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
    replicas: Replicas,
}

async fn replicas(State(app): State<App>, visitor: Visitor) -> Result<Html<String>, Problem> {
    render(&ReplicasPage {
        visitor,
        replicas: app.operator.replicas().await?,
    })
}
