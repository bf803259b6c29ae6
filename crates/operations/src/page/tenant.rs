//! One tenant: what is in effect and why, what runs next, and what has run.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form, Json,
    extract::{
        Path, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderMap, header},
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, NaiveDate, Utc};
use punctual_application::{
    EffectivePreference, OperatorError,
    ports::{StoredResult, TenantRuns},
};
use punctual_domain::{JobConfig, OrganizationId, Origin, TenantId, Work, Zone};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Administrator, App, Live, Pager, PagerQuery, Visitor,
    answer::{Done, What},
    confirm::Confirm,
    render, render_wrong, utc,
};
use crate::{audit::RequestActor, problem::Problem};

const MAX_NEXT_RUNS: usize = 5;
const RUNS_PER_PAGE: u32 = 15;
/// With more jobs that the tenant has set up, what each of them has in effect is shown on request.
const MAX_OPEN_JOBS: usize = 3;

#[derive(Template)]
#[template(path = "tenant.html")]
struct TenantPage {
    visitor: Visitor,
    tenant: TenantId,
    date: Option<NaiveDate>,
    /// The date as it was put in, and what is wrong with it.
    typed: String,
    error: Option<String>,
    jobs: Vec<TenantJob>,
    open: bool,
    /// Address of the Config Database's pages.
    config_database: Option<Arc<str>>,
    runs: Vec<StoredResult>,
    /// The last date of the runs of which results have been removed.
    removed_to: Option<NaiveDate>,
    pager: Pager,
}

/// A field of a preference, its value, and where that came from.
type Field = (&'static str, String, String);

/// Preference and runs of a tenant in one job.
struct TenantJob {
    job_id: String,
    fields: Vec<Field>,
    next: Vec<String>,
    /// Whether the job is paused, so that its next runs are skipped.
    paused: bool,
    explanation: String,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    visitor: Visitor,
}

#[derive(Deserialize)]
pub(super) struct SearchQuery {
    id: Option<String>,
}

/// Leads to the tenant that is asked for.
pub(super) async fn search(
    visitor: Visitor,
    Query(SearchQuery { id }): Query<SearchQuery>,
) -> Result<Response, Problem> {
    match id.as_deref().map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => Ok(Redirect::to(&format!("/tenants/{}", TenantId::new(id)?)).into_response()),
        None => Ok(render(&TenantsPage { visitor })?.into_response()),
    }
}

#[derive(Deserialize)]
pub(super) struct TenantQuery {
    #[serde(default)]
    date: String,
}

pub(super) async fn one(
    State(app): State<App>,
    Live(visitor): Live,
    Path(tenant): Path<String>,
    query: Result<Query<TenantQuery>, QueryRejection>,
    headers: HeaderMap,
    asked: PagerQuery,
) -> Result<Response, Problem> {
    let Query(TenantQuery { date: typed }) = query?;
    let tenant = TenantId::new(&tenant)?;
    let (date, error) = match typed.trim() {
        "" => (None, None),
        text => {
            let invalid = |_| format!("invalid date `{text}`; use a date such as 2026-03-29");
            let date = text.parse::<NaiveDate>().map_err(invalid);
            (date.as_ref().ok().copied(), date.err())
        }
    };
    let filter = TenantRuns {
        item_id: (&tenant).into(),
        job_id: None,
        since: None,
    };
    let page = asked.page(RUNS_PER_PAGE);
    let (runs, next) = app.operator.reader.tenant_runs(&filter, &page).await?;
    let paused = app.operator.queue.paused().await?;
    let (mut jobs, mut removed_to) = (Vec::new(), None);
    for job in &app.operator.jobs.current().jobs {
        removed_to = removed_to.max(app.operator.retention.removed_to(&job.job_id).await?);
        if matches!(job.work, Work::Preferences { .. }) {
            let paused = paused.contains_key(&job.job_id);
            jobs.push(TenantJob::of(&app, job, &tenant, date, paused).await?);
        }
    }
    let wrong = error.is_some();
    // The field says what is wrong; the runs below are kept up to date.
    let visitor = if wrong {
        visitor.on(format!("/tenants/{tenant}"))
    } else {
        visitor
    };
    let page = TenantPage {
        visitor,
        tenant,
        date,
        error,
        open: jobs.iter().filter(|job| !job.fields.is_empty()).count() <= MAX_OPEN_JOBS,
        config_database: app.config_database_for(&headers),
        jobs,
        runs,
        removed_to,
        pager: Pager::new(&[("date", &typed)], &asked, next.as_deref()),
        typed,
    };
    render_wrong(&page, wrong)
}

