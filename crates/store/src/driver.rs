//! A thin layer over the two databases. Statements are written once, with [marks](Dialect) for what differs; values and rows
//! have one form.
//!
//! # Adding a database
//!
//! A file in `driver/` with a [`Dialect`], a [`Driver`] that opens connections, and a [`Session`] that runs statements on one;
//! its migrations; and an arm of `Store::open`. The suites of `testing::contract` then run on it.

mod dialect;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod row;
pub(crate) mod sqlite;
mod value;

use std::{convert::Infallible, fmt, sync::Arc};

use async_trait::async_trait;
use punctual_application::ports::StoreError;

pub(crate) use self::{
    dialect::{Dialect, Namespace},
    row::{Cell, FromRow, Row},
    value::{Column, Value, values},
};
use crate::errors::failed;

#[cfg(test)]
thread_local! {
    /// Number of statements that were sent from this thread, apart from those that insert rows.
    pub(crate) static STATEMENTS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What processes on one database tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// Chunks may have come to wait.
    Chunks,
    /// Batches have ended.
    Batches,
    /// Preferences that processes know to be stored are removed.
    Preferences,
}

/// Opens connections to a database.
#[async_trait]
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    fn dialect(&self) -> &Arc<Dialect>;

    /// Whether several machines share the database, so that one of them leads and all are notified of what the others do.
    fn is_shared(&self) -> bool;

    /// A connection to read with.
    async fn reader(&self) -> sqlx::Result<Box<dyn Session>>;

    /// A connection for one statement that writes.
    async fn writer(&self) -> sqlx::Result<Box<dyn Session>>;

    /// A transaction that may write. It is rolled back when it is dropped.
    async fn begin(&self) -> sqlx::Result<Box<dyn Session>>;

    /// Passes on what is announced, until the connection fails.
    async fn listen(&self, heard: &(dyn Fn(Announcement) + Sync)) -> sqlx::Result<Infallible>;
}

/// Runs statements on one connection.
#[async_trait]
pub(crate) trait Session: Send {
    /// Returns the number of rows that were written.
    async fn execute(&mut self, sql: String, values: Vec<Value>) -> sqlx::Result<u64>;

    async fn fetch(&mut self, sql: String, values: Vec<Value>) -> sqlx::Result<Vec<Row>>;

    /// Inserts rows by the cheapest means: `into` names table and columns, `then` ends the statement.
    async fn insert(&mut self, into: &str, columns: Vec<Column>, then: &str) -> sqlx::Result<u64>;

    /// Tells all processes once the transaction is committed.
    async fn announce(&mut self, announcement: Announcement) -> sqlx::Result<()>;

    async fn commit(self: Box<Self>) -> sqlx::Result<()>;
}

/// A database with the tables of Punctual.
#[derive(Debug, Clone)]
pub(crate) struct Database(Arc<dyn Driver>);

impl Database {
    pub(crate) fn new(driver: impl Driver + 'static) -> Self {
        Self(Arc::new(driver))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn dialect(&self) -> &Arc<Dialect> {
        self.0.dialect()
    }

    pub(crate) async fn begin(&self) -> Result<Connection<'static>, StoreError> {
        let session = self.0.begin().await.map_err(failed)?;
        Ok(self.connection(session))
    }

    /// Runs one statement that writes.
    pub(crate) async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        let session = self.0.writer().await.map_err(failed)?;
        self.connection(session).execute(sql, values).await
    }

    pub(crate) async fn fetch<T: FromRow>(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let session = self.0.reader().await.map_err(failed)?;
        self.connection(session).fetch(sql, values).await
    }

    pub(crate) async fn fetch_optional<T: FromRow>(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.fetch(sql, values).await?.into_iter().next())
    }

    /// Tells all processes at once.
    pub(crate) async fn announce(&self, announcement: Announcement) -> Result<(), StoreError> {
        if self.is_shared() {
            let mut session = self.0.writer().await.map_err(failed)?;
            session.announce(announcement).await.map_err(failed)?;
        }
        Ok(())
    }

    pub(crate) async fn listen(&self, heard: &(dyn Fn(Announcement) + Sync)) -> StoreError {
        let Err(error) = self.0.listen(heard).await;
        failed(error)
    }

    /// A session as a connection to this database: of its own, or of the program around it.
    pub(crate) fn connection<'c>(&self, session: Box<dyn Session + 'c>) -> Connection<'c> {
        let dialect = self.0.dialect().clone();
        Connection {
            session,
            dialect,
            is_shared: self.is_shared(),
        }
    }
}

/// A connection, mostly in a transaction.
pub(crate) struct Connection<'c> {
    session: Box<dyn Session + 'c>,
    dialect: Arc<Dialect>,
    is_shared: bool,
}

impl<'c> Connection<'c> {
    /// A connection to a database whose tables are still being brought up to date.
    pub(crate) fn over(session: impl Session + 'c, dialect: Arc<Dialect>, is_shared: bool) -> Self {
        Self {
            session: Box::new(session),
            dialect,
            is_shared,
        }
    }
}

impl Connection<'_> {
    /// Whether there is a table of ours, such as `@results`.
    pub(crate) async fn has_table(&mut self, table: &str) -> Result<bool, StoreError> {
        let sql = if self.is_shared {
            "SELECT EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass($1))"
        } else {
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1)"
        };
        let table = self.dialect.render(table);
        self.fetch_one(sql, vec![Value::from(table)]).await
    }

    /// Whether other transactions write at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn render(&self, sql: &str) -> String {
        #[cfg(test)]
        STATEMENTS.set(STATEMENTS.get() + 1);
        self.dialect.render(sql)
    }

    /// Returns the number of rows that were written.
    pub(crate) async fn execute(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let sql = self.render(sql);
        self.session.execute(sql, values).await.map_err(failed)
    }

    pub(crate) async fn fetch<T: FromRow>(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = self.render(sql);
        let rows = self.session.fetch(sql, values).await.map_err(failed)?;
        rows.into_iter().map(T::from_row).collect()
    }

    pub(crate) async fn fetch_optional<T: FromRow>(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.fetch(sql, values).await?.into_iter().next())
    }

    pub(crate) async fn fetch_one<T: FromRow>(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<T, StoreError> {
        let row = self.fetch_optional(sql, values).await?;
        row.ok_or_else(|| failed(sqlx::Error::RowNotFound))
    }

    /// Inserts rows, one for each entry of the columns. Returns how many were written.
    pub(crate) async fn insert(
        &mut self,
        into: &str,
        columns: Vec<Column>,
        then: &str,
    ) -> Result<u64, StoreError> {
        let (into, then) = (self.dialect.render(into), self.dialect.render(then));
        let inserted = self.session.insert(&into, columns, &then).await;
        inserted.map_err(failed)
    }

    /// Tells all processes once the transaction is committed.
    pub(crate) async fn announce(&mut self, announcement: Announcement) -> Result<(), StoreError> {
        self.session.announce(announcement).await.map_err(failed)
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.session.commit().await.map_err(failed)
    }
}
