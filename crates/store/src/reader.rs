//! The port `BatchReader`: what is stored, page by page.

use std::collections::BTreeSet;

use async_trait::async_trait;
use punctual_application::ports::{
    BatchFilter, BatchReader, DeadLetterFilter, Page, Paged, ResultFilter, StoreError,
    StoreErrorKind, StoredResult, TenantRuns,
};
use punctual_domain::{
    Batch, BatchStatus, DeadLetter, DeadLetterState, ItemId, ItemResult, ItemStatus, JobId,
    Occurrence,
};
use serde_json::Value as Json;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    Store,
    driver::{FromRow, Row, values},
    errors::failed,
};

/// A batch as it stands: while it is not over, what its chunks say.
const BATCHES: &str = "SELECT b.batch_id, b.job_id, b.slot, b.scheduled_at, b.trigger, b.status, b.total,
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.succeeded) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.succeeded END AS BIGINT),
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.failed) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.failed END AS BIGINT),
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.skipped + c.superseded) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.skipped END AS BIGINT),
     b.created_at, b.finished_at
     FROM @batches b";

impl FromRow for Batch {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            batch_id: row.parse()?,
            job_id: row.parse()?,
            slot: row.next()?,
            scheduled_at: row.next()?,
            trigger: row.parse()?,
            status: row.parse()?,
            total: row.next()?,
            succeeded: row.next()?,
            failed: row.next()?,
            skipped: row.next()?,
            created_at: row.next()?,
            finished_at: row.next()?,
        })
    }
}

/// Selects results: items that succeeded or failed.
const RESULTS: &str = "SELECT r.chunk, r.job_id, b.batch_id, r.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
     r.status, r.attempts, r.preference, r.output, r.error, r.started_at, r.finished_at
     FROM @item_results r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id";

/// Selects skipped items.
const SKIPPED: &str = "SELECT r.chunk, r.job_id, b.batch_id, r.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
     'skipped', 0, NULL, NULL, r.reason, r.at, r.at
     FROM @skipped_items r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id";

/// What chunks in work have noted as running, and have not ended.
const RUNNING_ITEMS: &str = "SELECT r.chunk, r.job_id, b.batch_id, r.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
     'running', 0, NULL, NULL, NULL, r.started_at, NULL
     FROM @running_items r JOIN @chunks c ON c.chunk = r.chunk AND c.token = r.token
     JOIN @batches b ON b.batch_id = c.batch_id
     WHERE r.tenant_id = $1 AND ($2 IS NULL OR r.job_id = $2)
       AND NOT EXISTS (SELECT 1 FROM @item_results e WHERE e.tenant_id = r.tenant_id AND e.job_id = r.job_id
                       AND e.occurrence = r.occurrence AND e.chunk = r.chunk)";

/// A result, and the number of its chunk.
struct Numbered(i64, StoredResult);

impl FromRow for Numbered {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let json = |text: Option<String>| {
            let value = text.map(|text| serde_json::from_str::<Json>(&text));
            value.transpose().map_err(failed)
        };
        let chunk = row.next()?;
        let (job_id, batch_id, occurrence) = (row.parse()?, row.parse()?, row.parse()?);
        let (scheduled_at, key_form) = (row.next()?, row.parse()?);
        let result = ItemResult {
            item_id: row.parse()?,
            status: row.parse()?,
            attempts: row.next()?,
            preference: json(row.next()?)?,
            output: json(row.next()?)?,
            error: row.next()?,
            started_at: row.next()?,
            finished_at: row.next()?,
        };
        let stored = StoredResult {
            job_id,
            batch_id,
            occurrence,
            scheduled_at,
            result,
            key_form,
        };
        Ok(Self(chunk, stored))
    }
}

const STARTED_ITEMS: &str = "SELECT tenant_id FROM @item_results
     WHERE job_id = $1 AND occurrence = $2 AND tenant_id IN (SELECT item.value FROM @texts($3, item))
     UNION SELECT n.tenant_id FROM @running_items n JOIN @chunks c ON c.chunk = n.chunk AND c.token = n.token
     WHERE n.job_id = $1 AND n.occurrence = $2 AND n.tenant_id IN (SELECT item.value FROM @texts($3, item))";

