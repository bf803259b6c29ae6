//! What is wrong: what the process does not do at present, and what waits for an operator. Assembled once, for
//! `/health/ready`, the operations page and the terminal.
//!
//! To add a finding, add its kind to [`FindingKind`] and report it in [`Operator::readiness`] (what this process does not
//! do) or [`Operator::findings`] (what else an operator should look at). The caller decides which remedy it names.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use punctual_domain::{DeadLetterState, JobId};
use serde::{Deserialize, Serialize};

use super::Operator;
use crate::{
    ports::{BatchFilter, DeadLetterFilter, Page, StoreError},
    services::{
        active_failures::{ActiveFailure, Operation},
        schedule_status::SchedulerStatus,
    },
};

/// How long the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// The scheduler plans at least once a minute, whether something is due or not.
const PLANNING_TIMEOUT: TimeDelta = TimeDelta::seconds(120);
/// How late due work may be planned before it is reported, and before the process is not ready.
const DUE_REPORTED_AFTER: TimeDelta = TimeDelta::seconds(10);
const DUE_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// How long the store may refuse the writes of the main work before the process is not ready.
const WRITES_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// How long chunks may wait, although this process has room for them, before it is reported, and before the process is
/// not ready.
const CHUNKS_REPORTED_AFTER: TimeDelta = TimeDelta::seconds(20);
const CHUNKS_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(60);

/// Everything that needs attention at present.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Why the process does not do its main work; empty: it does.
    pub not_ready: Vec<Finding>,
    /// What an operator should look at, although the process does its main work.
    pub warnings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the finding.
    pub kind: FindingKind,
    /// Description in words.
    pub what: String,
    /// Since when; `None`: it is not known.
    pub since: Option<DateTime<Utc>>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The process does not do its main work.
    Critical,
    /// The process does its main work, and an operator should look at it.
    Warning,
}

/// Kinds of things that are wrong. Each has its remedy, which depends on how the process is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The store does not answer.
    Store,
    /// Nothing has been planned since the process started.
    NotPlannedYet,
    /// Due work is not planned, or the scheduler has stopped planning.
    NotPlanned,
    /// The preferences of a job cannot be read.
    Preferences(JobId),
    /// An operation fails again and again.
    Failing(Operation),
    /// A job is paused.
    Paused(JobId),
    /// Results of a job cannot be delivered, and are retried.
    DeliveryFailing(JobId),
    /// Results of a job are no longer delivered.
    DeliveryGivenUp(JobId),
    /// A replica that holds work is unresponsive.
    Replica,
    /// Items failed for good.
    DeadLetters,
    /// Preferences cannot be used.
    Quarantine,
}

impl Finding {
    fn new(
        kind: FindingKind,
        what: impl Into<String>,
        since: impl Into<Option<DateTime<Utc>>>,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            since: since.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.since {
            Some(since) => {
                let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(f, " (since {since})")
            }
            None => Ok(()),
        }
    }
}

impl Findings {
    fn add(&mut self, not_ready: bool, finding: Finding) {
        if not_ready {
            self.not_ready.push(finding);
        } else {
            self.warnings.push(finding);
        }
    }

    /// Everything, what makes the process not ready first.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.not_ready.iter().chain(&self.warnings)
    }

    /// Whether everything due has been planned.
    fn planning(&mut self, status: &SchedulerStatus, now: DateTime<Utc>, started: DateTime<Utc>) {
        let Some(planned_until) = status.planned_until else {
            let what = "the scheduler has not planned yet";
            self.add(
                true,
                Finding::new(FindingKind::NotPlannedYet, what, started),
            );
            return;
        };
        let kind = FindingKind::NotPlanned;
        match status.next_due {
            Some(due) if now - due > DUE_REPORTED_AFTER => self.add(
                now - due > DUE_NOT_READY_AFTER,
                Finding::new(kind, "due work is not planned", due),
            ),
            _ if now - planned_until > PLANNING_TIMEOUT => self.add(
                true,
                Finding::new(kind, "the scheduler does not plan", planned_until),
            ),
            _ => {}
        }
    }

    /// Whether every job's preferences can be read.
    fn preferences(
        &mut self,
        status: &SchedulerStatus,
        now: DateTime<Utc>,
        started: DateTime<Utc>,
    ) {
        let mut jobs: Vec<_> = status.jobs.iter().collect();
        jobs.sort_by_key(|(job_id, _)| job_id.as_str());
        for (job_id, job) in jobs {
            let Some(wrong) = job.wrong() else { continue };
            let age = job.seen_until.filter(|_| job.loaded);
            let age = age.map_or_else(String::new, |seen| {
                format!(" ({} old)", length_in_words(now - seen))
            });
            let what = format!("{job_id}: {wrong}{age}");
            let kind = FindingKind::Preferences(job_id.clone());
            let since = job.seen_until.unwrap_or(started);
            self.add(!job.loaded, Finding::new(kind, what, since));
        }
    }
}

impl Operator {
    /// What this process does not do now. The store is asked for a bounded time.
    pub async fn readiness(&self) -> Findings {
        let (mut findings, now) = (Findings::default(), self.clock.now());
        let status = self.status.get();
        findings.planning(&status, now, self.started_at);
        findings.preferences(&status, now, self.started_at);
        self.failing(&mut findings, now);
        let asked = tokio::time::timeout(STORE_TIMEOUT, self.stored_findings(now)).await;
        let trouble = match asked {
            Ok(Ok(warnings)) => {
                findings.warnings.extend(warnings);
                return findings;
            }
            Ok(Err(error)) => format!("the store does not answer: {error}"),
            Err(_) => format!(
                "the store does not answer within {} s",
                STORE_TIMEOUT.as_secs()
            ),
        };
        findings.add(true, Finding::new(FindingKind::Store, trouble, None));
        findings
    }

