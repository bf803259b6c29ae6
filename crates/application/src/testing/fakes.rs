//! In-memory stand-ins for the store and the Config Database, held to the same contract as the real ones.

mod operations;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{
    Batch, BatchStatus, Chunk, DeadLetter, DeadLetterState, FeatureType, Firing, ItemResult,
    ItemStatus, JobId, NewBatch, Occurrence, PreferenceRecord, Progress, TenantId,
};
use uuid::Uuid;

use self::operations::Asked;
use crate::ChunkReport;
use crate::ports::{
    BatchFilter, BatchReader, BatchStore, ChangePage, Claim, Claimant, Committed, ConfigDatabase,
    ConfigDatabaseError, ConfigErrorKind, Cursor, DeadLetterFilter, Enqueued, Leadership, Page,
    Paged, ResultFilter, Snapshot, StoreError, StoreErrorKind, StoredResult, TenantRuns, WorkQueue,
};

type RunKey = (JobId, TenantId, Occurrence);

/// A chunk and how far it is.
#[derive(Debug, Clone)]
struct ChunkRow {
    chunk: Chunk,
    claimant: Option<Claimant>,
    claimed_at: DateTime<Utc>,
    /// What the claim gave.
    items: Vec<TenantId>,
    lost: u32,
    suspect: Option<(TenantId, u32)>,
    /// Items that have running noted since when.
    running: BTreeMap<TenantId, DateTime<Utc>>,
    ended: ChunkReport,
    superseded: usize,
    done: bool,
}

/// An outcome that uses the occurrence up.
#[derive(Debug, Clone)]
struct Run {
    chunk_id: String,
    /// The chunk that is to run it again.
    again: Option<String>,
    stored: StoredResult,
}

#[derive(Debug, Default)]
struct Tables {
    progress: HashMap<JobId, Progress>,
    paused: BTreeMap<JobId, String>,
    batches: BTreeMap<Uuid, Batch>,
    chunks: BTreeMap<String, ChunkRow>,
    runs: BTreeMap<RunKey, Run>,
    /// What was skipped, by chunk and tenant.
    skipped: BTreeMap<(String, TenantId), StoredResult>,
    dead_letters: Vec<DeadLetter>,
    asked: Asked,
}

/// A queue and a store in memory.
#[derive(Debug, Default)]
pub struct FakeStore(Mutex<Tables>);

impl FakeStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// The chunks that are not done, as a worker would be given them.
    #[must_use]
    pub fn pending(&self) -> Vec<Chunk> {
        self.tables()
            .chunks
            .values()
            .filter(|row| !row.done)
            .map(|row| row.chunk.clone())
            .collect()
    }
}

impl Tables {
    fn with_counts(&self, batch: &Batch) -> Batch {
        let mut counted = ChunkReport::default();
        let chunks = self
            .chunks
            .values()
            .filter(|row| row.chunk.batch_id == batch.batch_id);
        for row in chunks {
            counted += row.ended;
            counted.skipped += row.superseded;
        }
        Batch {
            succeeded: counted.succeeded as u64,
            failed: counted.failed as u64,
            skipped: counted.skipped as u64,
            ..batch.clone()
        }
    }

    fn insert(&mut self, batch: &NewBatch, now: DateTime<Utc>) {
        let row = Batch {
            batch_id: batch.batch_id,
            job_id: batch.job_id.clone(),
            slot: batch.slot.clone(),
            scheduled_at: batch.scheduled_at,
            trigger: batch.trigger,
            status: BatchStatus::Queued,
            total: batch.total() as u64,
            succeeded: 0,
            failed: 0,
            skipped: 0,
            created_at: now,
            finished_at: None,
        };
        self.batches.insert(batch.batch_id, row);
        for chunk in &batch.chunks {
            let row = ChunkRow {
                chunk: chunk.clone(),
                claimant: None,
                claimed_at: now,
                items: Vec::new(),
                lost: 0,
                suspect: None,
                running: BTreeMap::new(),
                ended: ChunkReport::default(),
                superseded: 0,
                done: false,
            };
            self.chunks.insert(chunk.chunk_id.clone(), row);
        }
    }

