//! Notifications of changes that other processes make in the same database. `PostgreSQL` sends them, `SQLite` does not.

use secrecy::ExposeSecret;
use sqlx::postgres::PgListener;
use tracing::warn;

use super::{ConfigStore, dialect::Dialect};

/// Source of change notifications.
pub(crate) struct ChangeNotifications(Option<PgListener>);

impl ConfigStore {
    pub(crate) async fn notifications(&self) -> ChangeNotifications {
        if self.dialect != Dialect::Postgres {
            return ChangeNotifications(None);
        }
        let listening = async {
            let mut listener = PgListener::connect(self.url.expose_secret()).await?;
            listener.listen("punctual_config_changes").await?;
            Ok::<_, sqlx::Error>(listener)
        };
        ChangeNotifications(listening.await.inspect_err(warn_of_delay).ok())
    }
}

impl ChangeNotifications {
    /// Waits for the next notification of a change; for ever where the database sends none.
    pub(crate) async fn next(&mut self) {
        match &mut self.0 {
            // The listener connects again by itself.
            Some(listener) => {
                if let Err(error) = listener.recv().await {
                    warn_of_delay(&error);
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending().await,
        }
    }
}

fn warn_of_delay(error: &sqlx::Error) {
    warn!(%error, "Failed to listen for changes, polling every second instead: {error}");
}
