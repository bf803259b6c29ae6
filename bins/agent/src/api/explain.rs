//! Why a tenant ran, will run, or did not.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::ports::{Clock, Page, SystemClock, TenantRuns};
use punctual_domain::{
    BatchStatus, Choice, Facts, FeatureType, Horizon, JobConfig, JobId, Occasion, Preference,
    TenantId, Work, explain,
};
use punctual_infrastructure::JobStatus;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{
    App,
    problem::{AnyProblem, Problem},
};

/// Batches that are not done and are looked through at most.
const BATCHES: u32 = 1_000;
/// Entries of the audit log that are looked through at most.
const ENTRIES: u32 = 1_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainQuery {
    /// In which job.
    #[param(value_type = String)]
    job_id: JobId,
    /// On which date, where the tenant is; today unless told.
    date: Option<NaiveDate>,
}

/// Why a tenant ran, will run, or did not, on a date; today without one.
#[utoipa::path(get, operation_id = "explain_tenant", path = "/tenants/{tenant_id}/explain", params(("tenant_id" = String, Path, description = "The tenant"), ExplainQuery), responses(
    (status = 200, body = Object, description = "A `verdict` with its facts, and an `explanation` in words"),
    AnyProblem
))]
pub(super) async fn tenant(
    State(app): State<App>,
    Path(tenant_id): Path<String>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ExplainQuery { job_id, date }) = query?;
    let tenant_id =
        TenantId::new(&tenant_id).map_err(|error| Problem::bad_request(error.to_string()))?;
    app.explain(&tenant_id, &job_id, date).await.map(Json)
}

impl App {
    /// Why a tenant ran, will run, or did not, on a date; today without one.
    pub(super) async fn explain(
        &self,
        tenant_id: &TenantId,
        job_id: &JobId,
        date: Option<NaiveDate>,
    ) -> Result<Value, Problem> {
        let job = self.job(job_id)?;
        let status = self.status.get();
        let known = status.jobs.get(job_id);
        let now = SystemClock.now();
        let choice = self.choice(&job, known, tenant_id).await;
        let occasion = choice.occasion(date, now);
        let runs = TenantRuns {
            tenant_id: tenant_id.clone(),
            job_id: Some(job_id.clone()),
        };
        let page = Page {
            cursor: None,
            limit: BATCHES,
        };
        let (runs, _) = self.reader.tenant_runs(&runs, &page).await?;
        let run = occasion.and_then(|occasion| {
            runs.iter()
                .find(|run| run.occurrence == occasion.occurrence)
        });
        let behind = match (occasion, run) {
            (Some(occasion), None) => self.behind(job_id, &choice, occasion).await?,
            _ => None,
        };
        let planned_until = match known {
            Some(job) => job
                .mirror
                .read(|mirror| mirror.horizon().map(Horizon::until)),
            None => status.planned_until,
        };
        let slot = match &choice {
            Choice::On { schedule, .. } => Some(schedule.to_string()),
            _ => None,
        };
        let verdict = explain(&Facts {
            choice,
            catch_up: job.catch_up,
            date,
            now,
            paused: self.queue.paused().await?.contains_key(job_id),
            paused_when_due: match occasion {
                Some(occasion) if occasion.due_at <= now => {
                    self.was_paused(job_id, occasion.due_at).await?
                }
                _ => false,
            },
            planned_until,
            run: run.map(|run| &run.result),
            behind,
        });
        let mut answer = json!(verdict);
        answer["tenant_id"] = json!(tenant_id);
        answer["job_id"] = json!(job_id);
        answer["slot"] = json!(slot);
        answer["occurrence"] = json!(occasion.map(|occasion| occasion.occurrence));
        answer["batch_id"] = json!(run.map(|run| run.batch_id));
        answer["explanation"] = json!(verdict.to_string());
        Ok(answer)
    }

