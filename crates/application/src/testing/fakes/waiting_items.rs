//! The port `WaitingItems`, in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    Chunk, ItemId, ItemResult, ItemStatus, JobId, Progress, Waiting, WaitingStatus,
};
use serde_json::Value;
use uuid::Uuid;

use super::{FakeStore, RunKey, Tables, paged, stored};
use crate::ports::{
    Attempts, Committed, DueCalls, Page, Paged, Settled, Settlement, Stage, StoreError,
    StoredResult, WaitingCall, WaitingChange, WaitingFilter, WaitingItem, WaitingItems,
};

/// An item that waits, or has waited.
#[derive(Debug, Clone)]
pub(super) struct WaitingRow {
    pub(super) chunk_id: String,
    pub(super) item: WaitingItem,
    pub(super) phase: Phase,
    progress: Option<Progress>,
    /// When somebody must look at it.
    due_at: DateTime<Utc>,
}

/// What becomes next of an item that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its call is completed, or its deadline passes.
    Waiting,
    /// It is called again, when its time has come.
    Again,
    /// The next claim of its chunk is given it.
    Resumed,
}

#[async_trait]
impl WaitingItems for FakeStore {
    async fn completion_key(&self) -> Result<[u8; 32], StoreError> {
        let drawn = || {
            let mut key = [0; 32];
            key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
            key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
            key
        };
        Ok(*self.tables().completion_key.get_or_insert_with(drawn))
    }

    async fn waiting_call(&self, call_id: Uuid) -> Result<Option<WaitingCall>, StoreError> {
        Ok(self.tables().waiting_call(call_id))
    }