#[derive(Deserialize)]
pub(super) struct EraseForm {
    /// Set once it has been asked.
    #[serde(default)]
    confirmed: String,
}

/// Everything that is held of the tenant, as a file.
pub(super) async fn export(
    State(app): State<App>,
    _: Administrator,
    RequestActor(actor): RequestActor,
    Path(tenant): Path<String>,
) -> Result<Response, Problem> {
    let tenant = TenantId::new(&tenant)?;
    let export = app.operator.export_tenant(&actor, &tenant).await?;
    // Ids have no characters that need escaping there.
    let file = format!("attachment; filename=\"{tenant}.json\"");
    Ok(([(header::CONTENT_DISPOSITION, file)], Json(export)).into_response())
}

/// Asks, and erases what is held of the tenant.
pub(super) async fn erase(
    State(app): State<App>,
    Administrator(visitor): Administrator,
    RequestActor(actor): RequestActor,
    Path(tenant): Path<String>,
    form: Result<Form<EraseForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(EraseForm { confirmed }) = form?;
    let tenant = TenantId::new(&tenant)?;
    if confirmed.is_empty() {
        let question = format!("Erase everything that is held of tenant {tenant}?");
        let ask = Confirm::new(visitor, question, format!("Erase {tenant}"))
            .note(
                "Runs with their results, dead letters, what is queued, runs or waits, and the last known preferences are \
                 erased. This cannot be undone.",
            )
            .note(
                "Erase the tenant in the Config Database first, or the preferences are read again. What was delivered is with \
                 those who received it.",
            )
            .sends("post", format!("/tenants/{tenant}/erase"))
            .field("confirmed", "yes")
            .back(format!("/tenants/{tenant}"));
        return Ok(ask.page()?.into_response());
    }
    let erased = app.operator.erase_tenant(&actor, &tenant);
    let erased = erased.await?;
    let done = Done::new(What::Erased)
        .count(erased.runs as usize)
        .left(erased.items as usize)
        .batches(erased.dead_letters as usize);
    // Not back to the page of the tenant: its address has the id.
    Ok(done.then("/tenants"))
}

impl TenantJob {
    async fn of(
        app: &App,
        job: &JobConfig,
        tenant: &TenantId,
        date: Option<NaiveDate>,
        paused: bool,
    ) -> Result<Self, Problem> {
        let explanation = match app.operator.explain(tenant, &job.job_id, date).await {
            Ok(explained) => explained.explanation,
            Err(OperatorError::OtherShard(elsewhere)) => elsewhere,
            Err(error) => return Err(error.into()),
        };
        let effective = app
            .operator
            .effective_preference(job, tenant, MAX_NEXT_RUNS);
        let (fields, next) = effective.await.map_or_else(Default::default, |effective| {
            let EffectivePreference {
                fields,
                organization,
                zone,
                next,
            } = effective;
            let from = |origin| words(origin, organization.as_ref());
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value, origin)| (name, plain(&value), from(origin)));
            let next = next.into_iter().map(|at| run(&zone, at));
            (fields.collect(), next.collect())
        });
        Ok(Self {
            job_id: job.job_id.to_string(),
            fields,
            next,
            paused,
            explanation,
        })
    }
}

/// When a run falls due, in the tenant's zone and in UTC.
fn run(zone: &Zone, at: DateTime<Utc>) -> String {
    let local = zone.local(at);
    let local = local.map_or_else(String::new, |at| {
        at.format("%A, %-d %B %Y, %H:%M").to_string()
    });
    format!("{local} in {zone} ({})", utc(&at))
}

fn words(origin: Origin, organization: Option<&OrganizationId>) -> String {
    let words = match origin {
        Origin::Tenant => "the tenant",
        Origin::Organization => {
            return organization.map_or_else(
                || "the organization".to_owned(),
                |id| format!("organization {id}"),
            );
        }
        Origin::JobDefault => "the job's default",
        Origin::BuiltIn => "built in",
    };
    words.to_owned()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
