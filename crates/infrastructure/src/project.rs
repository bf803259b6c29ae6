//! Everything an agent is configured with, read and checked as a whole: jobs, purposes, templates and the
//! files of plain jobs. `check` and `run` go through the same code.

use std::{path::Path, sync::Arc};

use punctual_application::{Handlers, ports::SystemClock};
use punctual_domain::{
    BatchConfig, Delivery, FieldError, FieldErrorKind, FieldErrors, Invalid, JobConfig, JobKind,
    Location, MergedPreference, Preference, PurposeId, Work, Zone,
};
use punctual_project::{FileError, FileErrors, JsonFile, parse_batch_config, readable_jobs};
use serde_json::{Map, Value};

use crate::{
    handlers::{HandlerKinds, webhook::SignedPost},
    outbound::outgoing,
    tenant_data,
};

/// Jobs and purposes of an agent, as its files define them.
#[derive(Debug)]
pub struct Project {
    /// The jobs.
    pub config: BatchConfig,
    /// The handler of every purpose.
    pub handlers: Handlers,
    /// The source files of plain jobs that are not there: mistakes before a start; a running agent has their jobs wait.
    pub missing_sources: FileErrors,
}

impl Project {
    /// Reads `batch_config.json`, and `purposes.json` with these kinds of handlers.
    ///
    /// # Errors
    /// Every mistake in either, with line and column; source files that are not there are none by themselves.
    pub fn load(
        batch_config: &Path,
        purposes: &Path,
        kinds: &HandlerKinds,
        default_zone: &Zone,
    ) -> Result<Self, FileErrors> {
        let (mut errors, mut missing) = (Vec::new(), FileErrors(Vec::new()));
        let jobs = keep(&mut errors, JsonFile::read(batch_config));
        let purposes = keep(&mut errors, JsonFile::read(purposes));
        let config = jobs.as_ref().and_then(|file| {
            let parsed = parse_batch_config(&file.value, default_zone);
            keep(&mut errors, parsed.map_err(|found| file.locate(found)))
        });
        let handlers = purposes.as_ref().and_then(|file| {
            let handlers = kinds.handlers(&file.value);
            keep(&mut errors, handlers.map_err(|found| file.locate(found)))
        });
        let names = purposes
            .as_ref()
            .and_then(|file| file.value["purposes"].as_object());
        if let (Some(names), Some(file)) = (names, &jobs) {
            let folder = batch_config.parent().unwrap_or(Path::new("."));
            let list = name_of_list(&file.value);
            let listed = &file.value[list];
            // A mistake in one job hides no mistake in another.
            let readable: Vec<(usize, JobConfig)> = match &config {
                Some(config) => config.jobs.iter().cloned().enumerate().collect(),
                None => readable_jobs(listed, default_zone),
            };
            let mut found = unknown_purposes(listed, names, list);
            found.extend(cross_check(&readable, names, list));
            errors.extend(file.locate(FieldErrors(found)).0);
            missing = file.locate(missing_sources(&readable, folder, list));
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

    /// What is known of the jobs of `batch_config` without running them: parameters that their handlers need and that
    /// nothing sets, and defaults without which a tenant cannot be scheduled. Templates are rendered for it, in this process.
    ///
    /// # Errors
    /// The file, which was read before, cannot be read again.
    pub fn review(&self, batch_config: &Path) -> Result<Review, FileErrors> {
        let file = JsonFile::read(batch_config)?;
        let list = name_of_list(&file.value);
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        for (index, job) in self.config.jobs.iter().enumerate() {
            let pointer = format!("/{list}/{index}");
            match &job.work {
                Work::Fixed { .. } => errors.extend(self.failing(job, &pointer)),
                Work::Preferences { defaults, .. } => {
                    warnings.extend(without_frequency(defaults, &pointer));
                    warnings.extend(hidden_overrides(job, defaults, &pointer));
                    warnings.extend(self.failing_by_default(job, defaults, &pointer));
                }
            }
        }
        Ok(Review {
            errors: file.locate(FieldErrors(errors)),
            warnings: file.locate(FieldErrors(warnings)),
        })
    }

    /// Why every item of a job with a schedule of its own fails.
    fn failing(&self, job: &JobConfig, pointer: &str) -> Vec<FieldError> {
        let none = Preference::default();
        let failing = self
            .missing_of(job, &none)
            .map(|(field, purpose, missing)| {
                let problem = format!(
                    "uses {}, which nothing sets: every item fails",
                    in_words(&missing)
                );
                let remedy =
                    "correct the template; fields of a record are `item.data.FIELD`".to_owned();
                let purpose = Value::from(purpose.as_str());
                Invalid::new(problem, remedy).at(format!("{pointer}/{field}"), Some(&purpose))
            });
        failing.collect()
    }

    /// Why items of tenants fail who leave the parameters to the job's defaults.
    fn failing_by_default(
        &self,
        job: &JobConfig,
        defaults: &Preference,
        pointer: &str,
    ) -> Vec<FieldError> {
        let failing = self.missing_of(job, defaults).map(|(_, purpose, missing)| {
            let names = in_words(&missing);
            let problem = format!(
                "does not set {names}, which purpose `{purpose}` uses: items of tenants who have not set it fail"
            );
            let remedy = "add it, or give it a default in the template with `default`";
            let place = format!("{pointer}/default_preferences/template_overrides");
            Invalid::new(problem, remedy).at(place, None)
        });
        failing.collect()
    }

    /// Parameters that a job's purposes need and nothing sets: the field that names the purpose, and the purpose.
    fn missing_of<'j>(
        &self,
        job: &'j JobConfig,
        defaults: &Preference,
    ) -> impl Iterator<Item = (&'static str, &'j PurposeId, Vec<String>)> {
        let purposes = PURPOSE_FIELDS.into_iter().zip(job.purposes());
        purposes.filter_map(move |(field, purpose)| {
            let mut missing = self.handlers.missing_parameters(purpose, defaults);
            if field == THEN {
                missing.retain(|name| !is_written(name));
            }
            (!missing.is_empty()).then_some((field, purpose, missing))
        })
    }
}

/// The fields of a job that name its purposes.
const PURPOSE_FIELDS: [&str; 2] = ["purpose_id", THEN];
/// The one with the second purpose.
const THEN: &str = "then";

/// Whether a name that a template uses is the output of the first of two purposes, or a part of it.
fn is_written(name: &str) -> bool {
    name.split(['.', '[']).next() == Some("written")
}

/// What is wrong with jobs that can be read.
#[derive(Debug)]
pub struct Review {
    /// Mistakes with which every item of a job fails.
    pub errors: FileErrors,
    /// Defaults without which a job does not run for tenants who have not chosen these values themselves.
    pub warnings: FileErrors,
}

/// Tenants who have not chosen a frequency cannot be scheduled where the job has none.
fn without_frequency(defaults: &Preference, pointer: &str) -> Option<FieldError> {
    let merged = MergedPreference::merge(&Preference::default(), defaults, &Zone::utc());
    merged.is_err().then(|| {
        let problem = "is missing: tenants who have not chosen a frequency are quarantined";
        let remedy = "add one, such as \"daily\", unless every tenant chooses one";
        let place = format!("{pointer}/default_preferences/frequency");
        Invalid::new(problem, remedy).at(place, None)
    })
}

/// Defaults that templates do not see by their names: these stand for the item's data, its organization, its last run, and what
/// the first of two purposes has made.
fn hidden_overrides(job: &JobConfig, defaults: &Preference, pointer: &str) -> Vec<FieldError> {
    let written = job.then.as_ref().map(|_| "written");
    let hidden = ["data", "organization", "previous"]
        .into_iter()
        .chain(written)
        .filter(|name| defaults.template_overrides.contains_key(*name));
    let warning = |name: &str| {
        let problem = format!("is hidden in templates, where `{name}` is that of the item");
        let remedy = format!("give it another name, or write `overrides.{name}`");
        let place = format!("{pointer}/default_preferences/template_overrides/{name}");
        Invalid::new(problem, remedy).at(place, None)
    };
    hidden.map(warning).collect()
}

/// Names as code, separated by commas.
fn in_words(names: &[String]) -> String {
    let names = names.iter().map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

/// Name of the field with the list of jobs.
fn name_of_list(batch_config: &Value) -> &'static str {
    match batch_config.get("jobs") {
        Some(_) => "jobs",
        None => "batch_processing_jobs",
    }
}

fn keep<T>(errors: &mut Vec<FileError>, outcome: Result<T, FileErrors>) -> Option<T> {
    outcome.map_err(|found| errors.extend(found.0)).ok()
}

/// The purposes of jobs that are not in `purposes.json`, also of jobs with other mistakes.
fn unknown_purposes(jobs: &Value, purposes: &Map<String, Value>, list: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, job) in jobs.as_array().into_iter().flatten().enumerate() {
        for field in PURPOSE_FIELDS {
            let named = job.get(field);
            // What is not a valid id is a mistake by itself.
            let id = named.and_then(|named| PurposeId::new(named.as_str()?).ok());
            let unknown = id.filter(|id| !purposes.contains_key(id.as_str()));
            if unknown.is_some() {
                let known: Vec<&str> = purposes.keys().map(String::as_str).collect();
                let unknown = Invalid::new(
                    "is not in purposes.json",
                    format!("add it there, or use one of {}", known.join(", ")),
                );
                errors.push(unknown.at(format!("/{list}/{index}/{field}"), named));
            }
        }
    }
    errors
}

