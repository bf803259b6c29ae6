//! The preferences of the shards that an agent serves, out of all: whatever the Config Database sends, only their tenants come
//! through. [`ClientOptions::shards`](crate::ClientOptions::shards) asks a server that can for no others.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream;
use punctual_application::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, Cursor, ErasedTenant, SnapshotPages,
    Unreadable,
};
use punctual_domain::{FeatureType, JobDefaults, JobId, PreferenceRecord, Sharding, TenantId};

/// A Config Database with the tenants of these shards only. Without a shard it is not asked. [`preferences`](ConfigDatabase::preferences) of named tenants are
/// those of any.
#[derive(Debug)]
pub struct OfShards<P> {
    inner: P,
    sharding: Arc<Sharding>,
}

impl<P> OfShards<P> {
    /// What of `inner` concerns `sharding`.
    pub fn new(inner: P, sharding: Sharding) -> Self {
        Self {
            inner,
            sharding: Arc::new(sharding),
        }
    }
}

#[async_trait]
impl<P: ConfigDatabase> ConfigDatabase for OfShards<P> {
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        if self.sharding.shards().is_empty() {
            return Ok(SnapshotPages::new(Cursor::default(), stream::empty()));
        }
        let snapshot = self.inner.snapshot(feature_type).await?;
        if self.sharding.is_whole() {
            return Ok(snapshot);
        }
        let sharding = Arc::clone(&self.sharding);
        Ok(snapshot.retain(move |record| sharding.knows(&record.tenant_id)))
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        if self.sharding.shards().is_empty() {
            tokio::time::sleep(wait).await;
            return Ok(ChangePage {
                changes: Vec::new(),
                cursor: cursor.clone(),
                has_more: false,
                waited: true,
            });
        }
        let mut page = self.inner.changes(feature_type, cursor, wait).await?;
        page.changes
            .retain(|change| self.sharding.knows(&change.tenant_id));
        Ok(page)
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        self.inner.preferences(feature_type, tenants).await
    }

    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        if self.sharding.shards().is_empty() {
            return Ok(Vec::new());
        }
        let mut erased = self.inner.erased(feature_type).await?;
        erased.retain(|erased| self.sharding.knows(&erased.tenant_id));
        Ok(erased)
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        self.inner.publish(feature_type, jobs).await
    }

    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        self.inner.forget(erased).await
    }

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        let all = self.inner.unreadable(feature_type);
        if all.tenants.keys().all(|tenant| self.sharding.knows(tenant)) {
            return all;
        }
        let mut ours = (*all).clone();
        ours.tenants.retain(|tenant, _| self.sharding.knows(tenant));
        Arc::new(ours)
    }
}
