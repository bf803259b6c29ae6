//! One tenant: what is in effect and why, what runs next, and what has run.

use askama::Template;
use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::NaiveDate;
use punctual_application::ports::{Page, StoredResult, TenantRuns};
use punctual_domain::{
    FeatureType, JobId, MergedPreference, Origin, Preference, Slot, TenantId, Work,
};
use serde::Deserialize;
use serde_json::Value;

use super::{App, Visitor, render, utc};
use crate::problem::Problem;

const MAX_NEXT_RUNS: usize = 5;
const RUNS_PER_PAGE: u32 = 25;

#[derive(Template)]
#[template(path = "tenant.html")]
struct TenantPage {
    visitor: Visitor,
    tenant: TenantId,
    date: Option<NaiveDate>,
    jobs: Vec<TenantJob>,
    runs: Vec<StoredResult>,
    next: Option<String>,
}

/// A field of a preference, its value, and where that came from.
type Field = (&'static str, String, &'static str);

/// Preference and runs of a tenant in one job.
struct TenantJob {
    job_id: String,
    fields: Vec<Field>,
    next: Vec<String>,
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
    cursor: Option<String>,
}

pub(super) async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path(tenant): Path<String>,
    query: Result<Query<TenantQuery>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(TenantQuery { date, cursor }) = query?;
    let tenant = TenantId::new(&tenant)?;
    let date = match date.as_str() {
        "" => None,
        date => Some(date.parse::<NaiveDate>().map_err(|_| {
            Problem::bad_request(format!(
                "invalid date `{date}`; use a date such as 2026-03-29"
            ))
        })?),
    };
    let filter = TenantRuns {
        item_id: (&tenant).into(),
        job_id: None,
    };
    let (runs, next) = app
        .operator
        .reader
        .tenant_runs(
            &filter,
            &Page {
                cursor,
                limit: RUNS_PER_PAGE,
            },
        )
        .await?;
    let mut jobs = Vec::new();
    for job in &app.operator.jobs.current().jobs {
        if let Work::Preferences {
            feature_type,
            defaults,
            ..
        } = &job.work
        {
            let preferences = (feature_type, defaults.as_ref());
            let tenant_job = app.tenant_job(&job.job_id, preferences, &tenant, date);
            jobs.push(tenant_job.await?);
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
    async fn tenant_job(
        &self,
        job_id: &JobId,
        preferences: (&FeatureType, &Preference),
        tenant: &TenantId,
        date: Option<NaiveDate>,
    ) -> Result<TenantJob, Problem> {
        let explained = self.operator.explain(tenant, job_id, date).await?;
        let mut tenant_job = TenantJob {
            job_id: job_id.to_string(),
            fields: Vec::new(),
            next: Vec::new(),
            explanation: explained.explanation,
        };
        if let Some((fields, merged)) = self.in_effect(preferences, tenant).await {
            tenant_job.fields = fields;
            if merged.enabled {
                tenant_job.next = self.next_runs(job_id, tenant, &merged.slot);
            }
        }
        Ok(tenant_job)
    }

    /// The tenant's preference as the job takes it; `None`: there is none that can be used or read now, as the
    /// explanation says.
    async fn in_effect(
        &self,
        (feature_type, defaults): (&FeatureType, &Preference),
        tenant: &TenantId,
    ) -> Option<(Vec<Field>, MergedPreference)> {
        let one = std::slice::from_ref(tenant);
        let stored = self
            .operator
            .preferences
            .preferences(feature_type, one)
            .await
            .ok()?;
        let stored = Preference::parse(&stored.get(tenant)?.preference).ok()?;
        let merged = MergedPreference::merge(&stored, defaults, &self.operator.zone).ok()?;
        let fields = merged.with_origins(&stored, defaults).into_iter();
        let fields = fields.map(|(name, value, origin)| (name, plain(&value), words(origin)));
        Some((fields.collect(), merged))
    }

    /// When the tenant falls due next in a job, in the tenant's zone and in UTC.
    fn next_runs(&self, job_id: &JobId, tenant: &TenantId, slot: &Slot) -> Vec<String> {
        let status = self.operator.status.get();
        let known = status.jobs.get(job_id);
        let spread = known.map(|known| known.mirror.read(|mirror| mirror.spread_of(tenant)));
        let spread = spread.unwrap_or_default();
        let first = slot.next_after(self.operator.clock.now() - spread);
        std::iter::successors(first, |last| slot.next_after(*last))
            .take(MAX_NEXT_RUNS)
            .map(|instant| {
                let at = instant + spread;
                let local = slot.zone.local(at);
                let local = local.map_or_else(String::new, |at| {
                    at.format("%A, %-d %B %Y, %H:%M").to_string()
                });
                format!("{local} in {} ({})", slot.zone, utc(&at))
            })
            .collect()
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
