//! Brings the tables of a database up to date. Which migrations have run stands in a table of ours, beside the one that the
//! program around Punctual may have.
//!
//! A migration that has been released is never edited: the database knows its checksum. Those of `SQLite` have `@` before each
//! name of a table or an index, which does not count in the checksum. A new one is a file in the folder, and a line here.
//! Which programs of earlier versions may work beside it: [`compatibility`].

use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::{error::Error, time::Duration};

use sqlx::{
    AssertSqlSafe, SqlSafeStr, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
};
#[cfg(feature = "postgres")]
use sqlx::{Connection as _, PgConnection, PgPool, migrate::Migrate as _};
#[cfg(feature = "postgres")]
use tracing::info;

#[cfg(feature = "postgres")]
use crate::driver::{Namespace, postgres::PostgresSession};
use crate::{
    compatibility::{self, Known},
    driver::{Connection, Dialect, sqlite::SqliteSession},
    errors::BoxError,
};

/// The table of the migrations that have run.
const TABLE: &str = "punctual_migrations";

/// The files of a folder of migrations, by name, with their text.
macro_rules! files {
    ($folder:literal: $($name:literal)+) => {
        &[$(($name, include_str!(concat!("../migrations/", $folder, "/", $name, ".sql")))),+]
    };
}

/// A file's name, its number first, and its text.
type File = (&'static str, &'static str);

const SQLITE: &[File] = files! { "sqlite":
    "0001_batches"
    "0002_steps_and_pauses"
    "0003_claims_of_chunks"
    "0004_audit_log"
    "0005_outcomes"
    "0006_placement"
    "0007_queue"
    "0008_narrow_results"
    "0009_rare_states"
    "0010_shards"
    "0011_findings"
    "0012_counts"
    "0013_nothing_to_do"
    "0014_previous"
    "0015_suppressions"
    "0016_failure_kinds"
    "0017_kept_outputs"
    "0018_waiting_items"
    "0019_provider_batches"
    "0020_prepared_outputs"
    "0021_retention"
    "0022_erased_tenants"
    "0023_operator_keys"
    "0024_alerts"
    "0025_fence"
    "0026_compatibility"
    "0027_done_erasures"
    "0028_job_retention"
    "0029_cancelled_batches"
    "0030_succession"
};

#[cfg(feature = "postgres")]
const POSTGRES: &[File] = files! { "postgres":
    "0001_batches"
    "0002_audit_log"
    "0003_outcomes"
    "0004_placement"
    "0005_queue"
    "0006_narrow_results"
    "0007_rare_states"
    "0008_shards"
    "0009_findings"
    "0010_counts"
    "0011_nothing_to_do"
    "0012_previous"
    "0013_suppressions"
    "0014_failure_kinds"
    "0015_kept_outputs"
    "0016_waiting_items"
    "0017_provider_batches"
    "0018_prepared_outputs"
    "0019_retention"
    "0020_erased_tenants"
    "0021_operator_keys"
    "0022_alerts"
    "0023_fence"
    "0024_compatibility"
    "0025_done_erasures"
    "0026_job_retention"
    "0027_cancelled_batches"
    "0028_succession"
};

/// The migration of a file. Marks do not count in its checksum.
fn migration((name, text): File) -> Migration {
    let (number, description) = name.split_once('_').unwrap_or((name, ""));
    Migration::new(
        number.parse().unwrap_or_default(),
        description.replace('_', " ").into(),
        MigrationType::Simple,
        AssertSqlSafe(text.replace('@', "")).into_sql_str(),
        false,
    )
}

/// What this program knows of the migrations of these files.
fn known(files: &[File]) -> Known {
    let numbered = files.iter().map(|file| (migration(*file).version, *file));
    let numbered: Vec<(i64, File)> = numbered.collect();
    let last = numbered.last().map_or(0, |(number, _)| *number);
    let since = numbered
        .iter()
        .find(|(_, (name, _))| name.ends_with("_compatibility"))
        .map_or(last, |(number, _)| *number);
    let oldest = numbered
        .iter()
        .filter_map(|(_, (_, text))| compatibility::oldest_beside(text));
    Known {
        since,
        last,
        oldest: oldest.fold(since, i64::max),
    }
}

/// What this program knows of the migrations of a `SQLite` file.
#[cfg(feature = "postgres")]
pub(crate) fn known_of_sqlite() -> Known {
    known(SQLITE)
}

