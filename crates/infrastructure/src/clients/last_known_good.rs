//! A Config Database that remembers: what was last known good is kept on disk, so that an agent that starts
//! while the Config Database is down goes on with it, and a snapshot that is hard to believe is held back
//! until a second read confirms it. It wraps any other [`ConfigDatabase`].
//!
//! A snapshot is read to its end before a page of it is given on: only then it is known whether it is to be believed. Its
//! pages go to the new file as they come, and are read back from there, so that memory holds a page and not the whole; up
//! to [`HELD_RECORDS`] records are held, which spares small snapshots the way over the disk. What is read from the disk
//! while the Config Database is down stays there too.

pub(crate) mod folder;
mod journal;
mod tenants;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, stream};
use punctual_application::{
    ActiveFailures, Operation,
    ports::{
        ChangePage, Clock, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor,
        ErasedTenant, SnapshotPages, Unreadable,
    },
};
use punctual_domain::{
    Change, ChangeKind, FeatureType, JobDefaults, JobId, PreferenceRecord, TenantId,
};
use tokio::{sync::Mutex, time::Instant};
use tracing::{error, warn};

pub use self::folder::FolderInUse;
use self::{
    journal::{Damage, Index, Journal, JournalRecord, JournalState, NewJournal, Restored},
    tenants::Tenants,
};

/// A snapshot that is hard to believe is taken once it is read again after this time.
const CONFIRM_SNAPSHOT_AFTER: Duration = Duration::from_mins(1);

/// Records of a snapshot that are held in memory until its end.
const HELD_RECORDS: usize = if cfg!(test) { 5 } else { 50_000 };

/// Wraps a Config Database; see the module's head.
pub struct LastKnownGood {
    inner: Arc<dyn ConfigDatabase>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    source: String,
    features: StdMutex<HashMap<FeatureType, Arc<Feature>>>,
    /// Keeps other agents out of the folder.
    _lock: Option<File>,
    failures: ActiveFailures,
}

/// A feature.
#[derive(Default)]
struct Feature {
    /// Locked while a snapshot is read.
    memory: Mutex<FeatureMemory>,
    /// What was read from the disk, while nothing better is known.
    restored: StdMutex<Option<Arc<Restored>>>,
}

impl Feature {
    fn restored(&self) -> Option<Arc<Restored>> {
        let restored = self.restored.lock();
        restored.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_restored(&self, restored: Option<Arc<Restored>>) {
        let mut known = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        *known = restored;
    }
}

/// Last known preferences of a feature.
#[derive(Default)]
struct FeatureMemory {
    /// Its tenants, as far as snapshots and changes tell; `None` before the first.
    tenants: Option<Tenants>,
    /// Whether a snapshot has been taken: what is on the disk may be older.
    is_taken: bool,
    /// When a snapshot that is hard to believe was first read.
    suspicious_since: Option<Instant>,
    /// Where changes are written down; `None` when that failed.
    journal: Option<Journal>,
    /// The last erasure of each tenant that has been carried out here. What the file has of the tenant was stored after it.
    erased: HashMap<TenantId, DateTime<Utc>>,
}

impl FeatureMemory {
    /// Notes the tenants that the Config Database lists as erased, of whom the snapshot that was taken before has nothing.
    fn note_erased(&mut self, listed: &[ErasedTenant]) {
        let (Some(tenants), true, Some(_)) = (&self.tenants, self.is_taken, &self.journal) else {
            return;
        };
        let gone = listed.iter().filter(|one| !tenants.has(&one.tenant_id));
        let gone = gone.map(|one| (one.tenant_id.clone(), one.erased_at));
        self.erased = gone.collect();
    }
}

/// Why a snapshot is not taken.
enum NotTaken {
    /// It cannot be read, or is not believed.
    Error(ConfigDatabaseError),
    /// The disk, where most of it was, has failed.
    Disk,
}

impl From<ConfigDatabaseError> for NotTaken {
    fn from(error: ConfigDatabaseError) -> Self {
        Self::Error(error)
    }
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
            features: StdMutex::default(),
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

