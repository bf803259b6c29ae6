//! The port `BatchReader`: what is stored, page by page.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use punctual_application::ports::{
    BatchFilter, BatchReader, DeadLetterFilter, Page, Paged, ResultFilter, StoreError,
    StoreErrorKind, StoredResult, TenantRuns,
};
use punctual_domain::{
    Batch, BatchStatus, DeadLetter, DeadLetterState, FailureKind, ItemId, ItemStatus, JobId,
    Occurrence,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    Store,
    claims::Items,
    conditions::Conditions,
    driver::{FromRow, Row, Value, values},
    errors::failed,
    results::{Numbered, result_columns, status_number},
};

/// A batch as it stands: while it is not over, what its chunks say.
pub(crate) const BATCHES: &str = "SELECT b.batch_id, b.job_id, b.slot, b.scheduled_at, b.trigger, b.status, b.total,
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.succeeded) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.succeeded END AS BIGINT),
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.failed) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.failed END AS BIGINT),
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.skipped + c.superseded) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.skipped END AS BIGINT),
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.nothing_to_do) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE b.nothing_to_do END AS BIGINT),
     CAST(CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.waiting) FROM @chunks c
         WHERE c.batch_id = b.batch_id), 0) ELSE 0 END AS BIGINT),
     b.created_at, b.finished_at,
     coalesce((SELECT r.letters FROM @replayed_letters r WHERE r.batch_id = b.batch_id), 0)
     FROM @batches b";

impl FromRow for Batch {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            batch_id: row.parse()?,
            job_id: row.parse()?,
            slot: row.next()?,
            scheduled_at: row.next()?,
            trigger: row.parse()?,
            status: row.parse()?,
            total: row.next()?,
            succeeded: row.next()?,
            failed: row.next()?,
            skipped: row.next()?,
            nothing_to_do: row.next()?,
            waiting: row.next()?,
            created_at: row.next()?,
            finished_at: row.next()?,
            replayed: row.next()?,
        })
    }
}

/// Results of a chunk, of these items.
const RESULTS_OF_ITEMS: &str = concat!(
    result_columns!(),
    " FROM @results r JOIN @runs n ON n.run = r.run JOIN @chunks c ON c.chunk = r.chunk
      JOIN @batches b ON b.batch_id = c.batch_id LEFT JOIN @preferences p ON p.hash = r.preference
      WHERE r.run = $1 AND @in_texts(r.tenant_id, $2) AND r.chunk = $3
        AND ($4 IS NULL OR r.status = $4 OR $4 = 2 AND r.status = 4)"
);

/// What a result of an item that waits is read from: with columns more than others.
macro_rules! waiting_columns {
    () => {
        "SELECT r.chunk, r.job_id, c.batch_id, c.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
             'waiting', NULL, r.attempts + r.of_first, p.content, NULL, NULL, r.started_at, NULL,
             r.since, r.until, r.note, r.noted_at
         FROM @waiting_items r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
         LEFT JOIN @preferences p ON p.hash = r.preference"
    };
}

/// Those of these items of a chunk that wait.
const WAITING_OF_ITEMS: &str = concat!(
    waiting_columns!(),
    " WHERE r.run = $1 AND @in_texts(r.tenant_id, $2) AND r.chunk = $3 AND r.phase + 0 < 3"
);

/// Items that one statement looks up.
const ITEMS_PER_QUERY: usize = 1_000;

const MESSAGE: &str = "SELECT message FROM @chunk_messages WHERE chunk = $1";

macro_rules! skipped_columns {
    () => {
        "SELECT r.chunk, r.job_id, b.batch_id, r.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
             'skipped', NULL, 0, NULL, NULL, r.reason, r.at, r.at
         FROM @skipped_items r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id"
    };
}

const SKIPPED_OF_CHUNK: &str = concat!(
    skipped_columns!(),
    " WHERE c.chunk = $1 AND @bytes(r.tenant_id) > $2 ORDER BY @bytes(r.tenant_id) LIMIT $3"
);

