#![doc = include_str!("../README.md")]
//!
//! # Adding a statement
//!
//! It stands in the file of its port (`work_queue`, `chunk_queue`, `batch_store`, `waiting_items`, `reader`, `deliveries`, `operations`,
//! `suppressions`, `alerts`, `retention`, `tenant_records`, `provider_batches`, `fence`, `operator_keys`) or of its subject (`claims`,
//! `kept_outputs`, `prepared_outputs`, `erased`), once for both databases:
//! `driver` says which marks stand for what differs. The suites of
//! `testing::contract` run on both, so add what the statement promises to them first.
//!
//! # Adding a column
//!
//! 1. A migration in `migrations/sqlite` and one in `migrations/postgres`, with a default for rows of earlier versions. One
//!    that has been released is never edited.
//! 2. The statement that writes it, and the one that reads it; of results, both in `results`.
//! 3. The type that carries it, in `punctual-domain` or `ports`, with the fake and a contract test that reads it back. A field
//!    of results is one of the API, too: its snapshots, and `make reference`.
//!
//! `transfer` asks the databases for their columns.
//!
//! # Changing the tables while agents are replaced
//!
//! Agents of this version and of the one before run beside each other on one store, so a migration only adds: tables, indexes,
//! and columns with a default or `NULL`. The version before goes on writing rows without them, and reading rows of this version:
//! give it no value that it does not know in a column that it reads. What it cannot do without (`DROP`, `RENAME`, a column
//! without a default, a stricter `CHECK`) takes three releases:
//!
//! 1. *Expand*: add the new column or table. Write both, read the old one.
//! 2. *Migrate*: read the new one and still write the old one. The migration fills the rows of earlier versions.
//! 3. *Contract*: write the new one only. The version after drops the old one, and its migration says so in a line such as
//!    `-- oldest program beside: 27`: the last migration of the oldest program that does without it.
//!
//! A migration that no earlier program may work beside names its own number; the CHANGELOG then says that all agents stop first.
//! `tests/it/migrations.rs` reads each file and refuses what is forbidden and has no such line.
//!
//! # Adding a count
//!
//! What operators read every second must not grow with what is stored. Triggers of the database count it as it is written
//! (`migrations/sqlite/0012_counts.sql`, `migrations/postgres/0010_counts.sql`), also for agents of the version before. On
//! `PostgreSQL` a trigger works on all rows of a statement at once, in one order, so that two transactions do not wait for each
//! other. What counts rows that are inserted counts those that `transfer` copies, and is not among the tables it copies.
#![warn(missing_docs)]

mod alerts;
mod backup;
mod batch_store;
mod chunk_queue;
mod claims;
mod compatibility;
mod conditions;
mod conversion;
mod deliveries;
mod driver;
mod erased;
mod errors;
mod fence;
mod group_commit;
mod host;
mod kept_outputs;
mod late_changes;
mod migrations;
mod operations;
mod operator_keys;
mod prepared_outputs;
mod previous;
mod provider_batches;
mod reader;
mod results;
mod retention;
mod shards;
mod suppressions;
mod takeover;
mod tenant_records;
#[cfg(test)]
mod tests;
mod trace;
#[cfg(feature = "postgres")]
mod transfer;
mod waiting_items;
mod work_queue;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use punctual_application::ports::{
    Alerts, BatchReader, BatchStore, ChunkQueue, Deliveries, Enqueued, Fence, OperatorKeys,
    OperatorStore, ProviderBatches, Retention, StoreError, Suppressions, TenantRecords,
    WaitingItems, WorkQueue,
};
use punctual_domain::Firing;
use tokio::sync::{Mutex, watch};

/// The crate whose pools and connections a store takes.
pub use sqlx;

pub use self::backup::backup;
#[cfg(feature = "postgres")]
use self::driver::postgres::PostgresDriver;
use self::driver::{Announcement, Database, Namespace, sqlite::SqliteDriver};
use self::group_commit::GroupCommit;
pub use self::host::HostConnection;
use self::results::Preferences;
#[cfg(feature = "postgres")]
pub use self::transfer::{Transferred, transfer};

/// The durable store: the ports `WorkQueue`, `ChunkQueue`, `BatchStore`, `WaitingItems`, `BatchReader`, `Deliveries`,
/// `OperatorStore`, `Suppressions`, `Alerts`, `Retention`, `TenantRecords`, `Fence` and `OperatorKeys`. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    /// Tells when chunks may have come to wait.
    arrivals: watch::Sender<()>,
    /// Tells when batches may have begun, progressed or ended.
    changes: watch::Sender<()>,
    preferences: Preferences,
    group_commit: GroupCommit,
    look_ups: Arc<waiting_items::LookUps>,
    /// How far this process has come in removing what was kept for long enough.
    removal: Arc<Mutex<retention::Pass>>,
    /// The newest division that this process knows; empty before it has been assigned a shard.
    division: watch::Sender<String>,
    /// Whether the store is held, as far as this process knows.
    held: watch::Sender<bool>,
}

