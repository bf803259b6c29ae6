//! What has run for a tenant, for the page of a feature that allows it. What knows it, such as an agent on another machine, may be
//! slow or gone: a page waits for it for a short time only, few pages at once, and says so where it is not known.

use std::{fmt, sync::Arc, time::Duration};

use punctual_application::ports::{PastRun, RunHistory};
use punctual_domain::{FeatureType, TenantId};
use tokio::sync::Semaphore;
use tracing::warn;

/// Runs that a page shows.
const MAX_RUNS: u32 = 10;
/// How long a page waits.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pages that ask at once; others wait for one of them within their time.
const MAX_CALLS: usize = 8;

/// What has run for tenants.
#[derive(Clone)]
pub(crate) struct PastRuns {
    history: Arc<dyn RunHistory>,
    calls: Arc<Semaphore>,
}

impl fmt::Debug for PastRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastRuns").finish_non_exhaustive()
    }
}

impl PastRuns {
    pub(crate) fn new(history: Arc<dyn RunHistory>) -> Self {
        Self {
            history,
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }

    /// The newest runs of a tenant for a feature, the newest first; `None`: they cannot be read for now.
    pub(crate) async fn of(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
    ) -> Option<Vec<PastRun>> {
        let asked = async {
            // It is never closed.
            let _call = self.calls.acquire().await.ok();
            self.history.past_runs(tenant, feature, MAX_RUNS).await
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(mut runs)) => {
                runs.truncate(MAX_RUNS as usize);
                Some(runs)
            }
            Ok(Err(error)) => {
                warn!(%feature, %error, "Failed to read past runs: {error}");
                None
            }
            Err(_) => {
                warn!(%feature, "Failed to read past runs: no answer in {} s", TIMEOUT.as_secs());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use punctual_application::{ports::RunHistoryError, testing::FakeRunHistory};

    use super::*;

    /// Never answers.
    struct Silent;

    #[async_trait]
    impl RunHistory for Silent {
        async fn past_runs(
            &self,
            _: &TenantId,
            _: &FeatureType,
            _: u32,
        ) -> Result<Vec<PastRun>, RunHistoryError> {
            std::future::pending().await
        }
    }

    fn subject() -> (TenantId, FeatureType) {
        ("ann".parse().unwrap(), "posts".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_pages_ask_none_waits_longer_than_its_time() {
        let past_runs = PastRuns::new(Arc::new(Silent));
        let (ann, posts) = subject();
        let began = tokio::time::Instant::now();
        let all = (0..3 * MAX_CALLS).map(|_| past_runs.of(&ann, &posts));
        let answers = futures::future::join_all(all).await;
        assert!(answers.iter().all(Option::is_none));
        assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
        assert_eq!(past_runs.calls.available_permits(), MAX_CALLS);
    }

    #[tokio::test]
    async fn what_fails_is_not_taken_for_nothing() {
        let history = Arc::new(FakeRunHistory::default());
        let past_runs = PastRuns::new(history.clone());
        let (ann, posts) = subject();
        assert_eq!(past_runs.of(&ann, &posts).await, Some(Vec::new()));
        history.set_down(true);
        assert_eq!(past_runs.of(&ann, &posts).await, None);
    }
}
