//! What the process fails to do at present. Each part notes its own failures where it handles them; the next success
//! clears them. Health checks, pages and the terminal read them from memory, also while the store does not answer.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{FeatureType, JobId};

/// A failure that has not been repeated for so long is over: every operation but the last is retried much sooner.
const EXPIRES_AFTER: TimeDelta = TimeDelta::minutes(10);

/// What the process does again and again, and may fail at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Acquiring the leadership of the schedulers.
    AcquireLeadership,
    /// Storing the batches that fell due, and the progress.
    EnqueueDueBatches,
    /// Reading what waits in the queues.
    ReadQueues,
    /// Claiming chunks of a job and storing their results.
    StoreResults(JobId),
    /// Beginning chunks of a job that wait, although this process has room for them.
    BeginChunks(JobId),
    /// Preparing chunks of a job: its preferences or records.
    PrepareChunks(JobId),
    /// Planning a job.
    PlanJob(JobId),
    /// Finding the source file of a job.
    FindSourceFile(JobId),
    /// Reading the job files after a change.
    ReloadJobs,
    /// Taking zone rules after a change of their folder.
    ReloadZoneRules,
    /// Reading deliveries that are due, and storing how far they came.
    TrackDeliveries,
    /// Storing what an operator asked for.
    StoreRequest,
    /// Writing the last known preferences of a feature to disk.
    WriteLastKnownGood(FeatureType),
    /// Writing down how far the store has come.
    WriteFence,
}

impl Operation {
    /// The job it is about, if it is about one.
    #[must_use]
    pub fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::StoreResults(job_id)
            | Self::BeginChunks(job_id)
            | Self::PrepareChunks(job_id)
            | Self::PlanJob(job_id)
            | Self::FindSourceFile(job_id) => Some(job_id),
            _ => None,
        }
    }

    /// A name that stays the same, such as `plan-job`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AcquireLeadership => "acquire-leadership",
            Self::EnqueueDueBatches => "enqueue-due-batches",
            Self::ReadQueues => "read-queues",
            Self::StoreResults(_) => "store-results",
            Self::BeginChunks(_) => "begin-chunks",
            Self::PrepareChunks(_) => "prepare-chunks",
            Self::PlanJob(_) => "plan-job",
            Self::FindSourceFile(_) => "find-source-file",
            Self::ReloadJobs => "reload-jobs",
            Self::ReloadZoneRules => "reload-zone-rules",
            Self::TrackDeliveries => "track-deliveries",
            Self::StoreRequest => "store-request",
            Self::WriteLastKnownGood(_) => "write-last-known-good",
            Self::WriteFence => "write-fence",
        }
    }

    /// Whether it fails only when the store does.
    #[must_use]
    pub fn uses_store(&self) -> bool {
        matches!(
            self,
            Self::AcquireLeadership
                | Self::EnqueueDueBatches
                | Self::ReadQueues
                | Self::StoreResults(_)
                | Self::TrackDeliveries
                | Self::StoreRequest
        )
    }

    /// Whether it is repeated so rarely that silence does not mean success.
    fn is_rare(&self) -> bool {
        matches!(
            self,
            Self::ReloadJobs | Self::ReloadZoneRules | Self::WriteLastKnownGood(_)
        )
    }
}

/// An operation that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFailure {
    /// The operation.
    pub operation: Operation,
    /// The newest reason.
    pub reason: String,
    /// Time of its first failure since the last success.
    pub since: DateTime<Utc>,
    /// Time of its latest failure.
    pub last: DateTime<Utc>,
}

/// The operations that fail at present. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ActiveFailures(Arc<Mutex<BTreeMap<Operation, ActiveFailure>>>);

impl ActiveFailures {
    /// Notes how an operation went.
    pub fn note<T, E: Display>(
        &self,
        operation: Operation,
        outcome: &Result<T, E>,
        now: DateTime<Utc>,
    ) {
        match outcome {
            Ok(_) => self.succeeded(&operation),
            Err(reason) => self.failed(operation, reason, now),
        }
    }

    /// Notes that an operation failed.
    pub fn failed(&self, operation: Operation, reason: impl Display, now: DateTime<Utc>) {
        self.with(|failures| {
            let since = failures
                .get(&operation)
                .filter(|before| !before.is_over(now))
                .map_or(now, |before| before.since);
            let failure = ActiveFailure {
                operation: operation.clone(),
                reason: reason.to_string(),
                since,
                last: now,
            };
            failures.insert(operation, failure);
        });
    }

    /// Notes that an operation succeeded.
    pub fn succeeded(&self, operation: &Operation) {
        self.with(|failures| {
            failures.remove(operation);
        });
    }

    /// Forgets the failures of operations that this process no longer does.
    pub fn forget(&self, which: impl Fn(&Operation) -> bool) {
        self.with(|failures| failures.retain(|operation, _| !which(operation)));
    }

    /// The operations that fail.
    #[must_use]
    pub fn list(&self, now: DateTime<Utc>) -> Vec<ActiveFailure> {
        self.with(|failures| {
            failures.retain(|_, failure| !failure.is_over(now));
            failures.values().cloned().collect()
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<Operation, ActiveFailure>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ActiveFailure {
    fn is_over(&self, now: DateTime<Utc>) -> bool {
        !self.operation.is_rare() && now - self.last > EXPIRES_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_from_its_first_to_the_next_success() {
        let failures = ActiveFailures::default();
        let at = |minutes| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let enqueue = Operation::EnqueueDueBatches;
        failures.note(enqueue.clone(), &Err::<(), _>("locked"), at(0));
        failures.note(enqueue.clone(), &Err::<(), _>("full"), at(5));
        let [one] = failures.list(at(5)).try_into().unwrap();
        assert_eq!(
            (one.since, one.last, one.reason),
            (at(0), at(5), "full".to_owned())
        );
        failures.note(enqueue, &Ok::<_, String>(()), at(6));
        assert_eq!(failures.list(at(6)), []);
    }

    #[test]
    fn what_is_not_tried_again_is_forgotten_unless_it_is_rare() {
        let failures = ActiveFailures::default();
        let at = |minutes| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let feature = FeatureType::new("posts").unwrap();
        failures.failed(Operation::StoreRequest, "locked", at(0));
        failures.failed(Operation::WriteLastKnownGood(feature), "read-only", at(0));
        assert_eq!(failures.list(at(10)).len(), 2);
        assert_eq!(failures.list(at(11)).len(), 1);
        // The next failure begins anew.
        failures.failed(Operation::StoreRequest, "full", at(60));
        assert_eq!(failures.list(at(60))[0].since, at(60));
    }

    #[test]
    fn what_a_process_no_longer_does_is_forgotten() {
        let failures = ActiveFailures::default();
        let now = DateTime::UNIX_EPOCH;
        let job = JobId::new("catalog").unwrap();
        failures.failed(Operation::PlanJob(job), "unreadable", now);
        failures.failed(Operation::ReadQueues, "locked", now);
        failures.forget(|operation| operation.job_id().is_some());
        assert_eq!(failures.list(now).len(), 1);
    }
}
