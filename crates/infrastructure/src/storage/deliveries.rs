//! The port `Deliveries`, over either database.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{BatchReader, Deliveries, DueDelivery, StoreError};
use punctual_domain::Delivery;
use serde_json::Value;
use sqlx::{AnyPool, AssertSqlSafe, Row};

use super::{
    errors::failed,
    reader::SqlReader,
    rows::{instant, micros},
};

/// Keeps which results have been delivered where.
#[derive(Debug, Clone)]
pub(crate) struct SqlDeliveries {
    pool: AnyPool,
    reader: SqlReader,
}

impl SqlDeliveries {
    pub(super) fn new(pool: AnyPool) -> Self {
        Self {
            reader: SqlReader::new(pool.clone()),
            pool,
        }
    }
}

#[async_trait]
impl Deliveries for SqlDeliveries {
    async fn take(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        busy: &[Delivery],
    ) -> Result<Option<DueDelivery>, StoreError> {
        let not_busy: String = (0..busy.len())
            .map(|index| format!(" AND d.target <> ${}", index + 2))
            .collect();
        let due = format!(
            "SELECT d.id, d.batch_id, d.target, d.position, d.tries, b.finished_at + d.within FROM deliveries d
             JOIN batches b ON b.batch_id = d.batch_id
             WHERE d.state = 'open' AND d.not_before <= $1 AND b.finished_at IS NOT NULL{not_busy}
             ORDER BY d.not_before, d.id LIMIT 1"
        );
        let mut due = sqlx::query(AssertSqlSafe(due)).bind(micros(now));
        for target in busy {
            due = due.bind(target.to_json().to_string());
        }
        let due = due.fetch_optional(&self.pool).await.map_err(failed)?;
        let Some(row) = due else { return Ok(None) };
        let id: i64 = row.try_get(0).map_err(failed)?;
        // Somebody else may have been as quick.
        let taken =
            sqlx::query("UPDATE deliveries SET not_before = $2 WHERE id = $1 AND not_before <= $3")
                .bind(id)
                .bind(micros(now + lease))
                .bind(micros(now))
                .execute(&self.pool)
                .await
                .map_err(failed)?;
        if taken.rows_affected() == 0 {
            return Ok(None);
        }
        let batch_id: String = row.try_get(1).map_err(failed)?;
        let target: String = row.try_get(2).map_err(failed)?;
        let target: Value = serde_json::from_str(&target).map_err(failed)?;
        let tries: i64 = row.try_get(4).map_err(failed)?;
        let until: Option<i64> = row.try_get(5).map_err(failed)?;
        let batch = self.reader.batch(batch_id.parse().map_err(failed)?).await?;
        Ok(Some(DueDelivery {
            id,
            batch: batch.ok_or_else(|| failed(format!("batch {batch_id} no longer exists")))?,
            target: Delivery::parse(&target, "").map_err(failed)?,
            cursor: row.try_get(3).map_err(failed)?,
            tries: u32::try_from(tries).unwrap_or(u32::MAX),
            until: until.map(instant).transpose()?,
        }))
    }

    async fn advance(
        &self,
        id: i64,
        cursor: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let state = if cursor.is_some() { "open" } else { "done" };
        sqlx::query(
            "UPDATE deliveries SET position = $2, state = $3, not_before = $4, tries = 0, reason = NULL WHERE id = $1",
        )
        .bind(id)
        .bind(cursor)
        .bind(state)
        .bind(micros(now))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn postpone(
        &self,
        id: i64,
        again: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<(), StoreError> {
        let state = if again.is_some() { "open" } else { "given_up" };
        sqlx::query(
            "UPDATE deliveries SET state = $2, not_before = coalesce($3, not_before), tries = tries + 1, reason = $4
             WHERE id = $1",
        )
        .bind(id)
        .bind(state)
        .bind(again.map(micros))
        .bind(reason.replace('\0', "\u{fffd}"))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }
}
