//! Which programs may open the tables: version N runs beside version N-1 on one database while processes are replaced one after
//! the other, and a program that must not is refused.
//!
//! Each migration works beside all programs that know the tables before it, unless a line of its file says otherwise:
//! `-- oldest program beside: 9`. This is the last migration of the oldest program that may work on the tables from then on. The
//! row of the table `config_compatibility` sums this up. It is written before a migration is made: a program of an earlier
//! version that restarts in between finds it. The agent's store has the same, and `crates/store/src/lib.rs` the rules.

use sqlx::{
    AnyConnection,
    migrate::{MigrateError, Migrator},
};
use tracing::info;

use super::{StoreError, dialect::Dialect};

/// What the line of a migration begins with.
const OLDEST: &str = "-- oldest program beside: ";

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const WRITE: &str = "INSERT INTO config_compatibility AS c (id, last_migration, oldest_program, written_by) VALUES (1, $1, $2, $3)
     ON CONFLICT (id) DO UPDATE SET last_migration = excluded.last_migration, oldest_program = excluded.oldest_program,
         written_by = excluded.written_by
     WHERE c.last_migration < excluded.last_migration";

/// What a program knows of the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Number of the migration that makes the table `config_compatibility`.
    since: i64,
    /// Number of the last migration.
    last: i64,
    /// Last migration of the oldest program that may work beside all of them.
    oldest: i64,
}

impl Known {
    /// Of migrations with their descriptions and texts, the first one first.
    pub(super) fn of(migrations: &[(&str, &str)]) -> Self {
        let is_ours = |migration: &(&str, &str)| migration.0 == "compatibility";
        let before = migrations.iter().position(is_ours);
        let last = migrations.len() as i64;
        let since = before.map_or(last, |before| before as i64 + 1);
        let oldest = migrations
            .iter()
            .filter_map(|(_, text)| oldest_beside(text));
        Self {
            since,
            last,
            oldest: oldest.fold(since, i64::max),
        }
    }

    /// Makes the migrations that are missing. One that fails is not made, and may be retried.
    ///
    /// # Errors
    /// The database failed, or knows other migrations.
    pub(super) async fn migrate(
        &self,
        connection: &mut AnyConnection,
        migrator: &Migrator,
    ) -> Result<(), MigrateError> {
        migrator
            .run_direct(Some(self.since), &mut *connection, false)
            .await?;
        sqlx::query(WRITE)
            .bind(self.last)
            .bind(self.oldest)
            .bind(VERSION)
            .execute(&mut *connection)
            .await?;
        migrator.run_direct(None, &mut *connection, false).await
    }

    /// Whether a later version has brought the tables further than this program knows. Ask before they are migrated, under one
    /// lock with that.
    ///
    /// # Errors
    /// This program cannot work on them, or they cannot be read.
    pub(super) async fn is_later(
        &self,
        connection: &mut AnyConnection,
        dialect: Dialect,
    ) -> Result<bool, StoreError> {
        let tables = match dialect {
            Dialect::Sqlite => {
                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'config_compatibility'"
            }
            Dialect::Postgres => {
                "SELECT count(*) FROM pg_class WHERE oid = to_regclass('config_compatibility')"
            }
        };
        let tables: i64 = sqlx::query_scalar(tables)
            .fetch_one(&mut *connection)
            .await?;
        if tables == 0 {
            return Ok(false);
        }
        let row = "SELECT last_migration, oldest_program, written_by FROM config_compatibility";
        let row: Option<(i64, i64, String)> =
            sqlx::query_as(row).fetch_optional(&mut *connection).await?;
        let Some((last, oldest, version)) = row.filter(|(last, ..)| *last > self.last) else {
            return Ok(false);
        };
        if oldest <= self.last {
            info!(
                "The tables of the Config Database are those of Punctual {version}; this version, {VERSION}, works on them as they \
                 are"
            );
            return Ok(true);
        }
        // That version may have stopped before it changed anything.
        let made: i64 =
            sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
                .fetch_one(&mut *connection)
                .await?;
        if made <= self.last {
            return Ok(false);
        }
        Err(StoreError::new(format!(
            "its tables are those of Punctual {version} (migration {last}), and need a version that knows migration {oldest}; this \
             version, {VERSION}, knows {}. Start Punctual {version} or a later version, or restore the copy of the database that \
             was made before the upgrade",
            self.last
        )))
    }
}

/// Last migration of the oldest program that may work beside this one, where its file names it.
fn oldest_beside(migration: &str) -> Option<i64> {
    let line = migration.lines().find_map(|line| line.strip_prefix(OLDEST));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_the_oldest_programs_counts() {
        let first = ("first", "CREATE TABLE a (b TEXT);");
        let ours = ("compatibility", "CREATE TABLE c (d TEXT);");
        let known = |more: &[(&str, &str)]| {
            let known = Known::of(&[&[first, ours], more].concat());
            (known.since, known.last, known.oldest)
        };
        assert_eq!(known(&[]), (2, 2, 2));
        let adds = ("adds", "ALTER TABLE a ADD COLUMN e TEXT;");
        assert_eq!(known(&[adds]), (2, 3, 2));
        let text =
            "-- No program reads `b`.\n-- oldest program beside: 3\nALTER TABLE a DROP COLUMN b;";
        assert_eq!(known(&[adds, ("drops", text)]), (2, 4, 3));
    }
}
