//! The port `OperatorStore`: what runs in sum, the audit log, and requests under idempotency keys.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    AuditEntry, FailingDeliveries, JobActivity, NewRequest, OperatorStore, Page, Paged,
    ReplicaLease, Request, StoreError,
};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    Store,
    driver::{FromRow, Row, values},
    errors::failed,
    reader::{before, paged},
};

/// How long a request under an idempotency key is remembered.
const REQUEST_TTL: TimeDelta = TimeDelta::hours(24);

const ACTIVITY: &str = "SELECT job_id, count(*),
         CAST(coalesce(sum(CASE WHEN finished_at IS NOT NULL THEN total END), 0) AS BIGINT),
         CAST(sum(succeeded) AS BIGINT), CAST(sum(failed) AS BIGINT),
         CAST(coalesce(max(CASE WHEN trigger = 'schedule' THEN created_at - scheduled_at END), 0) AS BIGINT)
     FROM @batches WHERE scheduled_at >= $1 GROUP BY job_id ORDER BY job_id";

impl FromRow for JobActivity {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            job_id: row.parse()?,
            batches: row.next()?,
            items: row.next()?,
            succeeded: row.next()?,
            failed: row.next()?,
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
     FROM @deliveries d JOIN @batches b ON b.batch_id = d.batch_id
     WHERE d.state IN ('open', 'given_up') AND b.finished_at IS NOT NULL
       AND (d.state = 'open' AND d.tries >= 2 OR d.state = 'given_up' AND b.finished_at >= $1)
     GROUP BY b.job_id, d.state ORDER BY b.job_id, d.state";

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

const RECORD: &str =
    "INSERT INTO @audit_log (at, by, action, subject, detail) VALUES ($1, $2, $3, $4, $5)";

const AUDIT_LOG: &str = "SELECT id, at, by, action, subject, detail FROM @audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2";

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
        let failing = values![given_up_since];
        self.database.fetch(FAILING_DELIVERIES, failing).await
    }

    async fn record(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let AuditEntry {
            at,
            by,
            action,
            subject,
            detail,
        } = entry;
        let entry = values![*at, &**by, &**action, &**subject, &**detail];
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
        transaction.execute(INSERT_REQUEST, request).await?;
        let request = transaction.fetch_one(REQUEST, values![scope, key]).await?;
        transaction.commit().await?;
        Ok(request)
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

    async fn audit_log(&self, page: &Page) -> Result<Paged<AuditEntry>, StoreError> {
        let wanted = values![before(page)?, page.limit + 1];
        let entries: Vec<Numbered> = self.database.fetch(AUDIT_LOG, wanted).await?;
        let (entries, next) = paged(entries, page, |entry| entry.0.to_string());
        Ok((entries.into_iter().map(|entry| entry.1).collect(), next))
    }
}
