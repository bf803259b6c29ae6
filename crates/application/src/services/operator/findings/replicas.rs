//! Replicas that are unresponsive and hold work.

use chrono::{DateTime, Utc};

use super::{Finding, FindingKind, Findings};
use crate::{
    ports::StoreError,
    services::operator::{Operator, amount, length_in_words},
};

impl Operator {
    /// Adds replicas that are unresponsive. Returns how many chunks all replicas hold.
    pub(super) async fn replica_findings(
        &self,
        findings: &mut Findings,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let replicas = self.operations.replica_leases().await?;
        let held = replicas.iter().map(|replica| replica.chunks).sum();
        for replica in replicas {
            if replica.is_unresponsive(now) {
                let last = replica.last_seen.map_or_else(
                    || "last heartbeat unknown".to_owned(),
                    |seen| format!("last heartbeat {} ago", length_in_words(now - seen)),
                );
                let process = replica.process;
                let chunks = amount(replica.chunks, "chunk");
                let what = format!("replica {process} is unresponsive ({last}) and holds {chunks}");
                let kind = FindingKind::Replica(process);
                findings.add(false, Finding::new(kind, what, replica.last_seen).begun());
            }
        }
        Ok(held)
    }
}
