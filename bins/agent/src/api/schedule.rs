//! The jobs with what the scheduler knows of them, and the preferences that cannot be used.

use axum::{Json, extract::State};
use punctual_domain::{JobConfig, JobKind, Work};
use punctual_infrastructure::{JobStatus, SchedulerStatus};
use serde_json::{Value, json};

use super::App;

/// Slots shown of a job: those with the most tenants.
const SLOTS: usize = 100;

pub(super) async fn jobs(State(app): State<App>) -> Json<Value> {
    let status = app.status.get();
    let jobs: Vec<Value> = app
        .config
        .jobs
        .iter()
        .map(|job| job_json(job, &status))
        .collect();
    Json(json!({ "jobs": jobs, "planned_until": status.planned_until }))
}

pub(super) async fn quarantine(State(app): State<App>) -> Json<Value> {
    let status = app.status.get();
    let mut entries = Vec::new();
    for job in &app.config.jobs {
        let Some(JobStatus {
            feature_type,
            mirror,
            ..
        }) = status.jobs.get(&job.job_id)
        else {
            continue;
        };
        mirror.read(|mirror| {
            entries.extend(mirror.quarantine().iter().map(|(tenant_id, errors)| {
                json!({ "job_id": job.job_id, "feature_type": feature_type, "tenant_id": tenant_id, "errors": errors })
            }));
        });
    }
    Json(json!({ "quarantine": entries }))
}

fn job_json(job: &JobConfig, status: &SchedulerStatus) -> Value {
    let kind = match job.kind {
        JobKind::Individual => "individual_batch",
        JobKind::Object => "object_batch",
        JobKind::Combined => "combined_batch",
    };
    let mut json = json!({
        "job_id": job.job_id, "type": kind, "purpose_id": job.purpose_id, "priority": job.priority.as_str(),
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
