//! The store that outlives the agents, with errors before or after it has done its work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        BatchStore, Claim, Claimant, Clock, Committed, Enqueued, Leadership, StoreError, WorkQueue,
    },
    testing::{FakeStore, ManualClock},
};
use punctual_domain::{Chunk, Firing, ItemResult, JobId, NewBatch, Progress, TenantId};
use uuid::Uuid;

use super::{faults::Weather, world::Bug};

/// The store, with errors before or after it has done its work.
pub struct FaultyStore {
    pub inner: FakeStore,
    time: Arc<ManualClock>,
    weather: Weather,
    random: Mutex<fastrand::Rng>,
    bug: Option<Bug>,
    /// When batches were stored, by the true clock.
    pub queued: Mutex<Vec<(Uuid, DateTime<Utc>)>>,
}

impl FaultyStore {
    pub fn new(time: Arc<ManualClock>, weather: Weather, seed: u64, bug: Option<Bug>) -> Self {
        Self {
            inner: FakeStore::default(),
            time,
            weather,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            bug,
            queued: Mutex::default(),
        }
    }

    /// Whether to fail, and whether only after the work.
    fn fails(&self) -> (bool, bool) {
        let often = self
            .weather
            .at(self.time.now())
            .map_or(0, |storm| storm.store_errors);
        let mut random = self.random.lock().unwrap();
        (random.u8(..100) < often, random.bool())
    }

    fn result<T>(&self, work: Result<T, StoreError>, fails: bool) -> Result<T, StoreError> {
        if fails {
            return Err(StoreError::unavailable("simulated"));
        }
        work
    }
}

#[async_trait]
impl WorkQueue for FaultyStore {
    async fn progress(&self, job_id: &JobId) -> Result<Option<Progress>, StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.progress(job_id).await, fails)
    }

    async fn lead(&self, process: Uuid, term: Duration) -> Result<Leadership, StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.lead(process, term).await, fails)
    }

    async fn paused(&self) -> Result<BTreeMap<JobId, String>, StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.paused().await, fails)
    }

    async fn set_paused(
        &self,
        job_id: &JobId,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.inner.set_paused(job_id, reason, now).await
    }

    async fn cancel(&self, batch_id: Uuid) -> Result<bool, StoreError> {
        self.inner.cancel(batch_id).await
    }

    async fn settle(
        &self,
        ids: &[i64],
        batches: Vec<NewBatch>,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        self.inner.settle(ids, batches, now).await
    }

    async fn enqueue(
        &self,
        mut firing: Firing,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, StoreError> {
        let (fails, after) = self.fails();
        if fails && !after {
            if self.bug == Some(Bug::ProgressWithoutBatches) {
                firing.batches.clear();
                return self.inner.enqueue(firing, now).await;
            }
            return Err(StoreError::unavailable("simulated"));
        }
        if self.bug == Some(Bug::ProgressAhead) {
            for progress in &mut firing.progress {
                progress.scheduled_until += TimeDelta::hours(2);
            }
        }
        let enqueued = self.inner.enqueue(firing, now).await?;
        let at = self.time.now();
        let new = enqueued.batches.iter().map(|batch| (batch.batch_id, at));
        self.queued.lock().unwrap().extend(new);
        self.result(Ok(enqueued), fails)
    }
}

#[async_trait]
impl BatchStore for FaultyStore {
    async fn claim(
        &self,
        chunk: &Chunk,
        claimant: Claimant,
        now: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.claim(chunk, claimant, now).await, fails)
    }

    async fn running(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &TenantId,
        began: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.inner.running(chunk, token, tenant, began).await
    }

    async fn suspect(
        &self,
        chunk: &Chunk,
        token: Uuid,
        tenant: &TenantId,
    ) -> Result<bool, StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.suspect(chunk, token, tenant).await, fails)
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        token: Uuid,
        results: &[ItemResult],
    ) -> Result<Committed, StoreError> {
        let (fails, after) = self.fails();
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        let mut results = results.to_vec();
        if self.bug == Some(Bug::ResultsOfAnother)
            && let Some(first) = results.first().map(|first| first.output.clone())
        {
            results
                .iter_mut()
                .for_each(|result| result.output = first.clone());
        }
        self.result(self.inner.commit(chunk, token, &results).await, fails)
    }

    async fn release(&self, chunk: &Chunk, token: Uuid) -> Result<(), StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.release(chunk, token).await, fails)
    }

    async fn finish(
        &self,
        chunk: &Chunk,
        token: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (fails, _) = self.fails();
        self.result(self.inner.finish(chunk, token, now).await, fails)
    }
}