/// The chunks of a batch that have results, what was skipped, or what waits, from one on.
const CHUNKS_OF_BATCH: &str = "SELECT chunk, run, succeeded + failed + nothing_to_do > 0, skipped > 0, waiting > 0 FROM @chunks
     WHERE batch_id = $1 AND chunk >= $2 AND CASE $3 WHEN 'succeeded' THEN succeeded WHEN 'failed' THEN failed
         WHEN 'skipped' THEN skipped WHEN 'nothing_to_do' THEN nothing_to_do
         WHEN 'waiting' THEN waiting ELSE succeeded + failed + skipped + nothing_to_do + waiting END > 0
     ORDER BY chunk LIMIT $4";

/// Chunks that are looked up at once.
const CHUNKS_PER_QUERY: usize = 16;

/// How many the newest batches from an instant back are, of one job or of all, and when the oldest and the newest of them fell
/// due.
macro_rules! newest_batches {
    ($of_job:literal) => {
        concat!(
            "SELECT count(*), coalesce(min(scheduled_at), 0), coalesce(max(scheduled_at), 0)
             FROM (SELECT scheduled_at FROM @batches WHERE scheduled_at <= $1 AND ",
            $of_job,
            " ORDER BY scheduled_at DESC LIMIT $3) newest"
        )
    };
}

/// The results of a tenant in batches that fell due from `$2` to `$1`: each of their runs is looked up, of which batches of many
/// times of day share one.
const RUNS_OF_TENANT: &str = concat!(
    result_columns!(),
    " FROM (SELECT DISTINCT run FROM @batches
            WHERE scheduled_at <= $1 AND scheduled_at >= $2 AND ($3 IS NULL OR job_id = $3) AND trigger <> 'prepare') w
      CROSS JOIN @results r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
      JOIN @runs n ON n.run = r.run LEFT JOIN @preferences p ON p.hash = r.preference
      WHERE r.run = w.run AND r.tenant_id = $4 AND b.scheduled_at >= $2
        AND (b.scheduled_at, r.chunk) < ($1, $5)
      ORDER BY b.scheduled_at DESC, r.chunk DESC LIMIT $6"
);

const SKIPPED_OF_TENANT: &str = concat!(
    skipped_columns!(),
    " WHERE r.tenant_id = $4 AND b.scheduled_at >= $2 AND (b.scheduled_at, r.chunk) < ($1, $5)
        AND ($3 IS NULL OR r.job_id = $3) AND b.trigger <> 'prepare' ORDER BY b.scheduled_at DESC, r.chunk DESC LIMIT $6"
);

const WAITING_OF_TENANT: &str = concat!(
    waiting_columns!(),
    " WHERE r.tenant_id = $4 AND r.phase + 0 < 3 AND b.scheduled_at >= $2 AND (b.scheduled_at, r.chunk) < ($1, $5)
        AND ($3 IS NULL OR r.job_id = $3) AND b.trigger <> 'prepare' ORDER BY b.scheduled_at DESC, r.chunk DESC LIMIT $6"
);

/// Batches that one statement looks through for runs of a tenant.
const BATCHES_PER_QUERY: i64 = 20_000;

/// What chunks in work have noted as running, and that has not ended and does not wait.
const RUNNING_ITEMS: &str =
    "SELECT r.chunk, r.job_id, b.batch_id, r.occurrence, b.scheduled_at, b.key_form, r.tenant_id,
     'running', NULL, 0, NULL, NULL, NULL, r.started_at, NULL
     FROM @running_items r JOIN @chunks c ON c.chunk = r.chunk AND c.token = r.token
     JOIN @batches b ON b.batch_id = c.batch_id
     WHERE r.tenant_id = $1 AND ($2 IS NULL OR r.job_id = $2)
       AND NOT EXISTS (SELECT 1 FROM @results e WHERE e.run = c.run AND e.tenant_id = r.tenant_id
                       AND e.chunk = r.chunk)
       AND NOT EXISTS (SELECT 1 FROM @waiting_items w WHERE w.run = c.run AND w.tenant_id = r.tenant_id AND w.phase < 3)";

