//! The ports that remove what the store holds: old results, and everything of tenants who are erased. With errors before or
//! after they have done their work, and a log of what is gone.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use punctual_application::ports::{
    AuditFilter, BatchReader, Clock, ErasedRecords, OperatorStore, Page, Removable, RemovedKind,
    RemovedPortion, Retention, RetentionPolicy, StoreError, TenantExport, TenantRecords,
    WaitingFilter, WaitingItems,
};
use punctual_domain::{ItemId, ItemStatus, JobId, Occurrence, TenantId};

use super::{FaultyStore, WaitEnd};
use crate::simulation::outcome::Bug;

/// An item's run.
pub type RunKey = (JobId, ItemId, Occurrence);

/// Results that a portion removes at most: so few that a pass takes many portions.
const PORTION: u32 = 7;

/// A result that was removed as old.
#[derive(Debug, Clone)]
pub struct Removal {
    /// By the true clock.
    pub at: DateTime<Utc>,
    pub run: RunKey,
}

/// A tenant who was erased in the store.
#[derive(Debug, Clone)]
pub struct Erasure {
    /// By the true clock.
    pub at: DateTime<Utc>,
    pub item_id: ItemId,
}

impl FaultyStore {
    /// The runs that have had an outcome and are known in the store.
    pub async fn held(&self) -> BTreeSet<RunKey> {
        let mut runs: BTreeMap<(JobId, Occurrence), BTreeSet<ItemId>> = BTreeMap::new();
        for commit in &*self.commits.lock().unwrap() {
            let run = (commit.job_id.clone(), commit.occurrence);
            let items = runs.entry(run).or_default();
            items.insert(commit.result.item_id.clone());
        }
        let mut held = BTreeSet::new();
        for ((job_id, occurrence), items) in runs {
            let items: Vec<ItemId> = items.into_iter().collect();
            let known = self.inner.started_items(&job_id, occurrence, &items).await;
            let run = |item_id| (job_id.clone(), item_id, occurrence);
            held.extend(known.unwrap().into_iter().map(run));
        }
        held
    }

    /// What is held of a tenant, in words.
    pub async fn held_of(&self, tenant_id: &TenantId) -> Vec<String> {
        let mut found = Vec::new();
        let export = self.inner.export(tenant_id).await.unwrap();
        for (kind, records) in export.0 {
            found.extend(records.iter().map(|record| format!("{kind}: {record}")));
        }
        let item_id = ItemId::from(tenant_id);
        let queued = self.inner.pending();
        let queued = queued
            .iter()
            .filter(|chunk| chunk.items.contains(&item_id))
            .map(|chunk| format!("the chunk of {} for {}", chunk.job_id, chunk.occurrence));
        found.extend(queued);
        let all = Page {
            cursor: None,
            limit: 100_000,
        };
        let filter = WaitingFilter {
            item_id: Some(item_id),
            ..WaitingFilter::default()
        };
        let (calls, _) = self.inner.waiting_calls(&filter, &all).await.unwrap();
        let call = |job_id: &JobId, occurrence: Occurrence| {
            format!("a waiting call of {job_id} for {occurrence}")
        };
        found.extend(calls.iter().map(|one| call(&one.job_id, one.occurrence)));
        let log = self.inner.audit_log(&AuditFilter::default(), &all).await;
        for entry in log.unwrap().0 {
            let text = format!("{} {} {}", entry.action, entry.subject, entry.detail);
            let mut words = text.split(|letter: char| !letter.is_alphanumeric());
            if words.any(|word| word == tenant_id.as_str()) {
                found.push(format!("the audit log: {text}"));
            }
        }
        found
    }

    /// Writes down which results are gone.
    async fn note_removed(&self) {
        let (held, now) = (self.held().await, self.time.now());
        let erased = self.erased.lock().unwrap();
        let queued = self.queued.lock().unwrap();
        let mut removed = self.removed.lock().unwrap();
        let mut known: BTreeSet<RunKey> =
            removed.iter().map(|removal| removal.run.clone()).collect();
        for commit in &*self.commits.lock().unwrap() {
            let item_id = &commit.result.item_id;
            let run = (commit.job_id.clone(), item_id.clone(), commit.occurrence);
            let since = queued[&commit.batch_id].at;
            let is_erased = erased
                .iter()
                .any(|erasure| erasure.item_id == *item_id && erasure.at >= since);
            let is_outcome = commit.result.status != ItemStatus::Skipped;
            if is_outcome && !is_erased && !held.contains(&run) && known.insert(run.clone()) {
                removed.push(Removal { at: now, run });
            }
        }
    }

