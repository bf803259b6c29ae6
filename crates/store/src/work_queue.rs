//! The port `WorkQueue`: a tick's batches, their chunks, the progress, and who leads.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{Enqueued, Leadership, StoreError, WorkQueue},
};
use punctual_domain::{
    BatchStatus, Chunk, DeadLetterState, Firing, JobId, NewBatch, StoredPosition,
};
use uuid::Uuid;

use crate::{
    Store,
    chunk_queue::{message, place},
    driver::{Announcement, Column, Connection, Row, Value, values},
    errors::{failed, not_open},
    trace,
};

const LEAD: &str =
    "INSERT INTO @leader AS l (process, until) VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
     ON CONFLICT (one) DO UPDATE SET process = excluded.process, until = excluded.until
         WHERE l.process = excluded.process OR l.until <= clock_timestamp()";

const POSITION: &str = "SELECT scheduled_until, coalesce(furthest_until, scheduled_until), seen_until, placement, began
     FROM @schedule_progress WHERE job_id = $1";

const KEEP_POSITION: &str =
    "INSERT INTO @schedule_progress AS p (job_id, scheduled_until, furthest_until, seen_until, placement, began)
     VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (job_id) DO UPDATE SET
         scheduled_until = excluded.scheduled_until,
         furthest_until = @greatest(coalesce(p.furthest_until, p.scheduled_until), excluded.furthest_until),
         seen_until = excluded.seen_until,
         placement = excluded.placement,
         began = coalesce(excluded.began, p.began)";

const INSERT_BATCH: &str = "INSERT INTO @batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at, key_form,
                          run)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";

const RUN: &str = "SELECT run FROM @runs WHERE job_id = $1 AND occurrence = $2";

const INSERT_RUN: &str =
    "INSERT INTO @runs (job_id, occurrence) VALUES ($1, $2) ON CONFLICT DO NOTHING";

const CHUNK_NUMBERS: &str = "SELECT chunk FROM @chunks WHERE batch_id = $1 ORDER BY place";

const INSERT_DELIVERY: &str =
    "INSERT INTO @deliveries (batch_id, target, within) VALUES ($1, $2, $3)";

const PAUSE: &str = "INSERT INTO @paused_jobs (job_id, paused_at, reason) VALUES ($1, $2, $3)
     ON CONFLICT (job_id) DO UPDATE SET reason = excluded.reason";

const RESUME: &str = "DELETE FROM @paused_jobs WHERE job_id = $1";

const CANCEL: &str =
    "UPDATE @batches SET status = 'cancelled' WHERE batch_id = $1 AND finished_at IS NULL";

const SETTLE: &str = "UPDATE @dead_letters SET state = $1, settled_at = $2 WHERE state = 'open'
       AND id IN (SELECT letter.value FROM @integers($3, letter))";

/// Marks the results of items that a chunk is to run again.
const REPLAY: &str =
    "INSERT INTO @results AS r (run, tenant_id, chunk, status, attempts, error, started_at, duration, again)
     SELECT c.run, d.tenant_id, c.chunk, 2, d.attempts, d.reason, d.failed_at, 0, c.chunk
     FROM @dead_letters d JOIN @chunks c ON c.chunk_id = $1
     WHERE d.id IN (SELECT letter.value FROM @integers($2, letter)) AND d.job_id = $3 AND d.occurrence = $4
       AND d.tenant_id IN (SELECT item.value FROM @texts($5, item))
     ON CONFLICT (run, tenant_id) DO UPDATE SET again = excluded.again WHERE r.status = 2";

#[async_trait]
impl WorkQueue for Store {
    /// Always in a file: it belongs to one machine, and a second process on it does no harm.
    async fn lead(&self, process: Uuid, term: Duration) -> Result<Leadership, StoreError> {
        if !self.database.is_shared() {
            return Ok(Leadership::Always);
        }
        let term = values![process, term.as_millis() as i64];
        Ok(match self.database.execute(LEAD, term).await? {
            0 => Leadership::Refused,
            _ => Leadership::Granted,
        })
    }

    async fn position(&self, job_id: &JobId) -> Result<Option<StoredPosition>, StoreError> {
        let row = self.database.fetch_optional(POSITION, values![job_id]);
        let Some(mut row): Option<Row> = row.await? else {
            return Ok(None);
        };
        Ok(Some(StoredPosition {
            job_id: job_id.clone(),
            planned_until: row.next()?,
            high_water_mark: row.next()?,
            snapshot_at: row.next()?,
            placement: row.next()?,
            began: row.next()?,
        }))
    }

    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError> {
        let mut transaction = self.database.begin().await?;
        let enqueued = enqueue(&mut transaction, firing, now).await?;
        if !enqueued.batches.is_empty() {
            crash_point!("enqueue-before-commit");
        }
        transaction.commit().await?;
        if !enqueued.batches.is_empty() {
            crash_point!("enqueue-after-commit");
            self.arrivals.send_replace(());
            self.changes.send_replace(());
        }
        Ok(enqueued)
    }

