//! What the agent does not do at present, and why: the same facts for `/health/ready`, the operations page and the
//! terminal.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use punctual_application::{
    ActiveFailure, ActiveFailures, Jobs, Operation, SchedulerStatus, StatusHandle,
    ports::{BatchFilter, BatchReader, Operations, Page, StoreError, WorkQueue},
};
use punctual_infrastructure::Store;

/// How long the store may take to answer a health check.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// The scheduler plans at least once a minute, whether something is due or not.
const PLANS_WITHIN: TimeDelta = TimeDelta::seconds(120);
/// How late due work may be planned before it is reported, and before the agent is not ready.
const DUE_REPORTED_AFTER: TimeDelta = TimeDelta::seconds(10);
const DUE_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// How long the store may refuse the writes of the agent's main work before it is not ready.
const WRITES_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// How long chunks may wait, although this process has room for them, before it is reported, and before the agent is
/// not ready.
const CHUNKS_REPORTED_AFTER: TimeDelta = TimeDelta::seconds(20);
const CHUNKS_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(60);
/// Deliveries that were given up are shown for so long after their batch.
const GIVEN_UP_SHOWN_FOR: TimeDelta = TimeDelta::days(7);

const MEND_STORE: &str =
    "Free disk space, end what locks the store, or bring the database back (BATCH_STORE_URL)";

/// Looks at what the agent does not do.
#[derive(Clone)]
pub(crate) struct Health {
    reader: Arc<dyn BatchReader>,
    queue: Arc<dyn WorkQueue>,
    operations: Arc<dyn Operations>,
    status: StatusHandle,
    jobs: Jobs,
    failures: ActiveFailures,
    started_at: DateTime<Utc>,
}

/// What the agent does not do.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The agent does not do its main work.
    pub(crate) reasons: Vec<Reason>,
    /// It does, and an operator should look at these.
    pub(crate) warnings: Vec<Reason>,
}

/// One thing that the agent does not do.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) what: String,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) remedy: String,
    /// The page to look at next.
    pub(crate) link: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(since) = self.since {
            let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
            write!(f, " (since {since})")?;
        }
        write!(f, ". {}", self.remedy)
    }
}

impl Reason {
    fn new(
        what: impl Into<String>,
        since: impl Into<Option<DateTime<Utc>>>,
        remedy: impl Into<String>,
        link: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            since: since.into(),
            remedy: remedy.into(),
            link: link.into(),
        }
    }
}

impl Report {
    fn add(&mut self, not_ready: bool, reason: Reason) {
        let list = match not_ready {
            true => &mut self.reasons,
            false => &mut self.warnings,
        };
        list.push(reason);
    }

    /// Everything, the worst first.
    pub(crate) fn all(self) -> impl Iterator<Item = Reason> {
        self.reasons.into_iter().chain(self.warnings)
    }
}

impl Health {
    pub(crate) fn new(
        store: &Store,
        status: StatusHandle,
        jobs: Jobs,
        failures: ActiveFailures,
        started_at: DateTime<Utc>,
    ) -> Self {
        Self {
            reader: store.reader(),
            queue: store.queue(),
            operations: store.operations(),
            status,
            jobs,
            failures,
            started_at,
        }
    }

    /// What the agent does not do now. The store is asked for a bounded time.
    pub(crate) async fn report(&self, now: DateTime<Utc>) -> Report {
        let mut report = Report::default();
        let status = self.status.get();
        self.planning(&status, &mut report, now);
        self.preferences(&status, &mut report, now);
        self.failures(&mut report, now);
        let asked = tokio::time::timeout(STORE_TIMEOUT, self.stored(now)).await;
        let trouble = match asked {
            Ok(Ok(warnings)) => {
                report.warnings.extend(warnings);
                None
            }
            Ok(Err(error)) => Some(format!("the store does not answer: {error}")),
            Err(_) => Some(format!(
                "the store does not answer within {} s",
                STORE_TIMEOUT.as_secs()
            )),
        };
        if let Some(what) = trouble {
            report.add(true, Reason::new(what, None, MEND_STORE, "/"));
        }
        report
    }

    /// Whether everything due has been planned.
    fn planning(&self, status: &SchedulerStatus, report: &mut Report, now: DateTime<Utc>) {
        let Some(planned_until) = status.planned_until else {
            let remedy = "Wait; if this lasts, see the log";
            let what = "the scheduler has not planned yet";
            report.add(true, Reason::new(what, self.started_at, remedy, "/jobs"));
            return;
        };
        let remedy = "See the reasons beside this one, and the log. Nothing is lost: catch_up decides what is made up for";
        match status.next_due {
            Some(due) if now - due > DUE_REPORTED_AFTER => report.add(
                now - due > DUE_NOT_READY_AFTER,
                Reason::new("due work is not planned", due, remedy, "/jobs"),
            ),
            _ if now - planned_until > PLANS_WITHIN => report.add(
                true,
                Reason::new(
                    "the scheduler does not plan",
                    planned_until,
                    remedy,
                    "/jobs",
                ),
            ),
            _ => {}
        }
    }

