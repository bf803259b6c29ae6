//! Whose runs move with other rules of a zone: the agent says what users have chosen, and both rules say when that is.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use punctual_application::ScheduleInZone;
use punctual_domain::{
    JobId, MergedPreference, MovedRun, Preference, TenantId, Zone, first_moved_run,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    commands::Failure,
    output::{Cell, Table, cell, minute},
};

/// Users of a zone whose runs move.
#[derive(Default)]
pub(super) struct Moves {
    /// How many there are; each counts once for each job.
    pub(super) users: usize,
    /// Those who are listed, by the time at which their first such run would have been.
    pub(super) listed: Vec<Moved>,
}

/// A user's first run that moves.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Moved {
    before: DateTime<Utc>,
    before_local: Option<NaiveDateTime>,
    /// `None`: the new rules have no such date.
    after: Option<DateTime<Utc>>,
    after_local: Option<NaiveDateTime>,
    job_id: JobId,
    tenant_id: TenantId,
}

impl Moves {
    /// The listed users, as a table.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["job and user", "before", "after"]);
        for moved in &self.listed {
            let job = cell(&moved.job_id).below(&moved.tenant_id);
            let after = moved.after.map(|after| when(after, moved.after_local));
            let after = after.unwrap_or_else(|| cell("not on that date"));
            table.row([job, when(moved.before, moved.before_local), after]);
        }
        table
    }
}

/// Whose runs move from the first moment of `times` on and until the second one, when a zone has the second of `zones`' rules in
/// place of the first. It lists up to `most` of them.
pub(super) fn moves(
    schedules: Vec<ScheduleInZone>,
    zones: [&Zone; 2],
    times: [DateTime<Utc>; 2],
    most: usize,
) -> Result<Moves, Failure> {
    let mut moves = Moves::default();
    for schedule in schedules {
        let merged = parse(&schedule.preference).ok_or_else(|| {
            let shown = &schedule.preference;
            Failure::failed(format!(
                "the agent answered a preference that this version cannot read: {shown}"
            ))
        })?;
        let ([before, after], [from, until]) = (zones, times);
        let Some(run) = first_moved_run(&merged.slot, before, after, from, until) else {
            continue;
        };
        moves.users += schedule.tenants;
        let moved = schedule.named.into_iter().map(|tenant| {
            let spread = TimeDelta::minutes(tenant.spread_minutes);
            Moved::new(
                run,
                zones,
                spread,
                schedule.job_id.clone(),
                tenant.tenant_id,
            )
        });
        moves.listed.extend(moved);
    }
    moves.listed.sort_unstable();
    moves.listed.truncate(most);
    Ok(moves)
}

impl Moved {
    fn new(
        MovedRun { before, after }: MovedRun,
        [old, new]: [&Zone; 2],
        spread: TimeDelta,
        job_id: JobId,
        tenant_id: TenantId,
    ) -> Self {
        let (before, after) = (before + spread, after.map(|after| after + spread));
        Self {
            before,
            before_local: old.local(before),
            after,
            after_local: after.and_then(|after| new.local(after)),
            job_id,
            tenant_id,
        }
    }
}

/// A preference as the agent answers it. Its zone is known, and may be unknown to the rules that are in effect here.
fn parse(preference: &Value) -> Option<MergedPreference> {
    let mut fields = preference.as_object()?.clone();
    fields.remove("timezone");
    let stored = Preference::parse(&fields).ok()?;
    MergedPreference::merge(&stored, &Preference::default(), &Zone::utc()).ok()
}

/// A run in UTC, and below it as clocks show it.
fn when(at: DateTime<Utc>, local: Option<NaiveDateTime>) -> Cell {
    let utc = cell(minute(at));
    match local {
        Some(local) => utc.below(format!("{} local", local.format("%Y-%m-%d %H:%M"))),
        None => utc,
    }
}