    fn feature(&self, feature_type: &FeatureType) -> Arc<Feature> {
        let mut features = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(features.entry(feature_type.clone()).or_default())
    }

    /// The outcome of writing; an error is logged and noted. A disk that fails costs the memory, not the work.
    fn written<T>(&self, feature_type: &FeatureType, written: io::Result<T>) -> Option<T> {
        let operation = Operation::WriteLastKnownGood(feature_type.clone());
        self.failures.note(operation, &written, self.clock.now());
        if let Err(problem) = &written {
            error!(%feature_type, %problem, "Failed to store the preferences for \
                {feature_type} on disk: {problem}");
        }
        written.ok()
    }

    /// Reads a snapshot to its end, and writes it down with the times since when the schedules have been as they are.
    /// Gives it on, unless most tenants who are on are gone at once and no second read has confirmed it.
    async fn take_in(
        &self,
        feature_type: &FeatureType,
        (feature, known): (&Feature, &mut FeatureMemory),
        mut snapshot: SnapshotPages,
        read_at: DateTime<Utc>,
        is_on_disk: bool,
    ) -> Result<SnapshotPages, NotTaken> {
        let path = folder::path(&self.folder, feature_type);
        let mut file = None;
        if is_on_disk {
            file = self.written(feature_type, NewJournal::create(&path, &self.source).await);
        }
        let before = known.tenants.get_or_insert_default();
        let mut now = before.empty_like();
        let (mut held, mut records) = (Vec::new(), 0);
        while let Some(mut page) = snapshot.next().await? {
            for record in &mut page {
                record.schedule_since = before.since(record, read_at);
                now.set(record);
            }
            if let Some(mut writing) = file.take() {
                let written = writing.add(&page).await;
                file = self.written(feature_type, written).map(|()| writing);
            }
            records += page.len();
            held.push(page);
            if records > HELD_RECORDS && is_on_disk {
                if file.is_none() {
                    return Err(NotTaken::Disk);
                }
                held.clear();
            }
        }
        self.believe(feature_type, known, &now)?;
        known.tenants = Some(now);
        known.is_taken = true;
        feature.set_restored(None);
        let finished = match file {
            Some(file) => self.written(feature_type, file.finish(&snapshot.cursor, read_at).await),
            None => None,
        };
        let (journal, written) = finished.unzip();
        known.journal = journal;
        let (cursor, known_at) = (snapshot.cursor, snapshot.known_at);
        let pages = match written {
            Some(written) if records > HELD_RECORDS => read_back(cursor, written.pages()),
            None if records > HELD_RECORDS && is_on_disk => return Err(NotTaken::Disk),
            _ => SnapshotPages::new(cursor, stream::iter(held.into_iter().map(Ok))),
        };
        Ok(match known_at {
            Some(known_at) => pages.known_at(known_at),
            None => pages,
        })
    }

    /// Reads a snapshot anew and holds all of it, because the disk cannot.
    async fn take_in_memory(
        &self,
        feature_type: &FeatureType,
        feature: &Feature,
        known: &mut FeatureMemory,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        let read_at = self.clock.now();
        let read = self.inner.snapshot(feature_type).await?;
        let taken = self.take_in(feature_type, (feature, known), read, read_at, false);
        taken.await.map_err(|not_taken| match not_taken {
            NotTaken::Error(error) => error,
            NotTaken::Disk => from_disk("it has failed"),
        })
    }

