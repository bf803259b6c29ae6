//! What has been prepared for runs to come. A run that takes it notes its chunk, with whose end it goes (a trigger of the database
//! removes it, so that chunks of other jobs need no statement); what no run takes is removed a day after it was due.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    crash_point,
    ports::{NewPrepared, PreparedOutput, PreparedState, PreparedWork, StoreError},
};
use punctual_domain::{Chunk, ItemId, JobId, Occurrence};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Store,
    driver::{Connection, FromRow, Row, Value, values},
    errors::failed,
};

/// How long what no run has taken is kept after it was due.
pub(crate) const KEPT_FOR: TimeDelta = TimeDelta::days(1);
/// So many are removed at a time.
const REMOVED_AT_A_TIME: i64 = 10_000;

/// Keeps what was prepared for an item, if the claim of its chunk is valid and none of its `$10` items was erased since. The lock keeps the next claim waiting until it is
/// stored, so that its worker finds it; it is shared by the items of the chunk.
const KEEP: &str = "INSERT INTO @prepared_outputs
         (job_id, occurrence, tenant_id, fingerprint, output, call_id, prepared_at, due_at)
     SELECT c.job_id, $3, $4, $5, $6, $7, $8, $9 FROM @chunks c
     WHERE c.chunk_id = $1 AND c.token = $2 AND coalesce(c.total, 0) >= $10 @for_share(c)
     ON CONFLICT (job_id, occurrence, tenant_id) DO UPDATE SET fingerprint = excluded.fingerprint, output = excluded.output,
         call_id = excluded.call_id, prepared_at = excluded.prepared_at, due_at = excluded.due_at";

/// Notes the chunk of a run that takes what was prepared for its items.
pub(crate) const TAKE: &str = "UPDATE @prepared_outputs SET chunk = c.chunk FROM @chunks c
     WHERE c.chunk_id = $1 AND c.token = $2 AND @prepared_outputs.job_id = $3 AND @prepared_outputs.occurrence = $4
       AND @in_texts(tenant_id, $5) AND output IS NOT NULL
     RETURNING tenant_id, fingerprint, output";

/// A call that waits no more, or never has, since its process has crashed before, prepares nothing.
pub(crate) const STATES: &str =
    "SELECT tenant_id, fingerprint, prepared_at, output IS NOT NULL FROM @prepared_outputs
     WHERE job_id = $1 AND occurrence = $2 AND @in_texts(tenant_id, $3)
       AND (output IS NOT NULL OR EXISTS (SELECT 1 FROM @waiting_items w WHERE w.call_id = @prepared_outputs.call_id))";

/// Keeps the outputs of calls that have waited: of each call its id and its output.
pub(crate) const FINISH: &str =
    "UPDATE @prepared_outputs SET output = n.output, call_id = NULL, prepared_at = $3
     FROM (SELECT one.value ->> 0 AS id, one.value ->> 1 AS output FROM @json($1, one)) n
     WHERE call_id = n.id AND @in_texts(call_id, $2)";

/// Removes what was due before `$1`. It waits for no row: runs take rows, and their chunks remove them, in other orders.
pub(crate) const REMOVE_OLD: &str =
    "DELETE FROM @prepared_outputs WHERE (job_id, occurrence, tenant_id) IN
         (SELECT p.job_id, p.occurrence, p.tenant_id FROM @prepared_outputs p WHERE p.due_at < $1
          ORDER BY p.due_at LIMIT $2 @for_update_free(p))";

impl FromRow for (ItemId, PreparedOutput) {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let item_id = row.parse()?;
        let fingerprint = row.parse()?;
        let output: String = row.next()?;
        let output = serde_json::from_str(&output).map_err(failed)?;
        let prepared = PreparedOutput {
            fingerprint,
            output,
        };
        Ok((item_id, prepared))
    }
}

impl FromRow for (ItemId, PreparedState) {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let item_id = row.parse()?;
        let state = PreparedState {
            fingerprint: row.parse()?,
            since: row.next()?,
            is_ready: row.next()?,
        };
        Ok((item_id, state))
    }
}

impl Store {
    pub(crate) async fn keep_one_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        prepared: &NewPrepared,
    ) -> Result<bool, StoreError> {
        let (output, call_id) = match &prepared.work {
            PreparedWork::Output(output) => (Some(output.to_string()), None),
            PreparedWork::Waits(call_id) => (None, Some(call_id.to_string())),
        };
        let row = |items: usize| {
            values![
                &*chunk.chunk_id,
                token,
                chunk.run_of_items().to_string(),
                item,
                prepared.fingerprint.to_string(),
                output.as_deref(),
                call_id.as_deref(),
                prepared.at,
                chunk.scheduled_at,
                items
            ]
        };
        crash_point!("prepared-before-commit");
        let is_kept = self.database.execute(KEEP, row(chunk.items.len())).await? > 0
            || self
                .keep_unless_erased(chunk, token, item, KEEP, row(0))
                .await?;
        crash_point!("prepared-after-commit");
        Ok(is_kept)
    }

    pub(crate) async fn take_all_prepared(
        &self,
        chunk: &Chunk,
        token: Uuid,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedOutput>, StoreError> {
        let wanted = values![
            &*chunk.chunk_id,
            token,
            &chunk.job_id,
            chunk.occurrence.to_string(),
            items
        ];
        let mut transaction = self.database.begin().await?;
        let taken: Vec<(ItemId, PreparedOutput)> = transaction.fetch(TAKE, wanted).await?;
        transaction.commit().await?;
        Ok(taken.into_iter().collect())
    }

    pub(crate) async fn prepared_states(
        &self,
        job_id: &JobId,
        run: Occurrence,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, PreparedState>, StoreError> {
        let wanted = values![job_id, run.to_string(), items];
        let found: Vec<(ItemId, PreparedState)> = self.database.fetch(STATES, wanted).await?;
        Ok(found.into_iter().collect())
    }
}

/// Keeps the outputs of calls that have waited to prepare runs, by the ids of the calls.
pub(crate) async fn finish(
    connection: &mut Connection<'_>,
    outputs: Vec<(String, String)>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if outputs.is_empty() {
        return Ok(());
    }
    let finished = json!(outputs).to_string();
    let ids = outputs.into_iter().map(|(id, _)| id).collect();
    let finished = values![finished, Value::Texts(ids), now];
    connection.execute(FINISH, finished).await?;
    Ok(())
}

/// Removes some of what no run has taken.
pub(crate) async fn remove_old(
    connection: &mut Connection<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let long_ago = values![now - KEPT_FOR, REMOVED_AT_A_TIME];
    connection.execute(REMOVE_OLD, long_ago).await?;
    Ok(())
}
