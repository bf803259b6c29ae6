//! A copy of a `SQLite` store that is in use.

use std::{path::Path, str::FromStr, time::Duration};

use punctual_application::ports::{StoreError, StoreErrorKind};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::errors::{cannot_open, failed};

/// How long another process may hold the lock on the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Copies the `SQLite` store at `url` to the file `to`, which must be empty or not there, and checks the copy. Other processes may
/// use the store meanwhile: the copy has all that was committed when it began. The store is not brought up to date before.
///
/// # Errors
/// The URL is not of a `SQLite` file, the file cannot be read, or the copy cannot be written or is damaged.
pub async fn backup(url: &str, to: &Path) -> Result<(), StoreError> {
    let source = Some(url)
        .filter(|url| url.starts_with("sqlite:"))
        .and_then(|url| SqliteConnectOptions::from_str(url).ok())
        .ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::InvalidUrl,
                "the store is not a SQLite file; use the backups of PostgreSQL, such as pg_dump",
            )
        })?;
    let place = source.get_filename().display().to_string();
    let source = source.create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
    let opened = SqliteConnection::connect_with(&source).await;
    let mut connection = opened.map_err(|error| cannot_open(&place, error))?;
    let copied = sqlx::query("VACUUM INTO ?1")
        .bind(to.display().to_string())
        .execute(&mut connection)
        .await;
    copied.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    check(to).await
}

/// Whether a copy is whole.
async fn check(copy: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(copy).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .map_err(failed)?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    if found != ["ok"] {
        let found: Vec<String> = found.into_iter().take(3).collect();
        return Err(StoreError::new(
            StoreErrorKind::Corrupt,
            format!("the copy is damaged: {}", found.join("; ")),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::Fence;
    use punctual_domain::KnownMarks;

    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn a_copy_has_what_was_committed_and_is_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
        let store = Store::open(&url("p.db")).await.unwrap();
        let now = "2026-03-01T09:00:00Z".parse().unwrap();
        let known = KnownMarks::default();
        store.mark(&known, now).await.unwrap();
        let copy = folder.path().join("it's a copy.db");
        backup(&url("p.db"), &copy).await.unwrap();
        let original = store.mark(&known, now).await.unwrap();
        let copied = Store::open(&format!("sqlite://{}", copy.display())).await;
        assert_eq!(copied.unwrap().mark(&known, now).await.unwrap(), original);

        let again = backup(&url("p.db"), &copy).await.unwrap_err();
        assert!(again.to_string().contains("already exists"), "{again}");
        let missing = backup(&url("none.db"), &folder.path().join("x")).await;
        assert!(missing.unwrap_err().to_string().contains("none.db"));
        assert!(!folder.path().join("none.db").exists());
        let server = backup("postgres://a@b/c", &folder.path().join("x")).await;
        assert_eq!(server.unwrap_err().kind(), StoreErrorKind::InvalidUrl);
    }
}
