//! What is wrong: what the process does not do at present, and what waits for an operator. Assembled once, for
//! `/health/ready`, the operations page and the terminal.
//!
//! To add a finding, add its kind to [`FindingKind`] and report it in [`Operator::readiness`] (what this process does not
//! do) or [`Operator::findings`] (what else an operator should look at). The caller decides which remedy it names.
//!
//! # Acknowledgements
//!
//! An acknowledgement holds for a finding by its id, as long as its severity and its cause stay the same (the reason without
//! numbers and ids), and it is about nothing that the operator has not seen. It ends when the finding is over, even if it comes back; [`Finding::over_at`] says when it was over last, where
//! that is known, and what the store tells is forgotten once it is over.

mod coverage;
mod expired;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use punctual_domain::{Batch, JobId, TenantId, Trigger};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::coverage::Coverage;
use super::{Actor, ONE, Operator, OperatorError, amount, caller, length_in_words};
use crate::{
    ports::{Acknowledgement, BatchFilter, OpenDeadLetters, Page, PauseCause, StoreError},
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
/// Batches of a job that are looked at for how it does.
const NEWEST: Page = Page {
    cursor: None,
    limit: 20,
};

/// Jobs that a finding about several of them names.
const MAX_NAMED_JOBS: usize = 5;

/// Everything that needs attention at present.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Why the process does not do its main work; empty: it does.
    pub not_ready: Vec<Finding>,
    /// What an operator should look at, although the process does its main work.
    pub warnings: Vec<Finding>,
}

/// One thing that is wrong: one cause, whatever it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the finding.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// Description in words, which names no operator: also who has no key reads it.
    pub what: String,
    /// The operator who has caused it, as the audit log names them; `None`: none has.
    pub by: Option<String>,
    /// Since when; `None`: it is not known.
    pub since: Option<DateTime<Utc>>,
    /// The acknowledgement of an operator who knows of it; `None`: it is news.
    pub acknowledged: Option<Acknowledgement>,
    /// The reason, without what differs from one failure to the next.
    cause: String,
    /// What it is about, where there may be more.
    covers: Coverage,
    /// When it was over last, as far as is known: an acknowledgement before that was of another one.
    over_at: Option<DateTime<Utc>>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The process does not do its main work.
    Critical,
    /// Work fails, or is in danger.
    Warning,
    /// Somebody has to decide or to correct something, and it does not get worse.
    Notice,
}

impl Severity {
    /// Its word, as it is shown and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
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
    /// Preferences cannot be read.
    Preferences {
        /// The jobs that follow them.
        jobs: Vec<JobId>,
        /// The reason, without numbers and ids: it tells one cause from another.
        cause: String,
    },
    /// An operation fails again and again.
    Failing(Operation),
    /// A job is paused.
    Paused(JobId),
    /// Items of the newest batch of a job, which has this id, failed for good.
    JobFailing(JobId, Uuid),
    /// Deliveries of a job failed, and will be retried.
    DeliveryFailing(JobId),
    /// Deliveries of a job failed, and will not be retried.
    DeliveryGivenUp(JobId),
    /// A replica that holds work is unresponsive.
    Replica(String),
    /// Items of a job failed for good, in earlier batches.
    DeadLetters(JobId),
    /// Preferences for a job cannot be used.
    Quarantine(JobId),
    /// Items of a job were skipped in the last day because they had not begun in time.
    Expired(JobId),
    /// Batches of a job are due and do not begin.
    Waiting(JobId),
}

