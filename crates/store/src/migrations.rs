//! Brings the tables of a database up to date. Which migrations have run stands in a table of ours, beside the one that the
//! program around Punctual may have.
//!
//! A migration that has been released is never edited: the database knows its checksum. Those of `SQLite` have `@` before each
//! name of a table or an index, which does not count in the checksum.

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration, Migrator},
};
#[cfg(feature = "postgres")]
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::driver::Dialect;
#[cfg(feature = "postgres")]
use crate::{driver::Namespace, errors::BoxError};

/// The table of the migrations that have run.
const TABLE: &str = "punctual_migrations";

/// The migrations of a `SQLite` file.
pub(crate) fn of_sqlite(dialect: &Dialect) -> Migrator {
    let migrations = sqlx::migrate!("./migrations/sqlite");
    let here = |migration: &Migration| {
        let text = migration.sql.as_str();
        let unmarked = AssertSqlSafe(text.replace('@', "")).into_sql_str();
        let mut migration = Migration::new(
            migration.version,
            migration.description.clone(),
            migration.migration_type,
            unmarked,
            migration.no_tx,
        );
        migration.sql = AssertSqlSafe(dialect.render(text)).into_sql_str();
        migration
    };
    let migrations = migrations.iter().map(here).collect();
    let mut migrator = Migrator::with_migrations(migrations);
    let table = match dialect.prefix() {
        "" => TABLE.to_owned(),
        prefix => format!("{prefix}migrations"),
    };
    migrator.dangerous_set_table_name(table);
    migrator
}

/// The tables, and the migrations that made them.
#[cfg(feature = "postgres")]
const TABLES: [(&str, i64); 18] = [
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
];

/// Brings the tables of a `PostgreSQL` database up to date. Those that an earlier version made elsewhere move into the schema.
#[cfg(feature = "postgres")]
pub(crate) async fn of_postgres(pool: &PgPool, namespace: &Namespace) -> Result<(), BoxError> {
    // Its search path is changed, so it is closed afterwards.
    let mut connection = pool.acquire().await?.detach();
    if !namespace.as_str().is_empty() {
        enter_schema(&mut connection, namespace.as_str()).await?;
    }
    // A large store takes its time.
    sqlx::query("SET statement_timeout = 0")
        .execute(&mut connection)
        .await?;
    let mut migrator = sqlx::migrate!("./migrations/postgres");
    migrator.dangerous_set_table_name(TABLE);
    migrator.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
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
