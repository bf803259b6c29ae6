//! The port `WorkQueue`: a tick's batches, their messages in apalis' queue, and the progress.

use std::collections::BTreeSet;

use apalis_sqlite::{SqliteTask, queries::push_tasks};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{Enqueued, StoreError, WorkQueue};
use punctual_domain::{BatchStatus, Firing, JobId, NewBatch, Priority, Progress};
use sqlx::{Row, SqliteConnection};

use super::{
    QUEUE, SqliteStore, failed,
    rows::{instant, micros},
};

#[async_trait]
impl WorkQueue for SqliteStore {
    async fn progress(&self, job_id: &JobId) -> Result<Option<Progress>, StoreError> {
        let row = sqlx::query(
            "SELECT scheduled_until, coalesce(furthest_until, scheduled_until), seen_until FROM schedule_progress WHERE job_id = ?1",
        )
        .bind(job_id.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let seen_until: Option<i64> = row.try_get(2).map_err(failed)?;
        Ok(Some(Progress {
            job_id: job_id.clone(),
            scheduled_until: instant(row.try_get(0).map_err(failed)?)?,
            furthest_until: instant(row.try_get(1).map_err(failed)?)?,
            seen_until: seen_until.map(instant).transpose()?,
        }))
    }

    async fn paused(&self) -> Result<BTreeSet<JobId>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar("SELECT job_id FROM paused_jobs")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        names
            .iter()
            .map(|name| JobId::new(name).map_err(failed))
            .collect()
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        paused: bool,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let sql = if paused {
            "INSERT INTO paused_jobs (job_id, paused_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM paused_jobs WHERE job_id = ?1"
        };
        sqlx::query(sql)
            .bind(job_id.as_str())
            .bind(micros(now))
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError> {
        let mut transaction = self.write().await?;
        let mut enqueued = Enqueued::default();
        for batch in firing.batches {
            if insert(&mut transaction, &batch, now).await? {
                enqueued.batches.push(batch);
            }
        }
        for progress in &firing.progress {
            sqlx::query(
                "INSERT INTO schedule_progress (job_id, scheduled_until, furthest_until, seen_until)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (job_id) DO UPDATE SET
                     scheduled_until = excluded.scheduled_until,
                     furthest_until = max(coalesce(furthest_until, scheduled_until), excluded.furthest_until),
                     seen_until = excluded.seen_until",
            )
            .bind(progress.job_id.as_str())
            .bind(micros(progress.scheduled_until))
            .bind(micros(progress.furthest_until))
            .bind(progress.seen_until.map(micros))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        if !enqueued.batches.is_empty() {
            self.pushed.notify_one();
        }
        Ok(enqueued)
    }
}

/// Stores a batch and its chunks; `false` when it was there already.
async fn insert(
    connection: &mut SqliteConnection,
    batch: &NewBatch,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
    )
    .bind(batch.batch_id.to_string())
    .bind(batch.job_id.as_str())
    .bind(&batch.slot)
    .bind(micros(batch.scheduled_at))
    .bind(batch.trigger.as_str())
    .bind(BatchStatus::Queued.as_str())
    .bind(batch.total() as i64)
    .bind(micros(now))
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    let mut tasks = Vec::with_capacity(batch.chunks.len());
    for chunk in &batch.chunks {
        sqlx::query("INSERT INTO chunks (chunk_id, batch_id) VALUES (?1, ?2)")
            .bind(&chunk.chunk_id)
            .bind(chunk.batch_id.to_string())
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        tasks.push(task(
            serde_json::to_vec(chunk).map_err(failed)?,
            batch.priority,
        ));
    }
    push_tasks(connection, QUEUE, &tasks)
        .await
        .map_err(failed)?;
    Ok(true)
}

/// A message of the queue. It is delivered until its chunk is done: how often an item may fail is counted
/// item by item, not here.
fn task(chunk: Vec<u8>, priority: Priority) -> SqliteTask {
    let priority = match priority {
        Priority::Low => 0,
        Priority::Medium => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    };
    apalis::prelude::TaskBuilder::new(chunk)
        .priority(priority)
        .max_attempts(i32::MAX as usize)
        .build()
}