const DEAD_LETTERS: &str = "SELECT id, job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason, failed_at, state,
            settled_at,
            coalesce((SELECT b.key_form FROM @batches b WHERE b.batch_id = d.batch_id), 'colons')
     FROM @dead_letters d WHERE id < $1 AND ($2 IS NULL OR job_id = $2) AND ($3 IS NULL OR tenant_id = $3)
       AND ($4 IS NULL OR state = $4) ORDER BY id DESC LIMIT $5";

impl FromRow for DeadLetter {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.next()?,
            job_id: row.parse()?,
            item_id: row.parse()?,
            occurrence: row.parse()?,
            batch_id: row.parse()?,
            scheduled_at: row.next()?,
            attempts: row.next()?,
            reason: row.next()?,
            failed_at: row.next()?,
            state: row.parse()?,
            settled_at: row.next()?,
            key_form: row.parse()?,
        })
    }
}

#[async_trait]
impl BatchReader for Store {
    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    async fn batches(&self, filter: &BatchFilter, page: &Page) -> Result<Paged<Batch>, StoreError> {
        let (before, batch_id) = match &page.cursor {
            None => (i64::MAX, String::new()),
            Some(cursor) => {
                let (before, batch_id) = split(cursor)?;
                let batch_id: Uuid = batch_id.parse().map_err(|_| bad_cursor())?;
                (before, batch_id.to_string())
            }
        };
        let sql = format!(
            "{BATCHES} WHERE (b.scheduled_at, b.batch_id) < ($1, $2)
               AND ($3 IS NULL OR b.job_id = $3) AND ($4 IS NULL OR b.status = $4)
             ORDER BY b.scheduled_at DESC, b.batch_id DESC LIMIT $5"
        );
        let job_id = filter.job_id.as_ref().map(JobId::as_str);
        let status = filter.status.map(BatchStatus::as_str);
        let wanted = values![before, batch_id, job_id, status, page.limit + 1];
        let batches: Vec<Batch> = self.database.fetch(&sql, wanted).await?;
        Ok(paged(batches, page, |batch| {
            format!(
                "{}.{}",
                batch.scheduled_at.timestamp_micros(),
                batch.batch_id
            )
        }))
    }

    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError> {
        let sql = format!("{BATCHES} WHERE b.batch_id = $1");
        self.database.fetch_optional(&sql, values![batch_id]).await
    }

