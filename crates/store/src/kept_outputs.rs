//! What the first of two purposes has made of items: kept before the second is called, and removed with the end of the last chunk
//! that had it, unless its item has failed or was skipped.

use std::collections::HashMap;

use punctual_application::{crash_point, ports::StoreError};
use punctual_domain::{Chunk, ItemId, PurposeId};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Store,
    batch_store::{VALID_CLAIM, ValidClaim},
    driver::{FromRow, Row, values},
    errors::failed,
};

/// Keeps the output of an item, if the claim of its chunk is valid and none of its `$6` items was erased since. The lock keeps the next claim waiting until the output is
/// stored, so that its worker finds it; it is shared by the items of the chunk.
const KEEP: &str = "INSERT INTO @kept_outputs (run, tenant_id, chunk, purpose_id, output)
     SELECT c.run, $3, c.chunk, $4, $5 FROM @chunks c WHERE c.chunk_id = $1 AND c.token = $2 AND coalesce(c.total, 0) >= $6 @for_share(c)
     ON CONFLICT (run, tenant_id) DO UPDATE SET chunk = excluded.chunk, purpose_id = excluded.purpose_id, output = excluded.output";

/// Assigns what a purpose has made of items to the chunk that reads it.
pub(crate) const TAKE: &str = "UPDATE @kept_outputs SET chunk = $1
     WHERE run = $2 AND @in_texts(tenant_id, $3) AND purpose_id = $4 RETURNING tenant_id, output";

/// Deletes what was kept by chunks that have ended, of items that have succeeded or had nothing to do. No two chunks have one
/// output, so two transactions do not wait for each other.
pub(crate) const CLEAR_KEPT: &str =
    "DELETE FROM @kept_outputs WHERE chunk IN (SELECT ended.value FROM @integers($1, ended))
       AND EXISTS (SELECT 1 FROM @results r WHERE r.run = @kept_outputs.run AND r.tenant_id = @kept_outputs.tenant_id
                   AND r.status IN (1, 3))";

/// Deletes what was kept of items whose dead letters are removed: of each its job, its id and its occurrence.
pub(crate) const FORGET_KEPT: &str = "DELETE FROM @kept_outputs WHERE (run, tenant_id) IN
         (SELECT n.run, one.value ->> 1 FROM @json($1, one)
          JOIN @runs n ON n.job_id = one.value ->> 0 AND n.occurrence = one.value ->> 2)";

struct Kept(ItemId, Value);

impl FromRow for Kept {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let item_id = row.parse()?;
        let output: String = row.next()?;
        Ok(Self(
            item_id,
            serde_json::from_str(&output).map_err(failed)?,
        ))
    }
}

impl Store {
    pub(crate) async fn keep_one(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        purpose: &PurposeId,
        output: &Value,
    ) -> Result<bool, StoreError> {
        let output = output.to_string();
        let kept = |items: usize| {
            values![
                &*chunk.chunk_id,
                token,
                item,
                purpose.as_str(),
                &*output,
                items
            ]
        };
        crash_point!("output-before-commit");
        let is_kept = self.database.execute(KEEP, kept(chunk.items.len())).await? > 0
            || self
                .keep_unless_erased(chunk, token, item, KEEP, kept(0))
                .await?;
        crash_point!("output-after-commit");
        Ok(is_kept)
    }

    pub(crate) async fn take_kept(
        &self,
        chunk: &Chunk,
        token: Uuid,
        purpose: &PurposeId,
        items: &[ItemId],
    ) -> Result<Option<HashMap<ItemId, Value>>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let claim = values![&*chunk.chunk_id, token];
        let claim = transaction.fetch_optional(VALID_CLAIM, claim).await?;
        let claim: Option<ValidClaim> = claim;
        let Some((own, run, ..)) = claim else {
            return Ok(None);
        };
        let wanted = values![own, run, items, purpose.as_str()];
        let kept: Vec<Kept> = transaction.fetch(TAKE, wanted).await?;
        transaction.commit().await?;
        let kept = kept
            .into_iter()
            .map(|Kept(item_id, output)| (item_id, output));
        Ok(Some(kept.collect()))
    }
}
