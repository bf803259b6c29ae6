//! A Config Database that remembers: what was last known good is kept on disk, so that an agent that starts
//! while the Config Database is down goes on with it, and a snapshot that is hard to believe is held back
//! until a second read confirms it. It wraps any other [`ConfigDatabase`].

mod journal;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    ActiveFailures, Operation,
    ports::{
        ChangePage, Clock, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot,
    },
};
use punctual_domain::{ChangeKind, FeatureType, PreferenceRecord, TenantId};
use tokio::{sync::Mutex, time::Instant};
use tracing::{error, warn};

use self::journal::Journal;

/// With fewer tenants than this, losing most of them is nothing unusual.
const SMALLEST_GUARDED: usize = 10;
/// A snapshot that is hard to believe is taken once it is read again after this time.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// Wraps a Config Database; see the module's head.
pub struct LastKnownGood {
    inner: Arc<dyn ConfigDatabase>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    source: String,
    features: Mutex<HashMap<FeatureType, Known>>,
    failures: ActiveFailures,
}

/// What is known of a feature.
#[derive(Default)]
struct Known {
    /// Tenants that should be there, as far as snapshots and changes tell; `None` before the first.
    tenants: Option<usize>,
    /// When a snapshot that is hard to believe was first read.
    suspicious_since: Option<Instant>,
    /// Where changes are written down; `None` when that failed.
    journal: Option<Journal>,
    /// What was read from the disk, while nothing better is known.
    restored: Option<HashMap<TenantId, PreferenceRecord>>,
}

impl LastKnownGood {
    /// Remembers in `folder` what `inner` says. `source` names the Config Database: what is known of one is
    /// never used for another.
    pub fn new(
        inner: Arc<dyn ConfigDatabase>,
        clock: Arc<dyn Clock>,
        folder: impl Into<PathBuf>,
        source: impl Into<String>,
    ) -> Self {
        Self {
            inner,
            clock,
            folder: folder.into(),
            source: source.into(),
            features: Mutex::default(),
            failures: ActiveFailures::default(),
        }
    }

    /// The same, which notes what fails in `failures`.
    #[must_use]
    pub fn with_failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    fn note<T>(&self, feature_type: &FeatureType, written: &std::io::Result<T>) {
        let operation = Operation::WriteLastKnownGood(feature_type.clone());
        self.failures.note(operation, written, self.clock.now());
    }

    fn path(&self, feature_type: &FeatureType) -> PathBuf {
        self.folder.join(format!("{feature_type}.ndjson"))
    }

    /// The snapshot, unless most tenants are gone at once and no second read has confirmed it.
    fn believe(
        &self,
        feature_type: &FeatureType,
        known: &mut Known,
        snapshot: Snapshot,
    ) -> Result<Snapshot, ConfigDatabaseError> {
        let found = snapshot.records.len();
        let Some(expected) = known
            .tenants
            .filter(|tenants| *tenants >= SMALLEST_GUARDED && found * 2 < *tenants)
        else {
            known.suspicious_since = None;
            return Ok(snapshot);
        };
        let since = *known.suspicious_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= CONFIRM_AFTER {
            warn!(%feature_type, expected, found,
                "A second read confirms that {feature_type} has {found} tenants instead of {expected}; it is taken");
            known.suspicious_since = None;
            return Ok(snapshot);
        }
        Err(ConfigDatabaseError {
            kind: ConfigErrorKind::Suspicious,
            message: format!(
                "Config Database has {found} tenants for {feature_type} where there were {expected}; this is held \
                 back until a read {} s later confirms it. Check that nothing was deleted by mistake",
                CONFIRM_AFTER.as_secs()
            ),
            retry_after: None,
        })
    }

