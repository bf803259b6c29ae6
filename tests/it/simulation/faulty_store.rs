//! The store that outlives the agents, with errors before or after it has done its work, and a log of what it did.

mod removal;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        BatchStore, Claim, Claimant, Clock, Committed, Enqueued, Leadership, NewPrepared, Pause,
        PauseCause, PreparedOutput, PreparedState, StoreError, WaitingItem, WorkQueue,
    },
    testing::{FakeStore, ManualClock},
};
use punctual_domain::{
    Chunk, Firing, ItemId, ItemResult, ItemStatus, JobId, NewBatch, Occurrence, Previous,
    PurposeId, ShardAssignment, Sharding, StoredPosition, Trigger,
};
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

pub use self::{
    removal::{Erasure, Removal, RunKey},
    waiting::{Wait, WaitEnd, Waits},
};
use super::{
    faults::{FaultPlan, chance},
    outcome::Bug,
};

/// A batch, as it was stored.
#[derive(Debug, Clone)]
pub struct Queued {
    /// By the true clock.
    pub at: DateTime<Utc>,
    pub trigger: Trigger,
    pub job_id: JobId,
    pub items: Vec<(Occurrence, ItemId)>,
}

impl Queued {
    fn of(batch: &NewBatch, at: DateTime<Utc>) -> Self {
        let items = batch.chunks.iter().flat_map(|chunk| {
            let item = move |item_id: &ItemId| (chunk.occurrence, item_id.clone());
            chunk.items.iter().map(item)
        });
        Self {
            at,
            trigger: batch.trigger,
            job_id: batch.job_id.clone(),
            items: items.collect(),
        }
    }
}

/// A result that was committed.
#[derive(Debug, Clone)]
pub struct Commit {
    /// By the true clock.
    pub at: DateTime<Utc>,
    pub batch_id: Uuid,
    pub job_id: JobId,
    pub occurrence: Occurrence,
    pub scheduled_at: DateTime<Utc>,
    pub result: ItemResult,
}

/// What the first of two purposes has made of an item, and is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// By the true clock.
    pub at: DateTime<Utc>,
    pub job_id: JobId,
    pub item_id: ItemId,
    pub occurrence: Occurrence,
    pub output: Value,
}

/// The store, with errors before or after it has done its work.
pub struct FaultyStore {
    pub inner: Arc<FakeStore>,
    time: Arc<ManualClock>,
    faults: FaultPlan,
    seed: u64,
    bug: Option<Bug>,
    pub queued: Mutex<HashMap<Uuid, Queued>>,
    /// In the order of time.
    pub commits: Mutex<Vec<Commit>>,
    /// In the order of time.
    pub kept: Mutex<Vec<Kept>>,
    pub waits: Waits,
    /// Results that were removed as old, in the order of time.
    pub removed: Mutex<Vec<Removal>>,
    /// Tenants who were erased, in the order of time.
    pub erased: Mutex<Vec<Erasure>>,
    /// Notified of some new batches, so that something can happen while they wait.
    pub new_batch: Notify,
    /// Notified when there is something to work on.
    pub work: Notify,
    wakes: AtomicUsize,
    /// The newest batch.
    pub newest: Mutex<Option<NewBatch>>,
}

impl FaultyStore {
    pub fn new(time: Arc<ManualClock>, faults: FaultPlan, seed: u64, bug: Option<Bug>) -> Self {
        Self {
            inner: Arc::default(),
            time,
            faults,
            seed,
            bug,
            queued: Mutex::default(),
            commits: Mutex::default(),
            kept: Mutex::default(),
            waits: Waits::default(),
            removed: Mutex::default(),
            erased: Mutex::default(),
            new_batch: Notify::new(),
            work: Notify::new(),
            wakes: AtomicUsize::new(0),
            newest: Mutex::default(),
        }
    }

    fn log(&self, batch: &NewBatch) {
        let queued = Queued::of(batch, self.time.now());
        self.queued.lock().unwrap().insert(batch.batch_id, queued);
        self.wake();
    }

    /// Stores a batch of one chunk that was over long ago, with the results of its items.
    pub async fn store_past(&self, batch: &NewBatch, results: &[ItemResult]) {
        let (chunk, at) = (&batch.chunks[0], batch.scheduled_at);
        let firing = Firing {
            batches: vec![batch.clone()],
            ..Firing::default()
        };
        self.inner.enqueue(firing, at).await.unwrap();
        let claimant = Claimant {
            process: Uuid::from_u128(1),
            token: Uuid::from_u128(2),
        };
        self.inner.claim(chunk, claimant, at).await.unwrap();
        let committed = self.inner.commit(chunk, claimant.token, results).await;
        assert_eq!(committed.unwrap().taken, results.len());
        let queued = Queued::of(batch, at);
        self.queued.lock().unwrap().insert(batch.batch_id, queued);
        let commit = |result: &ItemResult| Commit {
            at,
            batch_id: batch.batch_id,
            job_id: batch.job_id.clone(),
            occurrence: chunk.occurrence,
            scheduled_at: at,
            result: result.clone(),
        };
        let commits = results.iter().map(commit);
        self.commits.lock().unwrap().extend(commits);
    }

