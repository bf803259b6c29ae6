//! The Config Database as the agent sees it: a snapshot of a feature, the changes after it, and single
//! tenants. An error is never an empty answer: 'unknown' and 'no tenants' are different things.
//!
//! Implement it over your own tables when you have no Config Database to call: a snapshot is a query, and the feed needs a
//! growing id for each change (a table of changes, or a sequence). Two promises matter most: the cursor of a snapshot
//! leaves no change out, and a tenant's newest change comes last. A feed that cannot keep them answers
//! [`ConfigErrorKind::CursorLost`]; the caller reads a new snapshot then. `testing::contract::config_database` checks it
//! all. A panic in `snapshot` or `changes`, an hour without the snapshot, or ten minutes beyond `wait` without an answer is
//! an error of that call; it is retried. `preferences` has no such guard: bound it yourself.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{Change, FeatureType, FieldError, FieldErrors, PreferenceRecord, TenantId};
use serde::{Deserialize, Serialize};

use super::cause::Cause;

/// Reads preferences.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ConfigDatabase: Send + Sync {
    /// Every stored preference of a feature, with the place in the feed from which changes follow.
    async fn snapshot(&self, feature_type: &FeatureType) -> Result<Snapshot, ConfigDatabaseError>;

    /// The changes after `cursor`, oldest first. Waits up to `wait` for one where the server can; may return
    /// sooner and without any.
    ///
    /// # Errors
    /// [`ConfigErrorKind::CursorLost`] when the feed cannot be followed from there: take a new snapshot.
    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError>;

    /// The stored preferences of these tenants, from a cache where it is fresh. A tenant without one is
    /// missing from the answer; when one cannot be known, the whole call fails.
    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError>;

    /// Entries that the reads so far could not read. They are left out: a snapshot does not contain them, and a
    /// change that cannot be read is given as the tenant's removal. Each stays listed until a later read brings one
    /// that can be read.
    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        let _ = feature_type;
        Arc::default()
    }
}

#[async_trait]
impl<T: ConfigDatabase + ?Sized> ConfigDatabase for Arc<T> {
    async fn snapshot(&self, feature_type: &FeatureType) -> Result<Snapshot, ConfigDatabaseError> {
        (**self).snapshot(feature_type).await
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        (**self).changes(feature_type, cursor, wait).await
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        (**self).preferences(feature_type, tenants).await
    }

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        (**self).unreadable(feature_type)
    }
}

/// Entries of a Config Database's answers that cannot be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unreadable {
    /// Those that name a tenant.
    pub tenants: BTreeMap<TenantId, FieldErrors>,
    /// Those that name none; of many, the first.
    pub others: Vec<FieldError>,
    /// Number of entries beyond those listed.
    pub more: usize,
}

impl Unreadable {
    /// Number of entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tenants.len() + self.others.len() + self.more
    }
}

/// All preferences of a feature at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// One per tenant.
    pub records: Vec<PreferenceRecord>,
    /// Position in the feed right after this snapshot.
    pub cursor: Cursor,
    /// `None`: it was read just now. Otherwise it cannot be read, and this is what was known then.
    pub known_at: Option<DateTime<Utc>>,
}

/// A place in the feed of changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The id of the last change seen.
    pub since_id: u64,
    /// Which database the ids belong to, where the server says.
    pub epoch: Option<String>,
}

/// A stretch of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePage {
    /// The changes, oldest first.
    pub changes: Vec<Change>,
    /// Position in the feed right after this page.
    pub cursor: Cursor,
    /// Whether more are waiting already.
    pub has_more: bool,
    /// Whether the server held the call open for a change, so that calling again at once is cheap.
    pub waited: bool,
}

/// Why preferences cannot be read. Carries no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ConfigDatabaseError {
    /// Kind of the failure; it decides whether a retry makes sense.
    pub kind: ConfigErrorKind,
    /// What happened, and where to look next.
    pub message: String,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    #[source]
    cause: Option<Cause>,
}

impl ConfigDatabaseError {
    /// An error of this kind; `message` says what happened, and where to look next.
    pub fn new(kind: ConfigErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            cause: None,
        }
    }

    /// The same, with the least time until the next call.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = retry_after.into();
        self
    }

    /// The same, with the error that caused it. `message` should contain its text, without secrets.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }
}

/// The kinds of trouble a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigErrorKind {
    /// Not reachable, too slow, overloaded or broken for now.
    Unavailable,
    /// The key is missing or not accepted.
    Unauthorized,
    /// The answer could not be understood.
    Malformed,
    /// The feed cannot be followed from this cursor.
    CursorLost,
    /// The answer is well-formed and hard to believe: most tenants are gone at once.
    Suspicious,
}
