//! A store that was restored from an older copy, and waits for a decision.

use super::{Finding, FindingKind};
use crate::{ports::Hold, services::operator::Operator};

impl Operator {
    /// That the store is held, before all others: it is why nothing else happens.
    pub(super) async fn restored_finding(&self, hold: Hold) -> Finding {
        let restored = self.count_missed(hold).await;
        let what = format!(
            "the store was restored from an older copy; until you decide, nothing runs: {}",
            restored.in_words()
        );
        Finding::new(FindingKind::Restored, what, restored.since).begun()
    }
}
