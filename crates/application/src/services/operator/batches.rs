//! Finds batches, and cancels them.

use std::collections::BTreeMap;

use punctual_domain::{Batch, BatchStatus, ItemStatus};
use tracing::info;
use uuid::Uuid;

use super::{Actor, Operator, OperatorError};
use crate::ports::{BatchFilter, Page, Paged, ResultFilter, StoreError, StoredResult};

/// Failures that are looked through for their reasons.
const SEARCHED_PAGE: Page = Page {
    cursor: None,
    limit: 1_000,
};

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

    /// A page of the results of a batch, in one status or in any.
    ///
    /// # Errors
    /// The batch does not exist, the cursor is not one of this list, or the store fails.
    pub async fn results(
        &self,
        batch_id: Uuid,
        status: Option<ItemStatus>,
        page: &Page,
    ) -> Result<Paged<StoredResult>, OperatorError> {
        self.batch(batch_id).await?;
        let filter = ResultFilter { batch_id, status };
        Ok(self.reader.results(&filter, page).await?)
    }

    /// Why items of a batch failed, with how many failed so: the most frequent reason first, of the first 1,000 failures.
    ///
    /// # Errors
    /// The store fails.
    pub async fn failure_reasons(
        &self,
        batch: &Batch,
    ) -> Result<Vec<(String, usize)>, OperatorError> {
        if batch.failed == 0 {
            return Ok(Vec::new());
        }
        let filter = ResultFilter {
            batch_id: batch.batch_id,
            status: Some(ItemStatus::Failed),
        };
        let mut reasons = BTreeMap::new();
        for stored in self.reader.results(&filter, &SEARCHED_PAGE).await?.0 {
            *reasons
                .entry(stored.result.error.unwrap_or_default())
                .or_insert(0_usize) += 1;
        }
        let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(reasons)
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
