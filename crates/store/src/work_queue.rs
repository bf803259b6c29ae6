//! The port `WorkQueue`: a tick's batches, their chunks, the progress, and who leads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{Enqueued, Leadership, Pause, PauseCause, StoreError, WorkQueue},
};
use punctual_domain::{
    BatchStatus, Chunk, DeadLetter, DeadLetterState, Firing, JobId, NewBatch, ShardAssignment,
    Sharding, StoredPosition, Trigger,
};
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use crate::{
    Store,
    batch_store::QUEUE_PARKED,
    chunk_queue::{message, place},
    driver::{Announcement, Column, Connection, Row, Value, values},
    errors::not_open,
    fence::GIVEN_UP,
    kept_outputs::FORGET_KEPT,
    late_changes::leave_out_settled,
    prepared_outputs::remove_old,
    trace,
};

/// A process that does not know the newest division does not lead: it would plan by an older one. None does while the store is held.
const LEAD: &str =
    "INSERT INTO @leader AS l (process, until)
     SELECT $1, clock_timestamp() + $2 * interval '1 millisecond'
     WHERE coalesce((SELECT from_date || ' ' || shard FROM @shards ORDER BY from_date DESC LIMIT 1), $3) = $3
       AND NOT EXISTS (SELECT 1 FROM @fence f WHERE f.held_to IS NOT NULL)
     ON CONFLICT (one) DO UPDATE SET process = excluded.process, until = excluded.until
         WHERE l.process = excluded.process OR l.until <= clock_timestamp()";

const POSITION: &str = "SELECT scheduled_until, coalesce(furthest_until, scheduled_until), seen_until, placement, began
     FROM @schedule_progress WHERE job_id = $1";

/// Stores positions, each a list of values.
const KEEP_POSITIONS: &str =
    "INSERT INTO @schedule_progress AS p (job_id, scheduled_until, furthest_until, seen_until, placement, began)
     SELECT n.value ->> 0, CAST(n.value ->> 1 AS BIGINT), CAST(n.value ->> 2 AS BIGINT), CAST(n.value ->> 3 AS BIGINT),
            n.value ->> 4, CAST(n.value ->> 5 AS BIGINT)
     FROM @json($1, n) WHERE TRUE
     ON CONFLICT (job_id) DO UPDATE SET
         scheduled_until = excluded.scheduled_until,
         furthest_until = @greatest(coalesce(p.furthest_until, p.scheduled_until), excluded.furthest_until),
         seen_until = excluded.seen_until,
         placement = excluded.placement,
         began = coalesce(excluded.began, p.began)";

/// Chunks that are inserted together: their messages stand in memory, and `PostgreSQL` takes no more than 1 GB of them.
const CHUNKS_PER_INSERT: usize = 500;

/// Stores batches, each a list of values, and returns the ids of those that were not there. What the schedule has due in a time that
/// a restored store skips is cancelled at once.
const INSERT_BATCHES: &str = "INSERT INTO @batches (batch_id, job_id, slot, scheduled_at, trigger, total, key_form, run, status, created_at, restored)
     SELECT n.value ->> 0, n.value ->> 1, n.value ->> 2, CAST(n.value ->> 3 AS BIGINT), n.value ->> 4,
            CAST(n.value ->> 5 AS BIGINT), n.value ->> 6, CAST(n.value ->> 7 AS BIGINT),
            CASE WHEN CAST(n.value ->> 3 AS BIGINT) <= s.until AND n.value ->> 4 IN ('schedule', 'late_change', 'clock_step') THEN 'cancelled' ELSE $2 END, $3,
            CASE WHEN CAST(n.value ->> 3 AS BIGINT) <= s.until AND n.value ->> 4 IN ('schedule', 'late_change', 'clock_step') THEN 1 ELSE 0 END
     FROM @json($1, n) CROSS JOIN (SELECT coalesce(max(skipped_until), 0) AS until FROM @fence) s
     WHERE TRUE ON CONFLICT DO NOTHING RETURNING batch_id";

