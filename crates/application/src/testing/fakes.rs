//! In-memory stand-ins for the store and the Config Database, held to the same contract as the real ones.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{
    Batch, BatchStatus, Chunk, FeatureType, Firing, ItemResult, ItemStatus, JobId, Occurrence,
    PreferenceRecord, Progress, TenantId,
};
use uuid::Uuid;

use crate::ports::{
    BatchFilter, BatchStore, ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind,
    Cursor, Enqueued, Page, ResultFilter, Snapshot, StoreError, StoredResult, TenantRuns,
    WorkQueue,
};

type RunKey = (JobId, TenantId, Occurrence);

#[derive(Debug, Clone)]
struct Run {
    chunk_id: String,
    token: Uuid,
    stored: StoredResult,
}

#[derive(Debug, Default)]
struct Tables {
    progress: HashMap<JobId, Progress>,
    paused: BTreeSet<JobId>,
    batches: BTreeMap<Uuid, Batch>,
    /// Chunks by id, with the number of items that other batches ran, and whether they are done.
    chunks: BTreeMap<String, (Chunk, u64, bool)>,
    runs: BTreeMap<RunKey, Run>,
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
            .filter(|(.., done)| !done)
            .map(|(chunk, ..)| chunk.clone())
            .collect()
    }
}

impl Tables {
    fn with_counts(&self, batch: &Batch) -> Batch {
        let count = |status| {
            let of_batch = |run: &&Run| {
                run.stored.batch_id == batch.batch_id && run.stored.result.status == status
            };
            self.runs.values().filter(of_batch).count() as u64
        };
        let chunks = self
            .chunks
            .values()
            .filter(|(chunk, ..)| chunk.batch_id == batch.batch_id);
        let superseded: u64 = chunks.map(|(_, superseded, _)| superseded).sum();
        Batch {
            succeeded: count(ItemStatus::Succeeded),
            failed: count(ItemStatus::Failed),
            skipped: count(ItemStatus::Skipped) + superseded,
            ..batch.clone()
        }
    }
}

#[async_trait]
impl WorkQueue for FakeStore {
    async fn progress(&self, job_id: &JobId) -> Result<Option<Progress>, StoreError> {
        Ok(self.tables().progress.get(job_id).cloned())
    }

    async fn paused(&self) -> Result<BTreeSet<JobId>, StoreError> {
        Ok(self.tables().paused.clone())
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        paused: bool,
        _now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if paused {
            tables.paused.insert(job_id.clone());
        } else {
            tables.paused.remove(job_id);
        }
        Ok(())
    }

    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError> {
        let mut tables = self.tables();
        let mut enqueued = Enqueued::default();
        for batch in firing.batches {
            if tables.batches.contains_key(&batch.batch_id) {
                continue;
            }
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
            tables.batches.insert(batch.batch_id, row);
            for chunk in &batch.chunks {
                tables
                    .chunks
                    .insert(chunk.chunk_id.clone(), (chunk.clone(), 0, false));
            }
            enqueued.batches.push(batch);
        }
        for mut progress in firing.progress {
            if let Some(known) = tables.progress.get(&progress.job_id) {
                progress.furthest_until = progress.furthest_until.max(known.furthest_until);
            }
            tables.progress.insert(progress.job_id.clone(), progress);
        }
        Ok(enqueued)
    }
}

#[async_trait]
impl BatchStore for FakeStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Vec<TenantId>, StoreError> {
        let mut tables = self.tables();
        let mut claimed = Vec::new();
        let mut superseded = 0;
        for tenant in &chunk.items {
            let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
            match tables.runs.get_mut(&key) {
                Some(run) if run.chunk_id != chunk.chunk_id => superseded += 1,
                Some(run) if run.stored.result.status != ItemStatus::Running => {}
                Some(run) => {
                    run.token = token;
                    claimed.push(tenant.clone());
                }
                None => {
                    let result = ItemResult {
                        tenant_id: tenant.clone(),
                        status: ItemStatus::Running,
                        attempts: 0,
                        preference: None,
                        output: None,
                        error: None,
                        started_at: now,
                        finished_at: None,
                    };
                    let stored = StoredResult {
                        job_id: chunk.job_id.clone(),
                        batch_id: chunk.batch_id,
                        occurrence: chunk.occurrence,
                        scheduled_at: chunk.scheduled_at,
                        result,
                    };
                    tables.runs.insert(
                        key,
                        Run {
                            chunk_id: chunk.chunk_id.clone(),
                            token,
                            stored,
                        },
                    );
                    claimed.push(tenant.clone());
                }
            }
        }
        if let Some(row) = tables.chunks.get_mut(&chunk.chunk_id) {
            row.1 = superseded;
        }
        if let Some(batch) = tables.batches.get_mut(&chunk.batch_id)
            && batch.status == BatchStatus::Queued
        {
            batch.status = BatchStatus::Running;
        }
        Ok(claimed)
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<usize, StoreError> {
        let mut tables = self.tables();
        let mut taken = 0;
        for result in results {
            let key = (
                chunk.job_id.clone(),
                result.tenant_id.clone(),
                chunk.occurrence,
            );
            if let Some(run) = tables.runs.get_mut(&key)
                && run.token == token
                && run.stored.result.status == ItemStatus::Running
            {
                run.stored.result = result.clone();
                taken += 1;
            }
        }
        Ok(taken)
    }

    async fn finish(&self, chunk: &Chunk, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let running = |run: &Run| {
            run.chunk_id == chunk.chunk_id && run.stored.result.status == ItemStatus::Running
        };
        if tables.runs.values().any(running) {
            return Ok(());
        }
        if let Some(row) = tables.chunks.get_mut(&chunk.chunk_id) {
            row.2 = true;
        }
        let open = tables
            .chunks
            .values()
            .any(|(other, _, done)| other.batch_id == chunk.batch_id && !done);
        if !open && let Some(batch) = tables.batches.get_mut(&chunk.batch_id) {
            batch.status = BatchStatus::Completed;
            batch.finished_at.get_or_insert(now);
        }
        Ok(())
    }

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
            .runs
            .values()
            .map(|run| &run.stored)
            .filter(|stored| stored.batch_id == filter.batch_id)
            .filter(|stored| {
                filter
                    .status
                    .is_none_or(|status| status == stored.result.status)
            })
            .cloned()
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
            .runs
            .values()
            .map(|run| &run.stored)
            .filter(|stored| stored.result.tenant_id == filter.tenant_id)
            .filter(|stored| {
                filter
                    .job_id
                    .as_ref()
                    .is_none_or(|job| *job == stored.job_id)
            })
            .cloned()
            .collect();
        found.sort_by_key(|stored| std::cmp::Reverse((stored.scheduled_at, stored.job_id.clone())));
        paged(found, page, |stored| {
            format!(
                "{} {} {}",
                stored.scheduled_at, stored.job_id, stored.occurrence
            )
        })
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
            last.ok_or_else(|| StoreError::invalid("the cursor is none of this list"))? + 1
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
            return Err(ConfigDatabaseError {
                kind: ConfigErrorKind::Unavailable,
                message: "Error connecting to Config Database at fake: it is down".into(),
                retry_after: None,
            });
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
