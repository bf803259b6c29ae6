//! Opening the store: where it is, how it is connected to, and its tables brought up to date.

use std::{path::Path, time::Duration};

use sqlx::{
    AnyConnection, AnyPool, Connection, Executor, SqlStr,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};
use tokio::sync::watch;
use tracing::info;

use super::{
    ConfigStore, StoreError, compatibility::Known, dialect::Dialect, drivers::install_drivers,
};

/// The migrations, in order: a file in each folder, and a line here. One that has been released is never edited: the database
/// knows its checksum. Which programs of earlier versions may work beside it: see `compatibility`.
macro_rules! migrations {
    ($folder:literal) => {
        [
            (
                "config database",
                include_str!(concat!(
                    "../../migrations/",
                    $folder,
                    "/0001_config_database.sql"
                )),
            ),
            (
                "schedule since",
                include_str!(concat!(
                    "../../migrations/",
                    $folder,
                    "/0002_schedule_since.sql"
                )),
            ),
            (
                "features",
                include_str!(concat!("../../migrations/", $folder, "/0003_features.sql")),
            ),
            (
                "links",
                include_str!(concat!("../../migrations/", $folder, "/0004_links.sql")),
            ),
            (
                "left open",
                include_str!(concat!("../../migrations/", $folder, "/0005_left_open.sql")),
            ),
            (
                "counts",
                include_str!(concat!("../../migrations/", $folder, "/0006_counts.sql")),
            ),
            (
                "organizations",
                include_str!(concat!(
                    "../../migrations/",
                    $folder,
                    "/0007_organizations.sql"
                )),
            ),
            (
                "erasures",
                include_str!(concat!("../../migrations/", $folder, "/0008_erasures.sql")),
            ),
            (
                "compatibility",
                include_str!(concat!(
                    "../../migrations/",
                    $folder,
                    "/0009_compatibility.sql"
                )),
            ),
        ]
    };
}

/// Connections at most. Reads need no more on a few cores, and there is one writer at a time.
const MAX_CONNECTIONS: u32 = 8;
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that was lost in mid-transaction must not hold the feed's lock for ever. The agents' schema is left out
/// of the search path: a role of that name would see the agents' tables before ours. Where ours stand already, they are used.
const POSTGRES_SETTINGS: &str = "
SET idle_in_transaction_session_timeout = '30s';
SET client_min_messages = 'warning';
SELECT set_config('search_path', quote_ident(schema), false)
FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (schema, place)
LEFT JOIN pg_tables ON schemaname = schema AND tablename = 'config_history'
WHERE tablename IS NOT NULL OR schema <> 'punctual'
ORDER BY tablename, place
LIMIT 1";

impl ConfigStore {
    /// Opens the database of `url`, a file as `sqlite://var/config.db` (made with its folder where missing) or a
    /// `PostgreSQL` database as `postgres://user:password@host/name`, and brings its tables up to date. Tables of a later version
    /// stay as they are where this version may work on them.
    ///
    /// # Errors
    /// When it cannot be opened, is not a Config Database, or a later version has made tables that this version cannot work
    /// on. No error shows the URL: it may hold a password.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let (dialect, options) = parse(url).ok_or_else(StoreError::invalid_url)?;
        let place = Self::place(url);
        let fail = |problem: String| {
            StoreError::new(format!(
                "cannot open the Config Database {place}: {problem}"
            ))
        };
        if dialect == Dialect::Sqlite
            && let Some(folder) = Path::new(&place).parent()
        {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| fail(error.to_string()))?;
        }
        let pool = connect(dialect, options)
            .await
            .map_err(|error| fail(error.to_string()))?;
        migrate(&pool, dialect)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let store = Self {
            pool,
            dialect,
            url: url.into(),
            schemas: std::sync::Arc::default(),
            features: std::sync::Arc::default(),
            rule_changes: std::sync::Arc::default(),
            rules_changed: std::sync::Arc::default(),
            readers: std::sync::Arc::default(),
            write_failure: super::write_failure::WriteFailure::default(),
            seen: watch::Sender::default(),
            keep_history: super::retention::KEEP_HISTORY,
        };
        store.refresh().await?;
        Ok(store)
    }

    /// Where the database of `url` is, for people: its file, or `on PostgreSQL`, as the URL may hold a password.
    #[must_use]
    pub fn place(url: &str) -> String {
        match Dialect::of(url) {
            Some(Dialect::Sqlite) => file_of(url).to_owned(),
            Some(Dialect::Postgres) => "on PostgreSQL".to_owned(),
            None => "at an invalid URL".to_owned(),
        }
    }
}

