//! What a program sets for its own process, and for its files.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};
use tracing::warn;

/// Open files that a server with all its connections may need; more than the 1,024 that most systems begin with.
const OPEN_FILES: u64 = 16_384;

/// To be called first: every file the process makes from now on is its user's alone, and it may open as many as the
/// system lets it.
pub fn begin() {
    umask(Mode::RWXG | Mode::RWXO);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        // With fewer, fewer connections are accepted.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum,
            },
        );
    }
}

/// Takes the files of a SQLite database that earlier versions left readable for others away from them.
pub fn keep_database_private(url: &str) {
    let Some(path) = url.strip_prefix("sqlite:") else {
        return;
    };
    let path = path
        .trim_start_matches("//")
        .split('?')
        .next()
        .unwrap_or_default();
    for suffix in ["", "-wal", "-shm"] {
        keep_private(Path::new(&format!("{path}{suffix}")));
    }
}

/// The same with a folder and what is in it.
pub fn keep_folder_private(folder: &Path) {
    keep_private(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        keep_private(&entry.path());
    }
}

fn keep_private(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() || mode & 0o077 == 0 {
        return;
    }
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700)) {
        let path = path.display();
        warn!(%path, %error, "Failed to make {path} private, other users can read it: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_earlier_versions_are_taken_away_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let database = folder.path().join("p.db");
        let files = ["p.db", "p.db-wal", "p.db-shm"].map(|name| folder.path().join(name));
        for file in &files {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        keep_database_private(&format!("sqlite://{}?mode=rwc", database.display()));
        for file in &files {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
        let known = folder.path().join("known");
        fs::create_dir(&known).unwrap();
        fs::set_permissions(&known, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(known.join("f"), "").unwrap();
        fs::set_permissions(known.join("f"), fs::Permissions::from_mode(0o664)).unwrap();
        keep_folder_private(&known);
        assert_eq!((mode(&known), mode(&known.join("f"))), (0o700, 0o600));
        keep_database_private("postgres://u@h/d");
        keep_database_private("sqlite://none.db");
    }
}
