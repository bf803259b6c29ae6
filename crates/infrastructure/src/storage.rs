//! The stores behind the ports `WorkQueue`, `ChunkQueue`, `BatchStore`, `BatchReader`, `Deliveries` and `OperatorStore`: the
//! table of chunks is the queue, so that a tick's batches, their chunks and the progress are one transaction, and so are the
//! results of a chunk and its end. `SQLite` for one machine, `PostgreSQL` for many.
//!
//! # Adding a statement
//!
//! Reads, deliveries and what operators do are written once for both databases, in `reader`, `deliveries` and `operations`.
//! A statement of the queue or of the processor that is the same in both is a constant of `sql`; one that differs
//! stands in `sqlite/` and in `postgres/`. The suites of `testing::contract` run on both stores, so add what the
//! statement promises to them first. A port's method that is new has a place there, too, and in the fake.
//!
//! # Adding a column
//!
//! 1. A migration in `migrations/sqlite` and one in `migrations/postgres`, with a default for rows of earlier versions. One
//!    that has been released is never edited.
//! 2. Its writers: `sql`, `sqlite/` and `postgres/`. Its readers: the columns listed in `reader`, and `rows`, which makes
//!    values of them. What was skipped and what runs stand in tables of their own, `skipped_items` and `running_items`.
//! 3. The list of columns in `transfer`, which copies them from `SQLite` to `PostgreSQL`.
//! 4. The type that carries it, in `punctual-domain` or `ports`, the fake, and a contract test that reads it back. A field
//!    of results is one of the API, too: its snapshots, and `make reference`.

mod chunks;
mod claim;
mod deliveries;
mod drivers;
mod errors;
mod operations;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod reader;
mod rows;
mod sql;
pub mod sqlite;
mod takeover;
#[cfg(feature = "postgres")]
pub mod transfer;

use std::sync::Arc;

use punctual_application::ports::{
    BatchReader, BatchStore, ChunkQueue, Deliveries, OperatorStore, StoreError, WorkQueue,
};

#[cfg(feature = "postgres")]
use self::postgres::PostgresStore;
use self::sqlite::SqliteStore;

/// The store of an agent, chosen by its URL.
#[derive(Debug, Clone)]
pub enum Store {
    /// A `SQLite` file.
    Sqlite(SqliteStore),
    /// A `PostgreSQL` database.
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

