//! The jobs with what the scheduler knows of them, and the preferences that cannot be used.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use chrono::TimeDelta;
use punctual_application::JobView;
use punctual_domain::{JobId, Zone};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    model::{Jobs, Quarantine, Upcoming, ZoneSchedules, Zones},
    problem::{AnyProblem, Problem},
};

/// How far ahead may be asked for.
const MAX_HOURS: u32 = 7 * 24;

/// How many tenants of a time are named at most.
const MAX_NAMED: usize = 10_000;

/// The jobs, with what the scheduler knows of them.
#[utoipa::path(get, path = "/jobs", responses(
    (status = 200, body = Jobs, description = "The jobs"),
    AnyProblem
))]
pub(super) async fn jobs(State(app): State<App>) -> Result<Json<Jobs>, Problem> {
    Ok(Json(Jobs {
        jobs: app.operator.jobs().await?,
        planned_until: app.operator.status.get().planned_until,
    }))
}

/// One job.
#[utoipa::path(get, path = "/jobs/{job_id}", params(("job_id" = String, Path, description = "The job")), responses(
    (status = 200, body = JobView, description = "The job"),
    AnyProblem
))]
pub(super) async fn job(
    State(app): State<App>,
    Path(job_id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(app.operator.job_view(&JobId::new(&job_id)?).await?))
}

/// The time zones in use, with the number of tenants.
#[utoipa::path(get, path = "/zones", responses(
    (status = 200, body = Zones, description = "The zones"),
    AnyProblem
))]
pub(super) async fn zones(State(app): State<App>) -> Result<Json<Zones>, Problem> {
    Ok(Json(Zones {
        tzdb: Zone::version().to_owned(),
        zones: app.operator.zones().await,
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ZoneQuery {
    /// Name of the zone, such as `Europe/Berlin`.
    zone: String,
    /// Number of tenants named of each time, 0 to 10000 (default: 10), and at most 100000 in all; a higher value counts as 10000.
    named: Option<usize>,
}

/// What tenants have chosen in a time zone, by job and time, with some of these tenants.
#[utoipa::path(get, path = "/zones/schedules", params(ZoneQuery), responses(
    (status = 200, body = ZoneSchedules, description = "The times, with the tenants"),
    AnyProblem
))]
pub(super) async fn zone_schedules(
    State(app): State<App>,
    query: Result<Query<ZoneQuery>, QueryRejection>,
) -> Result<Json<ZoneSchedules>, Problem> {
    let Query(ZoneQuery { zone, named }) = query?;
    let zone = zone.parse::<Zone>();
    let zone = zone.map_err(|error| Problem::bad_request(format!("zone: {error}")))?;
    let zone = zone.name().to_owned();
    let named = named.unwrap_or(10).min(MAX_NAMED);
    let schedules = app.operator.schedules_in_zone(zone.clone(), named).await;
    Ok(Json(ZoneSchedules { zone, schedules }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UpcomingQuery {
    /// Hours to look ahead, 1 to 168 (default: 24).
    hours: Option<u32>,
}

/// Items due in the next hours, by instant and job. Those of a paused job are among them, and are skipped until it is resumed.
#[utoipa::path(get, path = "/schedule/upcoming", params(UpcomingQuery), responses(
    (status = 200, body = Upcoming, description = "The upcoming items"),
    AnyProblem
))]
pub(super) async fn upcoming(
    State(app): State<App>,
    query: Result<Query<UpcomingQuery>, QueryRejection>,
) -> Result<Json<Upcoming>, Problem> {
    let Query(UpcomingQuery { hours }) = query?;
    let from = app.operator.clock.now();
    let until = from + TimeDelta::hours(hours.unwrap_or(24).clamp(1, MAX_HOURS).into());
    Ok(Json(Upcoming {
        from,
        until,
        upcoming: app.operator.due_between(from, until).await,
    }))
}

/// Preferences that a job cannot use, and entries of the Config Database that cannot be read.
#[utoipa::path(get, path = "/quarantine", responses(
    (status = 200, body = Quarantine, description = "The unusable preferences, with the reasons"),
    AnyProblem
))]
pub(super) async fn quarantine(State(app): State<App>) -> Json<Quarantine> {
    let (quarantine, count) = app.operator.quarantined(None, 0, usize::MAX);
    Json(Quarantine { quarantine, count })
}
