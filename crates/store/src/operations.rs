//! The port `OperatorStore`: what runs in sum, the audit log, and requests under idempotency keys.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    Acknowledgement, AuditEntry, AuditFilter, DeliveryFilter, DeliveryState, ExpiredItems,
    FailingDeliveries, HourlyOutcomes, JobActivity, NewRequest, OpenDeadLetters, OperatorStore,
    Page, Paged, Redelivery, ReplicaLease, Request, StoreError, StoredDelivery, WaitingWork,
};
use punctual_domain::{Delivery, JobId};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    Store,
    conditions::Conditions,
    driver::{FromRow, Row, Value, values},
    errors::failed,
    reader::{before, paged},
};

/// How long a request under an idempotency key is remembered.
pub(crate) const REQUEST_TTL: TimeDelta = TimeDelta::hours(24);

/// A failed item that was replayed counts as its replay ended; one that the replay skipped is still one that failed. While a batch is
/// not over, its chunks say how its items ended. The job is an expression, so that batches are found by when they fell due.
pub(crate) const ACTIVITY: &str = "SELECT job_id, count(*),
         CAST(sum(succeeded + failed - replayed + skipped + nothing_to_do) AS BIGINT),
         CAST(sum(succeeded) AS BIGINT), CAST(sum(failed - replayed) AS BIGINT), CAST(sum(nothing_to_do) AS BIGINT),
         CAST(coalesce(max(CASE WHEN trigger = 'schedule' THEN created_at - scheduled_at END), 0) AS BIGINT)
     FROM (SELECT b.job_id || '' AS job_id, b.trigger, b.created_at, b.scheduled_at,
               CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.succeeded) FROM @chunks c
                   WHERE c.batch_id = b.batch_id), 0) ELSE b.succeeded END AS succeeded,
               CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.failed) FROM @chunks c
                   WHERE c.batch_id = b.batch_id), 0) ELSE b.failed END AS failed,
               CASE WHEN b.finished_at IS NULL THEN coalesce((SELECT sum(c.nothing_to_do) FROM @chunks c
                   WHERE c.batch_id = b.batch_id), 0) ELSE b.nothing_to_do END AS nothing_to_do,
               CASE WHEN b.trigger = 'replay' THEN 0 WHEN b.finished_at IS NULL THEN coalesce((SELECT
                   sum(c.skipped + c.superseded) FROM @chunks c WHERE c.batch_id = b.batch_id), 0) ELSE b.skipped END AS skipped,
               CASE WHEN b.failed > 0 OR b.finished_at IS NULL THEN coalesce((SELECT r.letters FROM @replayed_letters r
                   WHERE r.batch_id = b.batch_id), 0) ELSE 0 END AS replayed
           FROM @batches b WHERE b.scheduled_at >= $1 AND b.trigger <> 'prepare') a
     GROUP BY job_id ORDER BY job_id";

impl FromRow for JobActivity {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            job_id: row.parse()?,
            batches: row.next()?,
            items: row.next()?,
            succeeded: row.next()?,
            failed: row.next()?,
            nothing_to_do: row.next()?,
            worst_lateness_ms: row.next::<u64>()? / 1_000,
        })
    }
}

const REPLICA_LEASES: &str = "SELECT c.process, c.chunks, c.jobs, c.since,
         (SELECT p.last_seen FROM @processes p WHERE p.process = c.process)
     FROM (SELECT coalesce(process, '') AS process, count(*) AS chunks, count(DISTINCT job_id) AS jobs,
               coalesce(min(claimed_at), 0) AS since
           FROM @chunks WHERE token IS NOT NULL GROUP BY process) c ORDER BY c.process";

impl FromRow for ReplicaLease {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            process: row.next()?,
            chunks: row.next()?,
            jobs: row.next()?,
            since: row.next()?,
            last_seen: row.next()?,
        })
    }
}

const LEADER: &str =
    "SELECT process, CAST(extract(epoch FROM until) * 1000000 AS BIGINT) FROM @leader
     WHERE until > clock_timestamp()";

const FAILING_DELIVERIES: &str =
    "SELECT b.job_id, d.state, count(*), min(b.finished_at), coalesce(max(d.reason), '')
     FROM @deliveries d JOIN @batches b ON b.batch_id = d.batch_id";

