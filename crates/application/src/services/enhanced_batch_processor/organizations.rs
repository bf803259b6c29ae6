//! How many items of one organization run at one time in a job, and how fast they begin, in this process. An item takes a turn of
//! its organization before anything is done for it, and keeps it until it has ended, with its retries and a second purpose. Those
//! that wait for a turn hold nothing else, no place among the items in work either, so that those of other organizations pass
//! them. A chunk that waits for turns of other chunks alone is released to the queue, so that it keeps no chunk of other
//! organizations from being claimed. A chunk that waits for its own turns is [held up](Turns::held_up): others of its job are
//! claimed beside it.
//!
//! Where a purpose has rates for each organization, an item begins when each of its purposes that are still to be called has a
//! call left for its organization. These calls are counted at once, and those that are not made are refunded. A retry is
//! counted and does not wait: it would keep a place among the items in work. One chunk of a job waits for the next call of an
//! organization, and is held up meanwhile, if it is not long; the others are released to the queue.
//!
//! An item counts for the organization that its tenant belonged to when the chunk was prepared.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{Item, JobId, OrganizationId, PurposeId};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::prepare::Prepared;
use crate::{
    ports::RETRY_CHUNK_AFTER,
    services::handlers::{BoundHandler, Handlers},
};

/// The turns of each organization that are taken, by job.
type Taken = HashMap<JobId, HashMap<OrganizationId, u32>>;

/// The turns that are taken. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<Taken>,
    /// Organizations for whose next call a chunk waits.
    awaited: Mutex<HashSet<(JobId, OrganizationId)>>,
    /// Number of each job's chunks that are held up.
    held_up: Mutex<BTreeMap<JobId, usize>>,
    released: Notify,
}

/// The turn of an item, until it is dropped.
pub(super) struct Turn {
    turns: Turns,
    job_id: JobId,
    organization: OrganizationId,
    /// Whether the job limits the turns of an organization.
    is_limited: bool,
    /// Calls that are counted and not made.
    calls: Vec<Call>,
    /// Shared by the turns of the chunk's items.
    _of_chunk: Arc<()>,
}

/// A purpose with rates for each organization.
#[derive(Clone)]
struct Call {
    purpose_id: PurposeId,
    bound: Arc<BoundHandler>,
}

/// A chunk that waits for the next call of an organization, until it is dropped.
struct Awaited {
    turns: Turns,
    call_of: (JobId, OrganizationId),
    until: Instant,
}

/// A chunk whose items that have not begun all wait for turns or calls, until it is dropped.
struct HeldUp<'a> {
    turns: &'a Turns,
    job_id: &'a JobId,
}

/// The items of a chunk that have not begun, in their order.
pub(super) struct NotBegun {
    turns: Turns,
    job_id: JobId,
    /// Turns of each organization; `None`: any number.
    most: Option<NonZeroU32>,
    handlers: Handlers,
    /// The job's purposes, in their order.
    purposes: Vec<PurposeId>,
    items: VecDeque<Prepared>,
    /// Shared with the turns that items of this chunk have.
    of_chunk: Arc<()>,
}

impl Turns {
    /// The items of a chunk of this job, of which an organization has `most` turns, for these purposes.
    pub(super) fn items(
        &self,
        job_id: &JobId,
        most: Option<NonZeroU32>,
        (handlers, purposes): (&Handlers, Vec<PurposeId>),
        items: Vec<Prepared>,
    ) -> NotBegun {
        NotBegun {
            turns: self.clone(),
            job_id: job_id.clone(),
            most,
            handlers: handlers.clone(),
            purposes,
            items: items.into(),
            of_chunk: Arc::default(),
        }
    }

