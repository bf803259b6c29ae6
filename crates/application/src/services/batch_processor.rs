//! The plain processor: runs the items of one chunk and commits their results in groups. A chunk may be
//! delivered more than once; its items are claimed first, so what is done is not done again.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, stream};
use punctual_domain::{
    Chunk, Completion, FailureKind, Item, ItemId, ItemResult, ItemStatus, JobId, Occurrence,
    Outcome, Previous, PurposeId,
};
use tokio::sync::watch;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    handlers::Handlers,
    waiting::{accepted, resumed},
};
use crate::ports::{
    Attempts, BatchStore, Claim, Claimant, Clock, Committed, ConfigDatabaseError, HandlerError,
    ItemSourceError, NewPrepared, PreparedOutput, PreparedState, RETRY_CHUNK_AFTER, Stage,
    StoreError, StoreErrorKind, WaitingItem,
};

/// How many results are committed together at most, and how long the first of them may wait.
const COMMIT_GROUP_SIZE: usize = 500;
const COMMIT_GROUP_TIMEOUT: Duration = Duration::from_millis(20);

/// Failure to finish a chunk. It goes back to the queue; committed results stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The tenants' preferences cannot be known, so nothing was run.
    #[error("failed to read preferences, no item was run: {0}")]
    Preferences(#[from] ConfigDatabaseError),
    /// The records of a plain job cannot be read.
    #[error("failed to read the items: {0}")]
    Source(#[from] ItemSourceError),
    /// The process is stopping; items that had not begun were left.
    #[error("stopped before every item had begun")]
    Interrupted,
    /// The chunk was given to somebody else meanwhile.
    #[error("another worker has claimed the chunk")]
    Superseded,
    /// Items are left that another chunk has, or that wait until another occurrence of their tenant, or other items of their
    /// organization, have ended, or until their organization has a call left. Contains the outcomes of the others.
    #[error(
        "items wait for other items of the same tenants or organizations, or for calls of their organizations"
    )]
    Waiting(ChunkReport),
    /// A part of Punctual, or of an adapter, panicked.
    #[error("processing panicked; see the log")]
    Panicked,
    /// So much of the batch has failed that the job should be paused.
    #[error("{0}")]
    Failing(String),
}

/// Outcomes of a chunk's items in one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkReport {
    /// Handler succeeded.
    pub succeeded: usize,
    /// Handler failed for good, or the fetch of its tenant's data.
    pub failed: usize,
    /// Number of those whose data could not be fetched.
    pub failed_data: usize,
    /// Handler had nothing to do.
    pub nothing_to_do: usize,
    /// Not run, with a reason.
    pub skipped: usize,
    /// Began to wait: their work goes on elsewhere.
    pub waiting: usize,
}

impl std::ops::AddAssign for ChunkReport {
    fn add_assign(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.failed_data += other.failed_data;
        self.nothing_to_do += other.nothing_to_do;
        self.skipped += other.skipped;
        self.waiting += other.waiting;
    }
}

impl ChunkReport {
    pub(crate) fn ended(self) -> usize {
        self.succeeded + self.failed + self.nothing_to_do + self.skipped
    }

    /// Number of items that this delivery has brought as far as it can.
    fn dealt_with(self) -> usize {
        self.ended() + self.waiting
    }

    pub(crate) fn count(&mut self, results: &[ItemResult]) {
        for result in results {
            self.failed_data += usize::from(result.failure_kind == Some(FailureKind::Data));
            match result.status {
                ItemStatus::Succeeded => self.succeeded += 1,
                ItemStatus::Failed => self.failed += 1,
                ItemStatus::NothingToDo => self.nothing_to_do += 1,
                ItemStatus::Waiting => self.waiting += 1,
                ItemStatus::Skipped | ItemStatus::Running => self.skipped += 1,
            }
        }
    }
}

