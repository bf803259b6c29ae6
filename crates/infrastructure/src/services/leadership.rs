//! Leadership among the processes on one store: the leader plans, the others wait for its lease to end.

use std::{sync::Arc, time::Duration};

use punctual_application::{
    ActiveFailures, Operation,
    ports::{Clock, Leadership, WorkQueue},
};
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};
use uuid::Uuid;

/// How long a lease lasts without renewal.
const LEASE: Duration = Duration::from_secs(10);
/// Stands for the end of a lease that has none.
const FOREVER: Duration = Duration::from_hours(100 * 366 * 24);
/// How often the leader renews its lease, and the others ask for it.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How soon to ask again after the store has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether this process is the leader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaderState {
    pub(crate) is_leader: bool,
    /// Whether it has just become the leader.
    pub(crate) is_new: bool,
    /// When to ask again, at the latest; `None`: this process is the only one.
    renew_in: Option<Duration>,
}

impl LeaderState {
    /// `sleep`, cut at the next renewal of the lease.
    pub(crate) fn until_renewal(self, sleep: Duration) -> Duration {
        self.renew_in.map_or(sleep, |renew_in| sleep.min(renew_in))
    }
}

/// Acquires the lease, and renews it.
pub(crate) struct LeaderElection {
    queue: Arc<dyn WorkQueue>,
    clock: Arc<dyn Clock>,
    /// What the store knows this process by.
    process: Uuid,
    /// When another process may lead, unless the lease is renewed before; `None`: another one may at any time.
    leads_until: Option<Instant>,
    /// Whether this process led when the store last answered.
    leads: watch::Sender<bool>,
}

impl LeaderElection {
    pub(crate) fn new(queue: Arc<dyn WorkQueue>, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue,
            clock,
            process: Uuid::new_v4(),
            leads_until: None,
            leads: watch::Sender::new(false),
        }
    }

    /// Whether this process led when the store last answered.
    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Acquires or renews the lease, where no other process holds it. After a failure, this process has still led all the time
    /// where the store answers again before the lease would have ended; otherwise it leads anew.
    pub(crate) async fn acquire(&mut self, failures: &ActiveFailures) -> LeaderState {
        let asked_at = Instant::now();
        let leadership = self.queue.lead(self.process, LEASE).await;
        failures.note(Operation::AcquireLeadership, &leadership, self.clock.now());
        let (leads_until, renew_in) = match leadership {
            Ok(Leadership::Always) => (Some(asked_at + FOREVER), None),
            Ok(Leadership::Granted) => (Some(asked_at + LEASE), Some(RENEW_EVERY)),
            Ok(Leadership::Refused) => (None, Some(RENEW_EVERY)),
            Err(error) => {
                error!(%error, "Failed to acquire scheduler leadership, retrying in 1 s: {error}");
                metrics::gauge!("punctual_leads").set(0.0);
                return LeaderState {
                    is_leader: false,
                    is_new: false,
                    renew_in: Some(RETRY_AFTER),
                };
            }
        };
        let is_leader = leads_until.is_some();
        let has_led = self.leads_until.is_some_and(|until| asked_at < until);
        let event = match (is_leader, has_led) {
            (true, false) => Some("Became"),
            (false, _) if self.leads_until.is_some() => Some("No longer"),
            _ => None,
        };
        if let Some(event) = event.filter(|_| renew_in.is_some()) {
            info!(process = %self.process, "{event} scheduler leader");
        }
        if !is_leader {
            // Another process plans, and knows better.
            failures.forget(|operation| {
                matches!(
                    operation,
                    Operation::EnqueueDueBatches | Operation::PlanJob(_)
                )
            });
        }
        self.leads_until = leads_until;
        self.leads
            .send_if_modified(|leads| std::mem::replace(leads, is_leader) != is_leader);
        metrics::gauge!("punctual_leads").set(f64::from(u8::from(is_leader)));
        LeaderState {
            is_leader,
            is_new: is_leader && !has_led,
            renew_in,
        }
    }

    /// Gives the lease up, so that another process leads immediately. A process that could not renew it may still have it.
    pub(crate) async fn step_down(&self) {
        self.leads.send_replace(false);
        if let Err(error) = self.queue.lead(self.process, Duration::ZERO).await {
            warn!(%error, "Failed to release scheduler leadership, another replica takes over \
                when the lease expires: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use punctual_application::{
        ports::{MockWorkQueue, StoreError, StoreErrorKind},
        testing::ManualClock,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_a_process_leads_anew_only_where_its_lease_has_ended() {
        let mut queue = MockWorkQueue::new();
        let mut answers = [true, true, false, true, false, true, true].into_iter();
        queue
            .expect_lead()
            .returning(move |_, _| match answers.next() {
                Some(true) => Ok(Leadership::Granted),
                _ => Err(StoreError::new(StoreErrorKind::Unavailable, "a test")),
            });
        let clock = ManualClock::starting_at("2026-03-01T09:00:00Z");
        let mut election = LeaderElection::new(Arc::new(queue), Arc::new(clock));
        let failures = ActiveFailures::default();
        let mut states = Vec::new();
        for passed in [0, 3, 3, 1, 3, 8, 3] {
            tokio::time::advance(Duration::from_secs(passed)).await;
            let state = election.acquire(&failures).await;
            states.push((state.is_leader, state.is_new));
        }
        let (new, same, failed) = ((true, true), (true, false), (false, false));
        assert_eq!(states, [new, same, failed, same, failed, new, same]);
    }
}