/// The number of a run, how many items its batches have, and whether items of it wait or have waited.
const SIZE_OF_RUN: &str = "SELECT n.run, CAST(coalesce((SELECT sum(b.total) FROM @batches b WHERE b.run = n.run), 0) AS BIGINT),
         EXISTS (SELECT 1 FROM @waiting_items w WHERE w.run = n.run)
     FROM @runs n WHERE n.job_id = $1 AND n.occurrence = $2";

const RUNNING_OF_RUN: &str =
    "SELECT n.tenant_id FROM @running_items n JOIN @chunks c ON c.chunk = n.chunk AND c.token = n.token
     WHERE n.job_id = $1 AND n.occurrence = $2";

const ENDED_OF_RUN: &str = "SELECT @json_list(tenant_id) FROM @results WHERE run = $1";

const ENDED_ITEMS: &str =
    "SELECT tenant_id FROM @results WHERE run = $1 AND @in_texts(tenant_id, $2)";

/// What waits has begun, and what is to be called again, too.
const WAITING_OF_RUN: &str =
    "SELECT w.tenant_id FROM @waiting_items w WHERE w.run = $1 AND @in_texts(w.tenant_id, $2)";

/// A run is read as a whole when it has at most this many times as many items as are looked for: to find one by its name takes
/// longer than to read the next one.
const WHOLE_RUN_RATIO: i64 = 3;

const DEAD_LETTERS: &str = "SELECT id, job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, failure_kind, reason,
            failed_at, state, settled_at,
            coalesce((SELECT b.key_form FROM @batches b WHERE b.batch_id = d.batch_id), 'colons')
     FROM @dead_letters d";

pub(crate) const DEAD_LETTER_COUNT: &str = "SELECT count(*) FROM @dead_letters";

impl FromRow for DeadLetter {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.next()?,
            job_id: row.parse()?,
            item_id: row.parse()?,
            occurrence: row.parse()?,
            batch_id: row.parse()?,
            scheduled_at: row.next()?,
            attempts: row.next()?,
            failure_kind: row.parse()?,
            reason: row.next()?,
            failed_at: row.next()?,
            state: row.parse()?,
            settled_at: row.next()?,
            key_form: row.parse()?,
        })
    }
}

#[async_trait]
impl BatchReader for Store {
    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    async fn batches(&self, filter: &BatchFilter, page: &Page) -> Result<Paged<Batch>, StoreError> {
        let (before, batch_id) = match &page.cursor {
            None => (i64::MAX, String::new()),
            Some(cursor) => {
                let (before, batch_id) = split(cursor)?;
                let batch_id: Uuid = batch_id.parse().map_err(|_| bad_cursor())?;
                (before, batch_id.to_string())
            }
        };
        let job_id = filter.job_id.as_ref().map(JobId::as_str);
        let status = filter.status.map(BatchStatus::as_str);
        // Each has an index, which a condition for both cases would not use.
        let of_job = job_id.map_or("$3 IS NULL", |_| "b.job_id = $3");
        let in_status = status.map_or("$4 IS NULL", |_| "b.status = $4");
        let sql = format!(
            "{BATCHES} WHERE (b.scheduled_at, b.batch_id) < ($1, $2) AND {of_job} AND {in_status}
             ORDER BY b.scheduled_at DESC, b.batch_id DESC LIMIT $5"
        );
        let wanted = values![before, batch_id, job_id, status, page.limit + 1];
        let batches: Vec<Batch> = self.database.fetch(&sql, wanted).await?;
        Ok(paged(batches, page, |batch| {
            format!(
                "{}.{}",
                batch.scheduled_at.timestamp_micros(),
                batch.batch_id
            )
        }))
    }

    async fn batch(&self, batch_id: Uuid) -> Result<Option<Batch>, StoreError> {
        let sql = format!("{BATCHES} WHERE b.batch_id = $1");
        self.database.fetch_optional(&sql, values![batch_id]).await
    }

