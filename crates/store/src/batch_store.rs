//! The port `BatchStore`: results, and the end of chunks and batches.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{BatchStore, Claim, Claimant, Committed, StoreError},
};
use punctual_domain::{Chunk, ItemId, ItemResult, ItemStatus, JobId, Previous, PurposeId};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Store,
    claims::claim_chunks,
    driver::{Announcement, Column, Connection, Value, values},
    errors::no_chunk,
    group_commit::Waiting,
    kept_outputs::CLEAR_KEPT,
    results::ResultRows,
};

/// Records that an item is running, if the claim of its chunk is valid.
const RECORD_RUNNING: &str =
    "INSERT INTO @running_items (job_id, tenant_id, occurrence, chunk, token, started_at)
     SELECT $3, $4, $5, chunk, token, $6 FROM @chunks WHERE chunk_id = $1 AND token = $2
     ON CONFLICT (job_id, tenant_id, chunk) DO UPDATE SET token = excluded.token, started_at = excluded.started_at";

const MARK_POISON_CANDIDATE: &str =
    "UPDATE @chunks SET suspected = CASE WHEN suspect = $3 THEN suspected + 1 ELSE 1 END, suspect = $3
     WHERE chunk_id = $1 AND token = $2";

/// The chunk, if its claim stands, its run, and whether its batch is cancelled, and a replay. The lock on the row keeps the claim
/// from ending before this transaction does.
pub(crate) const VALID_CLAIM: &str =
    "SELECT c.chunk, c.run, b.status = 'cancelled', b.trigger = 'replay'
     FROM @chunks c JOIN @batches b ON b.batch_id = c.batch_id
     WHERE c.chunk_id = $1 AND c.token = $2 @for_update(c)";

/// Reopens dead letters whose replay by a chunk was skipped.
const REOPEN_DEAD_LETTERS: &str = "UPDATE @dead_letters SET state = 'open', settled_at = NULL WHERE state = 'replayed'
       AND id IN (SELECT max(d.id) FROM @skipped_items s
           JOIN @results r ON r.run = $2 AND r.tenant_id = s.tenant_id
           JOIN @dead_letters d ON d.tenant_id = s.tenant_id AND d.job_id = s.job_id AND d.occurrence = s.occurrence
           WHERE s.chunk = $1 AND r.again = $1 GROUP BY s.tenant_id)";

/// Takes the mark of a replay from items that the replay skipped.
const CLEAR_REPLAYED: &str = "UPDATE @results SET again = NULL WHERE run = $2 AND again = $1
       AND tenant_id IN (SELECT s.tenant_id FROM @skipped_items s WHERE s.chunk = $1)";

/// Adds results that were all taken to the counts of their chunks, and ends those all of whose items have an outcome. Then whether
/// items of one are noted as running, and whether outputs are kept.
const ADD_COUNTS: &str = "UPDATE @chunks SET succeeded = succeeded + n.more, failed = failed + n.more_failed,
         skipped = skipped + n.more_skipped, nothing_to_do = nothing_to_do + n.more_nothing,
         done = CASE WHEN succeeded + failed + skipped + nothing_to_do + superseded + n.more_in_all >= total
                THEN 1 ELSE 0 END,
         token = CASE WHEN succeeded + failed + skipped + nothing_to_do + superseded + n.more_in_all >= total
                 THEN NULL ELSE token END
     FROM (SELECT CAST(one.value ->> 0 AS BIGINT) AS number, CAST(one.value ->> 1 AS BIGINT) AS more,
                  CAST(one.value ->> 2 AS BIGINT) AS more_failed, CAST(one.value ->> 3 AS BIGINT) AS more_skipped,
                  CAST(one.value ->> 4 AS BIGINT) AS more_nothing,
                  CAST(one.value ->> 1 AS BIGINT) + CAST(one.value ->> 2 AS BIGINT) + CAST(one.value ->> 3 AS BIGINT)
                      + CAST(one.value ->> 4 AS BIGINT) AS more_in_all
           FROM @json($1, one)) n
     WHERE chunk = n.number
     RETURNING chunk, done, EXISTS (SELECT 1 FROM @running_items i WHERE i.chunk = @chunks.chunk),
         EXISTS (SELECT 1 FROM @kept_outputs k WHERE k.chunk = @chunks.chunk)";

/// Counts the results of a chunk anew, where not all were stored.
const RECOUNT: &str = "UPDATE @chunks SET (succeeded, failed, nothing_to_do) =
         (SELECT count(CASE r.status WHEN 1 THEN 1 END), count(CASE WHEN r.status IN (2, 4) THEN 1 END),
                 count(CASE r.status WHEN 3 THEN 1 END)
          FROM @results r WHERE r.run = $2 AND @in_texts(r.tenant_id, $3) AND r.chunk = $1),
         skipped = (SELECT count(*) FROM @skipped_items s WHERE s.chunk = $1)
     WHERE chunk = $1";

