//! The server's life: bind, serve, end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::TimeDelta;
use punctual_application::ports::RunHistory;
use punctual_web::{Access, page::with_favicon, serve};
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    embedding::Embedding,
    names::ServerSettingNames,
    store::{ConfigStore, StoreError},
};

const REMOVAL_INTERVAL: Duration = Duration::from_hours(1);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const READERS_SAVE_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where the data is, as `sqlite://var/config.db` or `postgres://…`.
    pub store_url: String,
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// The administrator's key. Without one, no key is asked for, and only loopback is listened on.
    pub admin_key: Option<SecretString>,
}

/// Failure to start the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Everybody could read and write everything.
    #[error("refusing to listen on {0} without an API key")]
    Open(SocketAddr),
    /// The administrator's key cannot be used.
    #[error("the API key {0}")]
    Key(String),
}

/// A Config Database that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    store: ConfigStore,
    /// `None`: clients on this machine need no key.
    access: Option<Access>,
    names: ServerSettingNames,
    embedding: Embedding,
    warning: watch::Receiver<Option<String>>,
}

impl Server {
    /// Opens the store and begins to listen; calls are answered once it [serves](Self::serve).
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(settings: ServerSettings) -> Result<Self, ServerError> {
        let ServerSettings {
            store_url,
            addr,
            admin_key,
        } = settings;
        let access = admin_key.map(|key| Access::key(key, addr));
        let access = access.transpose().map_err(ServerError::Key)?;
        if access.is_none() && !addr.ip().is_loopback() {
            return Err(ServerError::Open(addr));
        }
        let store = ConfigStore::open(&store_url).await?;
        let listener = TcpListener::bind(addr)
            .await
            .map_err(|source| ServerError::Listen { addr, source })?;
        let addr = listener
            .local_addr()
            .map_err(|source| ServerError::Listen { addr, source })?;
        Ok(Self {
            listener,
            addr,
            store,
            access,
            names: ServerSettingNames::default(),
            embedding: Embedding::default(),
            warning: watch::channel(None).1,
        })
    }

    /// The same, which calls its settings by these names.
    #[must_use]
    pub fn with_names(mut self, names: ServerSettingNames) -> Self {
        self.names = names;
        self
    }

    /// The same, whose readiness also warns of what is in `warning`, such as a failure of the program around it.
    #[must_use]
    pub fn with_warning(mut self, warning: watch::Receiver<Option<String>>) -> Self {
        self.warning = warning;
        self
    }

    /// The same, whose pages other products embed.
    #[must_use]
    pub fn with_embedding(mut self, embedding: Embedding) -> Self {
        self.embedding = embedding;
        self
    }

    /// The same, which keeps old versions of configurations for so many days: [`ConfigStore::keeping_history`].
    #[must_use]
    pub fn with_history_kept(mut self, days: u16) -> Self {
        self.store = self.store.keeping_history(days);
        self
    }

    /// The same, whose pages show what has run for the tenant as `history` knows it: [`Embedding::with_run_history`].
    #[must_use]
    pub fn with_run_history(mut self, history: Arc<dyn RunHistory>) -> Self {
        self.embedding = self.embedding.with_run_history(history);
        self
    }

    /// Address that the server listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its data, for imports before it serves.
    #[must_use]
    pub fn store(&self) -> &ConfigStore {
        &self.store
    }

    /// Answers calls until `stop` is ready; calls under way are ended, waiting ones at once.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let access = self.access.unwrap_or_else(|| {
            let setting = self.names.admin_key;
            info!("{setting} is not set: the Config Database requires no key and listens on loopback only");
            Access::this_machine(setting)
        });
        info!(addr = %self.addr, "The Config Database listens on http://{}", self.addr);
        let stopping = CancellationToken::new();
        let base_path = self.embedding.base_path().to_owned();
        let router = self.store.router_with(
            access,
            stopping.clone(),
            self.names,
            self.embedding,
            self.warning,
        );
        let router = with_favicon(router, &base_path);
        let serving = serve(self.listener, router, async move {
            stop.await;
            stopping.cancel();
        });
        tokio::select! {
            () = serving => Ok(()),
            () = self.store.upkeep() => Ok(()),
        }
    }
}

impl ConfigStore {
    /// Removes what is kept for a time only, and follows what other processes do to the database, for ever. A [`Server`] does it;
    /// a program that keeps a store open without one spawns it.
    pub async fn upkeep(self) {
        tokio::join!(
            remove_expired(self.clone()),
            self.clone().keep_checked(),
            follow(self)
        );
    }
}

/// Removes what is older than it is to be kept, for ever.
async fn remove_expired(store: ConfigStore) {
    loop {
        match store.remove_expired().await {
            Ok(removed) => {
                for (kind, rows) in removed {
                    info!(kind, rows, "Removed {rows} old records: {kind}");
                }
            }
            Err(failure) => error!(error = %failure, "Failed to remove old records: {failure}"),
        }
        tokio::time::sleep(REMOVAL_INTERVAL).await;
    }
}

/// Follows what other processes do to the database, for ever: at once where it tells, else every second.
async fn follow(store: ConfigStore) {
    let mut notifications = store.notifications().await;
    let mut saved_at = crate::store::now();
    loop {
        let _ = tokio::time::timeout(POLL_INTERVAL, notifications.next()).await;
        if let Err(failure) = store.refresh().await {
            error!(error = %failure, "The store does not answer: {failure}");
            tokio::time::sleep(POLL_INTERVAL).await;
            continue;
        }
        let now = crate::store::now();
        if now - saved_at >= READERS_SAVE_INTERVAL {
            if let Err(failure) = store.save_readers(saved_at).await {
                error!(error = %failure, "Failed to record the readers of the feed: {failure}");
            }
            saved_at = now;
        }
    }
}
