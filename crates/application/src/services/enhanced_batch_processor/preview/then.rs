//! Previews of jobs with two purposes: the second is shown with what the first returns, where that is known.

use punctual_domain::{Item, JobConfig, PurposeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Ending, EnhancedBatchProcessor, PreviewContent, PreviewError, PreviewStatus, handler_of,
};
use crate::{
    ports::{HandlerErrorKind, Rendered},
    services::{
        enhanced_batch_processor::then::{Then, of_purpose},
        handlers::BoundHandler,
    },
};

/// What the second purpose of a job would send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreviewThen {
    /// The second purpose.
    pub purpose_id: PurposeId,
    /// The handler of the purpose, without secrets; `null`: it has no description.
    pub handler: Option<String>,
    /// How far the second purpose would get.
    pub status: PreviewStatus,
    /// Why nothing would be sent, or why it is not known. `null`: it would be sent.
    pub reason: Option<String>,
    /// What could be done about a failure; `null`: nothing failed.
    pub error_kind: Option<HandlerErrorKind>,
    /// What would be sent; `null`: nothing, or it is not known.
    pub content: Option<PreviewContent>,
    /// Result that the dry run came to; `null`: there was none.
    pub answer: Option<Value>,
}

/// What a purpose would return, as far as its preview knows it.
pub(super) fn output_of(rendered: &Rendered) -> Option<&Value> {
    match &rendered.outcome {
        Some(Ok(outcome)) => outcome.output(),
        Some(Err(_)) => None,
        None => rendered.output.as_ref(),
    }
}

impl EnhancedBatchProcessor {
    /// What the second purpose would send with its handler after the first, which would get so far and return this. `None`:
    /// the job has one purpose, or its run ends with the first.
    pub(super) async fn preview_of_second(
        &self,
        job: &JobConfig,
        bound: Option<&BoundHandler>,
        mut item: Item,
        first: PreviewStatus,
        output: Option<Value>,
        call: bool,
    ) -> Result<Option<PreviewThen>, PreviewError> {
        let Some(then) = Then::of(job) else {
            return Ok(None);
        };
        let ending = match (first, output) {
            (PreviewStatus::NothingToDo | PreviewStatus::Failed | PreviewStatus::Skipped, _) => {
                return Ok(None);
            }
            (_, Some(output)) => {
                then.pass_on(&mut item, output);
                let rendered = self.rendered(job, bound, &item, call).await?;
                Ending::of(rendered).in_purpose(&item.purpose_id)
            }
            (PreviewStatus::Rendered, None) if !call => Ending::without_content(
                PreviewStatus::NeedsCall,
                format!(
                    "it is made from what purpose `{}` returns, which only a dry run shows",
                    job.purpose_id
                ),
            ),
            (_, None) => Ending::without_content(
                PreviewStatus::NotSupported,
                format!(
                    "it is made from what purpose `{}` returns, which no preview shows",
                    job.purpose_id
                ),
            ),
        };
        Ok(Some(PreviewThen {
            handler: handler_of(bound),
            purpose_id: then.second().clone(),
            status: ending.status,
            reason: ending.reason,
            error_kind: ending.error_kind,
            content: ending.content,
            answer: ending.answer,
        }))
    }
}

impl Ending {
    /// The same, of one of two purposes: a failure names it, as in a run.
    pub(super) fn in_purpose(mut self, purpose: &PurposeId) -> Self {
        if self.status == PreviewStatus::Failed {
            self.reason = self.reason.map(|reason| of_purpose(purpose, &reason));
        }
        self
    }
}