    /// The row of a chunk whose claim stands.
    fn claimed(&mut self, chunk: &Chunk, token: Uuid) -> Option<&mut ChunkRow> {
        self.chunks
            .get_mut(&chunk.chunk_id)
            .filter(|row| row.claimant.is_some_and(|by| by.token == token))
    }

    /// The items that chunks in work have noted as running, and have not ended.
    fn running(&self) -> impl Iterator<Item = StoredResult> {
        let claimed = self.chunks.values().filter(|row| row.claimant.is_some());
        let noted = claimed.flat_map(|row| row.running.iter().map(move |noted| (row, noted)));
        let not_ended = noted.filter(|(row, (tenant, _))| {
            let chunk = &row.chunk;
            let key = (chunk.job_id.clone(), (*tenant).clone(), chunk.occurrence);
            let run = self.runs.get(&key);
            run.is_none_or(|run| run.chunk_id != chunk.chunk_id)
        });
        not_ended.map(|(row, (tenant, began))| {
            let result = ItemResult {
                tenant_id: tenant.clone(),
                status: ItemStatus::Running,
                attempts: 0,
                preference: None,
                output: None,
                error: None,
                started_at: *began,
                finished_at: None,
            };
            stored(&row.chunk, &result)
        })
    }

    /// Every outcome.
    fn results(&self) -> impl Iterator<Item = StoredResult> {
        let ended = self.runs.values().map(|run| &run.stored);
        ended.chain(self.skipped.values()).cloned()
    }

    /// Ends a chunk all of whose items have an outcome, and its batch with the last one.
    fn finish(&mut self, chunk: &Chunk, token: Uuid, now: DateTime<Utc>) -> bool {
        let Some(row) = self.claimed(chunk, token) else {
            return false;
        };
        if row.ended.ended() + row.superseded < row.chunk.items.len() {
            return false;
        }
        row.done = true;
        row.claimant = None;
        let mut chunks = self.chunks.values();
        let open = chunks.any(|row| row.chunk.batch_id == chunk.batch_id && !row.done);
        if !open && let Some(batch) = self.batches.get_mut(&chunk.batch_id) {
            if batch.status != BatchStatus::Cancelled {
                batch.status = BatchStatus::Completed;
            }
            batch.finished_at.get_or_insert(now);
        }
        true
    }

    fn is_cancelled(&self, batch_id: Uuid) -> bool {
        let batch = self.batches.get(&batch_id);
        batch.is_some_and(|batch| batch.status == BatchStatus::Cancelled)
    }
}

fn stored(chunk: &Chunk, result: &ItemResult) -> StoredResult {
    StoredResult {
        job_id: chunk.job_id.clone(),
        batch_id: chunk.batch_id,
        occurrence: chunk.occurrence,
        scheduled_at: chunk.scheduled_at,
        result: result.clone(),
        key_form: chunk.key_form,
    }
}

#[async_trait]
impl WorkQueue for FakeStore {
    /// Always: what is in memory belongs to one process.
    async fn lead(&self, _process: Uuid, _term: Duration) -> Result<Leadership, StoreError> {
        Ok(Leadership::Always)
    }

    async fn progress(&self, job_id: &JobId) -> Result<Option<Progress>, StoreError> {
        Ok(self.tables().progress.get(job_id).cloned())
    }

    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError> {
        let mut tables = self.tables();
        let mut enqueued = Enqueued::default();
        for batch in firing.batches {
            if !tables.batches.contains_key(&batch.batch_id) {
                tables.insert(&batch, now);
                enqueued.batches.push(batch);
            }
        }
        for mut progress in firing.progress {
            if let Some(known) = tables.progress.get(&progress.job_id) {
                progress.furthest_until = progress.furthest_until.max(known.furthest_until);
                progress.began = progress.began.or(known.began);
            }
            tables.progress.insert(progress.job_id.clone(), progress);
        }
        Ok(enqueued)
    }