    /// What is on the disk, the first time it is asked for and nothing better has been known.
    async fn restore(
        &self,
        feature_type: &FeatureType,
        known: &mut Known,
        cause: &ConfigDatabaseError,
    ) -> Option<Snapshot> {
        if known.journal.is_some() || known.restored.is_some() {
            return None;
        }
        let path = self.path(feature_type);
        let restored = match journal::read(&path, &self.source).await {
            Ok(restored) => restored?,
            Err(problem) => {
                error!(%feature_type, problem, "What was last known of {feature_type} cannot be used: {problem}");
                return None;
            }
        };
        let (tenants, age_seconds) = (
            restored.records.len(),
            (self.clock.now() - restored.known_at).num_seconds(),
        );
        warn!(%feature_type, tenants, age_seconds, known_at = %restored.known_at,
            "The last known preferences for {feature_type} are used, {tenants} tenants as of {} ({age_seconds} s ago): {cause}",
            restored.known_at);
        let by_tenant = |record: &PreferenceRecord| (record.tenant_id.clone(), record.clone());
        known.tenants = Some(tenants);
        known.restored = Some(restored.records.iter().map(by_tenant).collect());
        Some(Snapshot {
            records: restored.records,
            cursor: restored.cursor,
            known_at: Some(restored.known_at),
        })
    }

    /// Writes a snapshot down. A disk that fails costs the memory, not the work.
    async fn remember(
        &self,
        feature_type: &FeatureType,
        known: &mut Known,
        snapshot: &Snapshot,
        read_at: DateTime<Utc>,
    ) {
        known.tenants = Some(snapshot.records.len());
        known.restored = None;
        let path = self.path(feature_type);
        let begun = Journal::begin(&path, &self.source, snapshot, read_at).await;
        self.note(feature_type, &begun);
        known.journal = match begun {
            Ok(journal) => Some(journal),
            Err(problem) => {
                error!(%feature_type, %problem, "The preferences for {feature_type} cannot be kept on disk: {problem}");
                None
            }
        };
    }
}

#[async_trait]
impl ConfigDatabase for LastKnownGood {
    async fn snapshot(&self, feature_type: &FeatureType) -> Result<Snapshot, ConfigDatabaseError> {
        let read_at = self.clock.now();
        let read = self.inner.snapshot(feature_type).await;
        let mut features = self.features.lock().await;
        let known = features.entry(feature_type.clone()).or_default();
        if known.tenants.is_none() && read.is_ok() {
            // After a restart, too, a collapse is measured against what was known before.
            let before = journal::read(&self.path(feature_type), &self.source)
                .await
                .ok()
                .flatten();
            known.tenants = before.map(|before| before.records.len());
        }
        match read.and_then(|snapshot| self.believe(feature_type, known, snapshot)) {
            Ok(snapshot) => {
                self.remember(feature_type, known, &snapshot, read_at).await;
                Ok(snapshot)
            }
            Err(error) => self.restore(feature_type, known, &error).await.ok_or(error),
        }
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let read_at = self.clock.now();
        let page = self.inner.changes(feature_type, cursor, wait).await?;
        let mut features = self.features.lock().await;
        let known = features.entry(feature_type.clone()).or_default();
        let gone = page.changes.iter().filter(|change| match &change.kind {
            ChangeKind::Deleted => true,
            ChangeKind::Upserted(preference) => preference.get("enabled") != Some(&true.into()),
        });
        known.tenants = known
            .tenants
            .map(|tenants| tenants.saturating_sub(gone.count()));
        if let Some(journal) = &mut known.journal {
            let appended = journal.append(&page, read_at).await;
            self.note(feature_type, &appended);
            if let Err(problem) = appended {
                error!(%feature_type, %problem, "Changes for {feature_type} cannot be kept on disk: {problem}");
                known.journal = None;
            }
        }
        Ok(page)
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let error = match self.inner.preferences(feature_type, tenants).await {
            Err(error) if error.kind == ConfigErrorKind::Unavailable => error,
            answer => return answer,
        };
        let features = self.features.lock().await;
        let restored = features
            .get(feature_type)
            .and_then(|known| known.restored.as_ref());
        let restored = restored.ok_or(error)?;
        Ok(tenants
            .iter()
            .filter_map(|tenant| Some((tenant.clone(), restored.get(tenant)?.clone())))
            .collect())
    }
}

#[cfg(test)]
mod tests;
