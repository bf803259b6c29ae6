//! Takes over what earlier versions had queued. Their messages stood in the tables of another queue, apalis: `Jobs` in a
//! `SQLite` file, `apalis.jobs` on a `PostgreSQL` server. Those tables stay, as they may be somebody else's too; what is ours
//! in them goes.

#[cfg(feature = "postgres")]
use sqlx::PgPool;
use sqlx::{SqlitePool, Transaction};
use tracing::{error, info};

use super::{
    chunks::{message, place},
    errors::failed,
    rows::micros,
    sql,
};
use punctual_application::ports::{Clock, StoreError, SystemClock};
use punctual_domain::Chunk;

/// What the names of the queues began with; the job followed.
const QUEUES: &str = "punctual.chunks";
/// Messages that are taken over together.
const MESSAGES_PER_PAGE: i64 = 200;

/// Gives a chunk its message, in place of the mark that it waits for it.
const TAKE: &str = "UPDATE chunks SET message = $2, place = $3, job_id = $4, occurrence = $5, total = $6, token = NULL
     WHERE chunk_id = $1 AND done = 0 AND message = ''";

/// Takes over messages of a database, the one way or the other: sqlx has no trait that says all of this.
macro_rules! take_over {
    ($transaction:expr, $select:literal, $delete:literal) => {{
        let transaction: &mut Transaction<'_, _> = $transaction;
        let mut taken = 0;
        loop {
            let page: Vec<(String, Vec<u8>)> = sqlx::query_as($select)
                .bind(QUEUES)
                .bind(MESSAGES_PER_PAGE)
                .fetch_all(&mut **transaction)
                .await
                .map_err(failed)?;
            if page.is_empty() {
                break;
            }
            for (id, content) in page {
                match serde_json::from_slice::<Chunk>(&content) {
                    Ok(chunk) => {
                        let updated = sqlx::query(TAKE)
                            .bind(&chunk.chunk_id)
                            .bind(message(&chunk)?)
                            .bind(place(&chunk))
                            .bind(chunk.job_id.as_str())
                            .bind(chunk.occurrence.to_string())
                            .bind(chunk.items.len() as i64)
                            .execute(&mut **transaction)
                            .await
                            .map_err(failed)?;
                        taken += updated.rows_affected();
                    }
                    Err(error) => error!(
                        %error,
                        "Message {id} of an earlier version cannot be read: {error}"
                    ),
                }
                sqlx::query($delete)
                    .bind(id)
                    .execute(&mut **transaction)
                    .await
                    .map_err(failed)?;
            }
        }
        let left: Vec<(i64, String)> = sqlx::query_as(
            "SELECT chunk, batch_id FROM chunks WHERE done = 0 AND message = '' ORDER BY chunk",
        )
        .fetch_all(&mut **transaction)
        .await
        .map_err(failed)?;
        for (chunk, batch_id) in left {
            error!(batch_id, "A chunk of batch {batch_id} that an earlier version queued is lost, its items count as failed");
            sqlx::query(sql::END_UNREADABLE)
                .bind(chunk)
                .execute(&mut **transaction)
                .await
                .map_err(failed)?;
            sqlx::query(sql::FINISH_BATCH)
                .bind(batch_id)
                .bind(micros(SystemClock.now()))
                .execute(&mut **transaction)
                .await
                .map_err(failed)?;
        }
        if taken > 0 {
            info!("Took over {taken} chunks that an earlier version had queued");
        }
    }};
}

