//! What is wrong: what the process does not do at present, and what waits for an operator. Assembled once, for
//! `/health/ready`, the operations page and the terminal.
//!
//! To add a finding, add its kind to [`FindingKind`] and a file here that reports it, to [`Operator::readiness`] (what this
//! process does not do) or to [`Operator::findings`] (what else an operator should look at). The caller decides which remedy it
//! names.

mod acknowledgements;
mod alerts;
mod coverage;
mod deliveries;
mod expired;
mod failing_jobs;
mod finding;
mod kind;
mod operations;
mod paused;
mod planning;
mod preferences;
mod quarantine;
mod replicas;
mod restored;
mod waiting;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::{
    finding::Finding,
    kind::{FindingKind, Severity},
};
use super::{ONE, Operator};
use crate::ports::{BatchFilter, Hold, StoreError};

/// How long the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that needs attention at present.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Why the process does not do its main work; empty: it does.
    pub not_ready: Vec<Finding>,
    /// What an operator should look at, although the process does its main work.
    pub warnings: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, not_ready: bool, mut finding: Finding) {
        if not_ready {
            finding.severity = Severity::Critical;
            self.not_ready.push(finding);
        } else {
            self.warnings.push(finding);
        }
    }

    /// Whether there is a finding of this kind.
    fn have(&self, kind: &FindingKind) -> bool {
        let mut all = self.not_ready.iter().chain(&self.warnings);
        all.any(|finding| finding.kind == *kind)
    }

    /// Everything: what is acknowledged last, and the worst first.
    #[must_use]
    pub fn all(&self) -> Vec<&Finding> {
        let mut all: Vec<&Finding> = self.not_ready.iter().chain(&self.warnings).collect();
        all.sort_by_key(|finding| (finding.acknowledged.is_some(), finding.severity));
        all
    }
}

impl Operator {
    /// What this process does not do now. The store is asked for a bounded time.
    pub async fn readiness(&self) -> Findings {
        let (mut findings, now) = (Findings::default(), self.clock.now());
        let status = self.status.get();
        findings.planning(&status, now, self.started_at);
        findings.preferences(&status, now, self.started_at);
        self.operation_findings(&mut findings, now);
        let asked = tokio::time::timeout(STORE_TIMEOUT, self.stored_findings(now)).await;
        let trouble = match asked {
            Ok(Ok((warnings, hold))) => {
                findings.warnings.extend(warnings);
                if let Some(hold) = hold {
                    findings.add(true, self.restored_finding(hold).await);
                    findings.not_ready.rotate_right(1);
                }
                return findings;
            }
            Ok(Err(error)) => format!("the store does not answer: {error}"),
            Err(_) => format!(
                "the store does not answer within {} s",
                STORE_TIMEOUT.as_secs()
            ),
        };
        findings.add(true, Finding::new(FindingKind::Store, trouble, None));
        findings
    }

    /// Everything that an operator should look at: what this process does not do, jobs that fail, unresponsive replicas, items
    /// that failed for good or expired, work that does not begin, and preferences that cannot be used. What an operator has
    /// acknowledged says so.
    ///
    /// # Errors
    /// The store fails.
    pub async fn findings(&self) -> Result<Findings, StoreError> {
        // First: what is acknowledged while this looks is not over.
        let known = self.operations.acknowledgements().await?;
        let (mut findings, now) = (self.readiness().await, self.clock.now());
        let held = self.replica_findings(&mut findings, now).await?;
        self.waiting_findings(&mut findings, now, held).await?;
        self.expired_findings(&mut findings, now).await?;
        self.alert_findings(&mut findings).await?;
        for letters in self.operations.open_dead_letters().await? {
            self.failing_job(&mut findings, letters).await?;
        }
        self.quarantine_findings(&mut findings);
        for finding in findings.not_ready.iter_mut().chain(&mut findings.warnings) {
            let of_it = known.iter().find(|known| finding.is_known_by(known));
            finding.acknowledged = of_it.cloned();
        }
        self.forget_what_is_over(&findings, &known).await;
        Ok(findings)
    }

    /// What the store knows: jobs that are paused, deliveries that fail, and that it is held.
    async fn stored_findings(
        &self,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Finding>, Option<Hold>), StoreError> {
        self.reader.batches(&BatchFilter::default(), &ONE).await?;
        let mut found = self.paused_jobs().await?;
        found.extend(self.delivery_findings(now).await?);
        Ok((found, self.fence.hold().await?))
    }
}
