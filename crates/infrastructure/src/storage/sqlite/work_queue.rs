//! The port `WorkQueue`: a tick's batches, their messages in apalis' queue, and the progress.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{Enqueued, Leadership, StoreError, WorkQueue};
use punctual_domain::{BatchStatus, DeadLetterState, Firing, JobId, NewBatch, StoredPosition};
use serde_json::json;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::SqliteStore;
use crate::crash::crash_point;
use crate::spans;
use crate::storage::{
    chunks::{message, place},
    errors::{failed, not_open},
    rows::micros,
    sql,
};

#[async_trait]
impl WorkQueue for SqliteStore {
    /// Always: a file belongs to one machine, and a second process on it does no harm.
    async fn lead(&self, _process: Uuid, _term: Duration) -> Result<Leadership, StoreError> {
        Ok(Leadership::Always)
    }

    async fn position(&self, job_id: &JobId) -> Result<Option<StoredPosition>, StoreError> {
        self.reader.position(job_id).await
    }

    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError> {
        let mut transaction = self.write().await?;
        let mut enqueued = Enqueued::default();
        for mut batch in firing.batches {
            if insert(&mut transaction, &mut batch, now).await? {
                enqueued.batches.push(batch);
            }
        }
        for position in &firing.positions {
            sqlx::query(
                "INSERT INTO schedule_progress (job_id, scheduled_until, furthest_until, seen_until, placement,
                     began)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (job_id) DO UPDATE SET
                     scheduled_until = excluded.scheduled_until,
                     furthest_until = max(coalesce(furthest_until, scheduled_until), excluded.furthest_until),
                     seen_until = excluded.seen_until,
                     placement = excluded.placement,
                     began = coalesce(excluded.began, schedule_progress.began)",
            )
            .bind(position.job_id.as_str())
            .bind(micros(position.planned_until))
            .bind(micros(position.high_water_mark))
            .bind(position.snapshot_at.map(micros))
            .bind(&position.placement)
            .bind(position.began.map(micros))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        if !enqueued.batches.is_empty() {
            crash_point!("enqueue-before-commit");
        }
        transaction.commit().await.map_err(failed)?;
        if !enqueued.batches.is_empty() {
            crash_point!("enqueue-after-commit");
        }
        if !enqueued.batches.is_empty() {
            self.arrivals.send_replace(());
            self.reader.note_change();
        }
        Ok(enqueued)
    }

    async fn paused(&self) -> Result<BTreeMap<JobId, String>, StoreError> {
        self.reader.paused().await
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        let sql = if reason.is_some() {
            sql::PAUSE
        } else {
            sql::RESUME
        };
        sqlx::query(sql)
            .bind(job_id.as_str())
            .bind(micros(now))
            .bind(reason)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        // Who waits for a job that goes on looks at once.
        self.arrivals.send_replace(());
        Ok(())
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let cancelled = sqlx::query(sql::CANCEL)
            .bind(batch_id.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.reader.note_change();
        Ok(cancelled.rows_affected() > 0)
    }

    async fn settle(
        &self,
        ids: &[i64],
        mut batches: Vec<NewBatch>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let mut transaction = self.write().await?;
        let state = if batches.is_empty() {
            DeadLetterState::Discarded
        } else {
            DeadLetterState::Replayed
        };
        let settled = sqlx::query(
            "UPDATE dead_letters SET state = ?1, settled_at = ?2 WHERE state = 'open'
               AND id IN (SELECT value FROM json_each(?3))",
        )
        .bind(state.as_str())
        .bind(micros(now))
        .bind(json!(ids).to_string())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?
        .rows_affected() as usize;
        if settled < ids.len() && state == DeadLetterState::Replayed {
            return Err(not_open());
        }
        for batch in &mut batches {
            insert(&mut transaction, batch, now).await?;
            for chunk in &batch.chunks {
                sqlx::query(
                    "INSERT INTO item_results (tenant_id, job_id, occurrence, chunk, status, attempts, error, started_at,
                                               finished_at, again)
                     SELECT d.tenant_id, d.job_id, d.occurrence, c.chunk, 'failed', d.attempts, d.reason, d.failed_at,
                            d.failed_at, c.chunk
                     FROM dead_letters d JOIN chunks c ON c.chunk_id = ?1
                     WHERE d.id IN (SELECT value FROM json_each(?2)) AND d.job_id = ?3 AND d.occurrence = ?4
                       AND d.tenant_id IN (SELECT value FROM json_each(?5))
                     ON CONFLICT (tenant_id, job_id, occurrence) DO UPDATE SET again = excluded.again
                         WHERE item_results.status = 'failed'",
                )
                .bind(&chunk.chunk_id)
                .bind(json!(ids).to_string())
                .bind(chunk.job_id.as_str())
                .bind(chunk.occurrence.to_string())
                .bind(json!(chunk.items).to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            }
        }
        crash_point!("replay-before-commit");
        transaction.commit().await.map_err(failed)?;
        crash_point!("replay-after-commit");
        self.arrivals.send_replace(());
        self.reader.note_change();
        Ok(settled)
    }
}

/// Stores a batch and its chunks; `false` when it was there already.
async fn insert(
    connection: &mut SqliteConnection,
    batch: &mut NewBatch,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(sql::INSERT_BATCH)
        .bind(batch.batch_id.to_string())
        .bind(batch.job_id.as_str())
        .bind(&batch.slot)
        .bind(micros(batch.scheduled_at))
        .bind(batch.trigger.as_str())
        .bind(BatchStatus::Queued.as_str())
        .bind(batch.total() as i64)
        .bind(micros(now))
        .bind(batch.key_form.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    spans::begin(batch);
    for chunk in &batch.chunks {
        sqlx::query(
            "INSERT INTO chunks (chunk_id, batch_id, job_id, occurrence, total, message, place)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(&chunk.chunk_id)
        .bind(chunk.batch_id.to_string())
        .bind(chunk.job_id.as_str())
        .bind(chunk.occurrence.to_string())
        .bind(chunk.items.len() as i64)
        .bind(message(chunk)?)
        .bind(place(chunk))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    }
    for place in &batch.deliver_to {
        sqlx::query(sql::INSERT_DELIVERY)
            .bind(batch.batch_id.to_string())
            .bind(place.to_json().to_string())
            .bind(
                batch
                    .deliver_within
                    .and_then(|within| within.num_microseconds()),
            )
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(true)
}