fn parse(url: &str) -> Option<(Dialect, AnyConnectOptions)> {
    let dialect = Dialect::of(url)?;
    let options = match dialect {
        Dialect::Sqlite if url.contains('?') => url.parse(),
        Dialect::Sqlite => format!("{url}?mode=rwc").parse(),
        Dialect::Postgres => url.parse(),
    };
    Some((dialect, options.ok()?))
}

pub(super) fn file_of(url: &str) -> &str {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Brings the tables up to date, also while other processes do the same.
async fn migrate(pool: &AnyPool, dialect: Dialect) -> Result<(), StoreError> {
    let texts = match dialect {
        Dialect::Sqlite => migrations!("sqlite"),
        Dialect::Postgres => migrations!("postgres"),
    };
    let known = Known::of(&texts);
    let migrations = texts.into_iter().zip(1..);
    let migrations = migrations.map(|((description, text), number)| {
        let text = SqlStr::from_static(text);
        Migration::new(
            number,
            description.into(),
            MigrationType::Simple,
            text,
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    match dialect {
        // The migrator takes no lock on SQLite.
        Dialect::Sqlite => {
            let mut transaction = pool.begin_with(dialect.begin_write()).await?;
            migrator.set_ignore_missing(known.is_later(&mut transaction, dialect).await?);
            let migrated = known.migrate(&mut transaction, &migrator).await;
            migrated.map_err(StoreError::new)?;
            Ok(transaction.commit().await?)
        }
        Dialect::Postgres => {
            // Its settings are changed, so it is closed afterwards, which also ends its lock.
            let mut connection = pool.acquire().await?.detach();
            let mut given_way = 0;
            loop {
                sqlx::query(NO_LOCK_TIMEOUT)
                    .execute(&mut connection)
                    .await?;
                connection.lock().await.map_err(StoreError::new)?;
                sqlx::query(LOCK_TIMEOUT).execute(&mut connection).await?;
                migrator.set_ignore_missing(known.is_later(&mut connection, dialect).await?);
                let Err(error) = known.migrate(&mut connection, &migrator).await else {
                    return Ok(connection.close().await?);
                };
                if given_way == TIMES_GIVEN_WAY || !is_held_by_others(&error) {
                    return Err(StoreError::new(error));
                }
                if given_way == 0 {
                    info!(
                        "Others hold tables that this version changes; waiting for them: {error}"
                    );
                }
                given_way += 1;
                sqlx::query(UNLOCK).execute(&mut connection).await?;
                tokio::time::sleep(GIVE_WAY).await;
            }
        }
    }
}

/// Another process that upgrades a large database is waited for.
const NO_LOCK_TIMEOUT: &str = "SET lock_timeout = 0";

/// Who waits for a table has everyone who needs it later wait behind: a dump that takes an hour would stop the processes of the
/// version before for as long.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'";

/// While this process gives way, one of the version before may start.
const UNLOCK: &str = "SELECT pg_advisory_unlock_all()::text";

/// How long the others go on before the next try.
const GIVE_WAY: Duration = Duration::from_secs(2);

/// With the time that each try waits, five minutes.
const TIMES_GIVEN_WAY: u32 = 75;

/// Whether a lock was not given in time, or two transactions would have waited for each other.
fn is_held_by_others(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "55P03" | "40P01"))
}

async fn connect(dialect: Dialect, options: AnyConnectOptions) -> Result<AnyPool, sqlx::Error> {
    install_drivers();
    let settings = match dialect {
        Dialect::Sqlite => {
            "PRAGMA busy_timeout = 30000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
        }
        Dialect::Postgres => POSTGRES_SETTINGS,
    };
    // A pool retries until its timeout, and then reports only that; this connection reports at once what is wrong.
    let mut first = AnyConnection::connect_with(&options).await?;
    first.execute(settings).await?;
    first.close().await?;
    AnyPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(settings).await.map(drop) })
        })
        // SQLite ends a transaction by itself when the disk is full, which sqlx does not notice: the connection would refuse
        // every later one.
        .before_acquire(|connection, _| {
            let usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(usable) })
        })
        .connect_with(options)
        .await
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_is_a_migration() {
        for (folder, listed) in [
            ("sqlite", migrations!("sqlite")),
            ("postgres", migrations!("postgres")),
        ] {
            let folder = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut there: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            there.sort();
            let listed = listed.iter().zip(1..);
            let listed: Vec<String> = listed
                .map(|((description, _), number)| {
                    format!("{number:04}_{}.sql", description.replace(' ', "_"))
                })
                .collect();
            assert_eq!(listed, there);
        }
    }
}
