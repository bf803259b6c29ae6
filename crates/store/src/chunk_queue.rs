//! The port `ChunkQueue`: chunks that wait, and the leases on them. What a chunk consists of stands as JSON in a table of its
//! own, which is written once: claims and counts rewrite a short row.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{
        ChunkQueue, ClaimLimits, ClaimedChunk, Heartbeat, RETRY_CHUNK_AFTER, StoreError, Survey,
    },
};
use punctual_domain::{Chunk, JobId};
use serde_json::json;
use tokio::sync::watch;
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    Store,
    batch_store::end_batches,
    claims::claim_chunks,
    driver::{Announcement, Connection, Value, values},
    errors::failed,
};

/// How often, and after which time, a claim is retried while another process claims chunks of the job.
const LOCK_ATTEMPTS: usize = 50;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(2);
/// How long to wait after the connection that listens has failed.
const LISTEN_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a chunk is open and does not rest at `$1`: what rests for longer than ever asked for, which ends by `$2`, was put to rest
/// before the clock stepped back.
macro_rules! is_free {
    () => {
        "c.done = 0 AND c.token IS NULL AND NOT (c.not_before > $1 AND c.not_before <= $2)"
    };
}

/// Whether a chunk can be claimed: also, the chunk that it is to begin after has ended, or has been in work and left items for later.
/// Those are found at the claim. The look-up of one row is never taken for a join with all chunks.
macro_rules! waits {
    () => {
        concat!(
            is_free!(),
            " AND (c.behind IS NULL
              OR coalesce((SELECT o.done <> 0 OR o.not_before > 0 FROM @chunks o WHERE o.chunk_id = c.behind), TRUE))"
        )
    };
}

/// The chunks of cancelled batches of a job that can be claimed, at most so many, in no order: they are skipped. The batches come
/// first, as a paused job may have any number of other chunks.
macro_rules! cancelled_chunks {
    ($job:literal, $limit:literal) => {
        concat!(
            "SELECT c.chunk FROM @batches b CROSS JOIN @chunks c
             WHERE b.job_id = ",
            $job,
            " AND b.status = 'cancelled' AND b.finished_at IS NULL
               AND c.batch_id = b.batch_id AND ",
            is_free!(),
            " LIMIT ",
            $limit
        )
    };
}

/// What stands beside a job that is paused and has chunks of cancelled batches that can be claimed. Beside one that is not paused
/// stands -1.
const TO_SKIP: i64 = -2;

macro_rules! waiting_jobs {
    () => {
        concat!(
            "WITH RECURSIVE queued(job_id) AS (
                 SELECT (SELECT c.job_id FROM @chunks c WHERE c.done = 0 AND c.token IS NULL AND c.job_id > ''
                         ORDER BY c.job_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT c.job_id FROM @chunks c WHERE c.done = 0 AND c.token IS NULL AND c.job_id > queued.job_id
                         ORDER BY c.job_id LIMIT 1)
                 FROM queued WHERE queued.job_id IS NOT NULL)
             SELECT job_id, CAST(-1 AS BIGINT) FROM queued WHERE job_id IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM @fence f WHERE f.held_to IS NOT NULL)
               AND NOT EXISTS (SELECT 1 FROM @paused_jobs p WHERE p.job_id = queued.job_id)
               AND EXISTS (SELECT 1 FROM @chunks c WHERE c.job_id = queued.job_id AND ", waits!(), ")
             UNION ALL SELECT j.job_id, CAST(-2 AS BIGINT) FROM @paused_jobs j
             WHERE NOT EXISTS (SELECT 1 FROM @fence f WHERE f.held_to IS NOT NULL)
               AND (", cancelled_chunks!("j.job_id", "1"), ") IS NOT NULL"
        )
    };
}

/// Jobs that one transaction claims chunks of: what it claims does not begin before it ends, and other processes pass over its
/// jobs.
const MAX_JOBS: usize = 32;

