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
//! A form posts to the address of its page, and needs the role `operate`: a page does not show what its [`Visitor`] may not do
//! ([`Visitor::may_operate`]). What the API asks the role `administer` for takes an [`Administrator`] instead. A field `reason` of any
//! form goes into the audit log. What it did, or why it did nothing, is said on the page that it redirects to ([`answer::Done`]); a slip is said at its field, on the same page with what was put in ([`Visitor::refused`]); what affects
//! much asks first, with how much ([`confirm::Confirm`]). Every change goes through the operator, which writes the audit log.
//! Filters stand in the address.
//!
//! A part of a page with an `id` and `data-live` is kept up to date by the script, which reads the page again when something has
//! happened, and every half minute, and patches what differs; rows have a `data-key` that no other row has. The function of such
//! a page takes a [`Live`] visitor. A list without rows says what that means, and what to do next ([`punctual_web::Empty`]);
//! what only works with the script is in the page, disabled, so that nothing moves when the script begins. Addresses begin with
//! `punctual_web::page::root`, since the router may be nested; those of redirects do not, as [`Site::answer`] adds it.

mod alerts;
mod answer;
mod audit;
mod backfill;
mod batches;
mod confirm;
mod dead_letters;
mod deliveries;
mod jobs;
mod live;
mod oidc;
mod overview;
mod pager;
mod preview;
mod quarantine;
mod restore;
mod search;
mod tenant;
mod trends;
mod visitor;
mod waiting;

use std::{future::ready, sync::Arc};

use self::pager::{Pager, PagerQuery};
use self::visitor::{Administrator, Live, Visitor};
pub(super) use self::{live::Snapshot, overview::LiveSection, visitor::SignedOut};
use super::{App, audit::reason_of_form, model::Alerts, problem::Problem};
use askama::Template;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, SecondsFormat, Utc};
use punctual_application::{
    JobRetention, Replicas, RetentionReport, amount, caller, size_in_words,
};
use punctual_domain::{ItemStatus, JobId};
use punctual_web::{
    PageWords, Site,
    format::{escape, time, utc},
    page::{asset, assets},
};

/// Rows of a list on one page: on a phone, a card each.
const ROWS_PER_PAGE: u32 = 20;
/// Characters of an error that are shown at once; the rest on request.
const BRIEF: usize = 160;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(overview::show))
        .route("/live", get(live::overview))
        .route("/changes", get(live::changes))
        .route("/findings", post(overview::acknowledge))
        .route("/search", get(search::show))
        .route("/sign-in", get(visitor::form).post(visitor::sign_in))
        .route("/sign-in/oidc", get(oidc::end))
        .route("/sign-in/oidc/begin", get(oidc::begin))
        .route("/sign-out", post(visitor::sign_out))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job_id}", get(jobs::one).post(jobs::act))
        .route(
            "/jobs/{job_id}/backfill",
            get(backfill::preview).post(backfill::run),
        )
        .route(
            "/jobs/{job_id}/preview",
            get(preview::form).post(preview::show),
        )
        .route("/batches", get(batches::list))
        .route(
            "/batches/{batch_id}",
            get(batches::one).post(batches::cancel),
        )
        .route("/tenants", get(tenant::search))
        .route("/tenants/{tenant_id}", get(tenant::one))
        .route("/tenants/{tenant_id}/erase", post(tenant::erase))
        .route("/tenants/{tenant_id}/export", get(tenant::export))
        .route(
            "/dead-letters",
            get(dead_letters::list).post(dead_letters::act),
        )
        .route("/deliveries", get(deliveries::list).post(deliveries::again))
        .route("/quarantine", get(quarantine::list))
        .route("/waiting", get(waiting::list))
        .route("/restore", get(restore::show).post(restore::settle))
        .route("/replicas", get(replicas).post(alerts::test))
        .route("/audit-log", get(audit::list))
        .layer(middleware::from_fn(reason_of_form))
        .layer(middleware::from_fn(answer::say_once))
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

/// Middleware: [`Site::for_browsers`]. Metrics are for programs.
pub(super) async fn for_browsers(request: Request, next: Next) -> Response {
    if request.uri().path() == "/metrics" {
        return next.run(request).await;
    }
    SITE.for_browsers(|_, _| ready(PageWords::english()), request, next)
        .await
}

/// A page, or the fragment of one.
fn render(template: &impl Template) -> Result<Html<String>, Problem> {
    Ok(SITE.render(PageWords::english(), template)?)
}

