//! Numbers, names, lengths of time and callers, as messages and pages write them.

use std::{fmt, time::Duration};

use chrono::TimeDelta;

/// A number of things: `1 item`, `2 batches`, `3 deliveries`.
#[must_use]
pub fn amount(count: u64, one: &str) -> String {
    format!("{count} {}", noun(count, one))
}

/// What so many things are called: `item` or `items`.
#[must_use]
pub fn noun(count: u64, one: &str) -> String {
    if count == 1 {
        return one.to_owned();
    }
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if one.ends_with("ch") || one.ends_with(['s', 'x']) => format!("{one}es"),
        _ => format!("{one}s"),
    }
}

/// The first `most` of these names, and how many more there are: `ann, bob and 3 more`.
#[must_use]
pub fn first_of<T: fmt::Display>(names: &[T], most: usize) -> String {
    let (first, more) = names.split_at(names.len().min(most));
    let first: Vec<String> = first.iter().map(ToString::to_string).collect();
    match more.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// A length of time in words, such as `2h 5m`, to the second.
#[must_use]
pub fn length_in_words(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0).unsigned_abs();
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// A size in words, such as `850 kB` or `1.2 GB`.
#[must_use]
pub fn size_in_words(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) if bytes < 10 * unit => {
            format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
        }
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => amount(bytes, "byte"),
    }
}

/// Who an [`Actor`](super::Actor) is, without the interface that they used: `10.0.0.7` of `page from 10.0.0.7`.
#[must_use]
pub fn caller(by: &str) -> &str {
    let address = ["page from ", "api from "]
        .iter()
        .find_map(|interface| by.strip_prefix(interface));
    address.unwrap_or(by)
}

/// What was done, and the reason that was given for it.
pub(super) fn with_reason(what: String, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1_290, "1.2 kB"),
            (850_000, "850 kB"),
            (9_990_000, "9.9 MB"),
            (12_000_000_000, "12 GB"),
        ] {
            assert_eq!(size_in_words(bytes), text);
        }
    }

    #[test]
    fn a_number_and_its_noun_agree() {
        for (count, one, text) in [
            (1, "item", "1 item"),
            (0, "item", "0 items"),
            (2, "dead letter", "2 dead letters"),
            (3, "batch", "3 batches"),
            (2, "delivery", "2 deliveries"),
            (2, "day", "2 days"),
        ] {
            assert_eq!(amount(count, one), text);
        }
    }

    #[test]
    fn of_many_names_the_first_are_written() {
        let names = ["ann", "bob", "eve"];
        assert_eq!(first_of(&names, 3), "ann, bob, eve");
        assert_eq!(first_of(&names, 2), "ann, bob and 1 more");
        assert_eq!(first_of::<&str>(&[], 2), "");
    }

    #[test]
    fn a_caller_is_an_address_or_a_name() {
        for (by, name) in [
            ("page from 10.0.0.7", "10.0.0.7"),
            ("api from ::1", "::1"),
            ("Ann", "Ann"),
            ("page", "page"),
        ] {
            assert_eq!(caller(by), name);
        }
    }
}