/// Numbers of runs, of any of the jobs and of the occurrences. They are not removed before the transaction ends.
const RUNS: &str = "SELECT n.job_id, n.occurrence, n.run FROM @runs n
     WHERE @in_texts(n.job_id, $1) AND @in_texts(n.occurrence, $2) @for_key_share(n)";

/// Notes when the last batch of a run fell due, of runs and instants.
const NOTE_DUE: &str = "UPDATE @runs SET last_due = n.due
     FROM (SELECT CAST(one.value ->> 0 AS BIGINT) AS number, CAST(one.value ->> 1 AS BIGINT) AS due FROM @json($1, one)) n
     WHERE run = n.number AND @in_integers(run, $2) AND last_due < n.due";

const CHUNK_NUMBERS: &str = "SELECT chunk_id, chunk FROM @chunks WHERE @in_texts(batch_id, $1)";

/// Stores where the results of a batch go. Those of one that was cancelled after a restore most likely went there before.
const INSERT_DELIVERY: &str = "INSERT INTO @deliveries (batch_id, target, within, state, reason)
     SELECT b.batch_id, $2, CAST($3 AS BIGINT), CASE b.restored WHEN 0 THEN 'open' ELSE 'given_up' END,
            CASE b.restored WHEN 0 THEN NULL ELSE $4 END
     FROM @batches b WHERE b.batch_id = $1";

/// The pause of an operator, in place of any other.
const PAUSE: &str = "INSERT INTO @paused_jobs (job_id, paused_at, reason, paused_by) VALUES ($1, $2, $3, $4)
     ON CONFLICT (job_id) DO UPDATE SET paused_at = excluded.paused_at, reason = excluded.reason, paused_by = excluded.paused_by";

/// A job that pauses itself: what an operator has paused stays so.
const PAUSE_ITSELF: &str =
    "INSERT INTO @paused_jobs AS p (job_id, paused_at, reason) VALUES ($1, $2, $3)
     ON CONFLICT (job_id) DO UPDATE SET reason = excluded.reason WHERE p.paused_by IS NULL";

const RESUME: &str = "DELETE FROM @paused_jobs WHERE job_id = $1";

const CANCEL: &str =
    "UPDATE @batches SET status = 'cancelled' WHERE batch_id = $1 AND finished_at IS NULL";

/// Locks, in the order of their numbers, the chunks that the end of a batch before its time concerns: its own that are parked, or
/// wait behind others, and those of other batches that wait behind its own. Beside each stands whether it is parked and its own.
pub(crate) const LOCK_CONCERNED: &str =
    "SELECT c.chunk_id, c.batch_id = $1 AND c.done = 2 FROM @chunks c WHERE c.chunk IN (
         SELECT o.chunk FROM @chunks o WHERE o.batch_id = $1 AND (o.done = 2 OR (o.done = 0 AND o.behind IS NOT NULL))
         UNION ALL
         SELECT n.chunk FROM @chunks n WHERE n.job_id = (SELECT b.job_id FROM @batches b WHERE b.batch_id = $1)
           AND n.done = 0 AND n.token IS NULL AND n.behind IN (SELECT o.chunk_id FROM @chunks o WHERE o.batch_id = $1))
     ORDER BY c.chunk @for_update(c)";

/// Has those of some chunks that wait behind a batch's wait behind what these wait behind, if anything, so that its end cuts no order.
const PASS_ON: &str = "UPDATE @chunks SET behind = (SELECT o.behind FROM @chunks o WHERE o.chunk_id = @chunks.behind)
     WHERE @in_texts(chunk_id, $1)
       AND behind IN (SELECT o.chunk_id FROM @chunks o WHERE o.batch_id = $2 AND o.behind IS NOT NULL)";

/// Has those of some chunks that are a batch's wait behind none.
const WAIT_NO_MORE: &str =
    "UPDATE @chunks SET behind = NULL WHERE @in_texts(chunk_id, $1) AND batch_id = $2";

const SETTLE: &str = "UPDATE @dead_letters SET state = $1, settled_at = $2 WHERE state = 'open'
       AND id IN (SELECT letter.value FROM @integers($3, letter))";

