//! The port `WaitingItems`: items whose work goes on elsewhere are rows of a table. Who changes the row of an item holds the lock of
//! its chunk, so that commits, claims and settlements of a chunk exclude each other, and locks several in the order of their numbers.
//! A chunk that has nothing left but items that wait is parked: no claim finds it, and its batch is not over.

pub(crate) mod due;
mod rows;
pub(crate) mod settle;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    Coalescer, crash_point,
    ports::{
        Committed, DueCalls, Page, Paged, Settled, Settlement, StoreError, WaitingCall,
        WaitingChange, WaitingFilter, WaitingItem, WaitingItems,
    },
};
use punctual_domain::{Chunk, JobId};
use uuid::Uuid;

pub(crate) use self::rows::{CALLS, LISTED};
use self::rows::{Calls, WaitingRows};
use crate::{
    Store,
    batch_store::{Counts, VALID_CLAIM, ValidClaim, add_counts, end_claim},
    conditions::Conditions,
    driver::{Connection, FromRow, Row, Value, values},
    erased::Erased,
    reader::{bad_cursor, paged, split},
};

/// The phase of an item that the next claim of its chunk gives. It is 1 while the item waits for its call, and 2 while it waits to be
/// called again. Most items wait, so statements say `phase + 0` where the index of what is due is not to be used.
pub(crate) const RESUMED: i64 = 3;

/// What is known of items that begin to wait: their phase, or 0 for one that has an outcome.
const KNOWN: &str = "SELECT w.tenant_id, w.phase FROM @waiting_items w
     WHERE w.run = $1 AND @in_texts(w.tenant_id, $2) AND w.chunk = $3
     UNION ALL SELECT r.tenant_id, 0 FROM @results r
     WHERE r.run = $1 AND @in_texts(r.tenant_id, $2) AND (r.again IS NULL OR r.again <> $3)";

const CHUNKS_OF_CALLS: &str = "SELECT w.chunk FROM @waiting_items w WHERE @in_texts(w.call_id, $1)";

const LOCK_CHUNKS: &str =
    "SELECT c.chunk FROM @chunks c WHERE @in_integers(c.chunk, $1) ORDER BY c.chunk @for_update(c)";

/// An item of a call that waits, its deadline, when it is to be polled, and when it is due.
const TIMES: &str = "SELECT w.tenant_id, w.until, w.poll_at, w.due_at FROM @waiting_items w
     WHERE w.call_id = $1 AND w.phase + 0 = 1 ORDER BY w.tenant_id LIMIT 1";

/// Changes how a call waits; `$5`: whether its state changes, which one item keeps.
const KEEP_WAITING: &str = "UPDATE @waiting_items SET until = $2, poll_at = $3, due_at = $4,
         state = CASE WHEN $5 = 0 THEN state WHEN tenant_id = $6 THEN $7 END,
         note = coalesce($8, note), noted_at = coalesce($9, noted_at)
     WHERE call_id = $1 AND phase + 0 = 1";

const COUNTS: &str =
    "SELECT job_id, CAST(sum(waiting) AS BIGINT) FROM @chunks WHERE waiting > 0 GROUP BY job_id";

/// The name of the key of completion URLs among the secrets.
const COMPLETION_KEY: &str = "completion_key";

/// Looks up calls by id, those that are asked for at one time by one statement. An answer is the call or why it cannot be read;
/// `None`: it does not wait.
pub(crate) type LookUps = Coalescer<String, Option<Result<WaitingCall, StoreError>>>;

/// How many items of a job wait.
struct OfJob(JobId, u64);

impl FromRow for OfJob {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self(row.parse()?, row.next()?))
    }
}

#[async_trait]
impl WaitingItems for Store {
    async fn completion_key(&self) -> Result<[u8; 32], StoreError> {
        self.drawn_secret(COMPLETION_KEY).await
    }

