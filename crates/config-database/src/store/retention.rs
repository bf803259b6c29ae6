//! What is kept for a time: old versions of configurations, changes, and what has expired. It is removed in portions that keep other
//! writers waiting for 50 ms at most, with pauses between.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{AnyPool, AssertSqlSafe, Row, any::AnyRow};
use tokio::time::Instant;

use super::{ConfigStore, StoreError, feed::TO_PURGE, instant, now};

/// How long old versions of configurations are kept by default.
pub(super) const KEEP_HISTORY: TimeDelta = TimeDelta::days(365);
/// How long changes are kept for readers who have not seen them.
const KEEP_CHANGES: TimeDelta = TimeDelta::days(30);
/// How long API keys are kept once they have expired, and readers once they are gone.
const KEEP_EXPIRED: TimeDelta = TimeDelta::days(90);

/// Between two portions other writers have their turn.
const PORTION_INTERVAL: Duration = Duration::from_millis(10);
/// Time that a portion may take.
const PORTION: Duration = Duration::from_millis(50);
/// Rows of the first portion, and of the smallest and the largest.
const FIRST_ROWS: i64 = 100;
const MIN_ROWS: i64 = 1;
const MAX_ROWS: i64 = 2_000;

/// How many rows a portion has, by how long those before took.
#[derive(Debug)]
pub(super) struct Pace {
    rows: i64,
    begun: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            rows: FIRST_ROWS,
            begun: Instant::now(),
        }
    }

    pub(super) fn rows(&self) -> i64 {
        self.rows
    }

    /// A portion begins.
    pub(super) fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// A portion has ended; waits while other writers have their turn.
    pub(super) async fn end(&mut self) {
        let took = self.begun.elapsed();
        if took > PORTION / 2 {
            self.rows = (self.rows / 2).max(MIN_ROWS);
        } else if took < PORTION / 8 {
            self.rows = (self.rows * 2).min(MAX_ROWS);
        }
        tokio::time::sleep(PORTION_INTERVAL).await;
    }
}

/// Records that are kept for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// Kind of the records, such as `history`.
    pub kind: &'static str,
    /// Number of records that the next removal takes.
    pub rows: u64,
    /// Time of the oldest of them; `None`: there are none.
    pub oldest: Option<DateTime<Utc>>,
}

/// A table with rows that are removed by their time.
struct Table {
    kind: &'static str,
    name: &'static str,
    /// Columns of the primary key.
    key: &'static str,
    time: &'static str,
    /// How long a row is kept after its time.
    keep: TimeDelta,
}

const TABLES: [Table; 4] = [
    Table {
        kind: "sessions",
        name: "sessions",
        key: "token_hash",
        time: "expires_at",
        keep: TimeDelta::zero(),
    },
    Table {
        kind: "used links",
        name: "used_links",
        key: "link_hash",
        time: "expires_at",
        keep: TimeDelta::zero(),
    },
    Table {
        kind: "API keys",
        name: "api_keys",
        key: "hash",
        time: "expires_at",
        keep: KEEP_EXPIRED,
    },
    Table {
        kind: "readers",
        name: "readers",
        key: "reader, feature_type",
        time: "seen_at",
        keep: KEEP_EXPIRED,
    },
];

/// A table with the versions of configurations. The newest of each stays.
struct History {
    kind: &'static str,
    name: &'static str,
    owner: &'static str,
}

const HISTORIES: [History; 2] = [
    History {
        kind: "history",
        name: "config_history",
        owner: "tenant_id",
    },
    History {
        kind: "history of organizations",
        name: "organization_config_history",
        owner: "organization_id",
    },
];

impl History {
    /// The condition of the versions that newer ones had replaced before `$1`: until then they were in effect, however old they are.
    fn is_old(&self) -> String {
        let Self { name, owner, .. } = self;
        format!(
            "old.changed_at < $1 AND EXISTS (
                 SELECT 1 FROM {name} AS newer
                 WHERE newer.{owner} = old.{owner} AND newer.config_key = old.config_key AND newer.version > old.version
                   AND newer.changed_at < $1)"
        )
    }
}

impl ConfigStore {
    /// The same, which keeps old versions of configurations for so many days since they were replaced; the newest version of each always
    /// stays.
    #[must_use]
    pub fn keeping_history(mut self, days: u16) -> Self {
        self.keep_history = TimeDelta::days(days.into());
        self
    }

    /// What the next removal takes, by kind.
    ///
    /// # Errors
    /// The store failed.
    pub async fn expiring(&self) -> Result<Vec<Expiring>, StoreError> {
        let now = now();
        let mut found = Vec::new();
        for history in &HISTORIES {
            let sql = format!(
                "SELECT count(*), min(old.changed_at) FROM {} AS old WHERE {}",
                history.name,
                history.is_old()
            );
            let until = now - self.keep_history;
            found.push(
                self.count(history.kind, &sql, until.timestamp_micros())
                    .await?,
            );
        }
        let until = now - KEEP_CHANGES;
        let last = self.last_to_purge(until).await?;
        let changes = format!("SELECT count(*), min(recorded_at) FROM {TO_PURGE}");
        let changes = sqlx::query(AssertSqlSafe(changes))
            .bind(last)
            .bind(until.timestamp_micros());
        found.push(expiring("changes", &changes.fetch_one(&self.pool).await?)?);
        for table in &TABLES {
            let Table { name, time, .. } = table;
            let sql = format!("SELECT count(*), min({time}) FROM {name} WHERE {time} < $1");
            let until = now - table.keep;
            found.push(
                self.count(table.kind, &sql, until.timestamp_micros())
                    .await?,
            );
        }
        Ok(found)
    }

