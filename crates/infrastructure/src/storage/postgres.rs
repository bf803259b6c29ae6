//! The store for many replicas: one `PostgreSQL` database for the queue (apalis' schema) and for batches, results and
//! progress (ours).

mod batch_store;
mod work_queue;

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use apalis_postgres::PostgresStorage;
use punctual_application::ports::{
    BatchReader, Deliveries, OperatorStore, StoreError, StoreErrorKind,
};
use sqlx::{
    ConnectOptions, Executor, PgPool,
    any::AnyPoolOptions,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{
    QUEUES,
    deliveries::SqlDeliveries,
    drivers::install_drivers,
    errors::{BoxError, cannot_open, failed},
    operations::SqlOperatorStore,
    reader::SqlReader,
};

/// Where apalis tells of new messages.
const CHANNEL: &str = "apalis::job::insert";
/// A statement that takes longer has lost its server, or waits for a lock that is never released.
const STATEMENT_TIMEOUT: &str = "60s";
/// The server itself ends a transaction whose client has forgotten it.
const IDLE_TRANSACTION_TIMEOUT: &str = "30s";

/// The ports `WorkQueue` and `BatchStore` in one `PostgreSQL` database.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    reader: SqlReader,
    deliveries: SqlDeliveries,
    operations: SqlOperatorStore,
    pushed: watch::Sender<()>,
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
        PostgresStorage::migrations()
            .run(&pool)
            .await
            .map_err(|error| fail(error.into()))?;
        let mut ours = sqlx::migrate!("./migrations/postgres");
        ours.dangerous_set_table_name("punctual_migrations");
        ours.run(&pool).await.map_err(|error| fail(error.into()))?;
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
            pushed: watch::Sender::new(()),
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

    /// Tells when chunks may have been put in a queue.
    pub(crate) fn pushed(&self) -> watch::Receiver<()> {
        self.pushed.subscribe()
    }

    /// Passes on what other replicas put in the queues, until `stop` is cancelled. Without a connection, polling has to
    /// do.
    pub(crate) async fn listen(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let listening = async {
                let mut listener = PgListener::connect_with(&self.pool).await?;
                listener.listen(CHANNEL).await?;
                loop {
                    listener.recv().await?;
                    self.pushed.send_replace(());
                }
            };
            let outcome: Result<(), sqlx::Error> = tokio::select! {
                outcome = listening => outcome,
                () = stop.cancelled() => return,
            };
            if let Err(error) = outcome {
                warn!(%error, "Failed to listen for new work, polling instead: {error}");
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// The queues that have something waiting, or in the hands of a worker that may be dead, and whether anything of
    /// it is in no hands.
    pub(crate) async fn waiting(&self) -> Result<BTreeMap<String, bool>, StoreError> {
        self.reader.waiting("apalis.jobs").await
    }

    pub(crate) async fn defer_message(
        &self,
        message: &str,
        seconds: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE apalis.jobs SET run_at = now() + $2 * interval '1 second' WHERE id = $1",
        )
        .bind(message)
        .bind(seconds)
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    pub(crate) async fn note_stopped(&self, process: Uuid) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE apalis.workers SET last_seen = to_timestamp(0) WHERE id LIKE 'punctual-' || $1 || '-%'",
        )
        .bind(process.to_string())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Removes the queue's messages of chunks that were done an hour ago: their results stand in our tables.
    /// Returns how many there were.
    pub(crate) async fn delete_done_messages(&self) -> Result<u64, StoreError> {
        let deleted = sqlx::query(
            "DELETE FROM apalis.jobs WHERE starts_with(job_type, $1) AND status = 'Done'
               AND done_at < now() - interval '1 hour'",
        )
        .bind(QUEUES)
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(deleted.rows_affected())
    }
}

/// How long to wait for a connection: longer than a server takes to restart.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// Connections that are known to be good: a server that has become a standby is left, and a transaction that was begun
/// by a future that has been dropped does not go on in the next one's hands.
fn pool(size: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(Duration::from_mins(30))
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move {
                let read_only: String = sqlx::query_scalar("SHOW transaction_read_only")
                    .fetch_one(connection)
                    .await?;
                Ok(read_only == "off")
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // Outside of a transaction, its time is the statement's. Only the simple protocol keeps to that.
                let statement = sqlx::raw_sql("SELECT now() = statement_timestamp()");
                let row = connection.fetch_one(statement).await?;
                sqlx::Row::try_get::<bool, _>(&row, 0)
            })
        })
}

#[cfg(test)]
pub(super) mod tests {
    use punctual_application::testing::contract;

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
            let pool = store.pool().clone();
            let beginning = tokio::spawn(async move { pool.begin().await.map(|_| ()) });
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
