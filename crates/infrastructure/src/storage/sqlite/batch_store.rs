//! The port `BatchStore`: claims and results of items, and what the API reads.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{
    BatchFilter, BatchStore, Page, ResultFilter, StoreError, StoredResult, TenantRuns,
};
use punctual_domain::{Batch, BatchStatus, Chunk, ItemResult, ItemStatus, TenantId};
use serde_json::json;
use sqlx::Row;
use uuid::Uuid;

use super::{
    SqliteStore, failed,
    rows::{self, micros},
};

const BATCH_COLUMNS: &str = "SELECT *, (SELECT coalesce(sum(superseded), 0) FROM chunks c
     WHERE c.batch_id = b.batch_id) AS superseded FROM batches b";

/// How many of a chunk's items another chunk has. `CROSS JOIN` keeps SQLite from looking through all results of
/// the job instead of looking up each item.
const COUNT_SUPERSEDED: &str = "UPDATE chunks SET superseded =
         (SELECT count(*) FROM json_each(?1) item CROSS JOIN item_results r
          ON r.job_id = ?2 AND r.tenant_id = item.value AND r.occurrence = ?3
          WHERE r.chunk_id <> ?4)
     WHERE chunk_id = ?4";

#[async_trait]
impl BatchStore for SqliteStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Vec<TenantId>, StoreError> {
        let items = json!(chunk.items).to_string();
        let mut transaction = self.write().await?;
        let rows = sqlx::query(
            "INSERT INTO item_results (job_id, tenant_id, occurrence, batch_id, chunk_id, scheduled_at,
                                       token, status, started_at)
             SELECT ?1, value, ?2, ?3, ?4, ?5, ?6, 'running', ?7 FROM json_each(?8) WHERE true
             ON CONFLICT (job_id, tenant_id, occurrence) DO UPDATE SET token = excluded.token
                 WHERE item_results.chunk_id = excluded.chunk_id AND item_results.status = 'running'
             RETURNING tenant_id",
        )
        .bind(chunk.job_id.as_str())
        .bind(chunk.occurrence.to_string())
        .bind(chunk.batch_id.to_string())
        .bind(&chunk.chunk_id)
        .bind(micros(chunk.scheduled_at))
        .bind(token.to_string())
        .bind(micros(now))
        .bind(&items)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(COUNT_SUPERSEDED)
            .bind(&items)
            .bind(chunk.job_id.as_str())
            .bind(chunk.occurrence.to_string())
            .bind(&chunk.chunk_id)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "UPDATE batches SET status = 'running' WHERE batch_id = ?1 AND status = 'queued'",
        )
        .bind(chunk.batch_id.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        rows.iter()
            .map(|row| TenantId::new(row.try_get::<&str, _>(0).map_err(failed)?).map_err(failed))
            .collect()
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<usize, StoreError> {
        let (occurrence, token) = (chunk.occurrence.to_string(), token.to_string());
        let mut transaction = self.write().await?;
        let [mut succeeded, mut failed_for_good, mut skipped] = [0_i64; 3];
        // Row by row: a join would have SQLite look through all results of the job.
        for result in results {
            let updated = sqlx::query(
                "UPDATE item_results SET status = ?1, attempts = attempts + ?2, preference = ?3, output = ?4,
                     error = ?5, started_at = ?6, finished_at = ?7
                 WHERE job_id = ?8 AND tenant_id = ?9 AND occurrence = ?10 AND token = ?11
                   AND status = 'running'",
            )
            .bind(result.status.as_str())
            .bind(result.attempts)
            .bind(result.preference.as_ref().map(ToString::to_string))
            .bind(result.output.as_ref().map(ToString::to_string))
            .bind(&result.error)
            .bind(micros(result.started_at))
            .bind(result.finished_at.map(micros))
            .bind(chunk.job_id.as_str())
            .bind(result.tenant_id.as_str())
            .bind(&occurrence)
            .bind(&token)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?
            .rows_affected() as i64;
            match result.status {
                ItemStatus::Succeeded => succeeded += updated,
                ItemStatus::Failed => failed_for_good += updated,
                ItemStatus::Skipped | ItemStatus::Running => skipped += updated,
            }
        }
        sqlx::query(
            "UPDATE batches SET succeeded = succeeded + ?2, failed = failed + ?3, skipped = skipped + ?4
             WHERE batch_id = ?1",
        )
        .bind(chunk.batch_id.to_string())
        .bind(succeeded)
        .bind(failed_for_good)
        .bind(skipped)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok((succeeded + failed_for_good + skipped) as usize)
    }

    async fn finish(&self, chunk: &Chunk, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query(
            "UPDATE chunks SET done = 1 WHERE chunk_id = ?1 AND NOT EXISTS
                 (SELECT 1 FROM item_results WHERE chunk_id = ?1 AND status = 'running')",
        )
        .bind(&chunk.chunk_id)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "UPDATE batches SET status = ?2, finished_at = coalesce(finished_at, ?3) WHERE batch_id = ?1
               AND NOT EXISTS (SELECT 1 FROM chunks WHERE batch_id = ?1 AND done = 0)",
        )
        .bind(chunk.batch_id.to_string())
        .bind(BatchStatus::Completed.as_str())
        .bind(micros(now))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn batches(
        &self,
        filter: &BatchFilter,
        page: &Page,
    ) -> Result<(Vec<Batch>, Option<String>), StoreError> {
        let (before, batch_id) = match &page.cursor {
            None => (i64::MAX, String::new()),
            Some(cursor) => {
                let (before, batch_id) = split(cursor)?;
                (
                    before,
                    batch_id
                        .parse::<Uuid>()
                        .map_err(|_| bad_cursor())?
                        .to_string(),
                )
            }
        };
        let sql = format!(
            "{BATCH_COLUMNS} WHERE (scheduled_at, batch_id) < (?1, ?2)
               AND (?3 IS NULL OR job_id = ?3) AND (?4 IS NULL OR status = ?4)
             ORDER BY scheduled_at DESC, batch_id DESC LIMIT ?5"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(before)
            .bind(batch_id)
            .bind(filter.job_id.as_ref().map(|job| job.as_str()))
            .bind(filter.status.map(BatchStatus::as_str))
            .bind(i64::from(page.limit) + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let batches = rows
            .iter()
            .map(rows::batch)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(paged(batches, page, |batch| {
            format!("{}.{}", micros(batch.scheduled_at), batch.batch_id)
        }))
    }

    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError> {
        let sql = format!("{BATCH_COLUMNS} WHERE batch_id = ?1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
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
    ) -> Result<(Vec<StoredResult>, Option<String>), StoreError> {
        let after = match &page.cursor {
            None => String::new(),
            Some(cursor) => TenantId::new(cursor).map_err(|_| bad_cursor())?.to_string(),
        };
        let rows = sqlx::query(
            "SELECT * FROM item_results WHERE batch_id = ?1 AND tenant_id > ?2
               AND (?3 IS NULL OR status = ?3) ORDER BY tenant_id LIMIT ?4",
        )
        .bind(filter.batch_id.to_string())
        .bind(after)
        .bind(filter.status.map(ItemStatus::as_str))
        .bind(i64::from(page.limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let results = rows
            .iter()
            .map(rows::stored_result)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(paged(results, page, |stored| {
            stored.result.tenant_id.to_string()
        }))
    }

    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<(Vec<StoredResult>, Option<String>), StoreError> {
        let (before, job) = match &page.cursor {
            None => (i64::MAX, String::new()),
            Some(cursor) => {
                let (before, job) = split(cursor)?;
                (before, job.to_owned())
            }
        };
        let rows = sqlx::query(
            "SELECT * FROM item_results WHERE tenant_id = ?1 AND (scheduled_at, job_id) < (?2, ?3)
               AND (?4 IS NULL OR job_id = ?4) ORDER BY scheduled_at DESC, job_id DESC LIMIT ?5",
        )
        .bind(filter.tenant_id.as_str())
        .bind(before)
        .bind(job)
        .bind(filter.job_id.as_ref().map(|job| job.as_str()))
        .bind(i64::from(page.limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let runs = rows
            .iter()
            .map(rows::stored_result)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(paged(runs, page, |stored| {
            format!("{}.{}", micros(stored.scheduled_at), stored.job_id)
        }))
    }
}

fn bad_cursor() -> StoreError {
    StoreError::invalid("the cursor is none of this list; use the `next_cursor` of the page before")
}

/// A cursor of an instant and an id, in characters that need no escaping in a URL.
fn split(cursor: &str) -> Result<(i64, &str), StoreError> {
    let (micros, id) = cursor.split_once('.').ok_or_else(bad_cursor)?;
    Ok((micros.parse().map_err(|_| bad_cursor())?, id))
}

/// Cuts the one entry too many that tells whether there is a next page.
fn paged<T>(
    mut entries: Vec<T>,
    page: &Page,
    cursor: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let more = entries.len() > page.limit as usize;
    entries.truncate(page.limit as usize);
    let next = entries.last().filter(|_| more).map(cursor);
    (entries, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_are_looked_up_one_by_one_however_many_results_a_job_has() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("punctual.db").display());
        let store = SqliteStore::open(&url).await.unwrap();
        let plan = format!("EXPLAIN QUERY PLAN {COUNT_SUPERSEDED}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(plan))
            .fetch_all(store.pool())
            .await
            .unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert!(
            steps
                .iter()
                .any(|step| step.contains("(job_id=? AND tenant_id=? AND occurrence=?)")),
            "{steps:#?}"
        );
    }
}
