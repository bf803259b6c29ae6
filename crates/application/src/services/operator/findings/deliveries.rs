//! Deliveries that fail.

use chrono::{DateTime, Utc};

use super::{Finding, FindingKind};
use crate::{
    ports::StoreError,
    services::operator::{Operator, amount},
};

impl Operator {
    /// The deliveries that fail or were given up, by job.
    pub(super) async fn delivery_findings(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut found = Vec::new();
        for failing in self.failing_deliveries(now).await? {
            let (job_id, count, reason) = (failing.job_id, failing.deliveries, failing.reason);
            let failed = format!("{job_id}: {} failed", amount(count, "delivery"));
            let (kind, what) = if failing.given_up {
                (
                    FindingKind::DeliveryGivenUp(job_id),
                    format!("{failed} and will not be retried: {reason}"),
                )
            } else {
                (
                    FindingKind::DeliveryFailing(job_id),
                    format!("{failed} and will be retried: {reason}"),
                )
            };
            found.push(Finding::new(kind, what, failing.since).because(&reason));
        }
        Ok(found)
    }
}
