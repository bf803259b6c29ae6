//! Tenants' configurations: read, changed under a condition, imported, and their history.

use chrono::{DateTime, Utc};
use punctual_domain::{FieldErrors, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{Row, any::AnyRow};
use utoipa::ToSchema;

use super::{
    ConfigStore, StoreError, instant, now,
    stored::Stored,
    writing::{Edit, Write},
};
use crate::validate::CheckedConfig;

/// Which configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConfigId {
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
}

/// A tenant's configuration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct StoredConfig {
    #[schema(value_type = String)]
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
    #[schema(value_type = Object)]
    pub(crate) config_value: Map<String, Value>,
    /// Grows with every change; never comes again, not even after a removal.
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A version there has been.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct PastConfig {
    pub(crate) version: i64,
    /// `null`: the configuration was removed.
    #[schema(value_type = Option<Object>)]
    pub(crate) config_value: Option<Map<String, Value>>,
    pub(crate) changed_at: DateTime<Utc>,
    /// Who changed it: the name of the key.
    pub(crate) actor: String,
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
        let mut connection = self.pool.acquire().await?;
        Ok(Stored::read(&mut connection, id).await?.into_config(id))
    }

    /// Changes a configuration to what `change` makes of it: another, or `None` to remove it. Returns what is
    /// stored now, and the newest change of the feed. Nothing else is written between what `change` sees and what
    /// it returns.
    pub(crate) async fn change(
        &self,
        id: &ConfigId,
        expected: Expected,
        actor: &str,
        change: impl FnOnce(Option<&StoredConfig>) -> Result<Option<CheckedConfig>, ChangeError>,
    ) -> Result<(Option<StoredConfig>, i64), ChangeError> {
        let mut write = Write::begin(self).await?;
        let stored = Stored::read(write.connection(), id).await?;
        let old = stored.clone().into_config(id);
        if !expected.holds(old.as_ref()) {
            return Err(ChangeError::Unexpected(old.map(|old| old.version)));
        }
        let edit = Edit {
            id: id.clone(),
            config: change(old.as_ref())?,
            updated_at: now(),
        };
        let after = write.add(edit, stored);
        let head = write.commit(self, actor).await?;
        Ok((after.into_config(id), head))
    }

    /// Stores configurations, all or none of them; none comes twice. Returns how many were not stored already.
    pub(crate) async fn import(&self, edits: Vec<Edit>, actor: &str) -> Result<usize, StoreError> {
        let mut write = Write::begin(self).await?;
        let stored = Stored::read_many(write.connection(), self.dialect, &edits).await?;
        let mut changed = 0;
        for (edit, stored) in edits.into_iter().zip(stored) {
            let version = stored.version;
            changed += usize::from(write.add(edit, stored).version != version);
        }
        write.commit(self, actor).await?;
        Ok(changed)
    }

    /// Lets the database look at what it holds, so that it reads much that is new in the right way.
    pub(crate) async fn analyze(&self) -> Result<(), StoreError> {
        sqlx::query("ANALYZE").execute(&self.pool).await?;
        Ok(())
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
             WHERE tenant_id = $1 AND config_key = $2 AND version < $3 ORDER BY version DESC LIMIT $4",
        )
        .bind(id.tenant_id.as_str())
        .bind(&id.config_key)
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(past).collect()
    }

    /// The value of a version; `None` when there is none, or it was a removal.
    pub(crate) async fn past_value(
        &self,
        id: &ConfigId,
        version: i64,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        let past = self.history(id, version.saturating_add(1), 1).await?;
        Ok(past
            .into_iter()
            .find(|past| past.version == version)
            .and_then(|past| past.config_value))
    }

    /// Configurations in the order of their tenants and keys, after one of them.
    pub(crate) async fn export(
        &self,
        after_tenant: &str,
        after_key: &str,
        limit: u32,
    ) -> Result<Vec<StoredConfig>, StoreError> {
        let rows = sqlx::query(
            "SELECT config_value, version, updated_at, tenant_id, config_key FROM configs
             WHERE (tenant_id, config_key) > ($1, $2) AND config_value IS NOT NULL
             ORDER BY tenant_id, config_key LIMIT $3",
        )
        .bind(after_tenant)
        .bind(after_key)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let config = |row: &AnyRow| {
            let tenant: &str = row.try_get(3)?;
            let id = ConfigId {
                tenant_id: TenantId::new(tenant).map_err(StoreError::new)?,
                config_key: row.try_get(4)?,
            };
            Ok(Stored::of(row, 0)?.into_config(&id))
        };
        rows.iter()
            .filter_map(|row| config(row).transpose())
            .collect()
    }

    /// The tenants whose id begins with `prefix`, after `after`, with whatever configurations they have.
    pub(crate) async fn tenants(
        &self,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        // The character after all those of an id ends the range, so that the index serves it.
        Ok(sqlx::query_scalar(
            "SELECT DISTINCT tenant_id FROM configs
             WHERE tenant_id >= $1 AND tenant_id < $2 AND tenant_id > $3 AND config_value IS NOT NULL
             ORDER BY tenant_id LIMIT $4",
        )
        .bind(prefix)
        .bind(format!("{prefix}~"))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }
}

fn past(row: &AnyRow) -> Result<PastConfig, StoreError> {
    let value: Option<String> = row.try_get(1)?;
    Ok(PastConfig {
        version: row.try_get(0)?,
        config_value: value
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(StoreError::new)?,
        changed_at: instant(row.try_get(2)?)?,
        actor: row.try_get(3)?,
    })
}
