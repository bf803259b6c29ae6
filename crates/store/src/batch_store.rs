//! The port `BatchStore`: results, and the end of chunks and batches.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{
        BatchStore, Claim, Claimant, Committed, NewPrepared, PreparedOutput, PreparedState,
        StoreError, WaitingItem,
    },
};
use punctual_domain::{
    Chunk, ItemId, ItemResult, ItemStatus, JobId, Occurrence, Previous, PurposeId,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Store,
    claims::claim_chunks,
    driver::{Announcement, Column, Connection, Value, values},
    erased::Erased,
    errors::no_chunk,
    group_commit::Waiting,
    kept_outputs::CLEAR_KEPT,
    results::ResultRows,
    waiting_items::RESUMED,
};

/// Records that an item is running, if the claim of its chunk is valid.
const RECORD_RUNNING: &str =
    "INSERT INTO @running_items (job_id, tenant_id, occurrence, chunk, token, started_at)
     SELECT $3, $4, $5, chunk, token, $6 FROM @chunks WHERE chunk_id = $1 AND token = $2
     ON CONFLICT (job_id, tenant_id, chunk) DO UPDATE SET token = excluded.token, started_at = excluded.started_at";

const MARK_POISON_CANDIDATE: &str =
    "UPDATE @chunks SET suspected = CASE WHEN suspect = $3 THEN suspected + 1 ELSE 1 END, suspect = $3
     WHERE chunk_id = $1 AND token = $2";

/// The chunk, if its claim stands, its run, whether its batch is cancelled, and a replay, whether items of it wait or have
/// waited, and how many it has: fewer than were claimed where some were erased since. The lock on the row keeps the claim from
/// ending before this transaction does.
pub(crate) const VALID_CLAIM: &str =
    "SELECT c.chunk, c.run, b.status = 'cancelled', b.trigger = 'replay', c.waiting + c.resumed + c.called > 0,
         coalesce(c.total, 0)
     FROM @chunks c JOIN @batches b ON b.batch_id = c.batch_id
     WHERE c.chunk_id = $1 AND c.token = $2 @for_update(c)";

/// What [`VALID_CLAIM`] says of a chunk.
pub(crate) type ValidClaim = (i64, i64, bool, bool, bool, i64);

/// Reopens dead letters whose replay by a chunk was skipped.
const REOPEN_DEAD_LETTERS: &str = "UPDATE @dead_letters SET state = 'open', settled_at = NULL WHERE state = 'replayed'
       AND id IN (SELECT max(d.id) FROM @skipped_items s
           JOIN @results r ON r.run = $2 AND r.tenant_id = s.tenant_id
           JOIN @dead_letters d ON d.tenant_id = s.tenant_id AND d.job_id = s.job_id AND d.occurrence = s.occurrence
           WHERE s.chunk = $1 AND r.again = $1 GROUP BY s.tenant_id)";

/// Takes the mark of a replay from items that the replay skipped.
const CLEAR_REPLAYED: &str = "UPDATE @results SET again = NULL WHERE run = $2 AND again = $1
       AND tenant_id IN (SELECT s.tenant_id FROM @skipped_items s WHERE s.chunk = $1)";

/// The items of a chunk that have an outcome.
macro_rules! ended {
    () => {
        "succeeded + failed + skipped + nothing_to_do + superseded"
    };
}

/// Whether a chunk is over.
macro_rules! over {
    () => {
        concat!(ended!(), " + n.more_ended >= total")
    };
}

/// Whether a chunk has nothing left that its claim was given: the rest waits, or is for the next claim.
macro_rules! rests {
    () => {
        concat!(
            ended!(),
            " + n.more_ended + waiting + n.more_waiting + resumed + n.more_resumed >= total"
        )
    };
}

