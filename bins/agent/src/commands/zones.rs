//! `zones diff`: which zones change with other rules, when, and for how many users of a running agent.

use std::{collections::HashMap, path::Path};

use chrono::TimeDelta;
use punctual_application::ports::{Clock, SystemClock};
use punctual_domain::{OffsetChange, Zone, ZoneDifference, zone_differences};
use punctual_infrastructure::read_zone_folder;
use punctual_operations::model;
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::{Zones, ZonesDiffOptions},
    client::Client,
    output::{Table, View, cell, minute, show},
    settings::Settings,
};

/// How many users are scheduled in a zone, by zone; each counts once for each feature.
type Users = HashMap<String, usize>;

/// Compares with the rules in effect, which the settings have installed.
pub(crate) async fn zones(settings: &Settings, what: Zones) -> Result<(), Failure> {
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
    // Without a running agent that answers, what differs is of use, too.
    let counted = users(settings).await;
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
            let count = users_of(users, name);
            let count = count.map_or_else(|| "?".to_owned(), |count| count.to_string());
            table.row([cell(name), cell(at), cell(before), cell(after), cell(count)]);
        }
        let view = View::default()
            .line(format!(
                "Zones that change from {before} to {after} in the next {days} days:"
            ))
            .table(&table);
        match &counted {
            Ok(_) => view,
            Err(Failure::Failed(why) | Failure::BadInput(why)) => {
                view.prose(format!("The users in these zones are not counted: {why}"))
            }
            Err(Failure::Shown) => view.line("The users in these zones are not counted"),
        }
    });
    Ok(())
}

/// The users of the running agent.
async fn users(settings: &Settings) -> Result<Users, Failure> {
    let client = Client::new(settings)?;
    let answer: model::Zones = client.get("zones", &[]).await?;
    let zones = answer.zones.into_iter();
    Ok(zones
        .map(|zone| (zone.zone, zone.tenants.values().sum()))
        .collect())
}

fn users_of(users: Option<&Users>, zone: &str) -> Option<usize> {
    users.map(|users| users.get(zone).copied().unwrap_or(0))
}

fn to_json(ZoneDifference { name, first }: &ZoneDifference, users: Option<&Users>) -> Value {
    let users = users_of(users, name);
    match first {
        Some(OffsetChange { at, before, after }) => {
            json!({"zone": name, "at": at, "before": offset(*before), "after": offset(*after), "users": users})
        }
        None => {
            json!({"zone": name, "at": null, "before": null, "after": null, "users": users})
        }
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
