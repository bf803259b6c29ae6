//! Removes what has been kept for long enough, in portions so small that nothing else has to wait for them.
//!
//! A run is removed as a whole or not at all: when the last of its batches fell due longer ago than its job keeps it, all of them are
//! over, and what they deliver has been delivered or given up. Results that are kept the shorter time go first; batches, chunks and
//! counts of failures stay as long as the failures. Deliveries go before the first of them: made again, they would deliver what is
//! left as if it were all. What may still be asked of a run that was removed is kept: the last date of
//! such a run ([`Retention::removed_to`]), after which it is not known who ran, and the last success of each item, which
//! [`BatchStore::previous`](super::BatchStore::previous) still finds.
//!
//! A job that is not in effect any more is kept as its last leader kept it: the leader [remembers](Retention::remember) the days of
//! its own jobs before it removes anything, and goes by [what is remembered](Retention::remembered) for all others. So a leader
//! without the job removes nothing that the leader before it would have kept, whatever the files of other processes say.
//!
//! `testing::contract::retention` checks what an implementation keeps to.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_domain::{BatchConfig, JobId, KeepDays};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// Removes what has been kept for long enough.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Retention: Send + Sync {
    /// Removes one portion of about `rows` rows in one transaction. A pass over the store is many calls: each goes on where the
    /// last one of this process has stopped.
    async fn remove(
        &self,
        policy: &RetentionPolicy,
        rows: u32,
        now: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError>;

    /// What a pass would remove now, by job and kind; of results, what their batches have counted.
    async fn removable(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError>;

    /// The last date of a job's runs of which results have been removed; `None`: of none. Of a run on a later date everything is
    /// there.
    async fn removed_to(&self, job_id: &JobId) -> Result<Option<NaiveDate>, StoreError>;

    /// Remembers how long these jobs are kept. What is remembered of others stays.
    async fn remember(&self, jobs: &RetentionPolicy) -> Result<(), StoreError>;

    /// How long jobs are kept, as was remembered last.
    async fn remembered(&self) -> Result<RetentionPolicy, StoreError>;

    /// The jobs that have runs in the store, in any order.
    async fn jobs(&self) -> Result<Vec<JobId>, StoreError>;

    /// Before when nothing is to be removed; `None`: it may begin.
    async fn begins_at(&self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Whether batches that fell due after `since` are not over.
    async fn is_busy(&self, since: DateTime<Utc>) -> Result<bool, StoreError>;
}

/// How long the runs of each job are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// Days, by job.
    pub jobs: BTreeMap<JobId, KeepDays>,
}

impl RetentionPolicy {
    /// How long the audit log is kept.
    pub const AUDIT_LOG: TimeDelta = TimeDelta::days(365);

    /// That of these jobs.
    #[must_use]
    pub fn of(config: &BatchConfig) -> Self {
        let jobs = config.jobs.iter();
        Self {
            jobs: jobs.map(|job| (job.job_id.clone(), job.keep)).collect(),
        }
    }

    /// The same, with what is remembered of other jobs.
    #[must_use]
    pub fn with_remembered(mut self, remembered: Self) -> Self {
        for (job_id, keep) in remembered.jobs {
            self.jobs.entry(job_id).or_insert(keep);
        }
        self
    }

    /// The jobs that are remembered with other days, or not at all.
    #[must_use]
    pub fn changed_from(&self, remembered: &Self) -> Self {
        let jobs = self.jobs.iter();
        let changed = jobs.filter(|(job_id, keep)| remembered.jobs.get(*job_id) != Some(*keep));
        Self {
            jobs: changed
                .map(|(job_id, keep)| (job_id.clone(), *keep))
                .collect(),
        }
    }

    /// How long the runs of a job are kept, also of one that is [not known](KeepDays::of_unknown_job).
    #[must_use]
    pub fn of_job(&self, job_id: &JobId) -> KeepDays {
        let keep = self.jobs.get(job_id).copied();
        keep.unwrap_or_else(KeepDays::of_unknown_job)
    }
}

/// What one transaction has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemovedPortion {
    /// Number of rows, by kind.
    pub rows: BTreeMap<RemovedKind, u64>,
    /// How long it kept others from writing.
    pub held: Duration,
    /// Whether the pass is over.
    pub is_last: bool,
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RemovedKind {
    /// Results of items.
    Results,
    /// Items that were skipped.
    SkippedItems,
    /// Dead letters.
    DeadLetters,
    /// Deliveries that are over.
    Deliveries,
    /// Chunks, with what they consisted of.
    Chunks,
    /// Batches.
    Batches,
    /// Runs.
    Runs,
    /// What the first of two purposes has made.
    KeptOutputs,
    /// What was prepared and never taken.
    PreparedOutputs,
    /// Provider batches that are over, or are of purposes that do not exist any more.
    ProviderBatches,
    /// Contents of preferences that no result refers to any more.
    Preferences,
    /// Last successes that are too old to be asked for.
    LastSuccesses,
    /// Entries of the audit log.
    AuditLog,
    /// Requests under idempotency keys.
    Requests,
}

impl RemovedKind {
    /// The word in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::SkippedItems => "skipped_items",
            Self::DeadLetters => "dead_letters",
            Self::Deliveries => "deliveries",
            Self::Chunks => "chunks",
            Self::Batches => "batches",
            Self::Runs => "runs",
            Self::KeptOutputs => "kept_outputs",
            Self::PreparedOutputs => "prepared_outputs",
            Self::ProviderBatches => "provider_batches",
            Self::Preferences => "preferences",
            Self::LastSuccesses => "last_successes",
            Self::AuditLog => "audit_log",
            Self::Requests => "requests",
        }
    }
}

/// Rows of one kind that a pass would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Removable {
    /// The job; `null`: they are of no job.
    pub job_id: Option<JobId>,
    /// What they are.
    pub kind: RemovedKind,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes, estimated.
    pub bytes: u64,
    /// When the oldest of them fell due or was written.
    pub oldest: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jobs: &[(&str, u32, u32)]) -> RetentionPolicy {
        let keep = |&(job, results, failures): &(&str, u32, u32)| {
            let keep = KeepDays { results, failures };
            (JobId::new(job).expect("valid"), keep)
        };
        RetentionPolicy {
            jobs: jobs.iter().map(keep).collect(),
        }
    }

    #[test]
    fn a_job_in_effect_goes_by_itself_and_any_other_by_what_is_remembered() {
        let in_effect = policy(&[("new", 1, 2), ("shorter", 5, 5), ("same", 7, 8)]);
        let remembered = policy(&[
            ("shorter", 3_650, 3_650),
            ("same", 7, 8),
            ("gone", 3_650, 9),
        ]);
        let changed = in_effect.changed_from(&remembered);
        assert_eq!(changed, policy(&[("new", 1, 2), ("shorter", 5, 5)]));
        let all = in_effect.with_remembered(remembered);
        let expected = [
            ("new", 1, 2),
            ("shorter", 5, 5),
            ("same", 7, 8),
            ("gone", 3_650, 9),
        ];
        assert_eq!(all, policy(&expected));
    }

    #[test]
    fn a_job_that_is_not_known_is_kept_for_the_most_usual_days() {
        let unknown = JobId::new("unknown").expect("valid");
        let keep = policy(&[("short", 1, 1)]).of_job(&unknown);
        let usual = KeepDays::default();
        assert_eq!(keep.shortest(), usual.longest(), "also what succeeded");
        assert_eq!(keep.longest(), usual.longest());
    }
}