/// Adds to the counts of chunks. One all of whose items have an outcome ends; one that has nothing left but items that wait is
/// parked; one of whose items some have been resumed since its claim is queued. Then what has become of it, whether items of it
/// are noted as running, and whether outputs are kept. The chunks must be locked.
const ADD_COUNTS: &str = concat!(
    "UPDATE @chunks SET succeeded = succeeded + n.more, failed = failed + n.more_failed,
         skipped = skipped + n.more_skipped, nothing_to_do = nothing_to_do + n.more_nothing,
         superseded = superseded + n.more_superseded,
         waiting = waiting + n.more_waiting, resumed = resumed + n.more_resumed, called = called + n.more_called,
         done = CASE WHEN ",
    over!(),
    " THEN 1 WHEN resumed + n.more_resumed = 0 AND ",
    rests!(),
    " THEN 2 ELSE 0 END,
         token = CASE WHEN ",
    rests!(),
    " THEN NULL ELSE token END,
         items = CASE WHEN ",
    rests!(),
    " THEN NULL ELSE items END,
         suspect = CASE WHEN ",
    rests!(),
    " THEN NULL ELSE suspect END,
         not_before = CASE WHEN ",
    rests!(),
    " THEN 0 ELSE not_before END
     FROM (SELECT CAST(one.value ->> 0 AS BIGINT) AS number, CAST(one.value ->> 1 AS BIGINT) AS more,
                  CAST(one.value ->> 2 AS BIGINT) AS more_failed, CAST(one.value ->> 3 AS BIGINT) AS more_skipped,
                  CAST(one.value ->> 4 AS BIGINT) AS more_nothing, CAST(one.value ->> 5 AS BIGINT) AS more_superseded,
                  CAST(one.value ->> 6 AS BIGINT) AS more_waiting, CAST(one.value ->> 7 AS BIGINT) AS more_resumed,
                  CAST(one.value ->> 8 AS BIGINT) AS more_called,
                  CAST(one.value ->> 1 AS BIGINT) + CAST(one.value ->> 2 AS BIGINT) + CAST(one.value ->> 3 AS BIGINT)
                      + CAST(one.value ->> 4 AS BIGINT) + CAST(one.value ->> 5 AS BIGINT) AS more_ended
           FROM @json($1, one)) n
     WHERE chunk = n.number
     RETURNING chunk, done, token IS NULL, EXISTS (SELECT 1 FROM @running_items i WHERE i.chunk = @chunks.chunk),
         EXISTS (SELECT 1 FROM @kept_outputs k WHERE k.chunk = @chunks.chunk)"
);

/// Counts the results of a chunk anew, where not all were stored.
const RECOUNT: &str = "UPDATE @chunks SET (succeeded, failed, nothing_to_do) =
         (SELECT count(CASE r.status WHEN 1 THEN 1 END), count(CASE WHEN r.status IN (2, 4) THEN 1 END),
                 count(CASE r.status WHEN 3 THEN 1 END)
          FROM @results r WHERE r.run = $2 AND @in_texts(r.tenant_id, $3) AND r.chunk = $1
            AND (r.again IS NULL OR r.again <> r.chunk)),
         skipped = (SELECT count(*) FROM @skipped_items s WHERE s.chunk = $1),
         waiting = waiting + $4, called = called + $5
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

/// Ends the claim of a chunk that has nothing left for it: the chunk is over, parked or queued, as by [`ADD_COUNTS`]. Then what has
/// become of it, and whether outputs of its items are kept.
const FINISH_CHUNK: &str = concat!(
    "UPDATE @chunks SET token = NULL, items = NULL, suspect = NULL, not_before = 0,
         done = CASE WHEN ",
    ended!(),
    " >= total THEN 1 WHEN resumed = 0 THEN 2 ELSE 0 END
     WHERE chunk_id = $1 AND token = $2 AND ",
    ended!(),
    " + waiting + resumed >= total
     RETURNING chunk, done, TRUE, TRUE, EXISTS (SELECT 1 FROM @kept_outputs k WHERE k.chunk = @chunks.chunk)"
);

/// Removes the rows of items of chunks that have an outcome now.
const REMOVE_WAITING: &str = "DELETE FROM @waiting_items
     WHERE @in_integers(run, $1) AND @in_texts(tenant_id, $2) AND @in_integers(chunk, $3) RETURNING chunk, phase";

/// Queues chunks that are parked; they must be locked.
pub(crate) const QUEUE_PARKED: &str =
    "UPDATE @chunks SET done = 0, not_before = 0 WHERE @in_texts(chunk_id, $1) AND done = 2";

/// The number of a chunk that is over; whether items of it may be noted as running; whether outputs of its items are kept.
type Ended = (i64, bool, bool);

