//! Erasures that were carried out, by a keyed hash of the tenant's id: when the Config Database names one again, only chunks are looked at
//! that were queued since. Each has a chunk up to which nothing is left of the tenant. Where retention has removed this chunk, its number
//! may be that of another one, so the erasure is repeated.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::StoreError;

use super::Erasure;
use crate::driver::values;

/// How long an erasure is remembered: longer than the 30 days in which the Config Database names it.
pub(crate) const REMEMBERED_FOR: TimeDelta = TimeDelta::days(45);

/// How long before an erasure a chunk must have been queued, so that all chunks with lower numbers can be seen: in `PostgreSQL`, those of
/// a transaction that is still under way, of which there may be any number, are seen later than others with higher numbers.
const SETTLED_AFTER: TimeDelta = TimeDelta::minutes(15);

/// Chunks that are looked at each time: when there are more, the note moves on behind them.
const CHUNKS_AGAIN: i64 = 2_000;

pub(crate) const DONE: &str = "SELECT e.chunk FROM @done_erasures e JOIN @chunks c ON c.chunk = e.chunk AND c.chunk_id = e.chunk_id
     WHERE e.tenant = $1 AND e.erased_at = $2";

/// The last chunk up to `$4` that was queued before `$5`.
macro_rules! last_settled {
    () => {
        "FROM @chunks c CROSS JOIN @batches b
             WHERE b.batch_id = c.batch_id AND c.chunk <= $4 AND b.created_at < $5 ORDER BY c.chunk DESC LIMIT 1"
    };
}

/// Nothing without such a chunk: then there is little to look at again.
pub(crate) const NOTE: &str = concat!(
    "INSERT INTO @done_erasures (tenant, erased_at, done_at, chunk, chunk_id) SELECT $1, $2, $3, c.chunk, c.chunk_id ",
    last_settled!(),
    " ON CONFLICT (tenant) DO UPDATE SET erased_at = excluded.erased_at, done_at = excluded.done_at, chunk = excluded.chunk,
         chunk_id = excluded.chunk_id"
);

/// Only a note that is still there: an erasure that is under way has removed it.
const MOVE_ON: &str = concat!(
    "UPDATE @done_erasures SET chunk = n.number, chunk_id = n.id FROM (SELECT c.chunk AS number, c.chunk_id AS id ",
    last_settled!(),
    ") n WHERE tenant = $1 AND erased_at = $2 AND chunk = $3"
);

const FORGET: &str = "DELETE FROM @done_erasures WHERE tenant = $1";

pub(crate) const REMOVE_DONE: &str = "DELETE FROM @done_erasures WHERE tenant IN
         (SELECT e.tenant FROM @done_erasures e WHERE e.done_at < $1 ORDER BY e.done_at LIMIT $2)";

impl Erasure<'_> {
    fn tenant_hash(&self) -> String {
        self.hashes.hash_of_tenant(self.tenant.as_str())
    }

    /// Whether the erasure of then was carried out, and no chunk has come since that has the tenant.
    pub(super) async fn is_done(&self, erased_at: DateTime<Utc>) -> Result<bool, StoreError> {
        let database = &self.store.database;
        let wanted = values![self.tenant_hash(), erased_at];
        let noted: Option<i64> = database.fetch_optional(DONE, wanted).await?;
        let Some(noted) = noted else {
            return Ok(false);
        };
        let Some(last) = self.last_without(noted).await? else {
            return Ok(false);
        };
        if last - noted >= CHUNKS_AGAIN {
            let before = self.now - SETTLED_AFTER;
            let moved = values![self.tenant_hash(), erased_at, noted, last, before];
            database.execute(MOVE_ON, moved).await?;
        }
        Ok(true)
    }

    /// Notes that the erasure of then was carried out, which has looked at chunks up to the last one.
    pub(super) async fn note_done(
        &self,
        erased_at: DateTime<Utc>,
        last_chunk: i64,
    ) -> Result<(), StoreError> {
        let before = self.now - SETTLED_AFTER;
        let done = values![self.tenant_hash(), erased_at, self.now, last_chunk, before];
        self.store.database.execute(NOTE, done).await?;
        Ok(())
    }

    /// Before anything is erased: what an erasure leaves that is interrupted cannot be found by chunks alone.
    pub(super) async fn forget_done(&self) -> Result<(), StoreError> {
        let tenant = values![self.tenant_hash()];
        self.store.database.execute(FORGET, tenant).await?;
        Ok(())
    }
}
