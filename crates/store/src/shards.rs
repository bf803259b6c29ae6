//! Which shard the store serves. Part of the port `WorkQueue`.

use chrono::{DateTime, NaiveDate, Utc};
use punctual_application::ports::{StoreError, StoreErrorKind};
use punctual_domain::{ShardAssignment, Sharding};
use serde_json::json;

use crate::{
    Store,
    driver::{FromRow, Row, values},
    errors::failed,
};

const SHARDS: &str = "SELECT from_date, shard FROM @shards ORDER BY from_date";

/// How far any job has been planned.
const PLANNED_UNTIL: &str =
    "SELECT max(coalesce(furthest_until, scheduled_until)) FROM @schedule_progress";

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
        let planned_until = transaction.fetch_one(PLANNED_UNTIL, values![]).await?;
        let sharding = Sharding::assign(stored, assignment, planned_until, now);
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
}
