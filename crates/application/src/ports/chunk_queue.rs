//! Where a worker gets the chunks it runs: they wait in the store, and a claim is the lease on one.
//!
//! A claim stands as long as its process is alive, which it says by heartbeats. A process that has gone silent, or never
//! sent one, has died, and its claims are released; the worker of each process watches the others, so no clock of the store
//! decides.
//! An implementation is one of four ports of a store; `testing::contract::store` checks them together.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Chunk, JobId, Priority};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Claim, StoreError};

/// Gives chunks that wait to workers.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ChunkQueue: Send + Sync {
    /// Claims chunks that wait and begins their batches, in one transaction: of each job that is not paused as many as
    /// `limits` have room for, the first chunks of all its batches before the second ones. Of a job that is paused it claims only
    /// chunks of [cancelled](Claim::cancelled) batches, which are to be skipped. A chunk that is to begin [after](Chunk::after) others
    /// waits for the first of them: until it has ended, or has been released to rest, or all that it has left waits. Those of
    /// [cancelled](super::WorkQueue::cancel) batches do not wait.
    /// A chunk that cannot be read is ended with its items failed, so that its batch ends.
    async fn claim_next(
        &self,
        process: Uuid,
        limits: &ClaimLimits,
        now: DateTime<Utc>,
    ) -> Result<Vec<ClaimedChunk>, StoreError>;

    /// Says that `process` is alive.
    async fn heartbeat(&self, process: Uuid) -> Result<(), StoreError>;

    /// The jobs whose chunks could be claimed now, and the processes that hold claims.
    async fn survey(&self, now: DateTime<Utc>) -> Result<Survey, StoreError>;

    /// Releases all claims of a process that has not been heard of since this heartbeat, and counts a crash for each.
    /// Returns how many there were.
    async fn release_lost(&self, last: &Heartbeat) -> Result<u64, StoreError>;

    /// Releases the claims of `process` under other tokens than these: of claims whose answer never arrived, and of
    /// deliveries that panicked. Returns how many there were.
    async fn release_forgotten(&self, process: Uuid, held: &[Uuid]) -> Result<u64, StoreError>;

    /// Says that `process` ends: others need not wait until its heartbeats are missing.
    async fn sign_off(&self, process: Uuid) -> Result<(), StoreError>;

    /// Tells when chunks may have come to wait; those of other processes as long as this one [listens](Self::listen).
    fn arrivals(&self) -> watch::Receiver<()>;

    /// Listens to what other processes announce, until it is dropped.
    async fn listen(&self);
}

/// How long a chunk rests that could not be brought to its end now.
pub const RETRY_CHUNK_AFTER: TimeDelta = TimeDelta::seconds(5);

/// Number of chunks that one claim takes at most, and as long as all of them together do not keep the process busy.
const MAX_CHUNKS_PER_CLAIM: usize = 16;
const MAX_SMALL_CHUNKS_PER_CLAIM: usize = 128;
/// Number of chunks of a job that a process has claimed at one time at first, at least and at most, however large they are.
/// Where chunks end quickly it takes more, so that it is busy while others are claimed and stored; where they do not, two keep it
/// busy while the last items of one are running, and the rest is left to other processes.
const CHUNKS_PER_JOB: usize = 8;
const MIN_CHUNKS_PER_JOB: usize = 2;
const MAX_CHUNKS_PER_JOB: usize = 16;
/// A chunk that took less ended quickly; one that took more did not.
const QUICK_CHUNK: Duration = Duration::from_millis(250);
const SLOW_CHUNK: Duration = Duration::from_secs(1);
/// Number of items over all jobs beyond which a process claims only for jobs of which it has nothing: what is claimed is
/// in memory.
const MAX_ITEMS: usize = 32_000;

