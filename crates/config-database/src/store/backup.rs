//! A copy of a `SQLite` store that is in use.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    ConfigStore, StoreError,
    dialect::Dialect,
    open::{ACQUIRE_TIMEOUT, file_of},
};

impl ConfigStore {
    /// Copies the `SQLite` store at `url` to the file `to`, which must be empty or not there, and checks the copy. Other processes
    /// may use the store meanwhile: the copy has all that was committed when it began.
    ///
    /// # Errors
    /// The URL is not of a `SQLite` file, the file cannot be read, or the copy cannot be written or is damaged.
    pub async fn backup(url: &str, to: &Path) -> Result<(), StoreError> {
        if Dialect::of(url) != Some(Dialect::Sqlite) {
            return Err(StoreError::new(
                "the store is not a SQLite file; use the backups of PostgreSQL, such as pg_dump",
            ));
        }
        let place = file_of(url);
        let source = SqliteConnectOptions::new()
            .filename(place)
            .busy_timeout(ACQUIRE_TIMEOUT);
        let opened = SqliteConnection::connect_with(&source).await;
        let mut connection = opened.map_err(|error| {
            StoreError::new(format!("cannot open the Config Database {place}: {error}"))
        })?;
        sqlx::query("VACUUM INTO ?1")
            .bind(to.display().to_string())
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        let copy = SqliteConnectOptions::new().filename(to).read_only(true);
        let mut connection = SqliteConnection::connect_with(&copy).await?;
        let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        if found != ["ok"] {
            let found: Vec<String> = found.into_iter().take(3).collect();
            let found = found.join("; ");
            return Err(StoreError::new(format!("the copy is damaged: {found}")));
        }
        Ok(())
    }
}
