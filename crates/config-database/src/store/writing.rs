//! A write: the configuration, its history, the preferences in it, and the feed. Features are compared before
//! and after; every difference, and only differences, enters the feed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::TenantId;
use serde_json::{Map, Value};
use sqlx::SqliteConnection;

use super::{ConfigId, StoreError, StoredConfig, now};
use crate::validate::{CheckedConfig, FEATURE_PREFERENCES};

/// Stores a configuration in place of `old`. Storing the same again changes nothing.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    id: &ConfigId,
    old: Option<StoredConfig>,
    config: &CheckedConfig,
    updated_at: DateTime<Utc>,
    actor: &str,
) -> Result<StoredConfig, StoreError> {
    if let Some(old) = &old
        && old.config_value == config.value
    {
        return Ok(old.clone());
    }
    let version = add_version(connection, id, Some(&config.value), updated_at, actor).await?;
    sqlx::query(
        "INSERT INTO configs (tenant_id, config_key, config_value, version, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant_id, config_key) DO UPDATE SET
             config_value = excluded.config_value, version = excluded.version, updated_at = excluded.updated_at",
    )
    .bind(id.tenant_id.as_str())
    .bind(&id.config_key)
    .bind(Value::Object(config.value.clone()).to_string())
    .bind(version)
    .bind(updated_at.timestamp_micros())
    .execute(&mut *connection)
    .await
    .map_err(StoreError::new)?;
    let before: BTreeMap<String, Value> = match old {
        Some(old) if id.config_key == FEATURE_PREFERENCES => old.config_value.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    for (feature, enabled) in &config.features {
        let feature = feature.as_str();
        let preference = &config.value[feature];
        if before.get(feature) != Some(preference) {
            let tenant = &id.tenant_id;
            store_preference(
                connection, tenant, feature, *enabled, preference, updated_at,
            )
            .await?;
        }
    }
    for feature in before
        .keys()
        .filter(|feature| !config.value.contains_key(*feature))
    {
        remove_preference(connection, &id.tenant_id, feature, updated_at).await?;
    }
    Ok(StoredConfig {
        tenant_id: id.tenant_id.clone(),
        config_key: id.config_key.clone(),
        config_value: config.value.clone(),
        version,
        updated_at,
    })
}

/// Removes a configuration.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    id: &ConfigId,
    old: &StoredConfig,
    actor: &str,
) -> Result<(), StoreError> {
    let at = now();
    add_version(connection, id, None, at, actor).await?;
    sqlx::query("DELETE FROM configs WHERE tenant_id = ?1 AND config_key = ?2")
        .bind(id.tenant_id.as_str())
        .bind(&id.config_key)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::new)?;
    if id.config_key == FEATURE_PREFERENCES {
        for feature in old.config_value.keys() {
            remove_preference(connection, &id.tenant_id, feature, at).await?;
        }
    }
    Ok(())
}

async fn add_version(
    connection: &mut SqliteConnection,
    id: &ConfigId,
    value: Option<&Map<String, Value>>,
    at: DateTime<Utc>,
    actor: &str,
) -> Result<i64, StoreError> {
    sqlx::query_scalar(
        "INSERT INTO config_history (tenant_id, config_key, version, config_value, changed_at, actor)
         SELECT ?1, ?2, coalesce(max(version), 0) + 1, ?3, ?4, ?5 FROM config_history
         WHERE tenant_id = ?1 AND config_key = ?2
         RETURNING version",
    )
    .bind(id.tenant_id.as_str())
    .bind(&id.config_key)
    .bind(value.map(|value| Value::Object(value.clone()).to_string()))
    .bind(at.timestamp_micros())
    .bind(actor)
    .fetch_one(connection)
    .await
    .map_err(StoreError::new)
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
        "INSERT INTO changes (tenant_id, config_key, feature_type, change, preference, changed_at, recorded_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
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
    .bind(now().timestamp_micros())
    .execute(connection)
    .await
    .map_err(StoreError::new)?;
    Ok(())
}
