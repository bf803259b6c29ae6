//! What falls due in a stretch of time.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{JobId, Mirror, Schedule, Work};
use serde::{Deserialize, Serialize};

use super::Operator;

/// Items of a job that fall due together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DueItems {
    /// Time at which the items fall due.
    pub at: DateTime<Utc>,
    /// The job.
    pub job_id: JobId,
    /// Number of items; a job with a fixed schedule counts as one.
    pub items: usize,
}

impl Operator {
    /// What falls due after `from` and until `until`, by instant and job.
    pub async fn due_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DueItems> {
        let (jobs, status) = (self.jobs.current(), self.status.get());
        let counted = tokio::task::spawn_blocking(move || {
            let mut due: BTreeMap<(DateTime<Utc>, JobId), usize> = BTreeMap::new();
            for job in &jobs.jobs {
                let groups: Vec<(Schedule, TimeDelta, usize)> =
                    match (&job.work, status.jobs.get(&job.job_id)) {
                        (Work::Fixed { schedule, .. }, _) => {
                            vec![(schedule.clone(), TimeDelta::zero(), 1)]
                        }
                        (Work::Preferences { .. }, None) => Vec::new(),
                        (Work::Preferences { .. }, Some(known)) => {
                            let groups = known.mirror.read(Mirror::groups);
                            groups
                                .into_iter()
                                .map(|(slot, spread, n)| (slot.into(), spread, n))
                                .collect()
                        }
                    };
                for (schedule, spread, items) in groups {
                    let next = |after: &DateTime<Utc>| schedule.next_after(*after);
                    let instants = std::iter::successors(next(&(from - spread)), next);
                    for instant in instants.take_while(|instant| *instant + spread <= until) {
                        *due.entry((instant + spread, job.job_id.clone()))
                            .or_default() += items;
                    }
                }
            }
            let due = due.into_iter();
            due.map(|((at, job_id), items)| DueItems { at, job_id, items })
                .collect()
        });
        counted
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}
