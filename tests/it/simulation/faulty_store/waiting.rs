//! The port of items that wait, with errors before or after it has done its work, and a log of who has waited.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::Ordering},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    BatchReader, Clock, DueCalls, Page, Paged, Settled, Settlement, StoreError, WaitingCall,
    WaitingChange, WaitingFilter, WaitingItem, WaitingItems,
};
use punctual_domain::{Chunk, ItemId, ItemResult, ItemStatus, JobId, Occurrence, PurposeId};
use uuid::Uuid;

use super::{Commit, FaultyStore, Kept};
use crate::simulation::outcome::Bug;

/// An item that has begun to wait. Times are by the true clock.
#[derive(Debug, Clone)]
pub struct Wait {
    pub at: DateTime<Utc>,
    pub call_id: Uuid,
    pub batch_id: Uuid,
    pub job_id: JobId,
    pub item_id: ItemId,
    pub occurrence: Occurrence,
    pub scheduled_at: DateTime<Utc>,
    pub purpose_id: PurposeId,
    /// Attempts at the purpose so far.
    pub made: u32,
    /// The deadline, as it was changed last.
    pub until: DateTime<Utc>,
    /// What it came to, of which there is one.
    pub ended: Vec<(DateTime<Utc>, WaitEnd)>,
}

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEnd {
    /// The outcome, by a settlement.
    Settled(ItemStatus),
    /// The outcome, by a commit of its chunk.
    Committed(ItemStatus),
    /// The first purpose has ended, and the second is called.
    SecondCalled,
    /// The purpose is called again.
    CalledAgain,
    /// The tenant was erased.
    Erased,
}

/// Who has waited, and in which batches.
#[derive(Debug, Default)]
pub struct Waits {
    /// In the order of time.
    pub begun: Mutex<Vec<Wait>>,
    /// When batches were cancelled.
    pub cancelled: Mutex<BTreeMap<Uuid, DateTime<Utc>>>,
    /// Items that waited when their batch was over.
    pub overlooked: Mutex<Vec<ItemId>>,
}

impl FaultyStore {
    /// Writes down which of the items wait now.
    pub(super) async fn note_waiting(&self, chunk: &Chunk, items: &[WaitingItem]) {
        for item in items {
            let call = self.inner.waiting_call(item.call_id).await;
            if !matches!(call, Ok(Some(call)) if call.items.contains(&item.item_id)) {
                continue;
            }
            let wait = Wait {
                at: self.time.now(),
                call_id: item.call_id,
                batch_id: chunk.batch_id,
                job_id: chunk.job_id.clone(),
                item_id: item.item_id.clone(),
                occurrence: chunk.occurrence,
                scheduled_at: chunk.scheduled_at,
                purpose_id: item.purpose_id.clone(),
                made: item.attempts.made,
                until: item.waiting.until,
                ended: Vec::new(),
            };
            self.waits.begun.lock().unwrap().push(wait);
        }
        self.note_overlooked(chunk.batch_id).await;
    }

    /// Writes down that a chunk has committed results. A commit ends the wait of its item, unless the item was called again.
    pub(super) async fn note_committed(&self, chunk: &Chunk, results: &[ItemResult]) {
        let now = self.time.now();
        for result in results {
            let mut begun = self.waits.begun.lock().unwrap();
            let of_item = |wait: &&mut Wait| {
                wait.batch_id == chunk.batch_id && wait.item_id == result.item_id
            };
            let last = begun.iter_mut().rev().find(of_item);
            if let Some(last) = last {
                let others = [WaitEnd::CalledAgain, WaitEnd::SecondCalled, WaitEnd::Erased];
                if !last.ended.iter().any(|(_, end)| others.contains(end)) {
                    last.ended.push((now, WaitEnd::Committed(result.status)));
                }
            }
        }
        self.note_overlooked(chunk.batch_id).await;
    }

    /// Writes down what waits in a batch that is over.
    pub(super) async fn note_overlooked(&self, batch_id: Uuid) {
        let batch = self.inner.batch(batch_id).await;
        if !matches!(batch, Ok(Some(batch)) if batch.finished_at.is_some()) {
            return;
        }
        let begun = self.waits.begun.lock().unwrap();
        let open = begun
            .iter()
            .filter(|wait| wait.batch_id == batch_id && wait.ended.is_empty());
        let items = open.map(|wait| wait.item_id.clone());
        self.waits.overlooked.lock().unwrap().extend(items);
    }

    /// What a call is of: call ids are drawn anew whenever a seed is replayed.
    fn item_of(&self, call_id: Uuid) -> Option<(JobId, ItemId, Occurrence)> {
        let begun = self.waits.begun.lock().unwrap();
        let wait = begun.iter().find(|wait| wait.call_id == call_id)?;
        Some((wait.job_id.clone(), wait.item_id.clone(), wait.occurrence))
    }