/// Takes over what waits in a file.
pub(super) async fn from_sqlite(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut transaction: Transaction<'_, sqlx::Sqlite> =
        pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM chunks WHERE done = 0 AND message = '')
            AND EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'Jobs' AND sql LIKE '%lock_by%')",
    )
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed)?;
    if there {
        take_over!(
            &mut transaction,
            "SELECT id, CAST(job AS BLOB) FROM Jobs WHERE substr(job_type, 1, length(?1)) = ?1 AND status <> 'Done'
             ORDER BY run_at, rowid LIMIT ?2",
            "DELETE FROM Jobs WHERE id = ?1"
        );
        sqlx::query("DELETE FROM Jobs WHERE substr(job_type, 1, length(?1)) = ?1")
            .bind(QUEUES)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Takes over what waits on a server.
#[cfg(feature = "postgres")]
pub(super) async fn from_postgres(pool: &PgPool) -> Result<(), StoreError> {
    let mut transaction: Transaction<'_, sqlx::Postgres> = pool.begin().await.map_err(failed)?;
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM chunks WHERE done = 0 AND message = '') AND to_regclass('apalis.jobs') IS NOT NULL",
    )
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    if there {
        sqlx::query("LOCK TABLE apalis.jobs IN EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        take_over!(
            &mut transaction,
            "SELECT id, job FROM apalis.jobs WHERE starts_with(job_type, $1) AND status <> 'Done'
             ORDER BY run_at, id LIMIT $2",
            "DELETE FROM apalis.jobs WHERE id = $1"
        );
        sqlx::query("DELETE FROM apalis.jobs WHERE starts_with(job_type, $1)")
            .bind(QUEUES)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::ClaimLimits;
    use sqlx::migrate::Migrator;
    use uuid::Uuid;

    use super::*;
    use crate::storage::Store;

    /// What earlier versions had migrated a store to.
    fn earlier(mut all: Migrator, last: i64) -> Migrator {
        all.migrations
            .to_mut()
            .retain(|migration| migration.version <= last);
        all.dangerous_set_table_name("punctual_migrations");
        all
    }

    const BATCH: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";

    fn queued(place: usize) -> String {
        format!(
            r#"{{"chunk_id": "{BATCH}/{place}", "batch_id": "{BATCH}", "job_id": "job", "occurrence": "2026-03-01",
                "scheduled_at": "2026-03-01T09:00:00Z", "items": ["a{place}"]}}"#
        )
    }

    /// A batch of three chunks: one is done, one was in work when its process was killed, and one waits.
    const TABLES: &str = "
        INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at)
        VALUES ('BATCH', 'job', 'daily 09:00 UTC', 0, 'schedule', 'running', 3, 0);
        INSERT INTO chunks (chunk_id, batch_id, job_id, occurrence, total, succeeded, done)
        VALUES ('BATCH/0', 'BATCH', 'job', '2026-03-01', 1, 1, 1);
        INSERT INTO chunks (chunk_id, batch_id, job_id, occurrence, total, token, process)
        VALUES ('BATCH/1', 'BATCH', 'job', '2026-03-01', 1, 'token', 'process');
        INSERT INTO chunks (chunk_id, batch_id) VALUES ('BATCH/2', 'BATCH');
        INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at)
        VALUES ('LOST', 'job', 'daily 09:00 UTC', 0, 'schedule', 'running', 1, 0);
        INSERT INTO chunks (chunk_id, batch_id) VALUES ('LOST/0', 'LOST');";

    const LOST: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c9";

    async fn what_was_queued_runs(store: Store) {
        let now = "2026-03-01T09:00:00Z".parse().unwrap();
        let limits = ClaimLimits::new(8);
        let claimed = store
            .chunks()
            .claim_next(Uuid::from_u128(1), &limits, now)
            .await;
        let claimed: Vec<_> = claimed
            .unwrap()
            .into_iter()
            .map(|one| (one.chunk.items[0].to_string(), one.claim.crash_count))
            .collect();
        assert_eq!(claimed, [("a1".to_owned(), 1), ("a2".to_owned(), 0)]);
        let lost = store.reader().batch(LOST.parse().unwrap()).await.unwrap();
        assert!(lost.unwrap().finished_at.is_some(), "it ends");
    }

    #[tokio::test]
    async fn a_file_of_an_earlier_version_loses_nothing_and_other_queues_keep_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let pool = SqlitePool::connect(&url).await.unwrap();
        let before = earlier(sqlx::migrate!("./migrations/sqlite"), 6);
        before.run(&pool).await.unwrap();
        let tables = TABLES.replace("BATCH", BATCH).replace("LOST", LOST);
        let queue =
            "CREATE TABLE Jobs (job BLOB NOT NULL, id TEXT NOT NULL UNIQUE, job_type TEXT NOT NULL,
            status TEXT NOT NULL, run_at INTEGER NOT NULL DEFAULT 0, lock_by TEXT);";
        let sql = format!("{tables}{queue}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
        for (id, queue, status, content) in [
            ("1", "punctual.chunks/job", "Done", queued(0)),
            ("2", "punctual.chunks/job", "Running", queued(1)),
            ("3", "punctual.chunks", "Pending", queued(2)),
            ("4", "punctual.chunks/job", "Pending", "not JSON".to_owned()),
            ("5", "of somebody else", "Pending", "x".to_owned()),
        ] {
            sqlx::query("INSERT INTO Jobs (job, id, job_type, status) VALUES (?4, ?1, ?2, ?3)")
                .bind(id)
                .bind(queue)
                .bind(status)
                .bind(content)
                .execute(&pool)
                .await
                .unwrap();
        }
        what_was_queued_runs(Store::open(&url).await.unwrap()).await;
        let left: Vec<String> = sqlx::query_scalar("SELECT id FROM Jobs")
            .fetch_all(&pool)
            .await
            .unwrap();
        assert_eq!(left, ["5"]);
        // An agent of the earlier version that still runs cannot enqueue what would never run.
        let sql = "INSERT INTO chunks (chunk_id, batch_id) SELECT 'x', batch_id FROM batches";
        assert!(sqlx::query(sql).execute(&pool).await.is_err());
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn a_server_of_an_earlier_version_loses_nothing_and_other_queues_keep_theirs() {
        let url = crate::storage::postgres::tests::database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        let before = earlier(sqlx::migrate!("./migrations/postgres"), 4);
        before.run(&pool).await.unwrap();
        let tables = TABLES.replace("BATCH", BATCH).replace("LOST", LOST);
        let queue = "CREATE SCHEMA apalis; CREATE TABLE apalis.jobs (job BYTEA NOT NULL, id TEXT NOT NULL UNIQUE,
            job_type TEXT NOT NULL, status TEXT NOT NULL, run_at TIMESTAMPTZ NOT NULL DEFAULT now());";
        let sql = format!("{tables}{queue}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
        for (id, queue, status, content) in [
            ("1", "punctual.chunks/job", "Done", queued(0)),
            ("2", "punctual.chunks/job", "Queued", queued(1)),
            ("3", "punctual.chunks/job", "Failed", queued(2)),
            ("5", "of somebody else", "Pending", "x".to_owned()),
        ] {
            let sql = "INSERT INTO apalis.jobs (job, id, job_type, status) VALUES ($4, $1, $2, $3)";
            sqlx::query(sql)
                .bind(id)
                .bind(queue)
                .bind(status)
                .bind(content.into_bytes())
                .execute(&pool)
                .await
                .unwrap();
        }
        what_was_queued_runs(Store::open(&url).await.unwrap()).await;
        let left: Vec<String> = sqlx::query_scalar("SELECT id FROM apalis.jobs")
            .fetch_all(&pool)
            .await
            .unwrap();
        assert_eq!(left, ["5"]);
        let sql = "INSERT INTO chunks (chunk_id, batch_id) SELECT 'x', batch_id FROM batches";
        assert!(sqlx::query(sql).execute(&pool).await.is_err());
    }
}
