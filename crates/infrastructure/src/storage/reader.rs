//! The port `BatchReader`, over either database: what is only read is the same SQL for both.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use punctual_application::ports::{
    BatchFilter, BatchReader, DeadLetterFilter, Page, Paged, ResultFilter, StoreError,
    StoredResult, TenantRuns,
};
use punctual_domain::{
    Batch, BatchStatus, DeadLetter, DeadLetterState, ItemStatus, JobId, Occurrence, Progress,
    TenantId,
};
use sqlx::{AnyPool, AssertSqlSafe, Row, any::AnyRow};
use uuid::Uuid;

use super::{
    QUEUES,
    rows::{self, failed, instant, micros},
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

const RESULTS: &str = "SELECT r.tenant_id, r.job_id, r.occurrence, r.chunk, r.status, r.attempts, r.preference, r.output,
     r.error, r.started_at, r.finished_at, b.batch_id, b.scheduled_at
     FROM item_results r JOIN chunks c ON c.chunk = r.chunk JOIN batches b ON b.batch_id = c.batch_id";

/// The items of a tenant that chunks in work have not ended. What a claim gave is a JSON array of names that need no
/// escaping, so a name in quotes is found in it as text, in both databases.
const IN_WORK: &str = "SELECT $1 AS tenant_id, c.job_id, c.occurrence, 'running' AS status, CAST(0 AS BIGINT) AS attempts,
     CAST(NULL AS TEXT) AS preference, CAST(NULL AS TEXT) AS output, CAST(NULL AS TEXT) AS error,
     c.claimed_at AS started_at, CAST(NULL AS BIGINT) AS finished_at, b.batch_id, b.scheduled_at
     FROM chunks c JOIN batches b ON b.batch_id = c.batch_id
     WHERE c.token IS NOT NULL AND replace(c.items, '\"' || $1 || '\"', '') <> c.items
       AND ($2 IS NULL OR c.job_id = $2)
       AND NOT EXISTS (SELECT 1 FROM item_results r
                       WHERE r.tenant_id = $1 AND r.job_id = c.job_id AND r.occurrence = c.occurrence)";

/// Tenants that one statement asks for.
const TENANTS_A_QUERY: usize = 500;

/// Reads batches, results and dead letters.
#[derive(Debug, Clone)]
pub struct SqlReader {
    pool: AnyPool,
}

impl SqlReader {
    pub(super) fn new(pool: AnyPool) -> Self {
        Self { pool }
    }

    pub(super) async fn progress(&self, job_id: &JobId) -> Result<Option<Progress>, StoreError> {
        let row: Option<(i64, i64, Option<i64>, Option<String>)> = sqlx::query_as(
            "SELECT scheduled_until, coalesce(furthest_until, scheduled_until), seen_until, placement
             FROM schedule_progress WHERE job_id = $1",
        )
        .bind(job_id.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        let Some((scheduled_until, furthest_until, seen_until, placement)) = row else {
            return Ok(None);
        };
        Ok(Some(Progress {
            job_id: job_id.clone(),
            scheduled_until: instant(scheduled_until)?,
            furthest_until: instant(furthest_until)?,
            seen_until: seen_until.map(instant).transpose()?,
            placement,
        }))
    }

    /// The queues in apalis' table that have something waiting, or in the hands of a worker that may be dead.
    pub(super) async fn waiting(&self, table: &str) -> Result<BTreeSet<String>, StoreError> {
        let sql = format!(
            "SELECT DISTINCT job_type FROM {table} WHERE status IN ('Pending', 'Failed', 'Queued', 'Running')
               AND substr(job_type, 1, length($1)) = $1"
        );
        let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(QUEUES)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        Ok(names.into_iter().collect())
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
                let tenant = TenantId::new(tenant).map_err(|_| bad_cursor())?;
                (chunk, tenant.to_string())
            }
        };
        // What its chunks count says which of them need not be looked through.
        let sql = format!(
            "{RESULTS} WHERE c.batch_id = $1 AND (r.chunk, r.tenant_id) > ($2, $3)
               AND ($4 IS NULL OR r.status = $4)
               AND ($4 IS NULL OR CASE $4 WHEN 'succeeded' THEN c.succeeded WHEN 'failed' THEN c.failed
                   WHEN 'skipped' THEN c.skipped ELSE 1 END > 0)
             ORDER BY r.chunk, r.tenant_id LIMIT $5"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.batch_id.to_string())
            .bind(chunk)
            .bind(tenant)
            .bind(filter.status.map(ItemStatus::as_str))
            .bind(i64::from(page.limit) + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let results = all(&rows, |row| {
            let chunk: i64 = row.try_get("chunk").map_err(failed)?;
            Ok((chunk, rows::stored_result(row)?))
        })?;
        let (results, next) = paged(results, page, |(chunk, stored)| {
            format!("{chunk}.{}", stored.result.tenant_id)
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
        let (mut runs, before, job) = match &page.cursor {
            None => {
                let rows = sqlx::query(IN_WORK)
                    .bind(filter.tenant_id.as_str())
                    .bind(job_id.clone())
                    .fetch_all(&self.pool)
                    .await
                    .map_err(failed)?;
                (all(&rows, rows::stored_result)?, i64::MAX, String::new())
            }
            Some(cursor) => {
                let (before, job) = split(cursor)?;
                (Vec::new(), before, job.to_owned())
            }
        };
        let sql = format!(
            "{RESULTS} WHERE r.tenant_id = $1 AND (b.scheduled_at, r.job_id) < ($2, $3)
               AND ($4 IS NULL OR r.job_id = $4) ORDER BY b.scheduled_at DESC, r.job_id DESC LIMIT $5"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.tenant_id.as_str())
            .bind(before)
            .bind(job)
            .bind(job_id)
            .bind(i64::from(page.limit) + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let newest = |stored: &StoredResult| {
            std::cmp::Reverse((stored.scheduled_at, stored.job_id.to_string()))
        };
        runs.extend(all(&rows, rows::stored_result)?);
        runs.sort_by_key(newest);
        Ok(paged(runs, page, |stored| {
            format!("{}.{}", micros(stored.scheduled_at), stored.job_id)
        }))
    }

    async fn ran(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        tenants: &[TenantId],
    ) -> Result<BTreeSet<TenantId>, StoreError> {
        let mut ran = BTreeSet::new();
        for some in tenants.chunks(TENANTS_A_QUERY) {
            let names: Vec<String> = (3..3 + some.len()).map(|n| format!("${n}")).collect();
            let sql = format!(
                "SELECT tenant_id FROM item_results WHERE job_id = $1 AND occurrence = $2 AND tenant_id IN ({})",
                names.join(", ")
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
                ran.insert(TenantId::new(id).map_err(failed)?);
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
                    settled_at
             FROM dead_letters WHERE id < $1 AND ($2 IS NULL OR job_id = $2) AND ($3 IS NULL OR tenant_id = $3)
               AND ($4 IS NULL OR state = $4) ORDER BY id DESC LIMIT $5",
        )
        .bind(before)
        .bind(filter.job_id.as_ref().map(|job| job.as_str().to_owned()))
        .bind(filter.tenant_id.as_ref().map(|id| id.as_str().to_owned()))
        .bind(filter.state.map(DeadLetterState::as_str))
        .bind(i64::from(page.limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let letters = all(&rows, rows::dead_letter)?;
        Ok(paged(letters, page, |letter| letter.id.to_string()))
    }
}

fn all<T>(
    rows: &[AnyRow],
    read: impl FnMut(&AnyRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect()
}

pub(super) fn bad_cursor() -> StoreError {
    StoreError::invalid("the cursor is none of this list; use the `next_cursor` of the page before")
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