    /// Writes down a settlement that was taken. Returns the batches of its items.
    fn note_settled(&self, call_id: Uuid, settlement: &Settlement) -> Vec<Uuid> {
        let now = self.time.now();
        let mut begun = self.waits.begun.lock().unwrap();
        let mut batches = Vec::new();
        for wait in begun.iter_mut().filter(|wait| wait.call_id == call_id) {
            let end = match settlement {
                Settlement::End(result) => {
                    let result = ItemResult {
                        item_id: wait.item_id.clone(),
                        ..(**result).clone()
                    };
                    let status = result.status;
                    self.commits.lock().unwrap().push(Commit {
                        at: now,
                        batch_id: wait.batch_id,
                        job_id: wait.job_id.clone(),
                        occurrence: wait.occurrence,
                        scheduled_at: wait.scheduled_at,
                        result,
                    });
                    WaitEnd::Settled(status)
                }
                Settlement::CallSecond(output) => {
                    self.kept.lock().unwrap().push(Kept {
                        at: now,
                        job_id: wait.job_id.clone(),
                        item_id: wait.item_id.clone(),
                        occurrence: wait.occurrence,
                        output: output.clone(),
                    });
                    WaitEnd::SecondCalled
                }
                Settlement::CallAgain { .. } => WaitEnd::CalledAgain,
            };
            wait.ended.push((now, end));
            batches.push(wait.batch_id);
        }
        batches
    }

    /// There is something to work on.
    pub(super) fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.work.notify_one();
    }
}

#[async_trait]
impl WaitingItems for FaultyStore {
    async fn completion_key(&self) -> Result<[u8; 32], StoreError> {
        self.inner.completion_key().await
    }

    async fn waiting_call(&self, call_id: Uuid) -> Result<Option<WaitingCall>, StoreError> {
        let (fails, _) = self.fails(("waiting call", self.item_of(call_id)));
        self.result(self.inner.waiting_call(call_id).await, fails)
    }

    async fn settle_calls(
        &self,
        settlements: &[(Uuid, Settlement)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Settled>, StoreError> {
        let items: Vec<_> = settlements
            .iter()
            .map(|(call_id, _)| self.item_of(*call_id))
            .collect();
        let (fails, after) = self.fails(("settle", &items));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let ends = |(_, settlement): &(Uuid, Settlement)| matches!(settlement, Settlement::End(_));
        let is_lost = self.bug == Some(Bug::CompletionsAreLost) && settlements.iter().all(ends);
        let settled = if is_lost {
            vec![Settled::Taken; settlements.len()]
        } else {
            self.inner.settle_calls(settlements, now).await?
        };
        for ((call_id, settlement), settled) in settlements.iter().zip(&settled) {
            if *settled == Settled::Taken {
                for batch_id in self.note_settled(*call_id, settlement) {
                    self.note_overlooked(batch_id).await;
                }
                self.wake();
            }
        }
        self.result(Ok(settled), fails)
    }

    async fn keep_waiting(
        &self,
        call_id: Uuid,
        change: &WaitingChange,
    ) -> Result<bool, StoreError> {
        let (fails, after) = self.fails(("keep waiting", self.item_of(call_id)));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let waits = self.inner.keep_waiting(call_id, change).await?;
        if let Some(until) = change.until.filter(|_| waits) {
            let mut begun = self.waits.begun.lock().unwrap();
            for wait in begun.iter_mut().filter(|wait| wait.call_id == call_id) {
                wait.until = until;
            }
        }
        self.result(Ok(waits), fails)
    }

    async fn due(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<DueCalls, StoreError> {
        let (fails, after) = self.fails("due");
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let mut due = self.inner.due(now, lease, limit).await?;
        if self.bug == Some(Bug::DeadlinesAreForgotten) {
            due.calls.clear();
        }
        // Of those that fall due at one time, the order must not depend on their ids.
        due.calls
            .sort_by_key(|call| (call.job_id.clone(), call.items.clone(), call.occurrence));
        if !self.inner.pending().is_empty() {
            self.wake();
        }
        self.result(Ok(due), fails)
    }

    async fn waiting_calls(
        &self,
        filter: &WaitingFilter,
        page: &Page,
    ) -> Result<Paged<WaitingCall>, StoreError> {
        self.inner.waiting_calls(filter, page).await
    }

    async fn waiting_counts(&self) -> Result<BTreeMap<JobId, u64>, StoreError> {
        self.inner.waiting_counts().await
    }
}
