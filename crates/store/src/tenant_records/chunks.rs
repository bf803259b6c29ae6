//! Takes a tenant out of chunks: out of the list of their items, their claims and their counts, with the rows of the item. A chunk that
//! is not over is afterwards as if it had never had the item.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use punctual_application::{crash_point, ports::StoreError};
use serde_json::{Value as Json, json};

use super::{Erasure, note_preferences};
use crate::{
    batch_store::{ClaimEnd, Counts, LOCK_BATCHES, add_counts, end_batches},
    chunk_queue::{REPLACE_MESSAGE, end_unreadable},
    driver::{Announcement, Connection, FromRow, Row, Value, values},
    waiting_items::{RESUMED, lock_chunks},
};

/// Chunks whose messages one statement looks through.
const CHUNKS_PER_LOOK: i64 = 200;
/// Chunks that one transaction changes: each has a message of some kilobytes.
const CHUNKS_PER_PORTION: usize = 16;

const LAST_CHUNK: &str = "SELECT coalesce(max(m.chunk), 0) FROM @chunk_messages m";

/// Chunks whose messages seem to name a tenant: `_` stands for any character, and `SQLite` takes no notice of case.
pub(crate) const LOOK: &str = "SELECT m.chunk FROM @chunk_messages m
     WHERE m.chunk > $1 AND m.chunk <= $2 AND m.message LIKE $3 ORDER BY m.chunk";

/// The messages of the same chunks.
const MESSAGES: &str = "SELECT m.message FROM @chunk_messages m
     WHERE m.chunk > $1 AND m.chunk <= $2 AND m.message LIKE $3";

/// The chunks must be locked.
pub(crate) const ROWS: &str = "SELECT c.chunk, c.chunk_id, c.batch_id, c.run, c.done, c.token IS NOT NULL, c.items, c.superseded,
         c.resumed, n.job_id, n.occurrence, m.message
     FROM @chunks c JOIN @chunk_messages m ON m.chunk = c.chunk LEFT JOIN @runs n ON n.run = c.run
     WHERE @in_integers(c.chunk, $1) ORDER BY c.chunk";

/// A failure that a replay has written down for its own chunk, after its result was removed, does not count there yet: its status is 0.
const REMOVE_RESULTS: &str = "DELETE FROM @results
     WHERE @in_integers(run, $1) AND tenant_id = $2 AND @in_integers(chunk, $3)
     RETURNING chunk, CASE again WHEN chunk THEN 0 ELSE status END, preference";

const REMOVE_SKIPPED: &str =
    "DELETE FROM @skipped_items WHERE @in_integers(chunk, $1) AND tenant_id = $2 RETURNING chunk";

/// Chunk, phase, call, preference and state of an item that waited.
type RemovedWaiting = (i64, i64, String, Option<Vec<u8>>, Option<String>);

const REMOVE_WAITING: &str = "DELETE FROM @waiting_items
     WHERE @in_integers(run, $1) AND tenant_id = $2 AND @in_integers(chunk, $3)
     RETURNING chunk, phase, call_id, preference, state";

const REMOVE_RUNNING: &str =
    "DELETE FROM @running_items WHERE tenant_id = $1 AND @in_integers(chunk, $2)";

const REMOVE_KEPT: &str =
    "DELETE FROM @kept_outputs WHERE @in_integers(run, $1) AND tenant_id = $2";

/// Gives the state of a call to another of its items, if it has any.
const PASS_ON_STATE: &str = "UPDATE @waiting_items SET state = $2
     WHERE call_id = $1 AND tenant_id = (SELECT min(w.tenant_id) FROM @waiting_items w WHERE w.call_id = $1)";

/// Takes calls that have no items any more out of provider batches.
const REMOVE_CALLS: &str = "DELETE FROM @provider_batch_calls WHERE @in_texts(call_id, $1)
       AND NOT EXISTS (SELECT 1 FROM @waiting_items w WHERE w.call_id = @provider_batch_calls.call_id)";

