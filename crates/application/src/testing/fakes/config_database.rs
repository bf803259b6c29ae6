//! The port `ConfigDatabase`, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use punctual_domain::{
    Change, ChangeKind, FeatureType, JobDefaults, JobId, PreferenceRecord, TenantId,
};
use tokio::sync::watch;

use crate::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot,
    SnapshotPages, Unreadable,
};

/// A Config Database in memory, which a test can also switch off. It has the same preferences for every feature, and
/// its feed brings what is [`put`](Self::put) and [removed](Self::remove), to calls that wait too.
#[derive(Debug)]
pub struct FakeConfigDatabase(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<TenantId, PreferenceRecord>,
    /// Every change so far; its place from 1 on is its id. `None`: removed.
    feed: Vec<(TenantId, Option<PreferenceRecord>)>,
    published: HashMap<FeatureType, BTreeMap<JobId, JobDefaults>>,
    unreadable: Arc<Unreadable>,
    down: bool,
}

/// The feed of another database cannot be followed.
const EPOCH: &str = "fake";
/// Changes of one page.
const PAGE: usize = 500;

impl Default for FakeConfigDatabase {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl FakeConfigDatabase {
    /// Stores a preference.
    pub fn put(&self, record: PreferenceRecord) {
        self.0.send_modify(|state| {
            let tenant_id = record.tenant_id.clone();
            state.feed.push((tenant_id.clone(), Some(record.clone())));
            state.records.insert(tenant_id, record);
        });
    }

    /// Removes a tenant's preference, if there is one.
    pub fn remove(&self, tenant_id: &TenantId) {
        self.0.send_if_modified(|state| {
            let removed = state.records.remove(tenant_id).is_some();
            if removed {
                state.feed.push((tenant_id.clone(), None));
            }
            removed
        });
    }

    /// Makes every call fail, those that wait too, or work again.
    pub fn set_down(&self, down: bool) {
        self.0.send_modify(|state| state.down = down);
    }

    /// Says that these entries cannot be read, of whatever feature.
    pub fn set_unreadable(&self, unreadable: Unreadable) {
        self.0
            .send_modify(|state| state.unreadable = Arc::new(unreadable));
    }

    /// What was published of a feature last.
    #[must_use]
    pub fn published(&self, feature: &FeatureType) -> Option<BTreeMap<JobId, JobDefaults>> {
        self.0.borrow().published.get(feature).cloned()
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, ConfigDatabaseError> {
        let state = self.0.borrow();
        if state.down {
            let message = "Error connecting to Config Database at fake: it is down";
            return Err(ConfigDatabaseError::new(
                ConfigErrorKind::Unavailable,
                message,
            ));
        }
        Ok(read(&state))
    }
}

fn change((tenant_id, record): &(TenantId, Option<PreferenceRecord>), of: &FeatureType) -> Change {
    let kind = match record {
        Some(record) => ChangeKind::Upserted(record.preference.clone()),
        None => ChangeKind::Deleted,
    };
    Change {
        tenant_id: tenant_id.clone(),
        feature_type: of.clone(),
        kind,
        changed_at: record.as_ref().and_then(|record| record.updated_at),
        schedule_since: record.as_ref().and_then(|record| record.schedule_since),
        organization: record
            .as_ref()
            .and_then(|record| record.organization.clone()),
    }
}

fn cursor(since: usize) -> Cursor {
    Cursor {
        since_id: since as u64,
        epoch: Some(EPOCH.to_owned()),
    }
}

#[async_trait]
impl ConfigDatabase for FakeConfigDatabase {
    async fn snapshot(
        &self,
        _feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        let snapshot = self.read(|state| Snapshot {
            records: state.records.values().cloned().collect(),
            cursor: cursor(state.feed.len()),
            known_at: None,
        })?;
        Ok(snapshot.into())
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        after: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let since = usize::try_from(after.since_id).unwrap_or(usize::MAX);
        let known = self.read(|state| state.feed.len())?;
        if since > known || after.epoch.as_deref() != Some(EPOCH) {
            let message = "the feed of the fake has no such place; take a new snapshot";
            return Err(ConfigDatabaseError::new(
                ConfigErrorKind::CursorLost,
                message,
            ));
        }
        let mut states = self.0.subscribe();
        let changed = states.wait_for(|state| state.down || state.feed.len() > since);
        // Without any, the page is empty.
        let _ = tokio::time::timeout(wait, changed).await.is_ok();
        self.read(|state| {
            let end = state.feed.len().min(since + PAGE);
            ChangePage {
                changes: state.feed[since..end]
                    .iter()
                    .map(|entry| change(entry, feature_type))
                    .collect(),
                cursor: cursor(end),
                has_more: end < state.feed.len(),
                waited: true,
            }
        })
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        self.read(|_| ())?;
        self.0.send_modify(|state| {
            state.published.insert(feature_type.clone(), jobs.clone());
        });
        Ok(())
    }

    async fn preferences(
        &self,
        _feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        self.read(|state| {
            let known = tenants
                .iter()
                .filter_map(|tenant| state.records.get(tenant));
            known
                .map(|record| (record.tenant_id.clone(), record.clone()))
                .collect()
        })
    }

    fn unreadable(&self, _feature_type: &FeatureType) -> Arc<Unreadable> {
        self.0.borrow().unreadable.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::testing::{
        contract::{self, Writable},
        record,
    };

    #[async_trait]
    impl Writable for FakeConfigDatabase {
        async fn put(&self, record: PreferenceRecord) {
            Self::put(self, record);
        }

        async fn remove(&self, tenant_id: &TenantId) {
            Self::remove(self, tenant_id);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeConfigDatabase::default();
        contract::config_database(&fake, &fake).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_gets_the_change_or_the_failure_at_once() {
        let fake = Arc::new(FakeConfigDatabase::default());
        let feature = FeatureType::new("posts").expect("valid");
        let record = record("ann", json!({}));
        let wait = Duration::from_secs(30);
        let follow = |cursor: Cursor| {
            let (fake, feature) = (fake.clone(), feature.clone());
            tokio::spawn(async move { fake.changes(&feature, &cursor, wait).await })
        };
        let began = Instant::now();
        let start = fake.snapshot(&feature).await.expect("works").cursor;
        let waiting = follow(start);
        tokio::time::sleep(Duration::from_secs(7)).await;
        fake.put(record);
        let page = waiting.await.expect("no panic").expect("works");
        assert_eq!((page.changes.len(), began.elapsed().as_secs()), (1, 7));

        let waiting = follow(page.cursor.clone());
        tokio::time::sleep(Duration::from_secs(7)).await;
        fake.set_down(true);
        let error = waiting.await.expect("no panic").expect_err("it is down");
        assert_eq!(error.kind, ConfigErrorKind::Unavailable);
        assert_eq!(began.elapsed().as_secs(), 14);

        fake.set_down(false);
        let page = follow(page.cursor).await.expect("no panic").expect("works");
        assert_eq!((page.changes.len(), began.elapsed().as_secs()), (0, 44));
    }
}