    /// Writes down that a tenant is erased, which ends what waits of them.
    fn note_erased(&self, tenant_id: &TenantId) {
        let (at, item_id) = (self.time.now(), ItemId::from(tenant_id));
        let mut begun = self.waits.begun.lock().unwrap();
        let open = begun
            .iter_mut()
            .filter(|wait| wait.item_id == item_id && wait.ended.is_empty());
        for wait in open {
            wait.ended.push((at, WaitEnd::Erased));
        }
        self.erased.lock().unwrap().push(Erasure { at, item_id });
    }

    /// Whether a tenant was erased at any time.
    pub(super) fn was_erased(&self, item_id: &ItemId) -> bool {
        let erased = self.erased.lock().unwrap();
        erased.iter().any(|erasure| erasure.item_id == *item_id)
    }

    /// Whether the result of a run was removed.
    pub(super) fn was_removed(&self, job_id: &JobId, item_id: &ItemId, of: Occurrence) -> bool {
        let removed = self.removed.lock().unwrap();
        removed
            .iter()
            .any(|removal| (&removal.run.0, &removal.run.1, removal.run.2) == (job_id, item_id, of))
    }
}

#[async_trait]
impl Retention for FaultyStore {
    async fn remove(
        &self,
        policy: &RetentionPolicy,
        rows: u32,
        now: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError> {
        let (fails, after) = self.fails("remove");
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        if self.bug == Some(Bug::OldResultsStay) {
            return Ok(RemovedPortion {
                is_last: true,
                ..RemovedPortion::default()
            });
        }
        let portion = self.inner.remove(policy, rows.min(PORTION), now).await?;
        if portion.rows.contains_key(&RemovedKind::Results) {
            self.note_removed().await;
        }
        self.result(Ok(portion), fails)
    }

    async fn removable(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        self.inner.removable(policy, now).await
    }

    async fn removed_to(&self, job_id: &JobId) -> Result<Option<NaiveDate>, StoreError> {
        if self.bug == Some(Bug::RemovalsAreForgotten) {
            return Ok(None);
        }
        let (fails, _) = self.fails(("removed to", job_id));
        self.result(self.inner.removed_to(job_id).await, fails)
    }

    async fn remember(&self, jobs: &RetentionPolicy) -> Result<(), StoreError> {
        let (fails, _) = self.fails("remember");
        self.result(self.inner.remember(jobs).await, fails)
    }

    async fn remembered(&self) -> Result<RetentionPolicy, StoreError> {
        let (fails, _) = self.fails("remembered");
        self.result(self.inner.remembered().await, fails)
    }

    async fn jobs(&self) -> Result<Vec<JobId>, StoreError> {
        self.inner.jobs().await
    }

    async fn begins_at(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let (fails, _) = self.fails("begins at");
        self.result(self.inner.begins_at().await, fails)
    }

    async fn is_busy(&self, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let (fails, _) = self.fails("busy");
        self.result(self.inner.is_busy(since).await, fails)
    }
}

#[async_trait]
impl TenantRecords for FaultyStore {
    async fn erase(
        &self,
        tenant_id: &TenantId,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError> {
        let erasure = self.inner.erase(tenant_id, now);
        self.erased_by(tenant_id, erasure).await
    }

    async fn erase_once(
        &self,
        tenant_id: &TenantId,
        erased_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError> {
        let erasure = self.inner.erase_once(tenant_id, erased_at, now);
        self.erased_by(tenant_id, erasure).await
    }

    async fn export(&self, tenant_id: &TenantId) -> Result<TenantExport, StoreError> {
        self.inner.export(tenant_id).await
    }
}

impl FaultyStore {
    async fn erased_by(
        &self,
        tenant_id: &TenantId,
        erasure: impl Future<Output = Result<ErasedRecords, StoreError>> + Send,
    ) -> Result<ErasedRecords, StoreError> {
        let (fails, after) = self.fails(("erase", tenant_id));
        if fails && !after {
            return Err(StoreError::unavailable("simulated"));
        }
        if self.bug == Some(Bug::ErasuresAreLost) {
            return Ok(ErasedRecords::default());
        }
        let erased = erasure.await?;
        if self.bug == Some(Bug::ErasedRunsRunAgain) {
            self.inner.forget_erased_runs();
        }
        self.note_erased(tenant_id);
        // A chunk without the tenant may be over, or wait for nothing any more.
        self.wake();
        self.result(Ok(erased), fails)
    }
}
