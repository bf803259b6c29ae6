//! Runs of one item in one job, for what is said of a date and of runs to come.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use punctual_domain::{Choice, ItemId, ItemStatus, JobId, Occasion, Occurrence, Zone};

use super::{Operator, explain::SEARCHED_PAGE};
use crate::ports::{StoreError, StoredResult, TenantRuns};

/// Runs of an item in a job, the newest first.
pub(super) struct RunsInJob(Vec<StoredResult>);

impl Operator {
    /// The newest runs of an item in a job, of those that fell due at `since` or later.
    pub(super) async fn runs_in_job(
        &self,
        item_id: ItemId,
        job_id: &JobId,
        since: Option<DateTime<Utc>>,
    ) -> Result<RunsInJob, StoreError> {
        let filter = TenantRuns {
            item_id,
            job_id: Some(job_id.clone()),
            since,
        };
        let (runs, _) = self.reader.tenant_runs(&filter, &SEARCHED_PAGE).await?;
        Ok(RunsInJob(runs))
    }
}

impl RunsInJob {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The occurrences that have a result or are in progress. A skip does not use one up.
    pub(super) fn used(&self) -> BTreeSet<Occurrence> {
        let used = self.0.iter().filter(|run| !is_skipped(run));
        used.map(|run| run.occurrence).collect()
    }

    /// The run of an occasion that is in progress or has ended other than skipped. A list of times that was edited gives a time
    /// another key: the run that was due at the same time is meant, before the one of the same key.
    pub(super) fn of(&self, occasion: Occasion) -> Option<&StoredResult> {
        let is_meant = |run: &&StoredResult| {
            !is_skipped(run) && (was_due_at(run, occasion) || run.occurrence == occasion.occurrence)
        };
        let found = self.0.iter().filter(is_meant);
        found.min_by_key(|run| (!is_in_progress(run), !was_due_at(run, occasion)))
    }

    /// The last skip of an occasion. One at another time of its date is not about it.
    pub(super) fn skip_of(&self, occasion: Occasion) -> Option<&StoredResult> {
        let mut skips = self.0.iter().filter(|run| is_skipped(run));
        skips.find(|run| was_due_at(run, occasion))
    }

    /// The last skip of an occurrence, at whatever time of its date.
    pub(super) fn skip_of_occurrence(&self, occurrence: Occurrence) -> Option<&StoredResult> {
        let mut skips = self.0.iter().filter(|run| is_skipped(run));
        skips.find(|run| run.occurrence == occurrence)
    }

    /// The newest run on a date (today without one), whatever the tenant had chosen then; a skip only where there is nothing
    /// else. The date is meant in the zone of the choice, else in that of the run, else in `default_zone`.
    pub(super) fn on(
        &self,
        date: Option<NaiveDate>,
        now: DateTime<Utc>,
        choice: &Choice,
        default_zone: &Zone,
    ) -> Option<&StoredResult> {
        let is_on_date = |run: &&StoredResult| {
            let zone = match choice {
                Choice::On { schedule, .. } => schedule.zone().clone(),
                _ => zone_of(run).unwrap_or_else(|| default_zone.clone()),
            };
            let date_at = |instant| zone.local(instant).map(|local| local.date());
            let date_of_run = match run.occurrence {
                Occurrence::Date(date, _) => Some(date),
                Occurrence::Instant(instant) => date_at(instant),
                Occurrence::Run(_) => None,
            };
            date_of_run.is_some() && date_of_run == date.or_else(|| date_at(now))
        };
        let found = self.0.iter().filter(is_on_date);
        found.min_by_key(|run| (is_skipped(run), !is_in_progress(run)))
    }
}

fn is_skipped(run: &StoredResult) -> bool {
    run.result.status == ItemStatus::Skipped
}

fn is_in_progress(run: &StoredResult) -> bool {
    matches!(run.result.status, ItemStatus::Running | ItemStatus::Waiting)
}

/// Whether the schedule had a run due when the occasion is.
fn was_due_at(run: &StoredResult, occasion: Occasion) -> bool {
    run.scheduled_at == occasion.due_at && !matches!(run.occurrence, Occurrence::Run(_))
}

/// The zone of the preference that a run had.
fn zone_of(run: &StoredResult) -> Option<Zone> {
    let zone = run.result.preference.as_ref()?.get("timezone")?;
    zone.as_str()?.parse().ok()
}
