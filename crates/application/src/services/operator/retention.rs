//! How long what has run is kept, and what would be removed now.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use punctual_domain::{JobId, KeepDays, Occurrence};
use serde::{Deserialize, Serialize};

use super::{Operator, OperatorError};
use crate::ports::{Removable, Retention, RetentionPolicy, StoreError, StoreErrorKind};

/// How long what has run is kept, and what would be removed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RetentionReport {
    /// When it was looked at.
    pub at: DateTime<Utc>,
    /// Before when nothing is removed, as the store has been used by an earlier version; `null`: it has begun.
    pub begins_at: Option<DateTime<Utc>>,
    /// Days for which the audit log is kept.
    pub keep_audit_log_days: i64,
    /// The jobs in effect, in the order of their file, then those that have runs and are not in effect.
    pub jobs: Vec<JobRetention>,
    /// What would be removed now and is of no job.
    pub removable: Vec<Removable>,
}

/// How long the runs of a job are kept, and what of them would be removed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobRetention {
    /// The job.
    pub job_id: JobId,
    /// How long its runs are kept.
    #[serde(flatten)]
    pub keep: KeepDays,
    /// Where these days come from.
    #[serde(default)]
    pub source: RetentionSource,
    /// The last date of its runs of which results have been removed; `null`: of none. Until then it is not known who ran.
    pub removed_to: Option<NaiveDate>,
    /// What would be removed now.
    pub removable: Vec<Removable>,
}

/// Where the days come from for which the runs of a job are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RetentionSource {
    /// The job, which is in effect.
    #[default]
    Job,
    /// The job is not in effect; the last leader that had it kept its runs so long.
    Remembered,
    /// The job is not in effect, and no earlier days are known.
    Unknown,
}

impl RetentionSource {
    /// What people are to know of it; `None`: nothing, the job is in effect.
    #[must_use]
    pub fn in_words(self) -> Option<&'static str> {
        match self {
            Self::Job => None,
            Self::Remembered => Some("not in effect, kept as before"),
            Self::Unknown => Some("not in effect, its days are not known"),
        }
    }
}

impl RetentionReport {
    /// Rows that would be removed now, their size in bytes, and when the oldest fell due or was written.
    #[must_use]
    pub fn total(&self) -> (u64, u64, Option<DateTime<Utc>>) {
        let of_jobs = self.jobs.iter().flat_map(|job| &job.removable);
        let all = || of_jobs.clone().chain(&self.removable);
        let rows = all().map(|one| one.rows).sum();
        let bytes = all().map(|one| one.bytes).sum();
        (rows, bytes, all().filter_map(|one| one.oldest).min())
    }
}

impl Operator {
    /// How long what has run is kept, and what would be removed now.
    ///
    /// # Errors
    /// The store fails.
    pub async fn retention(&self) -> Result<RetentionReport, OperatorError> {
        let config = self.jobs.current();
        let (remembered, now) = (self.retention.remembered().await?, self.clock.now());
        let policy = RetentionPolicy::of(&config).with_remembered(remembered);
        let mut of_jobs: BTreeMap<JobId, Vec<Removable>> = BTreeMap::new();
        let mut of_none = Vec::new();
        for removable in self.retention.removable(&policy, now).await? {
            match removable.job_id.clone() {
                Some(job_id) => of_jobs.entry(job_id).or_default().push(removable),
                None => of_none.push(removable),
            }
        }
        let with_runs: BTreeSet<JobId> = self.retention.jobs().await?.into_iter().collect();
        let mut names: Vec<JobId> = config.jobs.iter().map(|job| job.job_id.clone()).collect();
        let is_other = |job_id: &JobId| config.job(job_id).is_none();
        names.extend(with_runs.into_iter().filter(is_other));
        let mut jobs = Vec::new();
        for job_id in names {
            let source = match config.job(&job_id) {
                Some(_) => RetentionSource::Job,
                None if policy.jobs.contains_key(&job_id) => RetentionSource::Remembered,
                None => RetentionSource::Unknown,
            };
            jobs.push(JobRetention {
                keep: policy.of_job(&job_id),
                source,
                removed_to: self.retention.removed_to(&job_id).await?,
                removable: of_jobs.remove(&job_id).unwrap_or_default(),
                job_id,
            });
        }
        let begins_at = self.retention.begins_at().await?;
        Ok(RetentionReport {
            at: now,
            begins_at: begins_at.filter(|begins_at| *begins_at > now),
            keep_audit_log_days: RetentionPolicy::AUDIT_LOG.num_days(),
            jobs,
            removable: of_none,
        })
    }
}

/// What is said of a job's runs until a date of which results have been removed.
pub(super) fn removed_in_words(job_id: &JobId, removed_to: NaiveDate) -> String {
    format!(
        "results of {job_id} up to {removed_to} have been removed, so it is not known any more who ran on these dates"
    )
}

/// Refuses to run what may have run before its results were removed. Call it after those who ran have been read: what has been removed
/// until then is noted.
pub(super) async fn refuse_removed(
    retention: &dyn Retention,
    job_id: &JobId,
    occurrences: &[Occurrence],
) -> Result<(), StoreError> {
    let Some(removed_to) = retention.removed_to(job_id).await? else {
        return Ok(());
    };
    let is_removed = |occurrence: &Occurrence| {
        let date = occurrence.shard_date();
        date.is_some_and(|date| date <= removed_to)
    };
    if !occurrences.iter().any(is_removed) {
        return Ok(());
    }
    let next = removed_to.succ_opt().unwrap_or(removed_to);
    let message = format!(
        "{}; name dates from {next} on, or run the job now for the tenants who need it",
        removed_in_words(job_id, removed_to)
    );
    Err(StoreError::new(StoreErrorKind::Conflict, message))
}
