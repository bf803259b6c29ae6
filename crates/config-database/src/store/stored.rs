//! A configuration's row, also of one that was removed or never was.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use punctual_domain::{MAX_DEPTH, MAX_PREFERENCE_BYTES};
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{AnyConfigId, ConfigId, StoreError, dialect::Dialect, instant};

/// A stored preference as it is given to everybody. One that an earlier version took although it is larger or deeper than
/// what readers must take is empty: they find it to be not valid, and the others' are not affected.
pub(super) fn readable(preference: &str) -> Result<Map<String, Value>, StoreError> {
    if preference.len() > MAX_PREFERENCE_BYTES || depth_of(preference) > MAX_DEPTH + 1 {
        return Ok(Map::new());
    }
    serde_json::from_str(preference).map_err(StoreError::new)
}

/// How deep a JSON document is nested.
fn depth_of(document: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in document.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Row of the table `configs`, or of `organization_configs`, which has no schedules.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigRow {
    pub(super) value: Option<Map<String, Value>>,
    /// 0: it never was.
    pub(super) version: i64,
    pub(super) updated_at: DateTime<Utc>,
    /// Of each feature, since when its schedule is as it is.
    pub(super) schedule_since: BTreeMap<String, DateTime<Utc>>,
}

impl ConfigRow {
    pub(super) async fn read<I: AnyConfigId>(
        connection: &mut AnyConnection,
        dialect: Dialect,
        id: &I,
    ) -> Result<Self, StoreError> {
        let (owner, key) = id.names();
        let row = sqlx::query(AssertSqlSafe(dialect.configs(I::ROW)))
            .bind(owner)
            .bind(key)
            .fetch_optional(connection)
            .await?;
        row.map_or(Ok(Self::default()), |row| Self::of(&row, 0))
    }

    /// The rows of `ids`, in their order; none comes twice.
    pub(super) async fn read_many(
        connection: &mut AnyConnection,
        dialect: Dialect,
        ids: &[&ConfigId],
    ) -> Result<Vec<Self>, StoreError> {
        let keys: Vec<Value> = ids
            .iter()
            .map(|id| json!([id.tenant_id, id.config_key]))
            .collect();
        let rows = sqlx::query(dialect.rows(&dialect.configs(
            "SELECT tenant_id, config_key, config_value, version, updated_at, SCHEDULES FROM ROWS
             JOIN configs ON tenant_id = rows.value ->> 0 AND config_key = rows.value ->> 1",
        )))
        .bind(Value::from(keys).to_string())
        .fetch_all(connection)
        .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let key: (String, String) = (row.try_get(0)?, row.try_get(1)?);
            found.insert(key, Self::of(row, 2)?);
        }
        let key = |id: &ConfigId| (id.tenant_id.to_string(), id.config_key.clone());
        Ok(ids
            .iter()
            .map(|id| found.remove(&key(id)).unwrap_or_default())
            .collect())
    }

    /// The version of what is stored; `None`: nothing is.
    pub(super) fn current(&self) -> Option<i64> {
        self.value.as_ref().map(|_| self.version)
    }

    /// The value, version, time and schedules in four columns, from the column `first`.
    pub(super) fn of(row: &AnyRow, first: usize) -> Result<Self, StoreError> {
        let value: Option<&str> = row.try_get(first)?;
        let schedules: Option<&str> = row.try_get(first + 3)?;
        let schedules: BTreeMap<String, i64> = schedules
            .map(serde_json::from_str)
            .transpose()
            .map_err(StoreError::new)?
            .unwrap_or_default();
        Ok(Self {
            value: value
                .map(serde_json::from_str)
                .transpose()
                .map_err(StoreError::new)?,
            version: row.try_get(first + 1)?,
            updated_at: instant(row.try_get(first + 2)?)?,
            schedule_since: schedules
                .into_iter()
                .map(|(feature, micros)| Ok((feature, instant(micros)?)))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}
