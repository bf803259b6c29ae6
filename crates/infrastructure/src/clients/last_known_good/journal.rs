//! The file of a feature: a head, the records of a snapshot, and the changes since, one JSON object per line. Every block of
//! lines ends with a seal, the hash of all that stands above it. A new snapshot replaces the file as a whole; a block
//! that a crash cut off is as if it had not been written, and damage is something else.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    fs::File as StdFile,
    hash::BuildHasher,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, stream};
use punctual_application::ports::{ChangePage, Cursor};
use punctual_domain::{ChangeKind, PreferenceRecord, TenantId};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt,
};

use super::folder;

/// How old the file may become, by its own word, while nothing changes.
const CONTACT_INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// Bytes that are written at once.
const WRITE_BUFFER_BYTES: usize = 1024 * 1024;
/// Bytes that are read at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Records of a page that is read.
const PAGE: usize = 5_000;
/// The version of the file. The one before had no seals; it is still read.
const VERSION: u32 = 2;
/// How a seal begins.
const SEAL_PREFIX: &[u8] = br#"{"line":"seal""#;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first line: whose preferences these are.
    Head {
        source: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
    },
    /// A tenant's preference.
    Set(PreferenceRecord),
    /// A tenant without one.
    Remove { tenant_id: TenantId },
    /// Everything above is what was known at `known_at`, and the feed goes on from `cursor`.
    Until {
        cursor: Cursor,
        known_at: DateTime<Utc>,
    },
    /// The hash of everything above.
    Seal { hash: String },
}

/// A file that changes are appended to.
pub(super) struct Journal {
    file: File,
    /// Buffer of lines that are not written yet.
    text: Vec<u8>,
    /// Of everything so far.
    hasher: blake3::Hasher,
    bytes: u64,
    written_until: DateTime<Utc>,
}

/// A file that a snapshot is written to, page by page. It takes the place of the one before once it is whole; dropped
/// before that, it leaves nothing behind.
pub(super) struct NewJournal {
    journal: Journal,
    path: PathBuf,
    unfinished: Unfinished,
}

/// A file that is deleted unless it gets another name.
struct Unfinished(PathBuf);