    /// Everything that an operator should look at: what this process does not do, unresponsive replicas, items that
    /// failed for good, and preferences that cannot be used.
    ///
    /// # Errors
    /// The store fails.
    pub async fn findings(&self) -> Result<Findings, StoreError> {
        let (mut findings, now) = (self.readiness().await, self.clock.now());
        let mut warn = |kind, what: String, since| {
            findings.add(false, Finding::new(kind, what, since));
        };
        for replica in self.operations.replica_leases().await? {
            if replica.is_unresponsive(now) {
                let heard = replica.last_seen.map_or_else(
                    || "last heartbeat unknown".to_owned(),
                    |seen| format!("last heartbeat {} ago", length_in_words(now - seen)),
                );
                let (process, chunks) = (replica.process, replica.chunks);
                let what = format!(
                    "replica {process} is unresponsive ({heard}) and holds {chunks} chunks"
                );
                warn(FindingKind::Replica, what, replica.last_seen);
            }
        }
        let open = DeadLetterFilter {
            state: Some(DeadLetterState::Open),
            ..DeadLetterFilter::default()
        };
        let (letters, more) = self.reader.dead_letters(&open, &Page::default()).await?;
        if !letters.is_empty() {
            let or_more = if more.is_some() { " or more" } else { "" };
            let count = letters.len();
            let what =
                format!("{count}{or_more} items failed for good and are in the dead letters");
            warn(FindingKind::DeadLetters, what, None);
        }
        let status = self.status.get();
        let quarantined: usize = status.jobs.values().map(|job| job.quarantined).sum();
        if quarantined > 0 {
            let what = format!("{quarantined} preferences cannot be used");
            warn(FindingKind::Quarantine, what, None);
        }
        Ok(findings)
    }

    /// Adds the operations that fail in this process.
    fn failing(&self, findings: &mut Findings, now: DateTime<Utc>) {
        let jobs = self.jobs.current();
        let failures = self.failures.list(now);
        let plans_fail = |job_id| {
            let plan = Operation::PlanJob(job_id);
            failures.iter().any(|failure| failure.operation == plan)
        };
        for failure in &failures {
            let job_id = failure.operation.job_id();
            if job_id.is_some_and(|job_id| jobs.job(job_id).is_none()) {
                continue;
            }
            let age = now - failure.since;
            let not_ready = match &failure.operation {
                Operation::AcquireLeadership
                | Operation::EnqueueDueBatches
                | Operation::ReadQueues
                | Operation::StoreResults(_) => age > WRITES_NOT_READY_AFTER,
                Operation::BeginChunks(_) if age <= CHUNKS_REPORTED_AFTER => continue,
                Operation::BeginChunks(_) => age > CHUNKS_NOT_READY_AFTER,
                // It is the reason why the job cannot be planned.
                Operation::FindSourceFile(job_id) if plans_fail(job_id.clone()) => continue,
                _ => false,
            };
            let kind = FindingKind::Failing(failure.operation.clone());
            findings.add(
                not_ready,
                Finding::new(kind, in_words(failure), failure.since),
            );
        }
    }

    /// What the store knows: jobs that are paused, and deliveries that fail.
    async fn stored_findings(&self, now: DateTime<Utc>) -> Result<Vec<Finding>, StoreError> {
        let one = Page {
            cursor: None,
            limit: 1,
        };
        self.reader.batches(&BatchFilter::default(), &one).await?;
        let mut found = Vec::new();
        for (job_id, reason) in self.queue.paused().await? {
            let what = format!("{job_id} is paused: {reason}");
            found.push(Finding::new(FindingKind::Paused(job_id), what, None));
        }
        for failing in self.failing_deliveries(now).await? {
            let (job_id, count, reason) = (failing.job_id, failing.deliveries, failing.reason);
            let results = format!("the results of {count} batches of {job_id}");
            let (kind, what) = if failing.given_up {
                (
                    FindingKind::DeliveryGivenUp(job_id),
                    format!("{results} are no longer delivered: {reason}"),
                )
            } else {
                (
                    FindingKind::DeliveryFailing(job_id),
                    format!("{results} cannot be delivered: {reason}"),
                )
            };
            found.push(Finding::new(kind, what, failing.since));
        }
        Ok(found)
    }
}

fn in_words(failure: &ActiveFailure) -> String {
    let reason = &failure.reason;
    match &failure.operation {
        Operation::AcquireLeadership => {
            format!("scheduler leadership cannot be acquired: {reason}")
        }
        Operation::EnqueueDueBatches => format!("batches cannot be stored: {reason}"),
        Operation::ReadQueues => format!("the queues cannot be read: {reason}"),
        Operation::StoreResults(job_id) => {
            format!(
                "chunks of {job_id} cannot be claimed, or their results cannot be stored: {reason}"
            )
        }
        Operation::BeginChunks(job_id) => format!("due work of {job_id} does not begin: {reason}"),
        Operation::PrepareChunks(job_id) => format!("due work of {job_id} does not run: {reason}"),
        Operation::PlanJob(job_id) => format!("{job_id} cannot be planned: {reason}"),
        Operation::FindSourceFile(job_id) => format!("{job_id} waits for its source: {reason}"),
        Operation::ReloadJobs => reason.clone(),
        Operation::TrackDeliveries => format!("deliveries cannot be read or stored: {reason}"),
        Operation::StoreRequest => format!("requests of operators cannot be stored: {reason}"),
        Operation::WriteLastKnownGood(feature_type) => {
            format!(
                "the last known preferences for {feature_type} cannot be stored on disk: {reason}"
            )
        }
    }
}

/// A length of time in words, such as `2h 5m`, to the second.
#[must_use]
pub fn length_in_words(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0).unsigned_abs();
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