/// What a process has claimed, and how much more it takes.
#[derive(Debug, Clone, Default)]
pub struct ClaimLimits {
    /// Items that the process runs at one time.
    permits: usize,
    claimed: BTreeMap<JobId, ClaimedOfJob>,
    priorities: BTreeMap<JobId, Priority>,
    /// How many chunks of a job to have claimed at one time, where that is not what it is at first.
    targets: BTreeMap<JobId, usize>,
    /// Number of chunks of each job that wait, and keep few permits busy or none.
    held_up: BTreeMap<JobId, usize>,
    /// Items over all jobs.
    items: usize,
    /// Chunks that this claim has taken, and their items.
    taken: usize,
    taken_items: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct ClaimedOfJob {
    chunks: usize,
    items: usize,
}

impl ClaimLimits {
    /// The limits of a process that runs so many items at one time and has claimed nothing.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self {
            permits,
            ..Self::default()
        }
    }

    /// Begins another claim, in which the jobs have these priorities.
    pub fn begin(&mut self, priorities: BTreeMap<JobId, Priority>) {
        self.targets
            .retain(|job_id, _| priorities.contains_key(job_id));
        self.priorities = priorities;
        (self.taken, self.taken_items) = (0, 0);
    }

    /// Notes how many chunks of each job wait, for example for turns of their organizations. A claim takes others beside them.
    pub fn set_held_up(&mut self, held_up: BTreeMap<JobId, usize>) {
        self.held_up = held_up;
    }

    /// The jobs in the order in which their chunks are to be claimed: those of which nothing is in work first, then by
    /// priority.
    #[must_use]
    pub fn in_order(&self, mut jobs: Vec<JobId>) -> Vec<JobId> {
        jobs.sort_by_key(|job_id| {
            let priority = self.priorities.get(job_id).copied().unwrap_or_default();
            (self.has_work(job_id), std::cmp::Reverse(priority))
        });
        jobs
    }

    /// How many chunks of a job a claim takes at most when it begins, before their sizes are known. None as long as more than
    /// half of what keeps the process busy is there: a claim is a transaction, and takes several at a time. Where chunks take
    /// long, claims are few anyway, and most items of those in work may have ended.
    #[must_use]
    pub fn room(&self, job_id: &JobId) -> usize {
        let own = self.own(job_id);
        let target = self.target(job_id);
        let is_quick = target > MIN_CHUNKS_PER_JOB;
        if is_quick && own.items > self.permits && own.chunks > target / 2 {
            0
        } else if own.chunks == 0 {
            self.rest(job_id).min(MAX_CHUNKS_PER_CLAIM)
        } else {
            self.rest(job_id)
        }
    }

    /// How many chunks more of a job a claim takes that has begun.
    #[must_use]
    pub fn rest(&self, job_id: &JobId) -> usize {
        let most = if self.taken_items < 2 * self.permits {
            MAX_SMALL_CHUNKS_PER_CLAIM
        } else {
            MAX_CHUNKS_PER_CLAIM
        };
        let left = most.saturating_sub(self.taken);
        let own = self.own(job_id);
        if own.chunks == 0 {
            left
        } else if self.items >= MAX_ITEMS {
            0
        } else if own.items < 2 * self.permits {
            left.min(2 * self.permits - own.items)
        } else {
            left.min(self.target(job_id).saturating_sub(own.chunks))
        }
    }

    /// What is claimed of a job. Of chunks that wait, one counts at most: a job that has only such ones still has work.
    fn own(&self, job_id: &JobId) -> ClaimedOfJob {
        let own = self.claimed.get(job_id).copied().unwrap_or_default();
        let held_up = self.held_up.get(job_id).copied().unwrap_or(0);
        let chunks = own.chunks.saturating_sub(held_up);
        ClaimedOfJob {
            chunks: chunks.max(own.chunks.min(1)),
            ..own
        }
    }

    fn target(&self, job_id: &JobId) -> usize {
        let target = self.targets.get(job_id);
        target.copied().unwrap_or(CHUNKS_PER_JOB)
    }

    /// Counts a chunk of a job with so many items that has been claimed.
    pub fn add(&mut self, job_id: &JobId, items: usize) {
        let own = self.claimed.entry(job_id.clone()).or_default();
        own.chunks += 1;
        own.items += items;
        self.items += items;
        self.taken += 1;
        self.taken_items += items;
    }

    /// Counts a chunk whose delivery has ended, and took so long. `None`: its items wait for others, which does not say how long the
    /// chunks of its job take.
    pub fn remove(&mut self, job_id: &JobId, items: usize, took: Option<Duration>) {
        let target = self.target(job_id);
        match took {
            Some(took) if took < QUICK_CHUNK && target < MAX_CHUNKS_PER_JOB => {
                self.targets.insert(job_id.clone(), target * 2);
            }
            Some(took) if took > SLOW_CHUNK && target > MIN_CHUNKS_PER_JOB => {
                self.targets.insert(job_id.clone(), target / 2);
            }
            _ => {}
        }
        self.items = self.items.saturating_sub(items);
        if let Some(own) = self.claimed.get_mut(job_id) {
            own.chunks = own.chunks.saturating_sub(1);
            own.items = own.items.saturating_sub(items);
            if own.chunks == 0 {
                self.claimed.remove(job_id);
            }
        }
    }

    /// Whether the process has claimed chunks of a job.
    #[must_use]
    pub fn has_work(&self, job_id: &JobId) -> bool {
        self.claimed.contains_key(job_id)
    }
}