impl NewJournal {
    /// Begins a file.
    pub(super) async fn create(path: &Path, source: &str) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            folder::create(folder)?;
        }
        let new = folder::beside(path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .await?;
        let mut journal = Journal {
            file,
            text: Vec::new(),
            hasher: blake3::Hasher::new(),
            bytes: 0,
            written_until: DateTime::<Utc>::MIN_UTC,
        };
        journal.push(&Line::Head {
            source: source.to_owned(),
            version: Some(VERSION),
        })?;
        Ok(Self {
            journal,
            path: path.to_owned(),
            unfinished: Unfinished(new),
        })
    }

    /// Adds a page of the snapshot.
    pub(super) async fn add(&mut self, records: &[PreferenceRecord]) -> io::Result<()> {
        let journal = &mut self.journal;
        for record in records {
            journal.push(&Line::Set(record.clone()))?;
            if journal.text.len() >= WRITE_BUFFER_BYTES {
                journal.file.write_all(&journal.text).await?;
                journal.text.clear();
            }
        }
        Ok(())
    }

    /// Adds a line as it stands in another file.
    async fn add_line(&mut self, line: &[u8]) -> io::Result<()> {
        let journal = &mut self.journal;
        journal.text.extend_from_slice(line);
        journal.hasher.update(line);
        journal.bytes += line.len() as u64;
        if journal.text.len() >= WRITE_BUFFER_BYTES {
            journal.file.write_all(&journal.text).await?;
            journal.text.clear();
        }
        Ok(())
    }

    /// Replaces the file before by this one. Returns the snapshot in it as well.
    pub(super) async fn finish(
        self,
        cursor: &Cursor,
        read_at: DateTime<Utc>,
    ) -> io::Result<(Journal, WrittenSnapshot)> {
        let Self {
            mut journal,
            path,
            unfinished,
        } = self;
        journal.seal(cursor, read_at).await?;
        journal.file.sync_all().await?;
        fs::rename(&unfinished.0, &path).await?;
        let written = WrittenSnapshot {
            file: StdFile::open(&path)?,
            path,
            bytes: journal.bytes,
        };
        Ok((journal, written))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once it is finished, there is none of this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The snapshot at the beginning of a file, whatever is appended to it or takes its place.
pub(super) struct WrittenSnapshot {
    path: PathBuf,
    file: StdFile,
    bytes: u64,
}

impl WrittenSnapshot {
    /// Its records, page by page.
    pub(super) fn pages(self) -> impl Stream<Item = Result<Vec<PreferenceRecord>, String>> + Send {
        pages(self.path, self.file, self.bytes, |_, _| true)
    }
}

/// The records in the first bytes of a file that are to be taken, page by page; `is_taken` gets their places.
fn pages(
    path: PathBuf,
    file: StdFile,
    bytes: u64,
    is_taken: impl Fn(&TenantId, u64) -> bool + Send + 'static,
) -> impl Stream<Item = Result<Vec<PreferenceRecord>, String>> + Send {
    let named = move |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let lines = placed_lines(BufReader::with_capacity(READ_BUFFER_BYTES, file).take(bytes));
    stream::try_unfold(
        (lines, bytes, is_taken, named),
        |(mut lines, mut left, is_taken, named)| async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut page = Vec::new();
                while page.len() < PAGE && left > 0 {
                    let line = lines
                        .next()
                        .unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
                    let (place, line) = line.map_err(|error| named(&error))?;
                    left -= line.len() as u64;
                    match serde_json::from_slice(&line) {
                        Ok(Line::Set(record)) if is_taken(&record.tenant_id, place) => {
                            page.push(record);
                        }
                        Ok(_) => {}
                        Err(error) => return Err(named(&error)),
                    }
                }
                Ok((!page.is_empty()).then_some((page, (lines, left, is_taken, named))))
            });
            read.await.unwrap_or_else(|error| Err(error.to_string()))
        },
    )
}

impl Journal {
    /// Adds a page of changes, but for those of the tenants `gone` up to these places in it.
    pub(super) async fn append(
        &mut self,
        page: &ChangePage,
        gone: &HashMap<TenantId, usize>,
        read_at: DateTime<Utc>,
    ) -> io::Result<()> {
        if page.changes.is_empty() && read_at - self.written_until < CONTACT_INTERVAL {
            return Ok(());
        }
        for (place, change) in page.changes.iter().enumerate() {
            if gone
                .get(&change.tenant_id)
                .is_some_and(|last| place <= *last)
            {
                continue;
            }
            let tenant_id = change.tenant_id.clone();
            self.push(&match &change.kind {
                ChangeKind::Deleted | ChangeKind::Erased => Line::Remove { tenant_id },
                ChangeKind::Upserted(preference) => Line::Set(PreferenceRecord {
                    tenant_id,
                    preference: preference.clone(),
                    updated_at: change.changed_at,
                    schedule_since: change.schedule_since,
                    organization: change.organization.clone(),
                }),
            })?;
        }
        self.seal(&page.cursor, read_at).await
    }

    /// Ends a block and writes it.
    async fn seal(&mut self, cursor: &Cursor, known_at: DateTime<Utc>) -> io::Result<()> {
        self.push(&Line::Until {
            cursor: cursor.clone(),
            known_at,
        })?;
        let hash = self.hasher.finalize().to_string();
        let before_seal = self.text.len();
        write_line(&mut self.text, &Line::Seal { hash })?;
        self.bytes += (self.text.len() - before_seal) as u64;
        self.file.write_all(&self.text).await?;
        self.file.flush().await?;
        self.text.clear();
        self.written_until = known_at;
        Ok(())
    }

    fn push(&mut self, line: &Line) -> io::Result<()> {
        let begins = self.text.len();
        write_line(&mut self.text, line)?;
        self.hasher.update(&self.text[begins..]);
        self.bytes += (self.text.len() - begins) as u64;
        Ok(())
    }
}

