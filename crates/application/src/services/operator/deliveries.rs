//! Deliveries that fail.

use chrono::{DateTime, TimeDelta, Utc};

use super::Operator;
use crate::ports::{FailingDeliveries, StoreError};

/// How long after their batch deliveries that were given up are reported.
const GIVEN_UP_REPORTED_FOR: TimeDelta = TimeDelta::days(7);

impl Operator {
    /// The deliveries that fail at `now`, by job: those that are retried, and those of batches of the last seven days that
    /// were given up.
    ///
    /// # Errors
    /// The store fails.
    pub async fn failing_deliveries(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError> {
        let given_up_since = now - GIVEN_UP_REPORTED_FOR;
        self.operations.failing_deliveries(given_up_since).await
    }
}
