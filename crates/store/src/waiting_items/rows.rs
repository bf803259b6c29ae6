//! Rows of items that wait, as they are written and read.

use std::collections::{HashMap, HashSet};

use punctual_application::ports::{Attempts, Stage, StoreError, WaitingCall, WaitingItem};
use punctual_domain::{Chunk, Waiting};
use serde_json::Value as Json;
use uuid::Uuid;

use super::Times;
use crate::{
    driver::{Column, Connection, FromRow, Row, Value},
    errors::failed,
    results::{ResultRows, progress},
};

const INSERT: &str = "@waiting_items AS w (run, tenant_id, chunk, job_id, call_id, phase, purpose_id, stage, attempts, refused,
     of_first, preference, started_at, since, until, at_deadline, poll_at, due_at, state)";

/// Only a row of the same chunk gives way.
const UPSERT: &str = "ON CONFLICT (run, tenant_id) DO UPDATE SET call_id = excluded.call_id, phase = excluded.phase,
         purpose_id = excluded.purpose_id, stage = excluded.stage, attempts = excluded.attempts, refused = excluded.refused,
         of_first = excluded.of_first, preference = excluded.preference, started_at = excluded.started_at,
         since = excluded.since, until = excluded.until, at_deadline = excluded.at_deadline, poll_at = excluded.poll_at,
         due_at = excluded.due_at, state = excluded.state, note = NULL, noted_at = NULL
     WHERE w.chunk = excluded.chunk";

macro_rules! calls {
    ($written:literal, $state:literal) => {
        concat!(
            "SELECT w.call_id, w.tenant_id, w.job_id, c.batch_id, c.chunk_id, c.occurrence, b.scheduled_at, b.key_form,
                 w.purpose_id, w.stage, w.attempts, w.refused, w.of_first, p.content, ", $written, ", w.started_at, w.since,
                 w.until, w.at_deadline, w.poll_at, ", $state, ", w.note, w.noted_at, b.status = 'cancelled'
             FROM @waiting_items w JOIN @chunks c ON c.chunk = w.chunk JOIN @batches b ON b.batch_id = c.batch_id
             LEFT JOIN @preferences p ON p.hash = w.preference
             LEFT JOIN @kept_outputs k ON k.run = w.run AND k.tenant_id = w.tenant_id AND w.stage = 3
             WHERE @in_texts(w.call_id, $1) AND w.phase + 0 = 1 ORDER BY @bytes(w.tenant_id)"
        )
    };
}

/// Calls that wait, item by item.
pub(crate) const CALLS: &str = calls!("k.output", "w.state");

/// The same without what may be large and is not shown.
pub(crate) const LISTED: &str = calls!("CAST(NULL AS TEXT)", "CAST(NULL AS TEXT)");

/// An item of a call that waits, with the id of the call: as a call of its own, or why its row cannot be read.
pub(super) struct OfCall(String, Result<WaitingCall, StoreError>);

impl FromRow for OfCall {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let call_id: String = row.next()?;
        let call = read(&call_id, row);
        Ok(Self(call_id, call))
    }
}

fn read(call_id: &str, mut row: Row) -> Result<WaitingCall, StoreError> {
    let json = |text: Option<String>| {
        let value = text.map(|text| serde_json::from_str::<Json>(&text));
        value.transpose().map_err(failed)
    };
    Ok(WaitingCall {
        call_id: call_id.parse::<Uuid>().map_err(failed)?,
        items: vec![row.parse()?],
        job_id: row.parse()?,
        batch_id: row.parse()?,
        chunk_id: row.next()?,
        occurrence: row.parse()?,
        scheduled_at: row.next()?,
        key_form: row.parse()?,
        purpose_id: row.parse()?,
        stage: stage(row.next()?),
        attempts: Attempts {
            made: row.next()?,
            refused: row.next()?,
            of_first: row.next()?,
        },
        preference: json(row.next()?)?.map(std::sync::Arc::new),
        written: json(row.next()?)?,
        started_at: row.next()?,
        since: row.next()?,
        waiting: Waiting {
            until: row.next()?,
            at_deadline: row.parse()?,
            poll_at: row.next()?,
            state: json(row.next()?)?.unwrap_or_default(),
        },
        progress: progress(&mut row)?,
        is_cancelled: row.next()?,
    })
}

