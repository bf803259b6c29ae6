//! What only `PostgreSQL` does.

use std::{convert::Infallible, io::ErrorKind, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{StoreError, StoreErrorKind};
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, PgPool, Postgres, Row as _, Transaction, TypeInfo,
    ValueRef,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions, PgRow},
    query::Query,
};

use super::{Announcement, Cell, Column, Dialect, Driver, Namespace, Row, Session, Value};
use crate::{
    errors::{BoxError, cannot_open},
    migrations,
};

/// A statement that takes longer has lost its server, or waits for a lock that is never released.
const STATEMENT_TIMEOUT: &str = "60s";
/// The server itself ends a transaction whose client has forgotten it.
const IDLE_TRANSACTION_TIMEOUT: &str = "30s";
/// How long to wait for a connection: longer than a server takes to restart.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// The schema, where the URL names none.
const DEFAULT_SCHEMA: &str = "punctual";

/// The connections to a server.
#[derive(Debug)]
pub(crate) struct PostgresDriver {
    /// Those that write.
    writer: PgPool,
    reader: PgPool,
    dialect: Arc<Dialect>,
    schema: String,
}

impl PostgresDriver {
    /// The schema of the tables.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Connects to the database of `url`, as `postgres://user@host/database`, and brings its tables up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let (url, namespace) = split_schema(url)?;
        let options = PgConnectOptions::from_str(&url).map_err(|_| {
            StoreError::new(
                StoreErrorKind::InvalidUrl,
                "invalid URL of the store; use a URL such as postgres://user:password@host:5432/database",
            )
        })?;
        let place = place(&options);
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
        let writer = pool(12)
            .connect_with(options.clone())
            .await
            .map_err(|error| fail(error.into()))?;
        let reader = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Self::over(writer, reader, &namespace, &place).await
    }

    /// Uses the connections of the program around Punctual.
    pub(crate) async fn in_pool(pool: PgPool, namespace: &Namespace) -> Result<Self, StoreError> {
        let place = place(&pool.connect_options());
        migrations::check_role(&pool, namespace)
            .await
            .map_err(|error| cannot_open(&place, error))?;
        Self::over(pool.clone(), pool, namespace, &place).await
    }

    async fn over(
        writer: PgPool,
        reader: PgPool,
        namespace: &Namespace,
        place: &str,
    ) -> Result<Self, StoreError> {
        let dialect = Arc::new(Dialect::new(namespace.prefix('.'), mark));
        migrations::of_postgres(&writer, namespace, &dialect)
            .await
            .map_err(|error| cannot_open(place, error))?;
        Ok(Self {
            writer,
            reader,
            dialect,
            schema: namespace.as_str().to_owned(),
        })
    }

    /// Begins a transaction. A caller that is dropped meanwhile leaves none open: the task goes on, and ends it.
    pub(crate) async fn begin_transaction(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let pool = self.writer.clone();
        let beginning = tokio::spawn(async move { pool.begin().await });
        beginning.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// Where processes tell each other of this.
    fn channel(&self, announcement: Announcement) -> String {
        channel(&self.dialect, announcement)
    }
}

fn channel(dialect: &Dialect, announcement: Announcement) -> String {
    let of_tables = dialect.prefix();
    match announcement {
        Announcement::Chunks => format!("{of_tables}chunks"),
        Announcement::Batches => format!("{of_tables}batches"),
        Announcement::Preferences => format!("{of_tables}preferences"),
    }
}

/// A URL without its parameter `schema`, and the schema that it names.
fn split_schema(url: &str) -> Result<(String, Namespace), StoreError> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let (schemas, others): (Vec<&str>, Vec<&str>) =
        parameters.partition(|parameter| parameter.starts_with("schema="));
    let schema = schemas.last().and_then(|schema| schema.split_once('='));
    let namespace = Namespace::new(schema.map_or(DEFAULT_SCHEMA, |(_, name)| name))?;
    Ok((format!("{address}?{}", others.join("&")), namespace))
}

fn place(options: &PgConnectOptions) -> String {
    format!("at {}:{}", options.get_host(), options.get_port())
}

