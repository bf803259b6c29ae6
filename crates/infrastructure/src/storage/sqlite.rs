//! The embedded store: one `SQLite` file.

mod batch_store;
mod chunk_queue;
mod work_queue;

use std::{str::FromStr, sync::Arc, time::Duration};

use punctual_application::ports::{
    BatchReader, Deliveries, OperatorStore, StoreError, StoreErrorKind,
};
use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    any::AnyPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use super::{
    deliveries::SqlDeliveries,
    drivers::install_drivers,
    errors::{BoxError, cannot_open, failed},
    operations::SqlOperatorStore,
    reader::SqlReader,
    takeover,
};

/// The ports `WorkQueue`, `ChunkQueue` and `BatchStore` in one `SQLite` file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    /// The one connection that writes: `SQLite` itself would have the second of two sleep and try again.
    writer: SqlitePool,
    reader: SqlReader,
    deliveries: SqlDeliveries,
    operations: SqlOperatorStore,
    /// Tells when chunks may have come to wait.
    arrivals: watch::Sender<()>,
}

impl SqliteStore {
    /// Opens the file of `url`, as `sqlite://var/punctual.db`, creating it and its folder where missing, and
    /// brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a database of Punctual.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        // sqlx would take anything else for the name of a file.
        let options = Some(url)
            .filter(|url| url.starts_with("sqlite:"))
            .and_then(|url| SqliteConnectOptions::from_str(url).ok())
            .ok_or_else(|| {
                StoreError::new(
                    StoreErrorKind::InvalidUrl,
                    "invalid URL of the store; use a URL such as sqlite://var/punctual.db",
                )
            })?;
        install_drivers();
        let path = options.get_filename().to_owned();
        let place = path.display().to_string();
        let fail = |error: BoxError| cannot_open(&place, error);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| fail(error.into()))?;
        }
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30))
            // Both in favour of a minute in which everybody falls due: 64 MiB of pages, and 64 MiB of log before it is
            // written back.
            .pragma("cache_size", "-65536")
            .pragma("wal_autocheckpoint", "16384");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_mins(1))
            .max_lifetime(None)
            .idle_timeout(None)
            // SQLite ends a transaction by itself when the disk is full, which sqlx does not notice: the connection would
            // refuse every later one.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await
            .map_err(|error| fail(error.into()))?;
        let mut ours = sqlx::migrate!("./migrations/sqlite");
        ours.dangerous_set_table_name("punctual_migrations");
        ours.run(&writer)
            .await
            .map_err(|error| fail(error.into()))?;
        takeover::from_sqlite(&writer).await?;
        let reader = AnyPoolOptions::new()
            .max_connections(4)
            .connect(url)
            .await
            .map_err(|error| fail(error.into()))?;
        Ok(Self {
            writer,
            reader: SqlReader::new(reader.clone()),
            deliveries: SqlDeliveries::new(reader.clone()),
            operations: SqlOperatorStore::new(reader, false),
            arrivals: watch::Sender::new(()),
        })
    }

    /// The store's port for deliveries.
    pub(crate) fn deliveries(&self) -> Arc<dyn Deliveries> {
        Arc::new(self.deliveries.clone())
    }

    /// The store's port for operators.
    pub(crate) fn operations(&self) -> Arc<dyn OperatorStore> {
        Arc::new(self.operations.clone())
    }

    /// Reads batches and results.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn BatchReader> {
        Arc::new(self.reader.clone())
    }

    /// The connection that writes.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// A transaction that takes the write lock at once: one that began by reading could fail when it comes
    /// to write.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use punctual_application::testing::contract;

    use super::*;

    fn url(folder: &tempfile::TempDir, name: &str) -> String {
        format!("sqlite://{}", folder.path().join(name).display())
    }

    #[tokio::test]
    async fn a_real_file_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&url(&folder, "new/folder/punctual.db"))
            .await
            .unwrap();
        contract::store(&store, &*store.reader()).await;
    }

    #[tokio::test]
    async fn a_real_file_keeps_what_is_to_be_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&url(&folder, "punctual.db")).await;
        let store = store.unwrap();
        contract::deliveries(&store, &*store.deliveries()).await;
    }

    #[tokio::test]
    async fn opening_again_changes_nothing_and_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(
            SqliteStore::open(&url(&folder, "punctual.db"))
                .await
                .unwrap(),
        );
        SqliteStore::open(&url(&folder, "punctual.db"))
            .await
            .unwrap();
        let text = "not a database, and long enough to be taken for one ".repeat(20);
        std::fs::write(folder.path().join("notes.txt"), text).unwrap();
        for (url, expected) in [
            (url(&folder, "notes.txt"), "notes.txt"),
            ("postgres://u:secret@h/db".into(), "sqlite://var"),
        ] {
            let error = SqliteStore::open(&url).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"));
        }
    }

    #[tokio::test]
    async fn the_bundled_sqlite_is_past_the_wal_reset_corruption_and_syncs_every_commit() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&url(&folder, "punctual.db"))
            .await
            .unwrap();
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(store.writer())
            .await
            .unwrap();
        let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap()).collect();
        assert!(numbers >= vec![3, 51, 3], "{version}");
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(store.writer())
            .await
            .unwrap();
        assert_eq!(synchronous, 2, "FULL");
    }

    #[tokio::test]
    async fn a_full_disk_takes_nothing_half_and_gives_it_once_there_is_room() {
        use punctual_application::ports::{BatchStore, Claimant, WorkQueue};
        use punctual_domain::{
            Firing, ItemId, ItemResult, ItemStatus, JobId, NewBatch, Priority, Trigger,
        };
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&url(&folder, "punctual.db"))
            .await
            .unwrap();
        let due = "2026-03-01T09:00:00Z".parse().unwrap();
        let tenants: Vec<ItemId> = (0..500)
            .map(|n| ItemId::new(format!("t{n}")).unwrap())
            .collect();
        let batch = NewBatch::new(
            &JobId::new("job").unwrap(),
            Priority::Medium,
            "daily 09:00 UTC".to_owned(),
            due,
            "2026-03-01".parse().unwrap(),
            Trigger::Schedule,
            due,
            &tenants,
            500,
        );
        let chunk = batch.chunks[0].clone();
        let firing = Firing {
            batches: vec![batch.clone()],
            positions: vec![],
        };
        store.enqueue(firing, due).await.unwrap();
        let claimant = Claimant {
            process: uuid::Uuid::from_u128(1),
            token: uuid::Uuid::from_u128(2),
        };
        store.claim(&chunk, claimant, due).await.unwrap();
        let result = |item_id: &ItemId| ItemResult {
            item_id: item_id.clone(),
            status: ItemStatus::Succeeded,
            attempts: 1,
            preference: None,
            output: Some(serde_json::json!({"text": "x".repeat(2_000)})),
            error: None,
            started_at: due,
            finished_at: Some(due),
        };
        let results: Vec<ItemResult> = tenants.iter().map(result).collect();
        let room = async |pages: u32| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .fetch_all(store.writer())
                .await
                .unwrap();
        };
        room(100).await;
        let full = store.commit(&chunk, claimant.token, &results).await;
        let error = full.unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
        let reader = store.reader();
        let stored = async || reader.batch(batch.batch_id).await.unwrap().unwrap();
        assert_eq!(stored().await.processed(), 0, "nothing half");
        room(1_000_000).await;
        let committed = store
            .commit(&chunk, claimant.token, &results)
            .await
            .unwrap();
        assert!(committed.taken == 500 && committed.finished);
        assert_eq!(stored().await.succeeded, 500);
        let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(store.writer())
            .await
            .unwrap();
        assert_eq!(whole, "ok");
    }

    #[tokio::test]
    async fn a_full_store_is_noted_until_it_takes_batches_again() {
        use crate::services::batch_scheduler::{BatchScheduler, SchedulerOptions};
        use punctual_application::{
            ActiveFailures, Operation, ports::MockItemSource, testing::ManualClock,
        };
        use punctual_domain::{BatchConfig, Firing, ItemId, JobId, NewBatch, Priority, Trigger};
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&url(&folder, "punctual.db"))
            .await
            .unwrap();
        let due = "2026-03-01T09:00:00Z".parse().unwrap();
        let tenants: Vec<ItemId> = (0..2_000)
            .map(|n| ItemId::new(format!("t{n}")).unwrap())
            .collect();
        let batch = NewBatch::new(
            &JobId::new("job").unwrap(),
            Priority::Medium,
            "daily 09:00 UTC".to_owned(),
            due,
            "2026-03-01".parse().unwrap(),
            Trigger::Schedule,
            due,
            &tenants,
            1,
        );
        let firing = || Firing {
            batches: vec![batch.clone()],
            positions: vec![],
        };
        let options = SchedulerOptions {
            chunk_size: 1,
            look_back: chrono::TimeDelta::zero(),
        };
        let failures = ActiveFailures::default();
        let mut scheduler = BatchScheduler::new(
            BatchConfig { jobs: vec![] },
            Arc::new(MockItemSource::new()),
            Arc::new(store.clone()),
            Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z")),
            options,
        )
        .with_failures(failures.clone());
        let room = async |pages: u32| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .fetch_all(store.writer())
                .await
                .unwrap();
        };
        room(1).await;
        scheduler.fire(firing(), due).await.unwrap_err();
        let [failure] = failures.list(due).try_into().unwrap();
        assert_eq!(failure.operation, Operation::EnqueueDueBatches);
        assert!(failure.reason.contains("full"), "{failure:?}");
        // The connection that writes has been replaced, and with it the limit.
        scheduler.fire(firing(), due).await.unwrap();
        assert_eq!(failures.list(due), []);
    }
}