/// Checks that jobs and purposes fit together, but for the names of the purposes.
fn cross_check(
    jobs: &[(usize, JobConfig)],
    purposes: &Map<String, Value>,
    list: &str,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, job) in jobs {
        if let Some(data) = &job.data {
            let pointer = format!("/{list}/{index}/data");
            errors.extend(tenant_data::mistakes(&data.source, &pointer));
        }
        for (place, delivery) in job.deliver.iter().enumerate() {
            let pointer = format!("/{list}/{index}/deliver/{place}");
            match delivery {
                Delivery::File(_) => {}
                Delivery::Email(purpose) => {
                    errors.extend(not_an_email(purpose, purposes, &format!("{pointer}/email")));
                }
                Delivery::Sink(name) => errors.push(FieldError {
                    pointer: format!("{pointer}/sink"),
                    value: Some(format!("{name:?}")),
                    problem: "is a sink, and only programs that embed Punctual have sinks".into(),
                    remedy: "deliver to a \"file\" or a \"url\"".into(),
                    kind: FieldErrorKind::Other,
                }),
                Delivery::Webhook { config, .. } => {
                    errors.extend(
                        SignedPost::configured(config, &pointer, Arc::new(SystemClock)).err(),
                    );
                }
            }
        }
    }
    errors
}

