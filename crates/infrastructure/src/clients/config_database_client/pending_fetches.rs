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
const MAX_CONCURRENT_RETRIES: usize = 4;
/// Tenants of a feature that are retried one by one.
const MAX_PENDING_TENANTS: usize = 10_000;
/// Waits of a tenant between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));

/// Tenants whose last change is still to be fetched.
#[derive(Debug, Default)]
pub(super) struct PendingFetches(Mutex<HashMap<FeatureType, BTreeMap<TenantId, PendingFetch>>>);

#[derive(Debug, Clone)]
pub(super) struct PendingFetch {
    pub(super) changed_at: Option<DateTime<Utc>>,
    failures: u32,
    retry_at: Instant,
}

impl PendingFetches {
    /// Remembers a tenant whose preference could not be fetched.
    pub(super) fn add(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        changed_at: Option<DateTime<Utc>>,
    ) {
        let mut all = self.lock();
        let fetches = all.entry(feature.clone()).or_default();
        let failures = fetches
            .get(tenant)
            .map_or(1, |fetch| fetch.failures.saturating_add(1));
        let fetch = PendingFetch {
            changed_at,
            failures,
            retry_at: Instant::now() + BACKOFF.after(failures),
        };
        fetches.insert(tenant.clone(), fetch);
    }

    /// Whether so many tenants are owed that a full read costs less.
    pub(super) fn is_full(&self, feature: &FeatureType) -> bool {
        self.lock()
            .get(feature)
            .is_some_and(|fetches| fetches.len() > MAX_PENDING_TENANTS)
    }

    pub(super) fn settle(&self, feature: &FeatureType, tenant: &TenantId) {
        if let Some(fetches) = self.lock().get_mut(feature) {
            fetches.remove(tenant);
        }
    }

    /// Forgets a tenant in all features.
    pub(super) fn forget(&self, tenant: &TenantId) {
        for fetches in self.lock().values_mut() {
            fetches.remove(tenant);
        }
    }

    /// A full read says everything.
    pub(super) fn settle_all(&self, feature: &FeatureType) {
        self.lock().remove(feature);
    }

    /// Some of those that are to be retried now.
    pub(super) fn due(&self, feature: &FeatureType) -> Vec<(TenantId, PendingFetch)> {
        let (all, now) = (self.lock(), Instant::now());
        let fetches = all.get(feature).into_iter().flatten();
        let due = fetches.filter(|(_, fetch)| fetch.retry_at <= now);
        due.take(MAX_CONCURRENT_RETRIES)
            .map(|(tenant, fetch)| (tenant.clone(), fetch.clone()))
            .collect()
    }

    /// How long until the next is to be retried; `None` if there is none.
    pub(super) fn next_retry_in(&self, feature: &FeatureType) -> Option<Duration> {
        let all = self.lock();
        let retry_at = all
            .get(feature)?
            .values()
            .map(|fetch| fetch.retry_at)
            .min()?;
        Some(retry_at.saturating_duration_since(Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FeatureType, BTreeMap<TenantId, PendingFetch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
