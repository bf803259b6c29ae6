//! The jobs with what the scheduler knows of them, and the preferences that cannot be used.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use chrono::TimeDelta;
use punctual_application::SchedulerStatus;
use punctual_domain::{JobConfig, JobId, JobKind, Work};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{
    App,
    problem::{AnyProblem, Problem},
};

/// How far ahead may be asked for.
const MOST_HOURS: u32 = 7 * 24;
/// Slots shown of a job: those with the most tenants.
const SLOTS: usize = 100;

/// The jobs, with what the scheduler knows of them.
#[utoipa::path(get, path = "/jobs", responses(
    (status = 200, body = Object, description = "`jobs`, and until when all of them are planned, `planned_until`"),
    AnyProblem
))]
pub(super) async fn jobs(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let (status, paused) = (
        app.operator.status.get(),
        app.operator.queue.paused().await?,
    );
    let config = app.operator.jobs.current();
    let jobs = config.jobs.iter();
    let jobs: Vec<Value> = jobs.map(|job| job_json(job, &status, &paused)).collect();
    Ok(Json(
        json!({ "jobs": jobs, "planned_until": status.planned_until }),
    ))
}

/// One job.
#[utoipa::path(get, path = "/jobs/{job_id}", params(("job_id" = String, Path, description = "The job")), responses(
    (status = 200, body = Object, description = "The job; of preference-based ones tenants, how current they are, and the 100 slots with the most tenants of `slot_count`"),
    AnyProblem
))]
pub(super) async fn job(
    State(app): State<App>,
    Path(job_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job_id = JobId::new(&job_id)?;
    let (job, paused) = (
        app.operator.job(&job_id)?,
        app.operator.queue.paused().await?,
    );
    Ok(Json(job_json(&job, &app.operator.status.get(), &paused)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UpcomingQuery {
    /// How far ahead, 1 to 168; 24 unless told.
    hours: Option<u32>,
}

/// Who falls due in the next hours, by instant and job.
#[utoipa::path(get, path = "/schedule/upcoming", params(UpcomingQuery), responses(
    (status = 200, body = Object, description = "`upcoming`: `at`, `job_id` and how many `items`; a plain job counts as one"),
    AnyProblem
))]
pub(super) async fn upcoming(
    State(app): State<App>,
    query: Result<Query<UpcomingQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(UpcomingQuery { hours }) = query?;
    let from = app.operator.clock.now();
    let until = from + TimeDelta::hours(hours.unwrap_or(24).clamp(1, MOST_HOURS).into());
    let due = app.operator.due_between(from, until).await;
    let due = due
        .into_iter()
        .map(|((at, job_id), items)| json!({ "at": at, "job_id": job_id, "items": items }));
    Ok(Json(
        json!({ "from": from, "until": until, "upcoming": due.collect::<Value>() }),
    ))
}

/// Preferences that a job cannot use, and entries of the Config Database that cannot be read.
#[utoipa::path(get, path = "/quarantine", responses(
    (status = 200, body = Object, description = "`quarantine`: `job_id`, `feature_type`, `tenant_id` (null where an entry names none) and the `errors`; and their `count`"),
    AnyProblem
))]
pub(super) async fn quarantine(State(app): State<App>) -> Json<Value> {
    let (entries, count) = app.operator.quarantined(usize::MAX);
    Json(json!({ "quarantine": entries, "count": count }))
}

fn job_json(job: &JobConfig, status: &SchedulerStatus, paused: &BTreeMap<JobId, String>) -> Value {
    let kind = match job.kind {
        JobKind::Individual => "individual_batch",
        JobKind::Object => "object_batch",
        JobKind::Combined => "combined_batch",
    };
    let mut json = json!({
        "job_id": job.job_id, "type": kind, "purpose_id": job.purpose_id, "priority": job.priority.as_str(),
        "paused": paused.contains_key(&job.job_id), "paused_because": paused.get(&job.job_id),
    });
    match (&job.work, status.jobs.get(&job.job_id)) {
        (Work::Fixed { schedule, .. }, _) => {
            json["schedule"] = json!(schedule.to_string());
            json["next"] = json!(
                status
                    .planned_until
                    .and_then(|now| schedule.next_after(now))
            );
        }
        (Work::Preferences { feature_type, .. }, known) => {
            json["feature_type"] = json!(feature_type);
            if let Some(known) = known {
                let (slots, slot_count) = known.mirror.largest_slots(SLOTS);
                let slots = slots.iter().map(|slot| {
                    json!({ "slot": slot.slot.to_string(), "tenants": slot.tenants, "next": slot.next })
                });
                json["loaded"] = json!(known.loaded);
                json["tenants"] = json!(known.tenants);
                json["quarantined"] = json!(known.quarantined);
                json["seen_until"] = json!(known.seen_until);
                json["trouble"] = json!(known.trouble);
                json["slot_count"] = json!(slot_count);
                json["next_due"] = json!(known.next_due);
                json["slots"] = slots.collect();
            }
        }
    }
    json
}
