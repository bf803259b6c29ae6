//! The work itself, as the processor sees it: a chunk is claimed, its results are committed in groups, and it
//! is finished or given back. Every write after the claim carries the claim's token.
//!
//! An implementation answers for "one outcome per job, tenant and occurrence, whatever happens". It is one of three ports
//! of a store; `testing::contract::store` checks them together.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Chunk, ItemId, ItemResult};
use uuid::Uuid;

use super::StoreError;

/// Keeps who works on what, and the result of every item.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait BatchStore: Send + Sync {
    /// Claims the items of a chunk that still have to run. Items that have succeeded or failed, items that this chunk
    /// has skipped, and items that another chunk in work has for the same occurrence, are not claimed; what another
    /// chunk has skipped is. A claim ends the one before it.
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError>;

    /// Notes that `item` has been running since `began`, so that other occurrences of the tenant know.
    async fn running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Notes that `item` is about to run with nothing beside it, so that it is known should the process
    /// not outlive it. `false`: the claim has ended.
    async fn suspect(&self, chunk: &Chunk, token: Uuid, item: &ItemId) -> Result<bool, StoreError>;

    /// Commits results of a chunk's items, and a dead letter for each that failed; the last of them finish the chunk. A
    /// dead letter whose replay is skipped is open again, with its failed result. Nothing is taken when the claim has
    /// ended.
    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError>;

    /// Gives a chunk back unharmed: its delivery ended, but not with the process.
    async fn release(&self, chunk: &Chunk, token: Uuid) -> Result<(), StoreError>;

    /// Marks a chunk as done, if all its items have an outcome; the last one completes its batch. For a chunk that had
    /// nothing left to run.
    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}

/// Who claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// The process, by an id drawn at its start: a claim left open by another one is taken for its death.
    pub process: Uuid,
    /// This delivery.
    pub token: Uuid,
}

/// What a claim gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The items to run.
    pub items: Vec<ItemId>,
    /// How many deliveries of the chunk ended with their process.
    pub lost: u32,
    /// The item that ran alone when the process last died, and how often it did.
    pub suspect: Option<(ItemId, u32)>,
    /// Whether the batch has been cancelled: its items are not to be run.
    pub cancelled: bool,
    /// Tenants of these items who have another occurrence running, as far as processes have noted it.
    pub overlapping: BTreeSet<ItemId>,
    /// Whether items are left out because another chunk in work has them; it may yet skip them.
    pub waiting: bool,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// How many results were taken.
    pub taken: usize,
    /// Whether the claim still stands.
    pub claimed: bool,
    /// Whether the batch has been cancelled meanwhile.
    pub cancelled: bool,
    /// Whether the chunk is done with these.
    pub finished: bool,
}