/// The jobs of which chunks can be claimed, those that are paused as [`TO_SKIP`]; none while the store is held. One step through the
/// index for each job that has any, however many it has; chunks that rest or wait behind others are stepped over one by one. While no
/// job is paused, no cancelled batch is looked for.
pub(crate) const WAITING_JOBS: &str = waiting_jobs!();

/// The same, and the processes that hold claims with their last heartbeats; 1: it never sent one.
const SURVEY: &str = concat!(
    waiting_jobs!(),
    " UNION ALL SELECT c.process, coalesce(p.last_seen, 1)
      FROM (SELECT DISTINCT process FROM @chunks WHERE token IS NOT NULL AND process IS NOT NULL) c
      LEFT JOIN @processes p ON p.process = c.process"
);

/// Locks at most `$2` of these jobs. Those that another process has locked claims chunks of them at this moment, and would not
/// see which items this one gives.
const LOCK_JOBS: &str = "SELECT job.value FROM @texts($1, job) WHERE @try_lock(job.value) LIMIT $2";

/// The next chunks of each of these jobs, at most `$4`: a list of their numbers.
pub(crate) const NEXT_CHUNKS: &str = concat!(
    "SELECT (SELECT @json_list(next.chunk)
             FROM (SELECT c.chunk FROM @chunks c WHERE c.job_id = job.value AND ",
    waits!(),
    "              ORDER BY c.place, c.chunk LIMIT $4) next)
     FROM @texts($3, job)"
);

/// The same of paused jobs: only chunks of cancelled batches.
pub(crate) const NEXT_CANCELLED: &str = concat!(
    "SELECT (SELECT @json_list(next.chunk) FROM (",
    cancelled_chunks!("job.value", "$4"),
    ") next) FROM @texts($3, job)"
);

/// Chunks by their jobs, numbers of items, and ids, the first chunks of all batches before the second ones.
const CHUNKS: &str = "SELECT chunk, job_id, coalesce(total, 0), chunk_id FROM @chunks
     WHERE @in_integers(chunk, $1) ORDER BY place, chunk";

/// Those of some chunks that can still be claimed, with their messages. They are locked in the order of their numbers, as others
/// lock several: what they wait for may end one of them meanwhile.
const MESSAGES: &str = "SELECT c.chunk, coalesce(m.message, '') FROM @chunks c LEFT JOIN @chunk_messages m ON m.chunk = c.chunk
     WHERE @in_integers(c.chunk, $1) AND c.done = 0 AND c.token IS NULL ORDER BY c.chunk @for_update(c)";

/// Ends a chunk that cannot be read; those of its items that have no outcome count as failed. Its message then
/// says where the results are that it has.
pub(crate) const END_UNREADABLE: &str =
    "UPDATE @chunks SET done = 1, token = NULL, waiting = 0, resumed = 0, called = 0,
         failed = CASE WHEN total > succeeded + skipped + nothing_to_do + superseded
                  THEN total - succeeded - skipped - nothing_to_do - superseded ELSE failed END
     WHERE chunk = $1 RETURNING batch_id";

/// The items of a chunk that have results, found without its message.
const ITEMS_WITH_RESULTS: &str = "SELECT r.tenant_id FROM @results r
     WHERE r.run = (SELECT c.run FROM @chunks c WHERE c.chunk = $1) AND r.chunk = $1 ORDER BY r.tenant_id";

/// Removes what waits of a chunk.
const FORGET_WAITING: &str = "DELETE FROM @waiting_items
     WHERE run = (SELECT c.run FROM @chunks c WHERE c.chunk = $1) AND chunk = $1";

pub(crate) const REPLACE_MESSAGE: &str =
    "INSERT INTO @chunk_messages (chunk, message) VALUES ($1, $2)
     ON CONFLICT (chunk) DO UPDATE SET message = excluded.message";

const HEARTBEAT: &str = "INSERT INTO @processes (process, last_seen) VALUES ($1, @now())
     ON CONFLICT (process) DO UPDATE SET last_seen = excluded.last_seen";

/// Releases the claims of a process that has died. Chunks are locked in the order of their numbers, as others lock several.
const RELEASE_LOST: &str = "UPDATE @chunks SET token = NULL, items = NULL, lost = lost + 1
     WHERE chunk IN (SELECT c.chunk FROM @chunks c WHERE c.token IS NOT NULL AND c.process = $1
                     ORDER BY c.chunk @for_update(c))
       AND token IS NOT NULL AND process = $1
       AND coalesce((SELECT p.last_seen FROM @processes p WHERE p.process = $1), 1) = $2";

/// Releases claims of a process that it knows nothing of, in the same order.
const RELEASE_FORGOTTEN: &str =
    "UPDATE @chunks SET token = NULL, items = NULL, suspect = NULL, suspected = 0
     WHERE chunk IN (SELECT c.chunk FROM @chunks c WHERE c.token IS NOT NULL AND c.process = $1
                     ORDER BY c.chunk @for_update(c))
       AND token IS NOT NULL AND process = $1
       AND token NOT IN (SELECT held.value FROM @texts($2, held))";

const SIGN_OFF: &str = "UPDATE @processes SET last_seen = 0 WHERE process = $1";

/// Forgets processes that have been silent for a day and hold nothing.
const FORGET_PROCESSES: &str = "DELETE FROM @processes AS p WHERE last_seen < @now() - 86400000000
     AND NOT EXISTS (SELECT 1 FROM @chunks c WHERE c.token IS NOT NULL AND c.process = p.process)";

#[async_trait]
impl ChunkQueue for Store {
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
        self.database.execute(HEARTBEAT, values![process]).await?;
        Ok(())
    }

    async fn survey(&self, now: DateTime<Utc>) -> Result<Survey, StoreError> {
        let rows = self.database.fetch(SURVEY, values![now, longest_rest(now)]);
        let rows: Vec<(String, i64)> = rows.await?;
        let (waiting, working): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, last_seen)| *last_seen < 0);
        // A process whose name was damaged is none that could be waited for.
        let heartbeat = |(process, last_seen): (String, i64)| {
            let process = process.parse().ok()?;
            Some(Heartbeat { process, last_seen })
        };
        Ok(Survey {
            waiting: jobs(waiting.into_iter().map(|(job_id, _)| job_id).collect()),
            working: working.into_iter().filter_map(heartbeat).collect(),
        })
    }

    async fn release_lost(&self, last: &Heartbeat) -> Result<u64, StoreError> {
        let process = values![last.process, last.last_seen];
        let released = self.database.execute(RELEASE_LOST, process).await?;
        Ok(self.note_released(released))
    }

    async fn release_forgotten(&self, process: Uuid, held: &[Uuid]) -> Result<u64, StoreError> {
        let held = Value::Texts(held.iter().map(Uuid::to_string).collect());
        let claims = values![process, held];
        let released = self.database.execute(RELEASE_FORGOTTEN, claims).await?;
        Ok(self.note_released(released))
    }

    async fn sign_off(&self, process: Uuid) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        transaction.execute(SIGN_OFF, values![process]).await?;
        transaction.execute(FORGET_PROCESSES, values![]).await?;
        transaction.commit().await
    }

    fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    /// Without a connection, looking every now and then has to do.
    async fn listen(&self) {
        let heard = |announcement| {
            match announcement {
                Announcement::Preferences => return self.preferences.forget(),
                Announcement::Chunks => {
                    self.arrivals.send_replace(());
                }
                Announcement::Batches => {}
            }
            self.changes.send_replace(());
        };
        loop {
            let error = self.database.listen(&heard).await;
            // What is announced meanwhile is not heard.
            self.preferences.forget();
            warn!(%error, "Failed to listen for new work, polling instead: {error}");
            tokio::time::sleep(LISTEN_RETRY_INTERVAL).await;
        }
    }
}

