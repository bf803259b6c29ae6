//! The store as the port [`ConfigDatabase`], and as something to store preferences in: for a program that keeps them in its
//! own process, without HTTP between.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use punctual_application::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, ErasedTenant,
    Snapshot, SnapshotPages,
};
use punctual_domain::{FeatureType, FieldErrors, JobDefaults, JobId, PreferenceRecord, TenantId};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    store::{ChangeError, ConfigId, ConfigStore, Expected, FeedError, StoreError},
    validate::of_preference,
};

/// Changes of one page.
const PAGE: u32 = 1_000;
/// How often to look whether another process has stored something.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Who has changed a preference, in its history.
const ACTOR: &str = "program";

/// Why a preference was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// It cannot be used: every mistake in it.
    #[error(transparent)]
    Invalid(#[from] FieldErrors),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ChangeError> for PutError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Invalid(errors) => Self::Invalid(errors),
            ChangeError::Store(error) => Self::Store(error),
            other => Self::Store(StoreError::new(other)),
        }
    }
}

impl ConfigStore {
    /// Stores a tenant's preference for a feature, in place of an earlier one. The feed brings it at once.
    ///
    /// # Errors
    /// The preference cannot be used, or the store fails.
    pub async fn put(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
        preference: Map<String, Value>,
    ) -> Result<(), PutError> {
        let preference = Value::Object(preference);
        let feature = feature_type.as_str();
        let put = self.edit_preferences(tenant_id, |all| {
            all.insert(feature.to_owned(), preference.clone());
        });
        put.await.map_err(|error| match error {
            PutError::Invalid(errors) => PutError::Invalid(of_preference(errors, feature_type)),
            other @ PutError::Store(_) => other,
        })
    }

    /// Removes a tenant's preference for a feature, if there is one.
    ///
    /// # Errors
    /// When the store fails, or the tenant's other preferences are not valid any more.
    pub async fn remove(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
    ) -> Result<(), PutError> {
        let feature = feature_type.as_str();
        let stored = self.config(&ConfigId::of_preferences(tenant_id)).await?;
        if !stored.is_some_and(|stored| stored.config_value.contains_key(feature)) {
            return Ok(());
        }
        self.edit_preferences(tenant_id, |all| _ = all.remove(feature))
            .await
    }

    async fn edit_preferences(
        &self,
        tenant_id: &TenantId,
        change: impl Fn(&mut Map<String, Value>),
    ) -> Result<(), PutError> {
        let id = ConfigId::of_preferences(tenant_id);
        self.edit(&id, &Expected::default(), ACTOR, |stored| {
            let mut all = stored.cloned().unwrap_or_default();
            change(&mut all);
            Ok(Value::Object(all))
        })
        .await?;
        Ok(())
    }
}

fn unavailable(error: StoreError) -> ConfigDatabaseError {
    let message = format!("the Config Database's store failed: {error}");
    ConfigDatabaseError::new(ConfigErrorKind::Unavailable, message).with_source(error)
}

fn cursor(epoch: String, since_id: i64) -> Cursor {
    Cursor {
        since_id: since_id.unsigned_abs(),
        epoch: Some(epoch),
    }
}

