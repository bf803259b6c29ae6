//! What has run for a tenant, as a part of a page: sentences, in the tenant's zone.

use askama::Template;
use punctual_application::ports::{PastRun, RunOutcome};
use punctual_domain::{SkipReason, Zone};
use serde_json::{Map, Value, json};

use super::usual::slot_of;
use crate::{
    sentence::{local, zone_name},
    store::KnownFeature,
    texts::Texts,
};

/// What has run, or that it cannot be shown.
#[derive(Debug, Template)]
#[template(path = "past_runs.html")]
pub(super) struct PastRunsFragment<'t> {
    t: &'t Texts,
    zone: String,
    /// `None`: they cannot be read for now.
    /// Of each, when it was due, and how it ended.
    runs: Option<Vec<String>>,
}

impl<'t> PastRunsFragment<'t> {
    pub(super) fn of(t: &'t Texts, zone: &Zone, runs: Option<&[PastRun]>) -> Self {
        let sentence =
            |run: &PastRun| t.text_of(text_of(run), "when", local(t, zone, run.scheduled_at));
        Self {
            t,
            zone: zone_name(t, zone),
            runs: runs.map(|runs| runs.iter().map(sentence).collect()),
        }
    }
}

/// Id of the text that says how a run has ended.
fn text_of(run: &PastRun) -> &'static str {
    match (run.outcome, run.reason) {
        (RunOutcome::Succeeded, _) => "past-done",
        (RunOutcome::Failed, _) => "past-failed",
        (RunOutcome::NothingToDo, _) => "past-nothing",
        (RunOutcome::Skipped, None) => "past-skipped",
        (RunOutcome::Skipped, Some(reason)) => match reason {
            SkipReason::Disabled => "past-skipped-off",
            SkipReason::Deleted => "past-skipped-removed",
            SkipReason::Invalid => "past-skipped-wrong",
            SkipReason::Cancelled => "past-skipped-cancelled",
            SkipReason::Expired => "past-skipped-late",
            SkipReason::Overlap => "past-skipped-overlap",
            SkipReason::Rescheduled => "past-skipped-moved",
            // What keeps a job from running, or being prepared, is not the tenant's.
            SkipReason::JobRemoved
            | SkipReason::ItemRemoved
            | SkipReason::UnknownUser
            | SkipReason::NotPrepared
            | SkipReason::Restored => "past-skipped",
        },
    }
}

/// The zone in which a tenant reads the times of a feature: the one that is stored, else the usual one.
pub(super) fn zone_of(stored: Option<&Map<String, Value>>, known: &KnownFeature) -> Zone {
    let job = known.jobs.values().next().cloned().unwrap_or_default();
    let zone = |preference: Value| slot_of(&job, &preference).map(|slot| slot.zone);
    let chosen = stored.and_then(|stored| stored.get("timezone"));
    chosen
        .and_then(|chosen| zone(json!({"frequency": "daily", "timezone": chosen})))
        .or_else(|| zone(json!({"frequency": "daily"})))
        .unwrap_or_else(Zone::utc)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use punctual_domain::{JobDefaults, JobId};

    use super::*;

    fn run(outcome: RunOutcome, reason: Option<SkipReason>) -> PastRun {
        PastRun {
            job_id: JobId::new("posts").unwrap(),
            occurrence: "2026-11-24".parse().unwrap(),
            scheduled_at: "2026-11-24T08:00:00Z".parse().unwrap(),
            finished_at: "2026-11-24T08:00:01Z".parse().unwrap(),
            outcome,
            reason,
        }
    }

    #[test]
    fn each_end_of_a_run_is_a_sentence_in_every_language() {
        let reasons = SkipReason::WORDS.iter().map(|word| word.parse().ok());
        let skipped = reasons.map(|reason| run(RunOutcome::Skipped, reason));
        let mut runs = vec![
            run(RunOutcome::Succeeded, None),
            run(RunOutcome::Failed, None),
            run(RunOutcome::NothingToDo, None),
            run(RunOutcome::Skipped, None),
        ];
        runs.extend(skipped);
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let mut said = String::new();
        for locale in ["en-US", "de", "fr", "es", "pt-BR", "ja"] {
            let texts = Texts::of(None, Some(locale), None);
            let fragment = PastRunsFragment::of(&texts, &zone, Some(&runs));
            writeln!(said, "{locale}: {}", fragment.zone).unwrap();
            for sentence in fragment.runs.unwrap() {
                writeln!(said, "  {sentence}").unwrap();
            }
        }
        insta::assert_snapshot!("past_runs", said);
    }

    #[test]
    fn the_zone_is_the_tenants_else_the_usual_one_else_utc() {
        let known = |defaults: Value| {
            let jobs = json!({"posts": {"timezone": "Europe/Berlin", "defaults": defaults}});
            KnownFeature {
                jobs: JobDefaults::parse_all(&jobs, "").unwrap(),
                ..KnownFeature::default()
            }
        };
        let zone = |stored: Value, known: &KnownFeature| {
            let zone = zone_of(stored.as_object(), known);
            zone.name().to_owned()
        };
        let berlin = known(json!({}));
        let tokyo = json!({"enabled": false, "timezone": "Asia/Tokyo"});
        assert_eq!(zone(tokyo.clone(), &berlin), "Asia/Tokyo");
        assert_eq!(zone(tokyo, &KnownFeature::default()), "Asia/Tokyo");
        for stored in [json!(null), json!({}), json!({"timezone": "Mars/Olympus"})] {
            assert_eq!(zone(stored.clone(), &berlin), "Europe/Berlin", "{stored}");
            assert_eq!(zone(stored, &KnownFeature::default()), "UTC");
        }
        let vienna = known(json!({"timezone": "Europe/Vienna"}));
        assert_eq!(zone(json!({}), &vienna), "Europe/Vienna");
    }
}
