//! Everything an agent is configured with, read and checked as a whole: jobs, purposes, templates and the
//! files of plain jobs. `check` and `run` go through the same code.

use std::{path::Path, sync::Arc};

use punctual_application::{Handlers, ports::SystemClock};
use punctual_domain::{
    BatchConfig, Delivery, FieldError, FieldErrors, JobKind, Location, PurposeConfig, Work, Zone,
    parse_purposes,
};

use crate::{
    handlers::{bind, endpoint::outgoing, template::Templates, webhook::Post},
    json_file::{FileErrors, JsonFile},
};

/// What an agent runs.
pub struct Project {
    /// The jobs.
    pub config: BatchConfig,
    /// The handler of every purpose.
    pub handlers: Handlers,
    /// The source files of plain jobs that are not there: mistakes before a start; a running agent has their jobs wait.
    pub missing_sources: FileErrors,
}

impl Project {
    /// Reads `batch_config.json` and `purposes.json`, with the templates in `templates`.
    ///
    /// # Errors
    /// Every mistake in either, with line and column; source files that are not there are none by themselves.
    pub fn load(
        batch_config: &Path,
        purposes: &Path,
        templates: &Path,
        default_zone: &Zone,
    ) -> Result<Self, FileErrors> {
        let (mut errors, mut missing) = (Vec::new(), FileErrors(Vec::new()));
        let jobs = keep(&mut errors, JsonFile::read(batch_config));
        let purposes = keep(&mut errors, JsonFile::read(purposes));
        let config = jobs.as_ref().and_then(|file| {
            let parsed = BatchConfig::parse(&file.value, default_zone);
            keep(&mut errors, parsed.map_err(|found| file.locate(found)))
        });
        let parsed = purposes.as_ref().and_then(|file| {
            let parsed = parse_purposes(&file.value);
            keep(&mut errors, parsed.map_err(|found| file.locate(found)))
        });
        let handlers = parsed
            .as_ref()
            .zip(purposes.as_ref())
            .and_then(|(parsed, file)| {
                let bound = bind_all(parsed, &Templates::in_folder(templates));
                keep(&mut errors, bound.map_err(|found| file.locate(found)))
            });
        if let (Some(config), Some(parsed), Some(file)) = (&config, &parsed, &jobs) {
            let folder = batch_config.parent().unwrap_or(Path::new("."));
            let list = match file.value.get("jobs") {
                Some(_) => "jobs",
                None => "batch_processing_jobs",
            };
            let found = cross_check(config, parsed, list);
            keep(&mut errors, found.map_err(|found| file.locate(found)));
            missing = file.locate(missing_sources(config, folder, list));
        }
        match (config, handlers) {
            (Some(config), Some(handlers)) if errors.is_empty() => Ok(Self {
                config,
                handlers,
                missing_sources: missing,
            }),
            _ => {
                errors.extend(missing.0);
                Err(FileErrors(errors))
            }
        }
    }
}

fn keep<T>(errors: &mut Vec<crate::FileError>, outcome: Result<T, FileErrors>) -> Option<T> {
    outcome.map_err(|found| errors.extend(found.0)).ok()
}

fn bind_all(purposes: &[PurposeConfig], templates: &Templates) -> Result<Handlers, FieldErrors> {
    let mut handlers = Handlers::default();
    let mut errors = Vec::new();
    for purpose in purposes {
        errors.extend(bind(&mut handlers, purpose, templates).err());
    }
    if errors.is_empty() {
        Ok(handlers)
    } else {
        Err(FieldErrors(errors))
    }
}

/// What only both files can tell.
fn cross_check(
    config: &BatchConfig,
    purposes: &[PurposeConfig],
    list: &str,
) -> Result<(), FieldErrors> {
    let mut errors = Vec::new();
    for (index, job) in config.jobs.iter().enumerate() {
        if !purposes
            .iter()
            .any(|purpose| purpose.purpose_id == job.purpose_id)
        {
            let known: Vec<&str> = purposes
                .iter()
                .map(|purpose| purpose.purpose_id.as_str())
                .collect();
            errors.push(FieldError {
                pointer: format!("/{list}/{index}/purpose_id"),
                value: Some(format!("\"{}\"", job.purpose_id)),
                problem: "is not in purposes.json".into(),
                remedy: format!("add it there, or use one of {}", known.join(", ")),
            });
        }
        for (place, delivery) in job.deliver.iter().enumerate() {
            let pointer = format!("/{list}/{index}/deliver/{place}");
            match delivery {
                Delivery::File(_) => {}
                Delivery::Sink(name) => errors.push(FieldError {
                    pointer: format!("{pointer}/sink"),
                    value: Some(format!("{name:?}")),
                    problem: "is a sink, and only programs that embed Punctual have any".into(),
                    remedy: "deliver to a \"file\" or a \"url\"".into(),
                }),
                Delivery::Webhook { config, .. } => {
                    errors.extend(Post::configured(config, &pointer, Arc::new(SystemClock)).err());
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(FieldErrors(errors))
    }
}

/// The source files that are not there.
fn missing_sources(config: &BatchConfig, folder: &Path, list: &str) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, job) in config.jobs.iter().enumerate() {
        let Work::Fixed { sources, .. } = &job.work else {
            continue;
        };
        for (category, source) in sources {
            let place = match job.kind {
                JobKind::Combined => format!("sources/{category}"),
                JobKind::Individual | JobKind::Object => "source".to_owned(),
            };
            let file = match &source.location {
                Location::File(file) => file,
                Location::Http {
                    url,
                    allow_private_addresses,
                    ..
                } => {
                    let checked = outgoing(url, *allow_private_addresses);
                    errors.extend(checked.err().map(|error| FieldError {
                        pointer: format!("/{list}/{index}/{place}/url"),
                        value: Some(format!("{url:?}")),
                        problem: error.to_string(),
                        remedy: "give the URL of a JSON document".into(),
                    }));
                    continue;
                }
            };
            let path = folder.join(file);
            if !path.is_file() {
                errors.push(FieldError {
                    pointer: format!("/{list}/{index}/{place}/file"),
                    value: Some(format!("{file:?}")),
                    problem: format!("is not a file: {} does not exist", path.display()),
                    remedy: "give the path from the folder of batch_config.json".into(),
                });
            }
        }
    }
    FieldErrors(errors)
}