    /// Whether the tenants of a snapshot may take the place of those known before.
    fn believe(
        &self,
        feature_type: &FeatureType,
        known: &mut FeatureMemory,
        now: &Tenants,
    ) -> Result<(), ConfigDatabaseError> {
        let before = known.tenants.get_or_insert_default();
        let expected = before.on();
        let lost = expected - before.still_on(now);
        let found = now.on();
        if lost * 2 <= expected {
            known.suspicious_since = None;
            return Ok(());
        }
        let since = *known.suspicious_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= CONFIRM_SNAPSHOT_AFTER {
            warn!(%feature_type, expected, lost, found,
                "A second read confirms that {feature_type} has lost {lost} of {expected} \
                 tenants; the loss is now in effect");
            known.suspicious_since = None;
            return Ok(());
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

    /// What is on the disk, taken in record by record; a failure is logged.
    async fn read<T: Default + Send + 'static>(
        &self,
        feature_type: &FeatureType,
        path: &Path,
        take: fn(&mut T, JournalRecord, u64),
    ) -> Option<(JournalState, T)> {
        match self.try_read(feature_type, path, take).await {
            Ok(found) => found,
            Err(problem) => {
                error!(%feature_type, problem, "Failed to read the last known preferences for \
                    {feature_type} from disk: {problem}");
                None
            }
        }
    }

    /// What is on the disk, taken in record by record.
    async fn try_read<T: Default + Send + 'static>(
        &self,
        feature_type: &FeatureType,
        path: &Path,
        take: fn(&mut T, JournalRecord, u64),
    ) -> Result<Option<(JournalState, T)>, String> {
        let Some(found) = journal::read(path, &self.source, take).await? else {
            return Ok(None);
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
        Ok(Some(found))
    }

    /// The preferences on the disk, with what they say of their tenants; `None`: there are none.
    async fn on_disk(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Option<(JournalState, Tenants, Arc<Restored>)>, String> {
        let path = folder::path(&self.folder, feature_type);
        let take = |(tenants, index): &mut (Tenants, Index), kept: JournalRecord, place| {
            index.take(&kept, place);
            tenants.take(&kept);
        };
        let found = self.try_read(feature_type, &path, take).await?;
        let Some((state, (tenants, index))) = found else {
            return Ok(None);
        };
        let restored = Restored::new(&path, &state, index)?;
        Ok(Some((state, tenants, Arc::new(restored))))
    }

    /// What is on the disk, the first time it is asked for and nothing better has been known.
    ///
    /// # Errors
    /// The one because of which it is asked for, and what is wrong with the disk.
    async fn restore(
        &self,
        feature_type: &FeatureType,
        (feature, known): (&Feature, &mut FeatureMemory),
        mut cause: ConfigDatabaseError,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        if known.is_taken || feature.restored().is_some() {
            return Err(cause);
        }
        let found = self.on_disk(feature_type).await;
        let opened = found.and_then(|found| match found {
            Some((state, tenants, restored)) => {
                Ok(Some((restored.pages()?, restored, tenants, state)))
            }
            None => Ok(None),
        });
        let (pages, restored, tenants, state) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return Err(cause),
            Err(problem) => {
                cause.message = format!(
                    "{}; and the last known preferences on disk cannot be used: {problem}",
                    cause.message
                );
                return Err(cause);
            }
        };
        let known_at = state.known_at;
        let age_seconds = (self.clock.now() - known_at).num_seconds();
        let count = restored.len();
        warn!(%feature_type, tenants = count, age_seconds, %known_at,
            "Using the last known preferences for {feature_type}, {count} tenants as of \
             {known_at} ({age_seconds} s ago): {cause}");
        known.tenants = Some(tenants);
        feature.set_restored(Some(restored));
        Ok(read_back(state.cursor, pages).known_at(known_at))
    }
}

impl LastKnownGood {
    /// Forgets tenants in one feature, but for those whose erasure it has carried out: they may have stored something since.
    async fn forget_in(
        &self,
        feature_type: &FeatureType,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), String> {
        let feature = self.feature(feature_type);
        let known = &mut *feature.memory.lock().await;
        let is_left = |(tenant_id, erased_at): &(&TenantId, &DateTime<Utc>)| {
            known.erased.get(*tenant_id) != Some(*erased_at)
        };
        let left = erased.iter().filter(is_left);
        let erased: BTreeMap<TenantId, DateTime<Utc>> = left
            .map(|(tenant_id, erased_at)| (tenant_id.clone(), *erased_at))
            .collect();
        if erased.is_empty() {
            return Ok(());
        }
        if let Some(tenants) = &mut known.tenants {
            for tenant_id in erased.keys() {
                tenants.remove(tenant_id);
            }
        }
        let tenants = erased.keys().cloned().collect();
        self.forget_on_disk(feature_type, (&*feature, &mut *known), tenants)
            .await?;
        known.erased.extend(erased);
        Ok(())
    }

