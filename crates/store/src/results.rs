//! Rows of results. They are narrow, because each user has one for each run: numbers stand for the run and the chunk, and a hash
//! for the preference, whose content is stored once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{StoreError, StoredResult};
use punctual_domain::{FailureKind, ItemResult, ItemStatus, Progress, WaitingStatus};
use serde_json::Value as Json;

use crate::{
    driver::{Column, Connection, FromRow, Row},
    errors::failed,
};

const INSERT: &str = "@results AS r (run, tenant_id, chunk, status, attempts, preference, output, error, started_at, duration)";

/// Only a row that is to run again, by the same chunk, gives way.
const UPSERT: &str = "ON CONFLICT (run, tenant_id) DO UPDATE SET chunk = excluded.chunk,
         again = NULL, status = excluded.status,
         attempts = excluded.attempts, preference = excluded.preference, output = excluded.output,
         error = excluded.error, started_at = excluded.started_at, duration = excluded.duration
     WHERE r.again = excluded.chunk";

/// What a result is read from, in the order of [`Numbered`].
macro_rules! result_columns {
    () => {
        "SELECT r.chunk, n.job_id, c.batch_id, n.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
             CASE r.status WHEN 1 THEN 'succeeded' WHEN 3 THEN 'nothing_to_do' ELSE 'failed' END,
             CASE r.status WHEN 2 THEN 'handler' WHEN 4 THEN 'data' END,
             r.attempts, p.content, r.output, r.error, r.started_at, r.started_at + r.duration"
    };
}
pub(crate) use result_columns;

/// A result, and the number of its chunk. What waits has columns more, which are null of anything else.
pub(crate) struct Numbered(pub(crate) i64, pub(crate) StoredResult);

impl FromRow for Numbered {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let json = |text: Option<String>| {
            let value = text.map(|text| serde_json::from_str::<Json>(&text));
            value.transpose().map_err(failed)
        };
        let chunk = row.next()?;
        let (job_id, batch_id, occurrence) = (row.parse()?, row.parse()?, row.parse()?);
        let (scheduled_at, key_form) = (row.next()?, row.parse()?);
        let result = ItemResult {
            item_id: row.parse()?,
            status: row.parse()?,
            failure_kind: failure_kind(row.next()?)?,
            attempts: row.next()?,
            preference: json(row.next()?)?.map(Arc::new),
            output: json(row.next()?)?,
            error: row.next()?,
            started_at: row.next()?,
            finished_at: row.next()?,
            waiting: waiting_status(&mut row)?,
        };
        let stored = StoredResult {
            job_id,
            batch_id,
            occurrence,
            scheduled_at,
            result,
            key_form,
        };
        Ok(Self(chunk, stored))
    }
}

/// How long an item waits, and how far its work has come; `None`: the row ends here.
fn waiting_status(row: &mut Row) -> Result<Option<WaitingStatus>, StoreError> {
    let Some(since) = row.next::<Option<DateTime<Utc>>>()? else {
        return Ok(None);
    };
    Ok(Some(WaitingStatus {
        since,
        until: row.next()?,
        progress: progress(row)?,
    }))
}

/// A note of progress, from its two columns.
pub(crate) fn progress(row: &mut Row) -> Result<Option<Progress>, StoreError> {
    let (note, at): (Option<String>, Option<DateTime<Utc>>) = (row.next()?, row.next()?);
    Ok(note.zip(at).map(|(note, at)| Progress { note, at }))
}

/// The kind of a failure, from its word.
fn failure_kind(word: Option<String>) -> Result<Option<FailureKind>, StoreError> {
    let kind = word.map(|word| word.parse::<FailureKind>());
    kind.transpose().map_err(failed)
}

/// The number that stands for a failure of data. Versions that do not know it read it as any other failure.
const FAILED_DATA: i64 = 4;