pub(crate) const FORGET_DISCARDED: &str =
    "DELETE FROM @dead_letters WHERE id IN (SELECT d.id FROM @dead_letters d
         WHERE d.state = 'discarded' AND d.settled_at <= $1 ORDER BY d.settled_at LIMIT $2)
     RETURNING job_id, tenant_id, occurrence";

/// Dead letters that are removed after a discard: as many as a discard settles at most, so that they do not pile up.
const FORGOTTEN_PER_DISCARD: i64 = 1_000;

const REOPEN: &str = "UPDATE @dead_letters SET state = 'open', settled_at = NULL, reopened_at = $3
     WHERE state = 'discarded' AND settled_at > $1 AND id IN (SELECT letter.value FROM @integers($2, letter))";

/// Marks the results of items that a chunk is to run again.
const REPLAY: &str =
    "INSERT INTO @results AS r (run, tenant_id, chunk, status, attempts, error, started_at, duration, again)
     SELECT c.run, d.tenant_id, c.chunk, CASE d.failure_kind WHEN 'data' THEN 4 ELSE 2 END, d.attempts, d.reason, d.failed_at, 0,
         c.chunk
     FROM @dead_letters d JOIN @chunks c ON c.chunk_id = $1
     WHERE d.id IN (SELECT letter.value FROM @integers($2, letter)) AND d.job_id = $3 AND d.occurrence = $4
       AND d.tenant_id IN (SELECT item.value FROM @texts($5, item))
     ON CONFLICT (run, tenant_id) DO UPDATE SET again = excluded.again WHERE r.status IN (2, 4)";

#[async_trait]
impl WorkQueue for Store {
    /// Always in a file that is not held: it belongs to one machine, and a second process on it does no harm.
    async fn lead(&self, process: Uuid, term: Duration) -> Result<Leadership, StoreError> {
        if self.is_known_to_be_held() {
            return Ok(Leadership::Refused);
        }
        if !self.database.is_shared() {
            return Ok(Leadership::Always);
        }
        let division = self.division.borrow().clone();
        let term = values![process, term.as_millis() as i64, division];
        Ok(match self.database.execute(LEAD, term).await? {
            0 => Leadership::Refused,
            _ => Leadership::Granted,
        })
    }