/// Keeps items that failed, if their results were taken and there are no letters of them yet.
const INSERT_DEAD_LETTERS: &str =
    "INSERT INTO @dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, failure_kind, reason,
         failed_at)
     SELECT $2, r.tenant_id, $3, $6, $7, r.attempts, CASE r.status WHEN 4 THEN 'data' ELSE 'handler' END,
         coalesce(r.error, ''), r.started_at + coalesce(r.duration, 0)
     FROM @results r
     WHERE r.run = $4 AND @in_texts(r.tenant_id, $1) AND r.chunk = $5 AND r.status IN (2, 4)
       AND NOT EXISTS (SELECT 1 FROM @dead_letters d WHERE d.tenant_id = r.tenant_id AND d.job_id = $2
                       AND d.occurrence = $3 AND d.batch_id = $6)
     ORDER BY r.tenant_id";

const RELEASE: &str =
    "UPDATE @chunks SET token = NULL, items = NULL, suspect = NULL, suspected = 0, not_before = $3
     WHERE chunk_id = $1 AND token = $2";

/// Ends a chunk all of whose items have an outcome. Then whether outputs of its items are kept.
const FINISH_CHUNK: &str =
    "UPDATE @chunks SET done = 1, token = NULL, items = NULL WHERE chunk_id = $1 AND token = $2
       AND succeeded + failed + skipped + nothing_to_do + superseded >= total
     RETURNING chunk, TRUE, EXISTS (SELECT 1 FROM @kept_outputs k WHERE k.chunk = @chunks.chunk)";

/// The number of a chunk that has ended; whether items of it may be noted as running; whether outputs of its items are kept.
type Ended = (i64, bool, bool);

/// Deletes the records of running items of chunks that have ended.
const CLEAR_RUNNING: &str =
    "DELETE FROM @running_items WHERE chunk IN (SELECT ended.value FROM @integers($1, ended))";

/// Lets one chunk of a batch end at a time: the last two would not see each other. In the order of their ids, as other processes
/// end theirs: two do not wait for each other.
const LOCK_BATCHES: &str = "SELECT b.total FROM @batches b WHERE @in_texts(b.batch_id, $1) ORDER BY b.batch_id @for_update(b)";

/// Ends those of some batches all of whose chunks are done, each at its time.
const FINISH_BATCHES: &str = "UPDATE @batches SET finished_at = n.at,
         status = CASE status WHEN 'cancelled' THEN status ELSE 'completed' END,
         (succeeded, failed, skipped, nothing_to_do) =
             (SELECT sum(c.succeeded), sum(c.failed), sum(c.skipped + c.superseded), sum(c.nothing_to_do)
              FROM @chunks c WHERE c.batch_id = @batches.batch_id)
     FROM (SELECT one.value ->> 0 AS id, CAST(one.value ->> 1 AS BIGINT) AS at FROM @json($1, one)) n
     WHERE batch_id = n.id AND @in_texts(batch_id, $2) AND finished_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM @chunks c WHERE c.batch_id = @batches.batch_id AND c.done = 0)";