/// The number that stands for how an item has ended.
fn number_of(result: &ItemResult) -> i64 {
    match (result.status, result.failure_kind) {
        (ItemStatus::Failed, Some(FailureKind::Data)) => FAILED_DATA,
        (status, _) => status_number(status),
    }
}

/// The number that stands for a status of a result; a failure may have another one, by its kind.
pub(crate) fn status_number(status: ItemStatus) -> i64 {
    match status {
        ItemStatus::Succeeded => 1,
        ItemStatus::Failed => 2,
        ItemStatus::NothingToDo => 3,
        // They have no row.
        ItemStatus::Running | ItemStatus::Waiting | ItemStatus::Skipped => 0,
    }
}

/// What a preference is found by: the first half of its BLAKE3 hash.
pub(crate) type Hash = [u8; 16];

/// A result as it is written.
pub(crate) struct NewResult {
    pub(crate) tenant: String,
    pub(crate) status: i64,
    pub(crate) attempts: i64,
    pub(crate) preference: Option<Hash>,
    pub(crate) output: Option<String>,
    pub(crate) error: Option<String>,
    /// In microseconds since 1970.
    pub(crate) started: i64,
    /// In microseconds; `None`: it has not ended.
    pub(crate) duration: Option<i64>,
}

/// Results, ready to be written.
#[derive(Default)]
pub(crate) struct ResultRows {
    tenants: Vec<Option<String>>,
    statuses: Vec<Option<i64>>,
    attempts: Vec<Option<i64>>,
    preferences: Vec<Option<Vec<u8>>>,
    outputs: Vec<Option<String>>,
    errors: Vec<Option<String>>,
    started: Vec<Option<i64>>,
    durations: Vec<Option<i64>>,
    /// The content of each preference.
    contents: BTreeMap<Hash, String>,
    /// When the contents were last used, in microseconds since 1970.
    used_at: i64,
}

impl ResultRows {
    pub(crate) fn new(results: &[&ItemResult]) -> Self {
        let mut rows = Self::default();
        // Items that were run with the same preference share its value.
        let mut hashes: HashMap<*const Json, Hash> = HashMap::new();
        for result in results {
            let preference = result.preference.as_ref().map(|preference| {
                let hash = hashes.entry(Arc::as_ptr(preference));
                *hash.or_insert_with(|| rows.keep(preference.to_string()))
            });
            let micros = |at: DateTime<Utc>| at.timestamp_micros();
            let started = micros(result.started_at);
            rows.add(NewResult {
                tenant: result.item_id.to_string(),
                status: number_of(result),
                attempts: result.attempts.into(),
                preference,
                output: result.output.as_ref().map(ToString::to_string),
                error: result.error.clone(),
                started,
                duration: result.finished_at.map(|at| micros(at) - started),
            });
        }
        rows
    }

    /// Keeps a preference with the rows, and returns what it is found by.
    pub(crate) fn keep(&mut self, content: String) -> Hash {
        let mut hash = Hash::default();
        hash.copy_from_slice(&blake3::hash(content.as_bytes()).as_bytes()[..16]);
        self.contents.entry(hash).or_insert(content);
        hash
    }

    /// Notes that the preferences are used at an instant, in microseconds since 1970.
    pub(crate) fn note_use(&mut self, at: i64) {
        self.used_at = self.used_at.max(at);
    }

    pub(crate) fn add(&mut self, new: NewResult) {
        self.note_use(new.started);
        self.tenants.push(Some(new.tenant));
        self.statuses.push(Some(new.status));
        self.attempts.push(Some(new.attempts));
        self.preferences.push(new.preference.map(Vec::from));
        self.outputs.push(new.output);
        self.errors.push(new.error);
        self.started.push(Some(new.started));
        self.durations.push(new.duration);
    }

    /// The items.
    pub(crate) fn items(&self) -> impl Iterator<Item = &String> {
        self.tenants.iter().flatten()
    }

    /// Number of results.
    pub(crate) fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Number of results with this status.
    pub(crate) fn count(&self, status: ItemStatus) -> usize {
        let number = Some(status_number(status));
        self.statuses.iter().filter(|one| **one == number).count()
    }