    /// Where workers get the chunks they run.
    #[must_use]
    pub fn chunks(&self) -> Arc<dyn ChunkQueue> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// The store's port for deliveries.
    #[must_use]
    pub fn deliveries(&self) -> Arc<dyn Deliveries> {
        match self {
            Self::Sqlite(store) => store.deliveries(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.deliveries(),
        }
    }

    /// The store's port for operators: activity, replicas, audit log.
    #[must_use]
    pub fn operations(&self) -> Arc<dyn OperatorStore> {
        match self {
            Self::Sqlite(store) => store.operations(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.operations(),
        }
    }

    /// The store's port for reading batches, results and dead letters.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn BatchReader> {
        match self {
            Self::Sqlite(store) => store.reader(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.reader(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use punctual_application::{
        ports::{ClaimLimits, Claimant, Clock, Leadership, SystemClock},
        testing::contract,
    };
    use punctual_domain::{
        Delivery, Firing, ItemId, JobId, NewBatch, Occurrence, Priority, Trigger,
    };
    use uuid::Uuid;

    use super::*;

    impl Store {
        /// As if every batch had ended at the beginning of time.
        async fn end_batches(&self) {
            let sql = "UPDATE batches SET finished_at = 0";
            match self {
                Self::Sqlite(store) => {
                    let ended = sqlx::query(sql).execute(store.writer()).await;
                    ended.unwrap();
                }
                #[cfg(feature = "postgres")]
                Self::Postgres(store) => {
                    let ended = sqlx::query(sql).execute(store.pool()).await;
                    ended.unwrap();
                }
            }
        }
    }

    /// A message that is damaged, one that is of another chunk, and the name of a job.
    const DAMAGE: [&str; 3] = [
        "UPDATE chunks SET message = 'not JSON' WHERE job_id = 'a' AND place = 1",
        "UPDATE chunks SET message = (SELECT o.message FROM chunks o WHERE o.job_id = 'a' AND o.place = 0)
         WHERE job_id = 'a' AND place = 2",
        "UPDATE chunks SET job_id = 'not a name!' WHERE job_id = 'b'",
    ];

    async fn what_is_damaged_stops_no_other(store: Store) {
        let now = SystemClock.now();
        let items: Vec<ItemId> = ["x", "y", "z"].map(|id| ItemId::new(id).unwrap()).into();
        let batch = |job: &str| {
            NewBatch::new(
                &JobId::new(job).unwrap(),
                Priority::High,
                "daily".into(),
                now,
                Occurrence::Instant(now),
                Trigger::Schedule,
                now,
                &items,
                1,
            )
        };
        let batches = vec![batch("a"), batch("b"), batch("c")];
        let damaged = batches[0].batch_id;
        let firing = Firing {
            batches,
            positions: vec![],
        };
        store.queue().enqueue(firing, now).await.unwrap();
        for sql in DAMAGE {
            match &store {
                Store::Sqlite(store) => {
                    let done = sqlx::query(sql).execute(store.writer()).await;
                    done.unwrap();
                }
                #[cfg(feature = "postgres")]
                Store::Postgres(store) => {
                    let done = sqlx::query(sql).execute(store.pool()).await;
                    done.unwrap();
                }
            }
        }
        let (process, limits) = (Uuid::new_v4(), ClaimLimits::new(8));
        let claimed = store.chunks().claim_next(process, &limits, now).await;
        let claimed: Vec<String> = claimed
            .unwrap()
            .into_iter()
            .map(|one| format!("{} {}", one.chunk.job_id, one.chunk.items[0]))
            .collect();
        assert_eq!(claimed, ["a x", "c x", "c y", "c z"]);
        let again = store.chunks().claim_next(process, &limits, now).await;
        assert_eq!(again.unwrap(), []);
        let survey = store.chunks().survey(now).await.unwrap();
        assert_eq!(survey.waiting, []);
        let batch = store.reader().batch(damaged).await.unwrap().unwrap();
        assert_eq!((batch.failed, batch.total), (2, 3));
    }

    #[tokio::test]
    async fn what_is_damaged_in_a_file_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        what_is_damaged_stops_no_other(Store::open(&url).await.unwrap()).await;
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn what_is_damaged_on_a_server_stops_no_other() {
        let url = postgres::tests::database().await;
        what_is_damaged_stops_no_other(Store::open(&url).await.unwrap()).await;
    }

    async fn keeps_what_operators_see(store: Store) {
        let operations = store.operations();
        let now = DateTime::from_timestamp(SystemClock.now().timestamp(), 0).unwrap();
        contract::operations(operations.as_ref()).await;

        let job = JobId::new("job").unwrap();
        let items = [ItemId::new("a").unwrap(), ItemId::new("b").unwrap()];
        let due = now - TimeDelta::seconds(90);
        let batch = |due, trigger| {
            let date = Occurrence::Instant(due);
            NewBatch {
                deliver_to: vec![Delivery::File("out.ndjson".into())],
                ..NewBatch::new(
                    &job,
                    Priority::High,
                    "daily".into(),
                    due,
                    date,
                    trigger,
                    now,
                    &items,
                    1,
                )
            }
        };
        let batches = vec![
            batch(due, Trigger::Schedule),
            batch(due - TimeDelta::hours(2), Trigger::Schedule),
        ];
        let firing = Firing {
            batches,
            positions: vec![],
        };
        let chunk = firing.batches[0].chunks[0].clone();
        store.queue().enqueue(firing, now).await.unwrap();
        let activity = operations
            .activity(now - TimeDelta::hours(1))
            .await
            .unwrap();
        let [activity] = activity.as_slice() else {
            panic!("{activity:?}")
        };
        assert_eq!(
            (activity.batches, activity.items, activity.worst_lateness_ms),
            (1, 0, 90_000)
        );
        assert!(operations.replica_leases().await.unwrap().is_empty());

        // Who holds work, and has it been heard of?
        let claimant = Claimant {
            process: Uuid::new_v4(),
            token: Uuid::new_v4(),
        };
        let claimed = store.batches().claim(&chunk, claimant, now).await.unwrap();
        assert_eq!(claimed.items.len(), 1);
        let working = operations.replica_leases().await.unwrap();
        let [one] = working.as_slice() else {
            panic!("{working:?}")
        };
        assert_eq!(
            (one.process.as_str(), one.chunks, one.last_seen),
            (claimant.process.to_string().as_str(), 1, None)
        );
        assert!(one.is_unresponsive(now));
        store.chunks().heartbeat(claimant.process).await.unwrap();
        let heard = &operations.replica_leases().await.unwrap()[0];
        let seen = heard.last_seen.unwrap();
        assert!(!heard.is_unresponsive(seen + TimeDelta::seconds(15)));
        assert!(heard.is_unresponsive(seen + TimeDelta::seconds(17)));

        // Deliveries that fail once are retried and not shown yet; those given up long ago are no longer shown.
        store.end_batches().await;
        let began = DateTime::UNIX_EPOCH;
        let fails = async |again: Option<DateTime<Utc>>| {
            let deliveries = store.deliveries();
            let due = deliveries.take(now, TimeDelta::zero(), &[]).await;
            let due = due.unwrap().expect("a delivery is due");
            let postponed = deliveries.postpone(due.id, again, "disk full");
            postponed.await.unwrap();
        };
        fails(Some(began)).await;
        assert_eq!(operations.failing_deliveries(began).await.unwrap(), []);
        fails(Some(began)).await;
        let failing = operations.failing_deliveries(began).await.unwrap();
        let [one] = failing.as_slice() else {
            panic!("{failing:?}")
        };
        assert_eq!(
            (one.given_up, one.deliveries, one.since, one.reason.as_str()),
            (false, 1, began, "disk full")
        );
        fails(None).await;
        let failing = operations.failing_deliveries(began).await.unwrap();
        assert!(failing.iter().any(|one| one.given_up), "{failing:?}");
        let later = began + TimeDelta::seconds(1);
        let failing = operations.failing_deliveries(later).await.unwrap();
        assert!(failing.iter().all(|one| !one.given_up), "{failing:?}");

        let process = Uuid::new_v4();
        let term = std::time::Duration::from_mins(1);
        let leads = store.queue().lead(process, term).await.unwrap();
        let leader = operations.leader().await.unwrap();
        match leads {
            Leadership::Granted => {
                let (who, until) = leader.unwrap();
                assert_eq!(who, process.to_string());
                assert!(until > now, "{until}");
            }
            _ => assert_eq!(leader, None),
        }
    }

    #[tokio::test]
    async fn a_file_keeps_what_operators_see() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        keeps_what_operators_see(Store::open(&url).await.unwrap()).await;
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn a_server_keeps_what_operators_see() {
        let url = postgres::tests::database().await;
        keeps_what_operators_see(Store::open(&url).await.unwrap()).await;
    }
}
