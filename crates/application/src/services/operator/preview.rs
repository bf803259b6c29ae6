//! Shows what a run of a job would send for one tenant now, without sending it: *Preview* on the operations page, `preview
//! --render` on the command line.

use punctual_domain::{ItemId, JobId, TenantId};
use serde::{Deserialize, Serialize};

use super::{Actor, Operator, OperatorError};
use crate::services::{
    batch_processor::ProcessError,
    enhanced_batch_processor::{Preview, PreviewError},
};

/// The tenant of a preview.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// Tenant, or item of a job with a schedule of its own.
    pub tenant_id: TenantId,
    /// Whether a webhook or a language model is called for a dry run, with the header `Punctual-Dry-Run: 1`. Such calls count
    /// against the limits of the purpose and stand in the audit log.
    #[serde(default)]
    pub call: bool,
}

impl Operator {
    /// What a manual run of a job for a tenant would send now. It also answers for a tenant whose preference is off, or who
    /// has stored none, and says so. Nothing is stored or delivered, and no failure counts.
    ///
    /// # Errors
    /// The job does not exist, its items or preferences cannot be read, too many previews are running, the data or a
    /// place among the calls of a purpose does not come within a minute, or the store fails. A
    /// run that would fail is not an error: the preview says so.
    pub async fn preview(
        &self,
        actor: &Actor,
        job_id: &JobId,
        request: &PreviewRequest,
    ) -> Result<Preview, OperatorError> {
        let job = self.job(job_id)?;
        let (tenant, today) = (&request.tenant_id, self.clock.now().date_naive());
        let item_id = ItemId::from(tenant);
        self.refuse_other_shard(job_id, &item_id, today)?;
        let refused = |error| refusal(job_id, error);
        // The audit log has no call that was not made for want of a place.
        let place = self.processor.preview_place().map_err(refused)?;
        if request.call {
            let detail = format!("a dry run for {tenant}");
            self.record(actor, "preview", job_id.as_str(), &detail)
                .await?;
        }
        let preview = self.processor.preview(place, &job, &item_id, request.call);
        preview.await.map_err(refused)
    }
}

fn refusal(job_id: &JobId, error: PreviewError) -> OperatorError {
    match error {
        PreviewError::Process(ProcessError::Store(error)) => OperatorError::Store(error),
        PreviewError::Process(ProcessError::Source(error)) => {
            OperatorError::Invalid(format!("failed to read the items of {job_id}: {error}"))
        }
        PreviewError::Process(ProcessError::Preferences(error)) => {
            OperatorError::Unavailable(format!("failed to read preferences: {error}; try again"))
        }
        other => OperatorError::Unavailable(other.to_string()),
    }
}
