//! News from other processes that write to the same database: PostgreSQL tells at once, SQLite does not.

use secrecy::ExposeSecret;
use sqlx::postgres::PgListener;
use tracing::warn;

use super::{ConfigStore, dialect::Dialect};

/// What tells of changes.
pub(crate) struct News(Option<PgListener>);

impl ConfigStore {
    pub(crate) async fn news(&self) -> News {
        if self.dialect != Dialect::Postgres {
            return News(None);
        }
        let listening = async {
            let mut listener = PgListener::connect(self.url.expose_secret()).await?;
            listener.listen("punctual_config_changes").await?;
            Ok::<_, sqlx::Error>(listener)
        };
        News(listening.await.inspect_err(told_late).ok())
    }
}

impl News {
    /// The next change that somebody made, if it is told.
    pub(crate) async fn next(&mut self) {
        match &mut self.0 {
            // The listener connects again by itself.
            Some(listener) => {
                if let Err(error) = listener.recv().await {
                    told_late(&error);
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending().await,
        }
    }
}

fn told_late(error: &sqlx::Error) {
    warn!(%error, "Changes made by other replicas are seen up to a second late: {error}");
}
