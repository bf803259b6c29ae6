//! The Config Database as the agent sees it: a snapshot of a feature, the changes after it, and single
//! tenants. An error is never an empty answer: 'unknown' and 'no tenants' are different things.
//!
//! Implement it over your own tables when you have no Config Database to call: a snapshot is a query, and the feed needs a
//! growing id for each change (a table of changes, or a sequence). Two promises matter most: the cursor of a snapshot
//! leaves no change out, and a tenant's newest change comes last. A feed that cannot keep them answers
//! [`ConfigErrorKind::CursorLost`]; the caller reads a new snapshot then. `testing::contract::config_database` checks it
//! all. A panic in `snapshot` or `changes`, an hour without the whole snapshot, or ten minutes beyond `wait` without an
//! answer is an error of that call; it is retried. `preferences` has no such guard: bound it yourself.
//!
//! Up to some hundred thousand tenants, make a [`Snapshot`] and turn it `into` pages. Beyond that, give
//! [`SnapshotPages::new`] a stream that reads your table page by page, so that no one holds all of it in memory.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use punctual_domain::{
    Change, FeatureType, FieldError, FieldErrors, JobDefaults, JobId, PreferenceRecord, TenantId,
};
use serde::{Deserialize, Serialize};

use super::cause::Cause;

/// Reads preferences.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ConfigDatabase: Send + Sync {
    /// Every stored preference of a feature, page by page, with the place in the feed from which changes follow. An error
    /// may also come instead of a page: the snapshot ends there, and the caller takes a new one.
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError>;

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

    /// Tenants that were erased, have nothing stored since and may have had preferences for the feature, as far back as the feed
    /// reaches. What is held of them elsewhere is to be erased as well. The feed brings each of them as
    /// [`ChangeKind::Erased`](punctual_domain::ChangeKind::Erased); a reader that was not there then finds them here. A Config Database
    /// that erases no tenant has none.
    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        let _ = feature_type;
        Ok(Vec::new())
    }

    /// Publishes what the jobs of a feature make of what a preference leaves out, by job, so that pages can show it and find out
    /// with it when a preference runs. A Config Database that shows none need not take it.
    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        let _ = (feature_type, jobs);
        Ok(())
    }

    /// Forgets what is remembered here of tenants who were erased at these times, in memory and on disk, in all features. An erasure that
    /// the feed of a feature has brought is carried out there already: what the feed brings after it stays. What the Config Database itself
    /// holds is erased there.
    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        let _ = erased;
        Ok(())
    }

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
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
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

    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        (**self).erased(feature_type).await
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        (**self).publish(feature_type, jobs).await
    }

    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        (**self).forget(erased).await
    }

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        (**self).unreadable(feature_type)
    }
}

/// A tenant that was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedTenant {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Time of the erasure.
    pub erased_at: DateTime<Utc>,
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

/// All preferences of a feature, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// One per tenant.
    pub records: Vec<PreferenceRecord>,
    /// Position in the feed right after this snapshot.
    pub cursor: Cursor,
    /// `None`: it was read just now. Otherwise it cannot be read, and this is what was known then.
    pub known_at: Option<DateTime<Utc>>,
}

/// All preferences of a feature, as a stream of pages.
///
/// A tenant who moves from one page to another while they are read may come twice, or not at all: the changes after
/// [`cursor`](Self::cursor) bring what is true.
pub struct SnapshotPages {
    /// Position in the feed from which every change that the pages may lack follows. It is taken before the first page is
    /// read.
    pub cursor: Cursor,
    /// `None`: the pages are read now. Otherwise they cannot be read, and they are what was known then.
    pub known_at: Option<DateTime<Utc>>,
    pages: BoxStream<'static, Result<Vec<PreferenceRecord>, ConfigDatabaseError>>,
}

impl SnapshotPages {
    /// The pages of a stream; some thousand records each serve well. The stream ends with its first error.
    pub fn new(
        cursor: Cursor,
        pages: impl Stream<Item = Result<Vec<PreferenceRecord>, ConfigDatabaseError>> + Send + 'static,
    ) -> Self {
        Self {
            cursor,
            known_at: None,
            pages: pages.boxed(),
        }
    }

    /// The same, known at that time and not read now.
    #[must_use]
    pub fn known_at(mut self, known_at: DateTime<Utc>) -> Self {
        self.known_at = Some(known_at);
        self
    }

    /// The same, with only those records that `keeps` says.
    #[must_use]
    pub fn retain(mut self, keeps: impl Fn(&PreferenceRecord) -> bool + Send + 'static) -> Self {
        let kept = self.pages.map_ok(move |mut page| {
            page.retain(|record| keeps(record));
            page
        });
        self.pages = kept.boxed();
        self
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// The snapshot cannot be read to its end. There are no pages after this one.
    pub async fn next(&mut self) -> Result<Option<Vec<PreferenceRecord>>, ConfigDatabaseError> {
        let next = self.pages.next().await.transpose();
        if next.is_err() {
            self.pages = stream::empty().boxed();
        }
        next
    }

    /// All pages in memory.
    ///
    /// # Errors
    /// The snapshot cannot be read to its end.
    pub async fn collect(mut self) -> Result<Snapshot, ConfigDatabaseError> {
        let mut records = Vec::new();
        while let Some(page) = self.next().await? {
            records.extend(page);
        }
        Ok(Snapshot {
            records,
            cursor: self.cursor,
            known_at: self.known_at,
        })
    }
}

impl From<Snapshot> for SnapshotPages {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            cursor: snapshot.cursor,
            known_at: snapshot.known_at,
            pages: stream::iter([Ok(snapshot.records)]).boxed(),
        }
    }
}

impl fmt::Debug for SnapshotPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotPages")
            .field("cursor", &self.cursor)
            .field("known_at", &self.known_at)
            .finish_non_exhaustive()
    }
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