    /// The last success of an item before `due_at`, whatever has been removed.
    fn last_success(
        &self,
        job_id: &JobId,
        due_at: DateTime<Utc>,
        item_id: &ItemId,
    ) -> Option<Previous> {
        let commits = self.commits.lock().unwrap();
        let before = commits.iter().filter(|commit| {
            commit.job_id == *job_id
                && commit.result.item_id == *item_id
                && commit.result.status == ItemStatus::Succeeded
                && commit.scheduled_at < due_at
        });
        let last = before.max_by_key(|commit| commit.scheduled_at)?;
        Some(Previous {
            occurrence: last.occurrence,
            scheduled_at: last.scheduled_at,
            finished_at: last.result.finished_at?,
        })
    }

    /// How often there has been something to work on.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Whether to fail, and whether only after the work.
    fn fails(&self, what: impl Hash) -> (bool, bool) {
        let now = self.time.now();
        let often = self.faults.at(now).map_or(0, |window| window.store_errors);
        let mut random = chance(self.seed, now, what);
        (random.u8(..100) < often, random.bool())
    }

    fn result<T>(&self, work: Result<T, StoreError>, fails: bool) -> Result<T, StoreError> {
        if fails {
            return Err(StoreError::unavailable("simulated"));
        }
        work
    }
}

#[async_trait]
impl WorkQueue for FaultyStore {
    async fn position(&self, job_id: &JobId) -> Result<Option<StoredPosition>, StoreError> {
        let (fails, _) = self.fails(("position", job_id));
        self.result(self.inner.position(job_id).await, fails)
    }

    async fn assign(
        &self,
        assignment: &ShardAssignment,
        now: DateTime<Utc>,
    ) -> Result<Sharding, StoreError> {
        let (fails, _) = self.fails("assign");
        self.result(self.inner.assign(assignment, now).await, fails)
    }

    async fn lead(&self, process: Uuid, term: Duration) -> Result<Leadership, StoreError> {
        let (fails, _) = self.fails("lead");
        self.result(self.inner.lead(process, term).await, fails)
    }

    async fn paused(&self) -> Result<BTreeMap<JobId, Pause>, StoreError> {
        let (fails, _) = self.fails("paused");
        self.result(self.inner.paused().await, fails)
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        cause: Option<PauseCause>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.inner.set_paused(job_id, cause, now).await
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let is_cancelled = self.inner.cancel(batch_id).await?;
        if is_cancelled {
            let mut cancelled = self.waits.cancelled.lock().unwrap();
            cancelled.entry(batch_id).or_insert(self.time.now());
        }
        // What waits of it is skipped.
        self.wake();
        Ok(is_cancelled)
    }

    async fn settle(
        &self,
        ids: &[i64],
        batches: Vec<NewBatch>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        if self.bug == Some(Bug::ReplaysAreLost) {
            return self.inner.settle(ids, Vec::new(), now).await;
        }
        batches.iter().for_each(|batch| self.log(batch));
        self.inner.settle(ids, batches, now).await
    }

    async fn reopen(
        &self,
        ids: &[i64],
        discarded_after: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        self.inner.reopen(ids, discarded_after, now).await
    }

