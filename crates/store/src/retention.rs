//! The port `Retention`: removes what has been kept for long enough.
//!
//! Runs are found from the oldest on, by an index that those which stay are behind in. Each portion is a transaction that locks its
//! run, so that nothing is queued for it meanwhile, and looks anew whether all of it is over. A run that keeps its failures longer
//! is marked as cleared when the rest has gone, and not looked at again before they go, too.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::ports::{
    KEEP_ENDED, Removable, RemovedKind, RemovedPortion, Retention, RetentionPolicy, StoreError,
};
use punctual_domain::{JobId, KeepDays, Occurrence};
use tokio::time::Instant;

use crate::{
    Store,
    driver::{Connection, FromRow, Row, Value, values},
    operations::REQUEST_TTL,
    prepared_outputs::{KEPT_FOR, REMOVE_OLD},
    previous::MAX_AGE,
    results::USE_PERIOD,
    tenant_records::done::{REMEMBERED_FOR, REMOVE_DONE},
};

/// A chunk or a batch, with what belongs to it, costs as much as so many results.
const COST: i64 = 20;
/// Estimated sizes in bytes.
const LETTER_BYTES: u64 = 250;
const SKIPPED_BYTES: u64 = 120;
const BATCH_BYTES: u64 = 400;
const ENTRY_BYTES: u64 = 200;

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

/// The next run of the job `$1` behind `$4` and `$5` that is cleared or not (`$2`), was due before `$3` and ended before `$6`.
pub(crate) const NEXT_RUN: &str = concat!(
    "SELECT n.run, n.occurrence, n.last_due FROM @runs n
     WHERE n.job_id = $1 AND n.cleared = $2 AND n.last_due < $3 AND n.last_due >= $4
       AND (n.last_due > $4 OR n.run > $5) AND ",
    is_over!("$6"),
    " ORDER BY n.last_due, n.run LIMIT 1"
);

const LOCK_RUN: &str = "SELECT n.run FROM @runs n WHERE n.run = $1 @for_delete(n)";

/// By a statement of its own: behind the lock, it sees what was queued before.
const IS_OVER: &str = concat!(
    "SELECT n.run FROM @runs n WHERE n.run = $1 AND ",
    is_over!("$2")
);

const MARK: &str = "INSERT INTO @removed_results AS m (job_id, to_date) VALUES ($1, $2)
     ON CONFLICT (job_id) DO UPDATE SET to_date = excluded.to_date WHERE @bytes(m.to_date) < @bytes(excluded.to_date)";

/// Deliveries of the batches of a run that are over. They go before its results: made again later, they would deliver what is left.
pub(crate) const REMOVE_DELIVERIES: &str =
    "DELETE FROM @deliveries WHERE state || '' <> 'open' AND id IN (SELECT d.id FROM @batches b CROSS JOIN @deliveries d
         WHERE b.run = $1 AND d.batch_id = b.batch_id LIMIT $2)";

/// Whether deliveries of a run are left: an operator has just had one made again.
const DELIVERS: &str = "SELECT EXISTS (SELECT 1 FROM @batches b CROSS JOIN @deliveries d
         WHERE b.run = $1 AND d.batch_id = b.batch_id)";

/// The next results of a run, and what each costs: as much as a small one for itself and for each page of a large output, which is
/// freed, too. The sizes are known without reading them.
pub(crate) const SLICE: &str = "SELECT r.tenant_id,
         CAST(1 + (coalesce(octet_length(r.output), 0) + coalesce(octet_length(r.error), 0)) / 2000 AS BIGINT)
     FROM @results r WHERE r.run = $1 AND r.tenant_id > $2 ORDER BY r.tenant_id LIMIT $3";

/// Keeps the last success of items whose results are removed.
pub(crate) const REMEMBER: &str =
    "INSERT INTO @last_successes AS l (job_id, tenant_id, occurrence, scheduled_at, finished_at)
     SELECT $4, r.tenant_id, $5, b.scheduled_at, r.started_at + coalesce(r.duration, 0)
     FROM @results r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
     WHERE r.run = $1 AND r.tenant_id > $2 AND r.tenant_id <= $3 AND r.status = 1
     ON CONFLICT (tenant_id, job_id) DO UPDATE SET occurrence = excluded.occurrence,
         scheduled_at = excluded.scheduled_at, finished_at = excluded.finished_at
     WHERE l.scheduled_at < excluded.scheduled_at";

