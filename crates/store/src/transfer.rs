//! From the embedded store to `PostgreSQL`: everything that is stored, and what waits in the queue, in one transaction.

use std::collections::BTreeMap;

use futures::{TryStreamExt, stream::StreamExt};
use punctual_application::ports::{StoreError, StoreErrorKind};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use crate::{
    Store,
    compatibility::VERSION,
    driver::{Namespace, postgres::PostgresDriver, sqlite::SqliteDriver},
    errors::failed,
    migrations::known_of_sqlite,
};

/// Rows that travel together.
const ROWS_PER_COPY: usize = 2_000;

/// In an order in which nothing points to what is not there yet. The tables have the same columns in both databases. What the
/// target counts as rows come in is left out.
const TABLES: [&str; 36] = [
    "shards",
    "schedule_progress",
    "paused_jobs",
    "runs",
    "batches",
    "chunks",
    "chunk_messages",
    "preferences",
    "results",
    "kept_outputs",
    "prepared_outputs",
    "waiting_items",
    "skipped_items",
    "dead_letters",
    "deliveries",
    "audit_log",
    "operator_keys",
    "requests",
    "acknowledgements",
    "outcomes_by_hour",
    "suppressions",
    "secrets",
    "provider_batches",
    "provider_batch_calls",
    "removed_results",
    "last_successes",
    "retention_state",
    "job_retention",
    "alerts",
    "alert_messages",
    "alert_revision",
    "erased_runs",
    "erased_preferences",
    "done_erasures",
    "fence",
    "fence_marks",
];

/// Number of rows copied, by table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Transferred {
    /// Rows, by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Chunks that wait in the queue.
    pub waiting: u64,
}

/// Copies everything from a `SQLite` store to a `PostgreSQL` store that has nothing yet, or nothing at all. What is being
/// written to the `SQLite` store meanwhile waits, so stop the agent before.
///
/// # Errors
/// An agent is at work on the `SQLite` store, a later version has added to it, the `PostgreSQL` store is not empty, or one of
/// them fails.
pub async fn transfer(from: &str, to: &str) -> Result<Transferred, StoreError> {
    // Both are brought up to date, with all that earlier versions left in other tables.
    for url in [from, to] {
        Store::open(url).await?;
    }
    let namespace = Namespace::new("")?;
    let (from, to) = (
        SqliteDriver::open(from, &namespace).await?,
        PostgresDriver::open(to).await?,
    );
    let mut source = from.begin_transaction().await.map_err(failed)?;
    refuse_later_version(&mut source).await?;
    refuse_running_agents(&mut source).await?;
    let mut target = to.begin_transaction().await.map_err(failed)?;
    let search_path = format!("SET LOCAL search_path TO {}", to.schema());
    sqlx::query(AssertSqlSafe(search_path))
        .execute(&mut *target)
        .await
        .map_err(failed)?;
    refuse_non_empty(&mut target).await?;
    // An agent that has planned nothing may have left its shard, secrets, how long its jobs keep their runs, what it has reported,
    // and a fence of its own.
    for left in [
        "DELETE FROM shards",
        "DELETE FROM secrets",
        "DELETE FROM retention_state",
        "DELETE FROM job_retention",
        "DELETE FROM alerts",
        "DELETE FROM alert_messages",
        "DELETE FROM alert_revision",
        "DELETE FROM fence",
        "DELETE FROM fence_marks",
    ] {
        sqlx::query(left)
            .execute(&mut *target)
            .await
            .map_err(failed)?;
    }
    let mut transferred = Transferred::default();
    for table in TABLES {
        let rows = copy(table, &mut source, &mut target).await?;
        transferred.rows.insert(table, rows);
    }
    // Claims of a process that was killed: it works on the other store, if at all.
    sqlx::query(
        "UPDATE chunks SET token = NULL, items = NULL, lost = lost + 1 WHERE done = 0 AND token IS NOT NULL",
    )
    .execute(&mut *target)
    .await
    .map_err(failed)?;
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM chunks WHERE done = 0")
        .fetch_one(&mut *target)
        .await
        .map_err(failed)?;
    transferred.waiting = waiting.unsigned_abs();
    target.commit().await.map_err(failed)?;
    Ok(transferred)
}

