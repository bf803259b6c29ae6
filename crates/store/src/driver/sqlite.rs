//! What only `SQLite` does.

use std::{convert::Infallible, future::pending, str::FromStr, sync::Arc, time::Duration, vec};

use async_trait::async_trait;
use punctual_application::ports::{StoreError, StoreErrorKind};
use serde_json::json;
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    TypeInfo, ValueRef,
    pool::PoolConnection,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};

use super::{Announcement, Cell, Column, Dialect, Driver, Namespace, Row, Session, Value};
use crate::{
    errors::{BoxError, cannot_open},
    migrations,
};

/// How many rows one statement inserts at most. Few sizes, so that each is prepared once.
const ROWS_PER_INSERT: [usize; 5] = [2_500, 500, 50, 10, 1];

/// The connections to a file.
#[derive(Debug)]
pub(crate) struct SqliteDriver {
    /// Those that write.
    writer: SqlitePool,
    reader: SqlitePool,
    dialect: Arc<Dialect>,
}

impl SqliteDriver {
    /// Opens the file of `url`, creating it and its folder where missing, and brings its tables up to date.
    pub(crate) async fn open(url: &str, namespace: &Namespace) -> Result<Self, StoreError> {
        // sqlx would take anything else for the name of a file.
        let options = Some(url)
            .filter(|url| url.starts_with("sqlite:"))
            .and_then(|url| SqliteConnectOptions::from_str(url).ok())
            .ok_or_else(|| {
                let others = if cfg!(feature = "postgres") {
                    " or postgres://user@host/database"
                } else {
                    ""
                };
                StoreError::new(
                    StoreErrorKind::InvalidUrl,
                    format!(
                        "invalid URL of the store; use a URL such as sqlite://var/punctual.db{others}"
                    ),
                )
            })?;
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
        // One connection writes: SQLite itself would have the second of two sleep and try again.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_mins(1))
            .max_lifetime(None)
            .idle_timeout(None)
            // SQLite ends a transaction by itself when the disk is full, which sqlx does not notice: the connection would
            // refuse every later one.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(|error| fail(error.into()))?;
        let reader = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_lazy_with(options.read_only(true).pragma("cache_size", "-16384"));
        Self::over(writer, reader, namespace, &place).await
    }

    /// Uses the connections of the program around Punctual.
    pub(crate) async fn in_pool(
        pool: SqlitePool,
        namespace: &Namespace,
    ) -> Result<Self, StoreError> {
        let place = pool.connect_options().get_filename().display().to_string();
        Self::over(pool.clone(), pool, namespace, &place).await
    }

    async fn over(
        writer: SqlitePool,
        reader: SqlitePool,
        namespace: &Namespace,
        place: &str,
    ) -> Result<Self, StoreError> {
        let dialect = Arc::new(Dialect::new(namespace.prefix('_'), mark));
        migrations::of_sqlite(&writer, &dialect)
            .await
            .map_err(|error| cannot_open(place, error))?;
        Ok(Self {
            writer,
            reader,
            dialect,
        })
    }

    /// A transaction that takes the write lock at once: one that began by reading could fail when it comes to write.
    pub(crate) async fn begin_transaction(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }
}

fn mark(name: &str, argument: &str) -> Option<String> {
    Some(match name {
        "now" => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)".to_owned(),
        "texts" | "integers" | "json" => {
            let (parameter, name) = argument.split_once(", ")?;
            format!("json_each({parameter}) {name}")
        }
        "bytes" => argument.to_owned(),
        "in_texts" | "in_integers" => {
            let (value, parameter) = argument.split_once(", ")?;
            format!("{value} IN (SELECT value FROM json_each({parameter}))")
        }
        "json_list" => format!("json_group_array({argument})"),
        "greatest" => format!("max({argument})"),
        "unhex" => format!("unhex({argument})"),
        // One transaction writes at a time.
        "for_update" | "for_update_free" | "for_delete" | "for_share" | "for_key_share" => {
            String::new()
        }
        "lock" | "try_lock" => format!("{argument} IS NOT NULL"),
        _ => return None,
    })
}

