//! What a job makes of what a preference leaves out. Agents publish it to the Config Database, and pages, agents and commands
//! find out with [`JobDefaults::effective`] and [`JobDefaults::runs`] when a tenant is due, so that they never disagree.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::config::{JobConfig, Work};
use crate::{
    ids::{JobId, TenantId},
    input::{
        errors::{FieldErrors, Invalid},
        fields::{Fields, below, object_at},
        values::whole_number,
    },
    planning::spread::spread_minute,
    preference::{effective::MergedPreference, stored::Preference, values::parse_zone},
    time::zone::Zone,
};

/// Jobs of one feature.
const MAX_JOBS: usize = 100;

/// What a job makes of a preference that leaves something out, as its agent publishes it. The default is what is built in.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDefaults {
    /// Values for the fields that a preference leaves out.
    pub defaults: Preference,
    /// The zone where neither the preference nor the defaults name one.
    pub default_zone: Zone,
    /// Over how many minutes after the chosen time the tenants are spread; 0 and 1: not at all.
    pub spread_minutes: u32,
}

impl Default for JobDefaults {
    fn default() -> Self {
        Self {
            defaults: Preference::default(),
            default_zone: Zone::utc(),
            spread_minutes: 0,
        }
    }
}

/// A run to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When it is due.
    pub at: DateTime<Utc>,
    /// The instant of its slot, which is earlier by the tenant's spread.
    pub slot: DateTime<Utc>,
}

impl JobDefaults {
    /// Those of a job of an agent with this default zone; `None`: it follows no preferences.
    #[must_use]
    pub fn of(job: &JobConfig, default_zone: &Zone) -> Option<Self> {
        let Work::Preferences {
            defaults,
            spread_minutes,
            ..
        } = &job.work
        else {
            return None;
        };
        Some(Self {
            defaults: (**defaults).clone(),
            default_zone: default_zone.clone(),
            spread_minutes: *spread_minutes,
        })
    }

    /// What a preference comes to with this job.
    ///
    /// # Errors
    /// No frequency is known, or the preference's day does not fit it.
    pub fn effective(&self, stored: &Preference) -> Result<MergedPreference, FieldErrors> {
        MergedPreference::merge(stored, &self.defaults, &self.default_zone)
    }

    /// When the job runs a tenant's preference, after an instant.
    pub fn runs(
        &self,
        merged: &MergedPreference,
        tenant: &TenantId,
        after: DateTime<Utc>,
    ) -> impl Iterator<Item = Run> {
        let spread = TimeDelta::minutes(spread_minute(tenant, self.spread_minutes).into());
        let slot = merged.slot.clone();
        let after = after.checked_sub_signed(spread);
        let first = after.and_then(|after| slot.next_after(after));
        std::iter::successors(first, move |last| slot.next_after(*last)).map_while(move |slot| {
            let at = slot.checked_add_signed(spread)?;
            Some(Run { at, slot })
        })
    }

    /// The defaults as JSON, one of the values that [`parse_all`](Self::parse_all) reads.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "defaults": self.defaults.to_json(),
            "timezone": self.default_zone.name(),
            "spread_minutes": self.spread_minutes,
        })
    }

    /// Reads the jobs of a feature, an object by their ids that stands at `pointer`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_all(value: &Value, pointer: &str) -> Result<BTreeMap<JobId, Self>, FieldErrors> {
        let jobs = object_at(value, pointer)?;
        if jobs.len() > MAX_JOBS {
            let invalid = Invalid::new(
                format!("has {} jobs", jobs.len()),
                format!("send at most {MAX_JOBS}"),
            );
            return Err(FieldErrors(vec![invalid.at(pointer, None)]));
        }
        let (mut parsed, mut errors) = (BTreeMap::new(), Vec::new());
        for (name, job) in jobs {
            let pointer = below(pointer, name);
            match (JobId::new(name), Self::parse(job, &pointer)) {
                (Ok(job_id), Ok(job)) => _ = parsed.insert(job_id, job),
                (Err(error), _) => {
                    let name = Value::from(name.as_str());
                    errors.push(Invalid::from(error).at(&pointer, Some(&name)));
                }
                (_, Err(found)) => errors.extend(found.0),
            }
        }
        if errors.is_empty() {
            Ok(parsed)
        } else {
            Err(FieldErrors(errors))
        }
    }

    fn parse(value: &Value, pointer: &str) -> Result<Self, FieldErrors> {
        let mut fields = Fields::new(object_at(value, pointer)?, pointer);
        let defaults = fields.nested("defaults", |value, pointer| {
            Preference::parse_strictly(value, pointer)
        });
        let zone = fields.required("timezone", "name the zone, such as UTC", parse_zone);
        let spread = fields.optional("spread_minutes", |value| whole_number(value, 0..=1_440));
        fields.deny_others();
        fields.finish(|| {
            Some(Self {
                defaults: defaults.unwrap_or_default(),
                default_zone: zone?,
                spread_minutes: spread.unwrap_or_default() as u32,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preference(value: Value) -> Preference {
        Preference::parse(value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_job_reads_back_what_it_publishes() {
        let job = JobDefaults {
            defaults: preference(
                json!({"enabled": true, "frequency": "weekly", "preferred_day": ["monday", "friday"],
                "preferred_time": "10:00", "template_overrides": {"tone": "dry"}}),
            ),
            default_zone: "Europe/Berlin".parse().unwrap(),
            spread_minutes: 60,
        };
        let read = JobDefaults::parse_all(&json!({"posts": job.to_json()}), "/jobs").unwrap();
        assert_eq!(read[&JobId::new("posts").unwrap()], job);
        let stored = preference(json!({"preferred_day": "friday"}));
        let merged = job.effective(&stored).unwrap();
        assert_eq!(merged.slot.to_string(), "weekly friday 10:00 Europe/Berlin");
        let tenant = TenantId::new("user123").unwrap();
        let after = "2026-11-27T00:00:00Z".parse().unwrap();
        let runs: Vec<String> = job
            .runs(&merged, &tenant, after)
            .take(2)
            .map(|run| run.at.to_rfc3339())
            .collect();
        assert_eq!(
            runs,
            ["2026-11-27T09:02:00+00:00", "2026-12-04T09:02:00+00:00"]
        );
        let wrong = JobDefaults::parse_all(&json!({"posts": {"timezone": "Mars"}}), "/jobs");
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("/jobs/posts/timezone")
        );
    }
}
