//! A configuration's row, also of one that was removed or never was.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{ConfigId, StoreError, StoredConfig, dialect::Dialect, instant, writing::Edit};

/// What stands in the row.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub(super) value: Option<Map<String, Value>>,
    /// 0: it never was.
    pub(super) version: i64,
    pub(super) updated_at: DateTime<Utc>,
}

impl Stored {
    pub(super) async fn read(
        connection: &mut AnyConnection,
        id: &ConfigId,
    ) -> Result<Self, StoreError> {
        let row = sqlx::query(
            "SELECT config_value, version, updated_at FROM configs WHERE tenant_id = $1 AND config_key = $2",
        )
        .bind(id.tenant_id.as_str())
        .bind(&id.config_key)
        .fetch_optional(connection)
        .await?;
        row.map_or(Ok(Self::default()), |row| Self::of(&row, 0))
    }

    /// The rows of `edits`, in their order.
    pub(super) async fn read_many(
        connection: &mut AnyConnection,
        dialect: Dialect,
        edits: &[Edit],
    ) -> Result<Vec<Self>, StoreError> {
        let ids: Vec<Value> = edits
            .iter()
            .map(|edit| json!([edit.id.tenant_id, edit.id.config_key]))
            .collect();
        let rows = sqlx::query(dialect.rows(
            "SELECT tenant_id, config_key, config_value, version, updated_at FROM ROWS
             JOIN configs ON tenant_id = value ->> 0 AND config_key = value ->> 1",
        ))
        .bind(Value::from(ids).to_string())
        .fetch_all(connection)
        .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let key: (String, String) = (row.try_get(0)?, row.try_get(1)?);
            found.insert(key, Self::of(row, 2)?);
        }
        let of = |edit: &Edit| (edit.id.tenant_id.to_string(), edit.id.config_key.clone());
        Ok(edits
            .iter()
            .map(|edit| found.remove(&of(edit)).unwrap_or_default())
            .collect())
    }

    /// The configuration, if there is one.
    pub(super) fn into_config(self, id: &ConfigId) -> Option<StoredConfig> {
        Some(StoredConfig {
            tenant_id: id.tenant_id.clone(),
            config_key: id.config_key.clone(),
            config_value: self.value?,
            version: self.version,
            updated_at: self.updated_at,
        })
    }

    /// The value, version and time in three columns, from the column `first`.
    pub(super) fn of(row: &AnyRow, first: usize) -> Result<Self, StoreError> {
        let value: Option<&str> = row.try_get(first)?;
        Ok(Self {
            value: value
                .map(serde_json::from_str)
                .transpose()
                .map_err(StoreError::new)?,
            version: row.try_get(first + 1)?,
            updated_at: instant(row.try_get(first + 2)?)?,
        })
    }
}
