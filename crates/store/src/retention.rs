//! The port `Retention`: removes what has been kept for long enough.
//!
//! Runs are found from the oldest on, by an index that those which stay are behind in. Each portion is a transaction that locks its
//! run, so that nothing is queued for it meanwhile, and looks anew whether all of it is over. A run that keeps its failures longer
//! is marked as cleared when the rest has gone, and not looked at again before they go, too.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::ports::{
    Removable, RemovedKind, RemovedPortion, Retention, RetentionPolicy, StoreError,
};
use punctual_domain::{JobId, KeepDays};
use tokio::time::Instant;

use crate::{
    Store,
    driver::{FromRow, Row, values},
};

const NEXT_JOB: &str = "SELECT n.job_id FROM @runs n WHERE n.job_id > $1 ORDER BY n.job_id LIMIT 1";

/// Whether all batches of a run ended before an instant, and nothing of them is still to be delivered.
macro_rules! is_over {
    ($before:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM @batches b WHERE b.run = n.run AND (b.finished_at IS NULL OR b.finished_at >= ",
            $before,
            ")) AND NOT EXISTS (SELECT 1 FROM @batches b CROSS JOIN @deliveries d
                 WHERE b.run = n.run AND d.batch_id = b.batch_id AND d.state || '' = 'open')"
        )
    };
}

pub(crate) mod beside_runs;
pub(crate) mod preview;
pub(crate) mod run;

use self::{
    beside_runs::OTHERS,
    run::{Step, Target},
};

/// The next run of the job `$1` behind `$4` and `$5` that is cleared or not (`$2`), was due before `$3` and ended before `$6`.
pub(crate) const NEXT_RUN: &str = concat!(
    "SELECT n.run, n.occurrence, n.last_due FROM @runs n
     WHERE n.job_id = $1 AND n.cleared = $2 AND n.last_due < $3 AND n.last_due >= $4
       AND (n.last_due > $4 OR n.run > $5) AND ",
    is_over!("$6"),
    " ORDER BY n.last_due, n.run LIMIT 1"
);

const REMOVED_TO: &str = "SELECT to_date FROM @removed_results WHERE job_id = $1";

const REMEMBER_JOB: &str = "INSERT INTO @job_retention (job_id, results_days, failures_days) VALUES ($1, $2, $3)
     ON CONFLICT (job_id) DO UPDATE SET results_days = excluded.results_days, failures_days = excluded.failures_days";

const REMEMBERED_JOBS: &str = "SELECT job_id, results_days, failures_days FROM @job_retention";

const BEGINS_AT: &str = "SELECT value FROM @retention_state WHERE name = 'begins_at'";

const IS_BUSY: &str = "SELECT EXISTS (SELECT 1 FROM @batches b
         WHERE b.status IN ('queued', 'running') AND b.scheduled_at > $1 AND b.finished_at IS NULL)";

/// How far a pass over the store has come.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// The job whose runs are looked through; empty: none yet.
    job: String,
    /// Which of its runs.
    round: usize,
    /// When the last one that was found fell due, and its number.
    after: Option<(i64, i64)>,
    /// The run that is being removed.
    target: Option<Target>,
    /// How many of the tables beside runs are done; `None`: there may be runs.
    others: Option<usize>,
}

/// Runs of a job that are removed in one way.
#[derive(Debug, Clone, Copy)]
struct Round {
    cleared: i64,
    removes: Removes,
    age: TimeDelta,
}

/// What of a run is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removes {
    All,
    /// All but failures, and the batches and chunks that have some.
    Successes,
    Failures,
}

impl Round {
    /// First what is kept the shorter time goes, of the runs that have not been cleared, then the rest.
    fn of(keep: KeepDays) -> [Self; 2] {
        let first = match keep.results.cmp(&keep.failures) {
            std::cmp::Ordering::Less => Removes::Successes,
            std::cmp::Ordering::Equal => Removes::All,
            std::cmp::Ordering::Greater => Removes::Failures,
        };
        let first = Self {
            cleared: 0,
            removes: first,
            age: keep.shortest(),
        };
        let rest = Self {
            cleared: 1,
            removes: Removes::All,
            age: keep.longest(),
        };
        [first, rest]
    }

    /// When the last batch of such a run fell due at the latest, and when it ended.
    fn bounds(self, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        (now - self.age - KeepDays::SLACK, now - self.age)
    }
}

/// A run's number, its occurrence, and when the last of its batches fell due.
struct FoundRun(i64, String, i64);

impl FromRow for FoundRun {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self(row.next()?, row.next()?, row.next()?))
    }
}

/// A job, and how long it is kept.
struct RememberedJob(JobId, KeepDays);

impl FromRow for RememberedJob {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let job_id = row.parse()?;
        let keep = KeepDays {
            results: row.next()?,
            failures: row.next()?,
        };
        Ok(Self(job_id, keep))
    }
}

/// Numbers of rows that have been removed.
#[derive(Default)]
struct Removed(BTreeMap<RemovedKind, u64>);

impl Removed {
    fn add(&mut self, kind: RemovedKind, rows: u64) {
        if rows > 0 {
            *self.0.entry(kind).or_default() += rows;
        }
    }
}

