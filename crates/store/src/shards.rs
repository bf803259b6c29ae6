//! Which shard the store serves. Part of the port `WorkQueue`.

use chrono::{DateTime, NaiveDate, Utc};
use punctual_application::ports::{StoreError, StoreErrorKind};
use punctual_domain::{ShardAssignment, Sharding};
use serde_json::json;

use crate::{
    Store,
    driver::{Connection, FromRow, Row, values},
    errors::failed,
};

const SHARDS: &str = "SELECT from_date, shard FROM @shards ORDER BY from_date";

/// Until when each job has been planned, and the latest it has ever been.
const PLANNED: &str =
    "SELECT scheduled_until, coalesce(furthest_until, scheduled_until) FROM @schedule_progress";

/// The newest division, in the form that [`Store`] remembers, or an empty text; and whether the store is held.
const NEWEST: &str =
    "SELECT coalesce((SELECT s.from_date || ' ' || s.shard FROM @shards s ORDER BY s.from_date DESC LIMIT 1), ''),
            (SELECT count(*) FROM @fence f WHERE f.held_to IS NOT NULL)";

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
        let planned: Vec<(DateTime<Utc>, DateTime<Utc>)> =
            transaction.fetch(PLANNED, values![]).await?;
        let sharding = Sharding::assign(stored, assignment, &planned, now);
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

    /// Refuses what this process has planned by a division that is not the newest any more, and with `is_plan` what the schedule
    /// has planned before the store was found to be an older copy.
    pub(crate) async fn check_plan(
        &self,
        connection: &mut Connection<'_>,
        is_plan: bool,
    ) -> Result<(), StoreError> {
        let (newest, held): (String, bool) = connection.fetch_one(NEWEST, values![]).await?;
        if held && is_plan {
            return Err(StoreError::new(
                StoreErrorKind::Conflict,
                "the store was restored from an older copy, and nothing is planned until an operator has decided about the \
                 runs that it does not know of",
            ));
        }
        if newest.is_empty() || newest == *self.division.borrow() {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Conflict,
            "the tenants are divided otherwise since this process began; restart it with the shard of the others on this store",
        ))
    }
}