/// Deletes the records of running items of chunks that have ended.
const CLEAR_RUNNING: &str =
    "DELETE FROM @running_items WHERE chunk IN (SELECT ended.value FROM @integers($1, ended))";

/// Lets one chunk of a batch end at a time: the last two would not see each other. In the order of their ids, as other processes
/// end theirs: two do not wait for each other. Then whether each is cancelled, as it stands behind the lock.
pub(crate) const LOCK_BATCHES: &str =
    "SELECT b.batch_id, b.status = 'cancelled' FROM @batches b WHERE @in_texts(b.batch_id, $1)
     ORDER BY b.batch_id @for_update(b)";

/// Ends those of some batches all of whose chunks are done, each at its time.
const FINISH_BATCHES: &str = "UPDATE @batches SET finished_at = n.at,
         status = CASE status WHEN 'cancelled' THEN status ELSE 'completed' END,
         (succeeded, failed, skipped, nothing_to_do) =
             (SELECT sum(c.succeeded), sum(c.failed), sum(c.skipped + c.superseded), sum(c.nothing_to_do)
              FROM @chunks c WHERE c.batch_id = @batches.batch_id)
     FROM (SELECT one.value ->> 0 AS id, CAST(one.value ->> 1 AS BIGINT) AS at FROM @json($1, one)) n
     WHERE batch_id = n.id AND @in_texts(batch_id, $2) AND finished_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM @chunks c WHERE c.batch_id = @batches.batch_id AND c.done IN (0, 2))";

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

    async fn keep_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        prepared: &NewPrepared,
    ) -> Result<bool, StoreError> {
        self.keep_one_prepared(chunk, token, item, prepared).await
    }

    async fn prepared(
        &self,
        job_id: &JobId,
        run: Occurrence,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedState>, StoreError> {
        self.prepared_states(job_id, run, items).await
    }

    async fn take_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedOutput>, StoreError> {
        self.take_all_prepared(chunk, token, items).await
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
            let (waiting, answered) = Waiting::new(chunk, token, rows, ended_at(results));
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

    async fn begin_waiting(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Result<Committed, StoreError> {
        self.begin(chunk, token, items).await
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
        let end = finish(&mut transaction, chunk, token).await?;
        let queued = end_claim(&mut transaction, chunk, end, now).await?;
        transaction.commit().await?;
        self.note_ends(queued);
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
        let left: Vec<ItemResult>;
        let brought = results.len();
        let (mut skipped, ended) = parted(results);
        // Before it is our turn to write: others write meanwhile.
        let mut rows = ResultRows::new(&ended);
        let mut transaction = self.database.begin().await?;
        let claim = values![&*chunk.chunk_id, token];
        let claim = transaction.fetch_optional(VALID_CLAIM, claim).await?;
        let claim: Option<ValidClaim> = claim;
        let Some((own, run, cancelled, replay, has_waited, total)) = claim else {
            return Ok(Committed::default());
        };
        let of_items = results.iter().map(|result| &result.item_id).collect();
        let erased = Erased::since_claim(&mut transaction, chunk, total, of_items).await?;
        let mut results = results;
        if erased.len() > 0 {
            let is_left = |result: &&ItemResult| !erased.contains(chunk, &result.item_id);
            left = results.iter().filter(is_left).cloned().collect();
            results = &left;
            let (left_skipped, left_ended) = parted(results);
            rows = ResultRows::new(&left_ended);
            skipped = left_skipped;
        }
        let mut counts = Counts::of(own);
        if has_waited {
            let items = results.iter().map(|result| result.item_id.to_string());
            let mut removed =
                remove_waiting(&mut transaction, &[run], items.collect(), &[own]).await?;
            counts = removed.remove(&own).unwrap_or(counts);
        }
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
        let end = if results.is_empty() {
            None
        } else if taken == results.len() {
            results.iter().for_each(|result| counts.add(result.status));
            let mut ends = add_counts(&mut transaction, &[counts]).await?;
            ends.remove(&own).flatten()
        } else {
            let items = chunk.items.as_slice();
            let anew = values![own, run, items, counts.waiting, counts.called];
            transaction.execute(RECOUNT, anew).await?;
            finish(&mut transaction, chunk, token).await?
        };
        let failed = |result: &ItemResult| result.status == ItemStatus::Failed;
        if results.iter().any(failed) {
            keep_dead_letters(&mut transaction, chunk, (own, run), results).await?;
        }
        let queued = match ended_at(results) {
            Some(now) => end_claim(&mut transaction, chunk, end, now).await?,
            None => false,
        };
        crash_point!("results-before-commit");
        transaction.commit().await?;
        crash_point!("results-after-commit");
        self.preferences.remember(new_preferences);
        self.note_ends(queued);
        Ok(Committed {
            // What is erased is dropped, and nothing is to be done about it.
            taken: taken + (brought - results.len()),
            claimed: true,
            cancelled,
            finished: end.is_some(),
        })
    }

    /// Tells this process that chunks or their items have come further; `queued`: that chunks wait for a claim, too.
    pub(crate) fn note_ends(&self, queued: bool) {
        self.changes.send_replace(());
        if queued {
            self.arrivals.send_replace(());
        }
    }
}

/// Results that were skipped, and those that have ended otherwise.
fn parted(results: &[ItemResult]) -> (Vec<&ItemResult>, Vec<&ItemResult>) {
    let is_skipped = |result: &&ItemResult| result.status == ItemStatus::Skipped;
    results.iter().partition(is_skipped)
}

/// What is added to the counts of a chunk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Number of the chunk.
    pub(crate) chunk: i64,
    pub(crate) succeeded: i64,
    pub(crate) failed: i64,
    pub(crate) skipped: i64,
    pub(crate) nothing_to_do: i64,
    pub(crate) superseded: i64,
    /// Items that wait.
    pub(crate) waiting: i64,
    /// Items to be called again that the next claim gives.
    pub(crate) resumed: i64,
    /// Items called again that the last claim has given.
    pub(crate) called: i64,
}

impl Counts {
    /// Nothing, for this chunk.
    pub(crate) fn of(chunk: i64) -> Self {
        Self {
            chunk,
            ..Self::default()
        }
    }

    /// Counts an item that has ended.
    pub(crate) fn add(&mut self, status: ItemStatus) {
        match status {
            ItemStatus::Succeeded => self.succeeded += 1,
            ItemStatus::Failed => self.failed += 1,
            ItemStatus::Skipped => self.skipped += 1,
            ItemStatus::NothingToDo => self.nothing_to_do += 1,
            // They have not ended.
            ItemStatus::Running | ItemStatus::Waiting => {}
        }
    }

    fn to_json(self) -> serde_json::Value {
        json!([
            self.chunk,
            self.succeeded,
            self.failed,
            self.skipped,
            self.nothing_to_do,
            self.superseded,
            self.waiting,
            self.resumed,
            self.called
        ])
    }
}

/// How the claim of a chunk has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimEnd {
    /// All items have an outcome.
    Over,
    /// What is left waits.
    Parked,
    /// Some of what is left is to be called by the next claim.
    Queued,
}

