//! Entries that could not be read, listed until a later read brings one that can be.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use punctual_application::ports::Unreadable;
use punctual_domain::{FeatureType, FieldErrors, TenantId};
use tracing::warn;

use super::wire::RejectedEntry;

/// Entries listed of those that name a tenant, and of those that do not; more are counted.
const MAX_LISTED: usize = 10_000;
const MAX_LISTED_UNATTRIBUTED: usize = 1_000;
/// Entries that one line of the log names.
const MAX_LOGGED: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Quarantine(Mutex<HashMap<FeatureType, Arc<Unreadable>>>);

impl Quarantine {
    pub(super) fn of(&self, feature: &FeatureType) -> Arc<Unreadable> {
        self.with(feature, |list| Arc::clone(list))
    }

    /// Takes those of a full read, in place of all before.
    pub(super) fn replace(&self, feature: &FeatureType, rejected: Vec<RejectedEntry>, more: usize) {
        let list = Unreadable {
            more,
            ..Unreadable::default()
        };
        self.with(feature, |all| *all = Arc::new(list));
        log(feature, &rejected, more);
        rejected
            .into_iter()
            .for_each(|rejected_entry| self.hold(feature, rejected_entry));
    }

    /// Adds one entry.
    pub(super) fn hold(
        &self,
        feature: &FeatureType,
        RejectedEntry { tenant, error }: RejectedEntry,
    ) {
        self.with(feature, |list| {
            let list = Arc::make_mut(list);
            match tenant {
                Some(tenant)
                    if list.tenants.len() < MAX_LISTED || list.tenants.contains_key(&tenant) =>
                {
                    list.tenants.insert(tenant, FieldErrors(vec![*error]));
                }
                // A server that sends it again and again has one such entry.
                None if list.others.contains(&error) => {}
                None if list.others.len() < MAX_LISTED_UNATTRIBUTED => list.others.push(*error),
                _ => list.more += 1,
            }
        });
    }

    /// A later read has brought this tenant's preference, or its end.
    pub(super) fn release(&self, feature: &FeatureType, tenant: &TenantId) {
        self.with(feature, |list| {
            if list.tenants.contains_key(tenant) {
                Arc::make_mut(list).tenants.remove(tenant);
            }
        });
    }

    /// Takes a tenant off the lists of all features.
    pub(super) fn forget(&self, tenant: &TenantId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for list in all.values_mut() {
            if list.tenants.contains_key(tenant) {
                Arc::make_mut(list).tenants.remove(tenant);
            }
        }
    }

    fn with<T>(&self, feature: &FeatureType, act: impl FnOnce(&mut Arc<Unreadable>) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(all.entry(feature.clone()).or_default())
    }
}

/// Logs the entries of one read, and how many more there are, in one line.
pub(super) fn log(feature: &FeatureType, rejected: &[RejectedEntry], more: usize) {
    if rejected.is_empty() {
        return;
    }
    let count = rejected.len() + more;
    let mut entries: Vec<String> = rejected
        .iter()
        .take(MAX_LOGGED)
        .map(RejectedEntry::to_string)
        .collect();
    if count > MAX_LOGGED {
        entries.push(format!("and {} more", count - MAX_LOGGED));
    }
    let entries = entries.join(" | ");
    warn!(%feature, count, "Entries of {feature} cannot be read and are left out: {entries}");
}

impl std::fmt::Display for RejectedEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tenant {
            Some(tenant) => write!(f, "tenant {tenant}: {}", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}
