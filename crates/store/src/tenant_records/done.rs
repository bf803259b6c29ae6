//! Erasures that were carried out, by a keyed hash of the tenant's id: when the Config Database names one again, only chunks are looked at
//! that were queued since. Each has the last chunk that it looked at. Where retention has removed this chunk, its number may be that of
//! another one, so the erasure is repeated.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::StoreError;

use super::Erasure;
use crate::driver::values;

/// How long an erasure is remembered: longer than the 30 days in which the Config Database names it.
pub(crate) const REMEMBERED_FOR: TimeDelta = TimeDelta::days(45);

/// Chunks that are looked at again although they are not behind the last one: in `PostgreSQL`, some that were being queued then are
/// seen later than others with higher numbers. They are those of a million items.
const CHUNKS_AGAIN: i64 = 2_000;

pub(crate) const DONE: &str = "SELECT e.chunk FROM @done_erasures e JOIN @chunks c ON c.chunk = e.chunk AND c.chunk_id = e.chunk_id
     WHERE e.tenant = $1 AND e.erased_at = $2";

/// Nothing where the chunk has been removed meanwhile, or there is none: then there is little to look at again.
const NOTE: &str = "INSERT INTO @done_erasures (tenant, erased_at, done_at, chunk, chunk_id)
     SELECT $1, $2, $3, c.chunk, c.chunk_id FROM @chunks c WHERE c.chunk = $4
     ON CONFLICT (tenant) DO UPDATE SET erased_at = excluded.erased_at, done_at = excluded.done_at, chunk = excluded.chunk,
         chunk_id = excluded.chunk_id";

const FORGET: &str = "DELETE FROM @done_erasures WHERE tenant = $1";

pub(crate) const REMOVE_DONE: &str = "DELETE FROM @done_erasures WHERE tenant IN
         (SELECT e.tenant FROM @done_erasures e WHERE e.done_at < $1 ORDER BY e.done_at LIMIT $2)";

impl Erasure<'_> {
    fn tenant_hash(&self) -> String {
        self.hashes.hash_of_tenant(self.tenant.as_str())
    }

    /// Whether the erasure of then was carried out, and no chunk has come since that has the tenant.
    pub(super) async fn is_done(&self, erased_at: DateTime<Utc>) -> Result<bool, StoreError> {
        let wanted = values![self.tenant_hash(), erased_at];
        let last: Option<i64> = self.store.database.fetch_optional(DONE, wanted).await?;
        match last {
            Some(last) => Ok(!self.is_in_chunks_behind(last - CHUNKS_AGAIN).await?),
            None => Ok(false),
        }
    }

    /// Notes that the erasure of then was carried out, with the last chunk that it looked at.
    pub(super) async fn note_done(
        &self,
        erased_at: DateTime<Utc>,
        last_chunk: i64,
    ) -> Result<(), StoreError> {
        let done = values![self.tenant_hash(), erased_at, self.now, last_chunk];
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