impl Store {
    /// Tells this process of chunks that were released, if there were any: who asks when there are none must not wake itself.
    fn note_released(&self, chunks: u64) -> u64 {
        if chunks > 0 {
            self.arrivals.send_replace(());
        }
        chunks
    }

    /// Claims what it can, and says whether chunks of a job were left because another process claims some of it now.
    async fn try_claim(
        &self,
        process: Uuid,
        limits: &ClaimLimits,
        now: DateTime<Utc>,
    ) -> Result<(Vec<ClaimedChunk>, bool), StoreError> {
        let mut transaction = self.database.begin().await?;
        let due = values![now, longest_rest(now)];
        let waiting: Vec<(String, i64)> = transaction.fetch(WAITING_JOBS, due).await?;
        let paused = waiting.iter().filter(|(_, state)| *state == TO_SKIP);
        let paused: HashSet<String> = paused.map(|(job_id, _)| job_id.clone()).collect();
        let waiting = waiting.into_iter().map(|(job_id, _)| job_id).collect();
        let mut wanted = limits.in_order(jobs(waiting));
        wanted.retain(|job_id| limits.room(job_id) > 0);
        if wanted.is_empty() {
            transaction.commit().await?;
            return Ok((Vec::new(), false));
        }
        let lock = values![names(&wanted), MAX_JOBS as i64];
        let own: HashSet<String> = transaction
            .fetch(LOCK_JOBS, lock)
            .await?
            .into_iter()
            .collect();
        let locked = own.len() < wanted.len().min(MAX_JOBS);
        wanted.retain(|job_id| own.contains(job_id.as_str()));
        let rows = next_chunks(&mut transaction, &wanted, &paused, limits, now).await?;
        let mut chunks: Vec<(Chunk, Uuid)> = Vec::with_capacity(rows.len());
        for row in rows {
            match read(&row) {
                Some(chunk) => chunks.push((chunk, Uuid::new_v4())),
                None => end_unreadable(&mut transaction, row.number, now).await?,
            }
        }
        let to_claim = chunks.iter().map(|(chunk, token)| (chunk, *token));
        let to_claim: Vec<_> = to_claim.collect();
        let claims = claim_chunks(&mut transaction, &to_claim, process, now).await?;
        let claimed = chunks.into_iter().zip(claims);
        let claimed = claimed.map(|((chunk, token), claim)| ClaimedChunk {
            chunk,
            token,
            claim,
        });
        let claimed: Vec<ClaimedChunk> = claimed.collect();
        if !claimed.is_empty() {
            crash_point!("claim-before-commit");
        }
        transaction.commit().await?;
        if !claimed.is_empty() {
            crash_point!("claim-after-commit");
            self.changes.send_replace(());
        }
        Ok((claimed, locked))
    }
}