/// Takes an item out of a chunk: `$4` is 1 where it counts there.
const REMOVE_ITEM: &str = "UPDATE @chunks SET total = total - $4, items = $2,
         suspected = CASE WHEN suspect = $3 THEN 0 ELSE suspected END, suspect = CASE WHEN suspect = $3 THEN NULL ELSE suspect END
     WHERE chunk = $1";

const REDUCE_BATCHES: &str = "UPDATE @batches SET total = total - n.fewer
     FROM (SELECT one.value ->> 0 AS id, CAST(one.value ->> 1 AS BIGINT) AS fewer FROM @json($1, one)) n
     WHERE batch_id = n.id AND @in_texts(batch_id, $2) AND finished_at IS NULL";

/// A delivery that has come as far as the tenant goes on from another place that means the same.
const MOVE_DELIVERIES: &str =
    "UPDATE @deliveries SET position = $3 WHERE batch_id = $1 AND position = $2";

/// A chunk whose message seems to name the tenant.
struct ChunkRow {
    number: i64,
    chunk_id: String,
    batch_id: String,
    run: Option<i64>,
    done: i64,
    is_claimed: bool,
    /// What its claim has given, where that is not all.
    items: Option<String>,
    superseded: i64,
    resumed: i64,
    job_id: Option<String>,
    occurrence: Option<String>,
    message: String,
}

impl FromRow for ChunkRow {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.next()?,
            chunk_id: row.next()?,
            batch_id: row.next()?,
            run: row.next()?,
            done: row.next()?,
            is_claimed: row.next()?,
            items: row.next()?,
            superseded: row.next()?,
            resumed: row.next()?,
            job_id: row.next()?,
            occurrence: row.next()?,
            message: row.next()?,
        })
    }
}

/// A chunk without the tenant.
struct Reduced {
    row: ChunkRow,
    message: String,
    /// What its claim has given without the tenant, and whether it has given the tenant.
    items: Option<String>,
    is_given: bool,
    /// Where a delivery goes on that has come as far as the tenant.
    position: Option<String>,
}

impl Reduced {
    /// The chunk without the tenant; `None`: it does not have the tenant. An error: its number, where its message cannot be read.
    fn of(row: ChunkRow, tenant: &str) -> Result<Option<Self>, i64> {
        let message: Result<Json, _> = serde_json::from_str(&row.message);
        let mut message = message.map_err(|_| row.number)?;
        let all = message.get_mut("items").and_then(Json::as_array_mut);
        let all = all.ok_or(row.number)?;
        let before = all.len();
        all.retain(|item| item != tenant);
        if all.len() == before {
            return Ok(None);
        }
        let position = position(row.number, all, tenant);
        let given: Option<Vec<String>> = row
            .items
            .as_deref()
            .map(|given| serde_json::from_str(given).unwrap_or_default());
        let is_given = row.is_claimed
            && given
                .as_ref()
                .is_none_or(|given| given.iter().any(|item| item == tenant));
        let items = given.map(|mut given| {
            given.retain(|item| item != tenant);
            json!(given).to_string()
        });
        Ok(Some(Self {
            message: message.to_string(),
            items,
            is_given,
            position,
            row,
        }))
    }

    fn is_over(&self) -> bool {
        self.row.done == 1
    }
}

/// Lowest of the characters that ids have.
const LOWEST_ID: &str = "-";

/// A place in the results of a chunk between the items before the tenant and those after: the last one before, or what is lower than all.
/// `None`: only the beginning of the batch is.
pub(super) fn position(chunk: i64, left: &[Json], tenant: &str) -> Option<String> {
    let left = || left.iter().filter_map(Json::as_str);
    let before = left().filter(|item| *item < tenant).max();
    let lower = || {
        let first = left().min();
        first
            .is_none_or(|first| LOWEST_ID < first)
            .then_some(LOWEST_ID)
    };
    let item = before.or_else(lower)?;
    Some(format!("{chunk}.{item}"))
}

