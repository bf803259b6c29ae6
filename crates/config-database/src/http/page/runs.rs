//! When a preference will run next, in words.

use askama::Template;
use chrono::{DateTime, Utc};
use punctual_domain::{ClockChange, FieldErrors, MergedPreference, Preference, Slot, Zone};
use punctual_web::format::local;
use serde_json::{Map, Value};

const MAX_RUNS: usize = 5;

/// The next runs of a preference.
#[derive(Debug, Template)]
#[template(path = "runs.html")]
pub(super) struct RunsFragment {
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Invalid(String),
    Off,
    Next {
        rule: String,
        zone: String,
        runs: Vec<RunRow>,
    },
}

#[derive(Debug)]
struct RunRow {
    local: String,
    utc: String,
    /// Effect of a clock change on this run, in words.
    note: Option<String>,
}

impl RunsFragment {
    pub(super) fn of(preference: &Map<String, Value>, now: DateTime<Utc>) -> Self {
        let runs = match merged(preference) {
            Err(FieldErrors(errors)) => Runs::Invalid(
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            Ok(merged) if !merged.enabled => Runs::Off,
            Ok(merged) => Runs::Next {
                rule: merged.slot.to_string(),
                zone: merged.slot.zone.to_string(),
                runs: next(&merged.slot, now),
            },
        };
        Self { runs }
    }

    pub(super) fn invalid(reason: String) -> Self {
        Self {
            runs: Runs::Invalid(reason),
        }
    }
}

/// A preference over the documented defaults.
pub(super) fn merged(preference: &Map<String, Value>) -> Result<MergedPreference, FieldErrors> {
    let stored = Preference::parse(preference)?;
    MergedPreference::merge(&stored, &Preference::default(), &Zone::utc())
}

fn next(slot: &Slot, now: DateTime<Utc>) -> Vec<RunRow> {
    let instants = std::iter::successors(slot.next_after(now), |last| slot.next_after(*last));
    let mut before = now;
    let run = |instant: DateTime<Utc>| {
        let run = RunRow {
            local: local(&slot.zone, instant),
            utc: instant.format("%Y-%m-%d %H:%M").to_string(),
            note: note(slot, before, instant),
        };
        before = instant;
        run
    };
    instants.take(MAX_RUNS).map(run).collect()
}

fn note(slot: &Slot, before: DateTime<Utc>, instant: DateTime<Utc>) -> Option<String> {
    match slot.clock_change(instant) {
        Some(ClockChange::Skipped) => {
            return Some(format!(
                "The clocks skip {} on this day: the run is later by the same amount.",
                slot.time
            ));
        }
        Some(ClockChange::Repeated) => {
            return Some(format!(
                "The clocks show {} twice on this day: the run is at the first.",
                slot.time
            ));
        }
        None => {}
    }
    let offset = |at| slot.zone.offset_seconds(at);
    let moved = (offset(instant)? - offset(before)?) / 60;
    if moved == 0 {
        return None;
    }
    let direction = if moved > 0 { "forward" } else { "back" };
    Some(format!(
        "The clocks went {direction} by {} minutes before this run.",
        moved.abs()
    ))
}
