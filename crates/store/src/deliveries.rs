//! The port `Deliveries`: which results have been delivered where.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{BatchReader, Deliveries, DueDelivery, StoreError};
use punctual_domain::Delivery;
use serde_json::Value as Json;

use crate::{
    Store,
    driver::{Row, Value, values},
    errors::failed,
};

const DUE: &str = "SELECT d.id, d.batch_id, d.target, d.position, d.tries, coalesce(d.retried_from, b.finished_at) + d.within
     FROM @deliveries d JOIN @batches b ON b.batch_id = d.batch_id
     WHERE d.state = 'open' AND d.not_before <= $1 AND b.finished_at IS NOT NULL
       AND d.target NOT IN (SELECT busy.value FROM @texts($2, busy))
       AND NOT EXISTS (SELECT 1 FROM @fence f WHERE f.held_to IS NOT NULL)
     ORDER BY d.not_before, d.id LIMIT 1";

/// Also where it goes: an operator may have sent it elsewhere since it was found.
const TAKE: &str = "UPDATE @deliveries SET not_before = $2, leased_until = $2
     WHERE id = $1 AND not_before <= $3 AND state = 'open' AND target = $4";

/// Only while the lease is the one that was taken: another process may have it by now, or may have brought it to its end.
const ADVANCE: &str = "UPDATE @deliveries SET position = $2, state = $3, not_before = $4, tries = 0, reason = NULL, leased_until = NULL
     WHERE id = $1 AND state = 'open' AND not_before = $5 AND leased_until = $5";

const POSTPONE: &str = "UPDATE @deliveries SET state = $2, not_before = coalesce($3, not_before), tries = tries + 1, reason = $4,
         leased_until = NULL
     WHERE id = $1 AND state = 'open' AND not_before = $5 AND leased_until = $5";

#[async_trait]
impl Deliveries for Store {
    async fn take(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        busy: &[Delivery],
    ) -> Result<Option<DueDelivery>, StoreError> {
        let busy = busy.iter().map(|target| target.to_json().to_string());
        let due = values![now, Value::Texts(busy.collect())];
        let due: Option<Row> = self.database.fetch_optional(DUE, due).await?;
        let Some(mut row) = due else { return Ok(None) };
        let (id, leased_until): (i64, _) = (row.next()?, now + lease);
        let batch_id = row.parse()?;
        let target: String = row.next()?;
        // Another process may have been as quick.
        let taking = values![id, leased_until, now, &*target];
        if self.database.execute(TAKE, taking).await? == 0 {
            return Ok(None);
        }
        let target: Json = serde_json::from_str(&target).map_err(failed)?;
        let batch = self.batch(batch_id).await?;
        Ok(Some(DueDelivery {
            id,
            batch: batch.ok_or_else(|| failed(format!("batch {batch_id} no longer exists")))?,
            target: Delivery::parse(&target, "").map_err(failed)?,
            cursor: row.next()?,
            tries: row.next()?,
            until: row.next()?,
            leased_until,
        }))
    }

    async fn advance(
        &self,
        taken: &DueDelivery,
        cursor: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let state = if cursor.is_some() { "open" } else { "done" };
        let advanced = values![taken.id, cursor, state, now, taken.leased_until];
        Ok(self.database.execute(ADVANCE, advanced).await? > 0)
    }

    async fn postpone(
        &self,
        taken: &DueDelivery,
        again: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let state = if again.is_some() { "open" } else { "given_up" };
        let postponed = values![taken.id, state, again, reason, taken.leased_until];
        Ok(self.database.execute(POSTPONE, postponed).await? > 0)
    }
}