#[async_trait]
impl ConfigDatabase for ConfigStore {
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        let (epoch, head, records) = self.enabled(feature_type).await.map_err(unavailable)?;
        Ok(Snapshot {
            records,
            cursor: cursor(epoch, head),
            known_at: None,
        }
        .into())
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        since: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let lost = |reason: String| ConfigDatabaseError::new(ConfigErrorKind::CursorLost, reason);
        let since_id = i64::try_from(since.since_id).unwrap_or(i64::MAX);
        let deadline = Instant::now() + wait;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let page = self
                .changes(
                    since_id,
                    Some(feature_type),
                    &[],
                    PAGE,
                    rest.min(POLL_INTERVAL),
                    || {},
                )
                .await
                .map_err(|error| match error {
                    FeedError::Store(error) => unavailable(error),
                    error => lost(error.to_string()),
                })?;
            if since
                .epoch
                .as_ref()
                .is_some_and(|epoch| *epoch != page.epoch)
            {
                return Err(lost("the feed belongs to another database".to_owned()));
            }
            if page.changes.is_empty() && Instant::now() < deadline {
                continue;
            }
            return Ok(ChangePage {
                cursor: cursor(page.epoch, page.last_id),
                changes: page
                    .changes
                    .into_iter()
                    .filter_map(|entry| entry.into_change(feature_type))
                    .collect(),
                has_more: page.has_more,
                waited: true,
            });
        }
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        let published = self.set_jobs(feature_type, jobs.clone()).await;
        published.map_err(unavailable)
    }

    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        let (mut erased, mut since_id) = (Vec::new(), 0);
        loop {
            let page = self.erased_tenants(feature_type, since_id, &[]).await;
            let page = page.map_err(unavailable)?;
            let tenants = page.tenants.into_iter().filter_map(|one| {
                Some(ErasedTenant {
                    tenant_id: TenantId::new(one.tenant_id).ok()?,
                    erased_at: one.erased_at,
                })
            });
            erased.extend(tenants);
            if !page.has_more {
                return Ok(erased);
            }
            since_id = page.last_id;
        }
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let records = self.of_tenants(feature_type, tenants).await;
        let records = records.map_err(unavailable)?.into_iter();
        Ok(records
            .map(|record| (record.tenant_id.clone(), record))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use punctual_application::testing::contract::{self, Writable};
    use punctual_domain::{Membership, OrganizationId};

    use super::*;
    use crate::{store::AnyConfigId, validate::PROFILE};

    struct Own(ConfigStore);

    #[async_trait]
    impl Writable for Own {
        async fn put(&self, record: PreferenceRecord) {
            let feature = FeatureType::new(contract::FEATURE).unwrap();
            let preference = Arc::unwrap_or_clone(record.preference);
            self.0
                .put(&record.tenant_id, &feature, preference)
                .await
                .unwrap();
        }

        async fn remove(&self, tenant_id: &TenantId) {
            let feature = FeatureType::new(contract::FEATURE).unwrap();
            self.0.remove(tenant_id, &feature).await.unwrap();
        }

        async fn erase(&self, tenant_id: &TenantId) -> bool {
            let reason = "asked".parse().unwrap();
            self.0.erase(tenant_id, "a test", &reason).await.unwrap();
            true
        }
    }

    #[tokio::test]
    async fn the_store_keeps_the_contract_of_a_config_database() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        contract::config_database(&store, &Own(store.clone())).await;
    }

    #[tokio::test]
    async fn a_members_record_names_the_organization() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let posts = FeatureType::new("posts").unwrap();
        let (ann, acme) = (
            TenantId::new("ann").unwrap(),
            OrganizationId::new("acme").unwrap(),
        );
        let before = store.snapshot(&posts).await.unwrap();
        let before = before.collect().await.unwrap().cursor;
        let profile = ConfigId {
            tenant_id: ann.clone(),
            config_key: PROFILE.to_owned(),
        };
        let joins = serde_json::json!({"organization_id": acme});
        let joins = store.check(PROFILE, joins, None).await.unwrap();
        let anything = Expected::default();
        let joined = profile.change(&store, &anything, "a test", Some(joins));
        joined.await.unwrap();
        let hourly = serde_json::json!({"posts": {"frequency": "hourly"}});
        let hourly = store.check_organization(hourly, &Map::new()).await.unwrap();
        let stored = acme.change(&store, &anything, "a test", Some(hourly));
        stored.await.unwrap();
        let membership = Membership {
            id: acme,
            fields: vec!["frequency".to_owned()],
        };
        let snapshot = store.snapshot(&posts).await.unwrap();
        let records = snapshot.collect().await.unwrap().records;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].organization.as_deref(), Some(&membership));
        let one = store.preferences(&posts, std::slice::from_ref(&ann)).await;
        assert_eq!(one.unwrap()[&ann], records[0]);
        let page = ConfigDatabase::changes(&store, &posts, &before, Duration::ZERO);
        let changes = page.await.unwrap().changes;
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].organization.as_deref(), Some(&membership));
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let (ann, posts) = (
            TenantId::new("ann").unwrap(),
            FeatureType::new("posts").unwrap(),
        );
        let preference = serde_json::json!({"enabled": true, "preferred_time": "nine"});
        let preference = preference.as_object().unwrap().clone();
        let refused = store.put(&ann, &posts, preference).await;
        let Err(PutError::Invalid(errors)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(errors.0[0].pointer, "/preferred_time");
        let snapshot = store.snapshot(&posts).await.unwrap();
        assert_eq!(snapshot.collect().await.unwrap().records, []);
    }
}
