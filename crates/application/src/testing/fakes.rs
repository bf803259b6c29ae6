//! In-memory stand-ins for adapters, one file per port. They are held to the contract suites of their ports, as the
//! real ones are.

mod alerts;
mod batch_reader;
mod batch_store;
mod chunk_queue;
mod config_database;
mod deliveries;
mod fence;
mod item_source;
mod operations;
mod operator_keys;
mod prepared_outputs;
mod result_sink;
mod retention;
mod run_history;
mod suppressions;
mod tenant_data;
mod tenant_records;
mod waiting_items;
mod work_queue;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_domain::{
    Batch, BatchStatus, Chunk, DeadLetter, DeadLetterState, FailureKind, ItemId, ItemResult,
    ItemStatus, JobId, KeepDays, NewBatch, Occurrence, Previous, PurposeId, Sharding,
    StoredPosition,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

pub use self::{
    config_database::FakeConfigDatabase, item_source::FakeItemSource, result_sink::FakeSink,
    run_history::FakeRunHistory, tenant_data::FakeTenantData,
};
use self::{
    deliveries::DeliveryRow, fence::FenceRow, operations::StoredRequest,
    prepared_outputs::PreparedRow, waiting_items::WaitingRow,
};
use crate::{
    ChunkReport, EnhancedBatchProcessor, ProcessError,
    ports::{
        AlertBook, BatchStore, Claimant, OperatorKey, Page, Pause, StoreError, StoreErrorKind,
        StoredResult, Suppression,
    },
};

type RunKey = (JobId, ItemId, Occurrence);

/// A chunk and how far it is.
#[derive(Debug, Clone)]
struct ChunkRow {
    chunk: Chunk,
    claimant: Option<Claimant>,
    claimed_at: DateTime<Utc>,
    /// Items that the claim assigned.
    items: Vec<ItemId>,
    crash_count: u32,
    poison_candidate: Option<(ItemId, u32)>,
    /// Items that have running noted since when.
    running: BTreeMap<ItemId, DateTime<Utc>>,
    ended: ChunkReport,
    superseded: usize,
    done: bool,
    /// All that is left of it waits: it is not to be claimed.
    parked: bool,
    /// Its number among all chunks, and its place in its batch.
    number: usize,
    place: usize,
    rest_until: Option<DateTime<Utc>>,
    /// The chunk before whose end, or return to the queue, it is not claimed.
    behind: Option<String>,
}

/// An outcome that uses the occurrence up.
#[derive(Debug, Clone)]
struct Run {
    chunk_id: String,
    /// The chunk that is to run it again.
    again: Option<String>,
    stored: StoredResult,
}

impl Run {
    /// Whether a chunk brought the outcome, and is not to run it again.
    fn ended_in(&self, chunk_id: &str) -> bool {
        self.chunk_id == chunk_id && self.again.as_deref() != Some(chunk_id)
    }
}

impl ChunkRow {
    /// Number of items without an outcome.
    fn left(&self) -> usize {
        let ended = self.ended.ended() + self.superseded;
        self.chunk.items.len().saturating_sub(ended)
    }
}

#[derive(Debug, Default)]
struct Tables {
    positions: HashMap<JobId, StoredPosition>,
    sharding: Option<Sharding>,
    paused: BTreeMap<JobId, Pause>,
    batches: BTreeMap<Uuid, Batch>,
    chunks: BTreeMap<String, ChunkRow>,
    runs: BTreeMap<RunKey, Run>,
    /// What the first of two purposes has made of items that have not ended well.
    kept: BTreeMap<RunKey, (PurposeId, Value)>,
    /// What has been prepared for runs to come.
    prepared: BTreeMap<RunKey, PreparedRow>,
    /// Items that wait, or have waited and are to be called again.
    waiting: BTreeMap<RunKey, WaitingRow>,
    completion_key: Option<[u8; 32]>,
    /// Runs of tenants who were erased.
    erased: BTreeSet<RunKey>,
    /// Erasures of the Config Database that were carried out, with its time.
    done_erasures: BTreeMap<ItemId, DateTime<Utc>>,
    session_secret: Option<[u8; 32]>,
    /// Keys of operators, by their hash.
    operator_keys: BTreeMap<String, OperatorKey>,
    /// What was skipped, by chunk and tenant.
    skipped: BTreeMap<(String, ItemId), StoredResult>,
    dead_letters: Vec<DeadLetter>,
    /// When dead letters were last opened again, by their number.
    reopened: BTreeMap<i64, DateTime<Utc>>,
    deliveries: Vec<DeliveryRow>,
    suppressions: Vec<Suppression>,
    alerts: AlertBook,
    fence: Option<FenceRow>,
    asked: StoredRequest,
    /// The last date of a job's runs of which results have been removed.
    removed_to: BTreeMap<JobId, NaiveDate>,
    /// How long jobs are kept, as was remembered last.
    job_retention: BTreeMap<JobId, KeepDays>,
    /// The last success of an item among the results that have been removed.
    last_successes: BTreeMap<(JobId, ItemId), Previous>,
    heartbeats: BTreeMap<Uuid, i64>,
    /// Heartbeats so far, for a clock that never stands still.
    beats: i64,
}

/// A store in memory, with all of its ports: queue, claims and results, lists, deliveries, and what operators ask for.
#[derive(Debug, Default)]
pub struct FakeStore {
    tables: Mutex<Tables>,
    arrivals: watch::Sender<()>,
    changes: watch::Sender<()>,
}

impl FakeStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every call may be a change: a test that waits for one looks again.
        self.changes.send_replace(());
        self.tables
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// The chunks that are not done, and have more left than items that wait, as a worker would be given them.
    #[must_use]
    pub fn pending(&self) -> Vec<Chunk> {
        self.tables()
            .chunks
            .values()
            .filter(|row| !row.done && !row.parked)
            .map(|row| row.chunk.clone())
            .collect()
    }

