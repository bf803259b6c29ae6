//! Tenants' configurations: read, changed under a condition, imported, and their history.

use chrono::{DateTime, Utc};
use punctual_domain::{FieldErrors, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{Row, SqliteConnection};

use super::{ConfigStore, StoreError, instant, now, writing};
use crate::validate::CheckedConfig;

/// Which configuration.
#[derive(Debug, Clone)]
pub(crate) struct ConfigId {
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
}

/// A tenant's configuration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StoredConfig {
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
    pub(crate) config_value: Map<String, Value>,
    /// Grows with every change; never comes again, not even after a removal.
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A version there has been.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PastConfig {
    pub(crate) version: i64,
    /// `None`: the configuration was removed.
    pub(crate) config_value: Option<Map<String, Value>>,
    changed_at: DateTime<Utc>,
    /// Who changed it: the name of the key.
    actor: String,
}

/// A configuration to be imported.
#[derive(Debug, Clone)]
pub(crate) struct Imported {
    pub(crate) id: ConfigId,
    pub(crate) config: CheckedConfig,
    /// When the system it comes from stored it; `None`: now. Never later than now.
    pub(crate) updated_at: Option<DateTime<Utc>>,
}

/// What must be true of the stored configuration for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Anything,
    Missing,
    Existing,
    Version(i64),
}

impl Expected {
    fn holds(self, current: Option<&StoredConfig>) -> bool {
        match self {
            Self::Anything => true,
            Self::Missing => current.is_none(),
            Self::Existing => current.is_some(),
            Self::Version(version) => current.is_some_and(|current| current.version == version),
        }
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no such configuration")]
    Missing,
    /// It is not what the caller took it for; the version it has, if any.
    #[error("the configuration has changed meanwhile")]
    Unexpected(Option<i64>),
    #[error(transparent)]
    Invalid(#[from] FieldErrors),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigStore {
    pub(crate) async fn config(&self, id: &ConfigId) -> Result<Option<StoredConfig>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::new)?;
        read(&mut connection, id).await
    }

    /// Changes a configuration to what `change` makes of it: another, or `None` to remove it. Returns what is
    /// stored now. Nothing else is written between what `change` sees and what it returns.
    pub(crate) async fn change(
        &self,
        id: &ConfigId,
        expected: Expected,
        actor: &str,
        change: impl FnOnce(Option<&StoredConfig>) -> Result<Option<CheckedConfig>, ChangeError>,
    ) -> Result<Option<StoredConfig>, ChangeError> {
        let mut transaction = self.write().await?;
        let old = read(&mut transaction, id).await?;
        if !expected.holds(old.as_ref()) {
            return Err(ChangeError::Unexpected(old.map(|old| old.version)));
        }
        let stored = match (change(old.as_ref())?, old) {
            (Some(config), old) => {
                Some(writing::put(&mut transaction, id, old, &config, now(), actor).await?)
            }
            (None, Some(old)) => {
                writing::remove(&mut transaction, id, &old, actor).await?;
                None
            }
            (None, None) => None,
        };
        transaction.commit().await.map_err(StoreError::new)?;
        self.publish_head().await?;
        Ok(stored)
    }

    /// Stores configurations, all or none of them.
    pub(crate) async fn import(&self, configs: &[Imported], actor: &str) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        for Imported {
            id,
            config,
            updated_at,
        } in configs
        {
            let old = read(&mut transaction, id).await?;
            let stored_at = now();
            let updated_at = updated_at.map_or(stored_at, |given| given.min(stored_at));
            writing::put(&mut transaction, id, old, config, updated_at, actor).await?;
        }
        transaction.commit().await.map_err(StoreError::new)?;
        self.publish_head().await
    }

    /// The versions before `before`, newest first.
    pub(crate) async fn history(
        &self,
        id: &ConfigId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<PastConfig>, StoreError> {
        let rows = sqlx::query(
            "SELECT version, config_value, changed_at, actor FROM config_history
             WHERE tenant_id = ?1 AND config_key = ?2 AND version < ?3 ORDER BY version DESC LIMIT ?4",
        )
        .bind(id.tenant_id.as_str())
        .bind(&id.config_key)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::new)?;
        rows.iter().map(past).collect()
    }
}

async fn read(
    connection: &mut SqliteConnection,
    id: &ConfigId,
) -> Result<Option<StoredConfig>, StoreError> {
    let row = sqlx::query(
        "SELECT config_value, version, updated_at FROM configs WHERE tenant_id = ?1 AND config_key = ?2",
    )
    .bind(id.tenant_id.as_str())
    .bind(&id.config_key)
    .fetch_optional(connection)
    .await
    .map_err(StoreError::new)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StoredConfig {
        tenant_id: id.tenant_id.clone(),
        config_key: id.config_key.clone(),
        config_value: serde_json::from_str(row.try_get(0).map_err(StoreError::new)?)
            .map_err(StoreError::new)?,
        version: row.try_get(1).map_err(StoreError::new)?,
        updated_at: instant(row.try_get(2).map_err(StoreError::new)?)?,
    }))
}

fn past(row: &sqlx::sqlite::SqliteRow) -> Result<PastConfig, StoreError> {
    let value: Option<&str> = row.try_get(1).map_err(StoreError::new)?;
    Ok(PastConfig {
        version: row.try_get(0).map_err(StoreError::new)?,
        config_value: value
            .map(serde_json::from_str)
            .transpose()
            .map_err(StoreError::new)?,
        changed_at: instant(row.try_get(2).map_err(StoreError::new)?)?,
        actor: row.try_get(3).map_err(StoreError::new)?,
    })
}