/// Brings the tables of a `SQLite` file up to date.
pub(crate) async fn of_sqlite(pool: &SqlitePool, dialect: &Arc<Dialect>) -> Result<(), BoxError> {
    let here = |file: &File| {
        let mut migration = migration(*file);
        migration.sql = AssertSqlSafe(dialect.render(file.1)).into_sql_str();
        migration
    };
    let mut migrator = Migrator::with_migrations(SQLITE.iter().map(here).collect());
    let table = match dialect.prefix() {
        "" => TABLE.to_owned(),
        prefix => format!("{prefix}migrations"),
    };
    migrator.dangerous_set_table_name(table.clone());
    let known = known(SQLITE);
    let mut ours = of_pool(pool, dialect).await?;
    let is_later = compatibility::is_later(&mut ours, &table, &known).await?;
    // The pool may have no second connection.
    drop(ours);
    migrator.set_ignore_missing(is_later);
    migrator.run_to(known.since, pool).await?;
    let mut ours = of_pool(pool, dialect).await?;
    compatibility::write(&mut ours, &known).await?;
    drop(ours);
    migrator.run(pool).await?;
    Ok(())
}

async fn of_pool(pool: &SqlitePool, dialect: &Arc<Dialect>) -> sqlx::Result<Connection<'static>> {
    let session = SqliteSession::Pooled(pool.acquire().await?);
    Ok(Connection::over(session, dialect.clone(), false))
}

/// The tables, and the migrations that made them.
#[cfg(feature = "postgres")]
const TABLES: [(&str, i64); 45] = [
    (TABLE, 0),
    ("leader", 1),
    ("schedule_progress", 1),
    ("paused_jobs", 1),
    ("batches", 1),
    ("chunks", 1),
    ("item_results", 1),
    ("dead_letters", 1),
    ("deliveries", 1),
    ("audit_log", 2),
    ("skipped_items", 3),
    ("running_items", 3),
    ("requests", 3),
    ("processes", 5),
    ("runs", 6),
    ("chunk_messages", 6),
    ("results", 6),
    ("preferences", 6),
    ("shards", 8),
    ("acknowledgements", 9),
    ("expired_items", 10),
    ("open_letters", 10),
    ("replayed_letters", 10),
    ("outcomes_by_hour", 10),
    ("suppressions", 13),
    ("kept_outputs", 15),
    ("waiting_items", 16),
    ("secrets", 16),
    ("provider_batches", 17),
    ("provider_batch_calls", 17),
    ("prepared_outputs", 18),
    ("compatibility", 24),
    ("removed_results", 19),
    ("last_successes", 19),
    ("retention_state", 19),
    ("job_retention", 26),
    ("alerts", 22),
    ("alert_messages", 22),
    ("alert_revision", 22),
    ("erased_runs", 20),
    ("erased_preferences", 20),
    ("done_erasures", 25),
    ("fence", 23),
    ("fence_marks", 23),
    ("operator_keys", 21),
];

/// Brings the tables of a `PostgreSQL` database up to date. Those that an earlier version made elsewhere move into the schema.
#[cfg(feature = "postgres")]
pub(crate) async fn of_postgres(
    pool: &PgPool,
    namespace: &Namespace,
    dialect: &Arc<Dialect>,
) -> Result<(), BoxError> {
    // Its settings are changed, so it is closed afterwards, which also ends its lock.
    let mut connection = pool.acquire().await?.detach();
    if !namespace.as_str().is_empty() {
        enter_schema(&mut connection, namespace.as_str()).await?;
    }
    // A large store takes its time, also with another process.
    sqlx::query("SET statement_timeout = 0")
        .execute(&mut connection)
        .await?;
    let migrations = POSTGRES.iter().copied().map(migration).collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name(TABLE);
    let mut given_way = 0;
    while let Err(error) = migrate_server(&mut connection, &mut migrator, dialect).await {
        if given_way == TIMES_GIVEN_WAY || !is_held_by_others(error.as_ref()) {
            return Err(error);
        }
        if given_way == 0 {
            info!("Others hold tables that this version changes; waiting for them: {error}");
        }
        given_way += 1;
        sqlx::query(UNLOCK).execute(&mut connection).await?;
        tokio::time::sleep(GIVE_WAY).await;
    }
    connection.close().await?;
    Ok(())
}

/// Another process that upgrades a large store is waited for.
#[cfg(feature = "postgres")]
const NO_LOCK_TIMEOUT: &str = "SET lock_timeout = 0";

/// Who waits for a table has everyone who needs it later wait behind: a dump that takes an hour would stop the agents of the
/// version before for as long.
#[cfg(feature = "postgres")]
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'";

/// While this process gives way, one of the version before may start.
#[cfg(feature = "postgres")]
const UNLOCK: &str = "SELECT pg_advisory_unlock_all()::text";

/// How long the others go on before the next try.
#[cfg(feature = "postgres")]
const GIVE_WAY: Duration = Duration::from_secs(2);

/// With the time that each try waits, five minutes.
#[cfg(feature = "postgres")]
const TIMES_GIVEN_WAY: u32 = 75;