    /// Whether an operator had paused a job at an instant.
    async fn was_paused(&self, job_id: &JobId, at: DateTime<Utc>) -> Result<bool, Problem> {
        let page = Page {
            cursor: None,
            limit: ENTRIES,
        };
        let (entries, _) = self.operations.audit_log(&page).await?;
        let last = entries.iter().find(|entry| {
            entry.at <= at
                && entry.subject == job_id.as_str()
                && ["pause", "resume"].contains(&entry.action.as_str())
        });
        Ok(last.is_some_and(|entry| entry.action == "pause"))
    }

    /// The job of that name.
    pub(super) fn job(&self, job_id: &JobId) -> Result<JobConfig, Problem> {
        let jobs = self.jobs.current();
        jobs.job(job_id).cloned().ok_or_else(|| {
            let names: Vec<_> = jobs.jobs.iter().map(|job| job.job_id.as_str()).collect();
            Problem::missing(format!(
                "there is no job `{job_id}`; the jobs are {}",
                names.join(", ")
            ))
        })
    }

    pub(super) async fn choice(
        &self,
        job: &JobConfig,
        known: Option<&JobStatus>,
        tenant: &TenantId,
    ) -> Choice {
        let (feature_type, defaults, known) = match (&job.work, known) {
            (
                Work::Preferences {
                    feature_type,
                    defaults,
                    ..
                },
                Some(known),
            ) => (feature_type, defaults, known),
            (Work::Preferences { .. }, None) => return Choice::Unknown,
            (Work::Fixed { schedule, .. }, _) => {
                return Choice::On {
                    schedule: schedule.clone(),
                    spread: TimeDelta::zero(),
                    schedule_since: None,
                };
            }
        };
        let in_mirror = known.mirror.read(|mirror| {
            if let Some(errors) = mirror.quarantine().get(tenant) {
                return Some(Choice::Invalid(errors.clone()));
            }
            Some(Choice::On {
                schedule: mirror.slot_of(tenant)?.into(),
                spread: mirror.spread_of(tenant),
                schedule_since: mirror.schedule_since(tenant)?,
            })
        });
        match in_mirror {
            Some(choice) => choice,
            None => self.off(feature_type, defaults, known, tenant).await,
        }
    }

    /// Why a tenant is not scheduled.
    async fn off(
        &self,
        feature_type: &FeatureType,
        defaults: &Preference,
        known: &JobStatus,
        tenant: &TenantId,
    ) -> Choice {
        if let Some(errors) = self
            .preferences
            .unreadable(feature_type)
            .tenants
            .get(tenant)
        {
            return Choice::Invalid(errors.clone());
        }
        let read = self
            .preferences
            .preferences(feature_type, std::slice::from_ref(tenant))
            .await;
        match read {
            Ok(stored) => stored.get(tenant).map_or(Choice::Missing, |record| {
                let spread = known.mirror.read(|mirror| mirror.spread_of(tenant));
                Choice::of(record, defaults, &self.zone, spread)
            }),
            Err(_) => Choice::Unknown,
        }
    }

    /// How many items stand before an occasion that is in the queue; `None` when it is in no batch that is not done.
    async fn behind(
        &self,
        job_id: &JobId,
        choice: &Choice,
        occasion: Occasion,
    ) -> Result<Option<u64>, Problem> {
        let Choice::On { schedule, .. } = choice else {
            return Ok(None);
        };
        let slot = schedule.to_string();
        let mut open: Vec<(DateTime<Utc>, bool, u64)> = Vec::new();
        for status in [BatchStatus::Queued, BatchStatus::Running] {
            let batches = self.newest(Some(status), BATCHES).await?;
            open.extend(batches.iter().map(|batch| {
                let is_it = batch.job_id == *job_id
                    && batch.slot == slot
                    && batch.scheduled_at == occasion.due_at;
                (batch.created_at, is_it, batch.total - batch.processed())
            }));
        }
        let own = open.iter().find(|(_, is_it, _)| *is_it);
        Ok(own.map(|(created_at, ..)| {
            let before = open
                .iter()
                .filter(|(other, is_it, _)| !is_it && other <= created_at);
            before.map(|(.., left)| left).sum()
        }))
    }
}