#[async_trait]
impl BatchStore for Store {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let mut transaction = self.database.begin().await?;
        let lock = values![&chunk.job_id];
        transaction
            .fetch_one::<bool>("SELECT @lock($1)", lock)
            .await?;
        let chunks = [(chunk, claimant.token)];
        let claims = claim_chunks(&mut transaction, &chunks, claimant.process, now).await?;
        crash_point!("claim-before-commit");
        transaction.commit().await?;
        crash_point!("claim-after-commit");
        claims.into_iter().next().ok_or_else(|| no_chunk(chunk))
    }

    async fn previous(
        &self,
        job_id: &JobId,
        due_at: DateTime<Utc>,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, Previous>, StoreError> {
        self.previous_runs(job_id, due_at, items).await
    }

    async fn record_running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let occurrence = chunk.occurrence.to_string();
        let of_item = values![
            &*chunk.chunk_id,
            token,
            &chunk.job_id,
            item,
            occurrence,
            began
        ];
        self.database.execute(RECORD_RUNNING, of_item).await?;
        Ok(())
    }

    async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
    ) -> Result<bool, StoreError> {
        let candidate = values![&*chunk.chunk_id, token, item];
        let noted = self.database.execute(MARK_POISON_CANDIDATE, candidate);
        Ok(noted.await? > 0)
    }

    async fn keep_output(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        purpose: &PurposeId,
        output: &serde_json::Value,
    ) -> Result<bool, StoreError> {
        self.keep_one(chunk, token, item, purpose, output).await
    }

    async fn kept_outputs(
        &self,
        chunk: &Chunk,
        token: Uuid,
        purpose: &PurposeId,
        items: &[ItemId],
    ) -> Result<Option<HashMap<ItemId, serde_json::Value>>, StoreError> {
        self.take_kept(chunk, token, purpose, items).await
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let is_plain = |result: &ItemResult| {
            matches!(
                result.status,
                ItemStatus::Succeeded | ItemStatus::NothingToDo
            )
        };
        if !results.is_empty() && results.iter().all(is_plain) {
            let rows = ResultRows::new(&results.iter().collect::<Vec<_>>());
            let claim = (chunk.chunk_id.clone(), chunk.batch_id, token);
            let (waiting, answered) = Waiting::new(claim, rows, ended_at(results));
            if let Some(committed) = self.commit_in_group(waiting, answered).await {
                return Ok(committed);
            }
        }
        let committed = self.commit_alone(chunk, token, results).await;
        if committed.is_err() {
            // A database that has failed may have lost what was stored last.
            self.preferences.forget();
        }
        committed
    }

    async fn release(
        &self,
        chunk: &Chunk,
        token: Uuid,
        rest_until: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let rest_until = rest_until.map_or(0, |until| until.timestamp_micros());
        let release = values![&*chunk.chunk_id, token, rest_until];
        self.database.execute(RELEASE, release).await?;
        self.announce_chunks().await
    }

    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        if finish(&mut transaction, chunk, token).await? {
            end_batches(&mut transaction, &[(chunk.batch_id.to_string(), now)]).await?;
        }
        transaction.commit().await?;
        self.changes.send_replace(());
        Ok(())
    }
}

impl Store {
    /// Commits results of one chunk in a transaction of its own.
    async fn commit_alone(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let (skipped, ended): (Vec<_>, Vec<_>) = results
            .iter()
            .partition(|result| result.status == ItemStatus::Skipped);
        // Before it is our turn to write: others write meanwhile.
        let rows = ResultRows::new(&ended);
        let mut transaction = self.database.begin().await?;
        let claim = values![&*chunk.chunk_id, token];
        let claim = transaction.fetch_optional(VALID_CLAIM, claim).await?;
        let claim: Option<(i64, i64, bool, bool)> = claim;
        let Some((own, run, cancelled, replay)) = claim else {
            return Ok(Committed::default());
        };
        let new_preferences = self.preferences.insert(&mut transaction, &rows).await?;
        let mut taken = rows
            .insert(
                &mut transaction,
                Column::Same(run.into()),
                Column::Same(own.into()),
            )
            .await?;
        if !skipped.is_empty() {
            taken += skip(&mut transaction, chunk, own, &skipped).await?;
            if replay {
                for statement in [REOPEN_DEAD_LETTERS, CLEAR_REPLAYED] {
                    transaction.execute(statement, values![own, run]).await?;
                }
            }
        }
        let taken = taken as usize;
        let count = |wanted| results.iter().filter(|one| one.status == wanted).count();
        let finished = if results.is_empty() {
            false
        } else if taken == results.len() {
            let [succeeded, failed, skipped, nothing_to_do] = [
                ItemStatus::Succeeded,
                ItemStatus::Failed,
                ItemStatus::Skipped,
                ItemStatus::NothingToDo,
            ]
            .map(count);
            let counts = [(own, succeeded, failed, skipped, nothing_to_do)];
            !add_counts(&mut transaction, &counts).await?.is_empty()
        } else {
            let items = values![own, run, chunk.items.as_slice()];
            transaction.execute(RECOUNT, items).await?;
            finish(&mut transaction, chunk, token).await?
        };
        if count(ItemStatus::Failed) > 0 {
            keep_dead_letters(&mut transaction, chunk, (own, run), results).await?;
        }
        if let (true, Some(now)) = (finished, ended_at(results)) {
            end_batches(&mut transaction, &[(chunk.batch_id.to_string(), now)]).await?;
        }
        crash_point!("results-before-commit");
        transaction.commit().await?;
        crash_point!("results-after-commit");
        self.preferences.remember(new_preferences);
        self.changes.send_replace(());
        Ok(Committed {
            taken,
            claimed: true,
            cancelled,
            finished,
        })
    }
}

/// When the last of them ended.
fn ended_at(results: &[ItemResult]) -> Option<DateTime<Utc>> {
    let ended = |result: &ItemResult| result.finished_at.unwrap_or(result.started_at);
    results.iter().map(ended).max()
}