fn write_line(text: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// What stands in a file, its records aside.
#[derive(Debug)]
pub(super) struct JournalState {
    pub(super) cursor: Cursor,
    pub(super) known_at: DateTime<Utc>,
    /// Length of the whole state, in bytes.
    bytes: u64,
    /// What is wrong behind the last state that is whole.
    pub(super) damage: Option<Damage>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Damage {
    /// The last block is not whole, as a crash leaves it.
    CutOff,
    /// A block does not match its checksum.
    Changed,
}

/// Where the last known record of each tenant stands in a file: 16 bytes per tenant, however large the records are.
#[derive(Default)]
pub(super) struct Index {
    /// The hash of the id, and the place.
    places: Vec<(u64, u64)>,
    hasher: RandomState,
}

impl Index {
    /// Takes in what stands at a place; later ones count.
    pub(super) fn take(&mut self, kept: &JournalRecord, place: u64) {
        let (tenant, gone) = match kept {
            JournalRecord::Set(record) => (&record.tenant_id, 0),
            JournalRecord::Remove(tenant) => (tenant, 1),
        };
        self.places
            .push((self.hasher.hash_one(tenant), place << 1 | gone));
    }

    /// Keeps of each tenant the last place, once all have been taken in.
    fn finish(&mut self) {
        self.places.sort_unstable();
        let mut last: Vec<(u64, u64)> = Vec::with_capacity(self.places.len());
        let mut places = std::mem::take(&mut self.places).into_iter().peekable();
        while let Some((hash, place)) = places.next() {
            let is_last = places.peek().is_none_or(|(next, _)| *next != hash);
            if is_last && place & 1 == 0 {
                last.push((hash, place >> 1));
            }
        }
        last.shrink_to_fit();
        self.places = last;
    }

    fn place(&self, tenant: &TenantId) -> Option<u64> {
        let hash = self.hasher.hash_one(tenant);
        let found = self.places.binary_search_by_key(&hash, |(hash, _)| *hash);
        found.ok().map(|at| self.places[at].1)
    }
}

/// The last known records, which stay on the disk.
pub(super) struct Restored {
    path: PathBuf,
    file: StdFile,
    bytes: u64,
    index: Index,
}

impl Restored {
    /// The records of the state that was read from a file into this index.
    ///
    /// # Errors
    /// The reason why the file cannot be opened.
    pub(super) fn new(path: &Path, state: &JournalState, mut index: Index) -> Result<Self, String> {
        index.finish();
        let file = StdFile::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes: state.bytes,
            index,
        })
    }

    /// Number of tenants.
    pub(super) fn len(&self) -> usize {
        self.index.places.len()
    }

    /// All records, page by page.
    ///
    /// # Errors
    /// The reason why the file cannot be opened.
    pub(super) fn pages(
        self: &Arc<Self>,
    ) -> Result<impl Stream<Item = Result<Vec<PreferenceRecord>, String>> + Send + use<>, String>
    {
        // Its position is its own: others read from the same file.
        let file = StdFile::open(&self.path)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let restored = Arc::clone(self);
        let is_last = move |tenant: &TenantId, place| restored.index.place(tenant) == Some(place);
        Ok(pages(self.path.clone(), file, self.bytes, is_last))
    }

    /// The records of these tenants.
    ///
    /// # Errors
    /// The reason why one cannot be read.
    pub(super) async fn get(
        self: Arc<Self>,
        tenants: Vec<TenantId>,
    ) -> Result<Vec<PreferenceRecord>, String> {
        let read = tokio::task::spawn_blocking(move || {
            let mut records = Vec::new();
            for tenant in tenants {
                let Some(place) = self.index.place(&tenant) else {
                    continue;
                };
                let line = line_at(&self.file, place)
                    .and_then(|line| Ok(serde_json::from_slice::<Line>(&line)?))
                    .map_err(|error| format!("{}: {error}", self.path.display()))?;
                match line {
                    Line::Set(record) if record.tenant_id == tenant => records.push(record),
                    _ => {}
                }
            }
            Ok(records)
        });
        read.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// The line that begins at a place of a file.
fn line_at(file: &StdFile, place: u64) -> io::Result<Vec<u8>> {
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = file.read_at(&mut buffer, place + line.len() as u64)?;
        let read = &buffer[..read];
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&read[..end]);
            return Ok(line);
        }
        if read.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(read);
    }
}

