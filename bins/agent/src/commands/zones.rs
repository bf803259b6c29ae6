//! `zones diff`: which zones change with other rules, and when.

use std::path::Path;

use chrono::TimeDelta;
use punctual_application::ports::{Clock, SystemClock};
use punctual_domain::{OffsetChange, Zone, ZoneDifference, zone_differences};
use punctual_infrastructure::read_zone_folder;
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::{Zones, ZonesDiffOptions},
    output::{Table, View, cell, minute, show},
};

/// Compares with the rules in effect, which the settings have installed.
pub(crate) fn zones(what: Zones) -> Result<(), Failure> {
    let Zones::Diff(ZonesDiffOptions {
        to,
        from,
        days,
        json,
    }) = what;
    let read = |option: &str, folder: &Path| {
        let rules = read_zone_folder(folder);
        rules.map_err(|error| Failure::bad_input(format!("{option}: {error}")))
    };
    let new = read("--to", &to)?;
    let old = match from {
        Some(folder) => read("--from", &folder)?,
        None => Zone::rules(),
    };
    let begin = SystemClock.now();
    let until = begin + TimeDelta::days(days.into());
    let differences = zone_differences(&old, &new, begin, until);
    let document = json!({
        "from": old.version(),
        "to": new.version(),
        "until": until,
        "zones": differences.iter().map(to_json).collect::<Vec<_>>(),
    });
    show(json, &document, |_| {
        let (before, after) = (old.version(), new.version());
        if differences.is_empty() {
            return View::default().line(format!(
                "No zone changes from {before} to {after} in the next {days} days"
            ));
        }
        let mut table = Table::new(["zone", "differs from", "before", "after"]);
        for ZoneDifference { name, first } in &differences {
            let (at, offsets) = match first {
                Some(OffsetChange { at, before, after }) => {
                    (minute(*at), [offset(*before), offset(*after)])
                }
                None => {
                    let there = [&old, &new].map(|rules| match rules.zone(name) {
                        Some(_) => "there".to_owned(),
                        None => "missing".to_owned(),
                    });
                    ("always".to_owned(), there)
                }
            };
            let [before, after] = offsets;
            table.row([cell(name), cell(at), cell(before), cell(after)]);
        }
        View::default()
            .line(format!(
                "Zones that change from {before} to {after} in the next {days} days:"
            ))
            .table(&table)
    });
    Ok(())
}

fn to_json(ZoneDifference { name, first }: &ZoneDifference) -> Value {
    match first {
        Some(OffsetChange { at, before, after }) => {
            json!({"zone": name, "at": at, "before": offset(*before), "after": offset(*after)})
        }
        None => json!({"zone": name, "at": null, "before": null, "after": null}),
    }
}

/// How far clocks are ahead of UTC, such as `+05:30`.
fn offset(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::offset;

    #[test]
    fn offsets_are_written_as_people_write_them() {
        for (seconds, written) in [(0, "+00:00"), (19_800, "+05:30"), (-12_600, "-03:30")] {
            assert_eq!(offset(seconds), written);
        }
    }
}