/// Why a purpose cannot send the result of all records.
fn not_an_email(
    purpose: &PurposeId,
    purposes: &Map<String, Value>,
    pointer: &str,
) -> Option<FieldError> {
    let (problem, remedy) = match purposes.get(purpose.as_str()) {
        None => ("is not in purposes.json", "add it there"),
        Some(options) if options["handler"] != "email" => (
            "is not a purpose whose handler is `email`",
            "name one of purposes.json",
        ),
        Some(options) if options["to"].is_null() => (
            "is a purpose without \"to\", and the result of all records has no address of its own",
            "add \"to\" to the purpose",
        ),
        Some(_) => return None,
    };
    let purpose = Value::from(purpose.as_str());
    Some(Invalid::new(problem, remedy).at(pointer, Some(&purpose)))
}

/// The source files that are not there.
fn missing_sources(jobs: &[(usize, JobConfig)], folder: &Path, list: &str) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, job) in jobs {
        let Work::Fixed { sources, .. } = &job.work else {
            continue;
        };
        for (category, source) in sources {
            let place = match job.kind {
                JobKind::Combined => format!("sources/{category}"),
                JobKind::Individual | JobKind::Object => "source".to_owned(),
            };
            let file = match &source.location {
                Location::Listed(_) => continue,
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
                        kind: FieldErrorKind::Other,
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
                    remedy: "give a path relative to the folder of batch_config.json".into(),
                    kind: FieldErrorKind::Other,
                });
            }
        }
    }
    FieldErrors(errors)
}