/// A record or the end of one.
pub(super) enum JournalRecord {
    Set(PreferenceRecord),
    Remove(TenantId),
}

/// Reads the last whole state of a file, record by record in their order and with their places; `None` when there is none, or it belongs to
/// another source.
///
/// # Errors
/// The reason why the file holds no complete state.
pub(super) async fn read<T: Default + Send + 'static>(
    path: &Path,
    source: &str,
    take: fn(&mut T, JournalRecord, u64),
) -> Result<Option<(JournalState, T)>, String> {
    let (path, source) = (path.to_owned(), source.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut records = T::default();
        let found = read_file(&path, &source, |kept, place| {
            take(&mut records, kept, place);
        });
        found.map(|found| found.map(|found| (found, records)))
    });
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Writes a file anew without what it says of some tenants. `None`: it names none of them, or there is none.
///
/// # Errors
/// The reason why it cannot be read or written.
pub(super) async fn without(
    path: &Path,
    tenants: BTreeSet<TenantId>,
) -> Result<Option<Journal>, String> {
    let named = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let tenants = Arc::new(tenants);
    let found = {
        let (path, tenants) = (path.to_owned(), Arc::clone(&tenants));
        let look = tokio::task::spawn_blocking(move || look_for(&path, &tenants));
        look.await.unwrap_or_else(|error| Err(error.to_string()))?
    };
    let Some((source, state)) = found else {
        return Ok(None);
    };
    let before = StdFile::open(path).map_err(|error| named(&error))?;
    let before = BufReader::with_capacity(READ_BUFFER_BYTES, before).take(state.bytes);
    let mut left = lines(before);
    let new = NewJournal::create(path, &source).await;
    let mut new = new.map_err(|error| named(&error))?;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let page: io::Result<Vec<Vec<u8>>> = left.by_ref().take(PAGE).collect();
            (page, left)
        });
        let (page, rest) = read.await.map_err(|error| named(&error))?;
        left = rest;
        let page = page.map_err(|error| named(&error))?;
        if page.is_empty() {
            break;
        }
        for line in page {
            if about(&line).is_some_and(|about| !about.is_one_of(&tenants)) {
                new.add_line(&line).await.map_err(|error| named(&error))?;
            }
        }
    }
    let finished = new.finish(&state.cursor, state.known_at).await;
    let (journal, _) = finished.map_err(|error| named(&error))?;
    Ok(Some(journal))
}

/// Whom a record is about; `None`: it cannot be read, and may be about anyone.
#[derive(Deserialize)]
struct About {
    tenant_id: Option<TenantId>,
}

impl About {
    fn is_one_of(&self, tenants: &BTreeSet<TenantId>) -> bool {
        let tenant_id = self.tenant_id.as_ref();
        tenant_id.is_none_or(|tenant_id| tenants.contains(tenant_id))
    }
}

