//! Pauses a job, and lets it go on.

use punctual_domain::JobId;
use tracing::info;

use super::{Actor, Operator, OperatorError, caller, words::with_reason};
use crate::ports::{Pause, PauseCause};

impl Pause {
    /// Whether an operator has paused the job; otherwise it paused itself because too much of it failed.
    #[must_use]
    pub fn is_by_operator(&self) -> bool {
        matches!(self.cause, PauseCause::Operator { .. })
    }

    /// Why the job is paused, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.cause {
            PauseCause::Operator { name, reason } => {
                let by = format!("paused by {}", caller(name));
                with_reason(by, reason.as_deref())
            }
            PauseCause::Failures(reason) => reason.clone(),
        }
    }
}

impl Operator {
    /// Lets nothing of a job fall due until it is resumed. What falls due meanwhile is left out.
    ///
    /// # Errors
    /// The job does not exist, or the store fails.
    pub async fn pause(&self, actor: &Actor, job_id: &JobId) -> Result<(), OperatorError> {
        self.set_paused(actor, job_id, true).await
    }

    /// Lets a paused job go on with what falls due from now on.
    ///
    /// # Errors
    /// The job does not exist, or the store fails.
    pub async fn resume(&self, actor: &Actor, job_id: &JobId) -> Result<(), OperatorError> {
        self.set_paused(actor, job_id, false).await
    }

    async fn set_paused(
        &self,
        actor: &Actor,
        job_id: &JobId,
        paused: bool,
    ) -> Result<(), OperatorError> {
        let job = self.job(job_id)?;
        let action = if paused { "pause" } else { "resume" };
        self.record(actor, action, job_id.as_str(), "").await?;
        let cause = paused.then(|| PauseCause::Operator {
            name: actor.name.clone(),
            reason: actor.reason.clone(),
        });
        let set = self.queue.set_paused(&job.job_id, cause, self.clock.now());
        self.noted(set.await)?;
        let word = if paused { "paused" } else { "resumed" };
        info!(%job_id, "Operator {word} job {job_id}");
        Ok(())
    }
}
