//! What is in effect for one tenant: the preferences as the groups and the feed have them, for a reader that asks for a single tenant.

use std::collections::{BTreeMap, BTreeSet};

use punctual_domain::{FeatureType, TenantId};
use serde_json::{Map, Value, json};
use sqlx::Row;

use super::{
    AnyConfigId, ConfigId, ConfigStore, StoreError, StoredConfig,
    groups::{TenantOrganization, membership},
    instant,
    stored::{ConfigRow, readable},
};
use crate::layers::Layer;

impl ConfigStore {
    /// The preferences of a tenant, each over that of the tenant's organization. `None`: neither has stored any.
    pub(crate) async fn effective_preferences(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<StoredConfig>, StoreError> {
        let id = ConfigId::of_preferences(tenant);
        let mut snapshot = self.begin(self.dialect.begin_read()).await?;
        let stored = ConfigRow::read(&mut snapshot, self.dialect, &id).await?;
        let Some(layer) = Layer::read_of(&mut snapshot, self.dialect, tenant).await? else {
            snapshot.rollback().await?;
            return Ok(id.config(stored));
        };
        let names: BTreeSet<&String> = {
            let own = stored.value.iter().flat_map(Map::keys);
            let names = own.chain(layer.features());
            names
                .filter(|name| FeatureType::new(name).is_ok())
                .collect()
        };
        let pairs = names.into_iter().map(|name| json!([name, tenant]));
        let pairs = Value::Array(pairs.collect()).to_string();
        let rows = sqlx::query(self.dialect.rows(
            "SELECT preferences.feature_type, preferences.preference, preferences.updated_at, preferences.schedule_since,
                 preferences.organization
             FROM ROWS CROSS JOIN preferences
             WHERE preferences.feature_type = rows.value ->> 0 AND preferences.tenant_id = rows.value ->> 1",
        ))
        .bind(pairs)
        .fetch_all(&mut *snapshot)
        .await?;
        snapshot.rollback().await?;
        if stored.value.is_none() && rows.is_empty() {
            return Ok(None);
        }
        let mut config = StoredConfig {
            tenant_id: id.tenant_id,
            config_key: id.config_key,
            config_value: stored.value.unwrap_or_default(),
            version: stored.version,
            updated_at: stored.updated_at,
            schedule_since: stored.schedule_since,
            organization: BTreeMap::new(),
        };
        for row in &rows {
            let feature: String = row.try_get(0)?;
            let preference = readable(row.try_get(1)?)?;
            config.updated_at = config.updated_at.max(instant(row.try_get(2)?)?);
            let since = instant(row.try_get(3)?)?;
            config.schedule_since.insert(feature.clone(), since);
            if let Some(membership) = membership(row.try_get(4)?)? {
                let organization = TenantOrganization::from(membership);
                config.organization.insert(feature.clone(), organization);
            }
            config.config_value.insert(feature, preference.into());
        }
        Ok(Some(config))
    }
}
