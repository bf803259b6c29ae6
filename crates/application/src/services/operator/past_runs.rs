//! What has run for a tenant, as the tenant may see it: without what handlers made, and why they failed.

use std::collections::{BTreeMap, btree_map::Entry};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{FeatureType, ItemStatus, JobConfig, Occurrence, TenantId, Work};

use super::{Operator, OperatorError};
use crate::ports::{
    Page, PastRun, RunHistory, RunHistoryError, RunHistoryErrorKind, RunOutcome, StoredResult,
    TenantRuns,
};

/// How far back runs are listed.
const LOOK_BACK: TimeDelta = TimeDelta::days(90);
/// Runs that are listed at most.
const MAX_RUNS: u32 = 100;

impl PastRun {
    /// A result as its tenant may see it; `None`: it has not ended.
    fn of(stored: &StoredResult) -> Option<Self> {
        let outcome = match stored.result.status {
            ItemStatus::Running | ItemStatus::Waiting => return None,
            ItemStatus::Succeeded => RunOutcome::Succeeded,
            ItemStatus::Failed => RunOutcome::Failed,
            ItemStatus::NothingToDo => RunOutcome::NothingToDo,
            ItemStatus::Skipped => RunOutcome::Skipped,
        };
        // The word, without what may follow about the preference.
        let reason = stored.result.error.as_deref().unwrap_or_default();
        let reason = reason.split(':').next().unwrap_or_default().parse().ok();
        Some(Self {
            job_id: stored.job_id.clone(),
            occurrence: stored.occurrence,
            scheduled_at: stored.scheduled_at,
            finished_at: stored.result.finished_at?,
            outcome,
            reason: reason.filter(|_| outcome == RunOutcome::Skipped),
        })
    }
}

impl Operator {
    /// At most `limit` of the newest runs of a tenant for a feature, 1 to 100, of the last 90 days: those that have ended,
    /// the newest first. Of an occurrence that was skipped and has been run since, only the run is listed.
    ///
    /// # Errors
    /// The store fails.
    pub async fn past_runs(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
        limit: u32,
    ) -> Result<Vec<PastRun>, OperatorError> {
        let limit = limit.clamp(1, MAX_RUNS);
        let since = self.clock.now() - LOOK_BACK;
        let follows = |job: &&JobConfig| match &job.work {
            Work::Preferences {
                feature_type: of, ..
            } => of == feature_type,
            Work::Fixed { .. } => false,
        };
        let jobs = self.jobs.current();
        let mut runs = Vec::new();
        for job in jobs.jobs.iter().filter(follows) {
            runs.extend(self.past_runs_of(job, tenant_id, since, limit).await?);
        }
        runs.sort_by(|a, b| {
            let newest_first = b.scheduled_at.cmp(&a.scheduled_at);
            newest_first.then_with(|| a.job_id.cmp(&b.job_id))
        });
        runs.truncate(limit as usize);
        Ok(runs)
    }

    /// The newest runs of one job, `limit` or a few more.
    async fn past_runs_of(
        &self,
        job: &JobConfig,
        tenant_id: &TenantId,
        since: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<PastRun>, OperatorError> {
        let filter = TenantRuns {
            item_id: tenant_id.into(),
            job_id: Some(job.job_id.clone()),
            since: Some(since),
        };
        let mut page = Page {
            cursor: None,
            limit: limit + 1,
        };
        let mut found: BTreeMap<Occurrence, PastRun> = BTreeMap::new();
        loop {
            let (stored, next) = self.reader.tenant_runs(&filter, &page).await?;
            for run in stored.iter().filter_map(PastRun::of) {
                match found.entry(run.occurrence) {
                    Entry::Vacant(free) => _ = free.insert(run),
                    Entry::Occupied(mut known) => {
                        if known.get().outcome == RunOutcome::Skipped
                            && run.outcome != RunOutcome::Skipped
                        {
                            known.insert(run);
                        }
                    }
                }
            }
            // One more than wanted: what else there is of the last one wanted has been seen.
            if next.is_none() || found.len() > limit as usize {
                return Ok(found.into_values().collect());
            }
            page.cursor = next;
        }
    }
}

/// For a program that has the pages of a Config Database in its own process.
#[async_trait]
impl RunHistory for Operator {
    async fn past_runs(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
        limit: u32,
    ) -> Result<Vec<PastRun>, RunHistoryError> {
        // The method of the operator, which goes before that of the trait.
        let runs = Operator::past_runs(self, tenant_id, feature_type, limit).await;
        runs.map_err(|error| {
            let kind = RunHistoryErrorKind::Unavailable;
            RunHistoryError::new(kind, error.to_string()).with_source(error)
        })
    }
}