pub(crate) const REMOVE_RESULTS: &str =
    "DELETE FROM @results WHERE run = $1 AND tenant_id > $2 AND tenant_id <= $3";

/// Dead letters of the batches of a run. It waits for none: who settles them waits for the run.
pub(crate) const REMOVE_LETTERS: &str =
    "DELETE FROM @dead_letters WHERE id IN (SELECT d.id FROM @batches b CROSS JOIN @dead_letters d
         WHERE b.run = $1 AND d.batch_id = b.batch_id LIMIT $2 @for_update_free(d))";

/// Chunks of a run, with how many items they have skipped.
pub(crate) const CHUNKS: &str = "SELECT c.chunk, c.skipped FROM @batches b CROSS JOIN @chunks c WHERE b.run = $1 AND c.batch_id = b.batch_id";
/// Those that nothing has failed in. What a replay has brought stands in its chunks.
const WITHOUT_FAILURES: &str = " AND c.failed = 0 AND b.trigger <> 'replay'";

const REMOVE_SKIPPED: &str = "DELETE FROM @skipped_items WHERE @in_integers(chunk, $1)";
const REMOVE_MESSAGES: &str = "DELETE FROM @chunk_messages WHERE @in_integers(chunk, $1)";
const REMOVE_CHUNKS: &str = "DELETE FROM @chunks WHERE @in_integers(chunk, $1)";

/// Batches of a run that have no chunks left, and no dead letters that somebody has just settled.
pub(crate) const BATCHES: &str = "SELECT b.batch_id FROM @batches b WHERE b.run = $1
       AND NOT EXISTS (SELECT 1 FROM @chunks c WHERE c.batch_id = b.batch_id)
       AND NOT EXISTS (SELECT 1 FROM @dead_letters d WHERE d.batch_id = b.batch_id)";

const REMOVE_COUNTS: &str = "DELETE FROM @replayed_letters WHERE @in_texts(batch_id, $1)";
const REMOVE_BATCHES: &str = "DELETE FROM @batches WHERE @in_texts(batch_id, $1)";

/// Whether batches or results of a run are left.
const IS_LEFT: &str = "SELECT EXISTS (SELECT 1 FROM @batches b WHERE b.run = $1)
         OR EXISTS (SELECT 1 FROM @results r WHERE r.run = $1)";

const REMOVE_KEPT: &str = "DELETE FROM @kept_outputs WHERE (run, tenant_id) IN
         (SELECT k.run, k.tenant_id FROM @kept_outputs k WHERE k.run = $1 LIMIT $2)";

const REMOVE_RUN: &str = "DELETE FROM @runs WHERE run = $1";
const CLEAR_RUN: &str = "UPDATE @runs SET cleared = 1 WHERE run = $1 AND cleared = 0";

pub(crate) const REMOVE_AUDIT_LOG: &str = "DELETE FROM @audit_log WHERE id IN
         (SELECT a.id FROM @audit_log a WHERE a.at < $1 ORDER BY a.at LIMIT $2)";

pub(crate) const REMOVE_REQUESTS: &str = "DELETE FROM @requests WHERE id IN
         (SELECT q.id FROM @requests q WHERE q.at < $1 ORDER BY q.at LIMIT $2)";

pub(crate) const REMOVE_PROVIDER_BATCHES: &str = "DELETE FROM @provider_batches WHERE id IN
         (SELECT p.id FROM @provider_batches p WHERE p.ended_at < $1 ORDER BY p.ended_at LIMIT $2)";

/// A provider batch that is not over, none of whose calls waits any more: its purpose does not exist any more, or does without.
const ABANDONED: &str = "SELECT p.id FROM @provider_batches p WHERE p.ended_at IS NULL AND p.created_at < $1
       AND NOT EXISTS (SELECT 1 FROM @provider_batch_calls c JOIN @waiting_items w ON w.call_id = c.call_id
                       WHERE c.provider_batch = p.id)
     LIMIT 1";
const REMOVE_CALLS: &str = "DELETE FROM @provider_batch_calls WHERE call_id IN
         (SELECT c.call_id FROM @provider_batch_calls c WHERE c.provider_batch = $1 LIMIT $2)";
const REMOVE_PROVIDER_BATCH: &str = "DELETE FROM @provider_batches WHERE id = $1";

