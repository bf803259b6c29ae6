//! The folder of the last known good: its files, for one agent at a time and for no other user of the machine.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use punctual_domain::FeatureType;

const LOCK: &str = ".lock";
/// How the name of a file ends that is being written.
const NEW: &str = "new";

/// Another agent uses the folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "The folder {} of the last known preferences is used by another agent ({holder}); give each agent a folder of its \
     own", folder.display()
)]
pub struct FolderInUse {
    folder: PathBuf,
    holder: String,
}

/// Makes the folder where it is missing, and keeps other agents out of it as long as the file is open.
pub(super) fn lock(folder: &Path) -> io::Result<Result<File, FolderInUse>> {
    create(folder)?;
    let mut file = OpenOptions::new();
    let file = file
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = file.open(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.take(64).read_to_string(&mut holder);
            return Ok(Err(FolderInUse {
                folder: folder.to_owned(),
                holder,
            }));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    write!(file, "process {}", std::process::id())?;
    // What a process that ended was writing is of no use.
    for entry in fs::read_dir(folder)?.flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == NEW)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(Ok(file))
}

pub(crate) fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The file of a feature. No id has a `%`, so no two features share one, and none is hidden or leads elsewhere.
pub(super) fn path(folder: &Path, feature_type: &FeatureType) -> PathBuf {
    let name = feature_type.as_str();
    match name.strip_prefix('.') {
        Some(rest) => folder.join(format!("%2E{rest}.ndjson")),
        None => folder.join(format!("{name}.ndjson")),
    }
}

/// The features that have a file.
pub(super) fn features(folder: &Path) -> io::Result<Vec<FeatureType>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut features = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".ndjson"));
        let feature = name.map(|name| FeatureType::new(name.replacen("%2E", ".", 1)));
        features.extend(feature.and_then(Result::ok));
    }
    Ok(features)
}

/// A file beside `path` that takes its place once it is whole.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let unique = uuid::Uuid::new_v4().simple();
    path.with_added_extension(format!("{unique}.{NEW}"))
}
