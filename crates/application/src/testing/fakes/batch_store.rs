//! The port `BatchStore`, in memory.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{
    BatchStatus, Chunk, DeadLetter, DeadLetterState, ItemId, ItemResult, ItemStatus, JobId,
    Occurrence, Previous, PurposeId,
};
use serde_json::Value;
use uuid::Uuid;

use super::{FakeStore, Run, RunKey, Tables, stored, waiting_items::Phase};
use crate::ports::{
    BatchStore, Claim, Claimant, Committed, NewPrepared, PreparedOutput, PreparedState, StoreError,
    StoreErrorKind, WaitingItem,
};

#[async_trait]
impl BatchStore for FakeStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        self.tables().claim(chunk, claimant, now)
    }

    async fn previous(
        &self,
        job_id: &JobId,
        due_at: DateTime<Utc>,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, Previous>, StoreError> {
        let tables = self.tables();
        let mut found: HashMap<ItemId, Previous> = HashMap::new();
        for Run { stored, .. } in tables.runs.values() {
            let result = &stored.result;
            let is_earlier = stored.job_id == *job_id
                && !tables.prepares(stored.batch_id)
                && stored.scheduled_at < due_at
                && result.status == ItemStatus::Succeeded
                && items.contains(&result.item_id);
            let last = found.get(&result.item_id);
            if is_earlier && last.is_none_or(|last| last.scheduled_at < stored.scheduled_at) {
                let previous = Previous {
                    occurrence: stored.occurrence,
                    scheduled_at: stored.scheduled_at,
                    finished_at: result.finished_at.unwrap_or(result.started_at),
                };
                found.insert(result.item_id.clone(), previous);
            }
        }
        for item_id in items {
            let removed = tables
                .last_successes
                .get(&(job_id.clone(), item_id.clone()));
            let removed = removed.filter(|removed| removed.scheduled_at < due_at);
            let last = found.get(item_id).map(|last| last.scheduled_at);
            if let Some(removed) = removed.filter(|removed| last < Some(removed.scheduled_at)) {
                found.insert(item_id.clone(), *removed);
            }
        }
        Ok(found)
    }

    async fn record_running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if let Some(row) = self.tables().claimed(chunk, token) {
            row.running.insert(tenant.clone(), began);
        }
        Ok(())
    }

    async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.claimed(chunk, token) else {
            return Ok(false);
        };
        let before = row
            .poison_candidate
            .take()
            .filter(|(before, _)| before == tenant);
        row.poison_candidate = Some((tenant.clone(), before.map_or(1, |(_, times)| times + 1)));
        Ok(true)
    }

    async fn keep_output(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
        purpose: &PurposeId,
        output: &Value,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let is_claimed = tables.claimed(chunk, token).is_some();
        let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
        if is_claimed && !tables.erased.contains(&key) {
            let kept = (purpose.clone(), output.clone());
            tables.kept.insert(key, kept);
        }
        Ok(is_claimed)
    }

    async fn kept_outputs(
        &self,
        chunk: &Chunk,
        token: Uuid,
        purpose: &PurposeId,
        tenants: &[ItemId],
    ) -> Result<Option<HashMap<ItemId, Value>>, StoreError> {
        let mut tables = self.tables();
        if tables.claimed(chunk, token).is_none() {
            return Ok(None);
        }
        let kept = |tenant: &ItemId| {
            let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
            let (by, output) = tables.kept.get(&key)?;
            (by == purpose).then(|| (tenant.clone(), output.clone()))
        };
        Ok(Some(tenants.iter().filter_map(kept).collect()))
    }

    async fn keep_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
        prepared: &NewPrepared,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let is_claimed = tables.claimed(chunk, token).is_some();
        let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
        if is_claimed && !tables.erased.contains(&key) {
            tables.keep_prepared(chunk, tenant, prepared);
        }
        Ok(is_claimed)
    }

    async fn prepared(
        &self,
        job_id: &JobId,
        run: Occurrence,
        tenants: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedState>, StoreError> {
        Ok(self.tables().prepared_states(job_id, run, tenants))
    }

    async fn take_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenants: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedOutput>, StoreError> {
        let mut tables = self.tables();
        if tables.claimed(chunk, token).is_none() {
            return Ok(HashMap::new());
        }
        Ok(tables.take_prepared(chunk, tenants))
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        if tables.claimed(chunk, token).is_none() {
            return Ok(Committed::default());
        }
        let (mut taken, mut dropped) = (Vec::new(), 0);
        for result in results {
            let tenant = &result.item_id;
            let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
            if tables.erased.contains(&key) {
                dropped += 1;
                continue;
            }
            if tables.is_own_waiting(&key, chunk) {
                tables.waiting.remove(&key);
            }
            if result.status == ItemStatus::Skipped {
                let own_skip = (chunk.chunk_id.clone(), tenant.clone());
                let is_again = |known: &&mut Run| known.again.as_ref() == Some(&chunk.chunk_id);
                if let Some(known) = tables.runs.get_mut(&key).filter(is_again) {
                    known.again = None;
                    let is_it = |letter: &&mut DeadLetter| {
                        letter.job_id == chunk.job_id
                            && letter.item_id == *tenant
                            && letter.occurrence == chunk.occurrence
                    };
                    let letters = tables.dead_letters.iter_mut().rev();
                    if let Some(letter) = letters.into_iter().find(is_it) {
                        letter.state = DeadLetterState::Open;
                        letter.settled_at = None;
                    }
                }
                if tables.skipped.contains_key(&own_skip) {
                    continue;
                }
                tables.skipped.insert(own_skip, stored(chunk, result));
                taken.push(result.clone());
                continue;
            }
            if tables.store_outcome(chunk, result) {
                taken.push(result.clone());
            }
        }
        if let Some(row) = tables.claimed(chunk, token) {
            row.ended.count(&taken);
        }
        let finished_at = results.iter().filter_map(|result| result.finished_at).max();
        let finished = finished_at.is_some_and(|now| tables.finish(chunk, token, now));
        Ok(Committed {
            taken: taken.len() + dropped,
            claimed: true,
            cancelled: tables.is_cancelled(chunk.batch_id),
            finished,
        })
    }

    async fn begin_waiting(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Result<Committed, StoreError> {
        Ok(self.tables().begin_waiting(chunk, token, items))
    }

    async fn release(
        &self,
        chunk: &Chunk,
        token: Uuid,
        rest_until: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        if let Some(row) = self.tables().claimed(chunk, token) {
            row.claimant = None;
            row.poison_candidate = None;
            row.rest_until = rest_until;
        }
        self.arrivals.send_replace(());
        Ok(())
    }

    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.finish(chunk, token, now);
        Ok(())
    }
}

