//! What has run for a tenant, for the page of a feature that allows it. An agent may be slow or unavailable: a page waits for it for a short
//! time only, few pages at once, and says so where it is not known. After a failure no page asks for a moment.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use punctual_application::ports::{PastRun, RunHistory};
use punctual_domain::{FeatureType, TenantId};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::{info, warn};

/// Runs that a page shows.
const MAX_RUNS: u32 = 10;
/// How long a page waits for its turn.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How long a page waits for an answer then. A client of agents gives up before, and says which agent it is.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pages that ask at once.
const MAX_CALLS: usize = 8;
/// How long no page asks after a failure. Only an answer that comes later ends the failure for the log.
const PAUSE: Duration = Duration::from_secs(3);

/// What has run for tenants.
#[derive(Clone)]
pub(crate) struct PastRuns {
    history: Arc<dyn RunHistory>,
    calls: Arc<Semaphore>,
    failing: Arc<Mutex<Option<Failing>>>,
}

/// The last failure.
struct Failing {
    reason: String,
    at: Instant,
    /// When a page asks again.
    asks_again: Instant,
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
            failing: Arc::default(),
        }
    }

    /// The newest runs of a tenant for a feature, the newest first; `None`: they cannot be read for now.
    pub(crate) async fn of(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
    ) -> Option<Vec<PastRun>> {
        if self.pauses() {
            return None;
        }
        let Ok(turn) = timeout(MAX_WAIT, self.calls.acquire()).await else {
            self.failed(format!("{MAX_CALLS} calls under way"), Duration::ZERO);
            return None;
        };
        // The semaphore is never closed.
        let _turn = turn.ok();
        let asked = self.history.past_runs(tenant, feature, MAX_RUNS);
        match timeout(TIMEOUT, asked).await {
            Ok(Ok(mut runs)) => {
                self.answered();
                runs.truncate(MAX_RUNS as usize);
                Some(runs)
            }
            Ok(Err(error)) => {
                self.failed(error.to_string(), PAUSE);
                None
            }
            Err(_) => {
                self.failed(format!("no answer in {} s", TIMEOUT.as_secs()), PAUSE);
                None
            }
        }
    }

    fn pauses(&self) -> bool {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = failing.as_ref();
        failing.is_some_and(|failing| Instant::now() < failing.asks_again)
    }

    /// Notes a failure, after which no page asks for so long. Of the same one again the log says nothing.
    fn failed(&self, reason: String, pause: Duration) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failing.take();
        if before.as_ref().is_none_or(|before| before.reason != reason) {
            warn!(reason, "Failed to read past runs: {reason}");
        }
        let at = Instant::now();
        let asks_again = at + pause;
        let asks_again = before.map_or(asks_again, |before| before.asks_again.max(asks_again));
        *failing = Some(Failing {
            reason,
            at,
            asks_again,
        });
    }

    /// Notes an answer, which ends a pause. Where many pages ask at once, answers and pages without a turn alternate: for the log
    /// that is one failure.
    fn answered(&self) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = failing.as_mut() else {
            return;
        };
        let now = Instant::now();
        if now < last.at + PAUSE {
            last.asks_again = now;
        } else {
            *failing = None;
            info!("Past runs can be read again");
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
        let began = Instant::now();
        let all = (0..3 * MAX_CALLS).map(|_| past_runs.of(&ann, &posts));
        let answers = futures::future::join_all(all).await;
        assert!(answers.iter().all(Option::is_none));
        assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
        assert_eq!(past_runs.calls.available_permits(), MAX_CALLS);
        // And for a moment none waits at all.
        let began = Instant::now();
        assert_eq!(past_runs.of(&ann, &posts).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_between_pages_without_a_turn_do_not_end_the_failure() {
        let past_runs = PastRuns::new(Arc::new(FakeRunHistory::default()));
        let (ann, posts) = subject();
        let is_failing = || past_runs.failing.lock().unwrap().is_some();
        let all = past_runs.calls.acquire_many(MAX_CALLS as u32);
        let all = all.await.unwrap();
        assert_eq!(past_runs.of(&ann, &posts).await, None);
        drop(all);
        assert_eq!(past_runs.of(&ann, &posts).await, Some(Vec::new()));
        assert!(is_failing());
        tokio::time::advance(PAUSE).await;
        assert_eq!(past_runs.of(&ann, &posts).await, Some(Vec::new()));
        assert!(!is_failing());
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_not_taken_for_nothing() {
        let history = Arc::new(FakeRunHistory::default());
        let past_runs = PastRuns::new(history.clone());
        let (ann, posts) = subject();
        assert_eq!(past_runs.of(&ann, &posts).await, Some(Vec::new()));
        history.set_down(true);
        assert_eq!(past_runs.of(&ann, &posts).await, None);
        // It is asked again after a moment.
        history.set_down(false);
        assert_eq!(past_runs.of(&ann, &posts).await, None);
        tokio::time::advance(PAUSE).await;
        assert_eq!(past_runs.of(&ann, &posts).await, Some(Vec::new()));
    }
}