fn mark(name: &str, argument: &str) -> Option<String> {
    Some(match name {
        "now" => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)".to_owned(),
        "texts" => list(argument, "text")?,
        "integers" => list(argument, "bigint")?,
        "json" => {
            let (parameter, name) = argument.split_once(", ")?;
            format!("json_array_elements({parameter}::json) {name}(value)")
        }
        "in_texts" => any(argument, "text")?,
        "in_integers" => any(argument, "bigint")?,
        "bytes" => format!("{argument} COLLATE \"C\""),
        "json_list" => format!("coalesce(json_agg({argument})::text, '[]')"),
        "greatest" => format!("greatest({argument})"),
        "unhex" => format!("decode({argument}, 'hex')"),
        "for_update" => format!("FOR NO KEY UPDATE OF {argument}"),
        "for_update_free" => format!("FOR NO KEY UPDATE OF {argument} SKIP LOCKED"),
        "for_delete" => format!("FOR UPDATE OF {argument}"),
        "for_key_share" => format!("FOR KEY SHARE OF {argument}"),
        "for_share" => format!("FOR SHARE OF {argument}"),
        "lock" => {
            format!("pg_advisory_xact_lock(hashtextextended({argument}, 0))::text IS NOT NULL")
        }
        "try_lock" => format!("pg_try_advisory_xact_lock(hashtextextended({argument}, 0))"),
        _ => return None,
    })
}

fn any(argument: &str, of: &str) -> Option<String> {
    let (value, parameter) = argument.split_once(", ")?;
    Some(format!("{value} = ANY({parameter}::{of}[])"))
}

fn list(argument: &str, of: &str) -> Option<String> {
    let (parameter, name) = argument.split_once(", ")?;
    Some(format!("unnest({parameter}::{of}[]) {name}(value)"))
}

#[async_trait]
impl Driver for PostgresDriver {
    fn dialect(&self) -> &Arc<Dialect> {
        &self.dialect
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn reader(&self) -> sqlx::Result<Box<dyn Session>> {
        self.session(&self.reader).await
    }

    async fn writer(&self) -> sqlx::Result<Box<dyn Session>> {
        self.session(&self.writer).await
    }

    async fn begin(&self) -> sqlx::Result<Box<dyn Session>> {
        Ok(Box::new(PostgresSession {
            connection: Connection::Transaction(self.begin_transaction().await?),
            dialect: self.dialect.clone(),
        }))
    }

    async fn listen(&self, heard: &(dyn Fn(Announcement) + Sync)) -> sqlx::Result<Infallible> {
        let chunks = self.channel(Announcement::Chunks);
        let batches = self.channel(Announcement::Batches);
        let preferences = self.channel(Announcement::Preferences);
        let mut listener = PgListener::connect_with(&self.writer).await?;
        let channels = [chunks.as_str(), &batches, &preferences];
        listener.listen_all(channels).await?;
        loop {
            let notification = listener.recv().await?;
            let channel = notification.channel();
            heard(if channel == chunks {
                Announcement::Chunks
            } else if channel == preferences {
                Announcement::Preferences
            } else {
                Announcement::Batches
            });
        }
    }
}

impl PostgresDriver {
    async fn session(&self, pool: &PgPool) -> sqlx::Result<Box<dyn Session>> {
        Ok(Box::new(PostgresSession {
            connection: Connection::Pooled(pool.acquire().await?),
            dialect: self.dialect.clone(),
        }))
    }
}

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

/// A connection to a server.
pub(crate) struct PostgresSession<'c> {
    connection: Connection<'c>,
    dialect: Arc<Dialect>,
}

enum Connection<'c> {
    /// For one statement.
    Pooled(PoolConnection<Postgres>),
    Transaction(Transaction<'static, Postgres>),
    /// That of the program around Punctual, which commits by itself.
    Host(&'c mut PgConnection),
}

impl<'c> PostgresSession<'c> {
    /// On the connection of the program around Punctual.
    pub(crate) fn of_host(connection: &'c mut PgConnection, dialect: Arc<Dialect>) -> Self {
        let connection = Connection::Host(connection);
        Self {
            connection,
            dialect,
        }
    }

    fn connection(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Connection::Pooled(connection) => connection,
            Connection::Transaction(transaction) => transaction,
            Connection::Host(connection) => connection,
        }
    }
}

