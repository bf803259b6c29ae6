//! The file of a feature: a head, the records of a snapshot, and the changes since, one JSON object per line. Every block of
//! lines ends with a seal, the hash of all that stands above it. A new snapshot replaces the file as a whole; a block
//! that a crash cut off is as if it had not been written, and damage is something else.

use std::{
    fs::File as StdFile,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    path::Path,
};

use chrono::{DateTime, TimeDelta, Utc};
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
    written_until: DateTime<Utc>,
}

impl Journal {
    /// Replaces the file by a snapshot.
    pub(super) async fn begin(
        path: &Path,
        source: &str,
        records: &[PreferenceRecord],
        cursor: &Cursor,
        read_at: DateTime<Utc>,
    ) -> io::Result<Self> {
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
        let mut journal = Self {
            file,
            text: Vec::new(),
            hasher: blake3::Hasher::new(),
            written_until: read_at,
        };
        let written = journal.write(source, records, cursor, read_at).await;
        let written = match written {
            Ok(()) => fs::rename(&new, path).await,
            failed => failed,
        };
        match written {
            Ok(()) => Ok(journal),
            Err(error) => {
                let _ = fs::remove_file(&new).await;
                Err(error)
            }
        }
    }

    async fn write(
        &mut self,
        source: &str,
        records: &[PreferenceRecord],
        cursor: &Cursor,
        read_at: DateTime<Utc>,
    ) -> io::Result<()> {
        self.push(&Line::Head {
            source: source.to_owned(),
            version: Some(VERSION),
        })?;
        for record in records {
            self.push(&Line::Set(record.clone()))?;
            if self.text.len() >= WRITE_BUFFER_BYTES {
                self.file.write_all(&self.text).await?;
                self.text.clear();
            }
        }
        self.seal(cursor, read_at).await?;
        self.file.sync_all().await
    }

    /// Adds a page of changes.
    pub(super) async fn append(
        &mut self,
        page: &ChangePage,
        read_at: DateTime<Utc>,
    ) -> io::Result<()> {
        if page.changes.is_empty() && read_at - self.written_until < CONTACT_INTERVAL {
            return Ok(());
        }
        for change in &page.changes {
            let tenant_id = change.tenant_id.clone();
            self.push(&match &change.kind {
                ChangeKind::Deleted => Line::Remove { tenant_id },
                ChangeKind::Upserted(preference) => Line::Set(PreferenceRecord {
                    tenant_id,
                    preference: preference.clone(),
                    updated_at: change.changed_at,
                    schedule_since: change.schedule_since,
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
        write_line(&mut self.text, &Line::Seal { hash })?;
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

/// A record or the end of one.
pub(super) enum JournalRecord {
    Set(PreferenceRecord),
    Remove(TenantId),
}

/// Reads the last whole state of a file, record by record in their order; `None` when there is none, or it belongs to
/// another source.
///
/// # Errors
/// The reason why the file holds no complete state.
pub(super) async fn read<T: Default + Send + 'static>(
    path: &Path,
    source: &str,
    take: fn(&mut T, JournalRecord),
) -> Result<Option<(JournalState, T)>, String> {
    let (path, source) = (path.to_owned(), source.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut records = T::default();
        let found = read_file(&path, &source, |kept| take(&mut records, kept));
        found.map(|found| found.map(|found| (found, records)))
    });
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn read_file(
    path: &Path,
    source: &str,
    mut take: impl FnMut(JournalRecord),
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
    for line in lines(open().map_err(|error| named(&error))?.take(whole)) {
        match line.and_then(|line| Ok(serde_json::from_slice(&line)?)) {
            Ok(Line::Head { source: named, .. }) if named != source => return Ok(None),
            Ok(Line::Head { .. } | Line::Seal { .. }) => {}
            Ok(Line::Set(record)) => take(JournalRecord::Set(record)),
            Ok(Line::Remove { tenant_id }) => take(JournalRecord::Remove(tenant_id)),
            Ok(Line::Until { cursor, known_at }) => found = Some((cursor, known_at)),
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
