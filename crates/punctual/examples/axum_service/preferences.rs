//! A Config Database of one's own: here the preferences are the service's own data, in a map where a real service has a
//! table. What it takes is a snapshot, a feed of changes in order, and single tenants.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual::{
    Change, ChangeKind, ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor,
    FeatureType, PreferenceRecord, Snapshot, SnapshotPages, TenantId,
};
use serde_json::{Map, Value};
use tokio::sync::watch;

/// The preferences for one feature.
pub struct Preferences {
    stored: Mutex<Stored>,
    /// Number of changes so far.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Stored {
    now: BTreeMap<TenantId, PreferenceRecord>,
    /// Every change, oldest first: the place in it is the id, from 1 on. A table would forget old ones.
    feed: Vec<Change>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            stored: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Preferences {
    /// Stores what a tenant chose at that moment; `None` removes it.
    pub fn store(
        &self,
        feature_type: &FeatureType,
        tenant_id: TenantId,
        preference: Option<Map<String, Value>>,
        at: DateTime<Utc>,
    ) {
        let preference = preference.map(Arc::new);
        let mut stored = self.stored();
        stored.feed.push(Change {
            tenant_id: tenant_id.clone(),
            feature_type: feature_type.clone(),
            kind: preference
                .clone()
                .map_or(ChangeKind::Deleted, ChangeKind::Upserted),
            changed_at: Some(at),
            schedule_since: None,
            organization: None,
        });
        stored.now.remove(&tenant_id);
        if let Some(preference) = preference {
            let record = PreferenceRecord {
                tenant_id: tenant_id.clone(),
                preference,
                updated_at: Some(at),
                schedule_since: None,
                organization: None,
            };
            stored.now.insert(tenant_id, record);
        }
        self.changes.send_replace(stored.feed.len() as u64);
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ConfigDatabase for Preferences {
    async fn snapshot(&self, _: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
        let stored = self.stored();
        Ok(Snapshot {
            records: stored.now.values().cloned().collect(),
            cursor: Cursor {
                since_id: stored.feed.len() as u64,
                epoch: None,
            },
            known_at: None,
        }
        .into())
    }

    async fn changes(
        &self,
        _: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let mut changes = self.changes.subscribe();
        let is_new = changes.wait_for(|last| *last > cursor.since_id);
        // Without a change in that time, the page is empty.
        let _ = tokio::time::timeout(wait, is_new).await;
        let stored = self.stored();
        // A cursor of an earlier process leads nowhere, because its feed is gone.
        let seen = usize::try_from(cursor.since_id).ok();
        let new = seen.and_then(|seen| stored.feed.get(seen..));
        let new = new.filter(|_| cursor.epoch.is_none()).ok_or_else(|| {
            let message = "the feed of the reports has no such place";
            ConfigDatabaseError::new(ConfigErrorKind::CursorLost, message)
        })?;
        Ok(ChangePage {
            changes: new.to_vec(),
            cursor: Cursor {
                since_id: stored.feed.len() as u64,
                epoch: None,
            },
            has_more: false,
            waited: true,
        })
    }

    async fn preferences(
        &self,
        _: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let stored = self.stored();
        let of = |tenant: &TenantId| Some((tenant.clone(), stored.now.get(tenant)?.clone()));
        Ok(tenants.iter().filter_map(of).collect())
    }
}
