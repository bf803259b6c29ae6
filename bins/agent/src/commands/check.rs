//! `check`: everything the agent would run with, and every mistake in it.

use std::path::Path;

use punctual_application::amount;
use punctual_domain::{BatchConfig, PurposeId};
use punctual_infrastructure::{HandlerKinds, Project};
use punctual_project::{FileErrors, JsonFile, parse_batch_config};
use serde_json::json;

use super::Failure;
use crate::{
    output::{Tone, View, show},
    settings::Settings,
};

pub(crate) fn check(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let file = &settings.batch_config_path;
    let (mut errors, mut warnings, mut jobs) = (Vec::new(), Vec::new(), 0);
    let mut alerts = Ok(());
    let reviewed = load(settings).and_then(|project| {
        alerts = check_alerts(settings, &project);
        jobs = project.config.jobs.len();
        let review = project.review(file)?;
        Ok((project.missing_sources, review))
    });
    match reviewed {
        Ok((missing, review)) => {
            errors.extend(missing.0);
            errors.extend(review.errors.0);
            warnings.extend(review.warnings.0);
        }
        Err(found) => errors.extend(found.0),
    }
    if errors.is_empty() {
        alerts?;
    }
    let report = json!({ "errors": errors, "warnings": warnings });
    show(as_json, &report, |_| {
        let mut view = View::default();
        for error in &errors {
            view = view.toned(Tone::Bad, error);
        }
        for warning in &warnings {
            view = view.toned(Tone::Warning, format!("warning: {warning}"));
        }
        let right = format!(
            "{}: {}, no mistakes",
            file.display(),
            amount(jobs as u64, "job")
        );
        match (errors.len(), warnings.len()) {
            (0, 0) => view.toned(Tone::Good, right),
            (0, count) => view.line(format!("{right}, {}", amount(count as u64, "warning"))),
            _ => view,
        }
    });
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::BadInput(format!(
        "{} to correct before the agent reads these files",
        amount(errors.len() as u64, "mistake")
    )))
}

/// Refuses a purpose for alerts that sends no e-mails.
pub(crate) fn check_alerts(settings: &Settings, project: &Project) -> Result<(), Failure> {
    let Some(name) = &settings.batch_alerts_email_purpose else {
        return Ok(());
    };
    let purpose = PurposeId::new(name).ok();
    let mailer = purpose.and_then(|purpose| project.handlers.mailer(&purpose));
    match mailer {
        Some(_) => Ok(()),
        None => Err(Failure::BadInput(format!(
            "BATCH_ALERTS_EMAIL_PURPOSE is {name:?}, which sends no e-mails; set it to a purpose of {} whose handler is `email`",
            settings.batch_purposes_path.display()
        ))),
    }
}

/// The jobs and their handlers, from the files the settings name.
pub(crate) fn load(settings: &Settings) -> Result<Project, FileErrors> {
    let (jobs, purposes) = (&settings.batch_config_path, &settings.batch_purposes_path);
    let kinds = HandlerKinds::built_in(&settings.templates_path());
    let loaded = Project::load(jobs, purposes, &kinds, &settings.batch_default_timezone);
    loaded.map_err(|mut errors| {
        // What cannot be read at all may be another file than the settings should name.
        for error in errors.0.iter_mut().filter(|error| error.line == 0) {
            let name = if Path::new(&error.file) == jobs {
                "BATCH_CONFIG_PATH"
            } else {
                "BATCH_PURPOSES_PATH"
            };
            error.error.remedy = format!("correct {name}, or the permissions of the file");
        }
        errors
    })
}

/// The jobs alone: without their handlers no secret of a purpose is needed.
pub(crate) fn load_jobs(settings: &Settings) -> Result<BatchConfig, FileErrors> {
    let file = JsonFile::read(&settings.batch_config_path)?;
    let jobs = parse_batch_config(&file.value, &settings.batch_default_timezone);
    jobs.map_err(|found| file.locate(found))
}
