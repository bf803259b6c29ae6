//! The port `BatchReader`, over either database: what is only read is the same SQL for both.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{
    BatchFilter, BatchReader, DeadLetterFilter, Heartbeat, Page, Paged, ResultFilter, StoreError,
    StoreErrorKind, StoredResult, Survey, TenantRuns,
};
use punctual_domain::{
    Batch, BatchStatus, DeadLetter, DeadLetterState, ItemId, ItemStatus, JobId, Occurrence,
    StoredPosition,
};
use sqlx::{AnyPool, AssertSqlSafe, Row, any::AnyRow};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    chunks,
    errors::failed,
    rows::{self, instant, micros},
    sql,
};

/// A batch as it stands: while it is not over, what its chunks say.
const BATCHES: &str = "SELECT b.batch_id, b.job_id, b.slot, b.scheduled_at, b.trigger, b.status, b.total, b.created_at,
     b.finished_at,
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.succeeded) FROM chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.succeeded END AS BIGINT) AS succeeded,
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.failed) FROM chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.failed END AS BIGINT) AS failed,
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.skipped + c.superseded) FROM chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.skipped END AS BIGINT) AS skipped
     FROM batches b";

/// Selects results: items that succeeded or failed.
const RESULTS: &str = "SELECT r.tenant_id, r.job_id, r.occurrence, r.chunk, r.status, r.attempts, r.preference, r.output,
     r.error, r.started_at, r.finished_at, b.batch_id, b.scheduled_at, b.key_form
     FROM item_results r JOIN chunks c ON c.chunk = r.chunk JOIN batches b ON b.batch_id = c.batch_id";

/// Selects skipped items.
const SKIPPED: &str = "SELECT r.tenant_id, r.job_id, r.occurrence, r.chunk, 'skipped' AS status,
     CAST(0 AS BIGINT) AS attempts, CAST(NULL AS TEXT) AS preference, CAST(NULL AS TEXT) AS output, r.reason AS error,
     r.at AS started_at, r.at AS finished_at, b.batch_id, b.scheduled_at, b.key_form
     FROM skipped_items r JOIN chunks c ON c.chunk = r.chunk JOIN batches b ON b.batch_id = c.batch_id";

/// What chunks in work have noted as running, and have not ended.
const RUNNING_ITEMS: &str = "SELECT r.tenant_id, r.job_id, r.occurrence, r.chunk, 'running' AS status,
     CAST(0 AS BIGINT) AS attempts, CAST(NULL AS TEXT) AS preference, CAST(NULL AS TEXT) AS output,
     CAST(NULL AS TEXT) AS error, r.started_at, CAST(NULL AS BIGINT) AS finished_at, b.batch_id, b.scheduled_at,
     b.key_form
     FROM running_items r JOIN chunks c ON c.chunk = r.chunk AND c.token = r.token
     JOIN batches b ON b.batch_id = c.batch_id
     WHERE r.tenant_id = $1 AND ($2 IS NULL OR r.job_id = $2)
       AND NOT EXISTS (SELECT 1 FROM item_results e WHERE e.tenant_id = r.tenant_id AND e.job_id = r.job_id
                       AND e.occurrence = r.occurrence AND e.chunk = r.chunk)";

/// Tenants that one statement asks for.
const TENANTS_PER_QUERY: usize = 500;

/// Reads batches, results and dead letters.
#[derive(Debug, Clone)]
pub struct SqlReader {
    pool: AnyPool,
    changes: watch::Sender<()>,
}

impl SqlReader {
    pub(super) fn new(pool: AnyPool) -> Self {
        Self {
            pool,
            changes: watch::Sender::new(()),
        }
    }