pub(crate) const REMOVE_SUCCESSES: &str = "DELETE FROM @last_successes WHERE (tenant_id, job_id) IN
         (SELECT l.tenant_id, l.job_id FROM @last_successes l WHERE l.scheduled_at < $1 ORDER BY l.scheduled_at LIMIT $2)";

/// Contents that a version without this column has stored count as used now.
const ADOPT_PREFERENCES: &str = "UPDATE @preferences SET used_at = $1 WHERE hash IN
         (SELECT p.hash FROM @preferences p WHERE p.used_at = 0 LIMIT $2 @for_update_free(p))";

pub(crate) const REMOVE_PREFERENCES: &str = "DELETE FROM @preferences WHERE hash IN
         (SELECT p.hash FROM @preferences p WHERE p.used_at > 0 AND p.used_at < $1 ORDER BY p.used_at LIMIT $2
          @for_update_free(p))";

/// What the batches of runs have counted, when the oldest of them fell due, and one of the runs.
pub(crate) const COUNTS: &str = concat!(
    "SELECT CAST(coalesce(sum(o.succeeded + o.nothing_to_do), 0) AS BIGINT), CAST(coalesce(sum(o.failed), 0) AS BIGINT),
         CAST(coalesce(sum(o.skipped), 0) AS BIGINT), count(*), min(o.scheduled_at), min(n.run)
     FROM @runs n CROSS JOIN @batches o
     WHERE n.job_id = $1 AND n.cleared = $2 AND n.last_due < $3 AND o.run = n.run AND ",
    is_over!("$4")
);

/// The size in bytes of a result of a run, of the first ones.
const RESULT_BYTES: &str = "SELECT CAST(coalesce(avg(60 + octet_length(s.tenant_id) * 2 + coalesce(octet_length(s.output), 0)
         + coalesce(octet_length(s.error), 0)), 100) AS BIGINT)
     FROM (SELECT r.tenant_id, r.output, r.error FROM @results r WHERE r.run = $1 LIMIT 200) s";

const OLD_ENTRIES: &str = "SELECT count(*), min(a.at) FROM @audit_log a WHERE a.at < $1";

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

/// A run that is being removed, and how far.
#[derive(Debug, Clone)]
struct Target {
    job: String,
    run: i64,
    occurrence: String,
    /// Whether it only prepares another one.
    prepares: bool,
    removes: Removes,
    /// How long its job kept runs when it was found.
    keep: KeepDays,
    ended_before: DateTime<Utc>,
    step: Step,
}

/// What of a run is removed next.
#[derive(Debug, Clone)]
enum Step {
    Deliveries,
    /// Results behind this tenant.
    Results(String),
    Letters,
    Chunks,
    Batches,
    Kept,
    End,
    Over,
}

/// The tables beside runs.
#[derive(Debug, Clone, Copy)]
enum Other {
    AuditLog,
    Requests,
    PreparedOutputs,
    ProviderBatches,
    AbandonedBatches,
    LastSuccesses,
    NewPreferences,
    Preferences,
    DoneErasures,
}

