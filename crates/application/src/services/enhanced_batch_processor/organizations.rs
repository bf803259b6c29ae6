//! How many items of one organization run at one time in a job, in this process. An item takes a turn of its organization
//! before anything is done for it, and keeps it until it has ended, with its retries and a second purpose. Those that wait for a turn hold nothing
//! else, no place among the items in work either, so that those of other organizations pass them. A chunk that waits for turns
//! of other chunks alone is given back to the queue, so that it keeps no chunk of other organizations from being claimed. A chunk
//! that waits for its own turns is [held up](Turns::held_up): others of its job are claimed beside it.
//!
//! An item counts for the organization that its tenant belonged to when the chunk was prepared.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{Item, JobId, OrganizationId};
use tokio::sync::Notify;

use super::prepare::Prepared;

/// The turns that are taken. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<HashMap<JobId, HashMap<OrganizationId, u32>>>,
    /// Number of each job's chunks that are held up.
    held_up: Mutex<BTreeMap<JobId, usize>>,
    given_back: Notify,
}

/// The turn of an item, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    job_id: JobId,
    organization: OrganizationId,
    /// Shared by the turns of the chunk's items.
    _of_chunk: Arc<()>,
}

/// A chunk whose items that have not begun all wait for turns, until it is dropped.
struct HeldUp<'a> {
    turns: &'a Turns,
    job_id: &'a JobId,
}

/// The items of a chunk that have not begun, in their order.
pub(super) struct NotBegun {
    turns: Turns,
    job_id: JobId,
    /// Turns of each organization; `None`: nothing is limited.
    most: Option<NonZeroU32>,
    items: VecDeque<Prepared>,
    /// Shared with the turns that items of this chunk have.
    of_chunk: Arc<()>,
}

impl Turns {
    /// The items of a chunk of this job, of which an organization has so many turns.
    pub(super) fn items(
        &self,
        job_id: &JobId,
        most: Option<NonZeroU32>,
        items: Vec<Prepared>,
    ) -> NotBegun {
        NotBegun {
            turns: self.clone(),
            job_id: job_id.clone(),
            most,
            items: items.into(),
            of_chunk: Arc::default(),
        }
    }

    /// Number of chunks of each job whose items that have not begun all wait for turns.
    pub(super) fn held_up(&self) -> BTreeMap<JobId, usize> {
        self.chunks_held_up().clone()
    }

    fn hold_up<'a>(&'a self, job_id: &'a JobId) -> HeldUp<'a> {
        *self.chunks_held_up().entry(job_id.clone()).or_default() += 1;
        HeldUp {
            turns: self,
            job_id,
        }
    }

    fn chunks_held_up(&self) -> MutexGuard<'_, BTreeMap<JobId, usize>> {
        let held_up = self.0.held_up.lock();
        held_up.unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<JobId, HashMap<OrganizationId, u32>>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NotBegun {
    /// Whether all have begun.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// From now on they take no turns: they will not run.
    pub(super) fn end_limit(&mut self) {
        self.most = None;
    }

    /// The first item that may begin, with its turn; waits for the turns that others of the chunk have. `None`: all have begun,
    /// or those that have not wait for turns of other chunks.
    pub(super) async fn next(&mut self) -> Option<(Prepared, Option<Turn>)> {
        let turns = self.turns.clone();
        loop {
            // From here on no turn that is given back is missed.
            let given_back = turns.0.given_back.notified();
            let next = self.take();
            let has_turns = Arc::strong_count(&self.of_chunk) > 1;
            if next.is_some() || self.items.is_empty() || !has_turns {
                return next;
            }
            let _held_up = turns.hold_up(&self.job_id);
            given_back.await;
        }
    }

    fn take(&mut self) -> Option<(Prepared, Option<Turn>)> {
        let Some(most) = self.most else {
            return Some((self.items.pop_front()?, None));
        };
        let mut taken = self.turns.taken();
        let of_job = taken.get(&self.job_id);
        let has_turn = |prepared: &Prepared| {
            let organization = prepared.to_run().and_then(Item::organization);
            let of_organization = organization.and_then(|id| of_job?.get(id));
            of_organization.is_none_or(|taken| *taken < most.get())
        };
        let place = self.items.iter().position(has_turn)?;
        let next = self.items.remove(place)?;
        let organization = next.to_run().and_then(Item::organization).cloned();
        let turn = organization.map(|organization| {
            let of_job = taken.entry(self.job_id.clone()).or_default();
            *of_job.entry(organization.clone()).or_default() += 1;
            Turn {
                turns: self.turns.clone(),
                job_id: self.job_id.clone(),
                organization,
                _of_chunk: Arc::clone(&self.of_chunk),
            }
        });
        Some((next, turn))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut taken = self.turns.taken();
            if let Some(of_job) = taken.get_mut(&self.job_id) {
                if let Some(count) = of_job.get_mut(&self.organization) {
                    *count -= 1;
                    if *count == 0 {
                        of_job.remove(&self.organization);
                    }
                }
                if of_job.is_empty() {
                    taken.remove(&self.job_id);
                }
            }
        }
        self.turns.0.given_back.notify_waiters();
    }
}

impl Drop for HeldUp<'_> {
    fn drop(&mut self) {
        let mut held_up = self.turns.chunks_held_up();
        if let Some(chunks) = held_up.get_mut(self.job_id) {
            *chunks -= 1;
            if *chunks == 0 {
                held_up.remove(self.job_id);
            }
        }
    }
}

#[cfg(test)]
impl Turns {
    /// Number of turns that are taken.
    pub(super) fn count(&self) -> u32 {
        let taken = self.taken();
        taken.values().flat_map(HashMap::values).sum()
    }
}
