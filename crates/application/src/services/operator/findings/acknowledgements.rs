//! What operators know of.
//!
//! An acknowledgement holds for a finding by its id, as long as its severity and its cause stay the same (the reason without
//! numbers and ids), and it is about nothing that the operator has not seen. It ends when the finding is over, even if it comes
//! back; [`Finding::over_at`] says when it was over last, where that is known, and what the store tells is forgotten once it is
//! over.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Finding, FindingKind, Findings};
use crate::{
    ports::Acknowledgement,
    services::operator::{Actor, Operator, OperatorError},
};

impl Operator {
    /// Acknowledges a finding until it changes; with `known` false, withdraws the acknowledgement.
    ///
    /// # Errors
    /// The finding does not exist, it has changed since `state`, or the store fails.
    pub async fn acknowledge(
        &self,
        actor: &Actor,
        finding: &str,
        state: Uuid,
        known: bool,
    ) -> Result<Finding, OperatorError> {
        let findings = self.findings().await?;
        let mut all = findings.not_ready.into_iter().chain(findings.warnings);
        let mut found = all.find(|one| one.id() == finding).ok_or_else(|| {
            let what = format!("there is nothing wrong by the id `{finding}`; it may be over");
            OperatorError::NotFound(what)
        })?;
        if found.state() != state {
            return Err(OperatorError::Conflict(format!(
                "it has changed meanwhile, and is now: {found}"
            )));
        }
        let action = if known {
            "acknowledge"
        } else {
            "unacknowledge"
        };
        self.record(actor, action, finding, &found.in_full())
            .await?;
        let before = found.acknowledged.take();
        found.acknowledged = known.then(|| Acknowledgement {
            finding: finding.to_owned(),
            state: found.identity(),
            covers: found.covers.to_string(),
            at: self.clock.now(),
            by: actor.name.clone(),
        });
        let operations = &self.operations;
        let stored = match (&found.acknowledged, before) {
            (Some(acknowledgement), _) => operations.acknowledge(acknowledgement).await,
            (None, Some(before)) => operations.withdraw_acknowledgement(&before).await,
            (None, None) => Ok(()),
        };
        self.noted(stored)?;
        Ok(found)
    }

    /// Forgets acknowledgements of what is over, so that they do not hold when it comes back. What only this process knows may go on
    /// for another one: there the begin of a finding decides.
    pub(super) async fn forget_what_is_over(&self, findings: &Findings, known: &[Acknowledgement]) {
        let is_store = |finding: &Finding| finding.kind == FindingKind::Store;
        if findings.not_ready.iter().any(is_store) {
            return;
        }
        let found: BTreeSet<String> = findings.all().iter().map(|one| one.id()).collect();
        let is_over = |known: &&Acknowledgement| {
            let id = known.finding.as_str();
            let (kind, about) = id.split_once('/').unwrap_or((id, ""));
            let is_shared = match kind {
                "store" | "restored" | "paused" | "job-failing" | "dead-letters"
                | "delivery-failing" | "delivery-given-up" | "replica" | "expired" | "waiting"
                | "alerts-failing" => true,
                "quarantine" => self.has_read_preferences(about),
                _ => false,
            };
            is_shared && !found.contains(&known.finding)
        };
        for known in known.iter().filter(is_over) {
            // The next look tries again.
            let _ = self.operations.withdraw_acknowledgement(known).await;
        }
    }

    /// Whether the preferences of a job have been read, as far as there is such a job.
    fn has_read_preferences(&self, job: &str) -> bool {
        let status = self.status.get();
        let mut jobs = status.jobs.iter();
        match jobs.find(|(job_id, _)| job_id.as_str() == job) {
            Some((_, known)) => known.loaded,
            None => status.planned_until.is_some(),
        }
    }
}
