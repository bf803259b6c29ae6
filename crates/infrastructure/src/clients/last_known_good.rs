//! A Config Database that remembers: what was last known good is kept on disk, so that an agent that starts
//! while the Config Database is down goes on with it, and a snapshot that is hard to believe is held back
//! until a second read confirms it. It wraps any other [`ConfigDatabase`].

mod folder;
mod journal;
mod tenants;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::{
    ActiveFailures, Operation,
    ports::{
        ChangePage, Clock, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot,
        Unreadable,
    },
};
use punctual_domain::{Change, ChangeKind, FeatureType, PreferenceRecord, TenantId};
use tokio::{sync::Mutex, time::Instant};
use tracing::{error, warn};

pub use self::folder::FolderInUse;
use self::{
    journal::{Damage, Journal, JournalRecord, JournalState},
    tenants::Tenants,
};

/// A snapshot that is hard to believe is taken once it is read again after this time.
const CONFIRM_SNAPSHOT_AFTER: Duration = Duration::from_mins(1);

type Records = BTreeMap<TenantId, PreferenceRecord>;

/// Wraps a Config Database; see the module's head.
pub struct LastKnownGood {
    inner: Arc<dyn ConfigDatabase>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    source: String,
    features: Mutex<HashMap<FeatureType, FeatureMemory>>,
    /// Keeps other agents out of the folder.
    _lock: Option<File>,
    failures: ActiveFailures,
}

/// Last known preferences of a feature.
#[derive(Default)]
struct FeatureMemory {
    /// Its tenants, as far as snapshots and changes tell; `None` before the first.
    tenants: Option<Tenants>,
    /// When a snapshot that is hard to believe was first read.
    suspicious_since: Option<Instant>,
    /// Where changes are written down; `None` when that failed.
    journal: Option<Journal>,
    /// What was read from the disk, while nothing better is known.
    restored: Option<Records>,
}

impl std::fmt::Debug for LastKnownGood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastKnownGood")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl LastKnownGood {
    /// Remembers in `folder` what `inner` says. `source` names the Config Database: what is known of one is
    /// never used for another.
    ///
    /// # Errors
    /// When another agent uses the folder. A folder that cannot be used at all costs the memory, not the work.
    pub fn new(
        inner: Arc<dyn ConfigDatabase>,
        clock: Arc<dyn Clock>,
        folder: impl Into<PathBuf>,
        source: impl Into<String>,
    ) -> Result<Self, FolderInUse> {
        let folder = folder.into();
        let lock = match folder::lock(&folder) {
            Ok(lock) => Some(lock?),
            Err(problem) => {
                error!(%problem, "Failed to open the folder {} of the last known preferences: \
                    {problem}", folder.display());
                None
            }
        };
        Ok(Self {
            inner,
            clock,
            folder,
            source: source.into(),
            features: Mutex::default(),
            _lock: lock,
            failures: ActiveFailures::default(),
        })
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

    /// The snapshot, unless most tenants who are on are gone at once and no second read has confirmed it. Its records
    /// say since when their schedules have been as they are.
    fn believe(
        &self,
        feature_type: &FeatureType,
        known: &mut FeatureMemory,
        mut snapshot: Snapshot,
        read_at: DateTime<Utc>,
    ) -> Result<(Snapshot, Tenants), ConfigDatabaseError> {
        let mut before = known.tenants.take().unwrap_or_default();
        let mut now = before.empty_like();
        for record in &mut snapshot.records {
            record.schedule_since = before.since(record, read_at);
            now.set(record);
        }
        let expected = before.on();
        let lost = expected - before.still_on(&now);
        let found = now.on();
        known.tenants = Some(before);
        if lost * 2 <= expected {
            known.suspicious_since = None;
            return Ok((snapshot, now));
        }
        let since = *known.suspicious_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= CONFIRM_SNAPSHOT_AFTER {
            warn!(%feature_type, expected, lost, found,
                "A second read confirms that {feature_type} has lost {lost} of {expected} \
                 tenants; the loss is now in effect");
            known.suspicious_since = None;
            return Ok((snapshot, now));
        }
        Err(ConfigDatabaseError::new(
            ConfigErrorKind::Suspicious,
            format!(
                "Config Database has lost {lost} of the {expected} tenants for {feature_type}, \
                 and {found} remain; the agent holds this change back until a read {} s later \
                 confirms it. Check that nothing was deleted by mistake",
                CONFIRM_SNAPSHOT_AFTER.as_secs()
            ),
        ))
    }

    /// What is on the disk, taken in record by record.
    async fn read<T: Default + Send + 'static>(
        &self,
        feature_type: &FeatureType,
        take: fn(&mut T, JournalRecord),
    ) -> Option<(JournalState, T)> {
        let path = folder::path(&self.folder, feature_type);
        let found = match journal::read(&path, &self.source, take).await {
            Ok(found) => found?,
            Err(problem) => {
                error!(%feature_type, problem, "Failed to read the last known preferences for \
                    {feature_type} from disk: {problem}");
                return None;
            }
        };
        let (known_at, path) = (found.0.known_at, path.display());
        match found.0.damage {
            None => {}
            Some(Damage::CutOff) => warn!(%feature_type, %known_at,
                "The end of {path} is missing, as after a crash; everything known until \
                 {known_at} is complete"),
            Some(Damage::Changed) => error!(%feature_type, %known_at,
                "The file {path} is damaged: changes after {known_at} are lost, everything known \
                 until then is complete"),
        }
        Some(found)
    }

    /// What is on the disk, the first time it is asked for and nothing better has been known.
    async fn restore(
        &self,
        feature_type: &FeatureType,
        known: &mut FeatureMemory,
        cause: &ConfigDatabaseError,
    ) -> Option<Snapshot> {
        if known.journal.is_some() || known.restored.is_some() {
            return None;
        }
        let take = |records: &mut Records, kept| match kept {
            JournalRecord::Set(record) => {
                records.insert(record.tenant_id.clone(), record);
            }
            JournalRecord::Remove(tenant) => {
                records.remove(&tenant);
            }
        };
        let (
            JournalState {
                cursor, known_at, ..
            },
            records,
        ) = self.read(feature_type, take).await?;
        let (tenants, age_seconds) = (records.len(), (self.clock.now() - known_at).num_seconds());
        warn!(%feature_type, tenants, age_seconds, %known_at,
            "Using the last known preferences for {feature_type}, {tenants} tenants as of \
             {known_at} ({age_seconds} s ago): {cause}");
        let snapshot = Snapshot {
            records: records.values().cloned().collect(),
            cursor,
            known_at: Some(known_at),
        };
        let tenants = known.tenants.get_or_insert_default();
        records.values().for_each(|record| tenants.set(record));
        known.restored = Some(records);
        Some(snapshot)
    }

    /// Writes a snapshot down. A disk that fails costs the memory, not the work.
    async fn remember(
        &self,
        feature_type: &FeatureType,
        known: &mut FeatureMemory,
        snapshot: &Snapshot,
        read_at: DateTime<Utc>,
    ) {
        known.restored = None;
        let path = folder::path(&self.folder, feature_type);
        let (records, cursor) = (&snapshot.records, &snapshot.cursor);
        let begun = Journal::begin(&path, &self.source, records, cursor, read_at).await;
        self.note(feature_type, &begun);
        known.journal = match begun {
            Ok(journal) => Some(journal),
            Err(problem) => {
                error!(%feature_type, %problem, "Failed to store the preferences for \
                    {feature_type} on disk: {problem}");
                None
            }
        };
    }
}

