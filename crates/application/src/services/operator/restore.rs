//! A store that was restored from an older copy: what it does not know of, and what becomes of those runs.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use punctual_domain::{JobConfig, RestoreChoice, RestoreGap, Work};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Actor, Operator, OperatorError};
use crate::ports::{Hold, StoreError};

/// The runs of a longer time are not all counted: each look at what is wrong counts them.
const COUNTED: TimeDelta = TimeDelta::days(1);

/// A store that is held because it was restored from an older copy: nothing is planned or run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoredStore {
    /// The time of which the copy knows nothing.
    pub gap: RestoreGap,
    /// Since when it has been held.
    pub since: DateTime<Utc>,
    /// Number of items that fell due in the first day of the gap, by the preferences that are in effect now; of a job with a fixed
    /// schedule, number of runs. Absent until the preferences have been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
}

/// What is to become of the runs that a restored copy does not know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// `skip` or `repeat`.
    pub choice: RestoreChoice,
}

/// Outcome of a decision about a restored copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreReport {
    /// What was decided.
    pub choice: RestoreChoice,
    /// The time of which the copy knows nothing.
    pub gap: RestoreGap,
    /// Number of batches of the copy that are skipped.
    pub cancelled_batches: u64,
    /// Number of deliveries of the copy that were given up.
    pub given_up_deliveries: u64,
}

impl RestoredStore {
    /// The gap, and what fell due in it, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let RestoreGap { from, to } = self.gap;
        let at_least = if to - from > COUNTED { "at least " } else { "" };
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let due = match self.due {
            Some(due) => format!("in which {at_least}{} fell due", super::amount(due, "item")),
            None => "and what fell due in it is not known yet: the preferences are being read"
                .to_owned(),
        };
        format!("it lacks {} to {}, {due}", time(from), time(to))
    }
}

impl Operator {
    /// Why the store is held; `None`: it is not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn restored(&self) -> Result<Option<RestoredStore>, StoreError> {
        Ok(match self.fence.hold().await? {
            Some(hold) => Some(self.count_missed(hold).await),
            None => None,
        })
    }

    /// A hold, with what fell due in its gap.
    pub(super) async fn count_missed(&self, hold: Hold) -> RestoredStore {
        let RestoreGap { from, to } = hold.gap;
        let due = if self.knows_who_is_due() {
            let due = self.due_between(from, to.min(from + COUNTED)).await;
            Some(due.iter().map(|due| due.items as u64).sum::<u64>())
        } else {
            None
        };
        RestoredStore {
            gap: hold.gap,
            since: hold.since,
            due,
        }
    }

    fn knows_who_is_due(&self) -> bool {
        let (jobs, status) = (self.jobs.current(), self.status.get());
        let is_known = |job: &JobConfig| match job.work {
            Work::Fixed { .. } => true,
            Work::Preferences { .. } => {
                let known = status.jobs.get(&job.job_id);
                known.is_some_and(|known| known.loaded)
            }
        };
        jobs.jobs.iter().all(is_known)
    }

    /// Ends the hold of a store that was restored from an older copy.
    ///
    /// # Errors
    /// The store is not held, or fails.
    pub async fn settle_restore(
        &self,
        actor: &Actor,
        choice: RestoreChoice,
    ) -> Result<RestoreReport, OperatorError> {
        let not_held = || {
            let what = "no restored copy of the store waits for a decision; nothing was changed";
            OperatorError::Conflict(what.to_owned())
        };
        let Some(hold) = self.fence.hold().await? else {
            return Err(not_held());
        };
        let RestoreGap { from, to } = hold.gap;
        let detail = format!("{choice} what fell due from {from} to {to}");
        self.record(actor, "restore", "store", &detail).await?;
        let ended = self.fence.end_hold(choice, self.clock.now()).await;
        let ended = self.noted(ended)?.ok_or_else(not_held)?;
        let (batches, deliveries) = (ended.cancelled_batches, ended.given_up_deliveries);
        warn!(%choice, %from, %to, batches, deliveries,
            "The restored store goes on, what fell due from {from} to {to}: {choice}");
        Ok(RestoreReport {
            choice,
            gap: ended.gap,
            cancelled_batches: batches,
            given_up_deliveries: deliveries,
        })
    }
}