    async fn results(
        &self,
        filter: &ResultFilter,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError> {
        let (chunk, tenant) = match &page.cursor {
            None => (i64::MIN, String::new()),
            Some(cursor) => {
                let (chunk, tenant) = split(cursor)?;
                let tenant = ItemId::new(tenant).map_err(|_| bad_cursor())?;
                (chunk, tenant.to_string())
            }
        };
        let status = filter.status;
        let mut results: Vec<Numbered> = Vec::new();
        let mut from = chunk;
        while results.len() <= page.limit as usize {
            let status_word = status.map(ItemStatus::as_str);
            let next = values![filter.batch_id, from, status_word, CHUNKS_PER_QUERY];
            let chunks: Vec<(i64, Option<i64>, bool, bool, bool)> =
                self.database.fetch(CHUNKS_OF_BATCH, next).await?;
            let Some((last, ..)) = chunks.last() else {
                break;
            };
            from = last + 1;
            for (number, run, has_results, has_skipped, has_waiting) in chunks {
                if results.len() > page.limit as usize {
                    break;
                }
                let after = if number == chunk { &*tenant } else { "" };
                let of_chunk = (number, run);
                let wanted = page.limit as usize + 1;
                let ended = match status {
                    Some(ItemStatus::Skipped | ItemStatus::Waiting) => false,
                    _ => has_results,
                };
                let waits = has_waiting && status.is_none_or(|one| one == ItemStatus::Waiting);
                if ended || waits {
                    let status = status.map(status_number);
                    let which = (ended, waits);
                    let found = self.results_of_chunk(of_chunk, after, which, status, wanted);
                    results.extend(found.await?);
                }
                if has_skipped && status.is_none_or(|status| status == ItemStatus::Skipped) {
                    let wanted = values![number, after, page.limit + 1];
                    results.extend(self.database.fetch(SKIPPED_OF_CHUNK, wanted).await?);
                }
            }
        }
        results.sort_by(|Numbered(chunk, a), Numbered(other, b)| {
            (chunk, a.result.item_id.as_str()).cmp(&(other, b.result.item_id.as_str()))
        });
        let (results, next) = paged(results, page, |Numbered(chunk, stored)| {
            format!("{chunk}.{}", stored.result.item_id)
        });
        Ok((results.into_iter().map(|one| one.1).collect(), next))
    }

    async fn tenant_runs(
        &self,
        filter: &TenantRuns,
        page: &Page,
    ) -> Result<Paged<StoredResult>, StoreError> {
        let (tenant, job_id) = (&filter.item_id, filter.job_id.as_ref().map(JobId::as_str));
        let earliest = filter
            .since
            .map_or(i64::MIN, |since| since.timestamp_micros());
        let mut runs: Vec<Numbered> = Vec::new();
        let (before, chunk) = match &page.cursor {
            None => {
                let running = self.database.fetch(RUNNING_ITEMS, values![tenant, job_id]);
                runs = running.await?;
                runs.retain(|Numbered(_, stored)| {
                    stored.scheduled_at.timestamp_micros() >= earliest
                });
                (i64::MAX, i64::MAX)
            }
            Some(cursor) => {
                let (before, chunk) = split(cursor)?;
                (before, chunk.parse::<i64>().map_err(|_| bad_cursor())?)
            }
        };
        let newest = if job_id.is_some() {
            newest_batches!("job_id = $2")
        } else {
            newest_batches!("$2 IS NULL")
        };
        let (mut before, mut chunk) = (before, chunk);
        loop {
            let batches = values![before, job_id, BATCHES_PER_QUERY];
            let found: Option<(i64, i64, i64)> =
                self.database.fetch_optional(newest, batches).await?;
            let (count, oldest, latest) = found.unwrap_or_default();
            // What fell due at the oldest instant may be cut in the middle: the next look begins with it.
            let cut = count == BATCHES_PER_QUERY && latest > oldest && oldest >= earliest;
            let since = if cut { oldest + 1 } else { earliest };
            for statement in [RUNS_OF_TENANT, SKIPPED_OF_TENANT, WAITING_OF_TENANT] {
                let wanted = values![before, since, job_id, tenant, chunk, page.limit + 1];
                runs.extend(self.database.fetch(statement, wanted).await?);
            }
            if !cut || runs.len() > page.limit as usize {
                break;
            }
            (before, chunk) = (oldest, i64::MAX);
        }
        runs.sort_by_key(|Numbered(chunk, stored)| {
            std::cmp::Reverse((stored.scheduled_at, *chunk))
        });
        let (runs, next) = paged(runs, page, |Numbered(chunk, stored)| {
            format!("{}.{chunk}", stored.scheduled_at.timestamp_micros())
        });
        Ok((runs.into_iter().map(|one| one.1).collect(), next))
    }

    async fn started_items(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        tenants: &[ItemId],
    ) -> Result<BTreeSet<ItemId>, StoreError> {
        let of_run = || values![job_id, occurrence.to_string()];
        let run = self.database.fetch_optional(SIZE_OF_RUN, of_run());
        let run: Option<(i64, i64, bool)> = run.await?;
        let mut found: Vec<String> = self.database.fetch(RUNNING_OF_RUN, of_run()).await?;
        if let Some((run, _, true)) = run {
            let waiting = self.database.fetch(WAITING_OF_RUN, values![run, tenants]);
            found.extend::<Vec<String>>(waiting.await?);
        }
        let mut whole: Option<String> = None;
        match run {
            None => {}
            Some((run, size, _)) if size <= WHOLE_RUN_RATIO * tenants.len() as i64 => {
                let ended = self.database.fetch_optional(ENDED_OF_RUN, values![run]);
                whole = ended.await?;
            }
            Some((run, ..)) => {
                let ended = self.database.fetch(ENDED_ITEMS, values![run, tenants]);
                found.extend::<Vec<String>>(ended.await?);
            }
        }
        // Names need no escaping, so none is copied.
        let mut started: HashSet<&str> = match &whole {
            Some(list) => serde_json::from_str(list).map_err(failed)?,
            None => HashSet::new(),
        };
        started.extend(found.iter().map(String::as_str));
        let is_started = |id: &&ItemId| started.contains(id.as_str());
        let left: Vec<&ItemId> = tenants.iter().filter(|id| !is_started(id)).collect();
        let erased = self.erased_items(job_id, occurrence, &left).await?;
        let wanted = tenants
            .iter()
            .filter(|id| is_started(id) || erased.contains(*id));
        Ok(wanted.cloned().collect())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Paged<DeadLetter>, StoreError> {
        let mut wanted = wanted_letters(filter).with("id < ?", before(page)?);
        let limit = wanted.parameter(page.limit + 1);
        let sql = format!(
            "{DEAD_LETTERS}{} ORDER BY id DESC LIMIT {limit}",
            wanted.sql()
        );
        let letters: Vec<DeadLetter> = self.database.fetch(&sql, wanted.values()).await?;
        Ok(paged(letters, page, |letter| letter.id.to_string()))
    }

    async fn dead_letter_count(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let wanted = wanted_letters(filter);
        let sql = format!("{DEAD_LETTER_COUNT}{}", wanted.sql());
        let count = self.database.fetch_optional(&sql, wanted.values());
        Ok(count.await?.unwrap_or_default())
    }
}

pub(crate) fn wanted_letters(filter: &DeadLetterFilter) -> Conditions {
    let ids = filter.ids.as_ref();
    let ids = ids.map(|ids| Value::Integers(ids.iter().copied().collect()));
    let wanted = Conditions::default()
        .given("job_id = ?", filter.job_id.as_ref())
        .given("tenant_id = ?", filter.item_id.as_ref())
        .given(
            "failure_kind = ?",
            filter.failure_kind.map(FailureKind::as_str),
        )
        .given("id <= ?", filter.up_to)
        .given("@in_integers(id, ?)", ids)
        .given("settled_at = ?", filter.settled_at)
        .given("reopened_at = ?", filter.reopened_at);
    // What is selected by a job is looked through as a whole, rather than what was discarded since then of all jobs.
    let settled_after = match filter.job_id {
        Some(_) => "settled_at + 0 > ?",
        None => "settled_at > ?",
    };
    let wanted = wanted.given(settled_after, filter.settled_after);
    match filter.state.map(DeadLetterState::as_str) {
        // A tenant or named ones are few, and those in a state are not: their index is not to be used.
        Some(state) if filter.item_id.is_some() || filter.ids.is_some() => {
            wanted.and(&format!("state || '' = '{state}'"))
        }
        // The state itself and no parameter: the indexes of those that are open or discarded are found by it.
        Some(state) => wanted.and(&format!("state = '{state}'")),
        None => wanted,
    }
}

impl Store {
    /// Results of a chunk, of what has ended (in this status or in any) and of what waits, as is asked for, from an item on: at
    /// least `wanted`, if there are as many. Its message says what to look up.
    async fn results_of_chunk(
        &self,
        (chunk, run): (i64, Option<i64>),
        after: &str,
        (ended, waits): (bool, bool),
        status: Option<i64>,
        wanted: usize,
    ) -> Result<Vec<Numbered>, StoreError> {
        let message: Option<String> = self
            .database
            .fetch_optional(MESSAGE, values![chunk])
            .await?;
        let message = message.unwrap_or_default();
        let items: Items<'_> = serde_json::from_str(&message).map_err(failed)?;
        let mut items: Vec<&str> = items
            .items
            .into_iter()
            .filter(|item| *item > after)
            .collect();
        items.sort_unstable();
        let mut found = Vec::new();
        for some in items.chunks(ITEMS_PER_QUERY) {
            let some = Value::Texts(some.iter().map(ToString::to_string).collect());
            let mut waiting: Vec<Numbered> = Vec::new();
            if waits {
                let items = values![run, some.clone(), chunk];
                waiting = self.database.fetch(WAITING_OF_ITEMS, items).await?;
            }
            if ended {
                let results = values![run, some, chunk, status];
                let mut results: Vec<Numbered> =
                    self.database.fetch(RESULTS_OF_ITEMS, results).await?;
                // What a replay runs again waits, and its failure stands beside it.
                let waiting: HashSet<&ItemId> =
                    waiting.iter().map(|one| &one.1.result.item_id).collect();
                results.retain(|one| !waiting.contains(&one.1.result.item_id));
                found.extend(results);
            }
            found.extend(waiting);
            if found.len() >= wanted {
                break;
            }
        }
        Ok(found)
    }
}

/// The number that a cursor of a list by number says: entries before it are wanted.
pub(crate) fn before(page: &Page) -> Result<i64, StoreError> {
    match &page.cursor {
        None => Ok(i64::MAX),
        Some(cursor) => cursor.parse().map_err(|_| bad_cursor()),
    }
}

pub(crate) fn bad_cursor() -> StoreError {
    StoreError::new(
        StoreErrorKind::InvalidCursor,
        "invalid cursor; pass the `next_cursor` of the previous page",
    )
}

/// A cursor of a number and an id, in characters that need no escaping in a URL.
pub(crate) fn split(cursor: &str) -> Result<(i64, &str), StoreError> {
    let (number, id) = cursor.split_once('.').ok_or_else(bad_cursor)?;
    Ok((number.parse().map_err(|_| bad_cursor())?, id))
}

/// Cuts the one entry too many that tells whether there is a next page.
pub(crate) fn paged<T>(
    mut entries: Vec<T>,
    page: &Page,
    cursor: impl Fn(&T) -> String,
) -> Paged<T> {
    let more = entries.len() > page.limit as usize;
    entries.truncate(page.limit as usize);
    let next = entries.last().filter(|_| more).map(cursor);
    (entries, next)
}
