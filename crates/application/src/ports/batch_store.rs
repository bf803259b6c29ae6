//! The work itself, as the processor sees it: a chunk is claimed, its results are committed in groups, and it
//! is finished or given back. Every write after the claim carries the claim's token.
//!
//! An implementation answers for "one outcome per job, tenant and occurrence, whatever happens". It is one of four ports
//! of a store; `testing::contract::store` checks them together.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Chunk, ItemId, ItemResult, JobId, Occurrence, Previous, PurposeId};
use serde_json::Value;
use uuid::Uuid;

use super::{Attempts, NewPrepared, PreparedOutput, PreparedState, StoreError, WaitingItem};

/// Keeps who works on what, and the result of every item.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait BatchStore: Send + Sync {
    /// Claims the items of a chunk that still have to run. Items that have succeeded, failed or had nothing to do, items that
    /// wait, unless the batch has been cancelled, items that this chunk
    /// has skipped, and items that another chunk in work has for the same occurrence, are not claimed; what another
    /// chunk has skipped is. A claim ends the one before it.
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError>;

    /// Of each of the items the last run of the job that succeeded and was due before `due_at`. Items without one are left
    /// out. Runs that had nothing to do are not looked at.
    async fn previous(
        &self,
        job_id: &JobId,
        due_at: DateTime<Utc>,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, Previous>, StoreError>;

    /// Records that `item` has been running since `began`, so that other occurrences of the tenant wait or are skipped.
    async fn record_running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Records that `item` is about to run in isolation, so that it is known if the process crashes. `false`: the claim
    /// has ended.
    async fn mark_poison_candidate(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
    ) -> Result<bool, StoreError>;

    /// Keeps what the first of two purposes has made of an item, in place of what was kept before, so that it is not called
    /// again for the same job, item and occurrence. It is kept until the item has succeeded or had nothing to do. `false`: the
    /// claim has ended, and nothing is kept.
    async fn keep_output(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        purpose: &PurposeId,
        output: &Value,
    ) -> Result<bool, StoreError>;

    /// What this purpose has made of those of a chunk's items for which it is [kept](Self::keep_output), whichever chunk kept it.
    /// `None`: the claim has ended.
    async fn kept_outputs(
        &self,
        chunk: &Chunk,
        token: Uuid,
        purpose: &PurposeId,
        items: &[ItemId],
    ) -> Result<Option<HashMap<ItemId, Value>>, StoreError>;

    /// Keeps what a chunk [that prepares a run](Chunk::prepares) has made of an item, in place of what was kept for the run before.
    /// It is kept until a chunk of the run that has [taken](Self::take_prepared) it ends, at most until a day after the run is
    /// due. `false`: the claim has ended, and nothing is kept.
    async fn keep_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        prepared: &NewPrepared,
    ) -> Result<bool, StoreError>;

    /// How far this run has been prepared, for those of the items for which it has. A call that waits no more, or not yet, has
    /// prepared nothing.
    async fn prepared(
        &self,
        job_id: &JobId,
        run: Occurrence,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedState>, StoreError>;

    /// The outputs that have been prepared for those of a chunk's items for which there is one. None, when the claim has ended.
    async fn take_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedOutput>, StoreError>;

    /// Commits results of a chunk's items, and a dead letter for each that failed; the last of them finish the chunk. A
    /// dead letter whose replay is skipped is open again, with its failed result. Nothing is taken when the claim has
    /// ended.
    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError>;

    /// Records items that have begun to wait, in place of what is known of them from earlier calls. When all other items of the
    /// chunk have an outcome or wait too, its claim ends: it is queued again when one of its items is to be called.
    /// [`Committed::finished`] then says so. Nothing is taken when the claim has ended.
    async fn begin_waiting(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[WaitingItem],
    ) -> Result<Committed, StoreError>;

    /// Releases a chunk without counting a crash: its delivery ended, but its process did not. It is not claimed again
    /// before `rest_until`, which is at most [`RETRY_CHUNK_AFTER`](super::RETRY_CHUNK_AFTER) ahead; `None`: at once.
    async fn release(
        &self,
        chunk: &Chunk,
        token: Uuid,
        rest_until: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError>;

    /// Marks a chunk as done, if all its items have an outcome; the last one completes its batch. For a chunk that had
    /// nothing left to run. Where all that it has left waits, its claim ends, as after
    /// [`begin_waiting`](Self::begin_waiting).
    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}

/// Process and delivery that claim a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// The process, by an id drawn at its start: a claim left open by another one is taken for its death.
    pub process: Uuid,
    /// Id of this delivery; every write of the claim carries it.
    pub token: Uuid,
}

/// Result of claiming a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The items to run.
    pub items: Vec<ItemId>,
    /// Number of deliveries of the chunk that ended with a crash of their process.
    pub crash_count: u32,
    /// Item that ran in isolation when the process last crashed, and in how many crashes it did.
    pub poison_candidate: Option<(ItemId, u32)>,
    /// Whether the batch has been cancelled: its items are not to be run.
    pub cancelled: bool,
    /// Whether it was cancelled because the store was restored from an older copy.
    pub restored: bool,
    /// Those of the items whose tenant has another occurrence running, as far as processes have recorded it, or an occurrence that
    /// has not ended in one of the chunks that this one is to begin [after](Chunk::after).
    pub overlapping: BTreeSet<ItemId>,
    /// The attempts at those of the items that have been called before, in a call that waited, and when the first began.
    pub resumed: HashMap<ItemId, (Attempts, DateTime<Utc>)>,
    /// Whether items are left out because another claimed chunk has them; that one may still skip them.
    pub waiting: bool,
}

/// Result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Number of results that were stored, or dropped because their runs were erased since the claim.
    pub taken: usize,
    /// Whether the claim still stands.
    pub claimed: bool,
    /// Whether the batch has been cancelled since the claim.
    pub cancelled: bool,
    /// Whether these results finished the chunk, or all that it has left waits: its claim has ended.
    pub finished: bool,
}
