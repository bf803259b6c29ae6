//! `zones diff`: which zones change with other rules, when, and whose runs of a running agent move with them.

mod moves;

use std::{collections::HashMap, path::Path};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{Clock, SystemClock};
use punctual_domain::{OffsetChange, Zone, ZoneDifference, ZoneRules, zone_differences};
use punctual_infrastructure::read_zone_folder;
use punctual_operations::model;
use serde_json::{Value, json};

use self::moves::{Moves, moves};
use super::Failure;
use crate::{
    cli::{Zones, ZonesDiffOptions},
    client::{Client, LONG_TIMEOUT},
    output::{Table, View, cell, minute, show},
    settings::Settings,
};

/// Users of a zone that are listed, unless the caller says otherwise: to people, and as JSON.
const LISTED: usize = 3;
const LISTED_AS_JSON: usize = 1_000;

/// What the running agent knows of the users in the zones that change.
struct Users {
    /// How many users are scheduled in a zone, by zone; each counts once for each feature.
    scheduled: HashMap<String, usize>,
    /// Whose runs move, by zone.
    moves: HashMap<String, Moves>,
}

impl Users {
    fn in_zone(&self, zone: &str) -> usize {
        self.scheduled.get(zone).copied().unwrap_or(0)
    }
}

/// Compares with the rules in effect, which the settings have installed.
pub(crate) async fn zones(settings: &Settings, what: Zones) -> Result<(), Failure> {
    let Zones::Diff(ZonesDiffOptions {
        to,
        from,
        days,
        users: listed,
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
    let listed = listed.unwrap_or(if json { LISTED_AS_JSON } else { LISTED });
    // Without a running agent that answers, what differs is of use, too.
    let counted = users(settings, listed, &differences, [&old, &new], until).await;
    let users = counted.as_ref().ok();
    let document = json!({
        "from": old.version(),
        "to": new.version(),
        "until": until,
        "zones": differences.iter().map(|one| to_json(one, users)).collect::<Vec<_>>(),
    });
    show(json, &document, |_| {
        let (before, after) = (old.version(), new.version());
        if differences.is_empty() {
            return View::default().line(format!(
                "No zone changes from {before} to {after} in the next {days} days"
            ));
        }
        let mut table = Table::new(["zone", "differs from", "before", "after", "users"]);
        for ZoneDifference { name, first } in &differences {
            let (at, offsets) = if let Some(OffsetChange { at, before, after }) = first {
                (minute(*at), [offset(*before), offset(*after)])
            } else {
                let there = [&old, &new].map(|rules| match rules.zone(name) {
                    Some(_) => "there".to_owned(),
                    None => "missing".to_owned(),
                });
                ("always".to_owned(), there)
            };
            let [before, after] = offsets;
            let count = users.map(|users| users.in_zone(name));
            let count = count.map_or_else(|| "?".to_owned(), |count| count.to_string());
            table.row([cell(name), cell(at), cell(before), cell(after), cell(count)]);
        }
        let view = View::default()
            .line(format!(
                "Zones that change from {before} to {after} in the next {days} days:"
            ))
            .table(&table);
        match &counted {
            Ok(users) => with_moves(view, users, &differences),
            Err(Failure::Failed(why) | Failure::BadInput(why)) => {
                view.prose(format!("The users in these zones are not counted: {why}"))
            }
            Err(Failure::Shown) => view.line("The users in these zones are not counted"),
        }
    });
    Ok(())
}

/// The users of the running agent in the zones that change.
async fn users(
    settings: &Settings,
    listed: usize,
    differences: &[ZoneDifference],
    [old, new]: [&ZoneRules; 2],
    until: DateTime<Utc>,
) -> Result<Users, Failure> {
    let client = Client::new(settings)?;
    let answer: model::Zones = client.get("zones", &[]).await?;
    let zones = answer.zones.into_iter();
    let scheduled: HashMap<String, usize> = zones
        .map(|zone| (zone.zone, zone.tenants.values().sum()))
        .collect();
    let mut found = HashMap::new();
    for ZoneDifference { name, first } in differences {
        let (Some(change), true) = (first, scheduled.contains_key(name)) else {
            continue;
        };
        let (Some(before), Some(after)) = (old.zone(name), new.zone(name)) else {
            continue;
        };
        let query = [("zone", name.clone()), ("named", listed.to_string())];
        let answer: model::ZoneSchedules = client
            .get_within("zones/schedules", &query, LONG_TIMEOUT)
            .await?;
        let times = [change.at, until];
        let moves = moves(answer.schedules, [&before, &after], times, listed)?;
        found.insert(name.clone(), moves);
    }
    Ok(Users {
        scheduled,
        moves: found,
    })
}

/// Adds whose runs move, zone by zone.
fn with_moves(mut view: View, users: &Users, differences: &[ZoneDifference]) -> View {
    for ZoneDifference { name, .. } in differences {
        let Some(moves) = users.moves.get(name).filter(|moves| moves.users > 0) else {
            continue;
        };
        view = view.heading(format!(
            "Users in {name} whose runs move: {}, each with the first such run",
            moves.users
        ));
        if !moves.listed.is_empty() {
            view = view.table(&moves.table());
        }
        if moves.listed.len() < moves.users {
            view = view.line("More of them: --users N, or --json");
        }
    }
    view
}

fn to_json(ZoneDifference { name, first }: &ZoneDifference, users: Option<&Users>) -> Value {
    let count = users.map(|users| users.in_zone(name));
    let (at, before, after) = match first {
        Some(OffsetChange { at, before, after }) => {
            (Some(at), Some(offset(*before)), Some(offset(*after)))
        }
        None => (None, None, None),
    };
    let moves = users.and_then(|users| users.moves.get(name));
    json!({"zone": name, "at": at, "before": before, "after": after, "users": count,
        "users_with_moved_runs": moves.map(|moves| moves.users),
        "moved_runs": moves.map(|moves| &moves.listed)})
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
