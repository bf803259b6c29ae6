//! Changes without a preference, of tenants whose preference could not be fetched: they are retried aside, so that they
//! keep back no other tenant's changes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use punctual_application::backoff::Backoff;
use punctual_domain::{FeatureType, TenantId};
use tokio::time::Instant;

/// Tenants retried at once: fewer than the failures that open the circuit breaker.
const AT_ONCE: usize = 4;
/// Tenants of a feature that are retried one by one.
const MOST: usize = 10_000;
/// Waits of a tenant between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

/// Tenants whose last change is still to be fetched.
#[derive(Debug, Default)]
pub(super) struct Owed(Mutex<HashMap<FeatureType, BTreeMap<TenantId, Debt>>>);

#[derive(Debug, Clone)]
pub(super) struct Debt {
    pub(super) changed_at: Option<DateTime<Utc>>,
    failures: u32,
    again_at: Instant,
}

impl Owed {
    /// Remembers a tenant whose preference could not be fetched.
    pub(super) fn add(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        changed_at: Option<DateTime<Utc>>,
    ) {
        let mut all = self.lock();
        let debts = all.entry(feature.clone()).or_default();
        let failures = debts
            .get(tenant)
            .map_or(1, |debt| debt.failures.saturating_add(1));
        let debt = Debt {
            changed_at,
            failures,
            again_at: Instant::now() + BACKOFF.after(failures),
        };
        debts.insert(tenant.clone(), debt);
    }

    /// Whether so many tenants are owed that a full read costs less.
    pub(super) fn is_full(&self, feature: &FeatureType) -> bool {
        self.lock()
            .get(feature)
            .is_some_and(|debts| debts.len() > MOST)
    }

    pub(super) fn settle(&self, feature: &FeatureType, tenant: &TenantId) {
        if let Some(debts) = self.lock().get_mut(feature) {
            debts.remove(tenant);
        }
    }

    /// A full read says everything.
    pub(super) fn settle_all(&self, feature: &FeatureType) {
        self.lock().remove(feature);
    }

    /// Some of those that are to be retried now.
    pub(super) fn due(&self, feature: &FeatureType) -> Vec<(TenantId, Debt)> {
        let (all, now) = (self.lock(), Instant::now());
        let debts = all.get(feature).into_iter().flatten();
        let due = debts.filter(|(_, debt)| debt.again_at <= now);
        due.take(AT_ONCE)
            .map(|(tenant, debt)| (tenant.clone(), debt.clone()))
            .collect()
    }

    /// How long until the next is to be retried; `None` if there is none.
    pub(super) fn next_in(&self, feature: &FeatureType) -> Option<Duration> {
        let all = self.lock();
        let again_at = all.get(feature)?.values().map(|debt| debt.again_at).min()?;
        Some(again_at.saturating_duration_since(Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FeatureType, BTreeMap<TenantId, Debt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