#[async_trait]
impl Retention for Store {
    async fn remove(
        &self,
        policy: &RetentionPolicy,
        rows: u32,
        now: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError> {
        let mut pass = self.removal.lock().await;
        let rows = i64::from(rows.max(1));
        let removed = self.remove_portion(&mut pass, policy, rows, now).await;
        let goes_on = removed.as_ref().is_ok_and(|portion| !portion.is_last);
        if !goes_on {
            *pass = Pass::default();
        }
        removed
    }

    async fn removable(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        self.preview(policy, now).await
    }

    async fn removed_to(&self, job_id: &JobId) -> Result<Option<NaiveDate>, StoreError> {
        let row: Option<Row> = self
            .database
            .fetch_optional(REMOVED_TO, values![job_id])
            .await?;
        row.map(|mut row| row.parse()).transpose()
    }

    async fn remember(&self, jobs: &RetentionPolicy) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        for (job_id, keep) in &jobs.jobs {
            let job = values![job_id, keep.results, keep.failures];
            transaction.execute(REMEMBER_JOB, job).await?;
        }
        transaction.commit().await
    }

    async fn remembered(&self) -> Result<RetentionPolicy, StoreError> {
        let rows = self.database.fetch(REMEMBERED_JOBS, values![]);
        let rows: Vec<RememberedJob> = rows.await?;
        let jobs = rows.into_iter().map(|row| (row.0, row.1));
        Ok(RetentionPolicy {
            jobs: jobs.collect(),
        })
    }

    async fn jobs(&self) -> Result<Vec<JobId>, StoreError> {
        let jobs = self.jobs_with_runs().await?.into_iter();
        Ok(jobs.filter_map(|job| JobId::new(job).ok()).collect())
    }

    async fn begins_at(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.database.fetch_optional(BEGINS_AT, values![]).await
    }

    async fn is_busy(&self, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let busy = self.database.fetch_optional(IS_BUSY, values![since]);
        Ok(busy.await?.unwrap_or_default())
    }
}

/// How long the runs of a job are kept.
fn keep_of(policy: &RetentionPolicy, job: &str) -> KeepDays {
    JobId::new(job).map_or_else(
        |_| KeepDays::of_unknown_job(),
        |job_id| policy.of_job(&job_id),
    )
}

impl Store {
    /// The jobs that have runs, found by a look into the index for each.
    async fn jobs_with_runs(&self) -> Result<Vec<String>, StoreError> {
        let mut jobs: Vec<String> = Vec::new();
        loop {
            let last = jobs.last().map_or("", |last| last);
            let next = self.database.fetch_optional(NEXT_JOB, values![last]);
            let Some(next) = next.await? else {
                return Ok(jobs);
            };
            jobs.push(next);
        }
    }

    async fn remove_portion(
        &self,
        pass: &mut Pass,
        policy: &RetentionPolicy,
        rows: i64,
        now: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError> {
        // The jobs may have been edited since, to keep more.
        let is_as_found = |target: &Target| target.keep == keep_of(policy, &target.job);
        pass.target = pass.target.take().filter(is_as_found);
        if pass.target.is_none() && pass.others.is_none() {
            pass.target = self.next_run(pass, policy, now).await?;
        }
        let mut removed = Removed::default();
        // A portion that is cut off is done anew.
        if let Some(mut target) = pass.target.clone() {
            let began = self.remove_of_run(&mut target, rows, &mut removed).await?;
            pass.target = Some(target).filter(|target| !matches!(target.step, Step::Over));
            return Ok(RemovedPortion {
                rows: removed.0,
                held: began.elapsed(),
                is_last: false,
            });
        }
        let number = pass.others.unwrap_or_default();
        let Some(other) = OTHERS.get(number) else {
            return Ok(RemovedPortion {
                is_last: true,
                ..RemovedPortion::default()
            });
        };
        let mut transaction = self.database.begin().await?;
        let began = Instant::now();
        let written = other
            .remove(&mut transaction, policy, rows, now, &mut removed)
            .await?;
        transaction.commit().await?;
        pass.others = Some(number + usize::from(written < rows.unsigned_abs()));
        Ok(RemovedPortion {
            rows: removed.0,
            held: began.elapsed(),
            is_last: pass.others == Some(OTHERS.len()),
        })
    }

    /// The next run that something is removed of; `None`: of none, and the tables beside them are next.
    async fn next_run(
        &self,
        pass: &mut Pass,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Option<Target>, StoreError> {
        loop {
            let keep = keep_of(policy, &pass.job);
            let rounds = Round::of(keep);
            let round = rounds.get(pass.round).filter(|_| !pass.job.is_empty());
            let Some(round) = round else {
                let next = self.database.fetch_optional(NEXT_JOB, values![&*pass.job]);
                let Some(job) = next.await? else {
                    pass.others = Some(0);
                    return Ok(None);
                };
                (pass.job, pass.round, pass.after) = (job, 0, None);
                continue;
            };
            let (due_before, ended_before) = round.bounds(now);
            let (last_due, run) = pass.after.unwrap_or((i64::MIN, i64::MIN));
            let wanted = values![
                &*pass.job,
                round.cleared,
                due_before,
                last_due,
                run,
                ended_before
            ];
            let found: Option<FoundRun> = self.database.fetch_optional(NEXT_RUN, wanted).await?;
            let Some(FoundRun(run, occurrence, last_due)) = found else {
                (pass.round, pass.after) = (pass.round + 1, None);
                continue;
            };
            pass.after = Some((last_due, run));
            return Ok(Some(Target {
                job: pass.job.clone(),
                run,
                occurrence,
                prepares: last_due == 0,
                removes: round.removes,
                keep,
                ended_before,
                step: Step::Deliveries,
            }));
        }
    }
}