/// Takes a change in, and has it say since when the tenant's schedule has been as it is.
fn follow(tenants: &mut Tenants, change: &mut Change, read_at: DateTime<Utc>) {
    let ChangeKind::Upserted(preference) = &change.kind else {
        return tenants.remove(&change.tenant_id);
    };
    let mut record = PreferenceRecord {
        tenant_id: change.tenant_id.clone(),
        preference: Arc::clone(preference),
        updated_at: Some(change.changed_at.unwrap_or(read_at)),
        schedule_since: change.schedule_since,
    };
    record.schedule_since = tenants.since(&record, read_at);
    change.schedule_since = record.schedule_since;
    tenants.set(&record);
}

#[async_trait]
impl ConfigDatabase for LastKnownGood {
    async fn snapshot(&self, feature_type: &FeatureType) -> Result<Snapshot, ConfigDatabaseError> {
        let read_at = self.clock.now();
        let read = self.inner.snapshot(feature_type).await;
        let mut features = self.features.lock().await;
        let known = features.entry(feature_type.clone()).or_default();
        if known.tenants.is_none() && read.is_ok() {
            // After a restart, too, a collapse is measured against what was known before, and a schedule that is the
            // same keeps its time.
            let take = |tenants: &mut Tenants, kept| match kept {
                JournalRecord::Set(record) => tenants.set(&record),
                JournalRecord::Remove(tenant) => tenants.remove(&tenant),
            };
            let kept = self.read(feature_type, take).await;
            known.tenants = kept.map(|(_, tenants)| tenants);
        }
        match read.and_then(|snapshot| self.believe(feature_type, known, snapshot, read_at)) {
            Ok((snapshot, tenants)) => {
                known.tenants = Some(tenants);
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
        let mut page = self.inner.changes(feature_type, cursor, wait).await?;
        let mut features = self.features.lock().await;
        let known = features.entry(feature_type.clone()).or_default();
        if let Some(tenants) = &mut known.tenants {
            // The server may have held the call: what is stored meanwhile is newer than the call.
            let answered_at = self.clock.now();
            page.changes
                .iter_mut()
                .for_each(|change| follow(tenants, change, answered_at));
        }
        if let Some(journal) = &mut known.journal {
            let appended = journal.append(&page, read_at).await;
            self.note(feature_type, &appended);
            if let Err(problem) = appended {
                error!(%feature_type, %problem, "Failed to store changes for {feature_type} on \
                    disk: {problem}");
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

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        self.inner.unreadable(feature_type)
    }
}

#[cfg(test)]
mod tests;