    /// Takes the tenants out of the file whom a page of changes says were erased. Returns the place of the last erasure of each: what
    /// stands in the page up to there need not be written down.
    async fn carry_out(
        &self,
        feature_type: &FeatureType,
        (feature, known): (&Feature, &mut FeatureMemory),
        changes: &[Change],
    ) -> Result<HashMap<TenantId, usize>, String> {
        let erased = changes.iter().enumerate();
        let erased = erased.filter(|(_, change)| change.kind == ChangeKind::Erased);
        let last: HashMap<TenantId, usize> = erased
            .map(|(place, change)| (change.tenant_id.clone(), place))
            .collect();
        if last.is_empty() {
            return Ok(last);
        }
        // Once for all of the page: the file may be large.
        let tenants = last.keys().cloned().collect();
        self.forget_on_disk(feature_type, (feature, &mut *known), tenants)
            .await?;
        for (tenant_id, place) in &last {
            if let Some(erased_at) = changes[*place].changed_at {
                known.erased.insert(tenant_id.clone(), erased_at);
            }
        }
        Ok(last)
    }

    /// Writes the file of a feature anew without some tenants: what was appended to it of them before must not stay.
    async fn forget_on_disk(
        &self,
        feature_type: &FeatureType,
        (feature, known): (&Feature, &mut FeatureMemory),
        tenants: BTreeSet<TenantId>,
    ) -> Result<(), String> {
        let path = folder::path(&self.folder, feature_type);
        let Some(journal) = journal::without(&path, tenants).await? else {
            return Ok(());
        };
        // Changes that were not written down would be missing between the state in the file and those that follow.
        if known.journal.is_some() {
            known.journal = Some(journal);
        }
        if feature.restored().is_some() {
            // The records stand elsewhere in the new file.
            let take = |index: &mut Index, kept: JournalRecord, place| index.take(&kept, place);
            if let Some((state, index)) = self.read(feature_type, &path, take).await {
                let restored = Restored::new(&path, &state, index)?;
                feature.set_restored(Some(Arc::new(restored)));
            }
        }
        Ok(())
    }