    /// Has `processor`, which must work on this store, process the chunks that a worker could claim, until none is left
    /// or all that are left wait for something. Returns how their items ended.
    ///
    /// # Errors
    /// The first error of a chunk, other than that its items have to wait.
    pub async fn work(
        &self,
        processor: &EnhancedBatchProcessor,
    ) -> Result<ChunkReport, ProcessError> {
        let mut report = ChunkReport::default();
        loop {
            let mut chunks = self.pending();
            chunks.retain(|chunk| !self.tables().is_held_back(chunk));
            let before = chunks.len();
            for chunk in chunks {
                match processor.process(&chunk).await {
                    Ok(ended) | Err(ProcessError::Waiting(ended)) => report += ended,
                    Err(error) => return Err(error),
                }
            }
            let mut left = self.pending();
            left.retain(|chunk| !self.tables().is_held_back(chunk));
            if left.is_empty() || left.len() == before {
                return Ok(report);
            }
        }
    }
}

impl FakeStore {
    /// Has everything that is queued end so at `now`, without a handler.
    ///
    /// # Panics
    /// Never: a store in memory does not fail.
    pub async fn end_all(&self, status: ItemStatus, now: DateTime<Utc>) {
        let claimant = Claimant {
            process: Uuid::from_u128(1),
            token: Uuid::from_u128(2),
        };
        let works = "a store in memory does not fail";
        // In the order in which they fell due: ids have none.
        let mut pending = self.pending();
        pending.sort_by_key(|chunk| self.tables().batches[&chunk.batch_id].scheduled_at);
        for chunk in pending {
            let claim = self.claim(&chunk, claimant, now).await.expect(works);
            let ended = |item_id| ItemResult {
                item_id,
                status,
                failure_kind: (status == ItemStatus::Failed).then_some(FailureKind::Handler),
                attempts: 1,
                preference: Some(std::sync::Arc::new(
                    json!({"enabled": true, "frequency": "daily"}),
                )),
                output: (status == ItemStatus::Succeeded).then(|| json!({"text": "Hello"})),
                error: (status != ItemStatus::Succeeded).then(|| "down".to_owned()),
                started_at: now,
                finished_at: Some(now + TimeDelta::seconds(1)),
                waiting: None,
            };
            let results: Vec<_> = claim.items.into_iter().map(ended).collect();
            let committed = self.commit(&chunk, claimant.token, &results).await;
            committed.expect(works);
        }
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
        let replayed = self.dead_letters.iter().filter(|letter| {
            letter.batch_id == batch.batch_id && letter.state == DeadLetterState::Replayed
        });
        Batch {
            succeeded: counted.succeeded as u64,
            failed: counted.failed as u64,
            nothing_to_do: counted.nothing_to_do as u64,
            replayed: replayed.count() as u64,
            skipped: counted.skipped as u64,
            waiting: self.waiting_in_batch(batch.batch_id),
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
            replayed: 0,
            skipped: 0,
            nothing_to_do: 0,
            waiting: 0,
            created_at: now,
            finished_at: None,
        };
        self.batches.insert(batch.batch_id, row);
        for target in &batch.deliver_to {
            let last = self.deliveries.iter().map(|row| row.id).max();
            let id = last.unwrap_or_default() + 1;
            self.deliveries.push(DeliveryRow::new(id, batch, target));
        }
        for (place, chunk) in batch.chunks.iter().enumerate() {
            let row = ChunkRow {
                chunk: chunk.clone(),
                claimant: None,
                claimed_at: now,
                items: Vec::new(),
                crash_count: 0,
                poison_candidate: None,
                running: BTreeMap::new(),
                ended: ChunkReport::default(),
                superseded: 0,
                done: false,
                parked: false,
                number: self.chunks.len(),
                place,
                rest_until: None,
                behind: chunk.after.first().cloned(),
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
                item_id: tenant.clone(),
                status: ItemStatus::Running,
                failure_kind: None,
                attempts: 0,
                preference: None,
                output: None,
                error: None,
                started_at: *began,
                finished_at: None,
                waiting: None,
            };
            stored(&row.chunk, &result)
        })
    }

    /// Every outcome.
    fn results(&self) -> impl Iterator<Item = StoredResult> {
        let ended = self.runs.values().map(|run| &run.stored);
        ended.chain(self.skipped.values()).cloned()
    }

    /// Ends a chunk all of whose items have an outcome, and its batch with the last one. Where all that it has left waits, its
    /// claim ends.
    fn finish(&mut self, chunk: &Chunk, token: Uuid, now: DateTime<Utc>) -> bool {
        let cancelled = self.is_cancelled(chunk.batch_id);
        let Some(row) = self.claimed(chunk, token) else {
            return false;
        };
        let (left, given) = (row.left(), row.items.clone());
        let waiting = self.waiting_in(&chunk.chunk_id);
        // What the claim of a cancelled batch was given is still to be skipped.
        let waiting = waiting.filter(|item_id| !given.contains(item_id)).count();
        // What was resumed during the claim is for the next one.
        let resumed = self.resumed_in(&chunk.chunk_id);
        let resumed = resumed.filter(|item_id| !given.contains(item_id)).count();
        if left > waiting + resumed {
            return false;
        }
        if waiting + resumed == 0 {
            self.end_chunk(chunk, now);
        } else if let Some(row) = self.claimed(chunk, token) {
            row.claimant = None;
            row.items.clear();
            row.poison_candidate = None;
            // What waits of a cancelled batch is given once more, to be skipped.
            row.parked = !cancelled && resumed == 0;
        }
        true
    }

    /// Ends a chunk, and its batch with the last one.
    fn end_chunk(&mut self, chunk: &Chunk, now: DateTime<Utc>) {
        if let Some(row) = self.chunks.get_mut(&chunk.chunk_id) {
            row.done = true;
            row.parked = false;
            row.claimant = None;
        }
        let mut chunks = self.chunks.values();
        let open = chunks.any(|row| row.chunk.batch_id == chunk.batch_id && !row.done);
        if !open && let Some(batch) = self.batches.get_mut(&chunk.batch_id) {
            if batch.status != BatchStatus::Cancelled {
                batch.status = BatchStatus::Completed;
            }
            batch.finished_at.get_or_insert(now);
        }
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
                    "invalid cursor; pass the `next_cursor` of the previous page",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract;

    #[tokio::test]
    async fn the_fake_store_keeps_the_contract() {
        let store = FakeStore::default();
        contract::store(&store, &store).await;
    }

    #[tokio::test]
    async fn the_fake_store_keeps_what_operators_ask_for() {
        contract::operations(&FakeStore::default()).await;
    }

    #[tokio::test]
    async fn the_fake_store_removes_what_was_kept_for_long_enough() {
        let store = FakeStore::default();
        contract::retention(&store, &store, &store).await;
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_items_that_wait() {
        let store = FakeStore::default();
        contract::waiting_items(&store, &store).await;
    }

    #[tokio::test]
    async fn the_fake_store_keeps_the_keys_of_operators() {
        contract::operator_keys(&FakeStore::default()).await;
    }

    #[tokio::test]
    async fn the_fake_store_keeps_the_suppression_list() {
        contract::suppressions(&FakeStore::default()).await;
    }

    #[tokio::test]
    async fn the_fake_store_keeps_which_alerts_went_out() {
        contract::alerts(&FakeStore::default()).await;
    }

    #[tokio::test]
    async fn the_fake_store_erases_a_tenant() {
        let store = FakeStore::default();
        contract::tenant_records(&store, &store).await;
    }

    #[tokio::test]
    async fn the_fence_keeps_the_contract_of_the_real_one() {
        contract::fence(&FakeStore::default()).await;
    }

    #[tokio::test]
    async fn the_fake_store_keeps_what_is_to_be_delivered() {
        let store = FakeStore::default();
        contract::deliveries(&store, &store).await;
    }
}
