//! `jobs`, `pause` and `resume`.

use punctual_application::JobView;
use punctual_domain::JobId;
use punctual_operations::model::{Jobs, PausedJob};

use super::Failure;
use crate::{
    cli::{JobOptions, JobsOptions},
    client::{Client, NO_BODY},
    output::{Cell, Table, Tone, View, cell, minute, show},
    settings::Settings,
};

pub(crate) async fn jobs(settings: &Settings, options: JobsOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    let Some(job) = options.job else {
        let answer: Jobs = client.get("jobs", &[]).await?;
        show(options.json, &answer, |answer| {
            View::default().table(&table(&answer.jobs))
        });
        return Ok(());
    };
    let view = of_job(&client, &job).await?;
    show(options.json, &view, |job| {
        View::default().table(&table(std::slice::from_ref(job)))
    });
    Ok(())
}

/// A job of the agent.
///
/// # Errors
/// It does not exist; the agent names those that do.
pub(super) async fn of_job(client: &Client, job: &JobId) -> Result<JobView, Failure> {
    client.get(&format!("jobs/{job}"), &[]).await
}

/// Jobs with their state and next run.
pub(super) fn table(jobs: &[JobView]) -> Table {
    let mut table = Table::new(["job", "state", "tenants", "next run"]);
    for job in jobs {
        let tenants = job.preferences().map(|follows| follows.tenants.to_string());
        let next = job.next().filter(|_| !job.paused).map(minute);
        table.row([
            cell(&job.job_id).below(job.schedule()),
            state(job),
            cell(tenants.unwrap_or_default()),
            cell(next.unwrap_or_default()),
        ]);
    }
    table
}

/// Whether a job does what it should. Why preferences cannot be read is said once for all jobs, by `status`.
fn state(job: &JobView) -> Cell {
    let follows = job.preferences();
    let quarantined = follows.map_or(0, |follows| follows.quarantined);
    if let Some(why) = &job.paused_because {
        // An operator's pause says so itself.
        let state = if why.starts_with("paused by ") {
            why.clone()
        } else {
            format!("paused: {why}")
        };
        return cell(state).toned(Tone::Warning);
    }
    let is_cut_off = follows.is_some_and(|follows| follows.trouble.is_some());
    match (follows.is_none_or(|follows| follows.loaded), is_cut_off) {
        (true, true) => cell("runs on old preferences").toned(Tone::Warning),
        (false, true) => cell("waits for preferences").toned(Tone::Bad),
        (false, false) => cell("reading preferences").toned(Tone::Warning),
        (true, false) if quarantined > 0 => {
            cell(format!("scheduled, {quarantined} quarantined")).toned(Tone::Warning)
        }
        (true, false) => cell("scheduled").toned(Tone::Good),
    }
}

/// `pause` and `resume`.
pub(crate) async fn set_paused(
    settings: &Settings,
    options: JobOptions,
    paused: bool,
) -> Result<(), Failure> {
    let verb = if paused { "pause" } else { "resume" };
    let path = format!("jobs/{}/{verb}", options.job);
    let client = Client::new(settings)?.because(options.reason.as_deref())?;
    let answer: PausedJob = client.post(&path, NO_BODY).await?;
    show(options.json, &answer, |answer| {
        let word = if answer.paused { "paused" } else { "resumed" };
        View::default().line(format!("{} is {word}", answer.job_id))
    });
    Ok(())
}
