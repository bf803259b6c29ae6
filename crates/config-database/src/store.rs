//! The store: configurations, the preferences in them, the feed of changes and the API keys, in one SQLite
//! file. Every write goes through one transaction that also writes the feed.

mod api_keys;
mod configs;
mod feed;
mod groups;
mod schemas;
mod writing;

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use self::schemas::Schemas;

pub(crate) use configs::{ChangeError, ConfigId, Expected, Imported, PastConfig, StoredConfig};
pub(crate) use feed::{FeedError, FeedPage};
pub(crate) use groups::{GroupsError, GroupsPage};
pub(crate) use schemas::SchemaError;

/// The store failed; nothing was half done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

impl StoreError {
    pub(crate) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// The Config Database's data.
#[derive(Debug, Clone)]
pub struct ConfigStore {
    pool: SqlitePool,
    epoch: String,
    schemas: Schemas,
    /// The id of the newest change, for those who wait for the next.
    head: watch::Sender<i64>,
}

impl ConfigStore {
    /// Opens the file of `url`, as `sqlite://var/config.db`, creating it and its folder where missing, and
    /// brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened or is no database of ours.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        // sqlx would take anything else for the name of a file.
        let options = Some(url)
            .filter(|url| url.starts_with("sqlite:"))
            .and_then(|url| SqliteConnectOptions::from_str(url).ok())
            .ok_or_else(|| {
                StoreError::new(
                    "CONFIG_STORE_URL is not usable; use a URL as sqlite://var/config.db",
                )
            })?;
        let path = options.get_filename().to_owned();
        let fail = |problem: String| {
            StoreError(format!(
                "cannot open the Config Database {}: {problem}; check CONFIG_STORE_URL",
                path.display()
            ))
        };
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| fail(error.to_string()))?;
        }
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options)
            .await
            .map_err(|error| fail(error.to_string()))?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let epoch = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'epoch'")
            .fetch_one(&pool)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let store = Self {
            pool,
            epoch,
            schemas: Schemas::default(),
            head: watch::Sender::default(),
        };
        store.load_schemas().await?;
        store.head.send_replace(store.read_head().await?);
        Ok(store)
    }

    /// A transaction that takes the write lock at once.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(StoreError::new)
    }
}

/// The server's time, in the precision the store keeps.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock read of the Config Database"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

fn instant(micros: i64) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| StoreError(format!("{micros} is no instant")))
}