/// The deliveries that fail, in sum, by job.
pub(crate) fn failing_deliveries(given_up_since: DateTime<Utc>) -> (String, Vec<Value>) {
    let failing = wanted_deliveries(&DeliveryFilter {
        failing_since: Some(given_up_since),
        ..DeliveryFilter::default()
    });
    let sql = format!(
        "{FAILING_DELIVERIES}{} GROUP BY b.job_id, d.state ORDER BY b.job_id, d.state",
        failing.sql()
    );
    (sql, failing.values())
}

impl FromRow for FailingDeliveries {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            job_id: row.parse()?,
            given_up: row.next::<String>()? == "given_up",
            deliveries: row.next()?,
            since: row.next()?,
            reason: row.next()?,
        })
    }
}

/// How many are open of each job, as the database has counted them, with the oldest and the newest of them: as many steps as there
/// are jobs that fail, however many dead letters they have.
pub(crate) const OPEN_DEAD_LETTERS: &str =
    "SELECT o.job_id, o.letters, f.failed_at, n.batch_id FROM @open_letters o
     JOIN @dead_letters f ON f.id = (SELECT d.id FROM @dead_letters d WHERE d.state = 'open' AND d.job_id = o.job_id
                                     ORDER BY d.id LIMIT 1)
     JOIN @dead_letters n ON n.id = (SELECT d.id FROM @dead_letters d WHERE d.state = 'open' AND d.job_id = o.job_id
                                     ORDER BY d.id DESC LIMIT 1)
     WHERE o.letters > 0 ORDER BY o.job_id";

/// Reasons of the newest of each job: of those from the id on before which `$1` are newer.
pub(crate) const REASONS: &str = "SELECT d.job_id, d.reason, count(*)
     FROM (SELECT o.job_id, coalesce((SELECT n.id FROM @dead_letters n WHERE n.state = 'open' AND n.job_id = o.job_id
                                      ORDER BY n.id DESC LIMIT 1 OFFSET $1), 0) AS from_id
           FROM @open_letters o WHERE o.letters > 0) j
     CROSS JOIN @dead_letters d WHERE d.job_id = j.job_id AND d.id >= j.from_id AND d.state = 'open'
     GROUP BY d.job_id, d.reason ORDER BY d.job_id, count(*) DESC, d.reason";

/// Items that have expired since the hour `$1`, as the database has counted them, with [`ExpiredItems::mark_of`] the newest hour.
pub(crate) const EXPIRED_ITEMS: &str = "SELECT job_id, CAST(sum(items) AS BIGINT), min(first_at),
         max(hour * 1000000000 + items)
     FROM @expired_items WHERE hour >= $1 GROUP BY job_id ORDER BY job_id";

impl FromRow for ExpiredItems {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            job_id: row.parse()?,
            items: row.next()?,
            since: row.next()?,
            mark: row.next()?,
        })
    }
}

/// What has ended, as the database has counted it.
pub(crate) const OUTCOMES_BY_HOUR: &str = "SELECT hour, CAST(sum(succeeded) AS BIGINT), CAST(sum(failed) AS BIGINT), max(lateness) FROM @outcomes_by_hour";

impl FromRow for HourlyOutcomes {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let hour: i64 = row.next()?;
        Ok(Self {
            hour: DateTime::from_timestamp(hour * 3_600, 0).unwrap_or_default(),
            succeeded: row.next()?,
            failed: row.next()?,
            worst_lateness_ms: row.next::<u64>()? / 1_000,
        })
    }
}

/// Batches that have been due since `$1` or longer and have not begun: the first `$2` of jobs that are not paused, whatever waits of
/// those that are, and the first `$2` of these. `$3`: how long ago the last heartbeat of a process that is alive may be, in
/// microseconds.
pub(crate) const WAITING_WORK: &str =
    "SELECT w.job_id, count(*), CAST(sum(w.total) AS BIGINT), min(w.since),
         EXISTS (SELECT 1 FROM @batches r WHERE r.status = 'running' AND r.job_id = w.job_id),
         (SELECT count(*) FROM @processes p WHERE p.last_seen > @now() - $3)
     FROM (SELECT * FROM (
               SELECT b.job_id, b.total, @greatest(b.scheduled_at, b.created_at) AS since FROM @batches b
               WHERE b.status = 'queued' AND b.scheduled_at <= $1 AND b.created_at <= $1 AND b.trigger <> 'prepare'
                   AND NOT EXISTS (SELECT 1 FROM @paused_jobs j WHERE j.job_id = b.job_id)
               ORDER BY b.scheduled_at LIMIT $2) runs
           UNION ALL
           SELECT * FROM (
               SELECT b.job_id, b.total, @greatest(b.scheduled_at, b.created_at) AS since FROM @batches b
               WHERE b.status = 'queued' AND b.scheduled_at <= $1 AND b.created_at <= $1 AND b.trigger <> 'prepare'
                   AND EXISTS (SELECT 1 FROM @paused_jobs j WHERE j.job_id = b.job_id)
               ORDER BY b.scheduled_at LIMIT $2) paused) w
     GROUP BY w.job_id ORDER BY w.job_id";