/// Whom a line of a file is about; `None`: it is not a record of a tenant.
fn about(line: &[u8]) -> Option<About> {
    let is_record = [&br#"{"line":"set""#[..], br#"{"line":"remove""#]
        .iter()
        .any(|begin| line.starts_with(begin));
    let unknown = About { tenant_id: None };
    is_record.then(|| serde_json::from_slice(line).unwrap_or(unknown))
}

/// The source and the state of a file that has records of some tenants, also behind the last state that is whole.
fn look_for(
    path: &Path,
    tenants: &BTreeSet<TenantId>,
) -> Result<Option<(String, JournalState)>, String> {
    let named = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let file = match StdFile::open(path) {
        Ok(file) => BufReader::with_capacity(READ_BUFFER_BYTES, file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(&error)),
    };
    let mut lines = lines(file);
    let head = lines.next().transpose().map_err(|error| named(&error))?;
    let Ok(Line::Head { source, .. }) = serde_json::from_slice(&head.unwrap_or_default()) else {
        return Err(named(&"is not a file of last known preferences"));
    };
    for line in lines {
        let line = line.map_err(|error| named(&error))?;
        if about(&line).is_some_and(|about| about.is_one_of(tenants)) {
            let state = read_file(path, &source, |_, _| {})?;
            return Ok(state.map(|state| (source, state)));
        }
    }
    Ok(None)
}

fn read_file(
    path: &Path,
    source: &str,
    mut take: impl FnMut(JournalRecord, u64),
) -> Result<Option<JournalState>, String> {
    let named = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let open = || StdFile::open(path).map(BufReader::new);
    let file = match open() {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(&error)),
    };
    let (whole, damage) = whole(file).map_err(|error| named(&error))?;
    let mut found = None;
    for line in placed_lines(open().map_err(|error| named(&error))?.take(whole)) {
        match line.and_then(|(place, line)| Ok((place, serde_json::from_slice(&line)?))) {
            Ok((_, Line::Head { source: named, .. })) if named != source => return Ok(None),
            Ok((_, Line::Head { .. } | Line::Seal { .. })) => {}
            Ok((place, Line::Set(record))) => take(JournalRecord::Set(record), place),
            Ok((place, Line::Remove { tenant_id })) => {
                take(JournalRecord::Remove(tenant_id), place);
            }
            Ok((_, Line::Until { cursor, known_at })) => found = Some((cursor, known_at)),
            Err(error) => return Err(named(&error)),
        }
    }
    let (cursor, known_at) = found.ok_or_else(|| match damage {
        Some(Damage::Changed) => named(&"does not match its checksum"),
        _ => named(&"ends too early"),
    })?;
    Ok(Some(JournalState {
        cursor,
        known_at,
        bytes: whole,
        damage,
    }))
}

/// How many bytes of a file are whole, and what is wrong with the others.
fn whole(file: BufReader<StdFile>) -> io::Result<(u64, Option<Damage>)> {
    let mut lines = lines(file);
    let head = lines.next().transpose()?.unwrap_or_default();
    let is_sealed = match serde_json::from_slice(&head) {
        Ok(Line::Head { version: None, .. }) => false,
        Ok(Line::Head {
            version: Some(VERSION),
            ..
        }) => true,
        _ => return Err(io::Error::other("is not a file of last known preferences")),
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head);
    let (mut read, mut whole) = (head.len() as u64, 0);
    let mut broken = false;
    for line in lines {
        let line = line?;
        read += line.len() as u64;
        // Only seals count in a file that has them: what stands between two is as it was written, or the second is
        // broken.
        if is_sealed && !line.starts_with(SEAL_PREFIX) {
            hasher.update(&line);
            continue;
        }
        match serde_json::from_slice(&line) {
            // A crash leaves nothing behind a line that it cut off.
            Ok(_) if broken => return Ok((whole, Some(Damage::Changed))),
            Ok(Line::Seal { hash }) if hasher.finalize().to_string() == hash => whole = read,
            Ok(Line::Seal { .. }) => return Ok((whole, Some(Damage::Changed))),
            Ok(Line::Until { .. }) => whole = read,
            Ok(_) => {}
            Err(_) => broken = true,
        }
    }
    Ok((whole, (whole < read).then_some(Damage::CutOff)))
}

/// The lines of a file with their ends, and where each begins.
fn placed_lines(file: impl BufRead) -> impl Iterator<Item = io::Result<(u64, Vec<u8>)>> {
    let mut next = 0;
    lines(file).map(move |line| {
        let line = line?;
        let place = next;
        next += line.len() as u64;
        Ok((place, line))
    })
}

/// The lines of a file with their ends.
fn lines(mut file: impl BufRead) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match file.read_until(b'\n', &mut line) {
            Ok(0) => None,
            read => Some(read.map(|_| line)),
        }
    })
}