    pub(super) async fn position(
        &self,
        job_id: &JobId,
    ) -> Result<Option<StoredPosition>, StoreError> {
        type Row = (i64, i64, Option<i64>, Option<String>, Option<i64>);
        let row: Option<Row> = sqlx::query_as(
            "SELECT scheduled_until, coalesce(furthest_until, scheduled_until), seen_until, placement,
                 began
             FROM schedule_progress WHERE job_id = $1",
        )
        .bind(job_id.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        let Some((planned_until, high_water_mark, snapshot_at, placement, began)) = row else {
            return Ok(None);
        };
        Ok(Some(StoredPosition {
            job_id: job_id.clone(),
            planned_until: instant(planned_until)?,
            high_water_mark: instant(high_water_mark)?,
            snapshot_at: snapshot_at.map(instant).transpose()?,
            placement,
            began: began.map(instant).transpose()?,
        }))
    }

    /// Tells those who wait for changes that batches may have changed.
    pub(super) fn note_change(&self) {
        self.changes.send_replace(());
    }

    /// What waits, and who works.
    pub(super) async fn survey(&self, now: DateTime<Utc>) -> Result<Survey, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(sql::SURVEY)
            .bind(micros(now))
            .bind(chunks::longest_rest(now))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let (waiting, working): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, last_seen)| *last_seen < 0);
        // A process whose name was damaged is none that could be waited for.
        let heartbeat = |(process, last_seen): (String, i64)| {
            let process = process.parse().ok()?;
            Some(Heartbeat { process, last_seen })
        };
        Ok(Survey {
            waiting: chunks::jobs(waiting.into_iter().map(|(job_id, _)| job_id).collect()),
            working: working.into_iter().filter_map(heartbeat).collect(),
        })
    }

    pub(super) async fn paused(&self) -> Result<BTreeMap<JobId, String>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT job_id, reason FROM paused_jobs")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.into_iter()
            .map(|(name, reason)| Ok((JobId::new(name).map_err(failed)?, reason)))
            .collect()
    }
}