impl FromRow for WaitingWork {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            job_id: row.parse()?,
            batches: row.next()?,
            items: row.next()?,
            since: row.next()?,
            others_run: row.next()?,
            live_processes: row.next()?,
        })
    }
}

/// The hour in which an instant is, since 1970, as the database counts.
fn hour_of(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(3_600)
}

/// Deliveries of batches that are over.
pub(crate) const DELIVERIES: &str =
    "SELECT d.id, d.batch_id, b.job_id, d.target, d.state, d.tries, d.not_before, d.reason
     FROM @deliveries d JOIN @batches b ON b.batch_id = d.batch_id";

/// Of those that are on their way nothing is changed: who delivers one notes how it went. `$3`: when that was asked for; `$5`: 1 where
/// the place `$4` has got nothing yet.
const DELIVER_AGAIN: &str = "UPDATE @deliveries SET state = 'open', not_before = $2, retried_from = $3, tries = 0, leased_until = NULL,
         target = $4, position = CASE WHEN $5 = 0 THEN position END
     WHERE id = $1 AND (state = 'given_up' OR state = 'open' AND tries > 0) AND coalesce(leased_until, 0) <= $2";

impl FromRow for StoredDelivery {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (id, batch_id, job_id) = (row.next()?, row.parse()?, row.parse()?);
        let target: String = row.next()?;
        let target: Json = serde_json::from_str(&target).map_err(failed)?;
        let state: String = row.next()?;
        let state = match state.as_str() {
            "open" => DeliveryState::Open,
            "done" => DeliveryState::Done,
            _ => DeliveryState::GivenUp,
        };
        let (tries, not_before) = (row.next()?, row.next()?);
        Ok(Self {
            id,
            batch_id,
            job_id,
            target: Delivery::parse(&target, "").map_err(failed)?,
            state,
            tries,
            next_try: Some(not_before).filter(|_| state == DeliveryState::Open),
            reason: row.next()?,
        })
    }
}

pub(crate) fn wanted_deliveries(filter: &DeliveryFilter) -> Conditions {
    let batch_ids = filter.batch_ids.as_ref();
    let batch_ids = batch_ids.map(|ids| Value::Texts(ids.iter().map(Uuid::to_string).collect()));
    let mut wanted = Conditions::default()
        .and("b.finished_at IS NOT NULL")
        .given("d.id = ?", filter.id)
        .given("b.job_id = ?", filter.job_id.as_ref())
        .given("@in_texts(d.batch_id, ?)", batch_ids)
        .given("d.retried_from = ?", filter.asked_at);
    if filter.failed || filter.failing_since.is_some() {
        // Both states, so that their index is used.
        wanted = wanted
            .and("d.state IN ('open', 'given_up')")
            .and("d.state = 'given_up' OR d.tries > 0");
    }
    wanted.given(
        "d.state = 'open' AND d.tries >= 2 OR d.state = 'given_up' AND b.finished_at >= ?",
        filter.failing_since,
    )
}

const ACKNOWLEDGE: &str =
    "INSERT INTO @acknowledgements (finding, state, covers, at, by) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (finding) DO UPDATE SET state = excluded.state, covers = excluded.covers, at = excluded.at, by = excluded.by";

const WITHDRAW: &str =
    "DELETE FROM @acknowledgements WHERE finding = $1 AND state = $2 AND at = $3";

const ACKNOWLEDGEMENTS: &str =
    "SELECT finding, state, covers, at, by FROM @acknowledgements ORDER BY finding";