    /// The features of which anything is known, in memory or on the disk.
    fn known_features(&self) -> io::Result<BTreeSet<FeatureType>> {
        let on_disk = folder::features(&self.folder)?;
        let in_memory = self.features.lock();
        let in_memory = in_memory.unwrap_or_else(PoisonError::into_inner);
        Ok(on_disk
            .into_iter()
            .chain(in_memory.keys().cloned())
            .collect())
    }
}

/// A snapshot whose pages are read from the disk.
fn read_back(
    cursor: Cursor,
    pages: impl Stream<Item = Result<Vec<PreferenceRecord>, String>> + Send + 'static,
) -> SnapshotPages {
    SnapshotPages::new(
        cursor,
        pages.map(|page| page.map_err(|problem| from_disk(&problem))),
    )
}

fn from_disk(problem: &str) -> ConfigDatabaseError {
    let message = format!("Failed to read the last known preferences from disk: {problem}");
    ConfigDatabaseError::new(ConfigErrorKind::Unavailable, message)
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
        organization: change.organization.clone(),
    };
    record.schedule_since = tenants.since(&record, read_at);
    change.schedule_since = record.schedule_since;
    tenants.set(&record);
}

#[async_trait]
impl ConfigDatabase for LastKnownGood {
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        let feature = self.feature(feature_type);
        let mut known = feature.memory.lock().await;
        let read_at = self.clock.now();
        let read = self.inner.snapshot(feature_type).await;
        if known.tenants.is_none() && read.is_ok() {
            // After a restart, too, a collapse is measured against what was known before, and a schedule that is the
            // same keeps its time.
            let path = folder::path(&self.folder, feature_type);
            let take = |tenants: &mut Tenants, kept: JournalRecord, _| tenants.take(&kept);
            let kept = self.read(feature_type, &path, take).await;
            known.tenants = kept.map(|(_, tenants)| tenants);
        }
        let taken = match read {
            Ok(read) => {
                let memory = (&*feature, &mut *known);
                match self
                    .take_in(feature_type, memory, read, read_at, true)
                    .await
                {
                    Ok(taken) => Ok(taken),
                    Err(NotTaken::Error(error)) => Err(error),
                    Err(NotTaken::Disk) => {
                        self.take_in_memory(feature_type, &feature, &mut known)
                            .await
                    }
                }
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(taken) => Ok(taken),
            Err(error) => {
                let memory = (&*feature, &mut *known);
                self.restore(feature_type, memory, error).await
            }
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
        let feature = self.feature(feature_type);
        let known = &mut *feature.memory.lock().await;
        if let Some(tenants) = &mut known.tenants {
            // The server may have held the call: what is stored meanwhile is newer than the call.
            let answered_at = self.clock.now();
            page.changes
                .iter_mut()
                .for_each(|change| follow(tenants, change, answered_at));
        }
        let memory = (&*feature, &mut *known);
        let erased = self.carry_out(feature_type, memory, &page.changes).await;
        // Where the file cannot be written anew, the changes say in it who is gone.
        let (gone, erased) = match erased {
            Ok(gone) => (gone, Ok(())),
            Err(problem) => (HashMap::new(), Err(io::Error::other(problem))),
        };
        if let Some(journal) = &mut known.journal {
            let appended = journal.append(&page, &gone, read_at).await;
            let operation = Operation::WriteLastKnownGood(feature_type.clone());
            self.failures.note(operation, &appended, self.clock.now());
            if let Err(problem) = appended {
                error!(%feature_type, %problem, "Failed to store changes for {feature_type} on \
                    disk: {problem}");
                known.journal = None;
            }
        }
        if erased.is_err() {
            self.written(feature_type, erased);
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
        let restored = self.feature(feature_type).restored().ok_or(error)?;
        let records = restored.get(tenants.to_vec()).await;
        let records = records.map_err(|problem| from_disk(&problem))?;
        let by_tenant = records.into_iter();
        Ok(by_tenant
            .map(|record| (record.tenant_id.clone(), record))
            .collect())
    }

    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        let erased = self.inner.erased(feature_type).await?;
        let feature = self.feature(feature_type);
        feature.memory.lock().await.note_erased(&erased);
        Ok(erased)
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        self.inner.publish(feature_type, jobs).await
    }

    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        self.inner.forget(erased).await?;
        let failed = |problem: String| {
            let message = format!("Failed to erase the last known preferences on disk: {problem}");
            ConfigDatabaseError::new(ConfigErrorKind::Unavailable, message)
        };
        let features = self.known_features();
        let mut problems = Vec::new();
        // One file that cannot be written anew keeps the tenant in no other.
        for feature_type in features.map_err(|error| failed(error.to_string()))? {
            let forgotten = self.forget_in(&feature_type, erased).await;
            problems.extend(forgotten.err());
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(failed(problems.join("; ")))
    }

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        self.inner.unreadable(feature_type)
    }
}

#[cfg(test)]
mod tests;
