//! Notices when so much of a batch fails that going on would only make more of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{Chunk, FailureLimit, JobId};
use uuid::Uuid;

/// Batches of a job that are counted at one time: items that wait end in turns with those of other batches.
const MAX_BATCHES: usize = 32;

/// How the batches that each job last worked on have gone, in this process: of each job the last one at the end. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchFailures(Arc<Mutex<HashMap<JobId, Vec<FailureCount>>>>);

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
        let tallies = jobs.entry(job_id.clone()).or_default();
        if let Some(place) = tallies.iter().position(|tally| tally.batch_id == batch_id) {
            tallies[place..].rotate_left(1);
        } else {
            if tallies.len() >= MAX_BATCHES {
                tallies.remove(0);
            }
            tallies.push(FailureCount {
                batch_id,
                ..FailureCount::default()
            });
        }
        let Some(tally) = tallies.last_mut() else {
            return;
        };
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
        let mut tallies = jobs.get(&chunk.job_id)?.iter();
        let tally = tallies.find(|tally| tally.batch_id == chunk.batch_id)?;
        tally.pause_reason.clone()
    }

    /// The reason to pause a job, if the failure limit of the batch that it last worked on is reached.
    pub(super) fn pause_reason_of_last(&self, job_id: &JobId) -> Option<String> {
        self.lock().get(job_id)?.last()?.pause_reason.clone()
    }

    /// Resets the counted failures of a job that an operator resumed.
    pub(super) fn reset_failures(&self, job_id: &JobId) {
        self.lock().remove(job_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Vec<FailureCount>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_whose_items_end_in_turns_are_counted_each() {
        let (failures, job_id) = (BatchFailures::default(), JobId::new("videos").unwrap());
        let limit = FailureLimit {
            percent: 50,
            at_least: 3,
        };
        let count = |batch, failed| {
            failures.count(&job_id, Uuid::from_u128(batch), failed, limit);
            failures.pause_reason_of_last(&job_id).is_some()
        };
        for _ in 0..2 {
            assert!(!count(1, true));
            assert!(!count(2, false));
        }
        assert!(count(1, true), "three of three");
        assert!(!count(2, false), "that of the other batch");
        failures.reset_failures(&job_id);
        assert!(!count(1, true));
        for batch in 0..10_000 {
            count(batch, true);
        }
        assert_eq!(failures.lock()[&job_id].len(), MAX_BATCHES);
    }
}