impl ClaimEnd {
    /// From what the row of a chunk says.
    fn of(done: i64, is_free: bool) -> Option<Self> {
        match (done, is_free) {
            (1, _) => Some(Self::Over),
            (2, _) => Some(Self::Parked),
            (_, true) => Some(Self::Queued),
            (_, false) => None,
        }
    }
}

/// Removes the rows of items that have ended. Returns what that changes about the counts of their chunks.
pub(crate) async fn remove_waiting(
    connection: &mut Connection<'_>,
    runs: &[i64],
    items: Vec<String>,
    chunks: &[i64],
) -> Result<HashMap<i64, Counts>, StoreError> {
    let ended = values![runs, Value::Texts(items), chunks];
    let removed: Vec<(i64, i64)> = connection.fetch(REMOVE_WAITING, ended).await?;
    let mut counts: HashMap<i64, Counts> = HashMap::new();
    for (chunk, phase) in removed {
        let of_chunk = counts.entry(chunk).or_insert_with(|| Counts::of(chunk));
        if phase == RESUMED {
            of_chunk.called -= 1;
        } else {
            of_chunk.waiting -= 1;
        }
    }
    Ok(counts)
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

/// Ends the claim of a chunk that has nothing left for it; `None`: it has.
async fn finish(
    connection: &mut Connection<'_>,
    chunk: &Chunk,
    token: Uuid,
) -> Result<Option<ClaimEnd>, StoreError> {
    let claim = values![&*chunk.chunk_id, token];
    let counted: Vec<Counted> = connection.fetch(FINISH_CHUNK, claim).await?;
    let ends = end_chunks(connection, counted).await?;
    Ok(ends.into_values().next().flatten())
}

/// What follows for the batch of a chunk whose claim has ended. Returns whether the chunk is queued.
pub(crate) async fn end_claim(
    connection: &mut Connection<'_>,
    chunk: &Chunk,
    end: Option<ClaimEnd>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let batch_id = chunk.batch_id.to_string();
    let queued = match end {
        None => false,
        Some(ClaimEnd::Queued) => true,
        Some(ClaimEnd::Over) => end_batches(connection, &[(batch_id, now)], &[]).await?,
        Some(ClaimEnd::Parked) => {
            let parked = (chunk.chunk_id.clone(), batch_id);
            end_batches(connection, &[], &[parked]).await?
        }
    };
    if queued {
        connection.announce(Announcement::Chunks).await?;
    }
    Ok(queued)
}

/// Number of a chunk, what it is done with, whether it is free, whether items of it are noted as running, and whether outputs of
/// its items are kept.
type Counted = (i64, i64, bool, bool, bool);

/// Adds to the counts of chunks. Returns how their claims have ended; `None`: they stand.
pub(crate) async fn add_counts(
    connection: &mut Connection<'_>,
    counts: &[Counts],
) -> Result<HashMap<i64, Option<ClaimEnd>>, StoreError> {
    let counts: serde_json::Value = counts.iter().map(|one| one.to_json()).collect();
    let counts = values![counts.to_string()];
    let counted: Vec<Counted> = connection.fetch(ADD_COUNTS, counts).await?;
    end_chunks(connection, counted).await
}

/// Clears the records of those of the chunks that are over.
async fn end_chunks(
    connection: &mut Connection<'_>,
    counted: Vec<Counted>,
) -> Result<HashMap<i64, Option<ClaimEnd>>, StoreError> {
    let over = counted.iter().filter(|(_, done, ..)| *done == 1);
    let over = over.map(|&(number, _, _, running, kept)| (number, running, kept));
    let over: Vec<Ended> = over.collect();
    clear_records(connection, &over).await?;
    let ends = counted.into_iter();
    let ends = ends.map(|(number, done, is_free, ..)| (number, ClaimEnd::of(done, is_free)));
    Ok(ends.collect())
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

/// Ends those of some batches, each at its time, all of whose chunks are done. Of chunks that have just been parked, each with its
/// batch, those of cancelled batches are queued, to be skipped. Returns whether there were any.
pub(crate) async fn end_batches(
    connection: &mut Connection<'_>,
    batches: &[(String, DateTime<Utc>)],
    parked: &[(String, String)],
) -> Result<bool, StoreError> {
    let mut queued = false;
    if !parked.is_empty() || connection.is_shared() && !batches.is_empty() {
        let ids = batches.iter().map(|(id, _)| id);
        let ids: BTreeSet<&String> = ids.chain(parked.iter().map(|(_, id)| id)).collect();
        let ids = Value::Texts(ids.into_iter().cloned().collect());
        let locked: Vec<(String, bool)> = connection.fetch(LOCK_BATCHES, values![ids]).await?;
        let cancelled = locked.into_iter().filter(|(_, is_cancelled)| *is_cancelled);
        let cancelled: HashSet<String> = cancelled.map(|(id, _)| id).collect();
        let again = parked.iter().filter(|(_, id)| cancelled.contains(id));
        let again: Vec<String> = again.map(|(chunk, _)| chunk.clone()).collect();
        if !again.is_empty() {
            let again = values![Value::Texts(again)];
            queued = connection.execute(QUEUE_PARKED, again).await? > 0;
        }
    }
    if batches.is_empty() {
        return Ok(queued);
    }
    let ids = Value::Texts(batches.iter().map(|(id, _)| id.clone()).collect());
    let ends = batches.iter().map(|(id, at)| (id, at.timestamp_micros()));
    let ends = json!(ends.collect::<Vec<_>>()).to_string();
    let ended = connection.execute(FINISH_BATCHES, values![ends, ids]);
    if ended.await? > 0 {
        connection.announce(Announcement::Batches).await?;
    }
    Ok(queued)
}