/// Rows of the tenant that were removed, by the numbers of their chunks.
struct Removed {
    /// With their statuses.
    results: HashMap<i64, i64>,
    skipped: HashSet<i64>,
    /// With their phases.
    waiting: HashMap<i64, i64>,
    /// Numbers of other rows.
    others: u64,
}

impl Removed {
    /// What that changes about the counts of a chunk that is not over and has one item less. What was superseded in it is neither among its
    /// outcomes nor given.
    fn counts(&self, chunk: &Reduced) -> Counts {
        let number = chunk.row.number;
        let mut counts = Counts::of(number);
        if let Some(phase) = self.waiting.get(&number) {
            match *phase {
                RESUMED if chunk.is_given || chunk.row.resumed == 0 => counts.called -= 1,
                RESUMED => counts.resumed -= 1,
                _ => counts.waiting -= 1,
            }
        } else if self.skipped.contains(&number) {
            counts.skipped -= 1;
        } else if let Some(status) = self.results.get(&number) {
            match status {
                1 => counts.succeeded -= 1,
                3 => counts.nothing_to_do -= 1,
                _ => counts.failed -= 1,
            }
        } else if !chunk.is_given && chunk.row.superseded > 0 {
            counts.superseded -= 1;
        }
        counts
    }

    /// Whether the item had no outcome in the chunk.
    fn is_open(&self, chunk: i64) -> bool {
        !self.skipped.contains(&chunk) && !self.results.contains_key(&chunk)
    }
}

/// Whether a message has the tenant among its items, or cannot be read.
fn has(message: &str, tenant: &str) -> bool {
    let Ok(message) = serde_json::from_str::<Json>(message) else {
        return true;
    };
    let items = message.get("items").and_then(Json::as_array);
    items.is_none_or(|items| items.iter().any(|item| item == tenant))
}

