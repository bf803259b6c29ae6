//! `check`: everything the agent would run with, and every mistake in it.

use punctual_infrastructure::{HandlerKinds, Project};
use punctual_project::FileErrors;
use serde_json::json;

use super::Failure;
use crate::{
    settings::Settings,
    terminal::{print_line, say_json},
};

pub(crate) fn check(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let outcome = load(settings).and_then(|project| {
        if project.missing_sources.0.is_empty() {
            Ok(project)
        } else {
            Err(project.missing_sources)
        }
    });
    if as_json {
        let errors = outcome.as_ref().err().map_or(&[][..], |errors| &errors.0);
        say_json(&json!({ "errors": errors }));
    }
    match outcome {
        Ok(project) if !as_json => {
            print_line(format!(
                "{}: {} jobs, no mistakes",
                settings.batch_config_path.display(),
                project.config.jobs.len()
            ));
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(errors) => {
            if !as_json {
                print_line(&errors);
            }
            Err(Failure::BadInput(format!(
                "{} mistakes; nothing would run",
                errors.0.len()
            )))
        }
    }
}

/// The jobs and their handlers, from the files the settings name.
pub(crate) fn load(settings: &Settings) -> Result<Project, FileErrors> {
    Project::load(
        &settings.batch_config_path,
        &settings.batch_purposes_path,
        &HandlerKinds::built_in(&settings.templates_path()),
        &settings.batch_default_timezone,
    )
}
