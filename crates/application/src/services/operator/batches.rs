//! Finds batches, and cancels them.

use punctual_domain::{Batch, BatchStatus};
use tracing::info;
use uuid::Uuid;

use super::{Actor, Operator, OperatorError};
use crate::ports::{BatchFilter, Page, StoreError};

impl Operator {
    /// The batch of that id.
    ///
    /// # Errors
    /// The batch does not exist, or the store fails.
    pub async fn batch(&self, batch_id: Uuid) -> Result<Batch, OperatorError> {
        let batch = self.reader.batch(batch_id).await?;
        batch.ok_or_else(|| {
            OperatorError::NotFound(format!(
                "batch {batch_id} does not exist; the list of batches shows the ids"
            ))
        })
    }

    /// Cancels a batch: items that have not begun are skipped.
    ///
    /// # Errors
    /// The batch does not exist or is over, or the store fails.
    pub async fn cancel(&self, actor: &Actor, batch_id: Uuid) -> Result<(), OperatorError> {
        let batch = self.batch(batch_id).await?;
        if batch.finished_at.is_none() {
            let detail = format!("a batch of {}", batch.job_id);
            self.record(actor, "cancel", &batch_id.to_string(), &detail)
                .await?;
        }
        if !self.noted(self.queue.cancel(batch_id).await)? {
            return Err(OperatorError::Conflict(format!(
                "batch {batch_id} is {}; only a batch that has not finished can be cancelled",
                self.batch(batch_id).await?.status.as_str()
            )));
        }
        info!(%batch_id, "Operator cancelled batch {batch_id}");
        Ok(())
    }

    /// The newest batches, in one status or in any.
    ///
    /// # Errors
    /// The store fails.
    pub async fn newest(
        &self,
        status: Option<BatchStatus>,
        most: u32,
    ) -> Result<Vec<Batch>, StoreError> {
        let filter = BatchFilter {
            job_id: None,
            status,
        };
        let page = Page {
            cursor: None,
            limit: most,
        };
        Ok(self.reader.batches(&filter, &page).await?.0)
    }
}
