//! Which shard the store serves. Part of the port `WorkQueue`.

use chrono::{DateTime, NaiveDate, Utc};
use punctual_application::ports::{StoreError, StoreErrorKind};
use punctual_domain::{MOST_BEHIND, ShardAssignment, Sharding};
use serde_json::json;

use crate::{
    Store,
    driver::{Connection, FromRow, Row, values},
    errors::failed,
};

const SHARDS: &str = "SELECT from_date, shard FROM @shards ORDER BY from_date";

/// How far the job has been planned that is least far, of those that are not long out of the file, and the one that has been
/// furthest.
const PLANNED: &str = "SELECT min(scheduled_until), (SELECT max(coalesce(furthest_until, scheduled_until)) FROM @schedule_progress)
     FROM @schedule_progress
     WHERE scheduled_until >= (SELECT max(scheduled_until) FROM @schedule_progress) - $1";

/// The newest division, in the form that [`Store`] remembers.
const NEWEST: &str =
    "SELECT from_date || ' ' || shard FROM @shards ORDER BY from_date DESC LIMIT 1";

const FORGET: &str = "DELETE FROM @shards";

const KEEP: &str = "INSERT INTO @shards (from_date, shard)
     SELECT n.value ->> 0, n.value ->> 1 FROM @json($1, n)";

/// A division, and its first date.
struct Division(NaiveDate, String);

impl FromRow for Division {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self(row.parse()?, row.next()?))
    }
}

impl Store {
    pub(crate) async fn take_shard(
        &self,
        assignment: &ShardAssignment,
        now: DateTime<Utc>,
    ) -> Result<Sharding, StoreError> {
        let mut transaction = self.database.begin().await?;
        transaction
            .fetch_one::<bool>("SELECT @lock($1)", values!["shards"])
            .await?;
        let divisions: Vec<Division> = transaction.fetch(SHARDS, values![]).await?;
        let divisions = divisions
            .into_iter()
            .map(|Division(from, shard)| (from, shard));
        let stored = Sharding::from_stored(divisions).map_err(failed)?;
        let behind = MOST_BEHIND.num_microseconds();
        let planned: (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
            transaction.fetch_one(PLANNED, values![behind]).await?;
        let planned = planned.0.zip(planned.1);
        let sharding = Sharding::assign(stored, assignment, planned, now);
        let sharding = sharding
            .map_err(|error| StoreError::new(StoreErrorKind::Conflict, error.to_string()))?;
        let kept = sharding.to_stored();
        let newest = kept.last().map(|(from, shard)| format!("{from} {shard}"));
        transaction.execute(FORGET, values![]).await?;
        transaction
            .execute(KEEP, values![json!(kept).to_string()])
            .await?;
        transaction.commit().await?;
        self.division.send_replace(newest.unwrap_or_default());
        Ok(sharding)
    }

    /// Refuses what this process has planned by a division that is not the newest any more.
    pub(crate) async fn check_division(
        &self,
        connection: &mut Connection<'_>,
    ) -> Result<(), StoreError> {
        let newest: Option<String> = connection.fetch_optional(NEWEST, values![]).await?;
        if newest.is_none_or(|newest| newest == *self.division.borrow()) {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Conflict,
            "the tenants are divided otherwise since this process began; restart it with the shard of the others on this store",
        ))
    }
}
