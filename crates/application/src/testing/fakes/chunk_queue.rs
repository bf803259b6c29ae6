//! The port `ChunkQueue`, in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Chunk, JobId};
use tokio::sync::watch;
use uuid::Uuid;

use super::{ChunkRow, FakeStore, Tables};
use crate::ports::{
    ChunkQueue, ClaimLimits, Claimant, ClaimedChunk, Heartbeat, RETRY_CHUNK_AFTER, StoreError,
    Survey,
};

#[async_trait]
impl ChunkQueue for FakeStore {
    async fn claim_next(
        &self,
        process: Uuid,
        limits: &ClaimLimits,
        now: DateTime<Utc>,
    ) -> Result<Vec<ClaimedChunk>, StoreError> {
        let mut claimed = Vec::new();
        if self.is_held() {
            return Ok(claimed);
        }
        let (mut tables, mut limits) = (self.tables(), limits.clone());
        for job_id in limits.in_order(tables.waiting_jobs(now)) {
            for chunk in tables.waiting_chunks(&job_id, now) {
                if limits.rest(&job_id) == 0 {
                    break;
                }
                let token = Uuid::new_v4();
                let claim = tables.claim(&chunk, Claimant { process, token }, now)?;
                limits.add(&job_id, chunk.items.len());
                claimed.push(ClaimedChunk {
                    chunk,
                    token,
                    claim,
                });
            }
        }
        Ok(claimed)
    }

    async fn heartbeat(&self, process: Uuid) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.beats += 1;
        let beat = tables.beats + 1;
        tables.heartbeats.insert(process, beat);
        Ok(())
    }

    async fn survey(&self, now: DateTime<Utc>) -> Result<Survey, StoreError> {
        let tables = self.tables();
        let claimants = tables.chunks.values().filter_map(|row| row.claimant);
        let working: BTreeSet<Uuid> = claimants.map(|claimant| claimant.process).collect();
        Ok(Survey {
            waiting: tables.waiting_jobs(now),
            working: working
                .into_iter()
                .map(|process| tables.last(process))
                .collect(),
        })
    }

    async fn release_lost(&self, last: &Heartbeat) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        if tables.last(last.process) != *last {
            return Ok(0);
        }
        let released = tables.release(|claimant| claimant.process == last.process, 1);
        Ok(self.announce_released(released))
    }

    async fn release_forgotten(&self, process: Uuid, held: &[Uuid]) -> Result<u64, StoreError> {
        let forgotten =
            |claimant: Claimant| claimant.process == process && !held.contains(&claimant.token);
        let released = self.tables().release(forgotten, 0);
        Ok(self.announce_released(released))
    }

    async fn sign_off(&self, process: Uuid) -> Result<(), StoreError> {
        self.tables().heartbeats.insert(process, 0);
        Ok(())
    }

    fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    async fn listen(&self) {
        std::future::pending::<()>().await;
    }
}

impl FakeStore {
    fn announce_released(&self, chunks: u64) -> u64 {
        if chunks > 0 {
            self.arrivals.send_replace(());
        }
        chunks
    }
}

impl Tables {
    /// The last heartbeat of a process; 1: it never sent one.
    fn last(&self, process: Uuid) -> Heartbeat {
        let last_seen = self.heartbeats.get(&process).copied().unwrap_or(1);
        Heartbeat { process, last_seen }
    }

    fn waiting(&self, now: DateTime<Utc>) -> impl Iterator<Item = &ChunkRow> {
        self.chunks.values().filter(move |row| {
            let rests = row
                .rest_until
                .is_some_and(|until| until > now && until <= now + RETRY_CHUNK_AFTER);
            let free = !row.done && !row.parked && row.claimant.is_none() && !rests;
            let before = row.behind.as_ref().and_then(|id| self.chunks.get(id));
            let is_first = before
                .is_none_or(|before| before.done || before.parked || before.rest_until.is_some());
            free && is_first && !self.is_held_back(&row.chunk)
        })
    }

    /// Whether a chunk waits for its job to be resumed. What is cancelled does not: it is skipped.
    pub(super) fn is_held_back(&self, chunk: &Chunk) -> bool {
        self.paused.contains_key(&chunk.job_id) && !self.is_cancelled(chunk.batch_id)
    }

    fn waiting_jobs(&self, now: DateTime<Utc>) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = self
            .waiting(now)
            .map(|row| row.chunk.job_id.clone())
            .collect();
        jobs.sort();
        jobs.dedup();
        jobs
    }

    fn waiting_chunks(&self, job_id: &JobId, now: DateTime<Utc>) -> Vec<Chunk> {
        let of_job = |row: &&ChunkRow| row.chunk.job_id == *job_id;
        let mut rows: Vec<&ChunkRow> = self.waiting(now).filter(of_job).collect();
        rows.sort_by_key(|row| (row.place, row.number));
        rows.into_iter().map(|row| row.chunk.clone()).collect()
    }

    fn release(&mut self, which: impl Fn(Claimant) -> bool, crashes: u32) -> u64 {
        let mut released = 0;
        for row in self.chunks.values_mut() {
            if row.claimant.is_some_and(&which) {
                row.claimant = None;
                row.crash_count += crashes;
                released += 1;
            }
        }
        released
    }
}