/// Makes the migrations that are missing. One that fails is not made, and may be retried.
#[cfg(feature = "postgres")]
async fn migrate_server(
    connection: &mut PgConnection,
    migrator: &mut Migrator,
    dialect: &Arc<Dialect>,
) -> Result<(), BoxError> {
    let known = known(POSTGRES);
    sqlx::query(NO_LOCK_TIMEOUT)
        .execute(&mut *connection)
        .await?;
    // One process at a time, of whichever version: what is found stays so until the tables are up to date.
    connection.lock().await?;
    sqlx::query(LOCK_TIMEOUT).execute(&mut *connection).await?;
    let session = PostgresSession::of_host(&mut *connection, dialect.clone());
    let mut ours = Connection::over(session, dialect.clone(), true);
    let is_later = compatibility::is_later(&mut ours, TABLE, &known).await?;
    drop(ours);
    migrator.set_ignore_missing(is_later);
    migrator
        .run_direct(Some(known.since), &mut *connection, false)
        .await?;
    let session = PostgresSession::of_host(&mut *connection, dialect.clone());
    let mut ours = Connection::over(session, dialect.clone(), true);
    compatibility::write(&mut ours, &known).await?;
    drop(ours);
    migrator.run_direct(None, &mut *connection, false).await?;
    Ok(())
}

/// Whether a lock was not given in time, or two transactions would have waited for each other.
#[cfg(feature = "postgres")]
fn is_held_by_others(error: &(dyn Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.any(|error| {
        let error: Option<&sqlx::Error> = error.downcast_ref();
        let code = error.and_then(|error| error.as_database_error()?.code());
        code.is_some_and(|code| matches!(&*code, "55P03" | "40P01"))
    })
}

/// Refuses to make a schema named as the program's role: the search path of `PostgreSQL` has such a schema first, so the
/// program would see our tables in place of its own.
#[cfg(feature = "postgres")]
pub(crate) async fn check_role(pool: &PgPool, namespace: &Namespace) -> Result<(), BoxError> {
    let schema = namespace.as_str();
    let hides: bool = sqlx::query_scalar(
        "SELECT current_user = $1 AND current_setting('search_path') LIKE '%$user%'
             AND NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)",
    )
    .bind(schema)
    .fetch_one(pool)
    .await?;
    if hides {
        let message = format!(
            "the schema `{schema}` has the name of your role, so its tables would hide yours; name another schema, or take \
             \"$user\" out of the search_path of your connections"
        );
        return Err(sqlx::Error::Configuration(message.into()).into());
    }
    Ok(())
}

#[cfg(feature = "postgres")]
async fn enter_schema(connection: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(TABLE)
        .execute(&mut *transaction)
        .await?;
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
            .bind(schema)
            .fetch_one(&mut *transaction)
            .await?;
    if !there {
        let sql = format!("CREATE SCHEMA {schema}");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
    }
    let earlier: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NULL AND to_regclass($2) IS NOT NULL")
            .bind(format!("{schema}.{TABLE}"))
            .bind(TABLE)
            .fetch_one(&mut *transaction)
            .await?;
    if earlier {
        let sql = format!("SELECT coalesce(max(version), 0) FROM {TABLE}");
        let version: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *transaction)
            .await?;
        for (table, _) in TABLES.iter().filter(|(_, since)| *since <= version) {
            let sql = format!("ALTER TABLE IF EXISTS {table} SET SCHEMA {schema}");
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    let sql = format!("SET search_path TO {schema}");
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What earlier versions had migrated a `SQLite` file to, whose last migration had this number.
    pub(crate) fn earlier_sqlite(last: i64) -> Migrator {
        earlier(SQLITE, last)
    }

    /// The same of `PostgreSQL`.
    #[cfg(feature = "postgres")]
    pub(crate) fn earlier_postgres(last: i64) -> Migrator {
        earlier(POSTGRES, last)
    }

    fn earlier(files: &[File], last: i64) -> Migrator {
        let all = files.iter().copied().map(migration);
        let mut migrator =
            Migrator::with_migrations(all.filter(|one| one.version <= last).collect());
        migrator.dangerous_set_table_name(TABLE);
        migrator
    }

    #[test]
    fn every_file_is_a_migration_and_they_are_numbered_in_order() {
        let folders = [
            ("sqlite", SQLITE),
            #[cfg(feature = "postgres")]
            ("postgres", POSTGRES),
        ];
        for (folder, files) in folders {
            let folder = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut there: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            there.sort();
            let listed: Vec<String> = files
                .iter()
                .map(|(name, _)| format!("{name}.sql"))
                .collect();
            assert_eq!(listed, there);
            let numbers = files.iter().copied().map(|file| migration(file).version);
            assert!(numbers.eq(1..=files.len() as i64));
        }
    }
}
