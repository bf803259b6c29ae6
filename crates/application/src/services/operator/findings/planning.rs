//! Due work that is not planned.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Finding, FindingKind, Findings};
use crate::services::schedule_status::SchedulerStatus;

/// The scheduler plans at least once a minute, whether something is due or not.
const PLANNING_TIMEOUT: TimeDelta = TimeDelta::seconds(120);
/// How late due work may be planned before it is reported, and before the process is not ready.
const DUE_REPORTED_AFTER: TimeDelta = TimeDelta::seconds(10);
const DUE_NOT_READY_AFTER: TimeDelta = TimeDelta::seconds(30);

impl Findings {
    /// Whether everything due has been planned.
    pub(super) fn planning(
        &mut self,
        status: &SchedulerStatus,
        now: DateTime<Utc>,
        started: DateTime<Utc>,
    ) {
        let Some(planned_until) = status.planned_until else {
            let what = "the scheduler has not planned yet";
            self.add(
                true,
                Finding::new(FindingKind::NotPlannedYet, what, started).begun(),
            );
            return;
        };
        let kind = FindingKind::NotPlanned;
        match status.next_due {
            Some(due) if now - due > DUE_REPORTED_AFTER => self.add(
                now - due > DUE_NOT_READY_AFTER,
                Finding::new(kind, "due work is not planned", due).begun(),
            ),
            _ if now - planned_until > PLANNING_TIMEOUT => self.add(
                true,
                Finding::new(kind, "the scheduler does not plan", planned_until).begun(),
            ),
            _ => {}
        }
    }
}