    async fn paused(&self) -> Result<BTreeMap<JobId, String>, StoreError> {
        Ok(self.tables().paused.clone())
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        reason: Option<String>,
        _now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        match reason {
            Some(reason) => tables.paused.insert(job_id.clone(), reason),
            None => tables.paused.remove(job_id),
        };
        Ok(())
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let batch = tables.batches.get_mut(&batch_id);
        let Some(batch) = batch.filter(|batch| batch.finished_at.is_none()) else {
            return Ok(false);
        };
        batch.status = BatchStatus::Cancelled;
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
            return Err(StoreError::new(StoreErrorKind::Conflict, NOT_OPEN));
        }
        for letter in tables.dead_letters.iter_mut().filter(open) {
            letter.settled_at = Some(now);
            letter.state = if replay {
                DeadLetterState::Replayed
            } else {
                DeadLetterState::Discarded
            };
        }
        for batch in &batches {
            tables.insert(batch, now);
            for chunk in &batch.chunks {
                for tenant in &chunk.items {
                    let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
                    if let Some(run) = tables.runs.get_mut(&key) {
                        run.again = Some(chunk.chunk_id.clone());
                    }
                }
            }
        }
        Ok(settled)
    }
}

/// What a store says to a replay of a dead letter that somebody else has settled.
pub(crate) const NOT_OPEN: &str = "a dead letter of these is not open any more";

