//! Where the schedulers put what fell due, and what operators do to it.
//!
//! A tick's batches and how far its jobs have been planned are stored in one transaction: a process that dies in between plans
//! nothing twice and forgets nothing. An implementation is one of four ports of a store;
//! `testing::contract::store` checks them together.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Firing, JobId, NewBatch, ShardAssignment, Sharding, StoredPosition};
use uuid::Uuid;

use super::StoreError;

/// Takes one tick's firing and remembers how far each job has been planned.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// Makes `process` the leader for `term` from now on, if it is the leader already or no process holds the lease.
    /// The store's clock decides; a term of zero steps down. A process that was assigned its shard before the division
    /// last changed does not lead.
    async fn lead(&self, process: Uuid, term: Duration) -> Result<Leadership, StoreError>;

    /// Takes the shard that this process is to serve, remembers it, and says what the store serves with it:
    /// [`Sharding::assign`] decides, by what is stored and how far any job has been planned.
    ///
    /// # Errors
    /// [`Conflict`](super::StoreErrorKind::Conflict): the store serves another shard.
    async fn assign(
        &self,
        assignment: &ShardAssignment,
        now: DateTime<Utc>,
    ) -> Result<Sharding, StoreError>;

    /// How far a job has been planned; `None` before its first tick.
    async fn position(&self, job_id: &JobId) -> Result<Option<StoredPosition>, StoreError>;

    /// Stores the batches, their chunks and the positions in one transaction. A batch that is already there
    /// is left as it is, and `high_water_mark` never goes back: another agent may have been further.
    ///
    /// A batch of a [late change](punctual_domain::Trigger::LateChange) leaves out those of its items whose run, due at the same
    /// instant, was skipped for a reason that [settles](punctual_domain::SkipReason::SETTLING) it, or stands in a batch that
    /// is cancelled and has not ended. Without any item left it is not stored.
    async fn enqueue(&self, firing: Firing, now: DateTime<Utc>) -> Result<Enqueued, StoreError>;

    /// The jobs that are paused.
    async fn paused(&self) -> Result<BTreeMap<JobId, Pause>, StoreError>;

    /// Pauses a job, or with `None` lets it go on: nothing of a paused job falls due, and nothing of it that is queued
    /// runs. What is [cancelled](Self::cancel) is skipped all the same. The pause of an operator takes the place of an earlier one
    /// and begins now; a job that pauses itself leaves the pause of an operator as it is.
    async fn set_paused(
        &self,
        job_id: &JobId,
        cause: Option<PauseCause>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Cancels a batch that is not completed: the items that have not begun are given to claims to be skipped, also while its job
    /// is paused or the chunk that theirs is to begin [after](punctual_domain::Chunk::after) is in work. What is to begin after its
    /// chunks then waits for what they were to begin after. `false`: there is none, or it is over.
    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError>;

    /// Settles open dead letters, those of `ids` that are: discards them, or queues `batches` that run them again.
    /// All of it or nothing. Returns how many were settled. After a discard, some of those are removed that were discarded
    /// [long ago](punctual_domain::DeadLetter::REOPENABLE_FOR): at least as many as a discard settles.
    ///
    /// # Errors
    /// Also when a replay names one that is not open any more.
    async fn settle(
        &self,
        ids: &[i64],
        batches: Vec<NewBatch>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError>;

    /// Opens dead letters again, those of `ids` that were discarded after `discarded_after`, at the instant `now`. Returns how many
    /// were opened.
    async fn reopen(
        &self,
        ids: &[i64],
        discarded_after: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError>;
}

/// Why a job is paused, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// What paused it.
    pub cause: PauseCause,
    /// When the job was paused.
    pub since: DateTime<Utc>,
}

/// What pauses a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseCause {
    /// An operator.
    Operator {
        /// The operator, as the audit log names them.
        name: String,
        /// Why, in their words; `None`: they gave no reason.
        reason: Option<String>,
    },
    /// The job itself, because too much of it has failed: how much, in words.
    Failures(String),
}

/// Whether a process is the one to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// It need not ask: the store is not shared.
    Always,
    /// It is, until its term has run out.
    Granted,
    /// Another one is.
    Refused,
}

/// What [`WorkQueue::enqueue`] stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Enqueued {
    /// The batches that were new.
    pub batches: Vec<NewBatch>,
}