impl FromRow for Acknowledgement {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            finding: row.next()?,
            state: row.parse()?,
            covers: row.next()?,
            at: row.next()?,
            by: row.next()?,
        })
    }
}

const RECORD: &str = "INSERT INTO @audit_log (at, by, action, subject, detail, reason) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const AUDIT_LOG: &str =
    "SELECT id, at, by, action, subject, detail, reason FROM @audit_log";

/// An entry, and its number.
struct Numbered(i64, AuditEntry);

impl FromRow for Numbered {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let number = row.next()?;
        let entry = AuditEntry {
            at: row.next()?,
            by: row.next()?,
            action: row.next()?,
            subject: row.next()?,
            detail: row.next()?,
            reason: row.next()?,
        };
        Ok(Self(number, entry))
    }
}

const FORGET_REQUESTS: &str = "DELETE FROM @requests WHERE at < $1";

const INSERT_REQUEST: &str =
    "INSERT INTO @requests (id, scope, key, fingerprint, at) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (scope, key) DO NOTHING";

const REQUEST: &str =
    "SELECT id, at, fingerprint, answer FROM @requests WHERE scope = $1 AND key = $2";

impl FromRow for Request {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (id, at, fingerprint) = (row.parse()?, row.next()?, row.next()?);
        let answer: Option<String> = row.next()?;
        let answer = answer.map(|answer| serde_json::from_str(&answer));
        Ok(Self {
            id,
            at,
            fingerprint,
            is_known: true,
            answer: answer.transpose().map_err(failed)?,
        })
    }
}

const ANSWER: &str = "UPDATE @requests SET answer = $2 WHERE id = $1";

const FORGET_REQUEST: &str = "DELETE FROM @requests WHERE id = $1 AND answer IS NULL";

#[async_trait]
impl OperatorStore for Store {
    async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<JobActivity>, StoreError> {
        self.database.fetch(ACTIVITY, values![since]).await
    }

    async fn replica_leases(&self) -> Result<Vec<ReplicaLease>, StoreError> {
        self.database.fetch(REPLICA_LEASES, values![]).await
    }