/// Calls by id, each with all of its items, or why it cannot be read.
pub(super) type Calls = HashMap<String, Result<WaitingCall, StoreError>>;

/// The calls that items are of. One that is damaged keeps no others from being read.
pub(super) fn by_call(items: Vec<OfCall>) -> Calls {
    let mut calls = Calls::new();
    for OfCall(call_id, item) in items {
        let Some(call) = calls.get_mut(&call_id) else {
            calls.insert(call_id, item);
            continue;
        };
        match item {
            Ok(item) => {
                if let Ok(call) = call {
                    call.items.extend(item.items);
                    // One of the items keeps it.
                    if call.waiting.state.is_null() {
                        call.waiting.state = item.waiting.state;
                    }
                }
            }
            Err(error) => *call = Err(error),
        }
    }
    calls
}

fn stage_number(stage: Stage) -> i64 {
    match stage {
        Stage::Only => 1,
        Stage::First => 2,
        Stage::Second => 3,
        Stage::Prepare => 4,
    }
}

pub(super) fn stage(number: i64) -> Stage {
    match number {
        2 => Stage::First,
        3 => Stage::Second,
        4 => Stage::Prepare,
        _ => Stage::Only,
    }
}

/// Rows of items that begin to wait, ready to be written.
pub(super) struct WaitingRows {
    count: usize,
    columns: Vec<Column>,
    /// The content of their preferences.
    preferences: ResultRows,
}

impl WaitingRows {
    pub(super) fn new(chunk: &Chunk, (own, run): (i64, i64), items: &[&WaitingItem]) -> Self {
        let mut preferences = ResultRows::default();
        // Items that were called with the same preference share its value.
        let mut hashes = HashMap::new();
        let hash = |item: &&WaitingItem| {
            let preference = item.preference.as_ref()?;
            let hash = hashes.entry(std::sync::Arc::as_ptr(preference));
            let hash = hash.or_insert_with(|| preferences.keep(preference.to_string()));
            Some(hash.to_vec())
        };
        let hashes = items.iter().map(hash).collect();
        for item in items {
            preferences.note_use(item.since.timestamp_micros());
        }
        // One item of a call keeps its state.
        let mut seen: HashSet<Uuid> = HashSet::new();
        let state = |item: &&WaitingItem| {
            let state = &item.waiting.state;
            let is_first = seen.insert(item.call_id);
            (is_first && !state.is_null()).then(|| state.to_string())
        };
        let states = items.iter().map(state).collect();
        let times = |item: &&WaitingItem| Times::new(item.waiting.until, item.waiting.poll_at);
        let polls = items.iter().map(|item| times(item).poll_at).collect();
        let columns = vec![
            Column::Same(run.into()),
            Column::texts(items, |item| item.item_id.as_str()),
            Column::Same(own.into()),
            Column::Same(Value::from(&chunk.job_id)),
            Column::texts(items, |item| item.call_id.to_string()),
            Column::Same(1_i64.into()),
            Column::texts(items, |item| item.purpose_id.as_str()),
            Column::integers(items, |item| stage_number(item.stage)),
            Column::integers(items, |item| item.attempts.made.into()),
            Column::integers(items, |item| item.attempts.refused.into()),
            Column::integers(items, |item| item.attempts.of_first.into()),
            Column::Bytes(hashes),
            Column::integers(items, |item| item.started_at.timestamp_micros()),
            Column::integers(items, |item| item.since.timestamp_micros()),
            Column::integers(items, |item| times(item).until),
            Column::texts(items, |item| item.waiting.at_deadline.as_str()),
            Column::Integers(polls),
            Column::integers(items, |item| times(item).due_at),
            Column::Texts(states),
        ];
        Self {
            count: items.len(),
            columns,
            preferences,
        }
    }

    /// The preferences that they refer to.
    pub(super) fn preferences(&self) -> &ResultRows {
        &self.preferences
    }

    /// Writes them. Returns how many were taken.
    pub(super) async fn insert(self, connection: &mut Connection<'_>) -> Result<u64, StoreError> {
        if self.count == 0 {
            return Ok(0);
        }
        connection.insert(INSERT, self.columns, UPSERT).await
    }
}
