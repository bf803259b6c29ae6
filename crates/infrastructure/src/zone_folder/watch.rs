//! Watches a folder of zone rules: what changes there takes the place of the rules in effect, unless it cannot be used.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use punctual_domain::{Zone, ZoneRules};
use tracing::warn;

use super::{MAX_DEPTH, ZoneFolderError, log_zone_rules, read_zone_folder, resolve, walk};

/// How often the folder is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// What tells a changed file from the one that was read: also one that another takes the place of, as packages and links do. When
/// a file was changed is set by the machine alone; when it was modified is whatever a package says.
type FolderState = BTreeMap<String, ((i64, i64), u64, u64)>;

/// Follows a folder of zone rules.
#[derive(Debug)]
pub struct ZoneFolderWatcher {
    folder: PathBuf,
    /// As the folder was when it was last read; `None`: not by this watcher, or it could not be used.
    seen: Option<FolderState>,
    last: Option<FolderState>,
}

impl ZoneFolderWatcher {
    /// Watches a folder, or with the word `system` that of the machine.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            seen: None,
            last: None,
        }
    }

    /// Has rules that change in the folder [take the place](Zone::replace) of those in effect, until `stop` ends. It calls
    /// `notify` with whether they did: not where the folder changed and its rules are the same.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        notify: impl Fn(&Result<bool, ZoneFolderError>),
    ) {
        let (folder, mut watcher) = (self.folder.clone(), self);
        // Why the folder cannot be used, as it was last logged.
        let mut logged = None;
        let mut stop = std::pin::pin!(stop);
        while tokio::time::timeout(POLL_INTERVAL, &mut stop)
            .await
            .is_err()
        {
            let looking = tokio::task::spawn_blocking(move || {
                let found = watcher.look();
                (watcher, found)
            });
            let looked = tokio::select! {
                looked = looking => looked,
                // A disk that does not answer keeps no program from its end.
                () = &mut stop => return,
            };
            let found;
            (watcher, found) =
                looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let Some(found) = found else {
                continue;
            };
            let taken = found.map(|rules| {
                let before = Zone::rules();
                let is_new = rules != before;
                if is_new {
                    warn_of_missing(&folder, &rules, &before);
                    Zone::replace(rules);
                    log_zone_rules(&folder);
                }
                is_new
            });
            let failure = taken.as_ref().err().map(ToString::to_string);
            if let Some(error) = failure.as_ref().filter(|_| failure != logged) {
                warn!(%error, "Failed to take changed zone rules, the previous ones stay in effect: {error}");
            }
            logged = failure;
            notify(&taken);
        }
    }

    /// What the folder holds, where it is not known yet. A folder that is being written is left alone until it stands still. One
    /// that cannot be used is read again each time: the disk may be at fault.
    fn look(&mut self) -> Option<Result<ZoneRules, ZoneFolderError>> {
        let now = state(&self.folder);
        let is_news = self.seen.as_ref() != Some(&now) && self.last.as_ref() == Some(&now);
        self.last = Some(now.clone());
        is_news.then(|| {
            let found = read_zone_folder(&self.folder);
            let found = found.and_then(|rules| {
                check(&self.folder, &rules, &Zone::rules())?;
                Ok(rules)
            });
            self.seen = found.is_ok().then_some(now);
            found
        })
    }
}