/// A chunk and the claim on it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedChunk {
    /// The chunk.
    pub chunk: Chunk,
    /// Id of this delivery; every write of the claim carries it.
    pub token: Uuid,
    /// What is to run of it.
    pub claim: Claim,
}

/// What waits, and who works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// The jobs that have unclaimed chunks that neither rest nor wait for the chunk they are to begin [after](Chunk::after); of a job
    /// that is paused, only those of cancelled batches count.
    pub waiting: Vec<JobId>,
    /// The last heartbeats of processes that hold claims.
    pub working: Vec<Heartbeat>,
}

/// A heartbeat of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The process.
    pub process: Uuid,
    /// The time of the heartbeat by the store's clock, in microseconds since 1970. Zero: the process has signed
    /// off. One: it never sent any.
    pub last_seen: i64,
}

#[cfg(test)]
mod tests {
    use punctual_domain::{ItemId, NewBatch, Trigger};

    use super::*;

    fn chunk(job: &str, items: usize) -> Chunk {
        let items: Vec<ItemId> = (0..items)
            .map(|n| ItemId::new(format!("u{n}")).unwrap())
            .collect();
        let due = "2026-03-01T09:00:00Z".parse().unwrap();
        let mut batch = NewBatch::new(
            &JobId::new(job).unwrap(),
            Priority::Medium,
            "daily 09:00 UTC".to_owned(),
            due,
            "2026-03-01".parse().unwrap(),
            Trigger::Schedule,
            due,
            &items,
            items.len(),
        );
        batch.chunks.remove(0)
    }

    #[test]
    fn a_job_gets_what_keeps_the_process_busy_and_leaves_the_rest_to_others() {
        let large = chunk("large", 500);
        let mut limits = ClaimLimits::new(10);
        limits.begin(BTreeMap::new());
        assert_eq!(limits.room(&large.job_id), 16);
        limits.add(&large.job_id, large.items.len());
        for left in (0..8).rev() {
            assert_eq!(limits.rest(&large.job_id), left.min(7));
            if left > 0 {
                limits.add(&large.job_id, large.items.len());
            }
        }
        assert_eq!(limits.room(&large.job_id), 0);
        let neither = Duration::from_millis(500);
        for _ in 0..3 {
            limits.remove(&large.job_id, 500, Some(neither));
            assert_eq!(limits.room(&large.job_id), 0);
        }
        limits.remove(&large.job_id, 500, Some(neither));
        assert_eq!(limits.room(&large.job_id), 4);

        // Two are left of a job whose chunks take long, and it takes no third.
        for _ in 0..2 {
            limits.remove(&large.job_id, 500, Some(Duration::from_secs(5)));
        }
        assert_eq!(limits.room(&large.job_id), 0);
        limits.remove(&large.job_id, 500, Some(Duration::from_secs(5)));
        assert_eq!(limits.room(&large.job_id), 1);
        // Chunks that only wait change nothing.
        limits.add(&large.job_id, large.items.len());
        limits.remove(&large.job_id, 500, None);
        assert_eq!(limits.room(&large.job_id), 1);
        // Where they end quickly, it takes up to 16.
        for expected in [4, 8, 16, 16] {
            limits.add(&large.job_id, large.items.len());
            limits.remove(&large.job_id, 500, Some(Duration::from_millis(20)));
            limits.begin([(large.job_id.clone(), Priority::Low)].into());
            assert_eq!(limits.room(&large.job_id), expected - 1);
        }
    }