/// What an item has come to in a delivery.
#[derive(Debug)]
pub(crate) enum ItemEnd {
    /// Its outcome.
    Result(ItemResult),
    /// The items of one call have begun to wait: one, or the recipients of an aggregate. They are stored together, so that a
    /// completion finds all of them.
    Waits(Vec<WaitingItem>),
}

/// A chunk in this delivery.
#[derive(Debug)]
pub(crate) struct Claimed {
    token: Uuid,
    pub(crate) claim: Claim,
    /// Whether the batch is found cancelled.
    cancelled: AtomicBool,
    finished: AtomicBool,
    /// Whether items are left for later.
    waiting: AtomicBool,
    /// Whether results are being stored.
    storing: watch::Sender<bool>,
}

impl Claimed {
    pub(crate) fn new(token: Uuid, claim: Claim) -> Self {
        Self {
            token,
            cancelled: claim.cancelled.into(),
            finished: false.into(),
            waiting: claim.waiting.into(),
            storing: watch::Sender::default(),
            claim,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Notes that an item is left for later.
    pub(crate) fn note_waiting(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// Waits while results are being stored: no item begins meanwhile, so that few are done again when that fails.
    pub(crate) async fn stored(&self) {
        let mut storing = self.storing.subscribe();
        // The sender lives as long as this.
        let _ = storing.wait_for(|storing| !storing).await;
    }

    /// Notes what a commit says about the claim.
    fn note(&self, committed: Committed) {
        self.cancelled
            .fetch_or(committed.cancelled, Ordering::Relaxed);
        self.finished
            .fetch_or(committed.finished, Ordering::Relaxed);
    }
}

/// Runs the items of chunks, each once.
#[derive(Clone)]
pub struct BatchProcessor {
    handlers: Handlers,
    store: Arc<dyn BatchStore>,
    clock: Arc<dyn Clock>,
    /// Drawn once: tells the store one process from another.
    process: Uuid,
}

impl BatchProcessor {
    /// A processor with these handlers, that keeps results in `store`.
    pub fn new(handlers: Handlers, store: Arc<dyn BatchStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            handlers,
            store,
            clock,
            process: Uuid::new_v4(),
        }
    }

    /// Runs `items` of `chunk` one after the other, one attempt each, and commits every result.
    ///
    /// # Errors
    /// [`ProcessError`]; what was committed before stays.
    pub async fn process(
        &self,
        chunk: &Chunk,
        items: Vec<Item>,
    ) -> Result<ChunkReport, ProcessError> {
        let claimed = self.claim(chunk).await?;
        let to_run = items
            .into_iter()
            .filter(|item| claimed.claim.items.contains(&item.item_id));
        let claim = &claimed.claim;
        let begins = &claimed;
        let results = stream::iter(to_run).then(|item| async move {
            begins.stored().await;
            let resumed = resumed(claim, &item.item_id);
            let (attempts, started_at) =
                resumed.unwrap_or_else(|| (Attempts::default(), self.clock.now()));
            Some(self.attempt_once(item, attempts, started_at).await)
        });
        let report = self.commit_all(chunk, &claimed, results).await;
        self.end_claim(chunk, &claimed, report).await
    }

    /// What one attempt at an item comes to, after those in earlier calls.
    async fn attempt_once(
        &self,
        mut item: Item,
        before: Attempts,
        started_at: DateTime<Utc>,
    ) -> ItemEnd {
        let call_id = Uuid::new_v4();
        item.attempt = item.attempt.max(before.made.saturating_add(1));
        item.completion = Some(Completion { call_id, url: None });
        let outcome = self.handlers.attempt(&item).await;
        let since = self.clock.now();
        match accepted(outcome, since) {
            Ok(Outcome::Waiting(waiting)) => ItemEnd::Waits(vec![WaitingItem {
                call_id,
                item_id: item.item_id.clone(),
                purpose_id: item.purpose_id.clone(),
                stage: Stage::Only,
                attempts: Attempts {
                    made: item.attempt,
                    ..before
                },
                preference: item.preference_json(),
                started_at,
                since,
                waiting,
            }]),
            outcome => ItemEnd::Result(self.result(&item, started_at, outcome)),
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    /// Claims what is still to be run of a chunk.
    pub(crate) async fn claim(&self, chunk: &Chunk) -> Result<Claimed, ProcessError> {
        let claimant = Claimant {
            process: self.process,
            token: Uuid::new_v4(),
        };
        let claim = self.store.claim(chunk, claimant, self.clock.now()).await?;
        Ok(Claimed::new(claimant.token, claim))
    }

    /// Records that an item is about to run in isolation.
    pub(crate) async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        item: &ItemId,
    ) -> Result<(), ProcessError> {
        let store = &self.store;
        if store
            .mark_poison_candidate(chunk, claimed.token, item)
            .await?
        {
            Ok(())
        } else {
            Err(ProcessError::Superseded)
        }
    }

    /// The end of a delivery: a chunk that was brought to its end is finished, any other is given back.
    pub(crate) async fn end_claim(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        report: Result<ChunkReport, ProcessError>,
    ) -> Result<ChunkReport, ProcessError> {
        let ended = match report {
            Ok(report) if claimed.finished.load(Ordering::Relaxed) => Ok(report),
            Ok(report) if claimed.waiting.load(Ordering::Relaxed) => {
                Err(ProcessError::Waiting(report))
            }
            Ok(report) if report.dealt_with() >= claimed.claim.items.len() => {
                self.finish(chunk, claimed).await.map(|()| report)
            }
            Ok(_) => Err(ProcessError::Interrupted),
            Err(error) => Err(error),
        };
        let Err(reason) = &ended else {
            return ended;
        };
        let rest_until = match reason {
            ProcessError::Interrupted | ProcessError::Failing(_) => None,
            _ => Some(self.clock.now() + RETRY_CHUNK_AFTER),
        };
        // Where the store cannot be reached, the worker releases it later.
        let released = self.store.release(chunk, claimed.token, rest_until);
        if let Err(error) = released.await {
            debug!(chunk_id = %chunk.chunk_id, %error, "Failed to release chunk {}: {error}", chunk.chunk_id);
        }
        ended
    }

    /// Finishes a chunk of whose claim nothing is left. An item of it that waits may have been queued meanwhile: the chunk is
    /// released for it.
    async fn finish(&self, chunk: &Chunk, claimed: &Claimed) -> Result<(), ProcessError> {
        let (store, token) = (&self.store, claimed.token);
        store.finish(chunk, token, self.clock.now()).await?;
        store.release(chunk, token, None).await?;
        Ok(())
    }

    /// The id that this process claims with.
    pub(crate) fn process_id(&self) -> Uuid {
        self.process
    }

    /// The last successful runs of these items that were due before the chunk.
    pub(crate) async fn previous(
        &self,
        chunk: &Chunk,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, Previous>, ProcessError> {
        let previous = self
            .store
            .previous(&chunk.job_id, chunk.scheduled_at, items);
        Ok(previous.await?)
    }

    /// Keeps what an item's purpose, the first of two, has made of it.
    pub(crate) async fn keep_output(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        item: &Item,
        output: &serde_json::Value,
    ) -> Result<(), ProcessError> {
        let (store, token) = (&self.store, claimed.token);
        let kept = store.keep_output(chunk, token, &item.item_id, &item.purpose_id, output);
        if kept.await? {
            Ok(())
        } else {
            Err(ProcessError::Superseded)
        }
    }

    /// What is kept of these items of what the first of two purposes has made.
    pub(crate) async fn kept_outputs(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        first: &PurposeId,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, serde_json::Value>, ProcessError> {
        let kept = self.store.kept_outputs(chunk, claimed.token, first, items);
        kept.await?.ok_or(ProcessError::Superseded)
    }

    /// Keeps what a chunk that prepares a run has made of an item.
    pub(crate) async fn keep_prepared(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        item: &ItemId,
        prepared: &NewPrepared,
    ) -> Result<(), ProcessError> {
        let (store, token) = (&self.store, claimed.token);
        if store.keep_prepared(chunk, token, item, prepared).await? {
            Ok(())
        } else {
            Err(ProcessError::Superseded)
        }
    }

    /// How far a run has been prepared for these items.
    pub(crate) async fn prepared(
        &self,
        job_id: &JobId,
        run: Occurrence,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedState>, StoreError> {
        self.store.prepared(job_id, run, items).await
    }

    /// The outputs that have been prepared for these items of a chunk.
    pub(crate) async fn take_prepared(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedOutput>, ProcessError> {
        let (store, token) = (&self.store, claimed.token);
        Ok(store.take_prepared(chunk, token, items).await?)
    }

    /// Notes that an item has been running for a while. What prepares a run keeps no run from beginning.
    pub(crate) async fn record_running(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        item: &ItemId,
        began: DateTime<Utc>,
    ) {
        if chunk.prepares.is_some() {
            return;
        }
        let noted = self.store.record_running(chunk, claimed.token, item, began);
        if let Err(error) = noted.await {
            debug!(%item, %error, "Failed to record that the item of {item} is running: {error}");
        }
    }

    /// The result of an item's last attempt.
    pub(crate) fn result(
        &self,
        item: &Item,
        started_at: DateTime<Utc>,
        outcome: Result<Outcome, HandlerError>,
    ) -> ItemResult {
        let failure_kind = outcome.as_ref().err().map(|error| error.failure_kind);
        let (status, output, error) = match outcome {
            Ok(Outcome::Done(output)) => (ItemStatus::Succeeded, Some(output), None),
            Ok(Outcome::NothingToDo(reason)) => (ItemStatus::NothingToDo, None, Some(reason)),
            Ok(Outcome::Waiting(_)) => {
                let message = "its work goes on elsewhere, and an item cannot wait for it here";
                (ItemStatus::Failed, None, Some(message.to_owned()))
            }
            Err(error) => (ItemStatus::Failed, None, Some(error.message)),
        };
        ItemResult {
            item_id: item.item_id.clone(),
            status,
            failure_kind,
            attempts: item.attempt,
            preference: item.preference_json(),
            output,
            error,
            started_at,
            finished_at: Some(self.clock.now()),
            waiting: None,
        }
    }

    /// Commits results and items that begin to wait as they come, in groups. `None` is an item that was not brought to its end.
    ///
    /// Items that have begun go on while a group is committed: they use the store as well, and one that stood still with a
    /// connection of its own would keep the commit waiting. Those that have not begun [wait](Claimed::stored).
    pub(crate) async fn commit_all(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        results: impl Stream<Item = Option<ItemEnd>>,
    ) -> Result<ChunkReport, ProcessError> {
        let mut report = ChunkReport::default();
        let groups = tokio_stream::StreamExt::chunks_timeout(
            results,
            COMMIT_GROUP_SIZE,
            COMMIT_GROUP_TIMEOUT,
        );
        let mut groups = pin!(groups.fuse());
        while let Some(mut ends) = groups.next().await {
            while !ends.is_empty() {
                let group = std::mem::take(&mut ends).into_iter().flatten();
                let mut committed = pin!(self.commit_group(chunk, claimed, group.collect()));
                claimed.storing.send_replace(true);
                report += loop {
                    tokio::select! {
                        biased;
                        committed = &mut committed => break committed?,
                        Some(more) = groups.next() => ends.extend(more),
                    }
                };
                claimed.storing.send_replace(false);
            }
        }
        Ok(report)
    }

    async fn commit_group(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        ends: Vec<ItemEnd>,
    ) -> Result<ChunkReport, ProcessError> {
        let (mut results, mut waits) = (Vec::new(), Vec::new());
        for end in ends {
            match end {
                ItemEnd::Result(result) => results.push(result),
                ItemEnd::Waits(items) => waits.extend(items),
            }
        }
        let mut report = ChunkReport::default();
        // First, so that a completion that comes soon finds them.
        if !waits.is_empty() {
            let begun = self.store.begin_waiting(chunk, claimed.token, &waits);
            let committed = begun.await?;
            unless_dropped(chunk, committed, waits.len())?;
            claimed.note(committed);
            if committed.cancelled && !committed.finished {
                // The next claim skips them.
                claimed.note_waiting();
            }
            report.waiting += waits.len();
        }
        if !results.is_empty() {
            let committed = self.store.commit(chunk, claimed.token, &results).await?;
            unless_dropped(chunk, committed, results.len())?;
            claimed.note(committed);
            report.count(&results);
        }
        Ok(report)
    }
}

/// Whether the store has taken all of what so many items have come to.
fn unless_dropped(chunk: &Chunk, committed: Committed, items: usize) -> Result<(), ProcessError> {
    if !committed.claimed {
        warn!(chunk_id = %chunk.chunk_id, dropped = items,
            "Dropped the results of chunk {}: another worker has claimed it", chunk.chunk_id);
        return Err(ProcessError::Superseded);
    }
    if committed.taken < items {
        let message = "items of the chunk were completed elsewhere after it was claimed";
        return Err(StoreError::new(StoreErrorKind::Conflict, message).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use punctual_domain::{Firing, ItemInput, NewBatch, Priority, Trigger};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ports::{MockPurposeHandler, WorkQueue},
        testing::{FakeStore, ManualClock},
    };

    #[tokio::test(start_paused = true)]
    async fn each_item_runs_once_and_what_is_done_is_not_run_again() {
        let due = "2026-03-01T09:00:00Z".parse().unwrap();
        let job = JobId::new("job").unwrap();
        let ids = ["a", "b"].map(|id| ItemId::new(id).unwrap());
        let occurrence = "2026-03-01".parse().unwrap();
        let slot = "daily 09:00 UTC".to_owned();
        let (trigger, priority) = (Trigger::Schedule, Priority::Low);
        let batch = NewBatch::new(
            &job, priority, slot, due, occurrence, trigger, due, &ids, 10,
        );
        let chunk = batch.chunks[0].clone();
        let store = Arc::new(FakeStore::default());
        let firing = Firing {
            batches: vec![batch],
            positions: vec![],
        };
        store.enqueue(firing, due).await.unwrap();

        let mut handler = MockPurposeHandler::new();
        handler
            .expect_run()
            .times(2)
            .returning(|item| match item.item_id.as_str() {
                "a" => Ok(json!("done").into()),
                _ => Err(HandlerError::retryable(
                    "the plain processor does not try again",
                )),
            });
        let purpose = PurposeId::new("purpose").unwrap();
        let mut handlers = Handlers::default();
        handlers.bind(
            purpose.clone(),
            Arc::new(handler),
            Handlers::DEFAULT_TIMEOUT,
        );
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let processor = BatchProcessor::new(handlers, store, clock);
        let item = |id: &ItemId| Item {
            item_id: id.clone(),
            job_id: job.clone(),
            purpose_id: purpose.clone(),
            batch_id: chunk.batch_id,
            occurrence,
            scheduled_at: due,
            prepares: None,
            input: ItemInput::Record(Value::Null),
            fetched: None,
            previous: None,
            written: None,
            attempt: 1,
            key_form: chunk.key_form,
            completion: None,
        };
        let items = || ids.iter().map(item).collect::<Vec<_>>();
        let report = processor.process(&chunk, items()).await.unwrap();
        assert_eq!((report.succeeded, report.failed), (1, 1));
        assert_eq!(
            processor.process(&chunk, items()).await.unwrap(),
            ChunkReport::default()
        );
    }
}
