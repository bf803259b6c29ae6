//! Takes over what earlier versions had queued. Their messages stood in the tables of another queue, apalis: `Jobs` in a
//! `SQLite` file, `apalis.jobs` on a `PostgreSQL` server. Those tables stay, as they may be somebody else's too; what is ours
//! in them goes.

use std::collections::BTreeSet;

use punctual_application::ports::{Clock, StoreError, SystemClock};
use punctual_domain::Chunk;
use tracing::{error, info};

use crate::{
    chunk_queue::{end_unreadable, message, place},
    driver::{Connection, Database, values},
    work_queue::{note_due, runs_of},
};

/// What the names of the queues began with; the job followed.
const QUEUES: &str = "punctual.chunks";
/// Messages that are taken over together.
const MESSAGES_PER_PAGE: u32 = 200;

/// Statements on the tables of the earlier queue.
struct EarlierQueue {
    /// Whether there are any, and chunks that wait for their message.
    exists: &'static str,
    /// Keeps other agents from taking over the same.
    lock: &'static str,
    messages: &'static str,
    delete: &'static str,
    delete_all: &'static str,
}

const IN_FILE: EarlierQueue = EarlierQueue {
    exists: "SELECT EXISTS (SELECT 1 FROM @chunks c WHERE c.done = 0
             AND NOT EXISTS (SELECT 1 FROM @chunk_messages m WHERE m.chunk = c.chunk))
         AND EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'Jobs' AND sql LIKE '%lock_by%')",
    lock: "SELECT 1",
    messages: "SELECT id, CAST(job AS BLOB) FROM Jobs WHERE substr(job_type, 1, length($1)) = $1 AND status <> 'Done'
         ORDER BY run_at, rowid LIMIT $2",
    delete: "DELETE FROM Jobs WHERE id = $1",
    delete_all: "DELETE FROM Jobs WHERE substr(job_type, 1, length($1)) = $1",
};

const ON_SERVER: EarlierQueue = EarlierQueue {
    exists: "SELECT EXISTS (SELECT 1 FROM @chunks c WHERE c.done = 0
             AND NOT EXISTS (SELECT 1 FROM @chunk_messages m WHERE m.chunk = c.chunk)) AND to_regclass('apalis.jobs') IS NOT NULL",
    lock: "LOCK TABLE apalis.jobs IN EXCLUSIVE MODE",
    messages: "SELECT id, job FROM apalis.jobs WHERE starts_with(job_type, $1) AND status <> 'Done'
         ORDER BY run_at, id LIMIT $2",
    delete: "DELETE FROM apalis.jobs WHERE id = $1",
    delete_all: "DELETE FROM apalis.jobs WHERE starts_with(job_type, $1)",
};

/// Readies a chunk that waits for its message.
const TAKE: &str =
    "UPDATE @chunks AS c SET place = $2, job_id = $3, occurrence = $4, total = $5, run = $6, token = NULL
     WHERE chunk_id = $1 AND done = 0
       AND NOT EXISTS (SELECT 1 FROM @chunk_messages m WHERE m.chunk = c.chunk) RETURNING chunk";

const SET_RUN_OF_BATCH: &str = "UPDATE @batches SET run = $1 WHERE batch_id = $2 AND run IS NULL";

const INSERT_MESSAGE: &str = "INSERT INTO @chunk_messages (chunk, message) VALUES ($1, $2)";

const LEFT: &str = "SELECT c.chunk, c.batch_id FROM @chunks c WHERE c.done = 0
       AND NOT EXISTS (SELECT 1 FROM @chunk_messages m WHERE m.chunk = c.chunk) ORDER BY c.chunk";

/// Takes over what waits in the earlier queue of a database.
pub(crate) async fn take_over(database: &Database) -> Result<(), StoreError> {
    let queue = if database.is_shared() {
        ON_SERVER
    } else {
        IN_FILE
    };
    let mut transaction = database.begin().await?;
    if transaction.fetch_one(queue.exists, values![]).await? {
        transaction.execute(queue.lock, values![]).await?;
        let mut taken = 0;
        loop {
            let page = values![QUEUES, MESSAGES_PER_PAGE];
            let page: Vec<(String, Vec<u8>)> = transaction.fetch(queue.messages, page).await?;
            if page.is_empty() {
                break;
            }
            for (id, content) in page {
                taken += take(&mut transaction, &id, &content).await?;
                transaction.execute(queue.delete, values![id]).await?;
            }
        }
        let left: Vec<(i64, String)> = transaction.fetch(LEFT, values![]).await?;
        for (chunk, batch_id) in left {
            error!(
                batch_id,
                "A chunk of batch {batch_id} that an earlier version queued is lost, its items count as failed"
            );
            end_unreadable(&mut transaction, chunk, SystemClock.now()).await?;
        }
        if taken > 0 {
            info!("Took over {taken} chunks that an earlier version had queued");
        }
        transaction
            .execute(queue.delete_all, values![QUEUES])
            .await?;
    }
    transaction.commit().await
}

/// Returns the number of chunks that took the message: one, or none.
async fn take(
    connection: &mut Connection<'_>,
    id: &str,
    content: &[u8],
) -> Result<u64, StoreError> {
    let chunk = match serde_json::from_slice::<Chunk>(content) {
        Ok(chunk) => chunk,
        Err(error) => {
            error!(%error, "Message {id} of an earlier version cannot be read: {error}");
            return Ok(0);
        }
    };
    let occurrence = chunk.occurrence.to_string();
    let run = (chunk.job_id.to_string(), occurrence.clone());
    let runs = runs_of(connection, &BTreeSet::from([run])).await?;
    let run = runs.into_values().next();
    let waiting = values![
        &*chunk.chunk_id,
        place(&chunk),
        &chunk.job_id,
        occurrence,
        chunk.items.len(),
        run
    ];
    let Some(number) = connection.fetch_optional::<i64>(TAKE, waiting).await? else {
        return Ok(0);
    };
    let of_batch = values![run, chunk.batch_id];
    connection.execute(SET_RUN_OF_BATCH, of_batch).await?;
    let due = run.map(|run| (run, chunk.scheduled_at));
    note_due(connection, due.as_slice()).await?;
    let message = values![number, message(&chunk)?];
    connection.execute(INSERT_MESSAGE, message).await
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::{BatchReader, ChunkQueue, ClaimLimits};
    #[cfg(feature = "postgres")]
    use sqlx::PgPool;
    use sqlx::SqlitePool;
    use uuid::Uuid;

    #[cfg(feature = "postgres")]
    use crate::migrations::tests::earlier_postgres;
    use crate::{Store, migrations::tests::earlier_sqlite};

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
        let claimed = store.claim_next(Uuid::from_u128(1), &limits, now).await;
        let claimed: Vec<_> = claimed
            .unwrap()
            .into_iter()
            .map(|one| (one.chunk.items[0].to_string(), one.claim.crash_count))
            .collect();
        assert_eq!(claimed, [("a1".to_owned(), 1), ("a2".to_owned(), 0)]);
        let lost = store.batch(LOST.parse().unwrap()).await.unwrap();
        assert!(lost.unwrap().finished_at.is_some(), "it ends");
    }

    #[tokio::test]
    async fn a_file_of_an_earlier_version_loses_nothing_and_other_queues_keep_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let pool = SqlitePool::connect(&url).await.unwrap();
        let before = earlier_sqlite(6);
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
        let url = crate::tests::database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        let before = earlier_postgres(4);
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