    /// Number of chunks of each job whose items that have not begun all wait for turns or calls.
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

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, HashSet<(JobId, OrganizationId)>> {
        let awaited = self.0.awaited.lock();
        awaited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl NotBegun {
    /// Whether all have begun.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// From now on they take no turns and no calls: they will not run.
    pub(super) fn end_limit(&mut self) {
        self.most = None;
        self.purposes.clear();
    }

    /// The first item that may begin, with its turn; waits for the turns that others of the chunk have, and for the next call of
    /// an organization. `None`: all have begun, or those that have not wait for other chunks, or for long.
    pub(super) async fn next(&mut self) -> Option<(Prepared, Option<Turn>)> {
        let turns = self.turns.clone();
        loop {
            // From here on no turn that is released is missed.
            let released = turns.0.released.notified();
            let next = self.take();
            if next.is_some() || self.items.is_empty() {
                return next;
            }
            let latest = Instant::now() + RETRY_CHUNK_AFTER.to_std().unwrap_or_default();
            let awaited = self.await_call(latest);
            let has_turns = Arc::strong_count(&self.of_chunk) > 1;
            if awaited.is_none() && !has_turns {
                return None;
            }
            let _held_up = turns.hold_up(&self.job_id);
            // A call that comes later, or that another chunk waits for, may come before the chunk's turns are released.
            let until = awaited.as_ref().map_or(latest, |awaited| awaited.until);
            let _elapsed = timeout_at(until, released).await;
        }
    }

    fn take(&mut self) -> Option<(Prepared, Option<Turn>)> {
        let (most, limited) = (self.most, self.limited());
        if most.is_none() && limited.is_empty() {
            return Some((self.items.pop_front()?, None));
        }
        let mut taken = self.turns.taken();
        let may_begin = |prepared: &Prepared| {
            let item = prepared.to_run();
            let organization = item.and_then(|item| Some((item, item.organization()?)));
            organization.is_none_or(|(item, organization)| {
                has_turn(&taken, &self.job_id, most, organization)
                    && opens_at(item, organization, &limited).is_none()
            })
        };
        let place = self.items.iter().position(may_begin)?;
        let next = self.items.remove(place)?;
        let turn = next.to_run().and_then(|item| {
            let organization = item.organization()?.clone();
            if most.is_some() {
                let of_job = taken.entry(self.job_id.clone()).or_default();
                *of_job.entry(organization.clone()).or_default() += 1;
            }
            let calls: Vec<Call> = calls_of(item, &limited).cloned().collect();
            for call in &calls {
                call.bound.throttle.organizations.begin(&organization);
            }
            Some(Turn {
                turns: self.turns.clone(),
                job_id: self.job_id.clone(),
                organization,
                is_limited: most.is_some(),
                calls,
                _of_chunk: Arc::clone(&self.of_chunk),
            })
        });
        Some((next, turn))
    }

    /// Waits for the organization that has a call left first, of those that have turns and that no other chunk waits for. `None`:
    /// there is none until `latest`, when the chunk would be claimed again.
    fn await_call(&self, latest: Instant) -> Option<Awaited> {
        let limited = self.limited();
        let taken = self.turns.taken();
        let mut awaited = self.turns.awaited();
        let calls = self.items.iter().filter_map(|prepared| {
            let item = prepared.to_run()?;
            let organization = item.organization()?;
            let until = opens_at(item, organization, &limited)?;
            let is_near =
                until <= latest && has_turn(&taken, &self.job_id, self.most, organization);
            let call_of = (self.job_id.clone(), organization.clone());
            (is_near && !awaited.contains(&call_of)).then_some((until, call_of))
        });
        let (until, call_of) = calls.min_by_key(|(until, _)| *until)?;
        awaited.insert(call_of.clone());
        Some(Awaited {
            turns: self.turns.clone(),
            call_of,
            until,
        })
    }

    /// The purposes that have rates for each organization, as they are bound now.
    fn limited(&self) -> Vec<Call> {
        let call = |purpose_id: &PurposeId| {
            let bound = self.handlers.of(purpose_id)?;
            let is_limited = bound.throttle.organizations.are_limited();
            is_limited.then(|| Call {
                purpose_id: purpose_id.clone(),
                bound,
            })
        };
        self.purposes.iter().filter_map(call).collect()
    }
}

/// Whether a job has a turn for an organization.
fn has_turn(
    taken: &Taken,
    job_id: &JobId,
    most: Option<NonZeroU32>,
    organization: &OrganizationId,
) -> bool {
    let of_organization = taken
        .get(job_id)
        .and_then(|of_job| of_job.get(organization));
    most.zip(of_organization)
        .is_none_or(|(most, taken)| *taken < most.get())
}

/// When each purpose that is still to be called for an item has a call for its organization; `None`: now.
fn opens_at(item: &Item, organization: &OrganizationId, limited: &[Call]) -> Option<Instant> {
    let opens_at = |call: &Call| call.bound.throttle.organizations.opens_at(organization);
    calls_of(item, limited).filter_map(opens_at).max()
}

/// The purposes that are still to be called for an item that has not begun: not the first of two, where its output is kept.
fn calls_of<'a>(item: &'a Item, limited: &'a [Call]) -> impl Iterator<Item = &'a Call> {
    let is_ahead = move |call: &&Call| item.written.is_none() || call.purpose_id == item.purpose_id;
    limited.iter().filter(is_ahead)
}

impl Turn {
    /// A call of this purpose begins. Whether it is counted.
    pub(super) fn begin_call(&mut self, purpose_id: &PurposeId) -> bool {
        let counted = self.calls.len();
        self.calls.retain(|call| call.purpose_id != *purpose_id);
        self.calls.len() < counted
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for call in &self.calls {
            let organizations = &call.bound.throttle.organizations;
            organizations.refund(&self.organization);
        }
        if self.is_limited {
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
        self.turns.0.released.notify_waiters();
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.turns.awaited().remove(&self.call_of);
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

    /// Number of organizations for whose next call a chunk waits.
    pub(super) fn awaited_calls(&self) -> usize {
        self.awaited().len()
    }
}