impl Erasure<'_> {
    /// What messages that name the tenant are like.
    fn pattern(&self) -> String {
        format!("%\"{}\"%", self.tenant)
    }

    /// The number of the last chunk, where none behind `chunk` has the tenant; `None`: one has.
    pub(super) async fn last_without(&self, chunk: i64) -> Result<Option<i64>, StoreError> {
        let database = &self.store.database;
        let pattern = self.pattern();
        let last: Option<i64> = database.fetch_optional(LAST_CHUNK, values![]).await?;
        let (mut from, last) = (chunk, last.unwrap_or_default());
        while from < last {
            let to = last.min(from + CHUNKS_PER_LOOK);
            let looked = values![from, to, &*pattern];
            let found: Vec<String> = database.fetch(MESSAGES, looked).await?;
            if found
                .iter()
                .any(|message| has(message, self.tenant.as_str()))
            {
                return Ok(None);
            }
            from = to;
        }
        Ok(Some(last))
    }

    /// Takes the tenant out of all chunks there are. Returns the number of the last one.
    pub(super) async fn chunks(&mut self) -> Result<i64, StoreError> {
        let store = self.store;
        let database = &store.database;
        let pattern = self.pattern();
        let (mut from, mut last) = (0, 0);
        loop {
            if from >= last {
                let now: Option<i64> = database.fetch_optional(LAST_CHUNK, values![]).await?;
                last = now.unwrap_or_default();
                if from >= last {
                    return Ok(last);
                }
            }
            let to = last.min(from + CHUNKS_PER_LOOK);
            let looked = values![from, to, &*pattern];
            let found: Vec<i64> = database.fetch(LOOK, looked).await?;
            for portion in found.chunks(CHUNKS_PER_PORTION) {
                self.portion(portion).await?;
            }
            from = to;
        }
    }

    /// Takes the tenant out of some chunks.
    async fn portion(&mut self, numbers: &[i64]) -> Result<(), StoreError> {
        let mut transaction = self.store.database.begin().await?;
        lock_chunks(&mut transaction, numbers.to_vec()).await?;
        // After the locks: what another erasure has made of the messages is seen.
        let rows: Vec<ChunkRow> = transaction.fetch(ROWS, values![numbers]).await?;
        let mut chunks: Vec<Reduced> = Vec::with_capacity(rows.len());
        for row in rows {
            match Reduced::of(row, self.tenant.as_str()) {
                Ok(reduced) => chunks.extend(reduced),
                // As its next claim would.
                Err(number) => end_unreadable(&mut transaction, number, self.now).await?,
            }
        }
        let mut hashes: BTreeSet<String> = BTreeSet::new();
        for Reduced { row, .. } in &chunks {
            if let (Some(job_id), Some(occurrence)) = (&row.job_id, &row.occurrence) {
                hashes.insert(self.hashes.hash(job_id, occurrence, self.tenant.as_str()));
            }
        }
        let hashes: Vec<String> = hashes.into_iter().collect();
        self.remember(&mut transaction, &hashes).await?;
        let removed = self.remove_rows(&mut transaction, &chunks).await?;
        for chunk in &chunks {
            self.write(&mut transaction, chunk).await?;
        }
        let queued = self.count(&mut transaction, &chunks, &removed).await?;
        let erased = &mut self.erased;
        erased.runs += removed.results.len() as u64;
        let open = chunks.iter().filter(|chunk| !chunk.is_over());
        erased.items += open
            .filter(|chunk| removed.is_open(chunk.row.number))
            .count() as u64;
        erased.others += removed.others + removed.skipped.len() as u64;
        crash_point!("erase-before-commit");
        transaction.commit().await?;
        crash_point!("erase-after-commit");
        self.store.note_ends(queued);
        Ok(())
    }

    async fn remove_rows(
        &self,
        connection: &mut Connection<'_>,
        chunks: &[Reduced],
    ) -> Result<Removed, StoreError> {
        let tenant = &self.tenant;
        let numbers: Vec<i64> = chunks.iter().map(|chunk| chunk.row.number).collect();
        let runs: Vec<i64> = chunks.iter().filter_map(|chunk| chunk.row.run).collect();
        let (numbers, runs) = (numbers.as_slice(), runs.as_slice());
        let results = values![runs, tenant, numbers];
        let results: Vec<(i64, i64, Option<Vec<u8>>)> =
            connection.fetch(REMOVE_RESULTS, results).await?;
        let skipped: Vec<i64> = connection
            .fetch(REMOVE_SKIPPED, values![numbers, tenant])
            .await?;
        let waiting = values![runs, tenant, numbers];
        let waiting: Vec<RemovedWaiting> = connection.fetch(REMOVE_WAITING, waiting).await?;
        let mut others = connection
            .execute(REMOVE_RUNNING, values![tenant, numbers])
            .await?;
        others += connection
            .execute(REMOVE_KEPT, values![runs, tenant])
            .await?;
        let preferences = results.iter().map(|(_, _, preference)| preference.clone());
        let of_waiting = waiting
            .iter()
            .map(|(_, _, _, preference, _)| preference.clone());
        let preferences = preferences.chain(of_waiting).collect();
        note_preferences(connection, preferences).await?;
        for (_, _, call_id, _, state) in &waiting {
            if let Some(state) = state {
                let passed_on = values![&**call_id, &**state];
                connection.execute(PASS_ON_STATE, passed_on).await?;
            }
        }
        if !waiting.is_empty() {
            let calls = waiting.iter().map(|(_, _, call_id, ..)| call_id.clone());
            let calls = values![Value::Texts(calls.collect())];
            others += connection.execute(REMOVE_CALLS, calls).await?;
        }
        Ok(Removed {
            results: results
                .iter()
                .map(|(chunk, status, _)| (*chunk, *status))
                .filter(|(_, status)| *status != 0)
                .collect(),
            skipped: skipped.into_iter().collect(),
            waiting: waiting
                .iter()
                .map(|(chunk, phase, ..)| (*chunk, *phase))
                .collect(),
            others,
        })
    }

    /// Writes a chunk without the tenant.
    async fn write(
        &self,
        connection: &mut Connection<'_>,
        chunk: &Reduced,
    ) -> Result<(), StoreError> {
        let row = &chunk.row;
        let message = values![row.number, &*chunk.message];
        connection.execute(REPLACE_MESSAGE, message).await?;
        let counted = i64::from(!chunk.is_over());
        let reduced = values![row.number, chunk.items.as_deref(), &self.tenant, counted];
        connection.execute(REMOVE_ITEM, reduced).await?;
        if chunk.is_over() {
            let before = format!("{}.{}", row.number, self.tenant);
            let moved = values![&*row.batch_id, before, chunk.position.as_deref()];
            connection.execute(MOVE_DELIVERIES, moved).await?;
        }
        Ok(())
    }

    /// Counts the chunks that are not over anew, and ends those that have nothing left, and their batches. Returns whether chunks are
    /// queued.
    async fn count(
        &self,
        connection: &mut Connection<'_>,
        chunks: &[Reduced],
        removed: &Removed,
    ) -> Result<bool, StoreError> {
        let open: Vec<&Reduced> = chunks.iter().filter(|chunk| !chunk.is_over()).collect();
        if open.is_empty() {
            return Ok(false);
        }
        let counts: Vec<Counts> = open.iter().map(|chunk| removed.counts(chunk)).collect();
        let ends = add_counts(connection, &counts).await?;
        let mut fewer: BTreeMap<&str, u64> = BTreeMap::new();
        let mut over: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
        let mut parked: Vec<(String, String)> = Vec::new();
        let mut queued = false;
        for chunk in open {
            let row = &chunk.row;
            *fewer.entry(&row.batch_id).or_default() += 1;
            match ends.get(&row.number).copied().flatten() {
                Some(ClaimEnd::Over) => {
                    over.insert(row.batch_id.clone(), self.now);
                }
                // Who cancels a batch locks the chunks that are parked already.
                Some(ClaimEnd::Parked) if row.done != 2 => {
                    parked.push((row.chunk_id.clone(), row.batch_id.clone()));
                }
                Some(ClaimEnd::Queued) => queued = true,
                Some(ClaimEnd::Parked) | None => {}
            }
        }
        let ids: Vec<String> = fewer.keys().map(|id| (*id).to_owned()).collect();
        if connection.is_shared() {
            let locked = values![Value::Texts(ids.clone())];
            connection
                .fetch::<(String, bool)>(LOCK_BATCHES, locked)
                .await?;
        }
        let fewer: Vec<(&str, u64)> = fewer.into_iter().collect();
        let fewer = values![json!(fewer).to_string(), Value::Texts(ids)];
        connection.execute(REDUCE_BATCHES, fewer).await?;
        let over: Vec<(String, DateTime<Utc>)> = over.into_iter().collect();
        if !over.is_empty() || !parked.is_empty() {
            queued |= end_batches(connection, &over, &parked).await?;
        }
        if queued {
            connection.announce(Announcement::Chunks).await?;
        }
        Ok(queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_goes_on_where_the_tenant_was() {
        let left = |items: &[&str]| -> Vec<Json> { items.iter().map(|item| json!(item)).collect() };
        for (items, position_after) in [
            (vec!["bob", "aaa", "abc"], Some("7.abc")),
            (vec!["bob", "cid"], Some("7.-")),
            (vec![], Some("7.-")),
            (vec!["-"], Some("7.-")),
        ] {
            let found = position(7, &left(&items), "ann");
            assert_eq!(found.as_deref(), position_after, "{items:?}");
        }
        // Nothing is lower than the item after the tenant.
        assert_eq!(position(7, &left(&["-"]), "-"), None);
    }
}
