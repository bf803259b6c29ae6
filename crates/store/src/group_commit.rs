//! Results of several chunks in one transaction: while one is written, others become ready, and the next takes them all. When the
//! store is the bottleneck, its transactions become few and large; when it is not, each chunk is written at once.
//!
//! Only plain results take part, those that succeeded or had nothing to do. Where anything is out of the ordinary (a result was
//! there before, the store fails), the group is undone, and each of its chunks is committed alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{Committed, StoreError},
};
use punctual_domain::{Chunk, ItemStatus};
use tokio::sync::{Semaphore, oneshot};
use tracing::debug;
use uuid::Uuid;

use crate::{
    Store,
    batch_store::{ClaimEnd, Counts, add_counts, end_batches, remove_waiting},
    driver::{Announcement, Column, Connection, Value, values},
    results::ResultRows,
};

/// Results that are written together at most.
const MAX_ROWS: usize = 2_500;
/// Groups that are written at a time where transactions do not exclude each other.
const SHARED_TURNS: usize = 2;

/// The claims on chunks, with their runs, whether their batches are cancelled, whether items of them wait or have waited, and how many
/// they have. The chunks are locked in the order of their numbers, as others lock several.
const CLAIMS: &str = "SELECT c.chunk_id, c.token, c.chunk, c.run, b.status = 'cancelled', c.waiting + c.resumed + c.called > 0,
         coalesce(c.total, 0)
     FROM @texts($1, wanted) CROSS JOIN @chunks c JOIN @batches b ON b.batch_id = c.batch_id
     WHERE c.chunk_id = wanted.value AND c.token IS NOT NULL ORDER BY c.chunk @for_update(c)";

/// A claim: the number of its chunk, the run, whether the batch is cancelled, whether items wait or have waited, and the number of
/// items.
type StandingClaim = (i64, i64, bool, bool, i64);

/// Results of one chunk that wait to be written.
pub(crate) struct Waiting {
    chunk_id: String,
    batch_id: Uuid,
    token: Uuid,
    /// Number of items of the chunk, as it was claimed.
    items: i64,
    rows: ResultRows,
    /// Number of the rows.
    count: usize,
    /// How many of them had nothing to do.
    nothing_to_do: usize,
    /// When the last of them ended.
    ended: Option<DateTime<Utc>>,
    /// `None`: it has to be committed alone.
    answer: oneshot::Sender<Option<Committed>>,
}

impl Waiting {
    /// Results to be written, and what tells how it went.
    pub(crate) fn new(
        chunk: &Chunk,
        token: Uuid,
        rows: ResultRows,
        ended: Option<DateTime<Utc>>,
    ) -> (Self, oneshot::Receiver<Option<Committed>>) {
        let (answer, answered) = oneshot::channel();
        let waiting = Self {
            count: rows.len(),
            nothing_to_do: rows.count(ItemStatus::NothingToDo),
            chunk_id: chunk.chunk_id.clone(),
            batch_id: chunk.batch_id,
            token,
            items: chunk.items.len() as i64,
            rows,
            ended,
            answer,
        };
        (waiting, answered)
    }
}

/// What waits, and who writes.
#[derive(Clone)]
pub(crate) struct GroupCommit {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    turns: Arc<Semaphore>,
}

impl std::fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCommit").finish_non_exhaustive()
    }
}

impl GroupCommit {
    pub(crate) fn new(is_shared: bool) -> Self {
        let turns = if is_shared { SHARED_TURNS } else { 1 };
        Self {
            waiting: Arc::default(),
            turns: Arc::new(Semaphore::new(turns)),
        }
    }

    /// The next group.
    fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut group, mut rows) = (Vec::new(), 0);
        while let Some(next) = waiting.pop_front() {
            rows += next.count;
            if rows > MAX_ROWS && !group.is_empty() {
                waiting.push_front(next);
                break;
            }
            group.push(next);
        }
        group
    }
}