    /// Adds those of another chunk.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.tenants.append(&mut other.tenants);
        self.statuses.append(&mut other.statuses);
        self.attempts.append(&mut other.attempts);
        self.preferences.append(&mut other.preferences);
        self.outputs.append(&mut other.outputs);
        self.errors.append(&mut other.errors);
        self.started.append(&mut other.started);
        self.durations.append(&mut other.durations);
        self.contents.append(&mut other.contents);
        self.note_use(other.used_at);
    }

    /// Writes them, as those of these runs and chunks. Returns how many were taken.
    pub(crate) async fn insert(
        self,
        connection: &mut Connection<'_>,
        runs: Column,
        chunks: Column,
    ) -> Result<u64, StoreError> {
        if self.tenants.is_empty() {
            return Ok(0);
        }
        let columns = vec![
            runs,
            Column::Texts(self.tenants),
            chunks,
            Column::Integers(self.statuses),
            Column::Integers(self.attempts),
            Column::Bytes(self.preferences),
            Column::Texts(self.outputs),
            Column::Texts(self.errors),
            Column::Integers(self.started),
            Column::Integers(self.durations),
        ];
        connection.insert(INSERT, columns, UPSERT).await
    }
}

/// Stores contents, and notes once in [`USE_PERIOD`] that they are still used.
const KEEP_CONTENTS: &str = "ON CONFLICT (hash) DO UPDATE SET used_at = excluded.used_at
     WHERE p.used_at < excluded.used_at - 2592000000000";

/// How long a process knows that the use of a preference has been noted: at most so much later than it is noted, results refer to it.
pub(crate) const USE_PERIOD: TimeDelta = TimeDelta::days(30);

/// A preference, and the period in which its use was noted.
pub(crate) type Noted = (Hash, i64);

/// Which preferences are stored already, and in which period that was noted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Preferences(Arc<Mutex<HashMap<Hash, i64>>>);

/// The period in which an instant is. Preferences have different ones, so that not all are noted on one day.
fn period_of(hash: &Hash, micros: i64) -> i64 {
    let day = micros.div_euclid(86_400_000_000);
    (day + i64::from(hash[0]) % USE_PERIOD.num_days()).div_euclid(USE_PERIOD.num_days())
}

impl Preferences {
    /// So many hashes are kept in memory, 16 bytes each and what a set needs beside them.
    const REMEMBERED: usize = 100_000;

    /// Stores those that rows refer to and that are not known to be stored. Returns what is to be
    /// [remembered](Self::remember) when the transaction is committed.
    pub(crate) async fn insert(
        &self,
        connection: &mut Connection<'_>,
        rows: &ResultRows,
    ) -> Result<Vec<Noted>, StoreError> {
        let period = |hash: &Hash| period_of(hash, rows.used_at);
        // In the order of their hashes, as other transactions insert theirs: two do not wait for each other.
        let new: Vec<(Hash, String)> = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = |(hash, _): &(&Hash, &String)| known.get(*hash) != Some(&period(hash));
            let new = rows.contents.iter().filter(is_new);
            new.map(|(hash, content)| (*hash, content.clone()))
                .collect()
        };
        if !new.is_empty() {
            let columns = vec![
                Column::Bytes(new.iter().map(|(hash, _)| Some(hash.to_vec())).collect()),
                Column::texts(&new, |(_, content)| content.as_str()),
                Column::Same(rows.used_at.into()),
            ];
            let into = "@preferences AS p (hash, content, used_at)";
            connection.insert(into, columns, KEEP_CONTENTS).await?;
        }
        let noted = new.iter().map(|(hash, _)| (*hash, period(hash)));
        Ok(noted.collect())
    }

    pub(crate) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(crate) fn remember(&self, noted: Vec<Noted>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + noted.len() > Self::REMEMBERED {
            known.clear();
        }
        known.extend(noted);
    }
}