impl Tables {
    /// Stores an outcome that uses the occurrence up. `false`: another chunk has one.
    pub(super) fn store_outcome(&mut self, chunk: &Chunk, result: &ItemResult) -> bool {
        let key = (
            chunk.job_id.clone(),
            result.item_id.clone(),
            chunk.occurrence,
        );
        if !self.may_end(&key, chunk) {
            return false;
        }
        if result.status != ItemStatus::Failed {
            self.kept.remove(&key);
        }
        let run = Run {
            chunk_id: chunk.chunk_id.clone(),
            again: None,
            stored: stored(chunk, result),
        };
        self.runs.insert(key, run);
        if result.status == ItemStatus::Failed {
            let letter = DeadLetter {
                id: self.dead_letters.last().map_or(1, |last| last.id + 1),
                job_id: chunk.job_id.clone(),
                item_id: result.item_id.clone(),
                occurrence: chunk.occurrence,
                batch_id: chunk.batch_id,
                scheduled_at: chunk.scheduled_at,
                attempts: result.attempts,
                failure_kind: result.failure_kind.unwrap_or_default(),
                reason: result.error.clone().unwrap_or_default(),
                failed_at: result.finished_at.unwrap_or(result.started_at),
                state: DeadLetterState::Open,
                settled_at: None,
                key_form: chunk.key_form,
            };
            self.dead_letters.push(letter);
        }
        true
    }

    /// Whether a run has no outcome yet, or this chunk is to run it again.
    pub(super) fn may_end(&self, key: &RunKey, chunk: &Chunk) -> bool {
        let known = self.runs.get(key);
        known.is_none_or(|known| known.again.as_ref() == Some(&chunk.chunk_id))
    }

