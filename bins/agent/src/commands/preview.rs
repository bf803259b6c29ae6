//! `preview`: when a preference falls due, from the same pure functions the scheduler uses; with `--render`, what a run sends.

mod render;

use std::io::{BufRead, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use punctual_application::ports::{Clock, ConfigDatabase, SystemClock};
use punctual_domain::{
    FeatureType, FieldErrors, JobConfig, JobDefaults, MergedPreference, Occurrence, Preference,
    TenantId, Work, Zone, visible,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, check};
use crate::{
    cli::PreviewOptions,
    output::{Table, View, cell, show as show_as},
    settings::Settings,
    wiring,
};

pub(crate) async fn preview(settings: &Settings, options: PreviewOptions) -> Result<(), Failure> {
    if options.render
        && let (Some(tenant), Some(job)) = (&options.tenant, &options.job)
    {
        return render::render(settings, tenant.clone(), job, options.call, options.json).await;
    }
    let zone = &settings.batch_default_timezone;
    let from = options.from.unwrap_or_else(|| SystemClock.now());
    let (merged, runs) = match (&options.preference, &options.tenant, &options.feature) {
        (Some(text), ..) => {
            let value: Value = serde_json::from_str(text).map_err(|error| {
                Failure::bad_input(format!(
                    "--preference is not valid JSON (line {}, column {}); expected an object, e.g. \
                     '{{\"frequency\": \"daily\"}}'",
                    error.line(),
                    error.column()
                ))
            })?;
            let merged = merge(&value, &switched_on(), zone).map_err(Failure::bad_input)?;
            let runs = occurrences(&merged, from, options.count);
            (merged, runs)
        }
        (_, Some(tenant), Some(feature)) => {
            let (merged, job) = of_tenant(settings, tenant, feature).await?;
            let runs = job.runs(&merged, tenant, from).take(options.count as usize);
            let runs = runs.map(|run| run.at).collect();
            (merged, runs)
        }
        _ => return many(zone, from, options.count),
    };
    show(&merged, &runs, &options);
    Ok(())
}

/// A preference that is only asked about need not say that it is on.
fn switched_on() -> Preference {
    let mut preference = Preference::default();
    preference.enabled = Some(true);
    preference
}

fn merge(
    value: &Value,
    defaults: &Preference,
    zone: &Zone,
) -> Result<MergedPreference, FieldErrors> {
    let Some(object) = value.as_object() else {
        let invalid = punctual_domain::Invalid::wrong_type("an object, { … }");
        return Err(FieldErrors(vec![invalid.at("", Some(value))]));
    };
    MergedPreference::merge(&Preference::parse(object)?, defaults, zone)
}

fn occurrences(merged: &MergedPreference, from: DateTime<Utc>, count: u32) -> Vec<DateTime<Utc>> {
    let next = |after: &DateTime<Utc>| merged.slot.next_after(*after);
    std::iter::successors(next(&from), next)
        .take(count as usize)
        .collect()
}

/// A tenant's preference in the Config Database, over the defaults of the job that serves the feature.
async fn of_tenant(
    settings: &Settings,
    tenant: &TenantId,
    feature: &FeatureType,
) -> Result<(MergedPreference, JobDefaults), Failure> {
    let client = wiring::client_of_agent(settings)?;
    let stored = client
        .preferences(feature, std::slice::from_ref(tenant))
        .await
        .map_err(Failure::failed)?;
    let record = stored.get(tenant).ok_or_else(|| {
        Failure::bad_input(format!(
            "{tenant} has no preference for {feature} in the Config Database at {}",
            client.url()
        ))
    })?;
    let config = check::load_jobs(settings).map_err(Failure::bad_input)?;
    let serves = |job: &&JobConfig| matches!(&job.work, Work::Preferences { feature_type, .. } if feature_type == feature);
    let job = config.jobs.iter().find(serves);
    let job = job.and_then(|job| JobDefaults::of(job, &settings.batch_default_timezone));
    let job = job.unwrap_or_else(|| JobDefaults {
        default_zone: settings.batch_default_timezone.clone(),
        ..JobDefaults::default()
    });
    let stored = Preference::parse(&record.preference).map_err(Failure::bad_input)?;
    let merged = job.effective(&stored).map_err(Failure::bad_input)?;
    Ok((merged.of_organization(record.organization.clone()), job))
}

fn show(merged: &MergedPreference, occurrences: &[DateTime<Utc>], options: &PreviewOptions) {
    let instants: Vec<String> = occurrences.iter().map(rfc3339).collect();
    let document = json!({ "slot": merged.slot.to_string(), "preference": merged.to_json(),
        "organization": merged.organization, "occurrences": instants });
    show_as(options.json, &document, |_| {
        let zone = &merged.slot.zone;
        let mut table = Table::new(["local", "UTC", "occurrence"]);
        for (instant, utc) in occurrences.iter().zip(&instants) {
            let local = zone.local(*instant).map_or_else(String::new, |local| {
                local.format("%a %Y-%m-%d %H:%M").to_string()
            });
            let occurrence = merged.slot.occurrence_key(*instant);
            table.row([cell(local), cell(utc), cell(occurrence)]);
        }
        let mut view = View::default().line(&merged.slot);
        if let Some(organization) = &merged.organization {
            let fields = match organization.fields.as_slice() {
                [] => "nothing".to_owned(),
                fields => visible(&fields.join(", ")).into_owned(),
            };
            view = view.line(format!("from organization {}: {fields}", organization.id));
        }
        let view = view.table(&table);
        if merged.enabled {
            match may_have_run(merged, occurrences, options) {
                Some(note) => view.prose(note),
                None => view,
            }
        } else {
            view.prose("The preference is off (enabled is not true): none of these would run.")
        }
    });
}

/// What is to be said of a tenant's run today: only the store knows whether the tenant has run for the date at an earlier time.
fn may_have_run(
    merged: &MergedPreference,
    occurrences: &[DateTime<Utc>],
    options: &PreviewOptions,
) -> Option<String> {
    let (Some(tenant), None) = (&options.tenant, options.from) else {
        return None;
    };
    let today = merged.slot.zone.local(SystemClock.now())?.date();
    match merged.slot.occurrence_key(*occurrences.first()?) {
        Occurrence::Date(date, _) if date == today => Some(format!(
            "If {tenant} has already run for {date}, the run on that date does not happen; `punctual-agent explain` shows which \
             run is next."
        )),
        _ => None,
    }
}

#[derive(Deserialize)]
struct PreviewLine {
    id: Value,
    preference: Value,
    from: Option<DateTime<Utc>>,
    count: Option<u32>,
}

/// One answer a line, in the order of the lines; a line that cannot be used is answered with its error.
fn many(zone: &Zone, from: DateTime<Utc>, count: u32) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Failure::bad_input)?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = match serde_json::from_str::<PreviewLine>(&line) {
            Err(error) => json!({ "id": id_of(&line), "error": error.to_string() }),
            Ok(PreviewLine {
                id,
                preference,
                from: own_from,
                count: own_count,
            }) => match merge(&preference, &switched_on(), zone) {
                Err(errors) => json!({ "id": id, "error": errors.to_string() }),
                Ok(merged) => {
                    let count = own_count.unwrap_or(count).min(10_000);
                    let found = occurrences(&merged, own_from.unwrap_or(from), count);
                    json!({ "id": id, "occurrences": found.iter().map(rfc3339).collect::<Vec<_>>() })
                }
            },
        };
        writeln!(out, "{answer}").map_err(Failure::failed)?;
    }
    out.flush().map_err(Failure::failed)
}

fn id_of(line: &str) -> Value {
    serde_json::from_str::<Value>(line)
        .ok()
        .and_then(|line| line.get("id").cloned())
        .unwrap_or(Value::Null)
}

fn rfc3339(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}
