//! `simulate`: what a schedule will ask of a machine, before it does. Virtual days run through the mirror and the
//! planner that the agent runs on; nothing is stored and nothing is called but, for the live preferences, the Config
//! Database.

mod html;
mod load;
mod report;
mod users;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{Clock, SystemClock};
use punctual_domain::{JobConfig, JobId, Mirror, Preference, Work};

use self::{
    load::{Load, Queue},
    report::Report,
    users::NotApplied,
};
use super::{Failure, check};
use crate::{
    cli::SimulateOptions,
    output::{print_line, say_json},
    settings::Settings,
};

/// Spreads that are tried beside the job's own, in minutes.
const SPREADS: [u32; 3] = [15, 30, 60];

pub(crate) async fn simulate(settings: &Settings, options: SimulateOptions) -> Result<(), Failure> {
    let config = check::load_jobs(settings).map_err(Failure::bad_input)?;
    let job = chosen(&config.jobs, options.job.as_ref())?;
    let Work::Preferences {
        feature_type,
        defaults,
        spread_minutes,
    } = &job.work
    else {
        return Err(Failure::bad_input(format!(
            "{} has a fixed schedule; choose a job that follows preferences",
            job.job_id
        )));
    };
    let spread = options.spread.unwrap_or(*spread_minutes);
    let mut mirror = Mirror::new(
        Preference::clone(defaults),
        settings.batch_default_timezone.clone(),
        spread,
    );
    let (source, not_applied) = match (options.users, &options.file) {
        (Some(count), _) => (
            users::generated(&mut mirror, count, options.seed),
            NotApplied::default(),
        ),
        (None, Some(file)) => users::of_file(&mut mirror, file, feature_type)?,
        (None, None) => (
            users::live(&mut mirror, settings, feature_type).await?,
            NotApplied::default(),
        ),
    };
    if mirror.is_empty() {
        return Err(Failure::bad_input(format!(
            "No users found for feature_type \"{feature_type}\" in {source}; check that preferences are stored and \
             enabled, or simulate generated users with --users 100000"
        )));
    }
    let from = options.from.unwrap_or_else(|| midnight(SystemClock.now()));
    let load = Load::over(&mut mirror, from, options.days);
    let queue = Queue::fed_by(&load, options.concurrency, options.item_ms);
    let ahead = job.prepare_ahead;
    let ahead = ahead.map(|ahead| (ahead, queue.unprepared(&load, ahead)));
    let mut spreads = Vec::new();
    for minutes in SPREADS.into_iter().filter(|minutes| *minutes != spread) {
        mirror.spread_over(minutes);
        spreads.push((
            minutes,
            Load::over(&mut mirror, from, options.days).peak().1,
        ));
    }
    let report = Report {
        job_id: job.job_id.clone(),
        source,
        users: mirror.len(),
        quarantined: mirror.quarantine().len(),
        not_applied,
        spread,
        spreads,
        load,
        queue,
        ahead,
    };
    if let Some(path) = &options.html {
        std::fs::write(path, html::page(&report)).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    if options.json {
        say_json(&report.json());
    } else {
        print_line(report.to_string().trim_end_matches('\n'));
        if let Some(path) = &options.html {
            print_line(format!("\nThe chart is in {}", path.display()));
        }
    }
    Ok(())
}

/// The job of that name; without one, the first that follows preferences.
fn chosen<'j>(jobs: &'j [JobConfig], name: Option<&JobId>) -> Result<&'j JobConfig, Failure> {
    let follows = |job: &&JobConfig| matches!(job.work, Work::Preferences { .. });
    match name {
        Some(name) => jobs
            .iter()
            .find(|job| job.job_id == *name)
            .ok_or_else(|| Failure::bad_input(format!("batch_config.json has no job `{name}`"))),
        None => jobs.iter().find(follows).ok_or_else(|| {
            Failure::bad_input("batch_config.json has no job that follows preferences; add one")
        }),
    }
}

/// The beginning of the UTC day.
fn midnight(now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::seconds(now.timestamp().rem_euclid(86_400))
        - TimeDelta::nanoseconds(now.timestamp_subsec_nanos().into())
}
