//! What a program sets for its own process, and for its files.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    ops::RangeInclusive,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    process::{self, Resource, Rlimit, getrlimit, setrlimit, umask},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// Has a write that would make a file larger than its limit fail, as on a full disk. By default, the system ends the process.
/// Programs that the process starts have the default. To be called in the runtime.
///
/// # Errors
/// The system refuses it.
pub fn outlive_file_size_limit() -> io::Result<()> {
    // The handler stays, and ends with an `exec`; to ignore the signal would not.
    signal(SignalKind::from_raw(process::Signal::XFSZ.as_raw())).map(drop)
}

/// The signals that ask a process to end: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on. They end the process no more by themselves.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reads the address that a server is to listen on, as a setting says it.
///
/// # Errors
/// It is not an IP address with a port, but the name of a host, for example.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not an IP address with a port, such as 127.0.0.1:8080"
        ))
    })
}

/// Reads the whole number of the setting `name`.
///
/// # Errors
/// The text is not a whole number of this range.
pub fn whole_number(name: &str, text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse::<u64>().ok();
    let number = number.filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (from, to) = (range.start(), range.end());
        format!("{name} is {text}; expected a whole number from {from} to {to}")
    })
}

/// A file that holds the addresses of a server while it serves, for programs that wait until it is ready.
#[derive(Debug)]
pub struct ReadyFile(PathBuf);

impl ReadyFile {
    /// The file at `path`, without the addresses of an earlier process. A pipe or a device is kept.
    ///
    /// # Errors
    /// The old file cannot be removed.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        let file = Self(path);
        match fs::symlink_metadata(&file.0) {
            Ok(old) if old.is_file() => fs::remove_file(&file.0).map_err(file.named("remove"))?,
            _ => {}
        }
        Ok(file)
    }

    /// Writes the addresses as one line of JSON. A reader of a file sees all of the line or no file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, addresses: &impl Serialize) -> io::Result<()> {
        self.try_write(addresses).map_err(self.named("write"))
    }

    fn try_write(&self, addresses: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(addresses)? + "\n";
        if self.0.exists() {
            let mut pipe = fs::File::options().append(true).open(&self.0)?;
            return pipe.write_all(line.as_bytes());
        }
        let mut partial = self.0.clone().into_os_string();
        partial.push(".partial");
        fs::write(&partial, line)?;
        fs::rename(&partial, &self.0)
    }

    fn named(&self, action: &str) -> impl FnOnce(io::Error) -> io::Error {
        move |error| {
            let path = self.0.display();
            let text = format!(
                "cannot {action} {path}: {error}; name a file in a folder that exists, or a pipe"
            );
            io::Error::new(error.kind(), text)
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.0).is_ok_and(|written| written.is_file()) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// A file that gets its name once it is whole. Until then it has another one beside it, and is removed when it is dropped.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    partial: PathBuf,
}

impl NewFile {
    /// Begins an empty file, which only the user of the process can read.
    ///
    /// # Errors
    /// There is a file of that name already, it cannot be made, or its name is not Unicode.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        // `SQLite` takes a relative name that begins with `file:` for a URL, and writes elsewhere.
        let path = std::path::absolute(path)?;
        if path.to_str().is_none() {
            let text = format!(
                "the name {} is not Unicode; name another file",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        refuse_existing(&path)?;
        let mut partial = path.clone().into_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let mut options = fs::File::options();
        let made = options.write(true).create_new(true).mode(0o600);
        made.open(&partial).map_err(|error| {
            let text = format!("cannot make {}: {error}", partial.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self { path, partial })
    }

    /// Where it is until it is whole.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Gives the file its name. After a power cut it is there as a whole. Returns its size in bytes.
    ///
    /// # Errors
    /// There is a file of that name by now, or the disk fails.
    pub fn finish(self) -> io::Result<u64> {
        let file = fs::File::open(&self.partial)?;
        file.sync_all()?;
        refuse_existing(&self.path)?;
        fs::rename(&self.partial, &self.path)?;
        let folder = self.path.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let text = format!("{} exists already; name a new file", path.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial);
    }
}

/// Takes the files of a `SQLite` database that earlier versions left readable for others away from them.
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
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_ready_file_exists_while_the_server_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        fs::write(&path, "of an earlier process").unwrap();
        let ready = ReadyFile::new(path.clone()).unwrap();
        assert!(!path.exists());
        ready.write(&["http://127.0.0.1:1"]).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, "[\"http://127.0.0.1:1\"]\n");
        drop(ready);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let elsewhere = folder.path().join("file");
        fs::write(&elsewhere, "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let ready = ReadyFile::new(path.clone()).unwrap();
        ready.write(&1).unwrap();
        drop(ready);
        assert!(
            path.is_symlink(),
            "what leads elsewhere, as /dev/stdout does, is kept"
        );
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "1\n");

        let nowhere = ReadyFile::new(folder.path().join("none/ready.json")).unwrap();
        let error = nowhere.write(&1).unwrap_err().to_string();
        assert!(error.contains("none/ready.json: "), "{error}");
    }

    #[test]
    fn a_new_file_is_private_takes_the_place_of_none_and_is_there_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let file = NewFile::create(path.clone()).unwrap();
        assert!(!path.exists());
        let mode = fs::metadata(file.partial()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        assert_eq!(count(), 0);
        let file = NewFile::create(path.clone()).unwrap();
        fs::write(file.partial(), "whole").unwrap();
        assert_eq!(file.finish().unwrap(), 5);
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), count()),
            ("whole".into(), 1)
        );
        let error = NewFile::create(path).unwrap_err().to_string();
        assert!(error.contains("copy.db exists already"), "{error}");
        // From the working folder, in which nothing may be written, up to the root and down again.
        let depth = std::env::current_dir().unwrap().components().count() - 1;
        let below_root = folder.path().strip_prefix("/").unwrap().join("other.db");
        let relative = PathBuf::from("../".repeat(depth)).join(below_root);
        let relative = NewFile::create(relative).unwrap();
        assert!(relative.partial().is_absolute());
        let name = std::ffi::OsStr::from_bytes(b"copy\xff.db");
        let error = NewFile::create(folder.path().join(name)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

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