#[async_trait]
impl Driver for SqliteDriver {
    fn dialect(&self) -> &Arc<Dialect> {
        &self.dialect
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn reader(&self) -> sqlx::Result<Box<dyn Session>> {
        Ok(Box::new(SqliteSession::Pooled(
            self.reader.acquire().await?,
        )))
    }

    async fn writer(&self) -> sqlx::Result<Box<dyn Session>> {
        Ok(Box::new(SqliteSession::Pooled(
            self.writer.acquire().await?,
        )))
    }

    async fn begin(&self) -> sqlx::Result<Box<dyn Session>> {
        let transaction = self.begin_transaction().await?;
        Ok(Box::new(SqliteSession::Transaction(transaction)))
    }

    /// A file belongs to one machine, and mostly to one process: others are found by looking.
    async fn listen(&self, _: &(dyn Fn(Announcement) + Sync)) -> sqlx::Result<Infallible> {
        pending().await
    }
}

/// A connection to a file.
pub(crate) enum SqliteSession<'c> {
    /// For one statement.
    Pooled(PoolConnection<Sqlite>),
    Transaction(Transaction<'static, Sqlite>),
    /// That of the program around Punctual, which commits by itself.
    Host(&'c mut SqliteConnection),
}

impl SqliteSession<'_> {
    fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Transaction(transaction) => transaction,
            Self::Host(connection) => connection,
        }
    }
}

#[async_trait]
impl Session for SqliteSession<'_> {
    async fn execute(&mut self, sql: String, values: Vec<Value>) -> sqlx::Result<u64> {
        let done = query(sql, values).execute(self.connection()).await?;
        Ok(done.rows_affected())
    }

    async fn fetch(&mut self, sql: String, values: Vec<Value>) -> sqlx::Result<Vec<Row>> {
        let rows = query(sql, values).fetch_all(self.connection()).await?;
        rows.iter().map(row).collect()
    }

    async fn insert(&mut self, into: &str, columns: Vec<Column>, then: &str) -> sqlx::Result<u64> {
        let rows = columns.iter().find_map(Column::rows).unwrap_or(1);
        let mut columns: Vec<Values> = columns.into_iter().map(Values::from).collect();
        let mut inserted = 0;
        let mut left = rows;
        while left > 0 {
            let fits = |size: &&usize| **size <= left;
            let size = *ROWS_PER_INSERT.iter().find(fits).unwrap_or(&1);
            left -= size;
            let row = format!("({})", vec!["?"; columns.len()].join(", "));
            let sql = format!(
                "INSERT INTO {into} VALUES {} {then}",
                vec![row; size].join(", ")
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for _ in 0..size {
                for column in &mut columns {
                    query = column.bind(query);
                }
            }
            inserted += query.execute(self.connection()).await?.rows_affected();
        }
        Ok(inserted)
    }

    async fn announce(&mut self, _: Announcement) -> sqlx::Result<()> {
        Ok(())
    }

    async fn commit(self: Box<Self>) -> sqlx::Result<()> {
        match *self {
            Self::Transaction(transaction) => transaction.commit().await,
            Self::Pooled(_) | Self::Host(_) => Ok(()),
        }
    }
}

type Statement = Query<'static, Sqlite, SqliteArguments>;

fn query(sql: String, values: Vec<Value>) -> Statement {
    values
        .into_iter()
        .fold(sqlx::query(AssertSqlSafe(sql)), bind)
}

fn bind(query: Statement, value: Value) -> Statement {
    match value {
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Integers(values) => query.bind(json!(values).to_string()),
        Value::Texts(values) => query.bind(json!(values).to_string()),
    }
}

/// The values of a column, row by row.
enum Values {
    Same(Value),
    Integers(vec::IntoIter<Option<i64>>),
    Texts(vec::IntoIter<Option<String>>),
    Bytes(vec::IntoIter<Option<Vec<u8>>>),
}

impl From<Column> for Values {
    fn from(column: Column) -> Self {
        match column {
            Column::Same(value) => Self::Same(value),
            Column::Integers(values) => Self::Integers(values.into_iter()),
            Column::Texts(values) => Self::Texts(values.into_iter()),
            Column::Bytes(values) => Self::Bytes(values.into_iter()),
        }
    }
}

impl Values {
    fn bind(&mut self, query: Statement) -> Statement {
        match self {
            Self::Same(value) => bind(query, value.clone()),
            Self::Integers(values) => query.bind(values.next().flatten()),
            Self::Texts(values) => query.bind(values.next().flatten()),
            Self::Bytes(values) => query.bind(values.next().flatten()),
        }
    }
}

fn row(row: &SqliteRow) -> sqlx::Result<Row> {
    let cell = |index| {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(Cell::Null);
        }
        match value.type_info().name() {
            "INTEGER" | "BOOLEAN" => row.try_get(index).map(Cell::Integer),
            "TEXT" => row.try_get(index).map(Cell::Text),
            _ => row.try_get_unchecked(index).map(Cell::Bytes),
        }
    };
    let cells: sqlx::Result<Vec<Cell>> = (0..row.columns().len()).map(cell).collect();
    cells.map(Row::new)
}
