//! Preferences that cannot be read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::JobId;

use super::{Finding, FindingKind, Findings, finding::gist};
use crate::services::{
    operator::{first_of, length_in_words},
    schedule_status::{JobStatus, SchedulerStatus},
};

/// Jobs that a finding names for each reason.
const MAX_NAMED_JOBS: usize = 5;
/// Reasons that a finding names.
const MAX_NAMED_REASONS: usize = 3;

impl Findings {
    /// Whether every job's preferences can be read. The jobs that run on old ones are one finding, those that do not run are another,
    /// whatever the reasons: while an outage lasts, its reason may change.
    pub(super) fn preferences(
        &mut self,
        status: &SchedulerStatus,
        now: DateTime<Utc>,
        started: DateTime<Utc>,
    ) {
        for loaded in [false, true] {
            let affected = status
                .jobs
                .iter()
                .filter(|(_, job)| job.loaded == loaded && (job.trouble.is_some() || !job.loaded));
            let mut affected: Vec<(&JobId, &JobStatus)> = affected.collect();
            if affected.is_empty() {
                continue;
            }
            affected.sort_by_key(|(job_id, _)| job_id.as_str());
            let mut reasons: BTreeMap<String, (&str, Vec<&JobId>)> = BTreeMap::new();
            for &(job_id, job) in &affected {
                let trouble = job.trouble.as_deref();
                let reason = trouble.unwrap_or("they have not been read yet");
                let same = reasons.entry(gist(reason));
                let (_, jobs) = same.or_insert_with(|| (reason, Vec::new()));
                jobs.push(job_id);
            }
            let seen_until = affected.iter().filter_map(|(_, job)| job.seen_until).min();
            let effect = match seen_until {
                _ if !loaded => "until preferences have been read".to_owned(),
                Some(seen) => {
                    let age = length_in_words(now - seen);
                    format!("on preferences that are {age} old")
                }
                None => "on preferences of an unknown age".to_owned(),
            };
            let jobs: Vec<JobId> = affected.iter().map(|(id, _)| (*id).clone()).collect();
            let what = match jobs.as_slice() {
                [job_id] => {
                    let runs = if loaded { "runs" } else { "does not run" };
                    format!("{job_id} {runs} {effect}")
                }
                jobs => {
                    let run = if loaded { "run" } else { "do not run" };
                    format!("{} jobs {run} {effect}", jobs.len())
                }
            };
            let named = reasons.values().map(|(reason, of)| match jobs.len() {
                1 => (*reason).to_owned(),
                _ => format!("{reason} ({})", first_of(of, MAX_NAMED_JOBS)),
            });
            let named: Vec<String> = named.collect();
            let what = format!("{what}: {}", first_of(&named, MAX_NAMED_REASONS));
            let cause: Vec<String> = reasons.into_keys().collect();
            let since = seen_until.unwrap_or(started);
            let kind = FindingKind::Preferences { jobs, loaded };
            let finding = Finding::new(kind, what, since);
            self.add(!loaded, finding.because(&cause.join("\n")).begun());
        }
    }
}
