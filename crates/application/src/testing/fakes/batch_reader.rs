//! The port `BatchReader`, in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Batch, DeadLetter, ItemId, JobId, Occurrence};
use tokio::sync::watch;
use uuid::Uuid;

use super::{FakeStore, Tables, paged};
use crate::ports::{
    BatchFilter, BatchReader, DeadLetterFilter, Page, Paged, ResultFilter, StoreError,
    StoredResult, TenantRuns,
};

#[async_trait]
impl BatchReader for FakeStore {
    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
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
            .results()
            .chain(tables.waiting_results())
            .filter(|stored| stored.batch_id == filter.batch_id)
            .filter(|stored| {
                filter
                    .status
                    .is_none_or(|status| status == stored.result.status)
            })
            .collect();
        found.sort_by(|a, b| a.result.item_id.cmp(&b.result.item_id));
        paged(found, page, |stored| stored.result.item_id.to_string())
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
            .chain(tables.waiting_results())
            .filter(|stored| stored.result.item_id == filter.item_id)
            .filter(|stored| !tables.prepares(stored.batch_id))
            .filter(|stored| {
                filter
                    .job_id
                    .as_ref()
                    .is_none_or(|job| *job == stored.job_id)
            })
            .filter(|stored| {
                filter
                    .since
                    .is_none_or(|since| stored.scheduled_at >= since)
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

    async fn started_items(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        tenants: &[ItemId],
    ) -> Result<BTreeSet<ItemId>, StoreError> {
        let tables = self.tables();
        let running: BTreeSet<ItemId> = tables
            .running()
            .filter(|run| run.job_id == *job_id && run.occurrence == occurrence)
            .map(|run| run.result.item_id)
            .collect();
        let ran = |tenant: &&ItemId| {
            let key = (job_id.clone(), (*tenant).clone(), occurrence);
            tables.runs.contains_key(&key)
                || running.contains(*tenant)
                || tables.waiting.contains_key(&key)
                || tables.erased.contains(&key)
        };
        Ok(tenants.iter().filter(ran).cloned().collect())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Paged<DeadLetter>, StoreError> {
        let tables = self.tables();
        let letters = tables.dead_letters.iter().rev();
        let found = letters
            .filter(|letter| tables.is_wanted_letter(letter, filter))
            .cloned();
        paged(found.collect(), page, |letter| letter.id.to_string())
    }

    async fn dead_letter_count(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let tables = self.tables();
        let letters = tables.dead_letters.iter();
        let wanted = letters.filter(|letter| tables.is_wanted_letter(letter, filter));
        Ok(wanted.count() as u64)
    }
}

impl Tables {
    fn is_wanted_letter(&self, letter: &DeadLetter, filter: &DeadLetterFilter) -> bool {
        let reopened_at = self.reopened.get(&letter.id).copied();
        // A store keeps microseconds.
        let micros = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
        is_wanted(letter, filter)
            && (filter.reopened_at.is_none() || micros(filter.reopened_at) == micros(reopened_at))
    }
}

fn is_wanted(letter: &DeadLetter, filter: &DeadLetterFilter) -> bool {
    let (job_id, item_id) = (&filter.job_id, &filter.item_id);
    // A store keeps microseconds.
    let settled_at = letter.settled_at.map(|at| at.timestamp_micros());
    let after = filter.settled_after.map(|after| after.timestamp_micros());
    job_id.as_ref().is_none_or(|job| *job == letter.job_id)
        && item_id.as_ref().is_none_or(|id| *id == letter.item_id)
        && filter.state.is_none_or(|state| state == letter.state)
        && filter
            .failure_kind
            .is_none_or(|kind| kind == letter.failure_kind)
        && filter.up_to.is_none_or(|id| letter.id <= id)
        && filter
            .ids
            .as_ref()
            .is_none_or(|ids| ids.contains(&letter.id))
        && filter
            .settled_at
            .is_none_or(|at| settled_at == Some(at.timestamp_micros()))
        && (after.is_none() || settled_at > after)
}
