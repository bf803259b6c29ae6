//! The port `OperatorStore`, over either database.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    AuditEntry, FailingDeliveries, JobActivity, NewRequest, OperatorStore, Page, Paged,
    ReplicaLease, Request, StoreError,
};
use punctual_domain::JobId;
use serde_json::Value;
use sqlx::AnyPool;
use uuid::Uuid;

use super::{
    errors::failed,
    reader::{bad_cursor, paged},
    rows::{instant, micros},
};

/// How long a request under an idempotency key is remembered.
const REQUEST_TTL: TimeDelta = TimeDelta::hours(24);

/// Sums up what runs, and keeps the audit log.
#[derive(Debug, Clone)]
pub(crate) struct SqlOperatorStore {
    pool: AnyPool,
    /// Whether several agents share the store, and one of them leads.
    shared: bool,
}

impl SqlOperatorStore {
    pub(super) fn new(pool: AnyPool, shared: bool) -> Self {
        Self { pool, shared }
    }
}

#[async_trait]
impl OperatorStore for SqlOperatorStore {
    async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<JobActivity>, StoreError> {
        let rows: Vec<(String, i64, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT job_id, count(*),
                 CAST(coalesce(sum(CASE WHEN finished_at IS NOT NULL THEN total END), 0) AS BIGINT),
                 CAST(sum(succeeded) AS BIGINT), CAST(sum(failed) AS BIGINT),
                 CAST(coalesce(max(CASE WHEN trigger = 'schedule' THEN created_at - scheduled_at END), 0) AS BIGINT)
             FROM batches WHERE scheduled_at >= $1 GROUP BY job_id ORDER BY job_id",
        )
        .bind(micros(since))
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        rows.into_iter()
            .map(|(job_id, batches, items, succeeded, failures, lateness)| {
                Ok(JobActivity {
                    job_id: JobId::new(job_id).map_err(failed)?,
                    batches: batches.unsigned_abs(),
                    items: items.unsigned_abs(),
                    succeeded: succeeded.unsigned_abs(),
                    failed: failures.unsigned_abs(),
                    worst_lateness_ms: lateness.max(0).unsigned_abs() / 1_000,
                })
            })
            .collect()
    }

    async fn replica_leases(&self) -> Result<Vec<ReplicaLease>, StoreError> {
        let sql = "SELECT c.process, c.chunks, c.jobs, c.since,
                 (SELECT p.last_seen FROM processes p WHERE p.process = c.process)
             FROM (SELECT coalesce(process, '') AS process, count(*) AS chunks, count(DISTINCT job_id) AS jobs,
                       coalesce(min(claimed_at), 0) AS since
                   FROM chunks WHERE token IS NOT NULL GROUP BY process) c ORDER BY c.process";
        let rows: Vec<(String, i64, i64, i64, Option<i64>)> = sqlx::query_as(sql)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.into_iter()
            .map(|(process, chunks, jobs, since, last_seen)| {
                Ok(ReplicaLease {
                    process,
                    chunks: chunks.unsigned_abs(),
                    jobs: jobs.unsigned_abs(),
                    since: instant(since)?,
                    last_seen: last_seen.map(instant).transpose()?,
                })
            })
            .collect()
    }

    async fn leader(&self) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
        if !self.shared {
            return Ok(None);
        }
        let row: Option<(String, i64)> = sqlx::query_as(
            "SELECT process, CAST(extract(epoch FROM until) * 1000000 AS BIGINT) FROM leader
             WHERE until > clock_timestamp()",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        row.map(|(process, until)| Ok((process, instant(until)?)))
            .transpose()
    }

    async fn failing_deliveries(
        &self,
        given_up_since: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError> {
        let rows: Vec<(String, String, i64, i64, String)> = sqlx::query_as(
            "SELECT b.job_id, d.state, count(*), min(b.finished_at), coalesce(max(d.reason), '')
             FROM deliveries d JOIN batches b ON b.batch_id = d.batch_id
             WHERE b.finished_at IS NOT NULL
               AND (d.state = 'open' AND d.tries >= 2 OR d.state = 'given_up' AND b.finished_at >= $1)
             GROUP BY b.job_id, d.state ORDER BY b.job_id, d.state",
        )
        .bind(micros(given_up_since))
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        rows.into_iter()
            .map(|(job_id, state, deliveries, since, reason)| {
                Ok(FailingDeliveries {
                    job_id: JobId::new(job_id).map_err(failed)?,
                    given_up: state == "given_up",
                    deliveries: deliveries.unsigned_abs(),
                    since: instant(since)?,
                    reason,
                })
            })
            .collect()
    }

    async fn record(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_log (at, by, action, subject, detail) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(micros(entry.at))
        .bind(entry.by.clone())
        .bind(entry.action.clone())
        .bind(entry.subject.clone())
        .bind(entry.detail.clone())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn request(&self, new: &NewRequest, now: DateTime<Utc>) -> Result<Request, StoreError> {
        sqlx::query("DELETE FROM requests WHERE at < $1")
            .bind(micros(now - REQUEST_TTL))
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO requests (id, scope, key, fingerprint, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (scope, key) DO NOTHING",
        )
        .bind(Uuid::new_v4().to_string())
        .bind(new.scope.clone())
        .bind(new.key.clone())
        .bind(new.fingerprint.clone())
        .bind(micros(now))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        let (id, at, fingerprint, answer): (String, i64, String, Option<String>) = sqlx::query_as(
            "SELECT id, at, fingerprint, answer FROM requests WHERE scope = $1 AND key = $2",
        )
        .bind(new.scope.clone())
        .bind(new.key.clone())
        .fetch_one(&self.pool)
        .await
        .map_err(failed)?;
        Ok(Request {
            id: id.parse().map_err(failed)?,
            at: instant(at)?,
            fingerprint,
            answer: answer
                .map(|answer| serde_json::from_str(&answer).map_err(failed))
                .transpose()?,
        })
    }

    async fn answer(&self, request: Uuid, answer: Option<Value>) -> Result<(), StoreError> {
        let sql = match answer {
            Some(_) => "UPDATE requests SET answer = $2 WHERE id = $1",
            None => {
                "DELETE FROM requests WHERE id = $1 AND CAST($2 AS TEXT) IS NULL AND answer IS NULL"
            }
        };
        sqlx::query(sql)
            .bind(request.to_string())
            .bind(answer.map(|answer| answer.to_string()))
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn audit_log(&self, page: &Page) -> Result<Paged<AuditEntry>, StoreError> {
        let before = match &page.cursor {
            None => i64::MAX,
            Some(cursor) => cursor.parse().map_err(|_| bad_cursor())?,
        };
        let rows: Vec<(i64, i64, String, String, String, String)> = sqlx::query_as(
            "SELECT id, at, by, action, subject, detail FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before)
        .bind(i64::from(page.limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let (rows, next) = paged(rows, page, |row| row.0.to_string());
        let entry = |(_, at, by, action, subject, detail)| {
            Ok(AuditEntry {
                at: instant(at)?,
                by,
                action,
                subject,
                detail,
            })
        };
        let entries: Result<Vec<_>, StoreError> = rows.into_iter().map(entry).collect();
        Ok((entries?, next))
    }
}
