//! Preferences that cannot be read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::JobId;

use super::{Finding, FindingKind, Findings, finding::gist};
use crate::services::{
    operator::{first_of, length_in_words},
    schedule_status::SchedulerStatus,
};

/// Jobs that a finding about several of them names.
const MAX_NAMED_JOBS: usize = 5;

impl Findings {
    /// Whether every job's preferences can be read. Jobs that fail for the same reason are one finding.
    pub(super) fn preferences(
        &mut self,
        status: &SchedulerStatus,
        now: DateTime<Utc>,
        started: DateTime<Utc>,
    ) {
        type Affected<'j> = (&'j JobId, Option<DateTime<Utc>>, String);
        let mut causes: BTreeMap<(bool, String), Vec<Affected<'_>>> = BTreeMap::new();
        for (job_id, job) in &status.jobs {
            let Some(wrong) = job.wrong() else { continue };
            let affected = causes.entry((job.loaded, gist(&wrong))).or_default();
            affected.push((job_id, job.seen_until, wrong));
        }
        for ((loaded, cause), mut jobs) in causes {
            jobs.sort_by_key(|(job_id, ..)| job_id.as_str());
            let seen_until = jobs.iter().filter_map(|(_, seen, _)| *seen).min();
            let wrong = jobs
                .first()
                .map_or_else(String::new, |(.., wrong)| wrong.clone());
            let jobs: Vec<JobId> = jobs.iter().map(|(job_id, ..)| (*job_id).clone()).collect();
            let effect = match seen_until.filter(|_| loaded) {
                Some(seen) => format!(
                    "on preferences that are {} old",
                    length_in_words(now - seen)
                ),
                None if loaded => "on preferences of an unknown age".to_owned(),
                None => "until preferences have been read".to_owned(),
            };
            let what = match jobs.as_slice() {
                [job_id] => {
                    let runs = if loaded { "runs" } else { "does not run" };
                    format!("{job_id} {runs} {effect}: {wrong}")
                }
                jobs => {
                    let run = if loaded { "run" } else { "do not run" };
                    let (count, named) = (jobs.len(), first_of(jobs, MAX_NAMED_JOBS));
                    format!("{count} jobs {run} {effect}: {wrong} ({named})")
                }
            };
            let since = seen_until.unwrap_or(started);
            let kind = FindingKind::Preferences { jobs, cause };
            self.add(!loaded, Finding::new(kind, what, since).begun());
        }
    }
}
