//! Items that wait: their work goes on elsewhere, for minutes or weeks, and they are rows of a table and nothing else. They begin
//! to wait by [`BatchStore::begin_waiting`](super::BatchStore::begin_waiting).
//!
//! An implementation answers for "one outcome": of a completion, a deadline, a cancellation and a second completion that come at one
//! time, one is taken. It is one of the ports of a store; `testing::contract::waiting_items` checks it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    ItemId, ItemResult, JobId, KeyForm, MAX_WAIT, Occurrence, Outcome, Progress, PurposeId, Waiting,
};
use serde_json::Value;
use uuid::Uuid;

use super::{HandlerError, Page, Paged, StoreError};

/// Keeps the items that wait.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait WaitingItems: Send + Sync {
    /// The key that completion URLs are signed with: drawn once for a store, the same in each process on it.
    async fn completion_key(&self) -> Result<[u8; 32], StoreError>;

    /// The call whose item or items wait; `None`: none do, or not yet.
    async fn waiting_call(&self, call_id: Uuid) -> Result<Option<WaitingCall>, StoreError>;

    /// Brings calls that wait further, each as a whole or not at all, in one transaction. The answers are in their order. The
    /// last item of a chunk ends it, and its batch with the last chunk. A failed result adds a dead letter, as a commit does.
    async fn settle_calls(
        &self,
        settlements: &[(Uuid, Settlement)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Settled>, StoreError>;

    /// Changes how a call waits. `false`: it does not wait.
    async fn keep_waiting(&self, call_id: Uuid, change: &WaitingChange)
    -> Result<bool, StoreError>;

    /// Queues the items that are to be [called again](Settlement::CallAgain) by `now`, and leases at most `limit` calls whose
    /// deadline or time to be polled has come: for the length of the lease, no other process is given them. The earliest first.
    async fn due(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<DueCalls, StoreError>;

    /// The calls that wait, the longest first, without their states and what a first purpose has made: those may be large.
    async fn waiting_calls(
        &self,
        filter: &WaitingFilter,
        page: &Page,
    ) -> Result<Paged<WaitingCall>, StoreError>;

    /// Number of items that wait, by job; jobs without any are left out.
    async fn waiting_counts(&self) -> Result<BTreeMap<JobId, u64>, StoreError>;
}

/// An item that begins to wait.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingItem {
    /// Id of the call that it waits for. Items of an aggregate share one.
    pub call_id: Uuid,
    /// The item.
    pub item_id: ItemId,
    /// The purpose that was called.
    pub purpose_id: PurposeId,
    /// Which of its job's purposes that is.
    pub stage: Stage,
    /// The attempts so far.
    pub attempts: Attempts,
    /// The effective preference it was called with.
    pub preference: Option<Arc<Value>>,
    /// When the first attempt began.
    pub started_at: DateTime<Utc>,
    /// Since when it has been waiting.
    pub since: DateTime<Utc>,
    /// For how long, and for what.
    pub waiting: Waiting,
}

/// Which of the purposes of its job a call is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The job has one purpose.
    Only,
    /// The first of two: its output is kept, and the second is called with it.
    First,
    /// The second of two.
    Second,
    /// It is called ahead, to [prepare](punctual_domain::Chunk::prepares) a run.
    Prepare,
}

/// The attempts at an item that has been called before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// Attempts at the purpose that was called last.
    pub made: u32,
    /// How many of them were refused because of a rate limit.
    pub refused: u32,
    /// Attempts at the first of two purposes, which has ended.
    pub of_first: u32,
}

/// A call whose item, or the items of an aggregate, wait.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingCall {
    /// Id of the call.
    pub call_id: Uuid,
    /// The item, or the items of an aggregate.
    pub items: Vec<ItemId>,
    /// The job.
    pub job_id: JobId,
    /// The batch.
    pub batch_id: Uuid,
    /// The chunk.
    pub chunk_id: String,
    /// The run of the job.
    pub occurrence: Occurrence,
    /// When it fell due.
    pub scheduled_at: DateTime<Utc>,
    /// How its idempotency key is written.
    pub key_form: KeyForm,
    /// The purpose that was called.
    pub purpose_id: PurposeId,
    /// Which of its job's purposes that is.
    pub stage: Stage,
    /// The attempts so far.
    pub attempts: Attempts,
    /// The effective preference it was called with.
    pub preference: Option<Arc<Value>>,
    /// The output of the first of two purposes, for a call of the second.
    pub written: Option<Value>,
    /// When the first attempt began.
    pub started_at: DateTime<Utc>,
    /// Since when it has been waiting.
    pub since: DateTime<Utc>,
    /// For how long, and for what.
    pub waiting: Waiting,
    /// How far its work has come.
    pub progress: Option<Progress>,
    /// Whether its batch has been cancelled: it only waits to be skipped.
    pub is_cancelled: bool,
}

impl WaitingCall {
    /// The latest deadline that it may have. What prepares a run waits until the run is due at most.
    #[must_use]
    pub fn latest(&self) -> DateTime<Utc> {
        let latest = self.since + MAX_WAIT;
        match self.stage {
            Stage::Prepare => latest.min(self.scheduled_at),
            Stage::Only | Stage::First | Stage::Second => latest,
        }
    }
}

/// What becomes of a call that waits.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// Its item, or each of its items, has succeeded, failed or had nothing to do; the id in the result does not matter. The output of
    /// a call that [prepares](Stage::Prepare) a run is kept for that run, in place of the result's.
    End(Box<ItemResult>),
    /// The first of two purposes has this output, which is kept as [`keep_output`](super::BatchStore::keep_output) keeps it. The item
    /// is queued for the second: the attempts so far become those [of the first](Attempts::of_first), and none is made at the second.
    CallSecond(Value),
    /// The purpose is called again, from `at` on, after so many refusals. Until then it counts as waiting.
    CallAgain {
        /// When.
        at: DateTime<Utc>,
        /// Attempts so far that were refused because of a rate limit.
        refused: u32,
    },
}

/// What came of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was taken.
    Taken,
    /// The call does not wait: it has been settled, or never waited.
    NotWaiting,
    /// Its batch has been cancelled: the item is skipped.
    Cancelled,
}

/// What changes about a call that waits; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WaitingChange {
    /// The new deadline.
    pub until: Option<DateTime<Utc>>,
    /// When its handler is asked next; `Some(None)`: never.
    pub poll_at: Option<Option<DateTime<Utc>>>,
    /// The new state.
    pub state: Option<Value>,
    /// How far the work has come.
    pub progress: Option<Progress>,
}

/// What falls due among the items that wait.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DueCalls {
    /// Calls whose deadline or time to be polled has come, leased.
    pub calls: Vec<WaitingCall>,
    /// When the next falls due of those that are left; `None`: none waits.
    pub next: Option<DateTime<Utc>>,
}

/// Which calls are asked for; `None`: all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WaitingFilter {
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Of this batch.
    pub batch_id: Option<Uuid>,
    /// Of this tenant.
    pub item_id: Option<ItemId>,
}

/// Brings calls that wait to their end, for handlers that hear of it by themselves.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Completer: Send + Sync {
    /// What has come of a call, as if its handler had returned it: an error is retried where the policy has a retry left, and
    /// [`Outcome::Waiting`] changes how it waits.
    async fn complete(
        &self,
        call_id: Uuid,
        outcome: Result<Outcome, HandlerError>,
    ) -> Result<Settled, StoreError>;
}