impl Store {
    /// Commits results with those of other chunks. `None`: they have to be committed alone.
    pub(crate) async fn commit_in_group(
        &self,
        waiting: Waiting,
        mut answered: oneshot::Receiver<Option<Committed>>,
    ) -> Option<Committed> {
        let group_commit = &self.group_commit;
        group_commit
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(waiting);
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answered => return answer.ok().flatten(),
                turn = group_commit.turns.clone().acquire_owned() => turn.ok()?,
            };
            let group = group_commit.next();
            if group.is_empty() {
                // A group that is being written has it.
                drop(turn);
                return answered.await.ok().flatten();
            }
            let store = self.clone();
            // A caller that is dropped meanwhile takes nothing from the others of its group.
            tokio::spawn(async move {
                store.commit_group(group).await;
                drop(turn);
            });
        }
    }

    async fn commit_group(&self, mut group: Vec<Waiting>) {
        let committed = match self.try_commit_group(&mut group).await {
            Ok(committed) => committed,
            Err(error) => {
                // A database that has failed may have lost what was stored last.
                self.preferences.forget();
                debug!(%error, "Failed to commit a group of chunks, committing each alone: {error}");
                None
            }
        };
        let mut committed = committed.unwrap_or_default().into_iter();
        for waiting in group {
            // The caller may be gone.
            let _ = waiting.answer.send(committed.next());
        }
    }

    /// Commits a group as a whole; `None`: not all of its results can be taken.
    async fn try_commit_group(
        &self,
        group: &mut [Waiting],
    ) -> Result<Option<Vec<Committed>>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let chunk_ids = group.iter().map(|one| one.chunk_id.clone()).collect();
        let claims = values![Value::Texts(chunk_ids)];
        let claims: Vec<(String, String, i64, i64, bool, bool, i64)> =
            transaction.fetch(CLAIMS, claims).await?;
        let claims: HashMap<(String, String), StandingClaim> = claims
            .into_iter()
            .map(
                |(chunk_id, token, own, run, cancelled, has_waited, total)| {
                    ((chunk_id, token), (own, run, cancelled, has_waited, total))
                },
            )
            .collect();
        let claim_of = |one: &Waiting| {
            let claim = claims.get(&(one.chunk_id.clone(), one.token.to_string()));
            claim.copied()
        };
        let has_lost = |one: &Waiting| claim_of(one).is_some_and(|claim| claim.4 < one.items);
        if group.iter().any(has_lost) {
            // Items of a chunk were erased after it was claimed.
            return Ok(None);
        }
        let mut rows = ResultRows::default();
        let (mut runs, mut chunks) = (Vec::new(), Vec::new());
        let mut counts: BTreeMap<i64, Counts> = BTreeMap::new();
        let mut waited = Waited::default();
        for one in &mut *group {
            let Some((own, run, _, has_waited, _)) = claim_of(one) else {
                continue;
            };
            if has_waited {
                waited.add(own, run, &one.rows);
            }
            let added = one.count;
            runs.extend(std::iter::repeat_n(Some(run), added));
            chunks.extend(std::iter::repeat_n(Some(own), added));
            let of_chunk = counts.entry(own).or_insert_with(|| Counts::of(own));
            of_chunk.succeeded += (added - one.nothing_to_do) as i64;
            of_chunk.nothing_to_do += one.nothing_to_do as i64;
            rows.append(mem::take(&mut one.rows));
        }
        for (own, removed) in waited.remove(&mut transaction).await? {
            let of_chunk = counts.entry(own).or_insert_with(|| Counts::of(own));
            (of_chunk.waiting, of_chunk.called) = (removed.waiting, removed.called);
        }
        let (expected, hashes) = (
            rows.len() as u64,
            self.preferences.insert(&mut transaction, &rows).await?,
        );
        let (runs, chunks) = (Column::Integers(runs), Column::Integers(chunks));
        if rows.insert(&mut transaction, runs, chunks).await? < expected {
            return Ok(None);
        }
        let counts: Vec<Counts> = counts.into_values().collect();
        let ends = add_counts(&mut transaction, &counts).await?;
        let mut ended_batches: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
        let mut parked: BTreeSet<(String, String)> = BTreeSet::new();
        let committed = group.iter().map(|one| {
            let Some((own, _, cancelled, ..)) = claim_of(one) else {
                return Committed::default();
            };
            let end = ends.get(&own).copied().flatten();
            if let (Some(ClaimEnd::Over), Some(at)) = (end, one.ended) {
                let last = ended_batches.entry(one.batch_id).or_insert(at);
                *last = at.max(*last);
            }
            if end == Some(ClaimEnd::Parked) {
                parked.insert((one.chunk_id.clone(), one.batch_id.to_string()));
            }
            Committed {
                taken: one.count,
                claimed: true,
                cancelled,
                finished: end.is_some(),
            }
        });
        let committed: Vec<Committed> = committed.collect();
        let ended_batches = ended_batches.into_iter();
        let ended_batches: Vec<_> = ended_batches.map(|(id, at)| (id.to_string(), at)).collect();
        let parked: Vec<(String, String)> = parked.into_iter().collect();
        let mut queued = end_batches(&mut transaction, &ended_batches, &parked).await?;
        queued |= ends.values().any(|end| *end == Some(ClaimEnd::Queued));
        if queued {
            transaction.announce(Announcement::Chunks).await?;
        }
        crash_point!("results-before-commit");
        transaction.commit().await?;
        crash_point!("results-after-commit");
        self.preferences.remember(hashes);
        self.note_ends(queued);
        Ok(Some(committed))
    }
}

/// Items that have ended, of chunks of which items wait or have waited.
#[derive(Default)]
struct Waited {
    runs: Vec<i64>,
    items: Vec<String>,
    chunks: Vec<i64>,
}

impl Waited {
    fn add(&mut self, chunk: i64, run: i64, rows: &ResultRows) {
        self.runs.push(run);
        self.chunks.push(chunk);
        self.items.extend(rows.items().cloned());
    }

    /// Removes their rows. Returns what that changes about the counts of their chunks.
    async fn remove(
        self,
        connection: &mut Connection<'_>,
    ) -> Result<HashMap<i64, Counts>, StoreError> {
        if self.chunks.is_empty() {
            return Ok(HashMap::new());
        }
        remove_waiting(connection, &self.runs, self.items, &self.chunks).await
    }
}
