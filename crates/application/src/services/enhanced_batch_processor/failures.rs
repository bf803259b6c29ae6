//! Notices when so much of a batch fails that going on would only make more of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{Chunk, FailureLimit, JobId};
use uuid::Uuid;

/// How the batch that each job last worked on has gone, in this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchFailures(Arc<Mutex<HashMap<JobId, FailureCount>>>);

#[derive(Debug, Default)]
struct FailureCount {
    batch_id: Uuid,
    ended: u64,
    failed: u64,
    pause_reason: Option<String>,
}

impl BatchFailures {
    /// Counts an item that has succeeded or failed.
    pub(super) fn count(&self, job_id: &JobId, batch_id: Uuid, failed: bool, limit: FailureLimit) {
        let mut jobs = self.lock();
        let tally = jobs.entry(job_id.clone()).or_default();
        if tally.batch_id != batch_id {
            *tally = FailureCount {
                batch_id,
                ..FailureCount::default()
            };
        }
        tally.ended += 1;
        tally.failed += u64::from(failed);
        if failed && tally.pause_reason.is_none() && limit.is_reached(tally.failed, tally.ended) {
            tally.pause_reason = Some(format!(
                "{} of {} items of batch {} have failed",
                tally.failed, tally.ended, batch_id
            ));
        }
    }

    /// The reason to pause the job of a chunk, if its failure limit is reached.
    pub(super) fn pause_reason(&self, chunk: &Chunk) -> Option<String> {
        let jobs = self.lock();
        let tally = jobs.get(&chunk.job_id)?;
        let pause_reason = tally.pause_reason.clone();
        pause_reason.filter(|_| tally.batch_id == chunk.batch_id)
    }

    /// The reason to pause a job, if the failure limit of the batch that it last worked on is reached.
    pub(super) fn pause_reason_of_last(&self, job_id: &JobId) -> Option<String> {
        self.lock().get(job_id)?.pause_reason.clone()
    }

    /// Resets the counted failures of a job that an operator resumed.
    pub(super) fn reset_failures(&self, job_id: &JobId) {
        self.lock().remove(job_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, FailureCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
