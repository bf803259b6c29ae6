//! The result of all records on its way to an address: one e-mail for each batch, by a purpose whose handler is `email`.

use punctual_application::{
    Handlers,
    ports::{HandlerErrorKind, SinkError, StoredResult},
};
use punctual_domain::{Item, ItemInput, ItemStatus, Outcome, PurposeId};
use serde_json::Value;
use tracing::info;

use super::TAKE_TIMEOUT;

/// Sends by the handler of a purpose.
pub(super) struct ToEmail<'h> {
    pub(super) handlers: &'h Handlers,
    pub(super) purpose: &'h PurposeId,
}

impl ToEmail<'_> {
    /// Sends the result of all records, if it is among these. `tries`: how often that has failed so far.
    ///
    /// # Errors
    /// The error of the handler. It is permanent, so that the delivery is given up, when a retry could not succeed, or the e-mail
    /// may have been sent.
    pub(super) async fn take(&self, results: &[StoredResult], tries: u32) -> Result<(), SinkError> {
        let is_whole = |stored: &&StoredResult| {
            let result = &stored.result;
            result.item_id.is_aggregate() && result.status == ItemStatus::Succeeded
        };
        let Some(whole) = results.iter().find(is_whole) else {
            return Ok(());
        };
        let purpose = self.purpose;
        if !self.handlers.contains(purpose) {
            let message = format!("this process has no purpose `{purpose}`");
            return Err(SinkError::retryable(message));
        }
        let item = self.item_of(whole, tries);
        let sent = self.handlers.attempt(&item);
        // A second attempt could send a second e-mail.
        let Ok(sent) = tokio::time::timeout(TAKE_TIMEOUT, sent).await else {
            let minutes = TAKE_TIMEOUT.as_secs() / 60;
            return Err(SinkError::permanent(format!(
                "purpose `{purpose}`: no answer within {minutes} min; the e-mail may have been sent"
            )));
        };
        match sent {
            Ok(Outcome::Done(_)) => Ok(()),
            Ok(Outcome::NothingToDo(reason)) => {
                let (batch_id, job_id) = (whole.batch_id, &whole.job_id);
                info!(%batch_id, %job_id, reason,
                    "Sent no e-mail with the result of batch {batch_id} of {job_id}: {reason}");
                Ok(())
            }
            Ok(Outcome::Waiting(_)) => Err(SinkError::permanent(format!(
                "purpose `{purpose}` answered that its work goes on elsewhere; a delivery cannot wait for that"
            ))),
            Err(error) => {
                let message = format!("purpose `{purpose}`: {}", error.message);
                Err(match error.kind {
                    HandlerErrorKind::Permanent => SinkError::permanent(message),
                    HandlerErrorKind::Retryable | HandlerErrorKind::Throttled => {
                        SinkError::retryable(message).with_retry_after(error.retry_after)
                    }
                })
            }
        }
    }

    /// The item that the handler is called with.
    fn item_of(&self, whole: &StoredResult, tries: u32) -> Item {
        Item {
            item_id: whole.result.item_id.clone(),
            job_id: whole.job_id.clone(),
            purpose_id: self.purpose.clone(),
            batch_id: whole.batch_id,
            occurrence: whole.occurrence,
            scheduled_at: whole.scheduled_at,
            input: ItemInput::Aggregate(Value::Null),
            fetched: None,
            previous: None,
            written: whole.result.output.clone(),
            attempt: tries.saturating_add(1),
            key_form: whole.key_form,
            completion: None,
            prepares: None,
        }
    }
}
