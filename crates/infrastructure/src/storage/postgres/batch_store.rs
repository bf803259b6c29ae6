//! The port `BatchStore`: claims of chunks, and results of their items.

use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{BatchStore, Claim, Claimant, Committed, StoreError};
use punctual_domain::{Chunk, ItemId, ItemResult, ItemStatus};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::{BATCHES, PostgresStore, notify};
use crate::crash::crash_point;
use crate::storage::{
    claim::{self, share},
    errors::{failed, no_chunk},
    rows::micros,
    sql,
};

/// Writes results that come as arrays, one for each column.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    "INSERT INTO item_results (tenant_id, job_id, occurrence, chunk, status, attempts, preference, output, error,
                               started_at, finished_at)
     SELECT tenant_id, $2, $3, $4, status, attempts, preference, output, error, started_at, finished_at
     FROM unnest($1::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::bigint[],
                 $11::bigint[])
         AS new (tenant_id, status, attempts, preference, output, error, started_at, finished_at)"
        .to_owned()
        + sql::UPSERT_RESULTS
});

#[async_trait]
impl BatchStore for PostgresStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let mut transaction = self.begin().await?;
        // One claim of a job at a time: two would not see what the other gives.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(chunk.job_id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
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
        sqlx::query(sql::RECORD_RUNNING)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .bind(chunk.job_id.as_str())
            .bind(tenant.as_str())
            .bind(chunk.occurrence.to_string())
            .bind(micros(began))
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &ItemId,
    ) -> Result<bool, StoreError> {
        let noted = sqlx::query(sql::MARK_POISON_CANDIDATE)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .bind(tenant.as_str())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(noted.rows_affected() > 0)
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let mut transaction = self.begin().await?;
        // The lock on the row keeps the claim from ending before this does.
        let claimed: Option<(i64, bool, bool)> = sqlx::query_as(AssertSqlSafe(format!(
            "{} FOR UPDATE OF c",
            sql::VALID_CLAIM
        )))
        .bind(&chunk.chunk_id)
        .bind(token.to_string())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some((own, cancelled, replay)) = claimed else {
            return Ok(Committed::default());
        };
        let (skipped, ended): (Vec<_>, Vec<_>) = results
            .iter()
            .partition(|result| result.status == ItemStatus::Skipped);
        let mut taken = 0;
        if !ended.is_empty() {
            taken += insert(&mut transaction, chunk, own, &ended).await?;
        }
        if !skipped.is_empty() {
            taken += skip(&mut transaction, chunk, own, replay, &skipped).await?;
        }
        if taken == results.len() {
            add_counts(&mut transaction, own, results).await?;
        } else {
            recount(&mut transaction, own).await?;
        }
        dead_letters(&mut transaction, chunk, own, results).await?;
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
        sqlx::query(sql::RELEASE)
            .bind(&chunk.chunk_id)
            .bind(token.to_string())
            .bind(rest_until.map_or(0, micros))
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        self.announce().await
    }

    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        finish(&mut transaction, chunk, token, now).await?;
        transaction.commit().await.map_err(failed)?;
        self.reader.note_change();
        Ok(())
    }
}

/// Claims what is still to be run of a chunk, while no other claim of its job is made.
pub(super) async fn claim_chunk(
    connection: &mut PgConnection,
    chunk: &Chunk,
    claimant: Claimant,
    now: DateTime<Utc>,
) -> Result<Claim, StoreError> {
    let (job_id, occurrence) = (chunk.job_id.as_str(), chunk.occurrence.to_string());
    let ids: Vec<&str> = chunk
        .items
        .iter()
        .map(punctual_domain::ItemId::as_str)
        .collect();
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
    let rows = sqlx::query_as(
        "SELECT tenant_id, chunk, again FROM item_results
             WHERE tenant_id = ANY($1) AND job_id = $2 AND occurrence = $3
             UNION ALL SELECT tenant_id, chunk, NULL FROM skipped_items WHERE chunk = $4",
    )
    .bind(&ids)
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
    let lost: i64 = row.try_get(1).map_err(failed)?;
    let suspect: Option<String> = row.try_get(2).map_err(failed)?;
    let suspected: i64 = row.try_get(3).map_err(failed)?;
    let suspect = suspect.map(|tenant| ItemId::new(tenant).map_err(failed));
    Ok(Claim {
        overlapping: claimed.overlapping(&running),
        waiting: claimed.waiting,
        items: claimed.items,
        crash_count: u32::try_from(lost).unwrap_or(u32::MAX),
        poison_candidate: suspect
            .transpose()?
            .map(|tenant| (tenant, u32::try_from(suspected).unwrap_or(u32::MAX))),
        cancelled: row.try_get(4).map_err(failed)?,
    })
}

