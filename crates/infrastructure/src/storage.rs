//! Stores behind the ports `WorkQueue`, `BatchStore` and `BatchReader`: apalis' queue with our tables beside it, so
//! that a tick's batches, their messages and the progress are one transaction. SQLite for one machine, PostgreSQL for
//! many; each job has a queue of its own, so that none stands in another's way.

mod claim;
mod deliveries;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod reader;
mod rows;
mod sql;
pub mod sqlite;

use std::{collections::BTreeSet, sync::Arc};

use apalis::prelude::{Task, TaskBuilder};
use punctual_application::ports::{BatchReader, BatchStore, Deliveries, StoreError, WorkQueue};
use punctual_domain::{Chunk, JobId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "postgres")]
use self::postgres::PostgresStore;
use self::rows::failed;
use self::sqlite::SqliteStore;

/// What the names of queues begin with; the job follows.
pub(crate) const QUEUES: &str = "punctual.chunks";

/// The priority of a batch's first chunk in its queue.
const FIRST: usize = 1_000_000;

const NOT_OPEN: &str = "a dead letter of these is not open any more; list them again";

fn queue_of(job_id: &JobId) -> String {
    format!("{QUEUES}/{job_id}")
}

/// The job whose queue it is; `None` for the one that all jobs shared in earlier versions.
pub(crate) fn job_of(queue: &str) -> Option<JobId> {
    let name = queue.strip_prefix(QUEUES)?.strip_prefix('/')?;
    JobId::new(name).ok()
}

/// A message of the queue. It is delivered until its chunk is done: how often an item may fail is counted item by item,
/// not here. The first chunks of all batches come before the second ones, so that a large batch lets others in.
fn message(chunk: &Chunk) -> Result<Task<Vec<u8>>, StoreError> {
    let content = serde_json::to_vec(chunk).map_err(failed)?;
    let position = chunk.chunk_id.rsplit('/').next();
    let position: usize = position.and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(TaskBuilder::new(content)
        .priority(FIRST.saturating_sub(position))
        .max_attempts(i32::MAX as usize)
        .build())
}

/// The store of an agent, chosen by its URL.
#[derive(Debug, Clone)]
pub enum Store {
    /// A SQLite file.
    Sqlite(SqliteStore),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

impl Store {
    /// Opens the store at `url`, `sqlite://var/punctual.db` or `postgres://user@host/database`, and brings its tables
    /// up to date.
    ///
    /// # Errors
    /// When the URL is neither, or the store cannot be opened.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        #[cfg(feature = "postgres")]
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return PostgresStore::open(url).await.map(Self::Postgres);
        }
        SqliteStore::open(url).await.map(Self::Sqlite)
    }

    /// Where the schedulers put what fell due.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn WorkQueue> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Where the processor keeps results.
    #[must_use]
    pub fn batches(&self) -> Arc<dyn BatchStore> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Tells when chunks may have been put in a queue.
    pub(crate) fn pushed(&self) -> watch::Receiver<()> {
        match self {
            Self::Sqlite(store) => store.pushed(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.pushed(),
        }
    }

    /// Listens to what other processes put in the queues, until `stop` is cancelled.
    pub(crate) async fn listen(&self, stop: &CancellationToken) {
        match self {
            // A file belongs to one machine.
            Self::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.listen(stop).await,
        }
    }

    /// The queues that have something waiting, or in the hands of a worker that may be dead.
    pub(crate) async fn waiting(&self) -> Result<BTreeSet<String>, StoreError> {
        match self {
            Self::Sqlite(store) => store.waiting().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.waiting().await,
        }
    }

    /// Removes the queue's messages of chunks that were done an hour ago: their results stand in our tables.
    /// Returns how many there were.
    pub(crate) async fn forget_done_chunks(&self) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.forget_done_chunks().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.forget_done_chunks().await,
        }
    }

    /// What is to be delivered.
    #[must_use]
    pub fn deliveries(&self) -> Arc<dyn Deliveries> {
        match self {
            Self::Sqlite(store) => store.deliveries(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.deliveries(),
        }
    }

    /// What has been run.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn BatchReader> {
        match self {
            Self::Sqlite(store) => store.reader(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.reader(),
        }
    }
}
