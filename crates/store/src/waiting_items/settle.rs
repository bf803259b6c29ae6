//! Settlements: calls that wait are brought further, hundreds of them in a few statements.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
};

use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{Settled, Settlement, Stage, StoreError, StoreErrorKind},
};
use punctual_domain::{FailureKind, ItemId, ItemResult, ItemStatus};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{lock_calls, rows::stage};
use crate::{
    Store,
    batch_store::{ClaimEnd, Counts, add_counts, end_batches},
    driver::{Announcement, Column, Connection, FromRow, Row, Value, values},
    prepared_outputs,
    results::ResultRows,
};

/// The items of calls, with their chunks, their runs, and whether their batches are cancelled. The chunks must be locked.
pub(crate) const ITEMS: &str = "SELECT w.call_id, w.tenant_id, w.phase, w.run, w.purpose_id, w.chunk, c.chunk_id, c.done = 2,
         b.batch_id, b.status = 'cancelled', b.scheduled_at, c.job_id, c.occurrence, w.stage
     FROM @waiting_items w JOIN @chunks c ON c.chunk = w.chunk JOIN @batches b ON b.batch_id = c.batch_id
     WHERE @in_texts(w.call_id, $1)";

const REMOVE: &str = "DELETE FROM @waiting_items WHERE @in_texts(call_id, $1) AND phase + 0 = 1";

/// The next claims give these items, for the second of two purposes: so far, all attempts were at the first.
const CALL_SECOND: &str =
    "UPDATE @waiting_items SET phase = 3, of_first = attempts, attempts = 0, refused = 0
     WHERE @in_texts(call_id, $1) AND phase + 0 = 1";

/// Has items called again: of each call its id, when, and how many attempts were refused.
const CALL_AGAIN: &str = "UPDATE @waiting_items SET phase = 2, due_at = n.at, refused = n.refused
     FROM (SELECT one.value ->> 0 AS id, CAST(one.value ->> 1 AS BIGINT) AS at, CAST(one.value ->> 2 AS BIGINT) AS refused
           FROM @json($1, one)) n
     WHERE call_id = n.id AND @in_texts(call_id, $2) AND phase + 0 = 1";

const KEEP_OUTPUTS: &str = "@kept_outputs (run, tenant_id, chunk, purpose_id, output)";

const REPLACE_OUTPUTS: &str = "ON CONFLICT (run, tenant_id) DO UPDATE SET chunk = excluded.chunk, purpose_id = excluded.purpose_id,
     output = excluded.output";

/// The chunks that results of these runs and items are of.
const BROUGHT: &str = "SELECT r.run, r.tenant_id, r.chunk FROM @results r
     WHERE @in_integers(r.run, $1) AND @in_texts(r.tenant_id, $2)";

const DEAD_LETTERS: &str = "@dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, failure_kind, reason,
     failed_at)";

/// An item of a call that is settled.
struct SettledItem {
    call_id: String,
    item_id: ItemId,
    phase: i64,
    run: i64,
    purpose_id: String,
    chunk: i64,
    chunk_id: String,
    is_parked: bool,
    batch_id: String,
    is_cancelled: bool,
    scheduled_at: i64,
    job_id: String,
    occurrence: String,
    stage: Stage,
}

impl FromRow for SettledItem {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            call_id: row.next()?,
            item_id: row.parse()?,
            phase: row.next()?,
            run: row.next()?,
            purpose_id: row.next()?,
            chunk: row.next()?,
            chunk_id: row.next()?,
            is_parked: row.next()?,
            batch_id: row.next()?,
            is_cancelled: row.next()?,
            scheduled_at: row.next()?,
            job_id: row.next()?,
            occurrence: row.next()?,
            stage: stage(row.next()?),
        })
    }
}

/// What settlements come to, sorted by what is written.
#[derive(Default)]
struct Changes<'s> {
    /// Items that have ended.
    ended: Vec<(SettledItem, ItemResult)>,
    /// The outputs of calls that prepare runs, by the id of the call.
    prepared: Vec<(String, String)>,
    /// Items whose first purpose has this output.
    second: Vec<(SettledItem, &'s Json)>,
    /// Calls that are called again: when, and how many attempts were refused.
    again: Vec<(String, i64, u32)>,
}

impl<'s> Changes<'s> {
    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.second.is_empty() && self.again.is_empty()
    }

    fn add(&mut self, items: Vec<SettledItem>, settlement: &'s Settlement) {
        match settlement {
            Settlement::End(result) => {
                for item in items {
                    let mut result = ItemResult {
                        item_id: item.item_id.clone(),
                        ..ItemResult::clone(result)
                    };
                    if item.stage == Stage::Prepare
                        && let Some(output) = result.output.take()
                    {
                        let prepared = (item.call_id.clone(), output.to_string());
                        self.prepared.push(prepared);
                    }
                    self.ended.push((item, result));
                }
            }
            Settlement::CallSecond(output) => {
                self.second
                    .extend(items.into_iter().map(|item| (item, output)));
            }
            Settlement::CallAgain { at, refused } => {
                let call_id = items.into_iter().next().map(|item| item.call_id);
                let again = call_id.map(|id| (id, at.timestamp_micros(), *refused));
                self.again.extend(again);
            }
        }
    }
}

