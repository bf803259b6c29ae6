//! The jobs in effect, shared by all that act on them, and replaced as a whole while they run.

use std::sync::Arc;

use punctual_domain::BatchConfig;
use tokio::sync::watch;

/// The jobs in effect. Clones share them.
#[derive(Debug, Clone)]
pub struct Jobs(watch::Sender<Arc<BatchConfig>>);

impl Jobs {
    /// The jobs now.
    #[must_use]
    pub fn current(&self) -> Arc<BatchConfig> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces the jobs, for every clone.
    pub fn replace(&self, config: BatchConfig) {
        self.0.send_replace(Arc::new(config));
    }

    /// Has all who follow the jobs look at them anew, as after a change: what they refer to has changed, such as the rules of
    /// time zones.
    pub fn renew(&self) {
        self.0.send_modify(|_| {});
    }

    /// Tells when they are replaced.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<BatchConfig>> {
        self.0.subscribe()
    }
}

impl From<Arc<BatchConfig>> for Jobs {
    fn from(config: Arc<BatchConfig>) -> Self {
        Self(watch::Sender::new(config))
    }
}

impl From<BatchConfig> for Jobs {
    fn from(config: BatchConfig) -> Self {
        Arc::new(config).into()
    }
}
