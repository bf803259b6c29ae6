//! What a preference comes to, as a part of a page.

use askama::Template;
use chrono::{DateTime, Utc};
use punctual_domain::{ClockChange, TenantId, Zone};

use super::{mistakes::Reader, visitor::Visitor};
use crate::{
    plan::{JobPlan, Plan, Run},
    sentence::{local, sentence, zone_name},
    texts::Texts,
};

const MAX_RUNS: usize = 5;

/// What a preference comes to: when it runs next, or why it does not.
#[derive(Debug, Template)]
#[template(path = "runs.html")]
pub(super) struct RunsFragment<'t> {
    t: &'t Texts,
    /// Why it cannot run, or be stored.
    problems: Vec<String>,
    /// Id of the text that says why there is nothing to show: what it leaves open is not known here, or is up to members.
    open: Option<&'static str>,
    jobs: Vec<JobRuns>,
    /// Whether instants stand beside in UTC.
    utc: bool,
    /// Whether the visitor may change it.
    can_choose: bool,
}

/// With a job, or with all that make the same of it.
#[derive(Debug)]
struct JobRuns {
    /// Where the jobs of a feature differ: which these are.
    name: Option<String>,
    enabled: bool,
    sentence: String,
    zone: String,
    runs: Vec<RunRow>,
}

#[derive(Debug)]
struct RunRow {
    local: String,
    utc: String,
    /// Effect of a clock change on this run, in words.
    note: Option<String>,
}

impl<'t> RunsFragment<'t> {
    pub(super) fn of(
        reader: &Reader<'t, '_>,
        plan: &Plan,
        tenant: &TenantId,
        now: DateTime<Utc>,
        visitor: &Visitor,
    ) -> Self {
        let t = reader.t;
        let plans = match plan {
            Plan::Known(plans) => plans.as_slice(),
            Plan::Unknown | Plan::LeftOpen | Plan::Unreadable(_) => &[],
        };
        let several = plans.len() > 1;
        let problem = plan.problem();
        let problems = problem.into_iter().flat_map(|errors| &errors.0);
        Self {
            t,
            problems: problems.map(|error| reader.of(error)).collect(),
            open: match plan {
                Plan::Unknown => Some("runs-unknown"),
                Plan::LeftOpen => Some("runs-left-open"),
                Plan::Known(_) | Plan::Unreadable(_) => None,
            },
            jobs: plans
                .iter()
                .filter_map(|plan| JobRuns::of(t, plan, tenant, now, several))
                .collect(),
            // Beside a zone that is UTC, it would say the same.
            utc: visitor.is_operator()
                && plans
                    .iter()
                    .filter_map(JobPlan::slot)
                    .any(|slot| slot.zone != Zone::utc()),
            can_choose: visitor.can_write(),
        }
    }

    pub(super) fn invalid(t: &'t Texts, problems: Vec<String>) -> Self {
        Self {
            t,
            problems,
            open: None,
            jobs: Vec::new(),
            utc: false,
            can_choose: false,
        }
    }
}

impl JobRuns {
    /// `None`: it cannot run.
    fn of(
        t: &Texts,
        plan: &JobPlan,
        tenant: &TenantId,
        now: DateTime<Utc>,
        several: bool,
    ) -> Option<Self> {
        let names = plan.jobs.iter().map(ToString::to_string);
        let name = several.then(|| names.collect::<Vec<_>>().join(", "));
        if !plan.enabled() {
            return Some(Self {
                name,
                enabled: false,
                sentence: String::new(),
                zone: String::new(),
                runs: Vec::new(),
            });
        }
        let slot = plan.slot()?;
        let run = |run: Run| RunRow {
            local: local(t, &slot.zone, run.at),
            utc: run.at.format("%Y-%m-%d %H:%M").to_string(),
            note: run.clock_change.map(|change| {
                let (id, time) = match change {
                    ClockChange::Skipped(time) => ("runs-skipped", time),
                    ClockChange::Repeated(time) => ("runs-repeated", time),
                };
                t.text_of(id, "time", t.calendar().time(time))
            }),
        };
        Some(Self {
            name,
            enabled: true,
            sentence: sentence(t, &slot.clone().without_ended_pause(now)),
            zone: zone_name(t, &slot.zone),
            runs: plan.runs(tenant, now).take(MAX_RUNS).map(run).collect(),
        })
    }
}

/// What a preference comes to in a line, such as `Every day at 09:00, UTC`, without a pause that has ended by `now`.
pub(super) fn summary(t: &Texts, plan: &Plan, now: DateTime<Utc>) -> String {
    match plan {
        Plan::Unreadable(_) => t.text("summary-wrong"),
        Plan::Unknown => t.text("summary-unknown"),
        Plan::LeftOpen => t.text("summary-left-open"),
        _ if plan.problem().is_some() => t.text("summary-wrong"),
        _ if !plan.enabled() => t.text("summary-off"),
        Plan::Known(plans) => {
            let on = plans.iter().filter(|plan| plan.enabled());
            let slots = on.filter_map(JobPlan::slot);
            let said = slots.map(|slot| sentence(t, &slot.clone().without_ended_pause(now)));
            said.collect::<Vec<_>>().join("; ")
        }
    }
}

/// The next run of a preference, in its zone.
pub(super) fn next_run(
    t: &Texts,
    plan: &Plan,
    tenant: &TenantId,
    now: DateTime<Utc>,
) -> Option<String> {
    let Plan::Known(plans) = plan else {
        return None;
    };
    let next = plans.iter().filter_map(|plan| {
        let next = plan.runs(tenant, now).next()?;
        Some((next.at, &plan.slot()?.zone))
    });
    let (at, zone) = next.min_by_key(|(at, _)| *at)?;
    let (when, zone) = (local(t, zone, at), zone_name(t, zone));
    Some(t.with(
        "runs-in-zone",
        &[("when", when.into()), ("zone", zone.into())],
    ))
}
