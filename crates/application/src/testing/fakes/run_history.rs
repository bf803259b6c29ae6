//! The port `RunHistory`, in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use punctual_domain::{FeatureType, TenantId};

use crate::ports::{PastRun, RunHistory, RunHistoryError, RunHistoryErrorKind};

/// Past runs in memory, by tenant and feature.
#[derive(Debug, Default)]
pub struct FakeRunHistory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    runs: BTreeMap<(TenantId, FeatureType), Vec<PastRun>>,
    is_down: bool,
}

impl FakeRunHistory {
    fn known(&self) -> MutexGuard<'_, Known> {
        let known = self.0.lock();
        known.expect("nothing panics while it holds the lock")
    }

    /// Adds a run of a tenant for a feature.
    pub fn put(&self, tenant_id: &TenantId, feature_type: &FeatureType, run: PastRun) {
        let key = (tenant_id.clone(), feature_type.clone());
        let mut known = self.known();
        let runs = known.runs.entry(key).or_default();
        runs.push(run);
        runs.sort_by_key(|run| std::cmp::Reverse(run.scheduled_at));
    }

    /// Whether calls fail from now on.
    pub fn set_down(&self, down: bool) {
        self.known().is_down = down;
    }
}

#[async_trait]
impl RunHistory for FakeRunHistory {
    async fn past_runs(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
        limit: u32,
    ) -> Result<Vec<PastRun>, RunHistoryError> {
        let known = self.known();
        if known.is_down {
            let kind = RunHistoryErrorKind::Unavailable;
            return Err(RunHistoryError::new(kind, "a test has put it down"));
        }
        let runs = known.runs.get(&(tenant_id.clone(), feature_type.clone()));
        let runs = runs.into_iter().flatten().take(limit as usize);
        Ok(runs.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::{ports::RunOutcome, testing::contract};

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let run = |date: &str, outcome| {
            let at: DateTime<Utc> = format!("{date}T09:00:00Z").parse().unwrap();
            PastRun {
                job_id: "posts".parse().unwrap(),
                occurrence: date.parse().unwrap(),
                scheduled_at: at,
                finished_at: at,
                outcome,
                reason: None,
            }
        };
        let fake = FakeRunHistory::default();
        let (ann, posts) = ("ann".parse().unwrap(), "posts".parse().unwrap());
        let older = run("2026-11-24", RunOutcome::Failed);
        let newer = run("2026-11-25", RunOutcome::Succeeded);
        fake.put(&ann, &posts, older.clone());
        fake.put(&ann, &posts, newer.clone());
        contract::run_history(&fake, (&ann, &posts), &[newer, older]).await;
        fake.set_down(true);
        let error = fake.past_runs(&ann, &posts, 1).await.unwrap_err();
        assert_eq!(error.kind(), RunHistoryErrorKind::Unavailable);
    }
}
