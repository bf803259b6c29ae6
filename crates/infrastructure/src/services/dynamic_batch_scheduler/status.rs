//! What the scheduler knows, as data that others may read at any time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, FieldErrors, JobId, TenantId};
use tokio::sync::watch;

/// The scheduler's state after its last tick.
#[derive(Debug, Clone, Default)]
pub struct SchedulerStatus {
    /// The preference-based jobs.
    pub jobs: HashMap<JobId, JobStatus>,
    /// Until when everything has been planned; `None` before the first tick.
    pub planned_until: Option<DateTime<Utc>>,
}

/// One preference-based job.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// Whose preferences drive it.
    pub feature_type: FeatureType,
    /// Whether its preferences have been read. Until then nothing of it runs.
    pub loaded: bool,
    /// Tenants scheduled.
    pub tenants: usize,
    /// The slots they stand in, in order.
    pub slots: Vec<SlotStatus>,
    /// Tenants whose preference cannot be used.
    pub quarantine: BTreeMap<TenantId, FieldErrors>,
    /// Every preference stored until then is in force.
    pub seen_until: Option<DateTime<Utc>>,
    /// Why preferences cannot be read now.
    pub trouble: Option<String>,
}

/// One slot.
#[derive(Debug, Clone)]
pub struct SlotStatus {
    /// The slot, as text.
    pub slot: String,
    /// Tenants in it.
    pub tenants: usize,
    /// When it falls due next.
    pub next: Option<DateTime<Utc>>,
}

/// A handle on the scheduler's state.
#[derive(Debug, Clone, Default)]
pub struct StatusHandle(watch::Sender<Arc<SchedulerStatus>>);

impl StatusHandle {
    /// The state after the last tick.
    #[must_use]
    pub fn get(&self) -> Arc<SchedulerStatus> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until the state fulfils `condition`, and returns it.
    pub async fn wait_for(
        &self,
        condition: impl Fn(&SchedulerStatus) -> bool,
    ) -> Arc<SchedulerStatus> {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(|status| condition(status)).await {
            Ok(status) => Arc::clone(&status),
            Err(_closed) => self.get(),
        }
    }

    pub(super) fn publish(&self, status: SchedulerStatus) {
        self.0.send_replace(Arc::new(status));
    }
}
