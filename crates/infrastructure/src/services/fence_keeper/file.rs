//! The file in which a process remembers, outside of the store, how far the store had come.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use punctual_domain::KnownMarks;

use crate::clients::last_known_good::folder;

const NAME: &str = "fence.json";

/// The file of a folder.
#[derive(Debug, Clone)]
pub(super) struct FenceFile(PathBuf);

impl FenceFile {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self(folder.join(NAME))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What is remembered. Nothing before the first mark.
    pub(super) fn read(&self) -> io::Result<KnownMarks> {
        match fs::read(&self.0) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(KnownMarks::default()),
            Err(error) => Err(error),
        }
    }

    /// Remembers these. After a power cut the file has either them or what it had before.
    pub(super) fn write(&self, known: &KnownMarks) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        folder::create(folder)?;
        let new = folder::beside(&self.0);
        let written = write_new(&new, known).and_then(|()| fs::rename(&new, &self.0));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        File::open(folder)?.sync_all()
    }
}

fn write_new(path: &Path, known: &KnownMarks) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(serde_json::to_string(known)?.as_bytes())?;
    file.sync_all()
}
