//! What is known of single tenants: fresh for a while, then stale, which is better than nothing only while
//! the server cannot be asked. 'The server has none' is remembered like any other answer.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use cached::{ConcurrentCloneCached, Expires, ShardedExpiringLruCache};
use punctual_domain::{FeatureType, PreferenceRecord, TenantId};
use reqwest::header::HeaderValue;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// Tenants remembered at most; beyond it the least recently used are forgotten.
const MAX_TENANTS: usize = 200_000;
/// How long a stale answer may stand in while the server cannot be asked.
const MAX_STALENESS: Duration = Duration::from_hours(24);

/// Keys that are fetched one after the other although they differ: as few as this share a lock.
const FETCH_LOCKS: usize = 256;

/// What the server said of a tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CachedPreference {
    /// `None`: it has no preference for the feature.
    pub(super) record: Option<PreferenceRecord>,
    /// What it answers to 'is it still so?'; only a configuration that was read by itself has one.
    pub(super) etag: Option<HeaderValue>,
}

impl From<Option<PreferenceRecord>> for CachedPreference {
    fn from(record: Option<PreferenceRecord>) -> Self {
        Self { record, etag: None }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    known: CachedPreference,
    fresh_until: Instant,
}

impl Expires for Entry {
    fn is_expired(&self) -> bool {
        self.fresh_until <= Instant::now()
    }
}

/// What the cache knows of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Lookup {
    /// To be used as it is.
    Fresh(CachedPreference),
    /// To be used only when the server cannot be asked.
    Stale(CachedPreference),
    /// Nothing.
    Unknown,
}

#[derive(Debug)]
pub(super) struct PreferenceCache {
    entries: ShardedExpiringLruCache<(FeatureType, TenantId), Entry>,
    /// Features of which anything has been known.
    features: RwLock<HashSet<FeatureType>>,
    ttl: Duration,
    fetch_locks: [Mutex<()>; FETCH_LOCKS],
    hasher: RandomState,
}

impl PreferenceCache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            entries: ShardedExpiringLruCache::new(MAX_TENANTS),
            features: RwLock::default(),
            ttl,
            fetch_locks: [const { Mutex::const_new(()) }; FETCH_LOCKS],
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, feature: &FeatureType, tenant: &TenantId) -> Lookup {
        // Not `get`: that would delete what has expired, and with it the stale answer.
        match self
            .entries
            .get_with_expiry_status(&(feature.clone(), tenant.clone()))
        {
            (Some(entry), false) => Lookup::Fresh(entry.known),
            (Some(entry), true) if entry.fresh_until + MAX_STALENESS > Instant::now() => {
                Lookup::Stale(entry.known)
            }
            _ => Lookup::Unknown,
        }
    }

    /// Waits until no other call fetches this tenant, and keeps others from it while the guard is held.
    pub(super) async fn fetch_lock(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
    ) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one((feature, tenant));
        self.fetch_locks[hash as usize % FETCH_LOCKS].lock().await
    }

    pub(super) fn put(&self, feature: &FeatureType, tenant: &TenantId, known: CachedPreference) {
        let entry = Entry {
            known,
            fresh_until: Instant::now() + self.ttl,
        };
        let features = self.features.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = features.contains(feature);
        drop(features);
        if !is_known {
            let features = self.features.write();
            let mut features = features.unwrap_or_else(PoisonError::into_inner);
            features.insert(feature.clone());
        }
        self.entries.set((feature.clone(), tenant.clone()), entry);
    }

    /// Forgets a tenant in all features.
    pub(super) fn forget_everywhere(&self, tenant: &TenantId) {
        let features = self.features.read().unwrap_or_else(PoisonError::into_inner);
        for feature in features.iter() {
            self.forget(feature, tenant);
        }
    }

    pub(super) fn forget(&self, feature: &FeatureType, tenant: &TenantId) {
        self.entries.remove(&(feature.clone(), tenant.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_grow_stale_and_are_forgotten_in_the_end() {
        let cache = PreferenceCache::new(Duration::from_mins(1));
        let (feature, tenant) = (FeatureType::new("f").unwrap(), TenantId::new("t").unwrap());
        assert_eq!(cache.get(&feature, &tenant), Lookup::Unknown);
        cache.put(&feature, &tenant, CachedPreference::default());
        assert_eq!(
            cache.get(&feature, &tenant),
            Lookup::Fresh(CachedPreference::default())
        );
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(
            cache.get(&feature, &tenant),
            Lookup::Stale(CachedPreference::default())
        );
        assert_eq!(
            cache.get(&feature, &tenant),
            Lookup::Stale(CachedPreference::default()),
            "looking does not delete it"
        );
        tokio::time::advance(MAX_STALENESS).await;
        assert_eq!(cache.get(&feature, &tenant), Lookup::Unknown);
    }

    #[tokio::test]
    async fn a_tenant_is_forgotten_in_all_features() {
        let cache = PreferenceCache::new(Duration::from_mins(1));
        let features = ["f", "g"].map(|name| FeatureType::new(name).unwrap());
        let [ann, bob] = ["ann", "bob"].map(|id| TenantId::new(id).unwrap());
        for feature in &features {
            cache.put(feature, &ann, CachedPreference::default());
            cache.put(feature, &bob, CachedPreference::default());
        }
        cache.forget_everywhere(&ann);
        for feature in &features {
            assert_eq!(cache.get(feature, &ann), Lookup::Unknown);
            assert_ne!(cache.get(feature, &bob), Lookup::Unknown);
        }
    }
}