    async fn assign(
        &self,
        assignment: &ShardAssignment,
        now: DateTime<Utc>,
    ) -> Result<Sharding, StoreError> {
        self.take_shard(assignment, now).await
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
        let is_plan = !firing.positions.is_empty();
        self.check_plan(&mut transaction, is_plan).await?;
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

    async fn paused(&self) -> Result<BTreeMap<JobId, Pause>, StoreError> {
        let sql = "SELECT job_id, reason, paused_by, paused_at FROM @paused_jobs";
        let rows: Vec<Row> = self.database.fetch(sql, values![]).await?;
        let pause = |mut row: Row| {
            let (job_id, reason, paused_by) = (row.parse()?, row.next()?, row.next()?);
            let cause = pause_cause(paused_by, reason);
            let since = row.next()?;
            Ok((job_id, Pause { cause, since }))
        };
        rows.into_iter().map(pause).collect()
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        cause: Option<PauseCause>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (sql, values) = match cause {
            Some(PauseCause::Operator { name, reason }) => {
                let stored = reason_of_operator(&name, reason.as_deref());
                (PAUSE, values![job_id, now, stored, name])
            }
            Some(PauseCause::Failures(reason)) => (PAUSE_ITSELF, values![job_id, now, reason]),
            None => (RESUME, values![job_id]),
        };
        self.database.execute(sql, values).await?;
        // Who waits for a job that goes on looks at once.
        self.changes.send_replace(());
        self.announce_chunks().await
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let cancelled = self.cancel_once(batch_id).await?;
        // A chunk may have been parked between its look at the batch and the cancellation.
        if cancelled && self.database.is_shared() {
            self.cancel_once(batch_id).await?;
        }
        Ok(cancelled)
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
        batches = insert(&mut transaction, batches, now).await?;
        for batch in &batches {
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
        if state == DeadLetterState::Discarded {
            // They are settled whether this succeeds or not; the next discard removes more.
            if let Err(error) = self.forget_discarded(now).await {
                warn!(%error, "Failed to remove dead letters that were discarded long ago: {error}");
            }
        }
        Ok(settled)
    }

    async fn reopen(
        &self,
        ids: &[i64],
        discarded_after: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let letters = values![discarded_after, ids, now];
        let opened = self.database.execute(REOPEN, letters).await?;
        self.changes.send_replace(());
        Ok(opened as usize)
    }
}

impl Store {
    /// Cancels a batch, and queues its chunks of which only items that wait are left. None of its chunks waits behind another run any
    /// more, and what waits behind them waits behind the run before. Chunks are locked before the batch, as those who end chunks do.
    async fn cancel_once(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let concerned = transaction.fetch(LOCK_CONCERNED, values![batch_id]);
        let concerned: Vec<(String, bool)> = concerned.await?;
        let parked = concerned.iter().filter(|(_, is_parked)| *is_parked);
        let parked: Vec<String> = parked.map(|(id, _)| id.clone()).collect();
        let cancelled = transaction.execute(CANCEL, values![batch_id]).await? > 0;
        if cancelled {
            if !concerned.is_empty() {
                let concerned: Vec<String> = concerned.into_iter().map(|(id, _)| id).collect();
                // In this order: what waits behind its chunks is to know what they wait behind.
                for sql in [PASS_ON, WAIT_NO_MORE] {
                    let concerned = values![Value::Texts(concerned.clone()), batch_id];
                    transaction.execute(sql, concerned).await?;
                }
            }
            if !parked.is_empty() {
                let parked = values![Value::Texts(parked)];
                transaction.execute(QUEUE_PARKED, parked).await?;
            }
            // Chunks of a paused job, too, can be claimed from now on.
            transaction.announce(Announcement::Chunks).await?;
        }
        transaction.commit().await?;
        self.note_ends(cancelled);
        Ok(cancelled)
    }

    /// Removes dead letters that can no longer be opened again, with what is kept of their items.
    async fn forget_discarded(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let long_ago = values![now - DeadLetter::REOPENABLE_FOR, FORGOTTEN_PER_DISCARD];
        let mut transaction = self.database.begin().await?;
        let forgotten: Vec<(String, String, String)> =
            transaction.fetch(FORGET_DISCARDED, long_ago).await?;
        if !forgotten.is_empty() {
            let items = values![json!(forgotten).to_string()];
            transaction.execute(FORGET_KEPT, items).await?;
        }
        transaction.commit().await
    }
}

/// The reason of an operator's pause as it is stored: earlier versions on the same store show it whole.
fn reason_of_operator(name: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("paused by {name}: {reason}"),
        None => format!("paused by {name}"),
    }
}

/// What has paused a job, by what is stored of it.
fn pause_cause(paused_by: Option<String>, stored: String) -> PauseCause {
    let Some(name) = paused_by else {
        return PauseCause::Failures(stored);
    };
    let reason = match stored.strip_prefix(&reason_of_operator(&name, None)) {
        Some(rest) => rest.strip_prefix(": "),
        // The erasure of a tenant has replaced a part of the name.
        None => stored.split_once(": ").map(|(_, reason)| reason),
    };
    let reason = reason.map(str::to_owned);
    PauseCause::Operator { name, reason }
}

/// Stores batches that are not there yet, and positions.
pub(crate) async fn enqueue(
    connection: &mut Connection<'_>,
    firing: Firing,
    now: DateTime<Utc>,
) -> Result<Enqueued, StoreError> {
    let mut batches = firing.batches;
    leave_out_settled(connection, &mut batches).await?;
    let batches = insert(connection, batches, now).await?;
    if !firing.positions.is_empty() {
        let micros = |at: DateTime<Utc>| at.timestamp_micros();
        let positions = firing.positions.iter().map(|position| {
            json!([
                position.job_id,
                micros(position.planned_until),
                micros(position.high_water_mark),
                position.snapshot_at.map(micros),
                position.placement,
                position.began.map(micros)
            ])
        });
        let positions = positions.collect::<serde_json::Value>().to_string();
        let positions = values![positions];
        connection.execute(KEEP_POSITIONS, positions).await?;
    }
    if !batches.is_empty() {
        connection.announce(Announcement::Chunks).await?;
        // Also what was prepared for a job that prepares no more, or is gone.
        remove_old(connection, now).await?;
    }
    Ok(Enqueued { batches })
}

/// Whether a batch prepares a run.
fn prepares(batch: &NewBatch) -> bool {
    batch.trigger == Trigger::Prepare
}

/// The chunk before whose end, or return to the queue, a chunk is not claimed.
fn behind(chunk: &Chunk) -> Option<String> {
    chunk.after.first().cloned()
}

/// A job's occurrence.
type Run = (String, String);

/// The numbers of jobs' occurrences.
pub(crate) async fn runs_of(
    connection: &mut Connection<'_>,
    wanted: &BTreeSet<Run>,
) -> Result<HashMap<Run, i64>, StoreError> {
    let runs = known_runs(connection, wanted).await?;
    // Not all are inserted: PostgreSQL uses up a number for each that is there.
    let missing: Vec<&Run> = wanted
        .iter()
        .filter(|run| !runs.contains_key(run))
        .collect();
    if missing.is_empty() {
        return Ok(runs);
    }
    let columns = vec![
        Column::texts(&missing, |(job_id, _)| job_id),
        Column::texts(&missing, |(_, occurrence)| occurrence),
    ];
    let into = "@runs (job_id, occurrence)";
    connection
        .insert(into, columns, "ON CONFLICT DO NOTHING")
        .await?;
    known_runs(connection, wanted).await
}

/// Notes that batches of runs fall due at these instants.
pub(crate) async fn note_due(
    connection: &mut Connection<'_>,
    due: &[(i64, DateTime<Utc>)],
) -> Result<(), StoreError> {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for (run, at) in due {
        let last = last.entry(*run).or_insert(i64::MIN);
        *last = at.timestamp_micros().max(*last);
    }
    if last.is_empty() {
        return Ok(());
    }
    let runs: Vec<i64> = last.keys().copied().collect();
    let last = json!(Vec::from_iter(last)).to_string();
    let noted = values![last, runs.as_slice()];
    connection.execute(NOTE_DUE, noted).await?;
    Ok(())
}

async fn known_runs(
    connection: &mut Connection<'_>,
    wanted: &BTreeSet<Run>,
) -> Result<HashMap<Run, i64>, StoreError> {
    let jobs: BTreeSet<&String> = wanted.iter().map(|(job_id, _)| job_id).collect();
    let occurrences: BTreeSet<&String> = wanted.iter().map(|(_, occurrence)| occurrence).collect();
    let texts = |texts: BTreeSet<&String>| Value::Texts(texts.into_iter().cloned().collect());
    let found = connection.fetch(RUNS, values![texts(jobs), texts(occurrences)]);
    let found: Vec<(String, String, i64)> = found.await?;
    let known = |(job_id, occurrence, run)| ((job_id, occurrence), run);
    Ok(found.into_iter().map(known).collect())
}

/// Stores batches and their chunks, and returns those that were not there already.
async fn insert(
    connection: &mut Connection<'_>,
    mut batches: Vec<NewBatch>,
    now: DateTime<Utc>,
) -> Result<Vec<NewBatch>, StoreError> {
    let run_of = |batch: &NewBatch| {
        let first = batch.chunks.first()?;
        Some((batch.job_id.to_string(), first.occurrence.to_string()))
    };
    let wanted: BTreeSet<Run> = batches.iter().filter_map(run_of).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let runs = runs_of(connection, &wanted).await?;
    let run_of = |batch: &NewBatch| run_of(batch).and_then(|run| runs.get(&run).copied());
    let rows = batches.iter().filter_map(|batch| {
        let run = run_of(batch)?;
        Some(json!([
            batch.batch_id,
            batch.job_id,
            batch.slot,
            batch.scheduled_at.timestamp_micros(),
            batch.trigger.as_str(),
            batch.total(),
            batch.key_form.as_str(),
            run
        ]))
    });
    let rows = Value::from(rows.collect::<serde_json::Value>().to_string());
    let new = values![rows, BatchStatus::Queued.as_str(), now];
    let new: Vec<String> = connection.fetch(INSERT_BATCHES, new).await?;
    // Of two that are the same the first is new.
    let mut left: HashSet<&str> = new.iter().map(String::as_str).collect();
    batches.retain(|batch| left.remove(batch.batch_id.to_string().as_str()));
    // What prepares a run is not an earlier run of it.
    let due = batches
        .iter()
        .filter(|batch| !prepares(batch))
        .filter_map(|batch| Some((run_of(batch)?, batch.scheduled_at)));
    note_due(connection, &Vec::from_iter(due)).await?;
    for batch in &mut batches {
        trace::begin(batch);
    }
    let chunks: Vec<(&NewBatch, &Chunk)> = batches
        .iter()
        .flat_map(|batch| batch.chunks.iter().map(move |chunk| (batch, chunk)))
        .collect();
    for chunks in chunks.chunks(CHUNKS_PER_INSERT) {
        let columns = vec![
            Column::texts(chunks, |(_, chunk)| &*chunk.chunk_id),
            Column::texts(chunks, |(batch, _)| batch.batch_id.to_string()),
            Column::texts(chunks, |(batch, _)| batch.job_id.as_str()),
            Column::texts(chunks, |(_, chunk)| chunk.occurrence.to_string()),
            Column::integers(chunks, |(_, chunk)| chunk.items.len() as i64),
            Column::integers(chunks, |(_, chunk)| place(chunk)),
            Column::Integers(chunks.iter().map(|(batch, _)| run_of(batch)).collect()),
            Column::Texts(chunks.iter().map(|(_, chunk)| behind(chunk)).collect()),
        ];
        let into = "@chunks (chunk_id, batch_id, job_id, occurrence, total, place, run, behind)";
        connection.insert(into, columns, "").await?;
    }
    let numbers = connection.fetch(CHUNK_NUMBERS, values![Value::Texts(new)]);
    let numbers: Vec<(String, i64)> = numbers.await?;
    let numbers: HashMap<String, i64> = numbers.into_iter().collect();
    let number = |chunk: &Chunk| numbers.get(&chunk.chunk_id).copied();
    for chunks in chunks.chunks(CHUNKS_PER_INSERT) {
        let messages: Result<Vec<String>, StoreError> =
            chunks.iter().map(|(_, chunk)| message(chunk)).collect();
        let columns = vec![
            Column::Integers(chunks.iter().map(|(_, chunk)| number(chunk)).collect()),
            Column::Texts(messages?.into_iter().map(Some).collect()),
        ];
        let into = "@chunk_messages (chunk, message)";
        connection.insert(into, columns, "").await?;
    }
    for batch in &batches {
        let within = batch.deliver_within;
        let within = within.and_then(|within| within.num_microseconds());
        for place in &batch.deliver_to {
            let target = place.to_json().to_string();
            let delivery = values![batch.batch_id, target, within, GIVEN_UP];
            connection.execute(INSERT_DELIVERY, delivery).await?;
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_pause_is_found_beside_a_name_that_an_erasure_has_replaced() {
        for (stored, reason) in [
            ("paused by ann (key)", None),
            ("paused by ann (key): a deploy: 7", Some("a deploy: 7")),
            ("paused by erased tenant (key)", None),
            ("paused by erased tenant (key): a deploy", Some("a deploy")),
        ] {
            let name = "ann (key)".to_owned();
            let found = pause_cause(Some(name.clone()), stored.to_owned());
            let reason = reason.map(str::to_owned);
            assert_eq!(found, PauseCause::Operator { name, reason }, "{stored}");
        }
        let failures = pause_cause(None, "9 of 10 items failed".to_owned());
        let expected = PauseCause::Failures("9 of 10 items failed".to_owned());
        assert_eq!(failures, expected);
    }
}