    async fn count(
        &self,
        kind: &'static str,
        sql: &str,
        until: i64,
    ) -> Result<Expiring, StoreError> {
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(until)
            .fetch_one(&self.pool)
            .await?;
        expiring(kind, &row)
    }

    /// Removes what is kept for a time only and is older. Returns how much there was, by kind. [`upkeep`](Self::upkeep) does it once an
    /// hour.
    ///
    /// # Errors
    /// The store failed; what was removed before stays removed.
    pub async fn remove_expired(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let now = now();
        let mut removed = Vec::new();
        for history in &HISTORIES {
            let rows = self.remove_versions(history, now - self.keep_history);
            removed.push((history.kind, rows.await?));
        }
        let changes = self.purge_changes(now - KEEP_CHANGES).await?;
        removed.push(("changes", changes));
        for table in &TABLES {
            let rows = remove_rows(&self.pool, table, now - table.keep).await?;
            removed.push((table.kind, rows));
        }
        removed.retain(|(_, rows)| *rows > 0);
        Ok(removed)
    }

    /// Removes old versions. They are looked for without a lock: those that stay may be many.
    async fn remove_versions(
        &self,
        history: &History,
        until: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let History { name, owner, .. } = history;
        let found = format!(
            "SELECT old.changed_at, old.{owner}, old.config_key, old.version FROM {name} AS old
             WHERE (old.changed_at, old.{owner}, old.config_key, old.version) > ($2, $3, $4, $5) AND {}
             ORDER BY old.changed_at, old.{owner}, old.config_key, old.version LIMIT $6",
            history.is_old()
        );
        let delete = self.dialect.rows(&format!(
            "DELETE FROM {name} WHERE ({owner}, config_key, version) IN (
                 SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT) FROM ROWS)"
        ));
        let mut pace = Pace::new();
        let mut after = (i64::MIN, String::new(), String::new(), 0_i64);
        let mut removed = 0;
        loop {
            let rows = sqlx::query(AssertSqlSafe(found.as_str()))
                .bind(until.timestamp_micros())
                .bind(after.0)
                .bind(after.1.as_str())
                .bind(after.2.as_str())
                .bind(after.3)
                .bind(pace.rows())
                .fetch_all(&self.pool)
                .await?;
            let Some(last) = rows.last() else {
                return Ok(removed);
            };
            let next = (
                last.try_get(0)?,
                last.try_get(1)?,
                last.try_get(2)?,
                last.try_get(3)?,
            );
            let versions = rows.iter().map(|row| {
                let (owner, key): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
                let version: i64 = row.try_get(3)?;
                Ok(json!([owner, key, version]))
            });
            let versions = versions.collect::<Result<Vec<Value>, StoreError>>()?;
            pace.begin();
            let deleted = sqlx::query(delete.clone())
                .bind(Value::from(versions).to_string())
                .execute(&self.pool)
                .await?;
            removed += deleted.rows_affected();
            after = next;
            pace.end().await;
        }
    }
}

/// Records of a kind, by their number and the time of the oldest.
fn expiring(kind: &'static str, row: &AnyRow) -> Result<Expiring, StoreError> {
    let rows: i64 = row.try_get(0)?;
    let oldest: Option<i64> = row.try_get(1)?;
    Ok(Expiring {
        kind,
        rows: rows.unsigned_abs(),
        oldest: oldest.map(instant).transpose()?,
    })
}

/// Removes the rows of a table whose time is before `until`.
async fn remove_rows(
    pool: &AnyPool,
    table: &Table,
    until: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let Table {
        name, key, time, ..
    } = table;
    let delete = format!(
        "DELETE FROM {name} WHERE ({key}) IN (
             SELECT {key} FROM {name} WHERE {time} < $1 ORDER BY {time} LIMIT $2) AND {time} < $1"
    );
    let mut pace = Pace::new();
    let mut removed = 0;
    loop {
        pace.begin();
        let deleted = sqlx::query(AssertSqlSafe(delete.as_str()))
            .bind(until.timestamp_micros())
            .bind(pace.rows())
            .execute(pool)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(removed);
        }
        removed += deleted.rows_affected();
        pace.end().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn portions_grow_while_they_are_quick_and_shrink_when_they_take_long() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace.begin();
            tokio::time::advance(Duration::from_millis(1)).await;
            pace.end().await;
        }
        assert_eq!(pace.rows(), MAX_ROWS);
        for _ in 0..20 {
            pace.begin();
            tokio::time::advance(Duration::from_millis(40)).await;
            pace.end().await;
        }
        assert_eq!(pace.rows(), MIN_ROWS);
    }
}
