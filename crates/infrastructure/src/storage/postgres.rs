//! The store for many replicas: one `PostgreSQL` database.

mod batch_store;
mod chunk_queue;
mod work_queue;

use std::{io::ErrorKind, str::FromStr, sync::Arc, time::Duration};

use punctual_application::ports::{
    BatchReader, Deliveries, OperatorStore, StoreError, StoreErrorKind,
};
use sqlx::{
    ConnectOptions, PgConnection, PgPool, Postgres, Transaction,
    any::AnyPoolOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
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

/// Where processes tell each other that chunks may have come to wait, and that batches have ended.
const CHUNKS: &str = "punctual_chunks";
const BATCHES: &str = "punctual_batches";
/// A statement that takes longer has lost its server, or waits for a lock that is never released.
const STATEMENT_TIMEOUT: &str = "60s";
/// The server itself ends a transaction whose client has forgotten it.
const IDLE_TRANSACTION_TIMEOUT: &str = "30s";

/// The ports `WorkQueue`, `ChunkQueue` and `BatchStore` in one `PostgreSQL` database.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    reader: SqlReader,
    deliveries: SqlDeliveries,
    operations: SqlOperatorStore,
    /// Tells when chunks may have come to wait.
    arrivals: watch::Sender<()>,
}

impl PostgresStore {
    /// Connects to the database of `url`, as `postgres://user@host/database`, and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be reached, or may not be written to.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        install_drivers();
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            StoreError::new(
                StoreErrorKind::InvalidUrl,
                "invalid URL of the store; use a URL such as postgres://user:password@host:5432/database",
            )
        })?;
        let place = format!("at {}:{}", options.get_host(), options.get_port());
        let fail = |error: BoxError| cannot_open(&place, error);
        let options = options.application_name("punctual").options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            (
                "idle_in_transaction_session_timeout",
                IDLE_TRANSACTION_TIMEOUT,
            ),
        ]);
        // A pool would retry for long; a server that cannot be reached is an error at once.
        let connection = options.connect().await;
        drop(connection.map_err(|error| fail(error.into()))?);
        let pool = pool(12)
            .connect_with(options.clone())
            .await
            .map_err(|error| fail(error.into()))?;
        let mut ours = sqlx::migrate!("./migrations/postgres");
        ours.dangerous_set_table_name("punctual_migrations");
        ours.run(&pool).await.map_err(|error| fail(error.into()))?;
        takeover::from_postgres(&pool).await?;
        let reader = AnyPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect(options.to_url_lossy().as_str())
            .await
            .map_err(|error| fail(error.into()))?;
        Ok(Self {
            pool,
            reader: SqlReader::new(reader.clone()),
            deliveries: SqlDeliveries::new(reader.clone()),
            operations: SqlOperatorStore::new(reader, true),
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

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Tells this and other processes that chunks may have come to wait.
    async fn announce(&self) -> Result<(), StoreError> {
        notify(&mut *self.pool.acquire().await.map_err(failed)?, CHUNKS).await?;
        self.arrivals.send_replace(());
        Ok(())
    }

    /// Begins a transaction. A caller that is dropped meanwhile leaves none open: the task goes on, and ends it.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let pool = self.pool.clone();
        let beginning = tokio::spawn(async move { pool.begin().await });
        beginning.await.map_err(failed)?.map_err(failed)
    }
}

/// Notifies all processes once the transaction is committed.
async fn notify(connection: &mut PgConnection, channel: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_notify($1, '')")
        .bind(channel)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// How long to wait for a connection: longer than a server takes to restart.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// Connections to a server that takes writes. One that has become a standby has ended its connections before.
fn pool(size: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(Duration::from_mins(30))
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let read_only: String = sqlx::query_scalar("SHOW transaction_read_only")
                    .fetch_one(connection)
                    .await?;
                if read_only == "off" {
                    Ok(())
                } else {
                    Err(sqlx::Error::Io(ErrorKind::ReadOnlyFilesystem.into()))
                }
            })
        })
}

#[cfg(test)]
pub(super) mod tests {
    use punctual_application::testing::contract;
    use sqlx::Executor;

    use super::*;

    /// A database of its own on the server that tests are given.
    pub(in crate::storage) async fn database() -> String {
        let server = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL is set by tests/with-postgres.sh");
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let admin = PgPool::connect(&server).await.unwrap();
        let sql = format!("CREATE DATABASE {name}");
        admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        let options = PgConnectOptions::from_str(&server).unwrap();
        options.database(&name).to_url_lossy().to_string()
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[tokio::test]
    async fn a_real_database_keeps_the_contract() {
        let store = PostgresStore::open(&database().await).await.unwrap();
        contract::store(&store, &*store.reader()).await;
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[tokio::test]
    async fn a_real_database_keeps_what_is_to_be_delivered() {
        let store = PostgresStore::open(&database().await).await.unwrap();
        contract::deliveries(&store, &*store.deliveries()).await;
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[tokio::test]
    async fn opening_again_changes_nothing_and_no_password_is_shown() {
        let url = database().await;
        PostgresStore::open(&url).await.unwrap();
        let (again, beside) = tokio::join!(PostgresStore::open(&url), PostgresStore::open(&url));
        again.unwrap();
        beside.unwrap();
        let error = PostgresStore::open("postgres://u:secret@127.0.0.1:1/none").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1"));
        assert!(!error.contains("secret"), "{error}");
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[tokio::test]
    async fn a_dropped_begin_leaves_no_transaction_open() {
        let url = database().await;
        let store = PostgresStore::open(&url).await.unwrap();
        for round in 0..200_u64 {
            let store = store.clone();
            let beginning = tokio::spawn(async move { store.begin().await.map(|_| ()) });
            tokio::time::sleep(Duration::from_micros(round * 7)).await;
            beginning.abort();
            let _ = beginning.await;
        }
        // Every connection of the pool, one after the other.
        let mut held = Vec::new();
        for _ in 0..12 {
            let mut connection = store.pool().acquire().await.unwrap();
            let statement = sqlx::raw_sql("SELECT now() = statement_timestamp()");
            let row = connection.fetch_one(statement).await.unwrap();
            assert!(sqlx::Row::get::<bool, _>(&row, 0), "a transaction is open");
            held.push(connection);
        }
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[tokio::test]
    async fn one_process_leads_until_its_term_has_run_out_or_it_steps_down() {
        use punctual_application::ports::{
            Leadership::{Granted, Refused},
            WorkQueue,
        };
        let url = database().await;
        let store = PostgresStore::open(&url).await.unwrap();
        let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let (long, over) = (Duration::from_mins(10), Duration::ZERO);
        for (process, term, leads) in [
            (a, long, Granted),
            (b, long, Refused),
            (a, long, Granted),
            (a, over, Granted),
            (b, long, Granted),
            (a, long, Refused),
        ] {
            assert_eq!(store.lead(process, term).await.unwrap(), leads);
        }
    }
}