#[async_trait]
impl BatchStore for FakeStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let mut tables = self.tables();
        let key = |tenant: &TenantId| (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
        let in_work_elsewhere = |tables: &Tables, tenant: &TenantId| {
            tables.chunks.values().any(|row| {
                row.chunk.chunk_id != chunk.chunk_id
                    && row.chunk.job_id == chunk.job_id
                    && row.chunk.occurrence == chunk.occurrence
                    && row.claimant.is_some()
                    && row.items.contains(tenant)
            })
        };
        let (mut items, mut superseded, mut waiting) = (Vec::new(), 0, false);
        for tenant in &chunk.items {
            let own_skip = (chunk.chunk_id.clone(), tenant.clone());
            match tables.runs.get(&key(tenant)) {
                _ if tables.skipped.contains_key(&own_skip) => {}
                Some(run) if run.again.as_ref() == Some(&chunk.chunk_id) => {
                    items.push(tenant.clone());
                }
                Some(run) if run.chunk_id == chunk.chunk_id => {}
                Some(_) => superseded += 1,
                None if in_work_elsewhere(&tables, tenant) => waiting = true,
                None => items.push(tenant.clone()),
            }
        }
        let others = tables.running().filter(|other| {
            other.job_id == chunk.job_id
                && other.occurrence != chunk.occurrence
                && items.contains(&other.result.tenant_id)
        });
        let overlapping = others.map(|other| other.result.tenant_id).collect();
        let cancelled = tables.is_cancelled(chunk.batch_id);
        if let Some(batch) = tables.batches.get_mut(&chunk.batch_id)
            && batch.status == BatchStatus::Queued
        {
            batch.status = BatchStatus::Running;
        }
        let Some(row) = tables.chunks.get_mut(&chunk.chunk_id) else {
            return Err(StoreError::new(
                StoreErrorKind::NotFound,
                "there is no such chunk",
            ));
        };
        row.lost += u32::from(
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
            lost: row.lost,
            suspect: row.suspect.clone(),
            cancelled,
            overlapping,
            waiting,
        })
    }

    async fn running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &TenantId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if let Some(row) = self.tables().claimed(chunk, token) {
            row.running.insert(tenant.clone(), began);
        }
        Ok(())
    }

    async fn suspect(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &TenantId,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.claimed(chunk, token) else {
            return Ok(false);
        };
        let before = row.suspect.take().filter(|(before, _)| before == tenant);
        row.suspect = Some((tenant.clone(), before.map_or(1, |(_, times)| times + 1)));
        Ok(true)
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
        let mut taken = Vec::new();
        for result in results {
            let tenant = &result.tenant_id;
            let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
            let known = tables.runs.get_mut(&key);
            let again = known
                .as_ref()
                .is_some_and(|known| known.again.as_ref() == Some(&chunk.chunk_id));
            if result.status == ItemStatus::Skipped {
                let own_skip = (chunk.chunk_id.clone(), tenant.clone());
                if let Some(known) = known.filter(|_| again) {
                    known.again = None;
                    let is_it = |letter: &&mut DeadLetter| {
                        letter.job_id == chunk.job_id
                            && letter.tenant_id == *tenant
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
            if known.is_some() && !again {
                continue;
            }
            taken.push(result.clone());
            let run = Run {
                chunk_id: chunk.chunk_id.clone(),
                again: None,
                stored: stored(chunk, result),
            };
            tables.runs.insert(key, run);
            if result.status == ItemStatus::Failed {
                let letter = DeadLetter {
                    id: tables.dead_letters.len() as i64 + 1,
                    job_id: chunk.job_id.clone(),
                    tenant_id: result.tenant_id.clone(),
                    occurrence: chunk.occurrence,
                    batch_id: chunk.batch_id,
                    scheduled_at: chunk.scheduled_at,
                    attempts: result.attempts,
                    reason: result.error.clone().unwrap_or_default(),
                    failed_at: result.finished_at.unwrap_or(result.started_at),
                    state: DeadLetterState::Open,
                    settled_at: None,
                    key_form: chunk.key_form,
                };
                tables.dead_letters.push(letter);
            }
        }
        if let Some(row) = tables.claimed(chunk, token) {
            row.ended.count(&taken);
        }
        let finished_at = results.iter().filter_map(|result| result.finished_at).max();
        let finished = finished_at.is_some_and(|now| tables.finish(chunk, token, now));
        Ok(Committed {
            taken: taken.len(),
            claimed: true,
            cancelled: tables.is_cancelled(chunk.batch_id),
            finished,
        })
    }

    async fn release(&self, chunk: &Chunk, token: Uuid) -> Result<(), StoreError> {
        if let Some(row) = self.tables().claimed(chunk, token) {
            row.claimant = None;
            row.suspect = None;
        }
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

#[async_trait]
impl BatchReader for FakeStore {
    async fn batches(
        &self,
        filter: &BatchFilter,
        page: &Page,
    ) -> Result<(Vec<Batch>, Option<String>), StoreError> {
        let tables = self.tables();
        let wanted = |batch: &&Batch| {
            filter
                .job_id
                .as_ref()
                .is_none_or(|job| *job == batch.job_id)
                && filter.status.is_none_or(|status| status == batch.status)
        };
        let mut found: Vec<Batch> = tables
            .batches
            .values()
            .filter(wanted)
            .map(|batch| tables.with_counts(batch))
            .collect();
        found.sort_by_key(|batch| std::cmp::Reverse((batch.scheduled_at, batch.batch_id)));
        paged(found, page, |batch| batch.batch_id.to_string())
    }

    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .batches
            .get(&batch_id)
            .map(|batch| tables.with_counts(batch)))
    }

    async fn results(
        &self,
        filter: &ResultFilter,
        page: &Page,
    ) -> Result<(Vec<StoredResult>, Option<String>), StoreError> {
        let tables = self.tables();
        let mut found: Vec<StoredResult> = tables
            .results()
            .filter(|stored| stored.batch_id == filter.batch_id)
            .filter(|stored| {
                filter
                    .status
                    .is_none_or(|status| status == stored.result.status)
            })
            .collect();
        found.sort_by(|a, b| a.result.tenant_id.cmp(&b.result.tenant_id));
        paged(found, page, |stored| stored.result.tenant_id.to_string())
    }

    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<(Vec<StoredResult>, Option<String>), StoreError> {
        let tables = self.tables();
        let mut found: Vec<StoredResult> = tables
            .results()
            .chain(tables.running())
            .filter(|stored| stored.result.tenant_id == filter.tenant_id)
            .filter(|stored| {
                filter
                    .job_id
                    .as_ref()
                    .is_none_or(|job| *job == stored.job_id)
            })
            .collect();
        found.sort_by_key(|stored| std::cmp::Reverse((stored.scheduled_at, stored.job_id.clone())));
        paged(found, page, |stored| {
            format!(
                "{} {} {} {}",
                stored.scheduled_at, stored.job_id, stored.occurrence, stored.batch_id
            )
        })
    }

    async fn ran(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        tenants: &[TenantId],
    ) -> Result<BTreeSet<TenantId>, StoreError> {
        let tables = self.tables();
        let running: BTreeSet<TenantId> = tables
            .running()
            .filter(|run| run.job_id == *job_id && run.occurrence == occurrence)
            .map(|run| run.result.tenant_id)
            .collect();
        let ran = |tenant: &&TenantId| {
            let key = (job_id.clone(), (*tenant).clone(), occurrence);
            tables.runs.contains_key(&key) || running.contains(*tenant)
        };
        Ok(tenants.iter().filter(ran).cloned().collect())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Paged<DeadLetter>, StoreError> {
        let tables = self.tables();
        let wanted = |letter: &&DeadLetter| {
            let (job_id, tenant_id) = (&filter.job_id, &filter.tenant_id);
            job_id.as_ref().is_none_or(|job| *job == letter.job_id)
                && tenant_id.as_ref().is_none_or(|id| *id == letter.tenant_id)
                && filter.state.is_none_or(|state| state == letter.state)
        };
        let found = tables.dead_letters.iter().rev().filter(wanted).cloned();
        paged(found.collect(), page, |letter| letter.id.to_string())
    }
}

fn paged<T>(
    found: Vec<T>,
    page: &Page,
    cursor: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), StoreError> {
    let start = match &page.cursor {
        None => 0,
        Some(after) => {
            let last = found.iter().position(|entry| cursor(entry) == *after);
            last.ok_or_else(|| {
                StoreError::new(
                    StoreErrorKind::InvalidCursor,
                    "the cursor is none of this list",
                )
            })? + 1
        }
    };
    let more = found.len() > start + page.limit as usize;
    let entries: Vec<T> = found
        .into_iter()
        .skip(start)
        .take(page.limit as usize)
        .collect();
    let next = entries.last().filter(|_| more).map(cursor);
    Ok((entries, next))
}

/// A Config Database in memory, which a test can also switch off.
#[derive(Debug, Default)]
pub struct FakeConfigDatabase {
    records: Mutex<HashMap<TenantId, PreferenceRecord>>,
    down: Mutex<bool>,
}

impl FakeConfigDatabase {
    /// Stores a preference.
    pub fn put(&self, record: PreferenceRecord) {
        let mut records = self
            .records
            .lock()
            .expect("nothing panics while it holds the lock");
        records.insert(record.tenant_id.clone(), record);
    }

    /// Makes every call fail, or work again.
    pub fn set_down(&self, down: bool) {
        *self
            .down
            .lock()
            .expect("nothing panics while it holds the lock") = down;
    }

    fn read(&self) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        if *self
            .down
            .lock()
            .expect("nothing panics while it holds the lock")
        {
            return Err(ConfigDatabaseError::new(
                ConfigErrorKind::Unavailable,
                "Error connecting to Config Database at fake: it is down",
            ));
        }
        Ok(self
            .records
            .lock()
            .expect("nothing panics while it holds the lock")
            .clone())
    }
}

#[async_trait]
impl ConfigDatabase for FakeConfigDatabase {
    async fn snapshot(&self, _feature_type: &FeatureType) -> Result<Snapshot, ConfigDatabaseError> {
        Ok(Snapshot {
            records: self.read()?.into_values().collect(),
            cursor: Cursor::default(),
            known_at: None,
        })
    }

    async fn changes(
        &self,
        _feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        self.read()?;
        tokio::time::sleep(wait).await;
        Ok(ChangePage {
            changes: Vec::new(),
            cursor: cursor.clone(),
            has_more: false,
            waited: true,
        })
    }

    async fn preferences(
        &self,
        _feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let mut records = self.read()?;
        Ok(tenants
            .iter()
            .filter_map(|tenant| records.remove_entry(tenant))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract;

    #[tokio::test]
    async fn the_fake_store_keeps_the_contract() {
        let store = FakeStore::default();
        contract::run(&store, &store).await;
    }

    #[tokio::test]
    async fn the_fake_store_keeps_what_operators_ask_for() {
        contract::operations(&FakeStore::default()).await;
    }
}
