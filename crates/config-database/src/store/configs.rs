//! Tenants' configurations: read, stored, removed. A write compares the features before and after and puts
//! every difference, and only differences, into the feed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::TenantId;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{Row, SqliteConnection};

use super::{ConfigStore, StoreError, instant, now};
use crate::validate::{CheckedConfig, FEATURE_PREFERENCES};

/// A tenant's configuration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StoredConfig {
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
    pub(crate) config_value: Map<String, Value>,
    /// Grows by one with every change.
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A configuration to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
    pub(crate) config: CheckedConfig,
    /// When the system it comes from stored it; `None`: now. Never later than now.
    pub(crate) updated_at: Option<DateTime<Utc>>,
}

impl ConfigStore {
    pub(crate) async fn config(
        &self,
        tenant_id: &TenantId,
        config_key: &str,
    ) -> Result<Option<StoredConfig>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::new)?;
        read(&mut connection, tenant_id, config_key).await
    }

    /// Stores configurations, all or none of them. Returns the last as it stands now.
    pub(crate) async fn put(&self, writes: &[Write]) -> Result<Option<StoredConfig>, StoreError> {
        let mut transaction = self.write().await?;
        let mut last = None;
        for write in writes {
            last = Some(put(&mut transaction, write).await?);
        }
        transaction.commit().await.map_err(StoreError::new)?;
        self.publish_head().await?;
        Ok(last)
    }

    /// Removes a configuration. Returns whether there was one.
    pub(crate) async fn delete(
        &self,
        tenant_id: &TenantId,
        config_key: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let Some(old) = read(&mut transaction, tenant_id, config_key).await? else {
            return Ok(false);
        };
        sqlx::query("DELETE FROM configs WHERE tenant_id = ?1 AND config_key = ?2")
            .bind(tenant_id.as_str())
            .bind(config_key)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::new)?;
        if config_key == FEATURE_PREFERENCES {
            for feature in old.config_value.keys() {
                remove_preference(&mut transaction, tenant_id, feature, now()).await?;
            }
        }
        transaction.commit().await.map_err(StoreError::new)?;
        self.publish_head().await?;
        Ok(true)
    }
}

async fn read(
    connection: &mut SqliteConnection,
    tenant_id: &TenantId,
    config_key: &str,
) -> Result<Option<StoredConfig>, StoreError> {
    let row = sqlx::query(
        "SELECT config_value, version, updated_at FROM configs WHERE tenant_id = ?1 AND config_key = ?2",
    )
    .bind(tenant_id.as_str())
    .bind(config_key)
    .fetch_optional(connection)
    .await
    .map_err(StoreError::new)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StoredConfig {
        tenant_id: tenant_id.clone(),
        config_key: config_key.to_owned(),
        config_value: serde_json::from_str(row.try_get(0).map_err(StoreError::new)?)
            .map_err(StoreError::new)?,
        version: row.try_get(1).map_err(StoreError::new)?,
        updated_at: instant(row.try_get(2).map_err(StoreError::new)?)?,
    }))
}

async fn put(connection: &mut SqliteConnection, write: &Write) -> Result<StoredConfig, StoreError> {
    let Write {
        tenant_id,
        config_key,
        config,
        ..
    } = write;
    let stored_at = now();
    let updated_at = write
        .updated_at
        .map_or(stored_at, |given| given.min(stored_at));
    let old = read(connection, tenant_id, config_key).await?;
    if let Some(old) = &old
        && old.config_value == config.value
    {
        return Ok(old.clone());
    }
    let new = StoredConfig {
        tenant_id: tenant_id.clone(),
        config_key: config_key.clone(),
        config_value: config.value.clone(),
        version: old.as_ref().map_or(1, |old| old.version + 1),
        updated_at,
    };
    sqlx::query(
        "INSERT INTO configs (tenant_id, config_key, config_value, version, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant_id, config_key) DO UPDATE SET
             config_value = excluded.config_value, version = excluded.version, updated_at = excluded.updated_at",
    )
    .bind(tenant_id.as_str())
    .bind(config_key)
    .bind(Value::Object(config.value.clone()).to_string())
    .bind(new.version)
    .bind(updated_at.timestamp_micros())
    .execute(&mut *connection)
    .await
    .map_err(StoreError::new)?;
    let before: BTreeMap<String, Value> = match old {
        Some(old) if config_key == FEATURE_PREFERENCES => old.config_value.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    for (feature, enabled) in &config.features {
        let feature = feature.as_str();
        let preference = &config.value[feature];
        if before.get(feature) != Some(preference) {
            store_preference(
                connection, tenant_id, feature, *enabled, preference, updated_at,
            )
            .await?;
        }
    }
    for feature in before
        .keys()
        .filter(|feature| !config.value.contains_key(*feature))
    {
        remove_preference(connection, tenant_id, feature, updated_at).await?;
    }
    Ok(new)
}

async fn store_preference(
    connection: &mut SqliteConnection,
    tenant_id: &TenantId,
    feature: &str,
    enabled: bool,
    preference: &Value,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO preferences (feature_type, tenant_id, enabled, preference, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (feature_type, tenant_id) DO UPDATE SET
             enabled = excluded.enabled, preference = excluded.preference, updated_at = excluded.updated_at",
    )
    .bind(feature)
    .bind(tenant_id.as_str())
    .bind(enabled)
    .bind(preference.to_string())
    .bind(at.timestamp_micros())
    .execute(&mut *connection)
    .await
    .map_err(StoreError::new)?;
    add_change(connection, tenant_id, feature, Some(preference), at).await
}

async fn remove_preference(
    connection: &mut SqliteConnection,
    tenant_id: &TenantId,
    feature: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM preferences WHERE feature_type = ?1 AND tenant_id = ?2")
        .bind(feature)
        .bind(tenant_id.as_str())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::new)?;
    add_change(connection, tenant_id, feature, None, at).await
}

async fn add_change(
    connection: &mut SqliteConnection,
    tenant_id: &TenantId,
    feature: &str,
    preference: Option<&Value>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO changes (tenant_id, config_key, feature_type, change, preference, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(tenant_id.as_str())
    .bind(FEATURE_PREFERENCES)
    .bind(feature)
    .bind(if preference.is_some() {
        "upserted"
    } else {
        "deleted"
    })
    .bind(preference.map(ToString::to_string))
    .bind(at.timestamp_micros())
    .execute(connection)
    .await
    .map_err(StoreError::new)?;
    Ok(())
}
