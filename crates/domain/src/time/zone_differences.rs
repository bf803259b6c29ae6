//! What differs between two sets of rules of time zones: which zones, from when on, and which runs move with them.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    occurrence::Occurrence,
    slot::Slot,
    zone::{Zone, ZoneRules},
};

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
pub(crate) fn first_difference(
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

/// A run that falls due at another time by other rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedRun {
    /// When it falls due by the first rules.
    pub before: DateTime<Utc>,
    /// When it falls due by the second rules; `None`: they have no such date.
    pub after: Option<DateTime<Utc>>,
}

/// The first run of a slot from `from` on and until `until` that falls due at another time when the slot's zone has the rules of
/// `after` than when it has those of `before`.
#[must_use]
pub fn first_moved_run(
    slot: &Slot,
    before: &Zone,
    after: &Zone,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Option<MovedRun> {
    let [old, new] = [before, after].map(|zone| Slot {
        zone: zone.clone(),
        ..slot.clone()
    });
    let just_before = |instant: DateTime<Utc>| instant - TimeDelta::seconds(1);
    let runs = std::iter::successors(old.next_after(just_before(from)), |run| {
        old.next_after(*run)
    });
    let moved = |run| {
        let after = match old.occurrence_key(run) {
            Occurrence::Instant(_) => new.next_after(just_before(run)),
            key => new.instant_of(key),
        };
        (after != Some(run)).then_some(MovedRun { before: run, after })
    };
    runs.take_while(|run| *run <= until).find_map(moved)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{MergedPreference, Preference, time::zone::InvalidZoneRules};

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
    fn the_first_run_that_moves_is_found() {
        let slot = |frequency: &str, time: &str| {
            let stored = json!({"frequency": frequency, "preferred_time": time});
            let stored = Preference::parse(stored.as_object().unwrap()).unwrap();
            let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
            merged.unwrap().slot
        };
        let begin: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let until = begin + TimeDelta::days(400);
        let [old, new] = ["2040-01-01T00:00:00Z", "2026-07-01T08:30:00Z"].map(|changes| {
            let rules = rules(tzif(1, changes)).unwrap();
            rules.zone("Europe/Berlin").unwrap()
        });
        let moved = |slot: &Slot, until| {
            let moved = first_moved_run(slot, &old, &new, begin, until)?;
            Some(format!("{} {}", moved.before, moved.after?))
        };
        // At 08:30 UTC, the run at 09:00 has already been.
        for (slot, expected) in [
            (
                slot("daily", "09:00"),
                "2026-07-02 08:00:00 UTC 2026-07-02 07:00:00 UTC",
            ),
            (
                slot("daily", "11:00"),
                "2026-07-01 10:00:00 UTC 2026-07-01 09:00:00 UTC",
            ),
            (
                slot("weekly", "11:00"),
                "2026-07-06 10:00:00 UTC 2026-07-06 09:00:00 UTC",
            ),
        ] {
            assert_eq!(moved(&slot, until).unwrap(), expected, "{slot}");
        }
        assert_eq!(
            moved(&slot("hourly", "00:20"), until),
            None,
            "every hour stays one"
        );
        assert_eq!(
            moved(&slot("daily", "09:00"), begin + TimeDelta::days(90)),
            None
        );
        let same = first_moved_run(&slot("daily", "09:00"), &old, &old, begin, until);
        assert_eq!(same, None);
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
