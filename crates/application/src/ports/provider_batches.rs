//! Provider batches: calls of one purpose that wait and are sent to a provider together, at a lower price, such as to the batch
//! endpoint of a language model. A provider batch is a row before anything is sent, so that what a crash has left at the provider
//! is found again and not paid twice.
//!
//! One process works on a provider batch at a time, by a lease: `due_at` is moved ahead while it works, and each write
//! asks for the lease that it holds.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::PurposeId;
use serde_json::Value;
use uuid::Uuid;

use super::StoreError;

/// Keeps provider batches, and which calls are in them.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ProviderBatches: Send + Sync {
    /// Puts calls of a purpose that [wait with a request](REQUEST) and are in no provider batch into a new one, the longest
    /// waiting first, if there are enough of them or the first has waited long enough. `None`: not yet. A call is in one
    /// provider batch, whichever processes collect at a time.
    async fn collect(
        &self,
        purpose: &PurposeId,
        limits: &CollectLimits,
        now: DateTime<Utc>,
    ) -> Result<Option<Collected>, StoreError>;

    /// Leases the provider batch of a purpose that is due first, until `now + lease`. `None`: none is due.
    async fn take(
        &self,
        purpose: &PurposeId,
        now: DateTime<Utc>,
        lease: TimeDelta,
    ) -> Result<Option<ProviderBatch>, StoreError>;

    /// Stores all that may change about a provider batch, and makes it due at `due_at`: the end of the lease, renewed, or the
    /// next look. `false`: the lease, which ended at `batch.due_at`, is lost, and nothing is stored.
    async fn save(&self, batch: &ProviderBatch, due_at: DateTime<Utc>) -> Result<bool, StoreError>;

    /// The requests of calls in a provider batch that still wait and are not answered, by their ids, after `after`.
    async fn requests(
        &self,
        batch: Uuid,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<BatchedCall>, StoreError>;

    /// Ids of calls in a provider batch that are not answered, in their order, after `after`; also of those that do not
    /// wait any more.
    async fn unanswered(
        &self,
        batch: Uuid,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError>;

    /// Those of these calls that are in the provider batch and not answered.
    async fn unanswered_of(&self, batch: Uuid, calls: &[Uuid]) -> Result<Vec<Uuid>, StoreError>;

    /// Records that calls are answered, and with how many tokens. What is recorded already does not count again.
    async fn mark_answered(&self, batch: Uuid, answers: &[AnsweredCall]) -> Result<(), StoreError>;

    /// The provider's ids of all batches that are in work, or have ended within [`KEEP_ENDED`].
    async fn remote_ids(&self) -> Result<Vec<String>, StoreError>;

    /// Ends a provider batch: forgets which calls were in it, and keeps its numbers for [`KEEP_ENDED`]. `None`: the lease is lost.
    async fn end(
        &self,
        batch: &ProviderBatch,
        now: DateTime<Utc>,
    ) -> Result<Option<BatchTotals>, StoreError>;
}

/// The field of an item's waiting state that has the request to be sent; it is the only one.
pub const REQUEST: &str = "request";

/// How long the numbers of provider batches that have ended are kept.
pub const KEEP_ENDED: TimeDelta = TimeDelta::days(30);

/// When calls become a provider batch, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectLimits {
    /// Maximum number of requests.
    pub requests: usize,
    /// Maximum size of the requests in bytes, as JSON.
    pub bytes: u64,
    /// Bytes that a request has beside its JSON.
    pub bytes_around: u64,
    /// How long the first call waits for others.
    pub collect_for: TimeDelta,
    /// Calls that began to wait before are not looked at; `None`: all are.
    pub from: Option<DateTime<Utc>>,
}

/// A provider batch that has been collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Its id.
    pub id: Uuid,
    /// Number of its calls.
    pub calls: u64,
    /// Since when the last of them has been waiting.
    pub last_since: DateTime<Utc>,
}

/// A call in a provider batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchedCall {
    /// Id of the call.
    pub call_id: Uuid,
    /// What is sent.
    pub request: Value,
}

/// A call that the provider has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnsweredCall {
    /// Id of the call.
    pub call_id: Uuid,
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// How far a provider batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProviderBatchState {
    /// It is collected; nothing has been sent.
    Collected,
    /// Its requests are being sent to the provider: they may have arrived.
    Uploading,
    /// The provider is being asked to begin: it may have begun.
    Creating,
    /// The provider works on it.
    Submitted,
    /// The provider has been asked to stop.
    Cancelling,
    /// The provider has ended it, and its answers are read.
    Reading,
}

impl ProviderBatchState {
    /// Every state, in the order in which they follow each other.
    pub const ALL: [Self; 6] = [
        Self::Collected,
        Self::Uploading,
        Self::Creating,
        Self::Submitted,
        Self::Cancelling,
        Self::Reading,
    ];

    /// Its word in tables and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collected => "collected",
            Self::Uploading => "uploading",
            Self::Creating => "creating",
            Self::Submitted => "submitted",
            Self::Cancelling => "cancelling",
            Self::Reading => "reading",
        }
    }

    /// The state of a word; `None`: there is none of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// A provider batch that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderBatch {
    /// Its id.
    pub id: Uuid,
    /// The purpose of its calls.
    pub purpose_id: PurposeId,
    /// How far it has come.
    pub state: ProviderBatchState,
    /// Number of its calls.
    pub calls: u64,
    /// Since when the first of its calls has been waiting.
    pub first_since: DateTime<Utc>,
    /// When it was collected.
    pub created_at: DateTime<Utc>,
    /// When it is to be looked at; of one that is leased, the end of the lease.
    pub due_at: DateTime<Utc>,
    /// Looks in a row that found nothing new, or failed.
    pub looks: u32,
    /// The provider's id of the file with its requests.
    pub file_id: Option<String>,
    /// The provider's id of the batch.
    pub remote_id: Option<String>,
    /// Ids of batches at the provider that were taken for this one and are not.
    pub others: Vec<String>,
}

/// Numbers of a provider batch that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchTotals {
    /// Number of its calls.
    pub calls: u64,
    /// Number of its calls that the provider answered.
    pub answered: u64,
    /// Tokens of the requests.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
}
