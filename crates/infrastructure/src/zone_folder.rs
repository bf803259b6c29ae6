//! Reads rules of time zones from a folder in the format of `/usr/share/zoneinfo`, and watches it.

mod watch;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use punctual_domain::{InvalidZoneRules, Zone, ZoneRules};
use tracing::{info, warn};

pub use self::watch::ZoneFolderWatcher;

/// The word that stands for the rules of the machine.
const SYSTEM: &str = "system";
/// Where machines have them.
const SYSTEM_FOLDERS: [&str; 3] = [
    "/usr/share/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
];
/// What is in the folder beside zones, or has them again.
const LEFT_OUT: [&str; 5] = ["posix", "right", "posixrules", "localtime", "Factory"];
/// How deep names are, such as `America/Argentina/Salta`.
const MAX_DEPTH: usize = 3;
/// A zone takes some thousand bytes, and there are six hundred.
const MAX_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 10_000;

/// Why the rules in a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneFolderError {
    /// It cannot be read.
    #[error("cannot read the zone rules in {}: {source}; name a folder as /usr/share/zoneinfo, or system", folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It does not hold usable rules.
    #[error("the zone rules in {} cannot be used: {source}", folder.display())]
    Invalid {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        source: InvalidZoneRules,
    },
    /// A zone that is in effect cannot be read any more.
    #[error("the rules of {zone} in {} cannot be read", folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// Name of the zone.
        zone: String,
    },
}

/// The rules in `folder`, or with the word `system` those of the machine. Give them to [`Zone::install`](punctual_domain::Zone::install).
/// A file that cannot be read is [named](ZoneRules::unreadable), and its zone does not exist.
///
/// # Errors
/// The folder cannot be read, or lacks one of the [required zones](ZoneRules::REQUIRED).
pub fn read_zone_folder(folder: &Path) -> Result<ZoneRules, ZoneFolderError> {
    let folder = resolve(folder);
    let mut files = Vec::new();
    let read = walk(folder, "", MAX_DEPTH, &mut |name, path, _| {
        match fs::read(path) {
            // Tables and lists stand beside the zones. What is empty is of neither: a full disk leaves such files.
            Ok(content) if !content.is_empty() && !content.starts_with(b"TZif") => {}
            _ if files.len() >= MAX_FILES => {}
            Ok(content) => files.push((name, content)),
            // Its zone is named among those that cannot be read.
            Err(_) => files.push((name, Vec::new())),
        }
    });
    read.map_err(|source| ZoneFolderError::Unreadable {
        folder: folder.to_owned(),
        source,
    })?;
    let version = version(folder, &files);
    let rules = ZoneRules::from_files(version, files);
    rules.map_err(|source| ZoneFolderError::Invalid {
        folder: folder.to_owned(),
        source,
    })
}

/// Logs which rules of `folder` are in effect, and which of its files cannot be read.
pub fn log_zone_rules(folder: &Path) {
    let (folder, rules) = (folder.display(), Zone::rules());
    let version = rules.version();
    info!(%folder, version, "Using the zone rules {version} in {folder}");
    for zone in rules.unreadable() {
        warn!(%folder, zone, "The rules of {zone} in {folder} cannot be read, the zone is left out");
    }
}

/// The folder that is meant.
fn resolve(folder: &Path) -> &Path {
    if folder != Path::new(SYSTEM) {
        return folder;
    }
    let mut machines = SYSTEM_FOLDERS.iter().map(Path::new);
    let there = machines.find(|folder| folder.is_dir());
    there.unwrap_or(Path::new(SYSTEM_FOLDERS[0]))
}

/// Calls `each` for every file below a folder that may be of a zone, in order, with the name that the zone then has.
fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    each: &mut impl FnMut(String, &Path, &fs::Metadata),
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !LEFT_OUT.contains(name)) else {
            continue;
        };
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        // What leads nowhere is passed over.
        let Ok(about) = fs::metadata(&path) else {
            continue;
        };
        if about.is_dir() && depth > 1 {
            walk(&path, &format!("{name}/"), depth - 1, each)?;
        } else if about.is_file() && about.len() <= MAX_BYTES {
            each(name, &path, &about);
        }
    }
    Ok(())
}

/// The release that a folder says it is of, or else a hash of the files.
fn version(folder: &Path, files: &[(String, Vec<u8>)]) -> String {
    let first_line = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let line = text.lines().next()?.trim();
        let line = line.strip_prefix("# version ").unwrap_or(line).trim();
        let is_release =
            (1..=20).contains(&line.len()) && line.bytes().all(|b| b.is_ascii_alphanumeric());
        is_release.then(|| line.to_owned())
    };
    if let Some(release) = first_line("+VERSION").or_else(|| first_line("tzdata.zi")) {
        return release;
    }
    let mut hasher = blake3::Hasher::new();
    for (name, content) in files {
        hasher.update(name.as_bytes());
        hasher.update(content);
    }
    format!("hash {}", &hasher.finalize().to_hex()[..12])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use punctual_application::testing::zone_file;

    use super::*;

    fn write(folder: &Path, name: &str, content: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn zones_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for name in [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "America/Argentina/Salta",
        ] {
            write(folder, name, &zone_file(0));
            write(folder, &format!("posix/{name}"), &zone_file(0));
        }
        write(folder, "Asia/Tokyo", b"TZif2 cut off");
        write(folder, "Asia/Seoul", b"");
        write(folder, "zone.tab", b"# a table");
        std::os::unix::fs::symlink(folder.join("none"), folder.join("Nowhere")).unwrap();
        let rules = read_zone_folder(folder).unwrap();
        let names: BTreeSet<&str> = rules.names().collect();
        let expected = [
            "America/Argentina/Salta",
            "America/New_York",
            "Europe/Berlin",
            "UTC",
        ];
        assert_eq!(names, expected.into());
        let unreadable = ["Asia/Seoul", "Asia/Tokyo"].map(str::to_owned);
        assert_eq!(rules.unreadable(), &BTreeSet::from(unreadable));
        let hash = rules.version().to_owned();
        assert!(hash.starts_with("hash "), "{hash}");
        write(folder, "tzdata.zi", b"# version 2026z\n# more");
        assert_eq!(read_zone_folder(folder).unwrap().version(), "2026z");
        write(folder, "+VERSION", b"2027a\n");
        assert_eq!(read_zone_folder(folder).unwrap().version(), "2027a");
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named_with_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        let error = read_zone_folder(&nowhere).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        write(folder.path(), "UTC", &zone_file(0));
        let error = read_zone_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("Europe/Berlin is missing"), "{error}");
    }
}