    async fn leader(&self) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
        if !self.database.is_shared() {
            return Ok(None);
        }
        self.database.fetch_optional(LEADER, values![]).await
    }

    async fn failing_deliveries(
        &self,
        given_up_since: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError> {
        let (sql, values) = failing_deliveries(given_up_since);
        self.database.fetch(&sql, values).await
    }

    async fn open_dead_letters(&self) -> Result<Vec<OpenDeadLetters>, StoreError> {
        let jobs: Vec<Row> = self.database.fetch(OPEN_DEAD_LETTERS, values![]).await?;
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let newer = values![OpenDeadLetters::SEARCHED - 1];
        let found: Vec<(String, String, u64)> = self.database.fetch(REASONS, newer).await?;
        let mut reasons: HashMap<String, Vec<(String, u64)>> = HashMap::new();
        for (job_id, reason, count) in found {
            let of_job = reasons.entry(job_id).or_default();
            if of_job.len() < OpenDeadLetters::MAX_REASONS as usize {
                of_job.push((reason, count));
            }
        }
        let open = |mut row: Row| {
            let job_id: JobId = row.parse()?;
            Ok(OpenDeadLetters {
                count: row.next()?,
                first_failed_at: row.next()?,
                batch_id: row.parse()?,
                reasons: reasons.remove(job_id.as_str()).unwrap_or_default(),
                job_id,
            })
        };
        jobs.into_iter().map(open).collect()
    }

    async fn expired_items(&self, since: DateTime<Utc>) -> Result<Vec<ExpiredItems>, StoreError> {
        let since = values![hour_of(since)];
        self.database.fetch(EXPIRED_ITEMS, since).await
    }

    async fn outcomes_by_hour(
        &self,
        since: DateTime<Utc>,
        job_id: Option<JobId>,
    ) -> Result<Vec<HourlyOutcomes>, StoreError> {
        let wanted = Conditions::default()
            .with("hour >= ?", hour_of(since))
            .given("job_id = ?", job_id.as_ref());
        let sql = format!(
            "{OUTCOMES_BY_HOUR}{} GROUP BY hour ORDER BY hour",
            wanted.sql()
        );
        self.database.fetch(&sql, wanted.values()).await
    }

    async fn waiting_work(
        &self,
        due_before: DateTime<Utc>,
    ) -> Result<Vec<WaitingWork>, StoreError> {
        let silent = ReplicaLease::UNRESPONSIVE_AFTER.num_microseconds();
        let waiting = values![due_before, WaitingWork::MAX_BATCHES, silent];
        self.database.fetch(WAITING_WORK, waiting).await
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Paged<StoredDelivery>, StoreError> {
        let mut wanted = wanted_deliveries(filter).with("d.id < ?", before(page)?);
        let limit = wanted.parameter(page.limit + 1);
        let sql = format!(
            "{DELIVERIES}{} ORDER BY d.id DESC LIMIT {limit}",
            wanted.sql()
        );
        let found: Vec<StoredDelivery> = self.database.fetch(&sql, wanted.values()).await?;
        Ok(paged(found, page, |delivery| delivery.id.to_string()))
    }

    async fn deliver_again(
        &self,
        deliveries: &[Redelivery],
        asked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut due = 0;
        for again in deliveries {
            let target = again.target.to_json().to_string();
            let from_start = i64::from(again.from_start);
            let again = values![again.id, now, asked_at, target, from_start];
            due += transaction.execute(DELIVER_AGAIN, again).await?;
        }
        transaction.commit().await?;
        self.changes.send_replace(());
        Ok(due)
    }

    async fn acknowledge(&self, acknowledgement: &Acknowledgement) -> Result<(), StoreError> {
        let Acknowledgement {
            finding,
            state,
            covers,
            at,
            by,
        } = acknowledgement;
        let known = values![&**finding, *state, &**covers, *at, &**by];
        self.database.execute(ACKNOWLEDGE, known).await?;
        self.changes.send_replace(());
        Ok(())
    }

    async fn withdraw_acknowledgement(
        &self,
        acknowledgement: &Acknowledgement,
    ) -> Result<(), StoreError> {
        let Acknowledgement {
            finding, state, at, ..
        } = acknowledgement;
        let known = values![&**finding, *state, *at];
        self.database.execute(WITHDRAW, known).await?;
        self.changes.send_replace(());
        Ok(())
    }

    async fn acknowledgements(&self) -> Result<Vec<Acknowledgement>, StoreError> {
        self.database.fetch(ACKNOWLEDGEMENTS, values![]).await
    }

    async fn record(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let AuditEntry {
            at,
            by,
            action,
            subject,
            detail,
            reason,
        } = entry;
        let reason = reason.as_deref();
        let entry = values![*at, &**by, &**action, &**subject, &**detail, reason];
        self.database.execute(RECORD, entry).await?;
        Ok(())
    }

    async fn request(&self, new: &NewRequest, now: DateTime<Utc>) -> Result<Request, StoreError> {
        let mut transaction = self.database.begin().await?;
        transaction
            .execute(FORGET_REQUESTS, values![now - REQUEST_TTL])
            .await?;
        let (id, scope, key) = (Uuid::new_v4(), &*new.scope, &*new.key);
        let request = values![id, scope, key, &*new.fingerprint, now];
        let inserted = transaction.execute(INSERT_REQUEST, request).await?;
        let request: Request = transaction.fetch_one(REQUEST, values![scope, key]).await?;
        transaction.commit().await?;
        Ok(Request {
            is_known: inserted == 0,
            ..request
        })
    }

    async fn answer(&self, request: Uuid, answer: Option<Json>) -> Result<(), StoreError> {
        let (sql, values) = if let Some(answer) = answer {
            (ANSWER, values![request, answer.to_string()])
        } else {
            (FORGET_REQUEST, values![request])
        };
        self.database.execute(sql, values).await?;
        Ok(())
    }

    async fn audit_log(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<AuditEntry>, StoreError> {
        let mut wanted = Conditions::default()
            .with("id < ?", before(page)?)
            .given("action = ?", filter.action.as_deref())
            .given("subject = ?", filter.subject.as_deref());
        let limit = wanted.parameter(page.limit + 1);
        let sql = format!("{AUDIT_LOG}{} ORDER BY id DESC LIMIT {limit}", wanted.sql());
        let entries: Vec<Numbered> = self.database.fetch(&sql, wanted.values()).await?;
        let (entries, next) = paged(entries, page, |entry| entry.0.to_string());
        Ok((entries.into_iter().map(|entry| entry.1).collect(), next))
    }
}
