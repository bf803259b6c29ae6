//! A Config Database whose users keep the preferences that they have.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, Cursor, SnapshotPages,
};
use punctual_domain::{FeatureType, PreferenceRecord, TenantId};
use serde_json::{Map, Value};

/// Users of a page of the snapshot.
const PAGE: usize = 5_000;

/// Users by their numbers, from 0, with their preferences.
pub trait Users: Send + Sync + 'static {
    /// How many there are with a preference for a feature.
    fn count(&self, feature_type: &FeatureType) -> usize;

    /// The preference of one of them.
    fn preference(&self, feature_type: &FeatureType, number: usize) -> Arc<Map<String, Value>>;

    /// Whether the user of this id is in the snapshot.
    fn is_in_snapshot(&self, _id: &str) -> bool {
        true
    }
}

/// The id of a user.
#[must_use]
pub fn user_id(number: usize) -> String {
    format!("user{number:08}")
}

/// The fields of an object.
#[must_use]
pub fn fields(object: &Value) -> Arc<Map<String, Value>> {
    Arc::new(object.as_object().cloned().unwrap_or_default())
}

/// The Config Database of these users.
pub struct Fixed<U>(pub Arc<U>);

#[async_trait]
impl<U: Users> ConfigDatabase for Fixed<U> {
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        let (users, feature_type) = (Arc::clone(&self.0), feature_type.clone());
        let count = users.count(&feature_type);
        let page = move |from: usize| {
            let ids = (from..count.min(from + PAGE)).map(|number| (number, user_id(number)));
            let ids = ids.filter(|(_, id)| users.is_in_snapshot(id));
            let records = ids.map(|(number, id)| {
                let tenant = TenantId::new(id).expect("a valid id");
                record(tenant, users.preference(&feature_type, number))
            });
            Ok(records.collect())
        };
        let pages = futures::stream::iter((0..count).step_by(PAGE).map(page));
        Ok(SnapshotPages::new(Cursor::default(), pages))
    }

    /// The answer of a server that has held the call for so long, as there was no change.
    async fn changes(
        &self,
        _: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        tokio::time::sleep(wait).await;
        Ok(ChangePage {
            changes: vec![],
            cursor: cursor.clone(),
            has_more: false,
            waited: true,
        })
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let number = |tenant: &TenantId| tenant.as_str().trim_start_matches("user").parse().ok();
        let known = tenants.iter().filter_map(|tenant| {
            let preference = self.0.preference(feature_type, number(tenant)?);
            Some((tenant.clone(), record(tenant.clone(), preference)))
        });
        Ok(known.collect())
    }
}

fn record(tenant_id: TenantId, preference: Arc<Map<String, Value>>) -> PreferenceRecord {
    PreferenceRecord {
        tenant_id,
        preference,
        updated_at: None,
        schedule_since: None,
        organization: None,
    }
}