    async fn settle_calls(
        &self,
        settlements: &[(Uuid, Settlement)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Settled>, StoreError> {
        let settled = {
            let mut tables = self.tables();
            let settle = |(call_id, settlement): &(Uuid, Settlement)| {
                tables.settle_call(*call_id, settlement, now)
            };
            settlements.iter().map(settle).collect()
        };
        self.arrivals.send_replace(());
        Ok(settled)
    }

    async fn keep_waiting(
        &self,
        call_id: Uuid,
        change: &WaitingChange,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let keys = tables.items_of(call_id);
        for key in &keys {
            if let Some(row) = tables.waiting.get_mut(key) {
                row.change(change);
            }
        }
        Ok(!keys.is_empty())
    }

    async fn due(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<DueCalls, StoreError> {
        let due = self.tables().due(now, lease, limit);
        self.arrivals.send_replace(());
        Ok(due)
    }

    async fn waiting_calls(
        &self,
        filter: &WaitingFilter,
        page: &Page,
    ) -> Result<Paged<WaitingCall>, StoreError> {
        let tables = self.tables();
        let waiting = tables.waiting.values();
        let ids: BTreeSet<Uuid> = waiting.map(|row| row.item.call_id).collect();
        let is_wanted = |call: &WaitingCall| {
            let (job_id, item_id) = (&filter.job_id, &filter.item_id);
            job_id.as_ref().is_none_or(|job| *job == call.job_id)
                && filter.batch_id.is_none_or(|id| id == call.batch_id)
                && item_id.as_ref().is_none_or(|id| call.items.contains(id))
        };
        let calls = ids.into_iter().filter_map(|id| tables.waiting_call(id));
        let mut found: Vec<WaitingCall> = calls.filter(is_wanted).collect();
        found.sort_by_key(|call| (call.since, call.call_id));
        for call in &mut found {
            (call.waiting.state, call.written) = (Value::Null, None);
        }
        paged(found, page, |call| call.call_id.to_string())
    }

    async fn waiting_counts(&self) -> Result<BTreeMap<JobId, u64>, StoreError> {
        let tables = self.tables();
        let mut counts = BTreeMap::new();
        for ((job_id, ..), _) in tables.waiting.iter().filter(|(_, row)| row.waits()) {
            *counts.entry(job_id.clone()).or_insert(0) += 1;
        }
        Ok(counts)
    }
}

impl WaitingRow {
    /// Whether it counts as waiting.
    fn waits(&self) -> bool {
        self.phase != Phase::Resumed
    }

    fn change(&mut self, change: &WaitingChange) {
        let waiting = &mut self.item.waiting;
        waiting.until = change.until.unwrap_or(waiting.until);
        waiting.poll_at = change.poll_at.unwrap_or(waiting.poll_at);
        if let Some(state) = &change.state {
            waiting.state = state.clone();
        }
        if let Some(progress) = &change.progress {
            self.progress = Some(progress.clone());
        }
        self.due_at = due_at(waiting);
    }
}

/// When somebody must look at an item that waits.
fn due_at(waiting: &Waiting) -> DateTime<Utc> {
    let poll_at = waiting.poll_at.unwrap_or(waiting.until);
    poll_at.min(waiting.until)
}

impl Tables {
    /// Whether an item waits, or has waited, in this chunk.
    pub(super) fn is_own_waiting(&self, key: &RunKey, chunk: &Chunk) -> bool {
        let row = self.waiting.get(key);
        row.is_some_and(|row| row.chunk_id == chunk.chunk_id)
    }

    /// The items of a chunk that wait.
    pub(super) fn waiting_in(&self, chunk_id: &str) -> impl Iterator<Item = &ItemId> {
        let of_chunk = self.waiting.values();
        of_chunk
            .filter(move |row| row.waits() && row.chunk_id == chunk_id)
            .map(|row| &row.item.item_id)
    }

    /// The items of a chunk that the next claim is given.
    pub(super) fn resumed_in(&self, chunk_id: &str) -> impl Iterator<Item = &ItemId> {
        let of_chunk = self.waiting.values();
        of_chunk
            .filter(move |row| row.phase == Phase::Resumed && row.chunk_id == chunk_id)
            .map(|row| &row.item.item_id)
    }

    /// Number of items of a batch that wait.
    pub(super) fn waiting_in_batch(&self, batch_id: Uuid) -> u64 {
        let rows = self.waiting.values();
        let of_batch = rows.filter(|row| {
            let chunk = self.chunks.get(&row.chunk_id);
            row.waits() && chunk.is_some_and(|row| row.chunk.batch_id == batch_id)
        });
        of_batch.count() as u64
    }

    /// The items that wait, as results.
    pub(super) fn waiting_results(&self) -> impl Iterator<Item = StoredResult> {
        let waiting = self.waiting.values().filter(|row| row.waits());
        waiting.filter_map(|row| {
            let item = &row.item;
            let result = ItemResult {
                item_id: item.item_id.clone(),
                status: ItemStatus::Waiting,
                failure_kind: None,
                attempts: item.attempts.made + item.attempts.of_first,
                preference: item.preference.clone(),
                output: None,
                error: None,
                started_at: item.started_at,
                finished_at: None,
                waiting: Some(WaitingStatus {
                    since: item.since,
                    until: item.waiting.until,
                    progress: row.progress.clone(),
                }),
            };
            Some(stored(&self.chunks.get(&row.chunk_id)?.chunk, &result))
        })
    }

    /// Records items that begin to wait, under the claim of their chunk.
    pub(super) fn begin_waiting(
        &mut self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Committed {
        if self.claimed(chunk, token).is_none() {
            return Committed::default();
        }
        let mut taken = 0;
        for item in items {
            let key = (chunk.job_id.clone(), item.item_id.clone(), chunk.occurrence);
            let skip = (chunk.chunk_id.clone(), item.item_id.clone());
            if self.erased.contains(&key) {
                taken += 1;
                continue;
            }
            if !self.may_end(&key, chunk) || self.skipped.contains_key(&skip) {
                continue;
            }
            taken += 1;
            let row = WaitingRow {
                chunk_id: chunk.chunk_id.clone(),
                due_at: due_at(&item.waiting),
                item: item.clone(),
                phase: Phase::Waiting,
                progress: None,
            };
            self.waiting.insert(key, row);
            if let Some(row) = self.claimed(chunk, token) {
                row.items.retain(|given| *given != item.item_id);
                row.running.remove(&item.item_id);
            }
        }
        let now = items.iter().map(|item| item.since).max();
        Committed {
            taken,
            claimed: true,
            cancelled: self.is_cancelled(chunk.batch_id),
            finished: now.is_some_and(|now| self.finish(chunk, token, now)),
        }
    }

    /// The items that wait for a call, and their chunk.
    fn items_of(&self, call_id: Uuid) -> Vec<RunKey> {
        let rows = self.waiting.iter();
        let of_call =
            rows.filter(|(_, row)| row.phase == Phase::Waiting && row.item.call_id == call_id);
        of_call.map(|(key, _)| key.clone()).collect()
    }

    fn waiting_call(&self, call_id: Uuid) -> Option<WaitingCall> {
        let keys = self.items_of(call_id);
        let first = keys.first()?;
        let row = self.waiting.get(first)?;
        let chunk = &self.chunks.get(&row.chunk_id)?.chunk;
        let written = self.kept.get(first).map(|(_, output)| output.clone());
        let item = row.item.clone();
        Some(WaitingCall {
            call_id,
            items: keys.iter().map(|(_, id, _)| id.clone()).collect(),
            job_id: chunk.job_id.clone(),
            batch_id: chunk.batch_id,
            chunk_id: chunk.chunk_id.clone(),
            occurrence: chunk.occurrence,
            scheduled_at: chunk.scheduled_at,
            key_form: chunk.key_form,
            purpose_id: item.purpose_id,
            stage: item.stage,
            attempts: item.attempts,
            preference: item.preference,
            written: written.filter(|_| item.stage == Stage::Second),
            started_at: item.started_at,
            since: item.since,
            waiting: item.waiting,
            progress: row.progress.clone(),
            is_cancelled: self.is_cancelled(chunk.batch_id),
        })
    }

    fn settle_call(
        &mut self,
        call_id: Uuid,
        settlement: &Settlement,
        now: DateTime<Utc>,
    ) -> Settled {
        let keys = self.items_of(call_id);
        let first = keys.first().and_then(|key| self.waiting.get(key));
        let Some(chunk) = first.and_then(|row| self.chunks.get(&row.chunk_id)) else {
            return Settled::NotWaiting;
        };
        let chunk = chunk.chunk.clone();
        if self.is_cancelled(chunk.batch_id) {
            return Settled::Cancelled;
        }
        match settlement {
            Settlement::End(result) => {
                for key in keys {
                    let row = self.waiting.remove(&key);
                    let mut own = ItemResult {
                        item_id: key.1,
                        ..(**result).clone()
                    };
                    if row.is_some_and(|row| row.item.stage == Stage::Prepare)
                        && let Some(output) = own.output.take()
                    {
                        self.finish_prepared(call_id, output, now);
                    }
                    let taken = self.store_outcome(&chunk, &own);
                    if let Some(row) = self.chunks.get_mut(&chunk.chunk_id) {
                        if taken {
                            row.ended.count(&[own]);
                        } else {
                            row.superseded += 1;
                        }
                    }
                }
                let row = self.chunks.get(&chunk.chunk_id);
                if row.is_some_and(|row| row.parked && row.left() == 0) {
                    self.end_chunk(&chunk, now);
                }
            }
            Settlement::CallSecond(output) => {
                for key in keys {
                    if let Some(row) = self.waiting.get_mut(&key) {
                        row.item.attempts = Attempts {
                            of_first: row.item.attempts.made,
                            ..Attempts::default()
                        };
                        let kept = (row.item.purpose_id.clone(), output.clone());
                        self.kept.insert(key.clone(), kept);
                    }
                    self.resume(&key);
                }
            }
            Settlement::CallAgain { at, refused } => {
                for key in keys {
                    if let Some(row) = self.waiting.get_mut(&key) {
                        row.phase = Phase::Again;
                        row.due_at = *at;
                        row.item.attempts.refused = *refused;
                    }
                }
            }
        }
        Settled::Taken
    }

    /// Queues an item that is to be called.
    fn resume(&mut self, key: &RunKey) {
        let Some(row) = self.waiting.get_mut(key) else {
            return;
        };
        row.phase = Phase::Resumed;
        if let Some(chunk) = self.chunks.get_mut(&row.chunk_id) {
            chunk.parked = false;
            chunk.rest_until = None;
        }
    }

    fn due(&mut self, now: DateTime<Utc>, lease: TimeDelta, limit: usize) -> DueCalls {
        // What waits of a cancelled batch is given to a claim.
        let rows = self.waiting.iter().filter(|(_, row)| {
            let chunk = self.chunks.get(&row.chunk_id);
            row.waits() && chunk.is_some_and(|row| !self.is_cancelled(row.chunk.batch_id))
        });
        let mut rows: Vec<(DateTime<Utc>, Phase, Uuid, RunKey)> = rows
            .map(|(key, row)| (row.due_at, row.phase, row.item.call_id, key.clone()))
            .collect();
        rows.sort_by_key(|(due_at, _, call_id, _)| (*due_at, *call_id));
        let (mut calls, mut next) = (Vec::new(), None);
        for (due_at, phase, call_id, key) in rows {
            let is_due = due_at <= now;
            if is_due && phase == Phase::Again {
                self.resume(&key);
                continue;
            }
            if is_due && !calls.contains(&call_id) && calls.len() < limit {
                calls.push(call_id);
            }
            let mut due_at = due_at;
            if calls.contains(&call_id) {
                due_at = now + lease;
                if let Some(row) = self.waiting.get_mut(&key) {
                    row.due_at = due_at;
                }
            }
            next = Some(next.map_or(due_at, |next: DateTime<Utc>| next.min(due_at)));
        }
        let call = |call_id: Uuid| self.waiting_call(call_id);
        DueCalls {
            calls: calls.into_iter().filter_map(call).collect(),
            next,
        }
    }
}
