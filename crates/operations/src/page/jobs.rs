//! The jobs: when they fall due, how they do, and what an operator can tell them.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{Form, Path, State, rejection::FormRejection},
    response::{Html, Redirect},
};
use chrono::TimeDelta;
use punctual_application::{
    IdempotencyKey, JobView, SlotStatus, TriggerRequest,
    ports::{BatchFilter, JobActivity, Page, StoreError},
};
use punctual_domain::{Batch, InvalidId, JobId, TenantId};
use serde::Deserialize;

use super::{App, Visitor, render};
use crate::{audit::RequestActor, idempotency::IdempotencyHeader, problem::Problem};

/// Number of batches, and of slots, shown of a job.
const MAX_ROWS: usize = 20;

struct JobRow {
    job: JobView,
    activity: Option<JobActivity>,
}

impl JobRow {
    fn of(job: JobView, activity: &[JobActivity]) -> Self {
        let activity = activity.iter().find(|done| done.job_id == job.job_id);
        let activity = activity.cloned();
        Self { job, activity }
    }

    fn tenants(&self) -> Option<usize> {
        self.job.preferences().map(|follows| follows.tenants)
    }

    fn trouble(&self) -> Option<&str> {
        self.job.preferences()?.trouble.as_deref()
    }

    fn slots(&self) -> &[SlotStatus] {
        let all = self
            .job
            .preferences()
            .map(|follows| follows.slots.as_slice());
        let all = all.unwrap_or_default();
        &all[..all.len().min(MAX_ROWS)]
    }

    /// Of the items that ended in the last day, how many in a hundred succeeded.
    fn success_rate(&self) -> String {
        match &self.activity {
            Some(done) if done.items > 0 => {
                let ended = done.succeeded + done.failed;
                let rate = done.succeeded as f64 * 100.0 / ended.max(1) as f64;
                format!("{rate:.1} % of {ended}")
            }
            _ => "–".to_owned(),
        }
    }
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    visitor: Visitor,
    rows: Vec<JobRow>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    visitor: Visitor,
    row: JobRow,
    batches: Vec<Batch>,
    key: IdempotencyKey,
}

pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Html<String>, Problem> {
    let (jobs, activity) = (app.operator.jobs().await?, app.last_day().await?);
    let rows = jobs.into_iter().map(|job| JobRow::of(job, &activity));
    let rows = rows.collect();
    render(&JobsPage { visitor, rows })
}

pub(super) async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path(job_id): Path<String>,
) -> Result<Html<String>, Problem> {
    let job = app.operator.job_view(&JobId::new(&job_id)?).await?;
    let filter = BatchFilter {
        job_id: Some(job.job_id.clone()),
        status: None,
    };
    let (batches, _) = app
        .operator
        .reader
        .batches(
            &filter,
            &Page {
                cursor: None,
                limit: MAX_ROWS as u32,
            },
        )
        .await?;
    render(&JobPage {
        visitor,
        row: JobRow::of(job, &app.last_day().await?),
        batches,
        key: IdempotencyKey::random(),
    })
}

#[derive(Deserialize)]
pub(super) struct ActionForm {
    action: String,
    tenants: Option<String>,
    allow_unknown: Option<String>,
    /// Drawn when the page was rendered: pressing the button twice is one run.
    key: Option<String>,
}

pub(super) async fn act(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    form: Result<Form<ActionForm>, FormRejection>,
) -> Result<Redirect, Problem> {
    let Form(ActionForm {
        action,
        tenants,
        allow_unknown,
        key,
    }) = form?;
    let job_id = JobId::new(&job_id)?;
    match action.as_str() {
        "pause" => app.operator.pause(&actor, &job_id).await?,
        "resume" => app.operator.resume(&actor, &job_id).await?,
        "trigger" => {
            let request = TriggerRequest {
                tenants: parse_tenants(&tenants.unwrap_or_default())?,
                all: false,
                allow_unknown: allow_unknown.is_some(),
            };
            let IdempotencyHeader(key) = IdempotencyHeader::of_form(key)?;
            let triggered = app
                .operator
                .trigger(&actor, key.as_ref(), &job_id, &request)
                .await?;
            let batch = triggered.batch_id;
            return Ok(Redirect::to(&format!("/batches/{batch}")));
        }
        _ => {
            return Err(Problem::bad_request(
                "unknown action; a job can be paused, resumed or triggered",
            ));
        }
    }
    Ok(Redirect::to(&format!("/jobs/{job_id}")))
}

/// The tenants that somebody wrote into a field; `None`: it is blank, which means all.
pub(super) fn parse_tenants(tenants: &str) -> Result<Option<BTreeSet<TenantId>>, InvalidId> {
    if tenants.trim().is_empty() {
        return Ok(None);
    }
    let ids = tenants.split([',', '\n', ' ', '\r']);
    let ids: Result<_, _> = ids.filter(|id| !id.is_empty()).map(TenantId::new).collect();
    ids.map(Some)
}

impl App {
    /// How the jobs have done in the last day.
    async fn last_day(&self) -> Result<Vec<JobActivity>, StoreError> {
        let since = self.operator.clock.now() - TimeDelta::days(1);
        self.operator.operations.activity(since).await
    }
}
