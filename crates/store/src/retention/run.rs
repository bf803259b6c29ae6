//! Removes what belongs to one run, step by step: deliveries, results, dead letters, chunks, batches, kept outputs, the run itself.

use chrono::{DateTime, Utc};
use punctual_application::ports::{RemovedKind, StoreError};
use punctual_domain::{KeepDays, Occurrence};
use tokio::time::Instant;

use super::{Removed, Removes};
use crate::{
    Store,
    driver::{Connection, Value, values},
};

/// A chunk or a batch, with what belongs to it, costs as much as so many results.
const COST: i64 = 20;

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

/// A run that is being removed, and how far.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) job: String,
    pub(super) run: i64,
    pub(super) occurrence: String,
    /// Whether it only prepares another one.
    pub(super) prepares: bool,
    pub(super) removes: Removes,
    /// How long its job kept runs when it was found.
    pub(super) keep: KeepDays,
    pub(super) ended_before: DateTime<Utc>,
    pub(super) step: Step,
}

/// What of a run is removed next.
#[derive(Debug, Clone)]
pub(super) enum Step {
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

impl Store {
    /// Removes rows of a run, in one transaction, if it is still over. Returns when the transaction began.
    pub(super) async fn remove_of_run(
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