/// A page with the status of what was wrong with a form.
fn render_wrong(template: &impl Template, wrong: bool) -> Result<Response, Problem> {
    let status = if wrong {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    Ok((status, render(template)?).into_response())
}

/// An instant as HTML, or a dash.
#[expect(clippy::ref_option, reason = "templates lend a field")]
fn time_or_dash(instant: &Option<DateTime<Utc>>) -> String {
    instant.as_ref().map_or_else(|| "–".to_owned(), time)
}

/// An instant as an address has it.
fn since(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// [`amount`] of what a list holds.
fn count_of(count: usize, one: &str) -> String {
    amount(count as u64, one)
}

/// An error as HTML: a long one is cut, and shown as a whole on request.
fn brief(text: &str) -> String {
    cut(text, "<code>", "</code>")
}

/// A sentence as HTML, with what stands between backticks as code.
fn with_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    parts.map(part).collect()
}

/// A sentence as HTML, which may hold an error: a long one is cut, and shown as a whole on request.
fn brief_text(text: &str) -> String {
    cut(text, "", "")
}

fn cut(text: &str, open: &str, close: &str) -> String {
    match text.char_indices().nth(BRIEF) {
        None => format!("{open}{}{close}", escape(text)),
        Some((end, _)) => format!(
            "<details><summary>{open}{}…{close}</summary><pre>{}</pre>{}</details>",
            escape(&text[..end]),
            escape(text),
            copy_button("text")
        ),
    }
}

/// A button that copies the text of the element before it, as HTML. Without scripts it is not shown.
fn copy_button(what: &str) -> String {
    format!(
        " <button type=\"button\" class=\"quiet copy scripted\" data-copy>Copy<span class=\"visually-hidden\"> {}</span></button>",
        escape(what)
    )
}

/// The class of the badge of a result.
fn status_class(status: ItemStatus) -> &'static str {
    match status {
        ItemStatus::Succeeded => "on",
        ItemStatus::Failed => "wrong",
        ItemStatus::Skipped => "notice",
        ItemStatus::NothingToDo | ItemStatus::Running | ItemStatus::Waiting => "",
    }
}

/// Whether a filter of results is of this status.
fn is_status(filter: Option<ItemStatus>, word: &str) -> bool {
    filter.is_some_and(|status| status.as_str() == word)
}

/// An entry of a list to choose from.
struct Choice {
    value: String,
    selected: bool,
}

impl Choice {
    fn among<T: Into<String>>(values: impl IntoIterator<Item = T>, chosen: &str) -> Vec<Self> {
        let choice = |value: T| {
            let value = value.into();
            let selected = value == chosen;
            Self { value, selected }
        };
        values.into_iter().map(choice).collect()
    }
}

impl App {
    /// The jobs to choose from; also one that is asked for and does not exist any more.
    fn job_choices(&self, chosen: &str) -> Vec<Choice> {
        let jobs = self.operator.jobs.current();
        let mut ids: Vec<String> = jobs.jobs.iter().map(|job| job.job_id.to_string()).collect();
        if !chosen.is_empty() && !ids.iter().any(|id| id == chosen) {
            ids.push(chosen.to_owned());
        }
        Choice::among(ids, chosen)
    }

    /// Address of the Config Database's pages, where a browser that sends these headers reaches it.
    fn config_database_for(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let address = self.config_database.clone();
        address.filter(|address| crate::is_reachable(address, headers))
    }
}

/// The job of a filter; an empty field means all.
fn job_of(job: &str) -> Result<Option<JobId>, Problem> {
    let job = job.trim();
    Ok((!job.is_empty()).then(|| JobId::new(job)).transpose()?)
}

#[derive(Template)]
#[template(path = "replicas.html")]
struct ReplicasPage {
    visitor: Visitor,
    replicas: Replicas,
    /// `None`: an open page is read again, which keeps what it shows.
    retention: Option<RetentionReport>,
    alerts: Alerts,
}

/// What of a job would be removed now.
fn removable(job: &JobRetention) -> String {
    let rows: u64 = job.removable.iter().map(|one| one.rows).sum();
    let bytes: u64 = job.removable.iter().map(|one| one.bytes).sum();
    match rows {
        0 => "–".to_owned(),
        rows => format!("{}, about {}", amount(rows, "row"), size_in_words(bytes)),
    }
}

async fn replicas(
    State(app): State<App>,
    Live(visitor): Live,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    // All that is old is counted for it.
    let retention = if answer::is_read_again(&headers) {
        None
    } else {
        Some(app.operator.retention().await?)
    };
    render(&ReplicasPage {
        visitor,
        replicas: app.operator.replicas().await?,
        retention,
        alerts: app.alerts(&alerts::NEWEST).await?,
    })
}

#[cfg(test)]
mod tests;
