//! Connections of the program around the store.

use std::fmt;

use punctual_application::ports::{StoreError, StoreErrorKind};
#[cfg(feature = "postgres")]
use sqlx::PgConnection;
use sqlx::SqliteConnection;

#[cfg(feature = "postgres")]
use crate::driver::postgres::PostgresSession;
use crate::driver::{Database, Session, sqlite::SqliteSession};

/// A connection of the program around the store, in a transaction: `(&mut *transaction).into()`.
pub struct HostConnection<'c>(Kind<'c>);

enum Kind<'c> {
    Sqlite(&'c mut SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(&'c mut PgConnection),
}

impl fmt::Debug for HostConnection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostConnection").finish_non_exhaustive()
    }
}

impl<'c> From<&'c mut SqliteConnection> for HostConnection<'c> {
    fn from(connection: &'c mut SqliteConnection) -> Self {
        Self(Kind::Sqlite(connection))
    }
}

#[cfg(feature = "postgres")]
impl<'c> From<&'c mut PgConnection> for HostConnection<'c> {
    fn from(connection: &'c mut PgConnection) -> Self {
        Self(Kind::Postgres(connection))
    }
}

impl<'c> HostConnection<'c> {
    /// The connection as a session of the store in `database`.
    pub(crate) fn session(self, database: &Database) -> Result<Box<dyn Session + 'c>, StoreError> {
        match self.0 {
            Kind::Sqlite(connection) if !database.is_shared() => {
                Ok(Box::new(SqliteSession::Host(connection)))
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres(connection) if database.is_shared() => {
                let dialect = database.dialect().clone();
                Ok(Box::new(PostgresSession::of_host(connection, dialect)))
            }
            _ => Err(StoreError::new(
                StoreErrorKind::InvalidUrl,
                "the connection is of another kind of database than the store; pass one of the same database",
            )),
        }
    }
}