impl FindingKind {
    /// Tells findings apart: the same for the same cause, such as `paused/posts`.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Store => "store".to_owned(),
            Self::NotPlannedYet => "not-planned-yet".to_owned(),
            Self::NotPlanned => "not-planned".to_owned(),
            Self::Preferences { cause, .. } => {
                let cause = blake3::hash(cause.as_bytes()).to_hex();
                format!("preferences/{}", &cause[..8])
            }
            Self::Failing(operation) => match (operation, operation.job_id()) {
                (Operation::WriteLastKnownGood(feature), _) => {
                    format!("failing/{}/{feature}", operation.name())
                }
                (_, Some(job_id)) => format!("failing/{}/{job_id}", operation.name()),
                (_, None) => format!("failing/{}", operation.name()),
            },
            Self::Paused(job_id) => format!("paused/{job_id}"),
            Self::JobFailing(job_id, _) => format!("job-failing/{job_id}"),
            Self::DeliveryFailing(job_id) => format!("delivery-failing/{job_id}"),
            Self::DeliveryGivenUp(job_id) => format!("delivery-given-up/{job_id}"),
            Self::Replica(process) => format!("replica/{process}"),
            Self::DeadLetters(job_id) => format!("dead-letters/{job_id}"),
            Self::Quarantine(job_id) => format!("quarantine/{job_id}"),
            Self::Expired(job_id) => format!("expired/{job_id}"),
            Self::Waiting(job_id) => format!("waiting/{job_id}"),
        }
    }

    /// Whether it is about a job, alone or among others.
    #[must_use]
    pub fn concerns(&self, job_id: &JobId) -> bool {
        match self {
            Self::Preferences { jobs, .. } => jobs.contains(job_id),
            Self::Failing(operation) => operation.job_id() == Some(job_id),
            Self::Paused(of)
            | Self::JobFailing(of, _)
            | Self::DeliveryFailing(of)
            | Self::DeliveryGivenUp(of)
            | Self::DeadLetters(of)
            | Self::Quarantine(of)
            | Self::Expired(of)
            | Self::Waiting(of) => of == job_id,
            Self::Store | Self::NotPlannedYet | Self::NotPlanned | Self::Replica(_) => false,
        }
    }

    /// How bad it is, as long as the process does its main work.
    fn severity(&self) -> Severity {
        match self {
            Self::DeadLetters(_)
            | Self::Quarantine(_)
            | Self::DeliveryGivenUp(_)
            | Self::Expired(_) => Severity::Notice,
            _ => Severity::Warning,
        }
    }
}

impl Finding {
    fn new(
        kind: FindingKind,
        what: impl Into<String>,
        since: impl Into<Option<DateTime<Utc>>>,
    ) -> Self {
        let severity = kind.severity();
        Self {
            kind,
            severity,
            what: what.into(),
            by: None,
            since: since.into(),
            acknowledged: None,
            cause: String::new(),
            covers: Coverage::default(),
            over_at: None,
        }
    }

    /// The same, whose acknowledgement holds as long as the gist of `reason` stays the same.
    fn because(mut self, reason: &str) -> Self {
        self.cause = gist(reason);
        self
    }

    /// The same, which has begun when it says that it did: it was over before.
    fn begun(mut self) -> Self {
        self.over_at = self.since;
        self
    }

    /// The same, caused by an operator on purpose.
    fn by_operator(mut self, name: &str) -> Self {
        self.by = Some(name.to_owned());
        self.severity = Severity::Notice;
        self
    }

    /// Id of the finding: [`FindingKind::id`].
    #[must_use]
    pub fn id(&self) -> String {
        self.kind.id()
    }

    /// Changes with what an operator acknowledges: with how bad it is, its cause, and what it is about.
    #[must_use]
    pub fn state(&self) -> Uuid {
        Uuid::new_v5(&self.identity(), self.covers.to_string().as_bytes())
    }

    /// Changes when the finding is no longer the one that an operator has acknowledged, who is affected aside: it is worse, or has
    /// another cause.
    fn identity(&self) -> Uuid {
        let identity = format!("{}\n{}\n{}", self.id(), self.severity.as_str(), self.cause);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, identity.as_bytes())
    }

    /// Description in words, for operators: with the one who has caused it.
    #[must_use]
    pub fn in_full(&self) -> String {
        match &self.by {
            Some(by) => format!("{} by {}", self.what, caller(by)),
            None => self.what.clone(),
        }
    }

    /// Whether an acknowledgement is of this finding as it is now.
    fn is_known_by(&self, known: &Acknowledgement) -> bool {
        let covered = known.covers.parse().unwrap_or_default();
        known.finding == self.id()
            && known.state == self.identity()
            && self.over_at.is_none_or(|over| over <= known.at)
            && self.covers.is_within(&covered)
    }
}

