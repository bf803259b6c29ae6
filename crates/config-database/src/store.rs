//! The store: configurations, the preferences in them, the feed of changes, keys and sessions, on `SQLite` or
//! `PostgreSQL`. Both speak the same SQL here; [`dialect`] holds what differs. There is one writer at a time:
//! every write goes through one transaction that begins with the feed's lock and also writes the feed, so
//! changes become visible in the order of their ids.

mod any_config;
mod api_keys;
mod backup;
mod compatibility;
mod configs;
mod dialect;
mod drivers;
mod effective;
mod erasing;
mod features;
mod feed;
mod groups;
mod links;
mod members;
mod notifications;
mod open;
mod organizations;
mod quarantine;
mod readers;
mod retention;
mod schemas;
mod sessions;
mod stored;
mod switching;
mod write_failure;
mod writing;

use std::sync::{Arc, atomic::AtomicU64};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use secrecy::SecretString;
use sqlx::{Any, AnyPool, Transaction};
use tokio::sync::{Notify, watch};

use self::{
    dialect::Dialect, features::Features, feed::FeedState, readers::Readers, schemas::Schemas,
    write_failure::WriteFailure,
};

pub(crate) use any_config::{AnyConfig, AnyConfigId};
pub use api_keys::{ApiKey, KeyError, NewKey};
pub(crate) use configs::{ChangeError, ConfigId, Expected, PastConfig, StoredConfig, Versions};
pub(crate) use erasing::ErasedPage;
pub use erasing::{Erased, Erasure, InvalidReason, Reason, TenantExport};
pub(crate) use features::{KnownFeature, jobs_json, read_feature};
pub(crate) use feed::{FeedError, FeedPage};
pub(crate) use groups::{GroupsError, GroupsPage, RARELY_SHARED};
pub(crate) use organizations::{ListedOrganization, Organization, OrganizationConfig};
pub(crate) use quarantine::{InvalidPreference, InvalidPreferences};
pub(crate) use readers::READER_EXPIRES_AFTER;
pub use retention::Expiring;
pub(crate) use schemas::SchemaError;
pub(crate) use switching::Switch;
pub(crate) use writing::Edit;

/// The store failed; nothing was half done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    message: String,
    cause: Cause,
}

/// What has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Url,
    Database,
    Other,
}

impl StoreError {
    pub(crate) fn new(error: impl std::fmt::Display) -> Self {
        Self {
            message: error.to_string(),
            cause: Cause::Other,
        }
    }

    fn invalid_url() -> Self {
        Self {
            message: "invalid URL of the store; use a URL such as sqlite://var/config.db or \
                      postgres://user:password@host/name"
                .to_owned(),
            cause: Cause::Url,
        }
    }

    /// Whether the URL is not that of a store.
    #[must_use]
    pub fn is_invalid_url(&self) -> bool {
        self.cause == Cause::Url
    }

    /// Whether the database of an open store refuses to work, because the disk is full, for example.
    #[must_use]
    pub fn is_of_database(&self) -> bool {
        self.cause == Cause::Database
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self {
            message: error.to_string(),
            cause: Cause::Database,
        }
    }
}

/// The Config Database's data.
#[derive(Debug, Clone)]
pub struct ConfigStore {
    pool: AnyPool,
    dialect: Dialect,
    url: SecretString,
    schemas: Schemas,
    features: Features,
    /// Number of changes that this process has made to schemas and features, each counted under the write lock of what it changes.
    rule_changes: Arc<AtomicU64>,
    /// Wakes what checks the stored preferences.
    rules_changed: Arc<Notify>,
    readers: Readers,
    write_failure: WriteFailure,
    /// Where the feed was seen to stand; wakes those who wait for a change.
    seen: watch::Sender<FeedState>,
    /// How long old versions of configurations are kept.
    keep_history: TimeDelta,
}

impl ConfigStore {
    async fn begin(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, Any>, StoreError> {
        let pool = self.pool.clone();
        // In a task of its own: callers go away in mid-call, and sqlx 0.9.0 leaks a transaction whose beginning is
        // cancelled. The task completes the beginning, and rolls back a transaction that its caller no longer takes.
        let begun = tokio::spawn(async move { pool.begin_with(statement).await });
        Ok(begun.await.map_err(StoreError::new)??)
    }
}

/// The server's time, in the precision the store keeps.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock read of the Config Database"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

fn instant(micros: i64) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| StoreError::new(format!("{micros} µs is not a valid timestamp")))
}
