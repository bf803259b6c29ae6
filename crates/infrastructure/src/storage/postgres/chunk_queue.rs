//! The port `ChunkQueue`: chunks that wait, and the leases on them.

use std::{convert::Infallible, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{
    ChunkQueue, ClaimLimits, Claimant, ClaimedChunk, Heartbeat, StoreError, Survey,
};
use punctual_domain::JobId;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgListener};
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use super::{
    BATCHES, CHUNKS, PostgresStore,
    batch_store::{claim_chunk, end_batch},
};
use crate::crash::crash_point;
use crate::storage::{
    chunks::{self, longest_rest},
    errors::failed,
    rows::micros,
    sql,
};

/// Microseconds since 1970 by the clock of the server.
const CLOCK: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// How often, and after which time, a claim is retried while another process claims chunks of the job.
const LOCK_ATTEMPTS: usize = 50;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(2);
/// How long to wait after the connection that listens has failed.
const LISTEN_RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[async_trait]
impl ChunkQueue for PostgresStore {
    async fn claim_next(
        &self,
        process: Uuid,
        limits: &ClaimLimits,
        now: DateTime<Utc>,
    ) -> Result<Vec<ClaimedChunk>, StoreError> {
        for _ in 0..LOCK_ATTEMPTS {
            let (claimed, locked) = self.try_claim(process, limits, now).await?;
            if !claimed.is_empty() || !locked {
                return Ok(claimed);
            }
            tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
        }
        Ok(Vec::new())
    }

    async fn heartbeat(&self, process: Uuid) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO processes (process, last_seen) VALUES ($1, {CLOCK})
             ON CONFLICT (process) DO UPDATE SET last_seen = excluded.last_seen"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(process.to_string())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn survey(&self, now: DateTime<Utc>) -> Result<Survey, StoreError> {
        self.reader.survey(now).await
    }

    async fn release_lost(&self, last: &Heartbeat) -> Result<u64, StoreError> {
        let released = sqlx::query(sql::RELEASE_LOST)
            .bind(last.process.to_string())
            .bind(last.last_seen)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(self.announce_released(released.rows_affected()))
    }

    async fn release_forgotten(&self, process: Uuid, held: &[Uuid]) -> Result<u64, StoreError> {
        let tokens: Vec<String> = held.iter().map(Uuid::to_string).collect();
        let released = sqlx::query(
            "UPDATE chunks SET token = NULL, items = NULL, suspect = NULL, suspected = 0
             WHERE token IS NOT NULL AND process = $1
               AND token <> ALL($2)",
        )
        .bind(process.to_string())
        .bind(tokens)
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(self.announce_released(released.rows_affected()))
    }

    async fn sign_off(&self, process: Uuid) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(sql::SIGN_OFF)
            .bind(process.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(AssertSqlSafe(sql::forget_processes(CLOCK)))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    /// Without a connection, looking every now and then has to do.
    async fn listen(&self) {
        loop {
            let Err(error) = self.pass_on().await;
            warn!(%error, "Failed to listen for new work, polling instead: {error}");
            tokio::time::sleep(LISTEN_RETRY_INTERVAL).await;
        }
    }
}

impl PostgresStore {
    /// Announces chunks that were released, if there were any: who asks when there are none must not wake itself.
    fn announce_released(&self, chunks: u64) -> u64 {
        if chunks > 0 {
            self.arrivals.send_replace(());
        }
        chunks
    }

    /// Passes on what other processes announce, until the connection fails.
    async fn pass_on(&self) -> Result<Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all([CHUNKS, BATCHES]).await?;
        loop {
            if listener.recv().await?.channel() == CHUNKS {
                self.arrivals.send_replace(());
            }
            self.reader.note_change();
        }
    }

    /// Claims what it can, and says whether chunks of a job were left because another process claims some of it now.
    async fn try_claim(
        &self,
        process: Uuid,
        limits: &ClaimLimits,
        now: DateTime<Utc>,
    ) -> Result<(Vec<ClaimedChunk>, bool), StoreError> {
        let (mut limits, mut claimed) = (limits.clone(), Vec::new());
        let mut locked = false;
        let mut transaction = self.begin().await?;
        let jobs: Vec<String> = sqlx::query_scalar(sql::WAITING_JOBS)
            .bind(micros(now))
            .bind(longest_rest(now))
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        for job_id in limits.in_order(chunks::jobs(jobs)) {
            let room = limits.room(&job_id);
            if room == 0 {
                continue;
            }
            // Another process claims chunks of the job at this moment, and would not see which items this one gives.
            if !try_lock(&mut transaction, &job_id).await? {
                locked = true;
                continue;
            }
            for (number, chunk_id, message) in waiting(&mut transaction, &job_id, room, now).await?
            {
                let Some(chunk) = chunks::read(&job_id, &chunk_id, &message) else {
                    end_unreadable(&mut transaction, number, now).await?;
                    continue;
                };
                let token = Uuid::new_v4();
                let claimant = Claimant { process, token };
                let claim = claim_chunk(&mut transaction, &chunk, claimant, now).await?;
                limits.add(&chunk);
                claimed.push(ClaimedChunk {
                    chunk,
                    token,
                    claim,
                });
                if limits.room(&job_id) == 0 {
                    break;
                }
            }
        }
        if !claimed.is_empty() {
            crash_point!("claim-before-commit");
        }
        transaction.commit().await.map_err(failed)?;
        if !claimed.is_empty() {
            crash_point!("claim-after-commit");
            self.reader.note_change();
        }
        Ok((claimed, locked))
    }
}

/// Whether this transaction is now the one that claims chunks of the job.
async fn try_lock(connection: &mut PgConnection, job_id: &JobId) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(job_id.as_str())
        .fetch_one(connection)
        .await
        .map_err(failed)
}

/// The next chunks of a job that wait: number, id and message.
async fn waiting(
    connection: &mut PgConnection,
    job_id: &JobId,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Vec<(i64, String, String)>, StoreError> {
    sqlx::query_as(sql::WAITING_CHUNKS)
        .bind(micros(now))
        .bind(longest_rest(now))
        .bind(job_id.as_str())
        .bind(limit as i64)
        .fetch_all(connection)
        .await
        .map_err(failed)
}

/// Ends a chunk that cannot be read, and its batch with the last one.
async fn end_unreadable(
    connection: &mut PgConnection,
    number: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let batch_id: String = sqlx::query_scalar(sql::END_UNREADABLE)
        .bind(number)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    end_batch(connection, &batch_id, now).await
}
