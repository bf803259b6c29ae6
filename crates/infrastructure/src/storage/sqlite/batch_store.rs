//! The port `BatchStore`: claims of chunks, and results of their items.

use std::{fmt::Write, sync::LazyLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{BatchStore, Claim, Claimant, Committed, StoreError};
use punctual_domain::{Chunk, ItemId, ItemResult, ItemStatus};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use uuid::Uuid;

use super::SqliteStore;
use crate::crash::crash_point;
use crate::storage::{
    claim::{self, share},
    errors::{failed, no_chunk},
    rows::micros,
    sql,
};

/// The rows of a chunk's items. `CROSS JOIN` keeps `SQLite` from looking through all results of the job instead of looking
/// up each item.
const ROWS_OF_ITEMS: &str =
    "SELECT r.tenant_id, r.chunk, r.again FROM json_each(?1) item CROSS JOIN item_results r
     ON r.tenant_id = item.value AND r.job_id = ?2 AND r.occurrence = ?3
     UNION ALL SELECT tenant_id, chunk, NULL FROM skipped_items WHERE chunk = ?4";

/// How many results one statement writes. Few sizes, so that each is prepared once.
const ROWS_PER_INSERT: [usize; 4] = [250, 50, 10, 1];
const COLUMNS: usize = 11;

static INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| ROWS_PER_INSERT.map(insert_of));

fn insert_of(rows: usize) -> String {
    let mut sql = "INSERT INTO item_results (tenant_id, job_id, occurrence, chunk, status, attempts, preference, output,
                       error, started_at, finished_at) VALUES "
        .to_owned();
    for row in 0..rows {
        let comma = if row > 0 { ", " } else { "" };
        let marks = ["?"; COLUMNS].join(", ");
        let _ = write!(sql, "{comma}({marks})");
    }
    sql + sql::UPSERT_RESULTS
}

#[async_trait]
impl BatchStore for SqliteStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let mut transaction = self.write().await?;
        let claim = claim_chunk(&mut transaction, chunk, claimant, now).await?;
        crash_point!("claim-before-commit");
        transaction.commit().await.map_err(failed)?;
        crash_point!("claim-after-commit");
        Ok(claim)
    }

    async fn record_running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query(sql::RECORD_RUNNING)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .bind(chunk.job_id.as_str())
            .bind(tenant.as_str())
            .bind(chunk.occurrence.to_string())
            .bind(micros(began))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let noted = sqlx::query(sql::MARK_POISON_CANDIDATE)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .bind(tenant.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(noted.rows_affected() > 0)
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let occurrence = chunk.occurrence.to_string();
        let (skipped, ended): (Vec<_>, Vec<_>) = results
            .iter()
            .partition(|result| result.status == ItemStatus::Skipped);
        // Before it is our turn to write: others write meanwhile.
        let text = |value: &Option<Value>| value.as_ref().map(ToString::to_string);
        let texts: Vec<(Option<String>, Option<String>)> = ended
            .iter()
            .map(|result| (text(&result.preference), text(&result.output)))
            .collect();
        let mut transaction = self.write().await?;
        let claimed: Option<(i64, bool, bool)> = sqlx::query_as(sql::VALID_CLAIM)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        let Some((own, cancelled, replay)) = claimed else {
            return Ok(Committed::default());
        };
        let (mut taken, mut rest, mut texts) = (0, ended.as_slice(), texts.into_iter());
        while !rest.is_empty() {
            let size = ROWS_PER_INSERT.iter().position(|size| *size <= rest.len());
            let size = size.expect("a block of one fits what is not empty");
            let (block, others) = rest.split_at(ROWS_PER_INSERT[size]);
            rest = others;
            let mut insert = sqlx::query(AssertSqlSafe(INSERTS[size].as_str()));
            for result in block {
                let (preference, output) = texts.next().unwrap_or_default();
                insert = insert
                    .bind(result.item_id.as_str())
                    .bind(chunk.job_id.as_str())
                    .bind(&occurrence)
                    .bind(own)
                    .bind(result.status.as_str())
                    .bind(result.attempts)
                    .bind(preference)
                    .bind(output)
                    .bind(&result.error)
                    .bind(micros(result.started_at))
                    .bind(result.finished_at.map(micros));
            }
            let inserted = insert.execute(&mut *transaction).await.map_err(failed)?;
            taken += inserted.rows_affected() as usize;
        }
        if !skipped.is_empty() {
            taken += skip(&mut transaction, chunk, own, replay, &skipped).await?;
        }
        if taken == results.len() {
            add_counts(&mut transaction, own, results).await?;
        } else {
            recount(&mut transaction, own).await?;
        }
        for result in results {
            if result.status == ItemStatus::Failed {
                dead_letter(&mut transaction, chunk, own, result).await?;
            }
        }
        let ended = results.iter().filter_map(|result| result.finished_at).max();
        let finished = match ended {
            Some(now) => finish(&mut transaction, chunk, token, now).await?,
            None => false,
        };
        crash_point!("results-before-commit");
        transaction.commit().await.map_err(failed)?;
        crash_point!("results-after-commit");
        self.reader.note_change();
        Ok(Committed {
            taken,
            claimed: true,
            cancelled,
            finished,
        })
    }

    async fn release(
        &self,
        chunk: &Chunk,
        token: Uuid,
        rest_until: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query(sql::RELEASE)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .bind(rest_until.map_or(0, micros))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.arrivals.send_replace(());
        Ok(())
    }

    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        finish(&mut transaction, chunk, token, now).await?;
        transaction.commit().await.map_err(failed)?;
        self.reader.note_change();
        Ok(())
    }
}