const OTHERS: [Other; 9] = [
    Other::AuditLog,
    Other::Requests,
    Other::PreparedOutputs,
    Other::ProviderBatches,
    Other::AbandonedBatches,
    Other::LastSuccesses,
    Other::NewPreferences,
    Other::Preferences,
    Other::DoneErasures,
];

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
        let mut found = Vec::new();
        let mut job = String::new();
        loop {
            let next = self
                .database
                .fetch_optional(NEXT_JOB, values![&*job])
                .await?;
            let Some(next) = next else { break };
            job = next;
            for round in Round::of(keep_of(policy, &job)) {
                found.extend(self.removable_of(policy, &job, round, now).await?);
            }
        }
        let before = values![now - RetentionPolicy::AUDIT_LOG];
        let entries = self.database.fetch_optional(OLD_ENTRIES, before).await?;
        let (rows, oldest): (u64, Option<DateTime<Utc>>) = entries.unwrap_or_default();
        found.push(Removable {
            job_id: None,
            kind: RemovedKind::AuditLog,
            rows,
            bytes: rows * ENTRY_BYTES,
            oldest,
        });
        found.retain(|one| one.rows > 0);
        Ok(found)
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
        let (mut jobs, mut last) = (Vec::new(), String::new());
        loop {
            let next = self.database.fetch_optional(NEXT_JOB, values![&*last]);
            let Some(next) = next.await? else {
                return Ok(jobs);
            };
            last = next;
            jobs.extend(JobId::new(&last).ok());
        }
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

    /// Removes rows of a run, in one transaction, if it is still over. Returns when the transaction began.
    async fn remove_of_run(
        &self,
        target: &mut Target,
        rows: i64,
        removed: &mut Removed,
    ) -> Result<Instant, StoreError> {
        let mut transaction = self.database.begin().await?;
        let began = Instant::now();
        let run = values![target.run];
        let locked: Option<i64> = transaction.fetch_optional(LOCK_RUN, run).await?;
        let over = values![target.run, target.ended_before];
        let over: Option<i64> = transaction.fetch_optional(IS_OVER, over).await?;
        if locked.and(over).is_none() {
            target.step = Step::Over;
            return Ok(began);
        }
        let occurrence = target.occurrence.parse::<Occurrence>();
        if let Some(date) = occurrence.ok().and_then(Occurrence::shard_date) {
            let date = values![&*target.job, date.to_string()];
            transaction.execute(MARK, date).await?;
        }
        let mut left = rows;
        while left > 0 && !matches!(target.step, Step::Over) {
            left -= target.advance(&mut transaction, left, removed).await?;
        }
        transaction.commit().await?;
        Ok(began)
    }

    /// What a round over the runs of a job would remove.
    async fn removable_of(
        &self,
        policy: &RetentionPolicy,
        job: &str,
        round: Round,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        type Counts = (u64, u64, u64, u64, Option<DateTime<Utc>>, Option<i64>);
        let (due_before, ended_before) = round.bounds(now);
        let wanted = values![job, round.cleared, due_before, ended_before];
        let counts: Option<Counts> = self.database.fetch_optional(COUNTS, wanted).await?;
        let Some((ended_well, failed, skipped, batches, oldest, Some(run))) = counts else {
            return Ok(Vec::new());
        };
        let keep = keep_of(policy, job);
        let [first, _] = Round::of(keep);
        // What an earlier round has removed is not there any more.
        let has_gone = |what| round.cleared == 1 && first.removes == what;
        let successes = round.removes != Removes::Failures && !has_gone(Removes::Successes);
        let failures = round.removes != Removes::Successes && !has_gone(Removes::Failures);
        let count = |counts: bool, rows: u64| if counts { rows } else { 0 };
        let results = count(successes, ended_well) + count(failures, failed);
        let size = self.database.fetch_optional(RESULT_BYTES, values![run]);
        let size: u64 = size.await?.unwrap_or_default();
        let is_all = round.removes == Removes::All;
        let kinds = [
            (RemovedKind::Results, results, size),
            (
                RemovedKind::SkippedItems,
                count(successes, skipped),
                SKIPPED_BYTES,
            ),
            (
                RemovedKind::DeadLetters,
                count(failures, failed),
                LETTER_BYTES,
            ),
            (RemovedKind::Batches, count(is_all, batches), BATCH_BYTES),
        ];
        let removable = |(kind, rows, size): (RemovedKind, u64, u64)| Removable {
            job_id: JobId::new(job).ok(),
            kind,
            rows,
            bytes: rows * size,
            oldest,
        };
        Ok(kinds.into_iter().map(removable).collect())
    }
}

