//! The file of a feature: a head, the records of a snapshot, and the changes since, one JSON object a line.
//! A new snapshot replaces the file as a whole; a line that a crash cut off is as if it had not been written.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::Path,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{ChangePage, Cursor, Snapshot};
use punctual_domain::{ChangeKind, PreferenceRecord, TenantId};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt,
};

/// How old the file may become, by its own word, while nothing changes.
const CONTACT_EVERY: TimeDelta = TimeDelta::seconds(60);

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    /// The first line: whose preferences these are.
    Head { source: String },
    /// A tenant's preference.
    Set(PreferenceRecord),
    /// A tenant without one.
    Remove { tenant_id: TenantId },
    /// Everything above is what was known at `known_at`, and the feed goes on from `cursor`.
    Until {
        cursor: Cursor,
        known_at: DateTime<Utc>,
    },
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) records: Vec<PreferenceRecord>,
    pub(super) cursor: Cursor,
    pub(super) known_at: DateTime<Utc>,
}

/// A file that changes are appended to.
pub(super) struct Journal {
    file: File,
    written_until: DateTime<Utc>,
}

impl Journal {
    /// Replaces the file by a snapshot.
    pub(super) async fn begin(
        path: &Path,
        source: &str,
        snapshot: &Snapshot,
        read_at: DateTime<Utc>,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await?;
        }
        let mut text = Vec::new();
        push(
            &mut text,
            &Line::Head {
                source: source.to_owned(),
            },
        )?;
        for record in &snapshot.records {
            push(&mut text, &Line::Set(record.clone()))?;
        }
        push(
            &mut text,
            &Line::Until {
                cursor: snapshot.cursor.clone(),
                known_at: read_at,
            },
        )?;
        let new = path.with_extension("new");
        let mut file = File::create(&new).await?;
        file.write_all(&text).await?;
        file.sync_all().await?;
        fs::rename(&new, path).await?;
        Ok(Self {
            file,
            written_until: read_at,
        })
    }

    /// Adds a page of changes.
    pub(super) async fn append(
        &mut self,
        page: &ChangePage,
        read_at: DateTime<Utc>,
    ) -> io::Result<()> {
        if page.changes.is_empty() && read_at - self.written_until < CONTACT_EVERY {
            return Ok(());
        }
        let mut text = Vec::new();
        for change in &page.changes {
            let tenant_id = change.tenant_id.clone();
            let line = match &change.kind {
                ChangeKind::Deleted => Line::Remove { tenant_id },
                ChangeKind::Upserted(preference) => Line::Set(PreferenceRecord {
                    tenant_id,
                    preference: preference.clone(),
                    updated_at: change.changed_at,
                    schedule_since: change.schedule_since,
                }),
            };
            push(&mut text, &line)?;
        }
        push(
            &mut text,
            &Line::Until {
                cursor: page.cursor.clone(),
                known_at: read_at,
            },
        )?;
        self.file.write_all(&text).await?;
        self.file.flush().await?;
        self.written_until = read_at;
        Ok(())
    }
}

fn push(text: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// Reads a file; `None` when there is none, or it is about another source.
pub(super) async fn read(path: &Path, source: &str) -> Result<Option<Restored>, String> {
    let text = match fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let mut lines = text.lines();
    match lines.next().map(serde_json::from_str) {
        Some(Ok(Line::Head { source: named })) if named == source => {}
        Some(Ok(Line::Head { .. })) => return Ok(None),
        _ => {
            return Err(format!(
                "{} does not begin as a file of preferences",
                path.display()
            ));
        }
    }
    let mut records: BTreeMap<TenantId, PreferenceRecord> = BTreeMap::new();
    let mut waiting = Vec::new();
    let mut until = None;
    for line in lines {
        match serde_json::from_str(line) {
            Ok(Line::Until { cursor, known_at }) => {
                until = Some((cursor, known_at));
                for line in waiting.drain(..) {
                    match line {
                        Line::Set(record) => {
                            records.insert(record.tenant_id.clone(), record);
                        }
                        Line::Remove { tenant_id } => {
                            records.remove(&tenant_id);
                        }
                        Line::Head { .. } | Line::Until { .. } => {}
                    }
                }
            }
            Ok(line) => waiting.push(line),
            // Cut off by a crash: what came after the last `until` is not known to be whole.
            Err(_) => break,
        }
    }
    let (cursor, known_at) = until.ok_or_else(|| format!("{} ends too early", path.display()))?;
    Ok(Some(Restored {
        records: records.into_values().collect(),
        cursor,
        known_at,
    }))
}