/// A reason without what differs from one failure to the next: each word with a digit is `#`, and so are several in a row.
fn gist(reason: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let mut gist = String::with_capacity(reason.len());
    for piece in reason.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        let has_digit = word.contains(|c: char| c.is_ascii_digit());
        gist.push_str(if has_digit { "#" } else { word });
        gist.push_str(&piece[word.len()..]);
    }
    for several in ["#.#", "#:#", "# #"] {
        while gist.contains(several) {
            gist = gist.replace(several, "#");
        }
    }
    gist
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
    fn add(&mut self, not_ready: bool, mut finding: Finding) {
        if not_ready {
            finding.severity = Severity::Critical;
            self.not_ready.push(finding);
        } else {
            self.warnings.push(finding);
        }
    }

    /// Whether there is a finding of this kind.
    fn have(&self, kind: &FindingKind) -> bool {
        let mut all = self.not_ready.iter().chain(&self.warnings);
        all.any(|finding| finding.kind == *kind)
    }

    /// Everything: what is acknowledged last, and the worst first.
    #[must_use]
    pub fn all(&self) -> Vec<&Finding> {
        let mut all: Vec<&Finding> = self.not_ready.iter().chain(&self.warnings).collect();
        all.sort_by_key(|finding| (finding.acknowledged.is_some(), finding.severity));
        all
    }

    /// Whether everything due has been planned.
    fn planning(&mut self, status: &SchedulerStatus, now: DateTime<Utc>, started: DateTime<Utc>) {
        let Some(planned_until) = status.planned_until else {
            let what = "the scheduler has not planned yet";
            self.add(
                true,
                Finding::new(FindingKind::NotPlannedYet, what, started).begun(),
            );
            return;
        };
        let kind = FindingKind::NotPlanned;
        match status.next_due {
            Some(due) if now - due > DUE_REPORTED_AFTER => self.add(
                now - due > DUE_NOT_READY_AFTER,
                Finding::new(kind, "due work is not planned", due).begun(),
            ),
            _ if now - planned_until > PLANNING_TIMEOUT => self.add(
                true,
                Finding::new(kind, "the scheduler does not plan", planned_until).begun(),
            ),
            _ => {}
        }
    }

    /// Whether every job's preferences can be read. Jobs that fail for the same reason are one finding.
    fn preferences(
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
                    let (count, named) = (jobs.len(), named(jobs));
                    format!("{count} jobs {run} {effect}: {wrong} ({named})")
                }
            };
            let since = seen_until.unwrap_or(started);
            let kind = FindingKind::Preferences { jobs, cause };
            self.add(!loaded, Finding::new(kind, what, since).begun());
        }
    }
}