impl Target {
    /// Removes at most about `left` rows. Returns what it has cost, 0 or more, and goes to the next step when there are no more.
    async fn advance(
        &mut self,
        connection: &mut Connection<'_>,
        left: i64,
        removed: &mut Removed,
    ) -> Result<i64, StoreError> {
        match self.step.clone() {
            Step::Deliveries => {
                let deliveries = values![self.run, left];
                let deliveries = connection.execute(REMOVE_DELIVERIES, deliveries).await? as i64;
                removed.add(RemovedKind::Deliveries, deliveries.unsigned_abs());
                if deliveries < left {
                    let delivers = connection.fetch_one(DELIVERS, values![self.run]).await?;
                    self.step = if delivers {
                        Step::Over
                    } else {
                        Step::Results(String::new())
                    };
                }
                Ok(deliveries)
            }
            Step::Results(after) => self.remove_results(connection, &after, left, removed).await,
            Step::Letters => {
                let letters = values![self.run, left];
                let letters = connection.execute(REMOVE_LETTERS, letters).await? as i64;
                removed.add(RemovedKind::DeadLetters, letters.unsigned_abs());
                if letters < left {
                    self.step = match self.removes {
                        Removes::Failures => Step::End,
                        Removes::All | Removes::Successes => Step::Chunks,
                    };
                }
                Ok(letters)
            }
            Step::Chunks => self.remove_chunks(connection, left, removed).await,
            Step::Batches => self.remove_batches(connection, left, removed).await,
            Step::Kept => {
                let kept = values![self.run, left];
                let kept = connection.execute(REMOVE_KEPT, kept).await? as i64;
                removed.add(RemovedKind::KeptOutputs, kept.unsigned_abs());
                if kept < left {
                    let run = connection.execute(REMOVE_RUN, values![self.run]).await?;
                    removed.add(RemovedKind::Runs, run);
                    self.step = Step::Over;
                }
                Ok(kept)
            }
            Step::End => {
                let left = connection.fetch_one(IS_LEFT, values![self.run]).await?;
                if left {
                    connection.execute(CLEAR_RUN, values![self.run]).await?;
                    self.step = Step::Over;
                } else {
                    self.step = Step::Kept;
                }
                Ok(1)
            }
            Step::Over => Ok(0),
        }
    }

    async fn remove_results(
        &mut self,
        connection: &mut Connection<'_>,
        after: &str,
        left: i64,
        removed: &mut Removed,
    ) -> Result<i64, StoreError> {
        let slice = connection.fetch(SLICE, values![self.run, after, left]);
        let slice: Vec<(String, i64)> = slice.await?;
        let is_end = (slice.len() as i64) < left;
        let (mut cost, mut is_cut, mut last) = (0, false, None);
        for (tenant, size) in slice {
            is_cut = cost > 0 && cost + size > left;
            if is_cut {
                break;
            }
            cost += size;
            last = Some(tenant);
        }
        if let Some(last) = last {
            if self.removes != Removes::Failures && !self.prepares {
                let slice = values![self.run, after, &*last, &*self.job, &*self.occurrence];
                connection.execute(REMEMBER, slice).await?;
            }
            let of_status = match self.removes {
                Removes::All => "",
                Removes::Successes => " AND status IN (1, 3)",
                Removes::Failures => " AND status IN (2, 4)",
            };
            let sql = format!("{REMOVE_RESULTS}{of_status}");
            let slice = values![self.run, after, &*last];
            removed.add(RemovedKind::Results, connection.execute(&sql, slice).await?);
            self.step = Step::Results(last);
        }
        if is_cut {
            return Ok(left);
        }
        if is_end {
            self.step = match self.removes {
                Removes::Successes => Step::Chunks,
                Removes::All | Removes::Failures => Step::Letters,
            };
        }
        Ok(cost)
    }

    async fn remove_chunks(
        &mut self,
        connection: &mut Connection<'_>,
        left: i64,
        removed: &mut Removed,
    ) -> Result<i64, StoreError> {
        let condition = match self.removes {
            Removes::All => "",
            Removes::Successes | Removes::Failures => WITHOUT_FAILURES,
        };
        let sql = format!("{CHUNKS}{condition} LIMIT $2");
        let wanted = values![self.run, (left / COST).max(1)];
        let chunks: Vec<(i64, i64)> = connection.fetch(&sql, wanted).await?;
        if chunks.is_empty() {
            self.step = Step::Batches;
            return Ok(0);
        }
        let (mut some, mut cost) = (Vec::new(), 0);
        for (chunk, skipped) in chunks {
            if cost > 0 && cost + COST + skipped > left {
                break;
            }
            cost += COST + skipped;
            some.push(chunk);
        }
        let skipped = connection.execute(REMOVE_SKIPPED, values![some.as_slice()]);
        removed.add(RemovedKind::SkippedItems, skipped.await?);
        let messages = values![some.as_slice()];
        connection.execute(REMOVE_MESSAGES, messages).await?;
        let chunks = connection.execute(REMOVE_CHUNKS, values![some.as_slice()]);
        removed.add(RemovedKind::Chunks, chunks.await?);
        Ok(cost)
    }

