//! What the scheduler knows, as data that others may read at any time. The scheduler writes it; the operator, the pages
//! and the health checks read it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, JobId, Mirror, Position, SharedPreference, Slot, TenantId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ports::PreferenceMirror;

/// The scheduler's state after its last tick.
#[derive(Debug, Clone, Default)]
pub struct SchedulerStatus {
    /// The preference-based jobs.
    pub jobs: HashMap<JobId, JobStatus>,
    /// Until when everything has been planned; `None` before the first tick.
    pub planned_until: Option<DateTime<Utc>>,
    /// Whether this process is the leader.
    pub leads: bool,
    /// When something falls due next, seen from then; `None` also where another process plans.
    pub next_due: Option<DateTime<Utc>>,
}

/// One preference-based job.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// Feature whose preferences drive the job.
    pub feature_type: FeatureType,
    /// Whether its preferences have been read. Until then nothing of it runs.
    pub loaded: bool,
    /// Tenants scheduled.
    pub tenants: usize,
    /// Tenants whose preference cannot be used.
    pub quarantined: usize,
    /// Time at which the next tenant falls due; `None`: none does.
    pub next_due: Option<DateTime<Utc>>,
    /// Every preference stored until then is in effect.
    pub seen_until: Option<DateTime<Utc>>,
    /// Why preferences cannot be read.
    pub trouble: Option<String>,
    /// The tenants themselves, as they stand now.
    pub mirror: MirrorHandle,
}

/// A look at the mirror that the scheduler keeps.
#[derive(Clone)]
pub struct MirrorHandle(Arc<RwLock<Mirror>>);

impl MirrorHandle {
    /// A handle on a mirror, for the scheduler that keeps it.
    #[must_use]
    pub fn new(mirror: Mirror) -> Self {
        Self(Arc::new(RwLock::new(mirror)))
    }

    /// Looks. The scheduler waits meanwhile, so look shortly.
    pub fn read<T>(&self, look: impl FnOnce(&Mirror) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes it. Only the scheduler that keeps it does, and an erasure, which takes a tenant out.
    pub fn write<T>(&self, change: impl FnOnce(&mut Mirror) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The slots with the most tenants, and how many slots there are.
    #[must_use]
    pub fn largest_slots(&self, most: usize) -> (Vec<SlotStatus>, usize) {
        let (mut slots, now) = self.read(|mirror| {
            (
                mirror.slots(),
                mirror.position().map(Position::planned_until),
            )
        });
        let all = slots.len();
        slots.sort_by_key(|(_, tenants)| std::cmp::Reverse(*tenants));
        slots.truncate(most);
        let status = |(slot, tenants): (Slot, usize)| SlotStatus {
            next: now.and_then(|now| slot.next_after(now)),
            slot: slot.to_string(),
            tenants,
        };
        (slots.into_iter().map(status).collect(), all)
    }
}

impl fmt::Debug for MirrorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorHandle").finish_non_exhaustive()
    }
}

/// A slot, with its number of tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SlotStatus {
    /// The slot, in words.
    pub slot: String,
    /// Number of tenants in it.
    pub tenants: usize,
    /// Time at which it falls due next.
    pub next: Option<DateTime<Utc>>,
}

impl PreferenceMirror for StatusHandle {
    fn preferences(&self, job_id: &JobId, tenants: &[TenantId]) -> Vec<Option<SharedPreference>> {
        let status = self.get();
        match status.jobs.get(job_id) {
            Some(job) if job.loaded => job.mirror.read(|mirror| mirror.preferences_of(tenants)),
            _ => vec![None; tenants.len()],
        }
    }
}

/// The state of the scheduler after its last tick, with its live mirrors. It is more than a display: the processor takes
/// preferences from it ([`PreferenceMirror`]), and trigger, backfill and explain decide by it. `planned_until` is a copy; the
/// truth is with the scheduler, which alone publishes. Nothing that is done with the handle changes what is scheduled, apart from
/// tenants who are erased. What operators do goes through [`Operator`](crate::Operator).
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

    /// Shows a new state to all readers. Only the scheduler calls this.
    pub fn publish(&self, status: SchedulerStatus) {
        self.0.send_replace(Arc::new(status));
    }

    /// Changes the state that all readers see. Those who look at it now go on with a copy. Only the scheduler calls this.
    pub fn update(&self, change: impl FnOnce(&mut SchedulerStatus)) {
        self.0.send_modify(|status| change(Arc::make_mut(status)));
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::Zone;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, FakeStore, contract, record};

    #[test]
    fn the_status_keeps_the_contract_of_a_mirror() {
        let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
            "preference_based": true, "feature_type": "posts"}]});
        let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).expect("valid");
        let store: Arc<FakeStore> = Arc::default();
        let operator = testing::operator(&store, jobs, "2026-03-01T09:00:00Z");
        let job_id = JobId::new("posts").expect("valid");
        let ann = record("ann", json!({"enabled": true, "frequency": "daily"}));
        let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
        testing::schedule(
            &operator,
            &job_id,
            &[ann.clone(), record("unknown-to-all", broken)],
        );
        let status = operator.status.get();
        let mirror = &status.jobs[&job_id].mirror;
        let preference = mirror.read(|mirror| mirror.preference_of(&ann.tenant_id));
        let preference = preference.expect("Ann is scheduled");
        let status = &operator.status;
        contract::preference_mirror(status, &job_id, &ann.tenant_id, &preference);
    }
}
