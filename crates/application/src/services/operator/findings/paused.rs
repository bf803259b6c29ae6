//! Jobs that are paused.

use super::{Finding, FindingKind};
use crate::{
    ports::{PauseCause, StoreError},
    services::operator::Operator,
};

impl Operator {
    /// The jobs that are paused, by name.
    pub(super) async fn paused_jobs(&self) -> Result<Vec<Finding>, StoreError> {
        let mut found = Vec::new();
        for (job_id, pause) in self.queue.paused().await? {
            let what = match &pause.cause {
                PauseCause::Operator { .. } => format!("{job_id} is paused"),
                PauseCause::Failures(reason) => format!("{job_id} is paused: {reason}"),
            };
            let finding = Finding::new(FindingKind::Paused(job_id), what, pause.since).begun();
            found.push(match &pause.cause {
                PauseCause::Operator { name, reason } => {
                    finding.by_operator(name, reason.as_deref())
                }
                PauseCause::Failures(reason) => finding.because(reason),
            });
        }
        Ok(found)
    }
}