    async fn waiting_call(&self, call_id: Uuid) -> Result<Option<WaitingCall>, StoreError> {
        let store = self.clone();
        let look_up = move |ids: Vec<String>| async move {
            let calls = store.calls(CALLS, &ids).await?;
            Ok::<Vec<_>, StoreError>(ids.iter().map(|id| calls.get(id).cloned()).collect())
        };
        let call = self.look_ups.ask(call_id.to_string(), look_up).await?;
        call.transpose()
    }

    async fn settle_calls(
        &self,
        settlements: &[(Uuid, Settlement)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Settled>, StoreError> {
        let settled = self.settle_calls(settlements, now).await;
        if settled.is_err() {
            // A database that has failed may have lost what was stored last.
            self.preferences.forget();
        }
        settled
    }

    async fn keep_waiting(
        &self,
        call_id: Uuid,
        change: &WaitingChange,
    ) -> Result<bool, StoreError> {
        let id = call_id.to_string();
        let mut transaction = self.database.begin().await?;
        let locked = lock_calls(&mut transaction, std::slice::from_ref(&id)).await?;
        if locked.is_some_and(|chunks| chunks.is_empty()) {
            return Ok(false);
        }
        let times = transaction.fetch_optional(TIMES, values![&*id]).await?;
        let Some((item, until, poll_at, due_at)): Option<(String, i64, Option<i64>, i64)> = times
        else {
            return Ok(false);
        };
        let before = Times {
            until,
            poll_at,
            due_at,
        };
        let after = before.changed(change);
        let state = change.state.as_ref().filter(|state| !state.is_null());
        let progress = change.progress.as_ref();
        let changed = values![
            id,
            after.until,
            after.poll_at,
            after.due_at,
            i64::from(change.state.is_some()),
            item,
            state.map(ToString::to_string),
            progress.map(|progress| progress.note.as_str()),
            progress.map(|progress| progress.at)
        ];
        transaction.execute(KEEP_WAITING, changed).await?;
        transaction.commit().await?;
        self.changes.send_replace(());
        Ok(true)
    }

    async fn due(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<DueCalls, StoreError> {
        self.due_calls(now, lease, limit).await
    }

    async fn waiting_calls(
        &self,
        filter: &WaitingFilter,
        page: &Page,
    ) -> Result<Paged<WaitingCall>, StoreError> {
        // One job's calls are in order in an index; those of all jobs are merged.
        let is_narrow = filter.batch_id.is_some() || filter.item_id.is_some();
        let jobs: Vec<Option<JobId>> = match &filter.job_id {
            Some(job_id) => vec![Some(job_id.clone())],
            None if is_narrow => vec![None],
            None => self.waiting_counts().await?.into_keys().map(Some).collect(),
        };
        let mut ids: BTreeSet<(i64, String)> = BTreeSet::new();
        for job_id in jobs {
            let (sql, values) = listed_ids(job_id.as_ref(), filter, page)?;
            let found: Vec<(i64, String)> = self.database.fetch(&sql, values).await?;
            ids.extend(found);
        }
        let wanted = page.limit as usize + 1;
        let ids: Vec<String> = ids.into_iter().take(wanted).map(|(_, id)| id).collect();
        let mut calls = self.calls(LISTED, &ids).await?;
        // One that is damaged is left out.
        let found = ids.iter().filter_map(|id| calls.remove(id)?.ok()).collect();
        Ok(paged(found, page, |call: &WaitingCall| {
            format!("{}.{}", call.since.timestamp_micros(), call.call_id)
        }))
    }

    async fn waiting_counts(&self) -> Result<BTreeMap<JobId, u64>, StoreError> {
        let counts: Vec<OfJob> = self.database.fetch(COUNTS, values![]).await?;
        let counts = counts
            .into_iter()
            .map(|OfJob(job_id, items)| (job_id, items));
        Ok(counts.collect())
    }
}

impl Store {
    /// Records items that have begun to wait.
    pub(crate) async fn begin(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Result<Committed, StoreError> {
        let begun = self.try_begin(chunk, token, items).await;
        if begun.is_err() {
            self.preferences.forget();
        }
        begun
    }

    async fn try_begin(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Result<Committed, StoreError> {
        let mut transaction = self.database.begin().await?;
        let claim = values![&*chunk.chunk_id, token];
        let claim = transaction.fetch_optional(VALID_CLAIM, claim).await?;
        let Some((own, run, cancelled, _, _, total)): Option<ValidClaim> = claim else {
            return Ok(Committed::default());
        };
        let of_items = items.iter().map(|item| &item.item_id).collect();
        let erased = Erased::since_claim(&mut transaction, chunk, total, of_items).await?;
        let names = items.iter().map(|item| item.item_id.to_string()).collect();
        let known = values![run, Value::Texts(names), own];
        let known: Vec<(String, i64)> = transaction.fetch(KNOWN, known).await?;
        let ended = known.iter().filter(|(_, phase)| *phase == 0);
        let ended: BTreeSet<&str> = ended.map(|(item, _)| item.as_str()).collect();
        let phases = known.iter().filter(|(item, _)| !ended.contains(&**item));
        let (mut waited, mut called) = (0, 0);
        for (_, phase) in phases {
            if *phase == RESUMED {
                called += 1;
            } else {
                waited += 1;
            }
        }
        let begin = |item: &&WaitingItem| {
            !ended.contains(item.item_id.as_str()) && !erased.contains(chunk, &item.item_id)
        };
        let begin: Vec<&WaitingItem> = items.iter().filter(begin).collect();
        let rows = WaitingRows::new(chunk, (own, run), &begin);
        let new_preferences = self
            .preferences
            .insert(&mut transaction, rows.preferences())
            .await?;
        let taken = rows.insert(&mut transaction).await?;
        let mut end = None;
        if taken > 0 {
            let counts = Counts {
                waiting: taken as i64 - waited,
                called: -called,
                ..Counts::of(own)
            };
            let mut ends = add_counts(&mut transaction, &[counts]).await?;
            end = ends.remove(&own).flatten();
        }
        let last = items.iter().map(|item| item.since).max();
        let queued = match last {
            Some(last) => end_claim(&mut transaction, chunk, end, last).await?,
            None => false,
        };
        crash_point!("waiting-before-commit");
        transaction.commit().await?;
        crash_point!("waiting-after-commit");
        self.preferences.remember(new_preferences);
        self.note_ends(queued);
        Ok(Committed {
            taken: taken as usize + erased.len(),
            claimed: true,
            cancelled,
            finished: end.is_some(),
        })
    }

    /// The calls of these ids that wait, by id.
    async fn calls(&self, sql: &str, ids: &[String]) -> Result<Calls, StoreError> {
        if ids.is_empty() {
            return Ok(Calls::new());
        }
        let found = self
            .database
            .fetch(sql, values![Value::Texts(ids.to_vec())]);
        Ok(rows::by_call(found.await?))
    }
}

/// Locks the chunks of calls that wait, in the order of their numbers, and returns them: a call that begins to wait later is of
/// another. `None`: in a file, one transaction writes at a time.
async fn lock_calls(
    connection: &mut Connection<'_>,
    ids: &[String],
) -> Result<Option<BTreeSet<i64>>, StoreError> {
    if !connection.is_shared() {
        return Ok(None);
    }
    let ids = values![Value::Texts(ids.to_vec())];
    let chunks: Vec<i64> = connection.fetch(CHUNKS_OF_CALLS, ids).await?;
    lock_chunks(connection, chunks.clone()).await?;
    Ok(Some(chunks.into_iter().collect()))
}

pub(crate) async fn lock_chunks(
    connection: &mut Connection<'_>,
    mut chunks: Vec<i64>,
) -> Result<(), StoreError> {
    chunks.sort_unstable();
    chunks.dedup();
    if connection.is_shared() && !chunks.is_empty() {
        let chunks = values![chunks.as_slice()];
        connection.fetch::<i64>(LOCK_CHUNKS, chunks).await?;
    }
    Ok(())
}

/// The statement that lists ids of calls that wait, of a job or by the rest of the filter, and its parameters.
pub(crate) fn listed_ids(
    job_id: Option<&JobId>,
    filter: &WaitingFilter,
    page: &Page,
) -> Result<(String, Vec<Value>), StoreError> {
    let mut wanted = Conditions::default()
        .and("w.phase + 0 = 1")
        .given("w.job_id = ?", job_id)
        .given("w.tenant_id = ?", filter.item_id.as_ref())
        .given(
            "w.job_id = (SELECT b.job_id FROM @batches b WHERE b.batch_id = ?)",
            filter.batch_id,
        )
        .given(
            "w.chunk IN (SELECT c.chunk FROM @chunks c WHERE c.batch_id = ?)",
            filter.batch_id,
        );
    if let Some(cursor) = &page.cursor {
        let (since, call_id) = split(cursor)?;
        let call_id: Uuid = call_id.parse().map_err(|_| bad_cursor())?;
        let (since, call_id) = (wanted.parameter(since), wanted.parameter(call_id));
        wanted = wanted.and(&format!("(w.since, w.call_id) > ({since}, {call_id})"));
    }
    let limit = wanted.parameter(page.limit + 1);
    let sql = format!(
        "SELECT DISTINCT w.since, w.call_id FROM @waiting_items w{} ORDER BY w.since, w.call_id LIMIT {limit}",
        wanted.sql()
    );
    Ok((sql, wanted.values()))
}

/// Times of a call that waits, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    until: i64,
    poll_at: Option<i64>,
    due_at: i64,
}

impl Times {
    /// Of a call that is not leased.
    fn new(until: DateTime<Utc>, poll_at: Option<DateTime<Utc>>) -> Self {
        let until = until.timestamp_micros();
        let poll_at = poll_at.map(|at| at.timestamp_micros());
        Self {
            until,
            poll_at,
            due_at: poll_at.map_or(until, |at| at.min(until)),
        }
    }

    /// The same after a change. Where only the deadline changes while its poll is under way, the lease of that stands.
    fn changed(self, change: &WaitingChange) -> Self {
        let instant = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
        if change.until.is_none() && change.poll_at.is_none() {
            return self;
        }
        let until = change.until.unwrap_or_else(|| instant(self.until));
        let poll_at = change.poll_at.unwrap_or_else(|| self.poll_at.map(instant));
        let after = Self::new(until, poll_at);
        let is_polled = self
            .poll_at
            .is_some_and(|at| at <= self.until && at < self.due_at);
        if change.poll_at.is_none() && is_polled {
            let due_at = self.due_at.min(after.until);
            return Self { due_at, ..after };
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_deadline_does_not_end_the_lease_of_a_poll() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let micros = |seconds: i64| seconds * 1_000_000;
        let new = Times::new(at(100), Some(at(10)));
        assert_eq!(new.due_at, micros(10));
        assert_eq!(Times::new(at(5), Some(at(10))).due_at, micros(5));
        let leased = Times {
            due_at: micros(70),
            ..new
        };
        let until = |seconds| WaitingChange {
            until: Some(at(seconds)),
            ..WaitingChange::default()
        };
        assert_eq!(leased.changed(&WaitingChange::default()), leased);
        assert_eq!(leased.changed(&until(300)).due_at, micros(70));
        assert_eq!(leased.changed(&until(50)).due_at, micros(50));
        assert_eq!(new.changed(&until(300)).due_at, micros(10));
        let polled = |next: Option<i64>| WaitingChange {
            poll_at: Some(next.map(at)),
            ..WaitingChange::default()
        };
        assert_eq!(leased.changed(&polled(Some(20))).due_at, micros(20));
        assert_eq!(leased.changed(&polled(None)).due_at, micros(100));
        // The lease of a deadline ends with a new one.
        let overdue = Times {
            due_at: micros(160),
            ..Times::new(at(100), None)
        };
        assert_eq!(overdue.changed(&until(500)).due_at, micros(500));
    }
}
