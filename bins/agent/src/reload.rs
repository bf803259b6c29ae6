//! Reloads jobs, purposes and templates when their files change. A mistake in them changes nothing: the previous ones
//! stay in effect, and the agent reports the mistakes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use punctual_application::{
    ActiveFailures, Handlers, Jobs, Operation, Operator, amount,
    ports::{Clock, SystemClock},
};
use punctual_domain::{Location, Work};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{commands::check, settings::Settings};

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What tells a changed file from the one that was read.
pub(crate) type FileState = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Watches the files, and replaces what they hold.
pub(crate) struct Reload {
    settings: Settings,
    jobs: Jobs,
    handlers: Handlers,
    failures: ActiveFailures,
    in_effect: FileState,
}

impl Reload {
    /// Watches the files whose content is in effect; `in_effect`: as they [were](look) before they were read, so that none
    /// changes unseen meanwhile.
    pub(crate) fn new(settings: &Settings, operator: &Operator, in_effect: FileState) -> Self {
        Self {
            in_effect,
            settings: settings.clone(),
            jobs: operator.jobs.clone(),
            handlers: operator.handlers.clone(),
            failures: operator.failures.clone(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut last = None;
        self.look_for_sources();
        while tokio::time::timeout(POLL_INTERVAL, stop.cancelled())
            .await
            .is_err()
        {
            let now = look(&self.settings);
            // A file that is being written is left alone until it stands still.
            if now != self.in_effect && last.as_ref() == Some(&now) {
                self.reload();
                self.in_effect.clone_from(&now);
            }
            last = Some(now);
            self.look_for_sources();
        }
    }

    fn reload(&self) {
        let file = self.settings.batch_config_path.display();
        match check::load(&self.settings) {
            Ok(project) => {
                let jobs = project.config.jobs.len();
                self.handlers.replace(project.handlers);
                self.jobs.replace(project.config);
                self.failures.succeeded(&Operation::ReloadJobs);
                info!(
                    jobs,
                    "Reloaded {file} and its purposes, {} in effect",
                    amount(jobs as u64, "job")
                );
            }
            Err(errors) => {
                let mistakes = amount(errors.0.len() as u64, "mistake");
                error!(%errors, "Failed to reload the job files, the previous jobs stay in effect; {mistakes}:\n{errors}");
                let first = errors
                    .0
                    .first()
                    .map_or_else(String::new, ToString::to_string);
                let trouble = format!(
                    "the changed job files have {mistakes} and are not in effect. \
                     The first: {first}"
                );
                self.failures
                    .failed(Operation::ReloadJobs, trouble, SystemClock.now());
            }
        }
    }

    /// Notes the jobs whose source file is not there. They wait for it, and the others run.
    fn look_for_sources(&self) {
        let folder = self.settings.batch_config_path.parent();
        let folder = folder.unwrap_or(Path::new("."));
        for job in &self.jobs.current().jobs {
            let Work::Fixed { sources, .. } = &job.work else {
                continue;
            };
            let mut files = sources
                .values()
                .filter_map(|source| match &source.location {
                    Location::File(file) => Some(folder.join(file)),
                    Location::Listed(_) | Location::Http { .. } => None,
                });
            let found = match files.find(|path| !path.is_file()) {
                Some(path) => Err(format!("{} does not exist", path.display())),
                None => Ok(()),
            };
            let operation = Operation::FindSourceFile(job.job_id.clone());
            self.failures.note(operation, &found, SystemClock.now());
        }
    }
}

/// The files with jobs, purposes and templates, as they stand now.
pub(crate) fn look(settings: &Settings) -> FileState {
    let templates = std::fs::read_dir(settings.templates_path());
    let templates = templates
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let files = [&settings.batch_config_path, &settings.batch_purposes_path];
    files
        .into_iter()
        .cloned()
        .chain(templates)
        .map(|path| (path.clone(), state(&path)))
        .collect()
}

fn state(path: &Path) -> (Option<SystemTime>, u64) {
    std::fs::metadata(path).map_or((None, 0), |file| (file.modified().ok(), file.len()))
}