/// Keeps what is skipped. Returns how many were taken.
async fn skip(
    connection: &mut Connection<'_>,
    chunk: &Chunk,
    own: i64,
    skipped: &[&ItemResult],
) -> Result<u64, StoreError> {
    let columns = vec![
        Column::Same(own.into()),
        Column::texts(skipped, |result| result.item_id.as_str()),
        Column::Same(Value::from(&chunk.job_id)),
        Column::Same(chunk.occurrence.to_string().into()),
        Column::texts(skipped, |result| {
            result.error.as_deref().unwrap_or_default()
        }),
        Column::integers(skipped, |result| {
            let at = result.finished_at.unwrap_or(result.started_at);
            at.timestamp_micros()
        }),
    ];
    let into = "@skipped_items (chunk, tenant_id, job_id, occurrence, reason, at)";
    let then = "ON CONFLICT DO NOTHING";
    connection.insert(into, columns, then).await
}

async fn keep_dead_letters(
    connection: &mut Connection<'_>,
    chunk: &Chunk,
    (own, run): (i64, i64),
    results: &[ItemResult],
) -> Result<(), StoreError> {
    let failed = results
        .iter()
        .filter(|result| result.status == ItemStatus::Failed)
        .map(|result| result.item_id.to_string());
    let letters = values![
        Value::Texts(failed.collect()),
        &chunk.job_id,
        chunk.occurrence.to_string(),
        run,
        own,
        chunk.batch_id,
        chunk.scheduled_at
    ];
    connection.execute(INSERT_DEAD_LETTERS, letters).await?;
    Ok(())
}

/// Ends a chunk all of whose items have an outcome, and says whether it is over.
async fn finish(
    connection: &mut Connection<'_>,
    chunk: &Chunk,
    token: Uuid,
) -> Result<bool, StoreError> {
    let claim = values![&*chunk.chunk_id, token];
    let ended: Vec<Ended> = connection.fetch(FINISH_CHUNK, claim).await?;
    clear_records(connection, &ended).await?;
    Ok(!ended.is_empty())
}

/// Adds to the counts of chunks: of each its number, and how many succeeded, failed, were skipped and had nothing to do. Returns
/// those that are over.
pub(crate) async fn add_counts(
    connection: &mut Connection<'_>,
    counts: &[(i64, usize, usize, usize, usize)],
) -> Result<HashSet<i64>, StoreError> {
    let counts = values![json!(counts).to_string()];
    let counted: Vec<(i64, bool, bool, bool)> = connection.fetch(ADD_COUNTS, counts).await?;
    let ended: Vec<Ended> = counted
        .into_iter()
        .filter_map(|(number, done, running, kept)| done.then_some((number, running, kept)))
        .collect();
    clear_records(connection, &ended).await?;
    Ok(ended.into_iter().map(|(number, _, _)| number).collect())
}

/// Deletes the records of running items of chunks that have ended, and the outputs kept of items that have ended well. Most
/// chunks have neither, and need no statement.
async fn clear_records(connection: &mut Connection<'_>, ended: &[Ended]) -> Result<(), StoreError> {
    let numbers = |has: fn(&Ended) -> bool| -> Vec<i64> {
        let chunks = ended.iter().filter(|chunk| has(chunk));
        chunks.map(|chunk| chunk.0).collect()
    };
    let running = numbers(|(_, running, _)| *running);
    let keeping = numbers(|(_, _, kept)| *kept);
    for (clear, chunks) in [(CLEAR_RUNNING, running), (CLEAR_KEPT, keeping)] {
        if !chunks.is_empty() {
            let chunks = values![chunks.as_slice()];
            connection.execute(clear, chunks).await?;
        }
    }
    Ok(())
}

/// Ends those of some batches, each at its time, all of whose chunks are done.
pub(crate) async fn end_batches(
    connection: &mut Connection<'_>,
    batches: &[(String, DateTime<Utc>)],
) -> Result<(), StoreError> {
    if batches.is_empty() {
        return Ok(());
    }
    let ids = Value::Texts(batches.iter().map(|(id, _)| id.clone()).collect());
    if connection.is_shared() {
        let ids = values![ids.clone()];
        connection.fetch::<i64>(LOCK_BATCHES, ids).await?;
    }
    let ends = batches.iter().map(|(id, at)| (id, at.timestamp_micros()));
    let ends = json!(ends.collect::<Vec<_>>()).to_string();
    let ended = connection.execute(FINISH_BATCHES, values![ends, ids]);
    if ended.await? > 0 {
        connection.announce(Announcement::Batches).await?;
    }
    Ok(())
}
