//! One tenant: what is in effect and why, what runs next, and what has run.

use askama::Template;
use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::{NaiveDate, TimeDelta};
use punctual_application::ports::{Clock, Page, StoredResult, SystemClock, TenantRuns};
use punctual_domain::{
    FieldErrors, JobConfig, MergedPreference, Origin, Preference, TenantId, Work,
};
use serde::Deserialize;
use serde_json::Value;

use super::{App, PageError, Visitor, render, utc};

const NEXT_RUNS: usize = 5;
const RUNS: u32 = 25;

#[derive(Template)]
#[template(path = "tenant.html")]
struct TenantPage {
    visitor: Visitor,
    tenant: TenantId,
    date: Option<NaiveDate>,
    jobs: Vec<InJob>,
    runs: Vec<StoredResult>,
    next: Option<String>,
}

/// What a tenant is to one job.
struct InJob {
    job_id: String,
    fields: Vec<(&'static str, String, &'static str)>,
    next: Vec<String>,
    explanation: String,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    visitor: Visitor,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    id: Option<String>,
}

/// Leads to the tenant that is asked for.
pub(super) async fn search(
    visitor: Visitor,
    Query(Wanted { id }): Query<Wanted>,
) -> Result<Response, PageError> {
    match id.as_deref().map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => Ok(Redirect::to(&format!("/tenants/{}", TenantId::new(id)?)).into_response()),
        None => Ok(render(&TenantsPage { visitor })?.into_response()),
    }
}

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    date: String,
    cursor: Option<String>,
}

pub(super) async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path(tenant): Path<String>,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Html<String>, PageError> {
    let Query(Which { date, cursor }) = query?;
    let tenant = TenantId::new(&tenant)?;
    let date = date.parse::<NaiveDate>().ok();
    let filter = TenantRuns {
        tenant_id: tenant.clone(),
        job_id: None,
    };
    let (runs, next) = app
        .reader
        .tenant_runs(
            &filter,
            &Page {
                cursor,
                limit: RUNS,
            },
        )
        .await?;
    let mut jobs = Vec::new();
    for job in &app.jobs.current().jobs {
        if let Work::Preferences { defaults, .. } = &job.work {
            jobs.push(app.in_job(job, defaults, &tenant, date).await?);
        }
    }
    render(&TenantPage {
        visitor,
        tenant,
        date,
        jobs,
        runs,
        next,
    })
}

impl App {
    async fn in_job(
        &self,
        job: &JobConfig,
        defaults: &Preference,
        tenant: &TenantId,
        date: Option<NaiveDate>,
    ) -> Result<InJob, PageError> {
        let explanation = self.explain(tenant, &job.job_id, date).await?;
        let explanation = explanation["explanation"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let (fields, merged) = match self.in_effect(job, defaults, tenant).await {
            Some(Ok((fields, merged))) => (fields, Some(merged)),
            Some(Err(_)) | None => (Vec::new(), None),
        };
        let status = self.status.get();
        let spread = status
            .jobs
            .get(&job.job_id)
            .map(|known| known.mirror.read(|mirror| mirror.spread_of(tenant)));
        let spread = spread.unwrap_or_else(TimeDelta::zero);
        let now = SystemClock.now();
        let next = merged.filter(|merged| merged.enabled).map(|merged| {
            let slot = merged.slot;
            let first = slot.next_after(now - spread);
            std::iter::successors(first, |last| slot.next_after(*last))
                .take(NEXT_RUNS)
                .map(|instant| {
                    let at = instant + spread;
                    let local = slot.zone.local(at);
                    let local = local.map_or_else(String::new, |at| {
                        at.format("%A, %-d %B %Y, %H:%M").to_string()
                    });
                    format!("{local} in {} ({})", slot.zone, utc(&at))
                })
                .collect()
        });
        Ok(InJob {
            job_id: job.job_id.to_string(),
            fields,
            next: next.unwrap_or_default(),
            explanation,
        })
    }

    /// The tenant's preference as the job takes it; `None`: there is none, or it cannot be read now.
    async fn in_effect(
        &self,
        job: &JobConfig,
        defaults: &Preference,
        tenant: &TenantId,
    ) -> Option<Result<(Vec<(&'static str, String, &'static str)>, MergedPreference), FieldErrors>>
    {
        let Work::Preferences { feature_type, .. } = &job.work else {
            return None;
        };
        let one = std::slice::from_ref(tenant);
        let stored = self.preferences.preferences(feature_type, one).await.ok()?;
        let stored = Preference::parse(&stored.get(tenant)?.preference);
        Some(stored.and_then(|stored| {
            let merged = MergedPreference::merge(&stored, defaults, &self.zone)?;
            let fields = merged.with_origins(&stored, defaults).into_iter();
            let fields = fields.map(|(name, value, origin)| (name, plain(&value), words(origin)));
            Ok((fields.collect(), merged))
        }))
    }
}

fn words(origin: Origin) -> &'static str {
    match origin {
        Origin::Tenant => "the tenant",
        Origin::JobDefault => "the job's default",
        Origin::BuiltIn => "built in",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