    /// Whether every job's preferences can be read.
    fn preferences(&self, status: &SchedulerStatus, report: &mut Report, now: DateTime<Utc>) {
        let mut jobs: Vec<_> = status.jobs.iter().collect();
        jobs.sort_by_key(|(job_id, _)| job_id.as_str());
        for (job_id, job) in jobs {
            let Some(wrong) = job.wrong() else { continue };
            let age = job.seen_until.filter(|_| job.loaded);
            let age = age.map_or_else(String::new, |seen| format!(" ({} old)", words(now - seen)));
            let since = job.seen_until.unwrap_or(self.started_at);
            let remedy = "Check the Config Database and CONFIG_SERVICE_URL";
            let what = format!("{job_id}: {wrong}{age}");
            report.add(
                !job.loaded,
                Reason::new(what, since, remedy, format!("/jobs/{job_id}")),
            );
        }
    }

    /// What fails in this process.
    fn failures(&self, report: &mut Report, now: DateTime<Utc>) {
        let jobs = self.jobs.current();
        let failures = self.failures.list(now);
        let plans_fail = |job_id| {
            let plan = Operation::PlanJob(job_id);
            failures.iter().any(|failure| failure.operation == plan)
        };
        for failure in &failures {
            let removed = failure.operation.job_id();
            if removed.is_some_and(|job_id| jobs.job(job_id).is_none()) {
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
            report.add(not_ready, reason(failure));
        }
    }

    /// What the store knows: jobs that are paused, and deliveries that fail.
    async fn stored(&self, now: DateTime<Utc>) -> Result<Vec<Reason>, StoreError> {
        let page = Page {
            cursor: None,
            limit: 1,
        };
        self.reader.batches(&BatchFilter::default(), &page).await?;
        let mut warnings = Vec::new();
        for (job_id, reason) in self.queue.paused().await? {
            warnings.push(Reason::new(
                format!("{job_id} is paused: {reason}"),
                None,
                format!("Find out why, then `punctual-agent resume {job_id}`"),
                format!("/jobs/{job_id}"),
            ));
        }
        let given_up_since = now - GIVEN_UP_SHOWN_FOR;
        for failing in self.operations.failing_deliveries(given_up_since).await? {
            let (job_id, count, reason) = (failing.job_id, failing.deliveries, failing.reason);
            let (what, remedy) = match failing.given_up {
                false => (
                    format!("the results of {count} batches of {job_id} cannot be delivered: {reason}"),
                    "Mend the place that `deliver` of the job names; they are tried again for three days".to_owned(),
                ),
                true => (
                    format!("the results of {count} batches of {job_id} are not delivered any more: {reason}"),
                    "`punctual-agent results --batch ID` prints them".to_owned(),
                ),
            };
            warnings.push(Reason::new(
                what,
                failing.since,
                remedy,
                format!("/jobs/{job_id}"),
            ));
        }
        Ok(warnings)
    }
}

fn reason(failure: &ActiveFailure) -> Reason {
    let reason = &failure.reason;
    let (what, remedy) = match &failure.operation {
        Operation::AcquireLeadership => (
            format!("the leadership of the schedulers cannot be acquired: {reason}"),
            MEND_STORE,
        ),
        Operation::EnqueueDueBatches => {
            (format!("the store takes no batches: {reason}"), MEND_STORE)
        }
        Operation::ReadQueues => (format!("the queues cannot be read: {reason}"), MEND_STORE),
        Operation::StoreResults(job_id) => (
            format!("chunks of {job_id} cannot be claimed, or their results not stored: {reason}"),
            MEND_STORE,
        ),
        Operation::BeginChunks(job_id) => (
            format!("due work of {job_id} does not begin: {reason}"),
            "See the log for workers that end; restart the agent if nothing else helps",
        ),
        Operation::PrepareChunks(job_id) => (
            format!("due work of {job_id} does not run: {reason}"),
            "Mend the Config Database or the source; the chunks are tried again every few seconds",
        ),
        Operation::PlanJob(job_id) => (
            format!("{job_id} cannot be planned: {reason}"),
            "Mend the source or the store; what was missed is made up for as catch_up says",
        ),
        Operation::FindSourceFile(job_id) => (
            format!("{job_id} waits for its source: {reason}"),
            "Put the file there, or correct its path in batch_config.json",
        ),
        Operation::ReloadJobs => (
            reason.clone(),
            "Run `punctual-agent check`, and correct the files",
        ),
        Operation::TrackDeliveries => (
            format!("deliveries cannot be read or kept: {reason}"),
            MEND_STORE,
        ),
        Operation::StoreRequest => (
            format!("the store refuses what operators ask for: {reason}"),
            MEND_STORE,
        ),
        Operation::WriteLastKnownGood(feature_type) => (
            format!(
                "the last known preferences for {feature_type} cannot be kept on disk: {reason}"
            ),
            "Free disk space or mend the rights of CONFIG_LAST_KNOWN_GOOD_PATH; \
             without it the agent cannot start while the Config Database is down",
        ),
    };
    let link = match failure.operation.job_id() {
        Some(job_id) => format!("/jobs/{job_id}"),
        None => "/".to_owned(),
    };
    Reason::new(what, failure.since, remedy, link)
}

pub(crate) fn words(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0).unsigned_abs();
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
