//! What differs between two sets of rules of time zones: which zones, and from when on.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::zone::{Zone, ZoneRules};

/// A zone whose clocks two sets of rules have at different times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneDifference {
    /// Name of the zone.
    pub name: String,
    /// The first instant at which they differ; `None`: one of the sets does not have the zone.
    pub first: Option<OffsetChange>,
}

/// What two sets of rules say about a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetChange {
    /// The instant.
    pub at: DateTime<Utc>,
    /// Seconds ahead of UTC by the first set.
    pub before: i32,
    /// Seconds ahead of UTC by the second set.
    pub after: i32,
}

/// The zones whose clocks differ by the two sets of rules from `from` on and until `until`, or which only one of the two has, by name.
#[must_use]
pub fn zone_differences(
    before: &ZoneRules,
    after: &ZoneRules,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Vec<ZoneDifference> {
    let names: BTreeSet<&str> = before.names().chain(after.names()).collect();
    let difference = |name: &str| {
        let first = match (before.zone(name), after.zone(name)) {
            (Some(before), Some(after)) => Some(first_difference(&before, &after, from, until)?),
            _ => None,
        };
        Some(ZoneDifference {
            name: name.to_owned(),
            first,
        })
    };
    names.into_iter().filter_map(difference).collect()
}

/// The first instant from `from` on and until `until` at which the clocks of two zones differ. They can only begin to at a
/// transition of one of them.
fn first_difference(
    before: &Zone,
    after: &Zone,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Option<OffsetChange> {
    let mut at = from;
    while at <= until {
        let (one, other) = (before.offset_seconds(at)?, after.offset_seconds(at)?);
        if one != other {
            return Some(OffsetChange {
                at,
                before: one,
                after: other,
            });
        }
        let next = [before.next_transition(at), after.next_transition(at)];
        at = next.into_iter().flatten().min()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::time::zone::InvalidZoneRules;

    /// A file whose zone is ahead of UTC by `hours` until `until`, and from then on by one hour more.
    fn tzif(hours: i32, until: &str) -> Vec<u8> {
        let until: DateTime<Utc> = until.parse().unwrap();
        let mut file = Vec::new();
        // The first part is for readers of 32 bits; the second counts.
        for wide in [false, true] {
            file.extend_from_slice(b"TZif2");
            file.extend_from_slice(&[0; 15]);
            // No leap seconds; one transition, two types, and their names.
            for count in [0, 0, 0, 1, 2, 8_u32] {
                file.extend_from_slice(&count.to_be_bytes());
            }
            if wide {
                file.extend_from_slice(&until.timestamp().to_be_bytes());
            } else {
                file.extend_from_slice(&(until.timestamp() as i32).to_be_bytes());
            }
            file.push(1);
            for (place, hours) in [(0, hours), (4, hours + 1)] {
                file.extend_from_slice(&(hours * 3600).to_be_bytes());
                file.extend_from_slice(&[0, place]);
            }
            file.extend_from_slice(b"AAA\0BBB\0");
        }
        file.extend_from_slice(format!("\n<BBB>{}\n", -(hours + 1)).as_bytes());
        file
    }

    fn rules(berlin: Vec<u8>) -> Result<ZoneRules, InvalidZoneRules> {
        let files = [
            ("UTC", tzif(-1, "1990-01-01T00:00:00Z")),
            ("Europe/Berlin", berlin),
            ("America/New_York", tzif(-5, "2030-01-01T00:00:00Z")),
        ];
        let files = files.map(|(name, file)| (name.to_owned(), file));
        ZoneRules::from_files("test", files)
    }

    #[test]
    fn the_first_moment_at_which_clocks_differ_is_found() {
        let begin: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let until = begin + TimeDelta::days(400);
        let old = rules(tzif(1, "2040-01-01T00:00:00Z")).unwrap();
        let new = rules(tzif(1, "2026-07-01T00:00:00Z")).unwrap();
        assert_eq!(zone_differences(&old, &old, begin, until), []);
        let expected = ZoneDifference {
            name: "Europe/Berlin".into(),
            first: Some(OffsetChange {
                at: "2026-07-01T00:00:00Z".parse().unwrap(),
                before: 3600,
                after: 7200,
            }),
        };
        assert_eq!(zone_differences(&old, &new, begin, until), [expected]);
        let soon = begin + TimeDelta::days(90);
        assert_eq!(zone_differences(&old, &new, begin, soon), []);

        let built_in = ZoneRules::built_in();
        assert_eq!(zone_differences(&built_in, &built_in, begin, until), []);
        assert_eq!(built_in.names().count(), Zone::names().count());
        let missing = zone_differences(&built_in, &old, begin, until);
        let tokyo = missing.iter().find(|one| one.name == "Asia/Tokyo");
        assert_eq!(tokyo.unwrap().first, None);
    }

    #[test]
    fn a_broken_file_costs_its_zone_unless_nothing_works_without() {
        let whole = tzif(1, "2026-07-01T00:00:00Z");
        let zone = rules(whole.clone()).unwrap().zone("europe/BERLIN").unwrap();
        assert_eq!(zone.name(), "Europe/Berlin");
        for end in 0..whole.len() {
            // What is cut off never panics; some of it may be readable.
            if let Err(error) = rules(whole[..end].to_vec()) {
                assert!(error.to_string().contains("Europe/Berlin"), "{error}");
            }
        }
        let named = |name: &str| (name.to_owned(), whole.clone());
        let mut files: Vec<(String, Vec<u8>)> = ZoneRules::REQUIRED.map(named).into();
        files.push(("Asia/Tokyo".to_owned(), b"no rules".to_vec()));
        let rules = ZoneRules::from_files("test", files).unwrap();
        assert!(rules.zone("Asia/Tokyo").is_none());
        assert!(rules.unreadable().contains("Asia/Tokyo"));
    }
}