/// Writes results in one statement. Returns how many were taken.
async fn insert(
    connection: &mut PgConnection,
    chunk: &Chunk,
    own: i64,
    results: &[&ItemResult],
) -> Result<usize, StoreError> {
    let all = |text: fn(&ItemResult) -> &str| results.iter().copied().map(text).collect::<Vec<_>>();
    let json = |value: fn(&ItemResult) -> Option<&Value>| {
        let text = |result| value(result).map(ToString::to_string);
        results
            .iter()
            .copied()
            .map(text)
            .collect::<Vec<Option<String>>>()
    };
    let number =
        |value: fn(&ItemResult) -> i64| results.iter().copied().map(value).collect::<Vec<_>>();
    let errors: Vec<Option<String>> = results
        .iter()
        .map(|result| result.error.as_deref().map(storable))
        .collect();
    let finished: Vec<Option<i64>> = results
        .iter()
        .map(|result| result.finished_at.map(micros))
        .collect();
    let inserted = sqlx::query(AssertSqlSafe(INSERT.as_str()))
        .bind(all(|result| result.item_id.as_str()))
        .bind(chunk.job_id.as_str())
        .bind(chunk.occurrence.to_string())
        .bind(own)
        .bind(all(|result| result.status.as_str()))
        .bind(number(|result| i64::from(result.attempts)))
        .bind(json(|result| result.preference.as_ref()))
        .bind(json(|result| result.output.as_ref()))
        .bind(errors)
        .bind(number(|result| micros(result.started_at)))
        .bind(finished)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(inserted.rows_affected() as usize)
}

/// Keeps what is skipped. Returns how many were taken.
async fn skip(
    connection: &mut PgConnection,
    chunk: &Chunk,
    own: i64,
    replay: bool,
    skipped: &[&ItemResult],
) -> Result<usize, StoreError> {
    let tenants: Vec<&str> = skipped
        .iter()
        .map(|result| result.item_id.as_str())
        .collect();
    let reasons: Vec<String> = skipped
        .iter()
        .map(|result| storable(result.error.as_deref().unwrap_or_default()))
        .collect();
    let at: Vec<i64> = skipped
        .iter()
        .map(|result| micros(result.finished_at.unwrap_or(result.started_at)))
        .collect();
    let inserted = sqlx::query(
        "INSERT INTO skipped_items (chunk, tenant_id, job_id, occurrence, reason, at)
         SELECT $1, tenant_id, $2, $3, reason, at
         FROM unnest($4::text[], $5::text[], $6::bigint[]) AS new (tenant_id, reason, at)
         ON CONFLICT DO NOTHING",
    )
    .bind(own)
    .bind(chunk.job_id.as_str())
    .bind(chunk.occurrence.to_string())
    .bind(tenants)
    .bind(reasons)
    .bind(at)
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

/// `PostgreSQL` keeps every character but one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Ends a chunk all of whose items have an outcome, and its batch with the last one.
async fn finish(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    batch_id: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // One chunk of a batch at a time: the last two would not see each other.
    sqlx::query("SELECT 1 FROM batches WHERE batch_id = $1 FOR NO KEY UPDATE")
        .bind(batch_id)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let finished = sqlx::query(sql::FINISH_BATCH)
        .bind(batch_id)
        .bind(micros(now))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if finished.rows_affected() > 0 {
        notify(connection, BATCHES).await?;
    }
    Ok(())
}

/// Adds results that were all taken to the counts of their chunk.
async fn add_counts(
    connection: &mut PgConnection,
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
async fn recount(connection: &mut PgConnection, own: i64) -> Result<(), StoreError> {
    sqlx::query(sql::RECOUNT)
        .bind(own)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Keeps the items that failed, if their results were taken and there are no letters of them yet.
async fn dead_letters(
    connection: &mut PgConnection,
    chunk: &Chunk,
    own: i64,
    results: &[ItemResult],
) -> Result<(), StoreError> {
    let failures: Vec<&str> = results
        .iter()
        .filter(|result| result.status == ItemStatus::Failed)
        .map(|result| result.item_id.as_str())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason, failed_at)
         SELECT job_id, tenant_id, occurrence, $5, $6, attempts, coalesce(error, ''), coalesce(finished_at, started_at)
         FROM item_results r
         WHERE tenant_id = ANY($1) AND job_id = $2 AND occurrence = $3 AND chunk = $4 AND status = 'failed'
           AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.tenant_id = r.tenant_id AND d.job_id = $2
                           AND d.occurrence = $3 AND d.batch_id = $5)
         ORDER BY tenant_id",
    )
    .bind(&failures)
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
