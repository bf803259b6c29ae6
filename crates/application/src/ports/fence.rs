//! The fence of a store: how a store that was restored from an older copy is recognised, and what keeps it from working until
//! somebody has decided what becomes of the runs that it does not know of.
//!
//! `testing::contract::fence` checks what an implementation keeps to.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{FenceMark, KnownMarks, RestoreChoice, RestoreGap};

use super::StoreError;

/// Marks how far a store has come, and holds one that has gone back.
///
/// While it is held, no process leads, what is planned is refused, and no chunk, delivery, call that waits or provider batch is
/// given to a process of this version.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Fence: Send + Sync {
    /// Makes the next mark of the store, unless the store is held. One that `known` recognises as an older copy, by how far it has
    /// counted and by the marks that it made in the last hour, is held from now on, for all processes on it.
    async fn mark(&self, known: &KnownMarks, now: DateTime<Utc>) -> Result<FenceState, StoreError>;

    /// Why the store is held; `None`: it is not.
    async fn hold(&self) -> Result<Option<Hold>, StoreError>;

    /// Ends the hold, with a mark beyond all that are known. With [`RestoreChoice::Skip`], batches that were due by the end of
    /// the gap, or by `now` if that is earlier, and are not over are cancelled as [restored](super::Claim::restored), also those that are planned later, and
    /// their deliveries are given up. All of it or nothing. `None`: the store is not held.
    async fn end_hold(
        &self,
        choice: RestoreChoice,
        now: DateTime<Utc>,
    ) -> Result<Option<EndedHold>, StoreError>;
}

/// How a store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceState {
    /// It works; its newest mark.
    Marked(FenceMark),
    /// It is held.
    Held(Hold),
}

/// Why a store is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The time of which it knows nothing.
    pub gap: RestoreGap,
    /// Since when it has been held.
    pub since: DateTime<Utc>,
}

/// What the end of a hold has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedHold {
    /// The time of which the store knows nothing.
    pub gap: RestoreGap,
    /// Number of batches that were cancelled.
    pub cancelled_batches: u64,
    /// Number of deliveries that were given up.
    pub given_up_deliveries: u64,
}