impl Store {
    pub(super) async fn settle_calls(
        &self,
        settlements: &[(Uuid, Settlement)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Settled>, StoreError> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        for (call_id, settlement) in settlements {
            check(*call_id, settlement)?;
        }
        let ids: Vec<String> = settlements.iter().map(|(id, _)| id.to_string()).collect();
        let mut transaction = self.database.begin().await?;
        let locked = lock_calls(&mut transaction, &ids).await?;
        // After the locks: what has become of the calls meanwhile is seen.
        let items = values![Value::Texts(ids.clone())];
        let items: Vec<SettledItem> = transaction.fetch(ITEMS, items).await?;
        let mut by_call: HashMap<String, Vec<SettledItem>> = HashMap::new();
        let is_locked = |item: &SettledItem| {
            let locked = locked.as_ref();
            locked.is_none_or(|chunks| chunks.contains(&item.chunk))
        };
        for item in items.into_iter().filter(is_locked) {
            let call = by_call.entry(item.call_id.clone()).or_default();
            call.push(item);
        }
        let mut changes = Changes::default();
        let mut settled = Vec::with_capacity(settlements.len());
        for (id, (_, settlement)) in ids.iter().zip(settlements) {
            let items = by_call.remove(id).unwrap_or_default();
            let answer = match items.first() {
                Some(item) if item.is_cancelled => Settled::Cancelled,
                Some(item) if item.phase == 1 => Settled::Taken,
                _ => Settled::NotWaiting,
            };
            if answer == Settled::Taken {
                changes.add(items, settlement);
            }
            settled.push(answer);
        }
        if changes.is_empty() {
            return Ok(settled);
        }
        let results: Vec<&ItemResult> = changes.ended.iter().map(|(_, result)| result).collect();
        let rows = ResultRows::new(&results);
        let new_preferences = self.preferences.insert(&mut transaction, &rows).await?;
        let late = write_ended(&mut transaction, rows, &changes.ended).await?;
        prepared_outputs::finish(&mut transaction, mem::take(&mut changes.prepared), now).await?;
        write_second(&mut transaction, &changes.second).await?;
        write_again(&mut transaction, &changes.again).await?;
        let queued = count(&mut transaction, &changes, &late, now).await?;
        crash_point!("settle-before-commit");
        transaction.commit().await?;
        crash_point!("settle-after-commit");
        self.preferences.remember(new_preferences);
        self.note_ends(queued);
        let late = late.iter().filter_map(|number| changes.ended.get(*number));
        let late: HashSet<&str> = late.map(|(item, _)| item.call_id.as_str()).collect();
        for (answer, id) in settled.iter_mut().zip(&ids) {
            if late.contains(id.as_str()) {
                *answer = Settled::NotWaiting;
            }
        }
        Ok(settled)
    }
}

/// Counts what has ended and what is to be called, and ends chunks and batches. Returns whether chunks are queued.
async fn count(
    connection: &mut Connection<'_>,
    changes: &Changes<'_>,
    late: &HashSet<usize>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let mut counts: BTreeMap<i64, Counts> = BTreeMap::new();
    let mut chunks: HashMap<i64, (&SettledItem, DateTime<Utc>)> = HashMap::new();
    for (number, (item, result)) in changes.ended.iter().enumerate() {
        let of_chunk = counts
            .entry(item.chunk)
            .or_insert_with(|| Counts::of(item.chunk));
        of_chunk.waiting -= 1;
        if late.contains(&number) {
            of_chunk.superseded += 1;
        } else {
            of_chunk.add(result.status);
        }
        let at = result.finished_at.unwrap_or(now);
        let last = &mut chunks.entry(item.chunk).or_insert((item, at)).1;
        *last = at.max(*last);
    }
    for (item, _) in &changes.second {
        let of_chunk = counts
            .entry(item.chunk)
            .or_insert_with(|| Counts::of(item.chunk));
        of_chunk.waiting -= 1;
        of_chunk.resumed += 1;
        chunks.entry(item.chunk).or_insert((item, now));
    }
    let counts: Vec<Counts> = counts.into_values().collect();
    if counts.is_empty() {
        return Ok(false);
    }
    let ends = add_counts(connection, &counts).await?;
    let mut over: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
    let mut parked = Vec::new();
    let mut queued = false;
    for (chunk, (item, at)) in chunks {
        match ends.get(&chunk).copied().flatten() {
            Some(ClaimEnd::Over) => {
                let last = over.entry(item.batch_id.clone()).or_insert(at);
                *last = at.max(*last);
            }
            // Who cancels a batch locks the chunks that are parked already.
            Some(ClaimEnd::Parked) if !item.is_parked => {
                parked.push((item.chunk_id.clone(), item.batch_id.clone()));
            }
            Some(ClaimEnd::Queued) => queued = true,
            Some(ClaimEnd::Parked) | None => {}
        }
    }
    let over: Vec<(String, DateTime<Utc>)> = over.into_iter().collect();
    queued |= end_batches(connection, &over, &parked).await?;
    if queued {
        connection.announce(Announcement::Chunks).await?;
    }
    Ok(queued)
}

/// Refuses an end that is none.
fn check(call_id: Uuid, settlement: &Settlement) -> Result<(), StoreError> {
    use ItemStatus::{Failed, NothingToDo, Succeeded};
    match settlement {
        Settlement::End(result) if !matches!(result.status, Failed | NothingToDo | Succeeded) => {
            let message = format!(
                "call {call_id} cannot end as `{}`; use `succeeded`, `failed` or `nothing_to_do`",
                result.status
            );
            Err(StoreError::new(StoreErrorKind::Internal, message))
        }
        _ => Ok(()),
    }
}

/// Writes the results of items that have ended, with a dead letter for each that failed. Returns the places of those that have an
/// outcome by another chunk, which stands.
async fn write_ended(
    connection: &mut Connection<'_>,
    rows: ResultRows,
    ended: &[(SettledItem, ItemResult)],
) -> Result<HashSet<usize>, StoreError> {
    let mut late = HashSet::new();
    if ended.is_empty() {
        return Ok(late);
    }
    let runs = ended.iter().map(|(item, _)| Some(item.run)).collect();
    let chunks = ended.iter().map(|(item, _)| Some(item.chunk)).collect();
    let (runs, chunks) = (Column::Integers(runs), Column::Integers(chunks));
    let taken = rows.insert(connection, runs, chunks).await?;
    if taken < ended.len() as u64 {
        let runs: Vec<i64> = ended.iter().map(|(item, _)| item.run).collect();
        let items = ended.iter().map(|(item, _)| item.item_id.to_string());
        let brought = values![runs.as_slice(), Value::Texts(items.collect())];
        let brought: Vec<(i64, String, i64)> = connection.fetch(BROUGHT, brought).await?;
        let brought = brought.into_iter();
        let brought: HashMap<(i64, String), i64> = brought
            .map(|(run, item, chunk)| ((run, item), chunk))
            .collect();
        for (number, (item, _)) in ended.iter().enumerate() {
            let by = brought.get(&(item.run, item.item_id.to_string()));
            if by.is_some_and(|by| *by != item.chunk) {
                late.insert(number);
            }
        }
    }
    let mut calls: Vec<String> = ended.iter().map(|(item, _)| item.call_id.clone()).collect();
    calls.dedup();
    let calls = values![Value::Texts(calls)];
    connection.execute(REMOVE, calls).await?;
    let failed: Vec<&(SettledItem, ItemResult)> = ended
        .iter()
        .enumerate()
        .filter(|(number, (_, result))| {
            result.status == ItemStatus::Failed && !late.contains(number)
        })
        .map(|(_, failed)| failed)
        .collect();
    if !failed.is_empty() {
        let columns = vec![
            Column::texts(&failed, |(item, _)| item.job_id.as_str()),
            Column::texts(&failed, |(item, _)| item.item_id.as_str()),
            Column::texts(&failed, |(item, _)| item.occurrence.as_str()),
            Column::texts(&failed, |(item, _)| item.batch_id.as_str()),
            Column::integers(&failed, |(item, _)| item.scheduled_at),
            Column::integers(&failed, |(_, result)| result.attempts.into()),
            Column::texts(&failed, |(_, result)| {
                result.failure_kind.map_or("handler", FailureKind::as_str)
            }),
            Column::texts(&failed, |(_, result)| {
                result.error.as_deref().unwrap_or_default()
            }),
            Column::integers(&failed, |(_, result)| {
                let at = result.finished_at.unwrap_or(result.started_at);
                at.timestamp_micros()
            }),
        ];
        connection.insert(DEAD_LETTERS, columns, "").await?;
    }
    Ok(late)
}

/// Keeps what the first purposes of items have made, and has the next claims give the items for the second.
async fn write_second(
    connection: &mut Connection<'_>,
    second: &[(SettledItem, &Json)],
) -> Result<(), StoreError> {
    if second.is_empty() {
        return Ok(());
    }
    let columns = vec![
        Column::integers(second, |(item, _)| item.run),
        Column::texts(second, |(item, _)| item.item_id.as_str()),
        Column::integers(second, |(item, _)| item.chunk),
        Column::texts(second, |(item, _)| item.purpose_id.as_str()),
        Column::texts(second, |(_, output)| output.to_string()),
    ];
    connection
        .insert(KEEP_OUTPUTS, columns, REPLACE_OUTPUTS)
        .await?;
    let calls = second.iter().map(|(item, _)| item.call_id.clone());
    let calls = values![Value::Texts(calls.collect())];
    connection.execute(CALL_SECOND, calls).await?;
    Ok(())
}

async fn write_again(
    connection: &mut Connection<'_>,
    again: &[(String, i64, u32)],
) -> Result<(), StoreError> {
    if again.is_empty() {
        return Ok(());
    }
    let ids = again.iter().map(|(id, ..)| id.clone()).collect();
    let again = values![json!(again).to_string(), Value::Texts(ids)];
    connection.execute(CALL_AGAIN, again).await?;
    Ok(())
}
