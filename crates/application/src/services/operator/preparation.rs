//! How far a tenant's next run has been prepared.

use std::fmt;

use chrono::{DateTime, Utc};
use punctual_domain::{
    Batch, BatchStatus, Choice, ItemInput, JobConfig, Occasion, TenantId, Trigger, Work,
};
use serde::{Deserialize, Serialize};

use super::{Operator, OperatorError};
use crate::services::schedule_status::JobStatus;

/// Batches that are not over that are looked through at most.
const SEARCHED: u32 = 1_000;

/// How far a run to come has been prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunPreparation {
    /// Whether its output is ready; otherwise the run is being prepared.
    pub ready: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When the run is due, and the output goes out.
    pub due_at: DateTime<Utc>,
}

impl fmt::Display for RunPreparation {
    /// The state in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |instant: &DateTime<Utc>| instant.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        let since = at(&self.since);
        if self.ready {
            write!(f, "ready since {since}, goes out at {}", at(&self.due_at))
        } else {
            write!(f, "being prepared since {since}")
        }
    }
}

impl Operator {
    /// How far a run to come has been prepared with the preference in effect. `None`: it is due, its job prepares nothing, or
    /// nothing has begun.
    pub(super) async fn preparation(
        &self,
        job: &JobConfig,
        known: Option<&JobStatus>,
        tenant: &TenantId,
        choice: &Choice,
        occasion: Option<Occasion>,
    ) -> Result<Option<RunPreparation>, OperatorError> {
        let now = self.clock.now();
        let occasion = occasion.filter(|occasion| occasion.due_at > now);
        let effective =
            known.and_then(|job| job.mirror.read(|mirror| mirror.preference_of(tenant)));
        let (
            Some(Occasion { due_at, occurrence }),
            Some(_),
            Work::Preferences { feature_type, .. },
            Choice::On { schedule, .. },
            Some(effective),
        ) = (occasion, job.prepare_ahead, &job.work, choice, effective)
        else {
            return Ok(None);
        };
        let input = ItemInput::Preference {
            feature_type: feature_type.clone(),
            effective: effective.into(),
        };
        let state = self
            .processor
            .prepared_state(job, &input, occurrence, tenant);
        if let Some(state) = state.await? {
            return Ok(Some(RunPreparation {
                ready: state.is_ready,
                since: state.since,
                due_at,
            }));
        }
        let slot = schedule.without_dates().to_string();
        let prepares = |batch: &&Batch| {
            batch.trigger == Trigger::Prepare
                && batch.job_id == job.job_id
                && batch.slot == slot
                && batch.scheduled_at == due_at
        };
        for status in [BatchStatus::Running, BatchStatus::Queued] {
            let batches = self.newest(Some(status), SEARCHED).await?;
            if let Some(batch) = batches.iter().find(prepares) {
                return Ok(Some(RunPreparation {
                    ready: false,
                    since: batch.created_at,
                    due_at,
                }));
            }
        }
        Ok(None)
    }
}
