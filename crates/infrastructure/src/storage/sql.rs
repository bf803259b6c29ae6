//! Statements that are the same in both databases, so that the two stores cannot drift apart.

/// Puts a claim on a chunk. A claim that another process left open is a delivery that ended with it.
pub(super) const CLAIM: &str = "UPDATE chunks SET token = $2, process = $3, claimed_at = $4, job_id = $5, occurrence = $6, total = $7,
         lost = lost + CASE WHEN token IS NOT NULL AND process <> $3 THEN 1 ELSE 0 END
     WHERE chunk_id = $1
     RETURNING chunk, lost, suspect, suspected,
               (SELECT status = 'cancelled' FROM batches b WHERE b.batch_id = chunks.batch_id)";

/// Selects the items of other chunks' active claims.
pub(super) const ACTIVE_CLAIMS: &str =
    "SELECT items FROM chunks WHERE job_id = $1 AND occurrence = $2 AND token IS NOT NULL
       AND chunk <> $3 AND items IS NOT NULL";

/// Records that an item is running, if the claim of its chunk is valid.
pub(super) const RECORD_RUNNING: &str =
    "INSERT INTO running_items (job_id, tenant_id, occurrence, chunk, token, started_at)
     SELECT $3, $4, $5, chunk, token, $6 FROM chunks WHERE chunk_id = $1 AND token = $2
     ON CONFLICT (job_id, tenant_id, chunk) DO UPDATE SET token = excluded.token, started_at = excluded.started_at";

/// Tenants of a job who have an occurrence running other than this one, in a process that was alive at `$3`. Of a process
/// that has sent no heartbeat nothing else is known.
pub(super) const OVERLAPPING: &str = "SELECT DISTINCT n.tenant_id FROM running_items n
     JOIN chunks c ON c.chunk = n.chunk AND c.token = n.token
     WHERE n.job_id = $1 AND n.occurrence <> $2
       AND NOT EXISTS (SELECT 1 FROM item_results r WHERE r.tenant_id = n.tenant_id AND r.job_id = n.job_id
                       AND r.occurrence = n.occurrence AND r.chunk = n.chunk)
       AND coalesce((SELECT p.last_seen FROM processes p WHERE p.process = c.process), $3) >= $3";

/// Deletes the records of running items of a chunk that has ended.
pub(super) const CLEAR_RUNNING: &str = "DELETE FROM running_items
     WHERE chunk = (SELECT chunk FROM chunks WHERE chunk_id = $1)";

/// Records the items that a claim assigned.
pub(super) const ASSIGN_ITEMS: &str =
    "UPDATE chunks SET items = $2, superseded = $3 WHERE chunk = $1";

pub(super) const BEGIN_BATCH: &str =
    "UPDATE batches SET status = 'running' WHERE batch_id = $1 AND status = 'queued'";

pub(super) const MARK_POISON_CANDIDATE: &str = "UPDATE chunks SET suspected = CASE WHEN suspect = $3 THEN suspected + 1 ELSE 1 END, suspect = $3
     WHERE chunk_id = $1 AND token = $2";

/// The chunk, if its claim stands, and whether its batch is cancelled, and a replay.
pub(super) const VALID_CLAIM: &str =
    "SELECT c.chunk, b.status = 'cancelled', b.trigger = 'replay' FROM chunks c JOIN batches b ON b.batch_id = c.batch_id
     WHERE c.chunk_id = $1 AND c.token = $2";

pub(super) const RELEASE: &str =
    "UPDATE chunks SET token = NULL, items = NULL, suspect = NULL, suspected = 0, not_before = $3
     WHERE chunk_id = $1 AND token = $2";

/// Ends a chunk all of whose items have an outcome.
pub(super) const FINISH_CHUNK: &str =
    "UPDATE chunks SET done = 1, token = NULL, items = NULL, message = '' WHERE chunk_id = $1 AND token = $2
       AND succeeded + failed + skipped + superseded >= total";

/// Ends a batch all of whose chunks are done.
pub(super) const FINISH_BATCH: &str = "UPDATE batches SET finished_at = $2,
         status = CASE status WHEN 'cancelled' THEN status ELSE 'completed' END,
         (succeeded, failed, skipped) = (SELECT sum(succeeded), sum(failed), sum(skipped + superseded)
                                         FROM chunks WHERE batch_id = $1)
     WHERE batch_id = $1 AND finished_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM chunks WHERE batch_id = $1 AND done = 0)";

/// Whether a chunk rests at `$now`: what rests for longer than ever asked for was put to rest before the clock stepped back.
macro_rules! waits {
    ($now:literal, $longest:literal) => {
        concat!(
            "c.done = 0 AND c.token IS NULL AND NOT (c.not_before > ",
            $now,
            " AND c.not_before <= ",
            $longest,
            ")"
        )
    };
}

macro_rules! waiting_jobs {
    ($columns:literal) => {
        concat!(
            "WITH RECURSIVE queued(job_id) AS (
                 SELECT (SELECT c.job_id FROM chunks c WHERE c.done = 0 AND c.token IS NULL AND c.job_id > ''
                         ORDER BY c.job_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT c.job_id FROM chunks c WHERE c.done = 0 AND c.token IS NULL AND c.job_id > queued.job_id
                         ORDER BY c.job_id LIMIT 1)
                 FROM queued WHERE queued.job_id IS NOT NULL)
             SELECT ", $columns, " FROM queued WHERE job_id IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM paused_jobs p WHERE p.job_id = queued.job_id)
               AND EXISTS (SELECT 1 FROM chunks c WHERE c.job_id = queued.job_id AND ", waits!("$1", "$2"), ")"
        )
    };
}

