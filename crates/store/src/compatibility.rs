//! Which programs may open the tables: version N runs beside version N-1 on one store while agents are replaced one after the
//! other, and a program that must not is refused.
//!
//! Each migration works beside all programs that know the tables before it, unless a line of its file says otherwise:
//! `-- oldest program beside: 27`. This is the last migration of the oldest program that may work on the tables from then on. The
//! row of the table `compatibility` sums this up. It is written before a migration is made: a program of an earlier version
//! that restarts in between finds it.

use punctual_application::ports::{StoreError, StoreErrorKind};
use tracing::info;

use crate::driver::{Connection, values};

/// What the line of a migration begins with.
const OLDEST: &str = "-- oldest program beside: ";

const READ: &str =
    "SELECT last_migration, oldest_program, written_by FROM @compatibility WHERE id = 1";

const WRITE: &str = "INSERT INTO @compatibility AS c (id, last_migration, oldest_program, written_by) VALUES (1, $1, $2, $3)
     ON CONFLICT (id) DO UPDATE SET last_migration = excluded.last_migration, oldest_program = excluded.oldest_program,
         written_by = excluded.written_by
     WHERE c.last_migration < excluded.last_migration";

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a program knows of the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// Number of the migration that makes the table `compatibility`.
    pub(crate) since: i64,
    /// Number of the last migration.
    pub(crate) last: i64,
    /// Last migration of the oldest program that may work beside all of them.
    pub(crate) oldest: i64,
}

/// Last migration of the oldest program that may work beside this one, where its file names it.
pub(crate) fn oldest_beside(migration: &str) -> Option<i64> {
    let line = migration.lines().find_map(|line| line.strip_prefix(OLDEST));
    line?.trim().parse().ok()
}

/// Whether a later version has brought the tables further than this program knows. Call it before they are migrated.
///
/// # Errors
/// This program cannot work on them, or they cannot be read.
pub(crate) async fn is_later(
    connection: &mut Connection<'_>,
    migrations: &str,
    known: &Known,
) -> Result<bool, StoreError> {
    if !connection.has_table("@compatibility").await? {
        return Ok(false);
    }
    let row: Option<(i64, i64, String)> = connection.fetch_optional(READ, values![]).await?;
    let Some((last, oldest, version)) = row.filter(|(last, ..)| *last > known.last) else {
        return Ok(false);
    };
    if oldest <= known.last {
        info!(
            "The tables of the store are those of Punctual {version}; this version, {VERSION}, works on them as they are"
        );
        return Ok(true);
    }
    // That version may have stopped before it changed anything.
    let made = format!("SELECT coalesce(max(version), 0) FROM {migrations}");
    let made: i64 = connection.fetch_one(&made, values![]).await?;
    if made <= known.last {
        return Ok(false);
    }
    let message = format!(
        "its tables are those of Punctual {version} (migration {last}), and need a version that knows migration {oldest}; this \
         version, {VERSION}, knows {}. Start Punctual {version} or a later version, or restore the copy of the store that was \
         made before the upgrade",
        known.last
    );
    Err(StoreError::new(StoreErrorKind::Incompatible, message))
}

/// Says which programs may open the tables when all migrations of this program are made.
pub(crate) async fn write(
    connection: &mut Connection<'_>,
    known: &Known,
) -> Result<(), StoreError> {
    let row = values![known.last, known.oldest, VERSION];
    connection.execute(WRITE, row).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_names_the_oldest_program_in_a_line_of_its_own() {
        let named =
            "-- No program writes `b`.\n-- oldest program beside: 27\nALTER TABLE a DROP COLUMN b;";
        assert_eq!(oldest_beside(named), Some(27));
        for unnamed in [
            "SELECT 1; -- oldest program beside: 27",
            "CREATE TABLE a (b TEXT);",
        ] {
            assert_eq!(oldest_beside(unnamed), None);
        }
    }
}
