//! What is known of single tenants: fresh for a while, then stale, which is better than nothing only while
//! the server cannot be asked. 'The server has none' is remembered like any other answer.

use std::time::Duration;

use cached::{ConcurrentCloneCached, Expires, ShardedExpiringLruCache};
use punctual_domain::{FeatureType, PreferenceRecord, TenantId};
use tokio::time::Instant;

/// Tenants remembered at most; beyond it the least recently used are forgotten.
const CAPACITY: usize = 200_000;
/// How long a stale answer may stand in while the server cannot be asked.
const STALE_FOR: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
struct Entry {
    record: Option<PreferenceRecord>,
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
    Fresh(Option<PreferenceRecord>),
    /// To be used only when the server cannot be asked.
    Stale(Option<PreferenceRecord>),
    /// Nothing.
    Unknown,
}

#[derive(Debug)]
pub(super) struct PreferenceCache {
    entries: ShardedExpiringLruCache<(FeatureType, TenantId), Entry>,
    ttl: Duration,
}

impl PreferenceCache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            entries: ShardedExpiringLruCache::new(CAPACITY),
            ttl,
        }
    }

    pub(super) fn get(&self, feature: &FeatureType, tenant: &TenantId) -> Lookup {
        // Not `get`: that would delete what has expired, and with it the stale answer.
        match self
            .entries
            .get_with_expiry_status(&(feature.clone(), tenant.clone()))
        {
            (Some(entry), false) => Lookup::Fresh(entry.record),
            (Some(entry), true) if entry.fresh_until + STALE_FOR > Instant::now() => {
                Lookup::Stale(entry.record)
            }
            _ => Lookup::Unknown,
        }
    }

    pub(super) fn put(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        record: Option<PreferenceRecord>,
    ) {
        let entry = Entry {
            record,
            fresh_until: Instant::now() + self.ttl,
        };
        self.entries.set((feature.clone(), tenant.clone()), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_grow_stale_and_are_forgotten_in_the_end() {
        let cache = PreferenceCache::new(Duration::from_secs(60));
        let (feature, tenant) = (FeatureType::new("f").unwrap(), TenantId::new("t").unwrap());
        assert_eq!(cache.get(&feature, &tenant), Lookup::Unknown);
        cache.put(&feature, &tenant, None);
        assert_eq!(cache.get(&feature, &tenant), Lookup::Fresh(None));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(cache.get(&feature, &tenant), Lookup::Stale(None));
        assert_eq!(
            cache.get(&feature, &tenant),
            Lookup::Stale(None),
            "looking does not delete it"
        );
        tokio::time::advance(STALE_FOR).await;
        assert_eq!(cache.get(&feature, &tenant), Lookup::Unknown);
    }
}
