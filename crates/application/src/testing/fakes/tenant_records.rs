//! The port `TenantRecords`, in memory.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Chunk, ItemId, ItemStatus, TenantId};
use serde_json::{Value, json};

use super::{FakeStore, RunKey, Tables};
use crate::ports::{
    BatchReader, DeadLetterFilter, ErasedRecords, Page, StoreError, TenantExport, TenantRecords,
    TenantRuns,
};

/// What stands in place of the id of a tenant who was erased.
const ERASED: &str = "erased tenant";

#[async_trait]
impl TenantRecords for FakeStore {
    async fn erase(
        &self,
        tenant_id: &TenantId,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError> {
        let erased = self.tables().erase(&tenant_id.into(), now);
        self.arrivals.send_replace(());
        Ok(erased)
    }

    async fn erase_once(
        &self,
        tenant_id: &TenantId,
        erased_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError> {
        let item_id = ItemId::from(tenant_id);
        {
            let tables = self.tables();
            let is_done = tables.done_erasures.get(&item_id) == Some(&erased_at);
            let mut chunks = tables.chunks.values();
            if is_done && !chunks.any(|row| row.chunk.items.contains(&item_id)) {
                return Ok(ErasedRecords::default());
            }
        }
        let erased = self.erase(tenant_id, now).await?;
        self.tables().done_erasures.insert(item_id, erased_at);
        Ok(erased)
    }

    async fn export(&self, tenant_id: &TenantId) -> Result<TenantExport, StoreError> {
        let all = Page {
            cursor: None,
            limit: 100_000,
        };
        let item_id = ItemId::from(tenant_id);
        let runs = TenantRuns {
            item_id: item_id.clone(),
            job_id: None,
            since: None,
        };
        let (runs, _) = self.tenant_runs(&runs, &all).await?;
        let letters = DeadLetterFilter {
            item_id: Some(item_id.clone()),
            ..DeadLetterFilter::default()
        };
        let (letters, _) = self.dead_letters(&letters, &all).await?;
        let list = |values: Value| values.as_array().cloned().unwrap_or_default();
        let mut export = TenantExport::default();
        export.0.insert("runs".to_owned(), list(json!(runs)));
        export
            .0
            .insert("dead_letters".to_owned(), list(json!(letters)));
        let tables = self.tables();
        let kept = tables.kept.iter().filter(|((_, id, _), _)| *id == item_id);
        let kept = kept.map(|((job_id, _, occurrence), (purpose_id, output))| {
            json!({"job_id": job_id, "occurrence": occurrence.to_string(), "purpose_id": purpose_id.as_str(), "output": output})
        });
        export.0.insert("kept_outputs".to_owned(), kept.collect());
        let prepared = tables.prepared.keys().filter(|(_, id, _)| *id == item_id);
        let prepared = prepared.map(
            |(job_id, _, occurrence)| json!({"job_id": job_id, "occurrence": occurrence.to_string()}),
        );
        export
            .0
            .insert("prepared_outputs".to_owned(), prepared.collect());
        let successes = tables.last_successes.iter();
        let successes = successes.filter(|((_, id), _)| *id == item_id);
        let successes = successes.map(|((job_id, _), last)| {
            json!({"job_id": job_id, "occurrence": last.occurrence.to_string(), "scheduled_at": last.scheduled_at,
                "finished_at": last.finished_at})
        });
        export
            .0
            .insert("last_successes".to_owned(), successes.collect());
        Ok(export)
    }
}

impl FakeStore {
    /// Forgets which runs were erased, as a store that kept no hashes of them. Only a test that has to find this mistake calls it.
    pub fn forget_erased_runs(&self) {
        self.tables().erased.clear();
    }
}

impl Tables {
    fn erase(&mut self, item_id: &ItemId, now: DateTime<Utc>) -> ErasedRecords {
        let mut erased = ErasedRecords::default();
        let has = |chunk: &Chunk| chunk.items.contains(item_id);
        let chunks: Vec<Chunk> = self
            .chunks
            .values()
            .filter(|row| has(&row.chunk))
            .map(|row| row.chunk.clone())
            .collect();
        for chunk in chunks {
            let key = (chunk.job_id.clone(), item_id.clone(), chunk.occurrence);
            self.erase_from(&chunk, &key, &mut erased, now);
            self.erased.insert(key);
        }
        let is_other = |key: &RunKey| key.1 != *item_id;
        let runs: Vec<RunKey> = self
            .runs
            .keys()
            .filter(|key| !is_other(key))
            .cloned()
            .collect();
        erased.runs += runs.len() as u64;
        self.erased.extend(runs);
        self.runs.retain(|key, _| is_other(key));
        self.kept.retain(|key, _| is_other(key));
        self.prepared.retain(|key, _| is_other(key));
        self.last_successes.retain(|(_, id), _| id != item_id);
        self.skipped.retain(|(_, id), _| id != item_id);
        let letters = self.dead_letters.len();
        self.dead_letters
            .retain(|letter| letter.item_id != *item_id);
        erased.dead_letters = (letters - self.dead_letters.len()) as u64;
        self.asked.forget_name(item_id.as_str(), ERASED);
        erased
    }

    /// Takes an item out of a chunk, which is afterwards as if it had never had it, unless it is over.
    fn erase_from(
        &mut self,
        chunk: &Chunk,
        key: &RunKey,
        erased: &mut ErasedRecords,
        now: DateTime<Utc>,
    ) {
        let (id, item_id) = (&chunk.chunk_id, &key.1);
        let run = self.runs.get(key).filter(|run| run.ended_in(id));
        let own = run.map(|run| run.stored.result.status);
        let row = self.waiting.get(key);
        let has_waited = row.is_some_and(|row| row.chunk_id == *id);
        if has_waited {
            self.waiting.remove(key);
        }
        let skipped = self
            .skipped
            .remove(&(id.clone(), item_id.clone()))
            .is_some();
        if own.is_some() {
            self.runs.remove(key);
            erased.runs += 1;
        }
        let Some(row) = self.chunks.get_mut(id) else {
            return;
        };
        let was_given = row.claimant.is_some() && row.items.contains(item_id);
        row.chunk.items.retain(|item| item != item_id);
        row.items.retain(|item| item != item_id);
        row.running.remove(item_id);
        row.poison_candidate = row
            .poison_candidate
            .take()
            .filter(|(item, _)| item != item_id);
        if row.done {
            return;
        }
        match own {
            _ if has_waited => erased.items += 1,
            _ if skipped => row.ended.skipped -= 1,
            Some(ItemStatus::Succeeded) => row.ended.succeeded -= 1,
            Some(ItemStatus::NothingToDo) => row.ended.nothing_to_do -= 1,
            Some(_) => row.ended.failed -= 1,
            None => {
                erased.items += 1;
                if !was_given {
                    row.superseded = row.superseded.saturating_sub(1);
                }
            }
        }
        let (claimant, left) = (row.claimant, row.left());
        if let Some(batch) = self.batches.get_mut(&chunk.batch_id) {
            batch.total -= 1;
        }
        match claimant {
            Some(claimant) => {
                self.finish(chunk, claimant.token, now);
            }
            None if left == 0 => self.end_chunk(chunk, now),
            None => {}
        }
    }
}