/// Claims what is still to be run of a chunk.
pub(super) async fn claim_chunk(
    connection: &mut SqliteConnection,
    chunk: &Chunk,
    claimant: Claimant,
    now: DateTime<Utc>,
) -> Result<Claim, StoreError> {
    let (job_id, occurrence) = (chunk.job_id.as_str(), chunk.occurrence.to_string());
    let row = sqlx::query(sql::CLAIM)
        .bind(&chunk.chunk_id)
        .bind(claimant.token.to_string())
        .bind(claimant.process.to_string())
        .bind(micros(now))
        .bind(job_id)
        .bind(&occurrence)
        .bind(chunk.items.len() as i64)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?
        .ok_or_else(|| no_chunk(chunk))?;
    let own: i64 = row.try_get(0).map_err(failed)?;
    let rows = sqlx::query_as(ROWS_OF_ITEMS)
        .bind(json!(chunk.items).to_string())
        .bind(job_id)
        .bind(&occurrence)
        .bind(own)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let in_work: Vec<String> = sqlx::query_scalar(sql::ACTIVE_CLAIMS)
        .bind(job_id)
        .bind(&occurrence)
        .bind(own)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let claimed = share(chunk, &claim::rows(own, rows), &in_work)?;
    let running: Vec<String> = sqlx::query_scalar(sql::OVERLAPPING)
        .bind(job_id)
        .bind(&occurrence)
        .bind(micros(claim::alive_since(chunk)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query(sql::ASSIGN_ITEMS)
        .bind(own)
        .bind(json!(claimed.items).to_string())
        .bind(claimed.superseded)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query(sql::BEGIN_BATCH)
        .bind(chunk.batch_id.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let suspect: Option<String> = row.try_get(2).map_err(failed)?;
    let suspected: u32 = row.try_get(3).map_err(failed)?;
    let suspect = suspect.map(|tenant| ItemId::new(tenant).map_err(failed));
    Ok(Claim {
        overlapping: claimed.overlapping(&running),
        waiting: claimed.waiting,
        items: claimed.items,
        crash_count: row.try_get(1).map_err(failed)?,
        poison_candidate: suspect.transpose()?.map(|tenant| (tenant, suspected)),
        cancelled: row.try_get(4).map_err(failed)?,
    })
}

/// Keeps what is skipped. Returns how many were taken.
async fn skip(
    connection: &mut SqliteConnection,
    chunk: &Chunk,
    own: i64,
    replay: bool,
    skipped: &[&ItemResult],
) -> Result<usize, StoreError> {
    let rows: Vec<Value> = skipped
        .iter()
        .map(|result| {
            let at = result.finished_at.unwrap_or(result.started_at);
            json!([
                result.item_id,
                result.error.as_deref().unwrap_or_default(),
                micros(at)
            ])
        })
        .collect();
    let inserted = sqlx::query(
        "INSERT INTO skipped_items (chunk, tenant_id, job_id, occurrence, reason, at)
         SELECT ?1, value ->> 0, ?2, ?3, value ->> 1, value ->> 2 FROM json_each(?4) WHERE true
         ON CONFLICT DO NOTHING",
    )
    .bind(own)
    .bind(chunk.job_id.as_str())
    .bind(chunk.occurrence.to_string())
    .bind(Value::from(rows).to_string())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if replay {
        for statement in [sql::REOPEN_DEAD_LETTERS, sql::CLEAR_REPLAYED] {
            sqlx::query(statement)
                .bind(own)
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
    }
    Ok(inserted.rows_affected() as usize)
}

/// Ends a chunk all of whose items have an outcome, and its batch with the last one.
async fn finish(
    connection: &mut SqliteConnection,
    chunk: &Chunk,
    token: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let batch_id = chunk.batch_id.to_string();
    let done = sqlx::query(sql::FINISH_CHUNK)
        .bind(&chunk.chunk_id)
        .bind(token.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(sql::CLEAR_RUNNING)
        .bind(&chunk.chunk_id)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    end_batch(connection, &batch_id, now).await?;
    Ok(true)
}

/// Ends a batch all of whose chunks are done.
pub(super) async fn end_batch(
    connection: &mut SqliteConnection,
    batch_id: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(sql::FINISH_BATCH)
        .bind(batch_id)
        .bind(micros(now))
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Adds results that were all taken to the counts of their chunk.
async fn add_counts(
    connection: &mut SqliteConnection,
    own: i64,
    results: &[ItemResult],
) -> Result<(), StoreError> {
    let count = |wanted| results.iter().filter(|one| one.status == wanted).count() as i64;
    sqlx::query(sql::ADD_COUNTS)
        .bind(own)
        .bind(count(ItemStatus::Succeeded))
        .bind(count(ItemStatus::Failed))
        .bind(count(ItemStatus::Skipped))
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Counts the results of a chunk, where not all that came were taken.
async fn recount(connection: &mut SqliteConnection, own: i64) -> Result<(), StoreError> {
    sqlx::query(sql::RECOUNT)
        .bind(own)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Keeps an item that failed, if its result was taken and it has no dead letter yet.
async fn dead_letter(
    connection: &mut SqliteConnection,
    chunk: &Chunk,
    own: i64,
    result: &ItemResult,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason, failed_at)
         SELECT job_id, tenant_id, occurrence, ?5, ?6, attempts, coalesce(error, ''), coalesce(finished_at, started_at)
         FROM item_results WHERE tenant_id = ?1 AND job_id = ?2 AND occurrence = ?3 AND chunk = ?4 AND status = 'failed'
           AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.tenant_id = ?1 AND d.job_id = ?2 AND d.occurrence = ?3
                           AND d.batch_id = ?5)",
    )
    .bind(result.item_id.as_str())
    .bind(chunk.job_id.as_str())
    .bind(chunk.occurrence.to_string())
    .bind(own)
    .bind(chunk.batch_id.to_string())
    .bind(micros(chunk.scheduled_at))
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_are_looked_up_one_by_one_however_many_results_a_job_has() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("punctual.db").display());
        let store = SqliteStore::open(&url).await.unwrap();
        let plan = format!("EXPLAIN QUERY PLAN {ROWS_OF_ITEMS}");
        let rows = sqlx::query(AssertSqlSafe(plan))
            .fetch_all(store.writer())
            .await
            .unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert!(
            steps
                .iter()
                .any(|step| step.contains("(tenant_id=? AND job_id=? AND occurrence=?)")),
            "{steps:#?}"
        );
    }
}