impl Store {
    /// Opens the store at `url`, `sqlite://var/punctual.db` or `postgres://user@host/database`, creates what is missing, and
    /// brings its tables up to date. In `PostgreSQL` they stand in the schema `punctual`, or in another one that the URL
    /// names with `?schema=`; those that an earlier version made elsewhere move there. Tables of a later version stay as they
    /// are where this version may work on them.
    ///
    /// # Errors
    /// When the URL is neither, the store cannot be opened or written to, or a later version has made tables that this version
    /// cannot work on.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        #[cfg(feature = "postgres")]
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let driver = PostgresDriver::open(url).await?;
            return Self::over(Database::new(driver)).await;
        }
        let driver = SqliteDriver::open(url, &Namespace::new("")?).await?;
        Self::over(Database::new(driver)).await
    }

    /// A store in the `SQLite` database of the program around it, with its connections. Names of tables begin with `prefix` and
    /// `_`; which migrations have run stands in one of them. Set a `busy_timeout`: the program and the store write in turns.
    ///
    /// # Errors
    /// The prefix has other characters than a-z, 0-9 and _, or the tables cannot be brought up to date.
    pub async fn in_sqlite(pool: sqlx::SqlitePool, prefix: &str) -> Result<Self, StoreError> {
        let driver = SqliteDriver::in_pool(pool, &Namespace::new(prefix)?).await?;
        Self::over(Database::new(driver)).await
    }

    /// A store in the `PostgreSQL` database of the program around it, with its connections. Its tables stand in `schema`, which
    /// is created where it is missing; which migrations have run stands there, too.
    ///
    /// # Errors
    /// The schema has other characters than a-z, 0-9 and _, it is new and has the name of the role that connects (its tables
    /// would hide those of the program), or the tables cannot be brought up to date.
    #[cfg(feature = "postgres")]
    pub async fn in_postgres(pool: sqlx::PgPool, schema: &str) -> Result<Self, StoreError> {
        let driver = PostgresDriver::in_pool(pool, &Namespace::new(schema)?).await?;
        Self::over(Database::new(driver)).await
    }

    async fn over(database: Database) -> Result<Self, StoreError> {
        takeover::take_over(&database).await?;
        conversion::convert(&database).await?;
        Ok(Self {
            group_commit: GroupCommit::new(database.is_shared()),
            database,
            arrivals: watch::Sender::new(()),
            changes: watch::Sender::new(()),
            preferences: Preferences::default(),
            look_ups: Arc::default(),
            removal: Arc::default(),
            division: watch::Sender::default(),
            held: watch::Sender::new(false),
        })
    }

    /// [Enqueues](WorkQueue::enqueue) within a transaction of the program around the store: all of it is committed, or nothing
    /// is. On `SQLite` the workers find the chunks within two seconds of the commit, on `PostgreSQL` at once. On `SQLite`, begin
    /// with `BEGIN IMMEDIATE`: a transaction that has read before it comes to write may be refused.
    ///
    /// # Errors
    /// As [`WorkQueue::enqueue`]; also when the connection is of another kind of database than the store.
    pub async fn enqueue_in(
        &self,
        connection: impl Into<HostConnection<'_>>,
        firing: Firing,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, StoreError> {
        let session = connection.into().session(&self.database)?;
        let mut connection = self.database.connection(session);
        self.check_plan(&mut connection, false).await?;
        work_queue::enqueue(&mut connection, firing, now).await
    }

    /// Where the schedulers put what fell due.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn WorkQueue> {
        Arc::new(self.clone())
    }

    /// Where the processor keeps results.
    #[must_use]
    pub fn batches(&self) -> Arc<dyn BatchStore> {
        Arc::new(self.clone())
    }

    /// Where workers get the chunks they run.
    #[must_use]
    pub fn chunks(&self) -> Arc<dyn ChunkQueue> {
        Arc::new(self.clone())
    }

    /// The items that wait.
    #[must_use]
    pub fn waiting(&self) -> Arc<dyn WaitingItems> {
        Arc::new(self.clone())
    }

    /// What is still to be delivered.
    #[must_use]
    pub fn deliveries(&self) -> Arc<dyn Deliveries> {
        Arc::new(self.clone())
    }

    /// What operators see and have done.
    #[must_use]
    pub fn operations(&self) -> Arc<dyn OperatorStore> {
        Arc::new(self.clone())
    }

    /// The API keys of operators.
    #[must_use]
    pub fn operator_keys(&self) -> Arc<dyn OperatorKeys> {
        Arc::new(self.clone())
    }

    /// Addresses that no e-mail is sent to.
    #[must_use]
    pub fn suppressions(&self) -> Arc<dyn Suppressions> {
        Arc::new(self.clone())
    }

    /// Removes what has been kept for long enough.
    #[must_use]
    pub fn retention(&self) -> Arc<dyn Retention> {
        Arc::new(self.clone())
    }

    /// Which alerts went out.
    #[must_use]
    pub fn alerting(&self) -> Arc<dyn Alerts> {
        Arc::new(self.clone())
    }

    /// What is held of single tenants, to be erased or given out.
    #[must_use]
    pub fn tenant_records(&self) -> Arc<dyn TenantRecords> {
        Arc::new(self.clone())
    }

    /// How far the store has come, and whether it is held.
    #[must_use]
    pub fn fence(&self) -> Arc<dyn Fence> {
        Arc::new(self.clone())
    }

    /// Calls that wait and are sent to a provider together.
    #[must_use]
    pub fn provider_batches(&self) -> Arc<dyn ProviderBatches> {
        Arc::new(self.clone())
    }

    /// What reads batches, results and dead letters.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn BatchReader> {
        Arc::new(self.clone())
    }

    /// Tells this and other processes that chunks may have come to wait.
    async fn announce_chunks(&self) -> Result<(), StoreError> {
        self.database.announce(Announcement::Chunks).await?;
        self.arrivals.send_replace(());
        Ok(())
    }
}