/// A chunk that waits, as its rows say.
struct WaitingRow {
    number: i64,
    job_id: JobId,
    chunk_id: String,
    message: String,
}

/// The next chunks of these jobs, job after job, as many as the limits have room for; of those that are paused, only chunks of
/// cancelled batches.
async fn next_chunks(
    connection: &mut Connection<'_>,
    wanted: &[JobId],
    paused: &HashSet<String>,
    limits: &ClaimLimits,
    now: DateTime<Utc>,
) -> Result<Vec<WaitingRow>, StoreError> {
    let mut limits = limits.clone();
    let most = wanted.iter().map(|job_id| limits.room(job_id)).max();
    let is_paused = |job_id: &JobId| paused.contains(job_id.as_str());
    let (to_skip, ready): (Vec<JobId>, Vec<JobId>) = wanted.iter().cloned().partition(is_paused);
    let mut numbers: Vec<i64> = Vec::new();
    for (sql, of_jobs) in [(NEXT_CHUNKS, ready), (NEXT_CANCELLED, to_skip)] {
        if of_jobs.is_empty() {
            continue;
        }
        let next = values![now, longest_rest(now), names(&of_jobs), most.unwrap_or(0)];
        let next: Vec<String> = connection.fetch(sql, next).await?;
        for of_job in next {
            let of_job: Vec<i64> = serde_json::from_str(&of_job).map_err(failed)?;
            numbers.extend(of_job);
        }
    }
    let found = connection.fetch(CHUNKS, values![numbers.as_slice()]);
    let found: Vec<(i64, String, i64, String)> = found.await?;
    let mut by_job: HashMap<String, Vec<(i64, usize, String)>> = HashMap::new();
    for (number, job_id, items, chunk_id) in found {
        let items = usize::try_from(items).unwrap_or(0);
        by_job
            .entry(job_id)
            .or_default()
            .push((number, items, chunk_id));
    }
    let mut rows = Vec::new();
    for job_id in wanted {
        let room = limits.room(job_id);
        let of_job = by_job.remove(job_id.as_str()).unwrap_or_default();
        for (number, items, chunk_id) in of_job.into_iter().take(room) {
            if limits.rest(job_id) == 0 {
                break;
            }
            limits.add(job_id, items);
            rows.push(WaitingRow {
                number,
                job_id: job_id.clone(),
                chunk_id,
                message: String::new(),
            });
        }
    }
    let numbers: Vec<i64> = rows.iter().map(|row| row.number).collect();
    let messages = connection.fetch(MESSAGES, values![numbers.as_slice()]);
    let messages: Vec<(i64, String)> = messages.await?;
    let mut messages: HashMap<i64, String> = messages.into_iter().collect();
    let with_message = |mut row: WaitingRow| {
        row.message = messages.remove(&row.number)?;
        Some(row)
    };
    Ok(rows.into_iter().filter_map(with_message).collect())
}