/// The jobs that are not paused and have chunks that can be claimed at `$1`; the rest of a chunk ends by `$2`. One step
/// through the index for each job that has any, however many it has.
pub(super) const WAITING_JOBS: &str = waiting_jobs!("job_id");

/// The same with -1, and the processes that hold claims with their last heartbeats; 1: it never sent one.
pub(super) const SURVEY: &str = concat!(
    waiting_jobs!("job_id, CAST(-1 AS BIGINT)"),
    " UNION ALL SELECT c.process, coalesce(p.last_seen, 1)
      FROM (SELECT DISTINCT process FROM chunks WHERE token IS NOT NULL AND process IS NOT NULL) c
      LEFT JOIN processes p ON p.process = c.process"
);

/// The next chunks of a job, at most `$4`.
pub(super) const WAITING_CHUNKS: &str = concat!(
    "SELECT c.chunk, c.chunk_id, c.message FROM chunks c WHERE c.job_id = $3 AND ",
    waits!("$1", "$2"),
    " ORDER BY c.place, c.chunk LIMIT $4"
);

/// Ends a chunk that cannot be read; those of its items that have no outcome count as failed. Its message stays.
pub(super) const END_UNREADABLE: &str = "UPDATE chunks SET done = 1, token = NULL,
         failed = CASE WHEN total > succeeded + skipped + superseded
                  THEN total - succeeded - skipped - superseded ELSE failed END
     WHERE chunk = $1 RETURNING batch_id";

/// Releases the claims of a process that has died.
pub(super) const RELEASE_LOST: &str =
    "UPDATE chunks SET token = NULL, items = NULL, lost = lost + 1
     WHERE token IS NOT NULL AND process = $1
       AND coalesce((SELECT p.last_seen FROM processes p WHERE p.process = $1), 1) = $2";

pub(super) const SIGN_OFF: &str = "UPDATE processes SET last_seen = 0 WHERE process = $1";

/// Forgets processes that have been silent for a day by `clock`, in microseconds, and hold nothing.
pub(super) fn forget_processes(clock: &str) -> String {
    format!(
        "DELETE FROM processes WHERE last_seen < {clock} - 86400000000
           AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.token IS NOT NULL AND c.process = processes.process)"
    )
}

/// Adds results that were all taken to the counts of their chunk.
pub(super) const ADD_COUNTS: &str =
    "UPDATE chunks SET succeeded = succeeded + $2, failed = failed + $3, skipped = skipped + $4
     WHERE chunk = $1";

/// Counts the results of a chunk anew, where not all were stored.
pub(super) const RECOUNT: &str = "UPDATE chunks SET (succeeded, failed) =
         (SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed')
          FROM item_results r WHERE r.chunk = $1),
         skipped = (SELECT count(*) FROM skipped_items s WHERE s.chunk = $1)
     WHERE chunk = $1";

/// The end of an insert of results: only a row that is to run again, by the same chunk, gives way.
pub(super) const UPSERT_RESULTS: &str = " ON CONFLICT (tenant_id, job_id, occurrence) DO UPDATE SET chunk = excluded.chunk,
         again = NULL, status = excluded.status,
         attempts = excluded.attempts, preference = excluded.preference, output = excluded.output,
         error = excluded.error, started_at = excluded.started_at, finished_at = excluded.finished_at
     WHERE item_results.again = excluded.chunk";

/// Reopens dead letters whose replay by a chunk was skipped.
pub(super) const REOPEN_DEAD_LETTERS: &str = "UPDATE dead_letters SET state = 'open', settled_at = NULL WHERE state = 'replayed'
       AND id IN (SELECT max(d.id) FROM skipped_items s
           JOIN item_results r ON r.tenant_id = s.tenant_id AND r.job_id = s.job_id AND r.occurrence = s.occurrence
           JOIN dead_letters d ON d.tenant_id = s.tenant_id AND d.job_id = s.job_id AND d.occurrence = s.occurrence
           WHERE s.chunk = $1 AND r.again = $1 GROUP BY s.tenant_id)";

/// Takes the mark of a replay from items that the replay skipped.
pub(super) const CLEAR_REPLAYED: &str = "UPDATE item_results SET again = NULL WHERE again = $1
       AND (tenant_id, job_id, occurrence) IN
           (SELECT s.tenant_id, s.job_id, s.occurrence FROM skipped_items s WHERE s.chunk = $1)";

pub(super) const INSERT_BATCH: &str = "INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at, key_form)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";

pub(super) const INSERT_DELIVERY: &str =
    "INSERT INTO deliveries (batch_id, target, within) VALUES ($1, $2, $3)";

pub(super) const PAUSE: &str =
    "INSERT INTO paused_jobs (job_id, paused_at, reason) VALUES ($1, $2, $3)
     ON CONFLICT (job_id) DO UPDATE SET reason = excluded.reason";

pub(super) const RESUME: &str = "DELETE FROM paused_jobs WHERE job_id = $1";

pub(super) const CANCEL: &str =
    "UPDATE batches SET status = 'cancelled' WHERE batch_id = $1 AND finished_at IS NULL";