    async fn paused(&self) -> Result<BTreeMap<JobId, String>, StoreError> {
        let sql = "SELECT job_id, reason FROM @paused_jobs";
        let rows: Vec<(String, String)> = self.database.fetch(sql, values![]).await?;
        rows.into_iter()
            .map(|(name, reason)| Ok((JobId::new(name).map_err(failed)?, reason)))
            .collect()
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let set = match reason {
            Some(reason) => {
                self.database
                    .execute(PAUSE, values![job_id, now, reason])
                    .await
            }
            None => self.database.execute(RESUME, values![job_id]).await,
        };
        set?;
        // Who waits for a job that goes on looks at once.
        self.changes.send_replace(());
        self.announce_chunks().await
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let cancelled = self.database.execute(CANCEL, values![batch_id]).await?;
        self.changes.send_replace(());
        Ok(cancelled > 0)
    }

    async fn settle(
        &self,
        ids: &[i64],
        mut batches: Vec<NewBatch>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let state = if batches.is_empty() {
            DeadLetterState::Discarded
        } else {
            DeadLetterState::Replayed
        };
        let mut transaction = self.database.begin().await?;
        let letters = values![state.as_str(), now, ids];
        let settled = transaction.execute(SETTLE, letters).await? as usize;
        if settled < ids.len() && state == DeadLetterState::Replayed {
            return Err(not_open());
        }
        for batch in &mut batches {
            insert(&mut transaction, batch, now).await?;
            for chunk in &batch.chunks {
                let occurrence = chunk.occurrence.to_string();
                let items = chunk.items.as_slice();
                let replayed = values![&*chunk.chunk_id, ids, &chunk.job_id, occurrence, items];
                transaction.execute(REPLAY, replayed).await?;
            }
        }
        transaction.announce(Announcement::Chunks).await?;
        crash_point!("replay-before-commit");
        transaction.commit().await?;
        crash_point!("replay-after-commit");
        self.arrivals.send_replace(());
        self.changes.send_replace(());
        Ok(settled)
    }
}

/// Stores batches that are not there yet, and positions.
pub(crate) async fn enqueue(
    connection: &mut Connection<'_>,
    firing: Firing,
    now: DateTime<Utc>,
) -> Result<Enqueued, StoreError> {
    let mut enqueued = Enqueued::default();
    for mut batch in firing.batches {
        if insert(connection, &mut batch, now).await? {
            enqueued.batches.push(batch);
        }
    }
    for position in firing.positions {
        let position = values![
            &position.job_id,
            position.planned_until,
            position.high_water_mark,
            position.snapshot_at,
            position.placement,
            position.began
        ];
        connection.execute(KEEP_POSITION, position).await?;
    }
    if !enqueued.batches.is_empty() {
        connection.announce(Announcement::Chunks).await?;
    }
    Ok(enqueued)
}

/// The number of a job's occurrence.
pub(crate) async fn run_of(
    connection: &mut Connection<'_>,
    job_id: &JobId,
    occurrence: &str,
) -> Result<i64, StoreError> {
    let found = connection.fetch_optional(RUN, values![job_id, occurrence]);
    if let Some(run) = found.await? {
        return Ok(run);
    }
    connection
        .execute(INSERT_RUN, values![job_id, occurrence])
        .await?;
    connection.fetch_one(RUN, values![job_id, occurrence]).await
}

/// Stores a batch and its chunks; `false` when it was there already.
async fn insert(
    connection: &mut Connection<'_>,
    batch: &mut NewBatch,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let Some(first) = batch.chunks.first() else {
        return Ok(false);
    };
    let run = run_of(connection, &batch.job_id, &first.occurrence.to_string()).await?;
    let new = values![
        batch.batch_id,
        &batch.job_id,
        &*batch.slot,
        batch.scheduled_at,
        batch.trigger.as_str(),
        BatchStatus::Queued.as_str(),
        batch.total(),
        now,
        batch.key_form.as_str(),
        run
    ];
    if connection.execute(INSERT_BATCH, new).await? == 0 {
        return Ok(false);
    }
    trace::begin(batch);
    let messages: Result<Vec<String>, StoreError> = batch.chunks.iter().map(message).collect();
    let columns = vec![
        Column::texts(&batch.chunks, |chunk| &*chunk.chunk_id),
        Column::Same(batch.batch_id.into()),
        Column::Same(Value::from(&batch.job_id)),
        Column::texts(&batch.chunks, |chunk| chunk.occurrence.to_string()),
        Column::integers(&batch.chunks, |chunk: &Chunk| chunk.items.len() as i64),
        Column::integers(&batch.chunks, place),
        Column::Same(run.into()),
    ];
    let into = "@chunks (chunk_id, batch_id, job_id, occurrence, total, place, run)";
    connection.insert(into, columns, "").await?;
    let numbers = values![batch.batch_id];
    let numbers: Vec<i64> = connection.fetch(CHUNK_NUMBERS, numbers).await?;
    let columns = vec![
        Column::Integers(numbers.into_iter().map(Some).collect()),
        Column::Texts(messages?.into_iter().map(Some).collect()),
    ];
    let into = "@chunk_messages (chunk, message)";
    connection.insert(into, columns, "").await?;
    for place in &batch.deliver_to {
        let within = batch.deliver_within;
        let within = within.and_then(|within| within.num_microseconds());
        let delivery = values![batch.batch_id, place.to_json().to_string(), within];
        connection.execute(INSERT_DELIVERY, delivery).await?;
    }
    Ok(true)
}
