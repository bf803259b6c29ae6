//! Operations that fail again and again in this process.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Finding, FindingKind, Findings};
use crate::services::{
    active_failures::{ActiveFailure, Operation},
    operator::Operator,
};

/// How long the store may refuse the writes of the main work before the process is not ready.
const WRITES_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// How long chunks may wait, although this process has room for them, before it is reported, and before the process is
/// not ready.
const CHUNKS_REPORTED_AFTER: TimeDelta = TimeDelta::seconds(20);
const CHUNKS_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(60);

impl Operator {
    /// Adds the operations that fail in this process.
    pub(super) fn operation_findings(&self, findings: &mut Findings, now: DateTime<Utc>) {
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
        Operation::ReloadZoneRules => format!("changed zone rules are not in effect: {reason}"),
        Operation::TrackDeliveries => format!("deliveries cannot be read or stored: {reason}"),
        Operation::StoreRequest => format!("requests of operators cannot be stored: {reason}"),
        Operation::WriteLastKnownGood(feature_type) => {
            format!(
                "the last known preferences for {feature_type} cannot be stored on disk: {reason}"
            )
        }
        Operation::WriteFence => {
            format!("how far the store has come cannot be remembered outside of it: {reason}")
        }
    }
}