    async fn enqueue(
        &self,
        mut firing: Firing,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, StoreError> {
        let (fails, after) = self.fails(("enqueue", firing.batches.len()));
        if fails && !after {
            if self.bug == Some(Bug::ProgressWithoutBatches) {
                firing.batches.clear();
                return self.inner.enqueue(firing, now).await;
            }
            return Err(StoreError::unavailable("simulated"));
        }
        if self.bug == Some(Bug::ProgressAhead) {
            for position in &mut firing.positions {
                position.planned_until += TimeDelta::hours(2);
            }
        }
        let enqueued = self.inner.enqueue(firing, now).await?;
        enqueued.batches.iter().for_each(|batch| self.log(batch));
        // The groups of a backfill come in no order.
        if let Some(newest) = enqueued.batches.iter().max_by_key(|batch| batch.batch_id) {
            *self.newest.lock().unwrap() = Some(newest.clone());
            if chance(self.seed, self.time.now(), "meet").u8(..8) == 0 {
                self.new_batch.notify_one();
            }
        }
        self.result(Ok(enqueued), fails)
    }
}

#[async_trait]
impl BatchStore for FaultyStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let (fails, _) = self.fails(("claim", &chunk.chunk_id));
        let mut claim = self.inner.claim(chunk, claimant, now).await;
        if let Ok(claim) = &mut claim
            && self.bug == Some(Bug::AttemptsAreForgotten)
        {
            claim.resumed.clear();
        }
        self.result(claim, fails)
    }

    async fn previous(
        &self,
        job_id: &JobId,
        due_at: DateTime<Utc>,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, Previous>, StoreError> {
        if self.bug == Some(Bug::LastRunsAreLost) {
            return Ok(HashMap::new());
        }
        let mut previous = self.inner.previous(job_id, due_at, items).await?;
        match self.bug {
            Some(Bug::LastSuccessesAreRemoved) => {
                previous.retain(|item, last| !self.was_removed(job_id, item, last.occurrence));
            }
            Some(Bug::ErasedRunsAreRemembered) => {
                let erased = items.iter().filter(|item_id| self.was_erased(item_id));
                previous.extend(erased.filter_map(|item_id| {
                    Some((item_id.clone(), self.last_success(job_id, due_at, item_id)?))
                }));
            }
            _ => {}
        }
        Ok(previous)
    }

    async fn record_running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.inner.record_running(chunk, token, item, began).await
    }

    async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
    ) -> Result<bool, StoreError> {
        let (fails, _) = self.fails(("suspect", &chunk.chunk_id));
        self.result(
            self.inner.mark_poison_candidate(chunk, token, item).await,
            fails,
        )
    }

    async fn keep_output(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        purpose: &PurposeId,
        output: &Value,
    ) -> Result<bool, StoreError> {
        let (fails, after) = self.fails(("keep", &chunk.chunk_id, item));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let kept = self.inner.keep_output(chunk, token, item, purpose, output);
        let kept = kept.await?;
        if kept {
            self.kept.lock().unwrap().push(Kept {
                at: self.time.now(),
                job_id: chunk.job_id.clone(),
                item_id: item.clone(),
                occurrence: chunk.occurrence,
                output: output.clone(),
            });
        }
        self.result(Ok(kept), fails)
    }

    async fn kept_outputs(
        &self,
        chunk: &Chunk,
        token: Uuid,
        purpose: &PurposeId,
        items: &[ItemId],
    ) -> Result<Option<HashMap<ItemId, Value>>, StoreError> {
        if self.bug == Some(Bug::KeptOutputsAreLost) {
            return Ok(Some(HashMap::new()));
        }
        let (fails, _) = self.fails(("kept", &chunk.chunk_id));
        let kept = self.inner.kept_outputs(chunk, token, purpose, items);
        self.result(kept.await, fails)
    }

    async fn keep_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        prepared: &NewPrepared,
    ) -> Result<bool, StoreError> {
        let (fails, after) = self.fails(("prepared", &chunk.chunk_id, item));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let kept = self.inner.keep_prepared(chunk, token, item, prepared);
        self.result(kept.await, fails)
    }

    async fn prepared(
        &self,
        job_id: &JobId,
        run: Occurrence,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedState>, StoreError> {
        self.inner.prepared(job_id, run, items).await
    }

    async fn take_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedOutput>, StoreError> {
        let (fails, _) = self.fails(("take", &chunk.chunk_id));
        let taken = self.inner.take_prepared(chunk, token, items);
        self.result(taken.await, fails)
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let (fails, after) = self.fails(("commit", &chunk.chunk_id));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let mut results = results.to_vec();
        if self.bug == Some(Bug::ResultsOfAnother)
            && let Some(first) = results.first().map(|first| first.output.clone())
        {
            for result in &mut results {
                result.output.clone_from(&first);
            }
        }
        let mut stored = results.clone();
        if self.bug == Some(Bug::NothingToDoRunsAgain) {
            let nothing = |result: &&mut ItemResult| result.status == ItemStatus::NothingToDo;
            for result in stored.iter_mut().filter(nothing) {
                result.status = ItemStatus::Skipped;
            }
        }
        let committed = self.inner.commit(chunk, token, &stored).await?;
        if committed.claimed && committed.taken == results.len() {
            self.note_committed(chunk, &results).await;
            let at = self.time.now();
            let commit = |result| Commit {
                at,
                batch_id: chunk.batch_id,
                job_id: chunk.job_id.clone(),
                occurrence: chunk.occurrence,
                scheduled_at: chunk.scheduled_at,
                result,
            };
            let commits = results.into_iter().map(commit);
            self.commits.lock().unwrap().extend(commits);
        }
        self.result(Ok(committed), fails)
    }

    async fn begin_waiting(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Result<Committed, StoreError> {
        let (fails, after) = self.fails(("begin waiting", &chunk.chunk_id));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let committed = self.inner.begin_waiting(chunk, token, items).await?;
        if committed.claimed {
            self.note_waiting(chunk, items).await;
        }
        self.result(Ok(committed), fails)
    }

    async fn release(
        &self,
        chunk: &Chunk,
        token: Uuid,
        rest_until: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let (fails, _) = self.fails(("release", &chunk.chunk_id));
        self.result(self.inner.release(chunk, token, rest_until).await, fails)
    }

    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (fails, _) = self.fails(("finish", &chunk.chunk_id));
        let finished = self.inner.finish(chunk, token, now).await;
        self.note_overlooked(chunk.batch_id).await;
        self.result(finished, fails)
    }
}
