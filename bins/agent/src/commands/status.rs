//! `status`: one screen, what is wrong first.

use chrono::{DateTime, Utc};
use punctual_application::{JobView, Severity};
use punctual_domain::BatchStatus;
use punctual_operations::model::{Batch, Finding, FindingList, Jobs};
use serde::Serialize;

use super::{Failure, batches, jobs};
use crate::{
    cli::StatusOptions,
    client::Client,
    output::{Tone, View, instant, rendered, watch},
    settings::Settings,
};

/// Running batches on the screen, at most.
const MAX_BATCHES: usize = 10;

/// State of an agent.
#[derive(Serialize)]
struct Status {
    /// Whether it does its main work.
    ready: bool,
    /// What is wrong, the worst first.
    findings: Vec<Finding>,
    /// `null`: the store does not answer.
    jobs: Option<Vec<JobView>>,
    /// The newest ten that run; `null`: the store does not answer.
    running: Option<Vec<Batch>>,
    /// `null`: unknown, or no job follows preferences.
    config_database: Option<ConfigDatabase>,
}

/// What the agent knows of the preferences in the Config Database.
#[derive(Serialize)]
struct ConfigDatabase {
    state: Reading,
    /// Every preference stored until then is in effect.
    seen_until: Option<DateTime<Utc>>,
    /// Why preferences cannot be read.
    trouble: Option<String>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reading {
    UpToDate,
    NotReadYet,
    Failing,
}

pub(crate) async fn status(settings: &Settings, options: StatusOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    if options.watch {
        return watch(async || view(&client, options.json).await).await;
    }
    let status = Status::read(&client).await?;
    rendered(options.json, &status, Status::view).print();
    if status.findings.is_empty() {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

async fn view(client: &Client, as_json: bool) -> Result<View, Failure> {
    let status = Status::read(client).await?;
    Ok(rendered(as_json, &status, Status::view))
}

impl Status {
    /// What the store does not answer is left out: that it does not is one of the findings.
    async fn read(client: &Client) -> Result<Self, Failure> {
        let FindingList { findings } = client.get("findings", &[]).await?;
        let jobs = client.get::<Jobs>("jobs", &[]).await;
        let jobs = jobs.ok().map(|answer| answer.jobs);
        let running = Some(BatchStatus::Running);
        let running = batches::newest(client, None, running, MAX_BATCHES).await;
        Ok(Self {
            ready: !findings.iter().any(is_critical),
            findings,
            config_database: jobs.as_deref().and_then(ConfigDatabase::of),
            jobs,
            running: running.ok().map(|(batches, _)| batches),
        })
    }

    fn view(&self) -> View {
        let mut view = match (self.ready, self.findings.len()) {
            (true, 0) => View::default().toned(Tone::Good, "Nothing is wrong"),
            (true, count) => {
                View::default().toned(Tone::Warning, format!("What is wrong ({count})"))
            }
            (false, count) => View::default().toned(
                Tone::Bad,
                format!("Not ready: the agent does not do its main work ({count})"),
            ),
        };
        for finding in &self.findings {
            let tone = if is_critical(finding) {
                Tone::Bad
            } else {
                Tone::Warning
            };
            let since = finding
                .since
                .map(|since| format!(" (since {})", instant(since)));
            let (what, remedy) = (&finding.what, &finding.remedy);
            let text = format!("{what}{}. {remedy}", since.unwrap_or_default());
            view = view.item("!", tone, &text);
        }
        let unknown = "unknown: the store does not answer";
        view = view.heading("Jobs");
        view = match &self.jobs {
            None => view.toned(Tone::Bad, unknown),
            Some(jobs) if jobs.is_empty() => view.line("none"),
            Some(jobs) => view.table(&jobs::table(jobs)),
        };
        view = view.heading("Running batches");
        view = match &self.running {
            None => view.toned(Tone::Bad, unknown),
            Some(running) if running.is_empty() => view.line("none"),
            Some(running) => {
                let jobs = self.jobs.as_deref().unwrap_or_default();
                view.table(&batches::table(running, jobs))
            }
        };
        match &self.config_database {
            None => view,
            Some(known) => known.add_to(view.heading("Config Database")),
        }
    }
}

fn is_critical(finding: &Finding) -> bool {
    finding.severity == Severity::Critical
}

impl ConfigDatabase {
    /// What the jobs that follow preferences know of it; `None` without such a job.
    fn of(jobs: &[JobView]) -> Option<Self> {
        let follows: Vec<_> = jobs.iter().filter_map(JobView::preferences).collect();
        let trouble = follows.iter().find_map(|follows| follows.trouble.clone());
        let state = if trouble.is_some() {
            Reading::Failing
        } else if follows.iter().all(|follows| follows.loaded) {
            Reading::UpToDate
        } else {
            Reading::NotReadYet
        };
        let seen = follows.iter().map(|follows| follows.seen_until);
        Some(Self {
            state,
            // The job that lags behind most; of one that has read nothing it is `None`, which comes first.
            seen_until: seen.min()?,
            trouble,
        })
    }

    fn add_to(&self, view: View) -> View {
        let seen = self.seen_until.map(instant);
        let seen = seen.map(|seen| format!("preferences as of {seen}"));
        let seen = seen.unwrap_or_else(|| "no preferences known".to_owned());
        match (self.state, &self.trouble) {
            (Reading::UpToDate, _) => view.item("✓", Tone::Good, &format!("answers, {seen}")),
            (Reading::NotReadYet, _) => view.item("…", Tone::Warning, "preferences are being read"),
            (Reading::Failing, trouble) => {
                let trouble = trouble.as_deref().unwrap_or("preferences cannot be read");
                view.item("!", Tone::Bad, &format!("{trouble}; {seen}"))
            }
        }
    }
}