#[async_trait]
impl Session for PostgresSession<'_> {
    async fn execute(&mut self, sql: String, values: Vec<Value>) -> sqlx::Result<u64> {
        let done = query(sql, values).execute(self.connection()).await?;
        Ok(done.rows_affected())
    }

    async fn fetch(&mut self, sql: String, values: Vec<Value>) -> sqlx::Result<Vec<Row>> {
        let rows = query(sql, values).fetch_all(self.connection()).await?;
        rows.iter().map(row).collect()
    }

    /// The columns travel as arrays.
    async fn insert(&mut self, into: &str, columns: Vec<Column>, then: &str) -> sqlx::Result<u64> {
        let (mut selected, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (number, column) in columns
            .iter()
            .enumerate()
            .map(|(n, column)| (n + 1, column))
        {
            let of = match column {
                Column::Same(_) => {
                    selected.push(format!("${number}"));
                    continue;
                }
                Column::Integers(_) => "bigint",
                Column::Texts(_) => "text",
                Column::Bytes(_) => "bytea",
            };
            selected.push(format!("c{number}"));
            names.push(format!("c{number}"));
            arrays.push(format!("${number}::{of}[]"));
        }
        let sql = format!(
            "INSERT INTO {into} SELECT {} FROM unnest({}) AS new ({}) {then}",
            selected.join(", "),
            arrays.join(", "),
            names.join(", ")
        );
        let query =
            columns.into_iter().fold(
                sqlx::query(AssertSqlSafe(sql)),
                |query, column| match column {
                    Column::Same(value) => bind(query, value),
                    Column::Integers(values) => query.bind(values),
                    Column::Bytes(values) => query.bind(values),
                    Column::Texts(values) => {
                        let values = values.into_iter().map(|text| text.map(storable));
                        query.bind(values.collect::<Vec<_>>())
                    }
                },
            );
        Ok(query.execute(self.connection()).await?.rows_affected())
    }

    async fn announce(&mut self, announcement: Announcement) -> sqlx::Result<()> {
        let channel = channel(&self.dialect, announcement);
        sqlx::query("SELECT pg_notify($1, '')")
            .bind(channel)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> sqlx::Result<()> {
        match self.connection {
            Connection::Transaction(transaction) => transaction.commit().await,
            Connection::Pooled(_) | Connection::Host(_) => Ok(()),
        }
    }
}

type Statement = Query<'static, Postgres, PgArguments>;

fn query(sql: String, values: Vec<Value>) -> Statement {
    values
        .into_iter()
        .fold(sqlx::query(AssertSqlSafe(sql)), bind)
}

fn bind(query: Statement, value: Value) -> Statement {
    match value {
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(value.map(storable)),
        Value::Integers(values) => query.bind(values),
        Value::Texts(values) => query.bind(values),
    }
}

/// `PostgreSQL` keeps every character but one.
fn storable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

fn row(row: &PgRow) -> sqlx::Result<Row> {
    let cell = |index| {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(Cell::Null);
        }
        match value.type_info().name() {
            "INT8" => row.try_get(index).map(Cell::Integer),
            "INT4" => row
                .try_get(index)
                .map(|value: i32| Cell::Integer(value.into())),
            "INT2" => row
                .try_get(index)
                .map(|value: i16| Cell::Integer(value.into())),
            "BOOL" => row
                .try_get(index)
                .map(|value: bool| Cell::Integer(value.into())),
            "BYTEA" => row.try_get(index).map(Cell::Bytes),
            _ => row.try_get(index).map(Cell::Text),
        }
    };
    let cells: sqlx::Result<Vec<Cell>> = (0..row.columns().len()).map(cell).collect();
    cells.map(Row::new)
}
