//! Results of several chunks in one transaction: while one is written, others become ready, and the next takes them all. When the
//! store is the bottleneck, its transactions become few and large; when it is not, each chunk is written at once.
//!
//! Only plain results take part, those that succeeded or had nothing to do. Where anything is out of the ordinary (a result was
//! there before, the store fails), the group is undone, and each of its chunks is committed alone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use punctual_application::{
    crash_point,
    ports::{Committed, StoreError},
};
use punctual_domain::ItemStatus;
use tokio::sync::{Semaphore, oneshot};
use tracing::debug;
use uuid::Uuid;

use crate::{
    Store,
    batch_store::{add_counts, end_batches},
    driver::{Column, Value, values},
    results::ResultRows,
};

/// Results that are written together at most.
const MAX_ROWS: usize = 2_500;
/// Groups that are written at a time where transactions do not exclude each other.
const SHARED_TURNS: usize = 2;

/// The claims on chunks, with their runs, and whether their batches are cancelled.
const CLAIMS: &str = "SELECT c.chunk_id, c.token, c.chunk, c.run, b.status = 'cancelled'
     FROM @texts($1, wanted) CROSS JOIN @chunks c JOIN @batches b ON b.batch_id = c.batch_id
     WHERE c.chunk_id = wanted.value AND c.token IS NOT NULL @for_update(c)";

/// Results of one chunk that wait to be written.
pub(crate) struct Waiting {
    chunk_id: String,
    batch_id: Uuid,
    token: Uuid,
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
        (chunk_id, batch_id, token): (String, Uuid, Uuid),
        rows: ResultRows,
        ended: Option<DateTime<Utc>>,
    ) -> (Self, oneshot::Receiver<Option<Committed>>) {
        let (answer, answered) = oneshot::channel();
        let waiting = Self {
            count: rows.len(),
            nothing_to_do: rows.count(ItemStatus::NothingToDo),
            chunk_id,
            batch_id,
            token,
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
        let claims: Vec<(String, String, i64, i64, bool)> =
            transaction.fetch(CLAIMS, claims).await?;
        let claims: HashMap<(String, String), (i64, i64, bool)> = claims
            .into_iter()
            .map(|(chunk_id, token, own, run, cancelled)| {
                ((chunk_id, token), (own, run, cancelled))
            })
            .collect();
        let claim_of = |one: &Waiting| {
            let claim = claims.get(&(one.chunk_id.clone(), one.token.to_string()));
            claim.copied()
        };
        let mut rows = ResultRows::default();
        let (mut runs, mut chunks) = (Vec::new(), Vec::new());
        let mut counts: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
        for one in &mut *group {
            let Some((own, run, _)) = claim_of(one) else {
                continue;
            };
            let added = one.count;
            runs.extend(std::iter::repeat_n(Some(run), added));
            chunks.extend(std::iter::repeat_n(Some(own), added));
            let (succeeded, nothing_to_do) = counts.entry(own).or_default();
            *succeeded += added - one.nothing_to_do;
            *nothing_to_do += one.nothing_to_do;
            rows.append(mem::take(&mut one.rows));
        }
        let (expected, hashes) = (
            rows.len() as u64,
            self.preferences.insert(&mut transaction, &rows).await?,
        );
        let (runs, chunks) = (Column::Integers(runs), Column::Integers(chunks));
        if rows.insert(&mut transaction, runs, chunks).await? < expected {
            return Ok(None);
        }
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(own, (succeeded, nothing_to_do))| (own, succeeded, 0, 0, nothing_to_do))
            .collect();
        let finished = add_counts(&mut transaction, &counts).await?;
        let mut ended_batches: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
        let committed = group.iter().map(|one| {
            let Some((own, _, cancelled)) = claim_of(one) else {
                return Committed::default();
            };
            let finished = finished.contains(&own);
            if let (true, Some(at)) = (finished, one.ended) {
                let last = ended_batches.entry(one.batch_id).or_insert(at);
                *last = at.max(*last);
            }
            Committed {
                taken: one.count,
                claimed: true,
                cancelled,
                finished,
            }
        });
        let committed: Vec<Committed> = committed.collect();
        let ended_batches = ended_batches.into_iter();
        let ended_batches: Vec<_> = ended_batches.map(|(id, at)| (id.to_string(), at)).collect();
        end_batches(&mut transaction, &ended_batches).await?;
        crash_point!("results-before-commit");
        transaction.commit().await?;
        crash_point!("results-after-commit");
        self.preferences.remember(hashes);
        self.changes.send_replace(());
        Ok(Some(committed))
    }
}
