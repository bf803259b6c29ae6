//! The port `WorkQueue`, in memory.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{
    BatchStatus, Chunk, DeadLetter, DeadLetterState, Firing, ItemId, ItemResult, ItemStatus, JobId,
    NewBatch, ShardAssignment, Sharding, SkipReason, StoredPosition, Trigger,
};
use uuid::Uuid;

use super::{ChunkRow, FakeStore, Run, Tables, stored};
use crate::ports::{
    Enqueued, Leadership, Pause, PauseCause, StoreError, StoreErrorKind, WorkQueue,
};

#[async_trait]
impl WorkQueue for FakeStore {
    /// Always, unless the store is held: what is in memory belongs to one process.
    async fn lead(&self, _process: Uuid, _term: Duration) -> Result<Leadership, StoreError> {
        if self.is_held() {
            return Ok(Leadership::Refused);
        }
        Ok(Leadership::Always)
    }

    async fn assign(
        &self,
        assignment: &ShardAssignment,
        now: DateTime<Utc>,
    ) -> Result<Sharding, StoreError> {
        let mut tables = self.tables();
        let positions = tables.positions.values();
        let planned: Vec<_> = positions
            .map(|position| (position.planned_until, position.high_water_mark))
            .collect();
        let sharding = Sharding::assign(tables.sharding.clone(), assignment, &planned, now);
        let sharding = sharding
            .map_err(|error| StoreError::new(StoreErrorKind::Conflict, error.to_string()))?;
        tables.sharding = Some(sharding.clone());
        Ok(sharding)
    }

    async fn position(&self, job_id: &JobId) -> Result<Option<StoredPosition>, StoreError> {
        Ok(self.tables().positions.get(job_id).cloned())
    }

    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError> {
        let mut tables = self.tables();
        let mut enqueued = Enqueued::default();
        for mut batch in firing.batches {
            if batch.trigger == Trigger::LateChange {
                tables.leave_out_settled(&mut batch);
                if batch.chunks.is_empty() {
                    continue;
                }
            }
            if !tables.batches.contains_key(&batch.batch_id) {
                tables.insert(&batch, now);
                tables.remove_old_prepared(now);
                enqueued.batches.push(batch);
            }
        }
        for mut position in firing.positions {
            if let Some(known) = tables.positions.get(&position.job_id) {
                position.high_water_mark = position.high_water_mark.max(known.high_water_mark);
                position.began = position.began.or(known.began);
            }
            tables.positions.insert(position.job_id.clone(), position);
        }
        self.arrivals.send_replace(());
        Ok(enqueued)
    }

    async fn paused(&self) -> Result<BTreeMap<JobId, Pause>, StoreError> {
        Ok(self.tables().paused.clone())
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        cause: Option<PauseCause>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let before = tables.paused.remove(job_id);
        let pause = match (cause, before) {
            (None, _) => None,
            (Some(PauseCause::Failures(_)), Some(before)) if before.is_by_operator() => {
                Some(before)
            }
            (Some(cause @ PauseCause::Failures(_)), Some(Pause { since, .. })) => {
                Some(Pause { cause, since })
            }
            (Some(cause), _) => Some(Pause { cause, since: now }),
        };
        tables
            .paused
            .extend(pause.map(|pause| (job_id.clone(), pause)));
        self.arrivals.send_replace(());
        Ok(())
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let batch = tables.batches.get_mut(&batch_id);
        let Some(batch) = batch.filter(|batch| batch.finished_at.is_none()) else {
            return Ok(false);
        };
        batch.status = BatchStatus::Cancelled;
        let own = tables.chunks.iter();
        let own = own.filter(|(_, row)| row.chunk.batch_id == batch_id);
        let own: BTreeMap<String, Option<String>> = own
            .map(|(id, row)| (id.clone(), row.behind.clone()))
            .collect();
        for row in tables.chunks.values_mut() {
            if row.chunk.batch_id == batch_id {
                // What waits is given once more, to be skipped.
                row.parked = false;
                row.behind = None;
            } else if let Some(Some(before)) = row.behind.as_ref().and_then(|id| own.get(id)) {
                row.behind = Some(before.clone());
            }
        }
        self.arrivals.send_replace(());
        Ok(true)
    }

