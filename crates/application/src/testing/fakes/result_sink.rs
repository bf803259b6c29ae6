//! The port `ResultSink`, in memory.

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use punctual_domain::Batch;

use crate::ports::{ResultSink, SinkError, StoredResult};

/// A sink in memory, which a test can also switch off.
#[derive(Debug, Default)]
pub struct FakeSink(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came first.
    received: Vec<StoredResult>,
    down: bool,
}

impl FakeSink {
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.lock();
        state.expect("nothing panics while it holds the lock")
    }

    /// What it has been given, each result once.
    #[must_use]
    pub fn received(&self) -> Vec<StoredResult> {
        self.state().received.clone()
    }

    /// Makes every call fail, or work again.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }
}

#[async_trait]
impl ResultSink for FakeSink {
    async fn take(&self, _: &Batch, results: &[StoredResult], _: bool) -> Result<(), SinkError> {
        let mut state = self.state();
        if state.down {
            return Err(SinkError::retryable("the fake sink is down"));
        }
        for result in results {
            let id = result.delivery_id();
            if !state.received.iter().any(|known| known.delivery_id() == id) {
                state.received.push(result.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract::{self, Receiver};

    #[async_trait]
    impl Receiver for FakeSink {
        async fn received(&self) -> Vec<String> {
            let received = Self::received(self);
            received.iter().map(StoredResult::delivery_id).collect()
        }

        async fn set_down(&self, down: bool) {
            Self::set_down(self, down);
        }
    }

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeSink::default();
        contract::result_sink(&fake, &fake).await;
    }
}