    #[test]
    fn of_small_chunks_a_claim_takes_what_keeps_the_process_busy_and_the_next_waits_for_half_of_it()
    {
        let small = chunk("small", 1);
        let mut limits = ClaimLimits::new(30);
        limits.begin(BTreeMap::new());
        assert_eq!(limits.room(&small.job_id), 16, "their size is unknown");
        for _ in 0..16 {
            limits.add(&small.job_id, small.items.len());
        }
        limits.begin(BTreeMap::new());
        assert_eq!(limits.room(&small.job_id), 44, "60 items for 30 permits");
        for left in (8..44).rev() {
            limits.add(&small.job_id, small.items.len());
            assert_eq!(limits.rest(&small.job_id), left);
        }
        limits.begin(BTreeMap::new());
        let neither = Duration::from_millis(500);
        for _ in 0..22 {
            assert_eq!(limits.room(&small.job_id), 0);
            limits.remove(&small.job_id, 1, Some(neither));
        }
        assert_eq!(limits.room(&small.job_id), 30);

        // Over all jobs too, what a claim takes is bounded by its items.
        let mut limits = ClaimLimits::new(30);
        limits.begin(BTreeMap::new());
        for number in 0..59 {
            let one = chunk(&format!("job{number}"), 1);
            assert_eq!(limits.room(&one.job_id), 16, "{number}");
            limits.add(&one.job_id, one.items.len());
        }
        limits.add(&JobId::new("large").unwrap(), 500);
        assert_eq!(limits.room(&JobId::new("other").unwrap()), 0);
    }

    #[test]
    fn a_slow_item_in_each_small_chunk_does_not_keep_the_next_chunks_waiting() {
        let small = chunk("small", 10);
        let mut limits = ClaimLimits::new(30);
        let job = || [(small.job_id.clone(), Priority::Medium)].into();
        limits.begin(job());
        for _ in 0..8 {
            limits.add(&small.job_id, small.items.len());
        }
        for left in [7, 6] {
            limits.remove(&small.job_id, 10, Some(Duration::from_secs(5)));
            limits.begin(job());
            assert_eq!(limits.room(&small.job_id), 0, "{left}");
        }
        // One item may be running of each of the five that are left: 25 permits are free.
        limits.remove(&small.job_id, 10, Some(Duration::from_secs(5)));
        limits.begin(job());
        assert!(limits.room(&small.job_id) > 0);
    }

    #[test]
    fn a_job_of_which_nothing_is_in_work_always_gets_a_chunk() {
        let mut limits = ClaimLimits::new(10);
        for n in 0..100 {
            limits.begin(BTreeMap::new());
            let large = chunk(&format!("job{n:03}"), 500);
            assert!(limits.room(&large.job_id) > 0);
            limits.add(&large.job_id, large.items.len());
        }
        limits.begin(BTreeMap::new());
        assert_eq!(limits.room(&JobId::new("job000").unwrap()), 0);
        assert_eq!(limits.room(&JobId::new("other").unwrap()), 16);
    }

    #[test]
    fn chunks_that_wait_keep_no_others_of_their_job_from_being_claimed() {
        let large = chunk("large", 500);
        let mut limits = ClaimLimits::new(10);
        let job = || [(large.job_id.clone(), Priority::Low)].into();
        for _ in 0..8 {
            limits.add(&large.job_id, large.items.len());
        }
        limits.begin(job());
        assert_eq!(limits.room(&large.job_id), 0);
        for (held_up, room) in [(3, 0), (5, 5), (8, 7), (9, 7)] {
            limits.set_held_up([(large.job_id.clone(), held_up)].into());
            assert_eq!(limits.room(&large.job_id), room, "{held_up}");
        }
        // What is in memory stays bounded.
        for _ in 0..56 {
            limits.add(&large.job_id, large.items.len());
        }
        limits.begin(job());
        limits.set_held_up([(large.job_id.clone(), 64)].into());
        assert_eq!(limits.room(&large.job_id), 0);
    }

    #[test]
    fn what_is_urgent_is_claimed_first_among_jobs_that_have_nothing() {
        let job = |name: &str| JobId::new(name).unwrap();
        let mut limits = ClaimLimits::new(10);
        limits.add(&job("busy"), 1);
        let critical = |name| (job(name), Priority::Critical);
        limits.begin([critical("urgent"), critical("busy")].into());
        let order = limits.in_order(["a", "busy", "urgent"].map(job).to_vec());
        assert_eq!(order, ["urgent", "a", "busy"].map(job));
    }
}