/// What a later version has added would be left behind.
async fn refuse_later_version(source: &mut SqliteConnection) -> Result<(), StoreError> {
    let sql = "SELECT last_migration, written_by FROM compatibility";
    let (last, version): (i64, String) = sqlx::query_as(sql)
        .fetch_one(source)
        .await
        .map_err(failed)?;
    if last <= known_of_sqlite().last {
        return Ok(());
    }
    let message = format!(
        "the tables of the SQLite store are those of Punctual {version}, of which this version, {VERSION}, does not know all; \
         move the store with Punctual {version}"
    );
    Err(StoreError::new(StoreErrorKind::Incompatible, message))
}

async fn refuse_running_agents(source: &mut SqliteConnection) -> Result<(), StoreError> {
    let at_work: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM processes WHERE last_seen BETWEEN (unixepoch() - 10) * 1000000 AND (unixepoch() + 60) * 1000000)",
    )
    .fetch_one(source)
    .await
    .map_err(failed)?;
    if at_work {
        return Err(StoreError::new(
            StoreErrorKind::Conflict,
            "an agent used the SQLite store within the last 10 s; stop it, wait, and try again",
        ));
    }
    Ok(())
}

async fn refuse_non_empty(target: &mut PgConnection) -> Result<(), StoreError> {
    // No other process fills it meanwhile.
    sqlx::query("LOCK TABLE batches, schedule_progress IN EXCLUSIVE MODE")
        .execute(&mut *target)
        .await
        .map_err(failed)?;
    let filled: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM batches) OR EXISTS (SELECT 1 FROM schedule_progress)",
    )
    .fetch_one(target)
    .await
    .map_err(failed)?;
    if filled {
        return Err(StoreError::new(
            StoreErrorKind::Conflict,
            "the PostgreSQL store is not empty: an agent has used it; use a new database",
        ));
    }
    Ok(())
}

/// Copies the rows of a table, and returns how many there are.
async fn copy(
    name: &'static str,
    source: &mut SqliteConnection,
    target: &mut PgConnection,
) -> Result<u64, StoreError> {
    let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?1)")
        .bind(name)
        .fetch_all(&mut *source)
        .await
        .map_err(failed)?;
    // PostgreSQL keeps no character NUL.
    let value = |column: &String| {
        format!(
            "'{column}', CASE typeof({column}) WHEN 'text' THEN replace({column}, char(0), char(65533))
                 WHEN 'blob' THEN '\\x' || hex({column}) ELSE {column} END"
        )
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let read = format!("SELECT json_object({}) FROM {name}", values.join(", "));
    let listed = columns.join(", ");
    let write = format!(
        "INSERT INTO {name} ({listed}) OVERRIDING SYSTEM VALUE
         SELECT {listed} FROM json_populate_recordset(NULL::{name}, $1::json)"
    );
    let mut rows = 0;
    let mut pieces = sqlx::query_scalar::<_, String>(AssertSqlSafe(read))
        .fetch(&mut *source)
        .map_err(failed)
        .try_chunks(ROWS_PER_COPY);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|stopped| stopped.1)?;
        let written = sqlx::query(AssertSqlSafe(write.clone()))
            .bind(format!("[{}]", piece.join(",")))
            .execute(&mut *target)
            .await
            .map_err(failed)?;
        rows += written.rows_affected();
    }
    drop(pieces);
    let counted: Option<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::regclass AND attidentity <> ''",
    )
    .bind(name)
    .fetch_optional(&mut *target)
    .await
    .map_err(failed)?;
    // Numbers that the database counts up by itself go on after those that have come.
    if let Some(column) = counted {
        let count_on = format!(
            "SELECT setval(pg_get_serial_sequence('{name}', '{column}'), max({column})) FROM {name} HAVING max({column}) > 0"
        );
        sqlx::query(AssertSqlSafe(count_on))
            .execute(target)
            .await
            .map_err(failed)?;
    }
    Ok(rows)
}
