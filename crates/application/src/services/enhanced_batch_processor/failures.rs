//! Notices when so much of a batch fails that going on would only make more of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{Chunk, FailureLimit, JobId};
use uuid::Uuid;

/// How the batch that each job last worked on has gone, in this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<HashMap<JobId, Tally>>>);

#[derive(Debug, Default)]
struct Tally {
    batch_id: Uuid,
    ended: u64,
    failed: u64,
    verdict: Option<String>,
}

impl Failures {
    /// Counts an item that has ended.
    pub(super) fn count(&self, chunk: &Chunk, failed: bool, limit: FailureLimit) {
        let mut jobs = self.lock();
        let tally = jobs.entry(chunk.job_id.clone()).or_default();
        if tally.batch_id != chunk.batch_id {
            *tally = Tally {
                batch_id: chunk.batch_id,
                ..Tally::default()
            };
        }
        tally.ended += 1;
        tally.failed += u64::from(failed);
        if failed && tally.verdict.is_none() && limit.is_reached(tally.failed, tally.ended) {
            tally.verdict = Some(format!(
                "{} of {} items of batch {} have failed",
                tally.failed, tally.ended, chunk.batch_id
            ));
        }
    }

    /// Why the job of a chunk should be paused, if it should.
    pub(super) fn verdict(&self, chunk: &Chunk) -> Option<String> {
        let jobs = self.lock();
        let tally = jobs.get(&chunk.job_id)?;
        let verdict = tally.verdict.clone();
        verdict.filter(|_| tally.batch_id == chunk.batch_id)
    }

    /// Forgets what has failed of a job: somebody has looked at it and lets it go on.
    pub(super) fn forgive(&self, job_id: &JobId) {
        self.lock().remove(job_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