    async fn settle(
        &self,
        ids: &[i64],
        batches: Vec<NewBatch>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let mut tables = self.tables();
        let open = |letter: &&mut DeadLetter| {
            ids.contains(&letter.id) && letter.state == DeadLetterState::Open
        };
        let replay = !batches.is_empty();
        let settled = tables.dead_letters.iter_mut().filter(open).count();
        if replay && settled < ids.len() {
            return Err(StoreError::new(
                StoreErrorKind::Conflict,
                "a selected dead letter is no longer open; list the dead letters again",
            ));
        }
        for letter in tables.dead_letters.iter_mut().filter(open) {
            letter.settled_at = Some(now);
            letter.state = if replay {
                DeadLetterState::Replayed
            } else {
                DeadLetterState::Discarded
            };
        }
        if !replay {
            let long_ago = now - DeadLetter::REOPENABLE_FOR;
            let is_left = |letter: &DeadLetter| {
                letter.state != DeadLetterState::Discarded
                    || letter.settled_at.is_some_and(|at| at > long_ago)
            };
            let letters = std::mem::take(&mut tables.dead_letters);
            let (left, forgotten): (Vec<_>, Vec<_>) = letters.into_iter().partition(is_left);
            tables.dead_letters = left;
            for letter in forgotten {
                let key = (letter.job_id, letter.item_id, letter.occurrence);
                tables.kept.remove(&key);
            }
        }
        for batch in &batches {
            tables.insert(batch, now);
            for chunk in &batch.chunks {
                for tenant in &chunk.items {
                    let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
                    let letter = tables.dead_letters.iter().find(|letter| {
                        ids.contains(&letter.id)
                            && letter.job_id == key.0
                            && letter.item_id == key.1
                            && letter.occurrence == key.2
                    });
                    // Its result may have been removed just before.
                    let failed = letter.map(|letter| stored(chunk, &failure(letter)));
                    let again = Some(chunk.chunk_id.clone());
                    if let Some(run) = tables.runs.get_mut(&key) {
                        run.again = again;
                    } else if let Some(stored) = failed {
                        let run = Run {
                            chunk_id: chunk.chunk_id.clone(),
                            again,
                            stored,
                        };
                        tables.runs.insert(key, run);
                    }
                }
            }
        }
        self.arrivals.send_replace(());
        Ok(settled)
    }

    async fn reopen(
        &self,
        ids: &[i64],
        discarded_after: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let discarded = tables.dead_letters.iter_mut().filter(|letter| {
            ids.contains(&letter.id)
                && letter.state == DeadLetterState::Discarded
                && letter.settled_at.is_some_and(|at| at > discarded_after)
        });
        let opened = discarded.map(|letter| {
            letter.state = DeadLetterState::Open;
            letter.settled_at = None;
            tables.reopened.insert(letter.id, now);
        });
        Ok(opened.count())
    }
}

impl Tables {
    /// Takes out of the batch of a late change what was settled.
    fn leave_out_settled(&self, batch: &mut NewBatch) {
        for chunk in &mut batch.chunks {
            let settled: Vec<bool> = chunk
                .items
                .iter()
                .map(|item_id| self.is_settled(chunk, item_id))
                .collect();
            let mut settled = settled.into_iter();
            chunk.items.retain(|_| settled.next() != Some(true));
        }
        batch.chunks.retain(|chunk| !chunk.items.is_empty());
    }

    /// Whether the run of an item that a late change has in this chunk was skipped for good, or is about to be.
    fn is_settled(&self, late: &Chunk, item_id: &ItemId) -> bool {
        let was_skipped = self.skipped.values().any(|skip| {
            let reason = skip.result.error.as_deref();
            skip.job_id == late.job_id
                && skip.occurrence == late.occurrence
                && skip.scheduled_at == late.scheduled_at
                && skip.result.item_id == *item_id
                && SkipReason::SETTLING
                    .iter()
                    .any(|settling| reason == Some(settling.as_str()))
        });
        let is_cancelled = |row: &ChunkRow| {
            let chunk = &row.chunk;
            !row.done
                && chunk.job_id == late.job_id
                && chunk.occurrence == late.occurrence
                && chunk.scheduled_at == late.scheduled_at
                && chunk.items.contains(item_id)
                && self.is_cancelled(chunk.batch_id)
        };
        was_skipped || self.chunks.values().any(is_cancelled)
    }
}

/// The result that a dead letter is of.
fn failure(letter: &DeadLetter) -> ItemResult {
    ItemResult {
        item_id: letter.item_id.clone(),
        status: ItemStatus::Failed,
        failure_kind: Some(letter.failure_kind),
        attempts: letter.attempts,
        preference: None,
        output: None,
        error: Some(letter.reason.clone()),
        started_at: letter.failed_at,
        finished_at: Some(letter.failed_at),
        waiting: None,
    }
}
