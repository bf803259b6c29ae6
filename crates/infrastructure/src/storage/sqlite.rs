//! The embedded store: one SQLite file for the queue (apalis' tables) and for batches, results and progress
//! (ours), so that a tick's batches, their queue messages and the progress are one transaction.

mod batch_store;
mod rows;
mod work_queue;

use std::{path::Path, sync::Arc, time::Duration};

use apalis_sqlite::SqliteStorage;
use punctual_application::ports::StoreError;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Notify;

/// The name of the queue of chunks.
pub(crate) const QUEUE: &str = "punctual.chunks";

/// The ports `WorkQueue` and `BatchStore` in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    pushed: Arc<Notify>,
}

impl SqliteStore {
    /// Opens the file, creating it and its folder where missing, and brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened or is no database of ours.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |problem: String| {
            StoreError::unavailable(format!(
                "cannot open the store {}: {problem}; check BATCH_STORE_URL",
                path.display()
            ))
        };
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| fail(error.to_string()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options)
            .await
            .map_err(|error| fail(error.to_string()))?;
        SqliteStorage::migrations()
            .run(&pool)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let mut ours = sqlx::migrate!("./migrations/sqlite");
        ours.dangerous_set_table_name("punctual_migrations");
        ours.run(&pool)
            .await
            .map_err(|error| fail(error.to_string()))?;
        Ok(Self {
            pool,
            pushed: Arc::default(),
        })
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Wakes a worker when chunks have been put in the queue.
    pub(crate) fn pushed(&self) -> &Arc<Notify> {
        &self.pushed
    }

    /// A transaction that takes the write lock at once: one that began by reading could fail when it comes
    /// to write.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_real_file_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("new/folder/punctual.db"))
            .await
            .unwrap();
        punctual_application::testing::contract::run(&store).await;
    }

    #[tokio::test]
    async fn opening_again_changes_nothing_and_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("punctual.db");
        drop(SqliteStore::open(&path).await.unwrap());
        SqliteStore::open(&path).await.unwrap();
        let other = folder.path().join("notes.txt");
        std::fs::write(
            &other,
            "not a database, and long enough to be taken for one ".repeat(20),
        )
        .unwrap();
        let error = SqliteStore::open(&other).await.unwrap_err().to_string();
        assert!(
            error.contains("notes.txt") && error.contains("BATCH_STORE_URL"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_bundled_sqlite_is_past_the_wal_reset_corruption() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("punctual.db"))
            .await
            .unwrap();
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(store.pool())
            .await
            .unwrap();
        let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap()).collect();
        assert!(numbers >= vec![3, 51, 3], "{version}");
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(synchronous, 2, "FULL");
    }
}