    /// Whether a tenant's item of one of the chunks that `chunk` is to begin after has no outcome.
    fn is_open_before(&self, chunk: &Chunk, tenant: &ItemId) -> bool {
        let before = chunk.after.iter().filter_map(|id| self.chunks.get(id));
        let mut open = before.filter(|row| !row.done && row.chunk.items.contains(tenant));
        open.any(|row| {
            let before = &row.chunk;
            let key = (before.job_id.clone(), tenant.clone(), before.occurrence);
            let skip = (before.chunk_id.clone(), tenant.clone());
            let run = self.runs.get(&key);
            !self.skipped.contains_key(&skip)
                && run.is_none_or(|run| run.again.as_ref() == Some(&before.chunk_id))
        })
    }

    /// Claims what is still to be run of a chunk.
    pub(super) fn claim(
        &mut self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let key = |tenant: &ItemId| (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
        let in_work_elsewhere = |tables: &Self, tenant: &ItemId| {
            tables.chunks.values().any(|row| {
                row.chunk.chunk_id != chunk.chunk_id
                    && row.chunk.job_id == chunk.job_id
                    && row.chunk.occurrence == chunk.occurrence
                    && row.claimant.is_some()
                    && row.items.contains(tenant)
            })
        };
        let cancelled = self.is_cancelled(chunk.batch_id);
        let mut resumed = HashMap::new();
        let (mut items, mut superseded, mut waiting) = (Vec::new(), 0, false);
        for tenant in &chunk.items {
            let own_skip = (chunk.chunk_id.clone(), tenant.clone());
            let row = self.waiting.get(&key(tenant));
            match self.runs.get(&key(tenant)) {
                // Out of a chunk that it was erased from, it counts no more.
                _ if self.erased.contains(&key(tenant)) => {
                    let known = self.chunks.get(&chunk.chunk_id);
                    let has = known.is_some_and(|row| row.chunk.items.contains(tenant));
                    superseded += usize::from(has);
                }
                _ if self.skipped.contains_key(&own_skip) => {}
                Some(run) if run.ended_in(&chunk.chunk_id) => {}
                _ if row.is_some_and(|row| row.chunk_id != chunk.chunk_id) => superseded += 1,
                _ if row.is_some_and(|row| row.phase == Phase::Resumed || cancelled) => {
                    if let Some(row) = row.filter(|row| row.phase == Phase::Resumed) {
                        let begun = (row.item.attempts, row.item.started_at);
                        resumed.insert(tenant.clone(), begun);
                    }
                    items.push(tenant.clone());
                }
                _ if row.is_some() => {}
                Some(run) if run.again.as_ref() == Some(&chunk.chunk_id) => {
                    items.push(tenant.clone());
                }
                Some(_) => superseded += 1,
                None if in_work_elsewhere(self, tenant) => waiting = true,
                None => items.push(tenant.clone()),
            }
        }
        let others = self.running().chain(self.waiting_results());
        let others = others.filter(|other| {
            other.job_id == chunk.job_id
                && other.occurrence != chunk.occurrence
                && !self.prepares(other.batch_id)
                && items.contains(&other.result.item_id)
        });
        let running = others.map(|other| other.result.item_id);
        let before = items
            .iter()
            .filter(|tenant| self.is_open_before(chunk, tenant));
        let overlapping = running.chain(before.cloned()).collect();
        if let Some(batch) = self.batches.get_mut(&chunk.batch_id)
            && batch.status == BatchStatus::Queued
        {
            batch.status = BatchStatus::Running;
        }
        let Some(row) = self.chunks.get_mut(&chunk.chunk_id) else {
            return Err(StoreError::new(
                StoreErrorKind::NotFound,
                "the chunk does not exist",
            ));
        };
        row.crash_count += u32::from(
            row.claimant
                .is_some_and(|by| by.process != claimant.process),
        );
        row.claimant = Some(claimant);
        row.claimed_at = now;
        row.items.clone_from(&items);
        row.superseded = superseded;
        row.running.clear();
        Ok(Claim {
            items,
            crash_count: row.crash_count,
            poison_candidate: row.poison_candidate.clone(),
            cancelled,
            restored: false,
            overlapping,
            resumed,
            waiting,
        })
    }
}