/// Refuses rules in which a zone of those in effect cannot be read: its file is there, and whatever it holds is not the zone.
fn check(folder: &Path, new: &ZoneRules, in_effect: &ZoneRules) -> Result<(), ZoneFolderError> {
    let folder = resolve(folder);
    let is_damaged = |zone: &&str| new.zone(zone).is_none() && folder.join(zone).is_file();
    match in_effect.names().find(is_damaged) {
        Some(zone) => Err(ZoneFolderError::Damaged {
            folder: folder.to_owned(),
            zone: zone.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Logs which zones go on with rules that are not in the folder any more.
fn warn_of_missing(folder: &Path, new: &ZoneRules, in_effect: &ZoneRules) {
    let missing = in_effect.names().filter(|name| new.zone(name).is_none());
    let zones: Vec<&str> = missing.collect();
    if let Some(zone) = zones.first() {
        let (folder, count) = (resolve(folder).display(), zones.len());
        warn!(%folder, ?zones, "{count} zones, such as {zone}, are missing in the changed rules in {folder}; those in use keep the \
            rules they have until the next start");
    }
}

/// The files as they stand now; those that can be listed.
fn state(folder: &Path) -> FolderState {
    let mut files = FolderState::new();
    let _ = walk(resolve(folder), "", MAX_DEPTH, &mut |name, _, about| {
        let changed = (about.ctime(), about.ctime_nsec());
        files.insert(name, (changed, about.len(), about.ino()));
    });
    files
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use punctual_application::testing::zone_file;

    use super::*;

    fn fill(folder: &Path) {
        for zone in ZoneRules::REQUIRED {
            write(folder, zone, &zone_file(0));
        }
    }

    /// Puts a file in place of another, as packages do.
    fn write(folder: &Path, name: &str, content: &[u8]) {
        let (path, new) = (folder.join(name), folder.join("new"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, content).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_folder_is_read_once_it_has_changed_and_stands_still() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fill(folder);
        let mut watcher = ZoneFolderWatcher::new(folder);
        assert!(watcher.look().is_none(), "it may be being written");
        let first = watcher.look().unwrap().unwrap();
        assert!(watcher.look().is_none(), "nothing has changed");
        write(folder, "Asia/Tokyo", &zone_file(0));
        assert!(watcher.look().is_none());
        write(folder, "Asia/Seoul", &zone_file(0));
        assert!(watcher.look().is_none(), "it is being written");
        let more = watcher.look().unwrap().unwrap();
        assert_eq!((first.names().count(), more.names().count()), (3, 5));

        fs::remove_file(folder.join("UTC")).unwrap();
        assert!(watcher.look().is_none());
        let error = watcher.look().unwrap().unwrap_err().to_string();
        assert!(error.contains("UTC is missing"), "{error}");
        let again = watcher.look().unwrap();
        assert!(again.is_err(), "the disk may have been at fault");
        write(folder, "UTC", &zone_file(0));
        assert!(watcher.look().is_none());
        assert!(watcher.look().unwrap().is_ok());
    }

    #[test]
    fn a_file_that_changes_is_seen_whatever_time_its_package_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fill(folder);
        let path = folder.join("UTC");
        let changed = || {
            let about = fs::metadata(&path).unwrap();
            (about.ctime(), about.ctime_nsec())
        };
        let write_in_place = || {
            let before = changed();
            // Clocks of file systems are coarse.
            while changed() == before {
                fs::write(&path, zone_file(0)).unwrap();
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
        };
        write_in_place();
        let mut watcher = ZoneFolderWatcher::new(folder);
        assert!(watcher.look().is_none());
        assert!(watcher.look().unwrap().is_ok());
        write_in_place();
        assert!(watcher.look().is_none());
        assert!(watcher.look().is_some());
    }

    #[test]
    fn a_folder_that_a_link_leads_to_is_exchanged_with_the_link() {
        let both = tempfile::tempdir().unwrap();
        let link = both.path().join("zoneinfo");
        for name in ["a", "b"] {
            let folder = both.path().join(name);
            fs::create_dir(&folder).unwrap();
            fill(&folder);
            fs::write(folder.join("+VERSION"), format!("2099{name}\n")).unwrap();
        }
        let lead_to = |name: &str| {
            let new = both.path().join("new");
            std::os::unix::fs::symlink(both.path().join(name), &new).unwrap();
            fs::rename(new, &link).unwrap();
        };
        lead_to("a");
        let mut watcher = ZoneFolderWatcher::new(&link);
        let mut version = || {
            assert!(watcher.look().is_none());
            watcher.look().unwrap().unwrap().version().to_owned()
        };
        assert_eq!(version(), "2099a");
        lead_to("b");
        assert_eq!(version(), "2099b");
    }

    #[test]
    fn a_damaged_file_counts_where_its_zone_is_in_effect() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fill(folder);
        let whole = read_zone_folder(folder).unwrap();
        let built_in = ZoneRules::built_in();
        assert!(
            check(folder, &whole, &built_in).is_ok(),
            "others are missing"
        );
        // The second one is what a full disk leaves.
        for content in [b"TZif2 cut off".as_slice(), b"", b"something else"] {
            write(folder, "Asia/Tokyo", content);
            let damaged = read_zone_folder(folder).unwrap();
            assert!(check(folder, &damaged, &damaged).is_ok());
            let error = check(folder, &damaged, &built_in).unwrap_err();
            assert!(error.to_string().contains("Asia/Tokyo"), "{error}");
        }
    }
}