/// The first of these jobs, by name.
fn named(jobs: &[JobId]) -> String {
    let first: Vec<&str> = jobs
        .iter()
        .take(MAX_NAMED_JOBS)
        .map(JobId::as_str)
        .collect();
    match jobs.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
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

    /// Everything that an operator should look at: what this process does not do, jobs that fail, unresponsive replicas, items
    /// that failed for good or expired, work that does not begin, and preferences that cannot be used. What an operator has acknowledged says so.
    ///
    /// # Errors
    /// The store fails.
    pub async fn findings(&self) -> Result<Findings, StoreError> {
        // First: what is acknowledged while this looks is not over.
        let known = self.operations.acknowledgements().await?;
        let (mut findings, now) = (self.readiness().await, self.clock.now());
        let replicas = self.operations.replica_leases().await?;
        let held: u64 = replicas.iter().map(|replica| replica.chunks).sum();
        for replica in replicas {
            if replica.is_unresponsive(now) {
                let last = replica.last_seen.map_or_else(
                    || "last heartbeat unknown".to_owned(),
                    |seen| format!("last heartbeat {} ago", length_in_words(now - seen)),
                );
                let process = replica.process;
                let chunks = amount(replica.chunks, "chunk");
                let what = format!("replica {process} is unresponsive ({last}) and holds {chunks}");
                let kind = FindingKind::Replica(process);
                findings.add(false, Finding::new(kind, what, replica.last_seen).begun());
            }
        }
        self.waiting_findings(&mut findings, now, held).await?;
        self.expired_findings(&mut findings, now).await?;
        for letters in self.operations.open_dead_letters().await? {
            self.failing_job(&mut findings, letters).await?;
        }
        self.quarantine_findings(&mut findings);
        for finding in findings.not_ready.iter_mut().chain(&mut findings.warnings) {
            let of_it = known.iter().find(|known| finding.is_known_by(known));
            finding.acknowledged = of_it.cloned();
        }
        self.forget_what_is_over(&findings, &known).await;
        Ok(findings)
    }

    /// Forgets acknowledgements of what is over, so that it is news when it comes back. What only this process knows may go on for
    /// another one: there the begin of a finding decides.
    async fn forget_what_is_over(&self, findings: &Findings, known: &[Acknowledgement]) {
        let is_store = |finding: &Finding| finding.kind == FindingKind::Store;
        if findings.not_ready.iter().any(is_store) {
            return;
        }
        let found: BTreeSet<String> = findings.all().iter().map(|one| one.id()).collect();
        let is_over = |known: &&Acknowledgement| {
            let id = known.finding.as_str();
            let (kind, about) = id.split_once('/').unwrap_or((id, ""));
            let is_shared = match kind {
                "store" | "paused" | "job-failing" | "dead-letters" | "delivery-failing"
                | "delivery-given-up" | "replica" | "expired" | "waiting" => true,
                "quarantine" => self.has_read_preferences(about),
                _ => false,
            };
            is_shared && !found.contains(&known.finding)
        };
        for known in known.iter().filter(is_over) {
            // The next look tries again.
            let _ = self.operations.withdraw_acknowledgement(known).await;
        }
    }

    /// Whether the preferences of a job have been read, as far as there is such a job.
    fn has_read_preferences(&self, job: &str) -> bool {
        let status = self.status.get();
        let mut jobs = status.jobs.iter();
        match jobs.find(|(job_id, _)| job_id.as_str() == job) {
            Some((_, known)) => known.loaded,
            None => status.planned_until.is_some(),
        }
    }

    /// Adds that items of a job failed for good. Where the job paused itself for that, the pause says it.
    async fn failing_job(
        &self,
        findings: &mut Findings,
        letters: OpenDeadLetters,
    ) -> Result<(), StoreError> {
        let OpenDeadLetters {
            job_id,
            count,
            first_failed_at,
            batch_id,
            reasons,
        } = letters;
        let filter = BatchFilter {
            job_id: Some(job_id.clone()),
            status: None,
        };
        let (batches, _) = self.reader.batches(&filter, &NEWEST).await?;
        let run = FailingRun::of(&batches);
        // A replay fell due when what it replays did.
        let newest = run.as_ref().and_then(|run| {
            let of_run = |batch: &&Batch| batch.scheduled_at == run.newest_due_at;
            let mut newest = batches.iter().filter(of_run);
            newest.find(|batch| batch.batch_id == batch_id && went_well(batch).is_some())
        });
        let reason = reasons.first().map_or("", |(reason, _)| reason.as_str());
        let mostly = if reasons.len() > 1 { ", mostly" } else { "" };
        let (kind, what) = if let Some(batch) = newest {
            let (failed, ended) = (batch.still_failed(), batch.processed());
            let in_all = if count > failed {
                format!(" ({} in all)", amount(count, "dead letter"))
            } else {
                String::new()
            };
            let items = amount(ended, "item");
            let what = format!("{failed} of {items} failed{in_all}{mostly}: {reason}");
            let paused = FindingKind::Paused(job_id.clone());
            let of_pause = findings.warnings.iter_mut();
            let pause = of_pause.into_iter().find(|finding| finding.kind == paused);
            if let Some(pause) = pause.filter(|pause| pause.severity == Severity::Warning) {
                let waiting = match batch.total.saturating_sub(ended) {
                    1 => "1 item waits".to_owned(),
                    waiting => format!("{} wait", amount(waiting, "item")),
                };
                pause.what = format!("{job_id} is paused and {waiting}: {what}");
                pause.cause = gist(reason);
                return Ok(());
            }
            let kind = FindingKind::JobFailing(job_id.clone(), batch.batch_id);
            (kind, format!("{job_id}: {what}"))
        } else {
            let letters = amount(count, "dead letter");
            (
                FindingKind::DeadLetters(job_id.clone()),
                format!("{job_id}: {letters} of earlier runs{mostly}: {reason}"),
            )
        };
        let run = run.filter(|_| newest.is_some());
        let since = run.as_ref().and_then(|run| run.since);
        let mut finding = Finding::new(kind, what, since.unwrap_or(first_failed_at));
        finding.over_at = run.and_then(|run| run.healthy_at);
        findings.add(false, finding.because(reason));
        Ok(())
    }

    /// Adds the preferences that cannot be used, by job.
    fn quarantine_findings(&self, findings: &mut Findings) {
        let status = self.status.get();
        let mut jobs: Vec<_> = status.jobs.iter().collect();
        jobs.sort_by_key(|(job_id, _)| job_id.as_str());
        for (job_id, job) in jobs.into_iter().filter(|(_, job)| job.quarantined > 0) {
            let count = job.quarantined;
            let what = match count {
                1 => format!("{job_id} does not run for 1 tenant: the preference is invalid"),
                _ => format!(
                    "{job_id} does not run for {count} tenants: their preferences are invalid"
                ),
            };
            let mut finding = Finding::new(FindingKind::Quarantine(job_id.clone()), what, None);
            let unreadable = self.preferences.unreadable(&job.feature_type);
            let nameless = unreadable.others.len() + unreadable.more;
            finding.covers = job.mirror.read(|mirror| {
                let tenants = mirror.quarantine().keys();
                let count = tenants.len() + unreadable.tenants.len();
                let tenants = tenants.chain(unreadable.tenants.keys());
                Coverage::of(count, tenants.map(TenantId::as_str)).and_nameless(nameless)
            });
            findings.add(false, finding);
        }
    }

    /// Notes that an operator knows of a finding, until it changes; or, with `known` false, that it is news again.
    ///
    /// # Errors
    /// The finding does not exist, it has changed since `state`, or the store fails.
    pub async fn acknowledge(
        &self,
        actor: &Actor,
        finding: &str,
        state: Uuid,
        known: bool,
    ) -> Result<Finding, OperatorError> {
        let findings = self.findings().await?;
        let mut all = findings.not_ready.into_iter().chain(findings.warnings);
        let mut found = all.find(|one| one.id() == finding).ok_or_else(|| {
            let what = format!("there is nothing wrong by the id `{finding}`; it may be over");
            OperatorError::NotFound(what)
        })?;
        if found.state() != state {
            return Err(OperatorError::Conflict(format!(
                "it has changed meanwhile, and is now: {found}"
            )));
        }
        let action = if known {
            "acknowledge"
        } else {
            "unacknowledge"
        };
        self.record(actor, action, finding, &found.in_full())
            .await?;
        let before = found.acknowledged.take();
        found.acknowledged = known.then(|| Acknowledgement {
            finding: finding.to_owned(),
            state: found.identity(),
            covers: found.covers.to_string(),
            at: self.clock.now(),
            by: actor.0.clone(),
        });
        let operations = &self.operations;
        let stored = match (&found.acknowledged, before) {
            (Some(acknowledgement), _) => operations.acknowledge(acknowledgement).await,
            (None, Some(before)) => operations.withdraw_acknowledgement(&before).await,
            (None, None) => Ok(()),
        };
        self.noted(stored)?;
        Ok(found)
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
            let finding = Finding::new(kind, in_words(failure), failure.since);
            let finding = finding.because(&failure.reason).begun();
            findings.add(not_ready, finding);
        }
    }

    /// What the store knows: jobs that are paused, and deliveries that fail.
    async fn stored_findings(&self, now: DateTime<Utc>) -> Result<Vec<Finding>, StoreError> {
        self.reader.batches(&BatchFilter::default(), &ONE).await?;
        let mut found = Vec::new();
        for (job_id, pause) in self.queue.paused().await? {
            let what = match &pause.cause {
                PauseCause::Operator(_) => format!("{job_id} is paused"),
                PauseCause::Failures(reason) => format!("{job_id} is paused: {reason}"),
            };
            let finding = Finding::new(FindingKind::Paused(job_id), what, pause.since).begun();
            found.push(match &pause.cause {
                PauseCause::Operator(name) => finding.by_operator(name),
                PauseCause::Failures(reason) => finding.because(reason),
            });
        }
        for failing in self.failing_deliveries(now).await? {
            let (job_id, count, reason) = (failing.job_id, failing.deliveries, failing.reason);
            let failed = format!("{job_id}: {} failed", amount(count, "delivery"));
            let (kind, what) = if failing.given_up {
                (
                    FindingKind::DeliveryGivenUp(job_id),
                    format!("{failed} and will not be retried: {reason}"),
                )
            } else {
                (
                    FindingKind::DeliveryFailing(job_id),
                    format!("{failed} and will be retried: {reason}"),
                )
            };
            found.push(Finding::new(kind, what, failing.since).because(&reason));
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

/// Whether a batch went well, as far as it tells: one that is not over says nothing until something fails, and one of which
/// nothing ran never does.
fn went_well(batch: &Batch) -> Option<bool> {
    if batch.failed > 0 {
        return Some(false);
    }
    (batch.finished_at.is_some() && batch.succeeded > 0).then_some(true)
}

/// How a job has done since it last did well.
struct FailingRun {
    /// When the newest batches fell due that say how it does.
    newest_due_at: DateTime<Utc>,
    /// When the first of those fell due that failed since; `None`: it may have been before the batches that were looked at.
    since: Option<DateTime<Utc>>,
    /// When the last one that went well was over.
    healthy_at: Option<DateTime<Utc>>,
}

impl FailingRun {
    /// By the newest batches of a job; `None`: they say nothing.
    fn of(newest: &[Batch]) -> Option<Self> {
        let mut by_due: BTreeMap<DateTime<Utc>, Vec<&Batch>> = BTreeMap::new();
        for batch in newest.iter().filter(|batch| went_well(batch).is_some()) {
            by_due.entry(batch.scheduled_at).or_default().push(batch);
        }
        let (newest_due_at, _) = by_due.last_key_value()?;
        let mut run = Self {
            newest_due_at: *newest_due_at,
            since: None,
            healthy_at: None,
        };
        for (due_at, batches) in by_due.iter().rev() {
            // What a replay says is about the batch that failed.
            let first = || batches.iter().filter(|one| one.trigger != Trigger::Replay);
            if batches.iter().any(|batch| batch.failed > 0) {
                run.since = Some(*due_at);
            } else if first().next().is_some() {
                run.healthy_at = first().filter_map(|batch| batch.finished_at).max();
                return Some(run);
            }
        }
        if newest.len() == NEWEST.limit as usize {
            run.since = None;
        }
        Some(run)
    }
}