    async fn remove_batches(
        &mut self,
        connection: &mut Connection<'_>,
        left: i64,
        removed: &mut Removed,
    ) -> Result<i64, StoreError> {
        let condition = match self.removes {
            Removes::All => "",
            Removes::Successes | Removes::Failures => " AND b.failed = 0 AND b.trigger <> 'replay'",
        };
        let sql = format!("{BATCHES}{condition} LIMIT $2");
        let wanted = values![self.run, (left / COST).max(1)];
        let batches: Vec<String> = connection.fetch(&sql, wanted).await?;
        if batches.is_empty() {
            self.step = Step::End;
            return Ok(0);
        }
        let ids = || values![Value::Texts(batches.clone())];
        connection.execute(REMOVE_COUNTS, ids()).await?;
        let rows = connection.execute(REMOVE_BATCHES, ids()).await?;
        removed.add(RemovedKind::Batches, rows);
        Ok(COST * batches.len() as i64)
    }
}

impl Other {
    /// Removes at most so many rows. Returns how many there were: fewer, where no more are left.
    async fn remove(
        self,
        connection: &mut Connection<'_>,
        policy: &RetentionPolicy,
        rows: i64,
        now: DateTime<Utc>,
        removed: &mut Removed,
    ) -> Result<u64, StoreError> {
        let (sql, before, kind) = match self {
            Self::AuditLog => (
                REMOVE_AUDIT_LOG,
                now - RetentionPolicy::AUDIT_LOG,
                RemovedKind::AuditLog,
            ),
            Self::Requests => (REMOVE_REQUESTS, now - REQUEST_TTL, RemovedKind::Requests),
            Self::PreparedOutputs => (REMOVE_OLD, now - KEPT_FOR, RemovedKind::PreparedOutputs),
            Self::ProviderBatches => (
                REMOVE_PROVIDER_BATCHES,
                now - KEEP_ENDED,
                RemovedKind::ProviderBatches,
            ),
            Self::AbandonedBatches => {
                return remove_abandoned(connection, rows, now - KEEP_ENDED, removed).await;
            }
            Self::LastSuccesses => (REMOVE_SUCCESSES, now - MAX_AGE, RemovedKind::LastSuccesses),
            Self::NewPreferences => {
                return connection
                    .execute(ADOPT_PREFERENCES, values![now, rows])
                    .await;
            }
            // They are notes on what the store has done itself, and are not counted.
            Self::DoneErasures => {
                return connection
                    .execute(REMOVE_DONE, values![now - REMEMBERED_FOR, rows])
                    .await;
            }
            // A result refers to it for two periods after its use was noted last, at most.
            Self::Preferences => {
                let longest = longest_of_runs(connection, policy).await?;
                (
                    REMOVE_PREFERENCES,
                    now - longest - KeepDays::SLACK - USE_PERIOD * 3,
                    RemovedKind::Preferences,
                )
            }
        };
        let rows = connection.execute(sql, values![before, rows]).await?;
        removed.add(kind, rows);
        Ok(rows)
    }
}

/// The longest time for which results are kept of any job that has runs, and of usual jobs. What is remembered of a job whose last run
/// has gone keeps nothing.
async fn longest_of_runs(
    connection: &mut Connection<'_>,
    policy: &RetentionPolicy,
) -> Result<TimeDelta, StoreError> {
    let (mut longest, mut job) = (KeepDays::of_unknown_job().longest(), String::new());
    loop {
        let next: Option<String> = connection.fetch_optional(NEXT_JOB, values![&*job]).await?;
        let Some(next) = next else {
            return Ok(longest);
        };
        longest = longest.max(keep_of(policy, &next).longest());
        job = next;
    }
}

/// Removes calls of an abandoned provider batch, or the batch when it has none. Returns `rows` where there may be more.
async fn remove_abandoned(
    connection: &mut Connection<'_>,
    rows: i64,
    before: DateTime<Utc>,
    removed: &mut Removed,
) -> Result<u64, StoreError> {
    let abandoned: Option<String> = connection
        .fetch_optional(ABANDONED, values![before])
        .await?;
    let Some(id) = abandoned else { return Ok(0) };
    let calls = connection
        .execute(REMOVE_CALLS, values![&*id, rows])
        .await?;
    if calls < rows.unsigned_abs() {
        let batches = connection
            .execute(REMOVE_PROVIDER_BATCH, values![id])
            .await?;
        removed.add(RemovedKind::ProviderBatches, batches);
    }
    Ok(rows.unsigned_abs())
}
