//! Items that were skipped because they had not begun in time.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Finding, FindingKind, Findings, coverage::Coverage};
use crate::{
    ports::StoreError,
    services::operator::{Operator, amount},
};

/// How long it is reported.
const REPORTED_FOR: TimeDelta = TimeDelta::hours(24);

impl Operator {
    /// Adds what has expired in the last day, in whole hours, by job. Each further item ends an acknowledgement, however many there were.
    pub(super) async fn expired_findings(
        &self,
        findings: &mut Findings,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        for expired in self.operations.expired_items(now - REPORTED_FOR).await? {
            let job_id = expired.job_id;
            let items = amount(expired.items, "item");
            let what = format!("{job_id}: {items} expired in the last 24 hours and did not run");
            let kind = FindingKind::Expired(job_id);
            let mut finding = Finding::new(kind, what, expired.since).begun();
            finding.covers = Coverage::default().and_nameless(expired.mark as usize);
            findings.add(false, finding);
        }
        Ok(())
    }
}