fn names(jobs: &[JobId]) -> Value {
    Value::Texts(jobs.iter().map(ToString::to_string).collect())
}

/// Ends a chunk that cannot be read, and its batch with the last one.
pub(crate) async fn end_unreadable(
    connection: &mut Connection<'_>,
    number: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let batch_id: String = connection
        .fetch_one(END_UNREADABLE, values![number])
        .await?;
    connection.execute(FORGET_WAITING, values![number]).await?;
    let items: Vec<String> = connection
        .fetch(ITEMS_WITH_RESULTS, values![number])
        .await?;
    let message = values![number, json!({ "items": items }).to_string()];
    connection.execute(REPLACE_MESSAGE, message).await?;
    end_batches(connection, &[(batch_id, now)], &[]).await?;
    Ok(())
}

/// A chunk as the queue keeps it.
pub(crate) fn message(chunk: &Chunk) -> Result<String, StoreError> {
    serde_json::to_string(chunk).map_err(failed)
}

/// Places from here on are those of chunks that prepare runs: what is due comes first.
const AFTER_RUNS: i64 = 1 << 40;

/// The place of a chunk in its batch. The first chunks of all batches of a job come before the second ones, so that a large
/// batch lets others in.
pub(crate) fn place(chunk: &Chunk) -> i64 {
    let place = chunk.chunk_id.rsplit('/').next();
    let place = place.and_then(|n| n.parse().ok()).unwrap_or(0);
    match chunk.prepares {
        Some(_) => AFTER_RUNS.saturating_add(place),
        None => place,
    }
}

/// The chunk of a row; `None`, and an entry in the log, when its message is none or that of another row.
fn read(row: &WaitingRow) -> Option<Chunk> {
    let chunk_id = &row.chunk_id;
    let read = serde_json::from_str(&row.message).map_err(|error| error.to_string());
    let read = read.and_then(|chunk: Chunk| {
        if chunk.chunk_id == *chunk_id && chunk.job_id == row.job_id {
            Ok(chunk)
        } else {
            Err(format!("it is that of {}", chunk.chunk_id))
        }
    });
    read.inspect_err(|error| {
        error!(
            chunk_id,
            error,
            "Chunk {chunk_id} in the store cannot be read, its items count as failed: {error}"
        );
    })
    .ok()
}

/// Until when a chunk rests at most that is put to rest now.
fn longest_rest(now: DateTime<Utc>) -> DateTime<Utc> {
    now + RETRY_CHUNK_AFTER
}

/// The jobs of these names. One that was damaged is left out: it must not stop the others.
fn jobs(names: Vec<String>) -> Vec<JobId> {
    let job = |name: String| {
        JobId::new(name)
            .inspect_err(|error| {
                error!(%error, "Chunks of a job in the store do not run, its name is damaged: {error}");
            })
            .ok()
    };
    names.into_iter().filter_map(job).collect()
}