    async fn results(
        &self,
        filter: &ResultFilter,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError> {
        let (chunk, tenant) = match &page.cursor {
            None => (i64::MIN, String::new()),
            Some(cursor) => {
                let (chunk, tenant) = split(cursor)?;
                let tenant = ItemId::new(tenant).map_err(|_| bad_cursor())?;
                (chunk, tenant.to_string())
            }
        };
        // What its chunks count says which of them need not be looked through.
        let of_status = "AND ($4 IS NULL OR r.status = $4)
               AND ($4 IS NULL OR CASE $4 WHEN 'succeeded' THEN c.succeeded WHEN 'failed' THEN c.failed ELSE 0 END > 0)";
        let skipped = "AND ($4 IS NULL OR $4 = 'skipped') AND c.skipped > 0";
        let mut results: Vec<Numbered> = Vec::new();
        for (select, condition) in [(RESULTS, of_status), (SKIPPED, skipped)] {
            let sql = format!(
                "{select} WHERE c.batch_id = $1 AND (r.chunk, r.tenant_id) > ($2, $3) {condition}
                 ORDER BY r.chunk, r.tenant_id LIMIT $5"
            );
            let status = filter.status.map(ItemStatus::as_str);
            let wanted = values![filter.batch_id, chunk, &*tenant, status, page.limit + 1];
            results.extend(self.database.fetch(&sql, wanted).await?);
        }
        results.sort_by(|Numbered(chunk, a), Numbered(other, b)| {
            (chunk, a.result.item_id.as_str()).cmp(&(other, b.result.item_id.as_str()))
        });
        let (results, next) = paged(results, page, |Numbered(chunk, stored)| {
            format!("{chunk}.{}", stored.result.item_id)
        });
        Ok((results.into_iter().map(|one| one.1).collect(), next))
    }

    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError> {
        let (tenant, job_id) = (&filter.item_id, filter.job_id.as_ref().map(JobId::as_str));
        let mut runs: Vec<Numbered> = Vec::new();
        let (before, chunk) = match &page.cursor {
            None => {
                let running = self.database.fetch(RUNNING_ITEMS, values![tenant, job_id]);
                runs = running.await?;
                (i64::MAX, 0)
            }
            Some(cursor) => {
                let (before, chunk) = split(cursor)?;
                (before, chunk.parse::<i64>().map_err(|_| bad_cursor())?)
            }
        };
        for select in [RESULTS, SKIPPED] {
            let sql = format!(
                "{select} WHERE r.tenant_id = $1 AND (b.scheduled_at, r.chunk) < ($2, $3)
                   AND ($4 IS NULL OR r.job_id = $4) ORDER BY b.scheduled_at DESC, r.chunk DESC LIMIT $5"
            );
            let wanted = values![tenant, before, chunk, job_id, page.limit + 1];
            runs.extend(self.database.fetch(&sql, wanted).await?);
        }
        runs.sort_by_key(|Numbered(chunk, stored)| {
            std::cmp::Reverse((stored.scheduled_at, *chunk))
        });
        let (runs, next) = paged(runs, page, |Numbered(chunk, stored)| {
            format!("{}.{chunk}", stored.scheduled_at.timestamp_micros())
        });
        Ok((runs.into_iter().map(|one| one.1).collect(), next))
    }

    async fn started_items(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        tenants: &[ItemId],
    ) -> Result<BTreeSet<ItemId>, StoreError> {
        let wanted = values![job_id, occurrence.to_string(), tenants];
        let started: Vec<String> = self.database.fetch(STARTED_ITEMS, wanted).await?;
        started
            .into_iter()
            .map(|id| ItemId::new(id).map_err(failed))
            .collect()
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Paged<DeadLetter>, StoreError> {
        let before = before(page)?;
        let job_id = filter.job_id.as_ref().map(JobId::as_str);
        let tenant = filter.item_id.as_ref().map(ItemId::as_str);
        let state = filter.state.map(DeadLetterState::as_str);
        let wanted = values![before, job_id, tenant, state, page.limit + 1];
        let letters: Vec<DeadLetter> = self.database.fetch(DEAD_LETTERS, wanted).await?;
        Ok(paged(letters, page, |letter| letter.id.to_string()))
    }
}

/// The number that a cursor of a list by number says: entries before it are wanted.
pub(crate) fn before(page: &Page) -> Result<i64, StoreError> {
    match &page.cursor {
        None => Ok(i64::MAX),
        Some(cursor) => cursor.parse().map_err(|_| bad_cursor()),
    }
}

fn bad_cursor() -> StoreError {
    StoreError::new(
        StoreErrorKind::InvalidCursor,
        "invalid cursor; pass the `next_cursor` of the previous page",
    )
}

/// A cursor of a number and an id, in characters that need no escaping in a URL.
fn split(cursor: &str) -> Result<(i64, &str), StoreError> {
    let (number, id) = cursor.split_once('.').ok_or_else(bad_cursor)?;
    Ok((number.parse().map_err(|_| bad_cursor())?, id))
}

/// Cuts the one entry too many that tells whether there is a next page.
pub(crate) fn paged<T>(
    mut entries: Vec<T>,
    page: &Page,
    cursor: impl Fn(&T) -> String,
) -> Paged<T> {
    let more = entries.len() > page.limit as usize;
    entries.truncate(page.limit as usize);
    let next = entries.last().filter(|_| more).map(cursor);
    (entries, next)
}