#[async_trait]
impl BatchReader for SqlReader {
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
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(before)
            .bind(batch_id)
            .bind(filter.job_id.as_ref().map(|job| job.as_str().to_owned()))
            .bind(filter.status.map(BatchStatus::as_str))
            .bind(i64::from(page.limit) + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let batches = all(&rows, rows::batch)?;
        Ok(paged(batches, page, |batch| {
            format!("{}.{}", micros(batch.scheduled_at), batch.batch_id)
        }))
    }

    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!("{BATCHES} WHERE b.batch_id = $1")))
            .bind(batch_id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::batch).transpose()
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
        let mut results: Vec<(i64, StoredResult)> = Vec::new();
        for (select, condition) in [(RESULTS, of_status), (SKIPPED, skipped)] {
            let sql = format!(
                "{select} WHERE c.batch_id = $1 AND (r.chunk, r.tenant_id) > ($2, $3) {condition}
                 ORDER BY r.chunk, r.tenant_id LIMIT $5"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(filter.batch_id.to_string())
                .bind(chunk)
                .bind(tenant.clone())
                .bind(filter.status.map(ItemStatus::as_str))
                .bind(i64::from(page.limit) + 1)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
            results.extend(all(&rows, with_chunk)?);
        }
        results.sort_by(|(chunk, a), (other, b)| {
            (chunk, a.result.item_id.as_str()).cmp(&(other, b.result.item_id.as_str()))
        });
        let (results, next) = paged(results, page, |(chunk, stored)| {
            format!("{chunk}.{}", stored.result.item_id)
        });
        Ok((
            results.into_iter().map(|(_, stored)| stored).collect(),
            next,
        ))
    }

    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError> {
        let job_id = filter.job_id.as_ref().map(|job| job.as_str().to_owned());
        let mut runs: Vec<(i64, StoredResult)> = Vec::new();
        let (before, chunk) = match &page.cursor {
            None => {
                let rows = sqlx::query(RUNNING_ITEMS)
                    .bind(filter.item_id.as_str())
                    .bind(job_id.clone())
                    .fetch_all(&self.pool)
                    .await
                    .map_err(failed)?;
                runs = all(&rows, with_chunk)?;
                (i64::MAX, 0)
            }
            Some(cursor) => {
                let (before, chunk) = split(cursor)?;
                (before, chunk.parse().map_err(|_| bad_cursor())?)
            }
        };
        for select in [RESULTS, SKIPPED] {
            let sql = format!(
                "{select} WHERE r.tenant_id = $1 AND (b.scheduled_at, r.chunk) < ($2, $3)
                   AND ($4 IS NULL OR r.job_id = $4) ORDER BY b.scheduled_at DESC, r.chunk DESC LIMIT $5"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(filter.item_id.as_str())
                .bind(before)
                .bind(chunk)
                .bind(job_id.clone())
                .bind(i64::from(page.limit) + 1)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
            runs.extend(all(&rows, with_chunk)?);
        }
        runs.sort_by_key(|(chunk, stored)| std::cmp::Reverse((stored.scheduled_at, *chunk)));
        let (runs, next) = paged(runs, page, |(chunk, stored)| {
            format!("{}.{chunk}", micros(stored.scheduled_at))
        });
        Ok((runs.into_iter().map(|(_, stored)| stored).collect(), next))
    }

    async fn started_items(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        tenants: &[ItemId],
    ) -> Result<BTreeSet<ItemId>, StoreError> {
        let mut ran = BTreeSet::new();
        for some in tenants.chunks(TENANTS_PER_QUERY) {
            let names: Vec<String> = (3..3 + some.len()).map(|n| format!("${n}")).collect();
            let sql = format!(
                "SELECT tenant_id FROM item_results WHERE job_id = $1 AND occurrence = $2 AND tenant_id IN ({names})
                 UNION SELECT n.tenant_id FROM running_items n JOIN chunks c ON c.chunk = n.chunk AND c.token = n.token
                 WHERE n.job_id = $1 AND n.occurrence = $2 AND n.tenant_id IN ({names})",
                names = names.join(", ")
            );
            let query = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(job_id.as_str().to_owned())
                .bind(occurrence.to_string());
            let found: Vec<String> = some
                .iter()
                .fold(query, |query, tenant| {
                    query.bind(tenant.as_str().to_owned())
                })
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
            for id in found {
                ran.insert(ItemId::new(id).map_err(failed)?);
            }
        }
        Ok(ran)
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Paged<DeadLetter>, StoreError> {
        let before = match &page.cursor {
            None => i64::MAX,
            Some(cursor) => cursor.parse().map_err(|_| bad_cursor())?,
        };
        let rows = sqlx::query(
            "SELECT id, job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason, failed_at, state,
                    settled_at,
                    coalesce((SELECT b.key_form FROM batches b WHERE b.batch_id = d.batch_id), 'colons') AS key_form
             FROM dead_letters d WHERE id < $1 AND ($2 IS NULL OR job_id = $2) AND ($3 IS NULL OR tenant_id = $3)
               AND ($4 IS NULL OR state = $4) ORDER BY id DESC LIMIT $5",
        )
        .bind(before)
        .bind(filter.job_id.as_ref().map(|job| job.as_str().to_owned()))
        .bind(filter.item_id.as_ref().map(|id| id.as_str().to_owned()))
        .bind(filter.state.map(DeadLetterState::as_str))
        .bind(i64::from(page.limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let letters = all(&rows, rows::dead_letter)?;
        Ok(paged(letters, page, |letter| letter.id.to_string()))
    }
}

fn with_chunk(row: &AnyRow) -> Result<(i64, StoredResult), StoreError> {
    let chunk = row.try_get("chunk").map_err(failed)?;
    Ok((chunk, rows::stored_result(row)?))
}

fn all<T>(
    rows: &[AnyRow],
    read: impl FnMut(&AnyRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect()
}

pub(super) fn bad_cursor() -> StoreError {
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
pub(super) fn paged<T>(
    mut entries: Vec<T>,
    page: &Page,
    cursor: impl Fn(&T) -> String,
) -> Paged<T> {
    let more = entries.len() > page.limit as usize;
    entries.truncate(page.limit as usize);
    let next = entries.last().filter(|_| more).map(cursor);
    (entries, next)
}
