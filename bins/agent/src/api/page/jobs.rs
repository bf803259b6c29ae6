//! The jobs: when they fall due, how they do, and what an operator can tell them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use askama::Template;
use axum::{
    extract::{Form, Path, State, rejection::FormRejection},
    response::{Html, Redirect},
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    IdempotencyKey, SchedulerStatus, TriggerRequest,
    ports::{Activity, BatchFilter, Page, StoreError},
};
use punctual_domain::{Batch, InvalidId, JobConfig, JobId, TenantId, Work};
use serde::Deserialize;

use super::{App, PageError, Visitor, render};
use crate::api::{audit::By, once::Once, problem::Problem};

/// Batches shown of a job, and slots.
const SHOWN: u32 = 20;

struct JobRow {
    job_id: JobId,
    schedule: String,
    tenants: Option<usize>,
    next: Option<DateTime<Utc>>,
    paused: Option<String>,
    trouble: Option<String>,
    activity: Option<Activity>,
}

impl JobRow {
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
    jobs: Vec<JobRow>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    visitor: Visitor,
    job: JobRow,
    slots: Vec<(String, usize, Option<DateTime<Utc>>)>,
    batches: Vec<Batch>,
    key: IdempotencyKey,
}

pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Html<String>, PageError> {
    let facts = app.facts().await?;
    let config = app.operator.jobs.current();
    let jobs = config.jobs.iter().map(|job| JobRow::of(job, &facts));
    let jobs = jobs.collect();
    render(&JobsPage { visitor, jobs })
}

pub(super) async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path(job_id): Path<String>,
) -> Result<Html<String>, PageError> {
    let job = app.operator.job(&JobId::new(&job_id)?)?;
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
                limit: SHOWN,
            },
        )
        .await?;
    let facts = app.facts().await?;
    let known = facts.status.jobs.get(&job.job_id);
    let slots = known.map(|known| known.mirror.largest_slots(SHOWN as usize).0);
    let slots = slots.into_iter().flatten();
    render(&JobPage {
        visitor,
        job: JobRow::of(&job, &facts),
        slots: slots
            .map(|slot| (slot.slot.to_string(), slot.tenants, slot.next))
            .collect(),
        batches,
        key: IdempotencyKey::random(),
    })
}

#[derive(Deserialize)]
pub(super) struct Told {
    action: String,
    tenants: Option<String>,
    allow_unknown: Option<String>,
    /// Drawn when the page was rendered: pressing the button twice is one run.
    key: Option<String>,
}

pub(super) async fn act(
    State(app): State<App>,
    _visitor: Visitor,
    By(actor): By,
    Path(job_id): Path<String>,
    form: Result<Form<Told>, FormRejection>,
) -> Result<Redirect, PageError> {
    let Form(Told {
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
                tenants: named(&tenants.unwrap_or_default())?,
                all: false,
                allow_unknown: allow_unknown.is_some(),
            };
            let Once(key) = Once::of_form(key)?;
            let triggered = app
                .operator
                .trigger(&actor, key.as_ref(), &job_id, &request)
                .await?;
            let batch = triggered.batch_id;
            return Ok(Redirect::to(&format!("/batches/{batch}")));
        }
        _ => return Err(Problem::bad_request("a job is paused, resumed or triggered").into()),
    }
    Ok(Redirect::to(&format!("/jobs/{job_id}")))
}

/// The tenants that somebody wrote into a field; `None`: it is blank, which means all.
pub(super) fn named(tenants: &str) -> Result<Option<BTreeSet<TenantId>>, InvalidId> {
    if tenants.trim().is_empty() {
        return Ok(None);
    }
    let ids = tenants.split([',', '\n', ' ', '\r']);
    let ids: Result<_, _> = ids.filter(|id| !id.is_empty()).map(TenantId::new).collect();
    ids.map(Some)
}

/// What rows are made of, read once for all of them.
struct Facts {
    now: DateTime<Utc>,
    activity: Vec<Activity>,
    paused: BTreeMap<JobId, String>,
    status: Arc<SchedulerStatus>,
}

impl App {
    async fn facts(&self) -> Result<Facts, StoreError> {
        let now = self.operator.clock.now();
        Ok(Facts {
            now,
            activity: self
                .operator
                .operations
                .activity(now - TimeDelta::days(1))
                .await?,
            paused: self.operator.queue.paused().await?,
            status: self.operator.status.get(),
        })
    }
}

impl JobRow {
    fn of(job: &JobConfig, facts: &Facts) -> Self {
        let known = facts.status.jobs.get(&job.job_id);
        let (schedule, next) = match &job.work {
            Work::Fixed { schedule, .. } => (schedule.to_string(), schedule.next_after(facts.now)),
            Work::Preferences { feature_type, .. } => (
                format!("as each tenant chose for {feature_type}"),
                known.and_then(|known| known.next_due),
            ),
        };
        let mut activity = facts.activity.iter();
        Self {
            job_id: job.job_id.clone(),
            schedule,
            tenants: known.map(|known| known.tenants),
            next,
            paused: facts.paused.get(&job.job_id).cloned(),
            trouble: known.and_then(|known| known.trouble.clone()),
            activity: activity.find(|done| done.job_id == job.job_id).cloned(),
        }
    }
}
