//! Everyone who has a feature switched on, grouped by equal frequency, time, day and zone.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::Row;

use super::{ConfigStore, StoreError, instant};

const SHARED: [&str; 4] = ["frequency", "preferred_time", "preferred_day", "timezone"];

/// The groups of a feature, or a page of them.
#[derive(Debug, Serialize)]
pub(crate) struct GroupsPage {
    feature_type: FeatureType,
    epoch: String,
    /// The newest change that the first page contains; changes after it follow in the feed.
    as_of_id: i64,
    groups: Vec<Group>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Group {
    #[serde(flatten)]
    shared: Map<String, Value>,
    count: usize,
    tenants: Vec<Tenant>,
}

/// A tenant with what is their own: overrides, and fields this version does not know.
#[derive(Debug, Serialize)]
struct Tenant {
    tenant_id: String,
    updated_at: DateTime<Utc>,
    #[serde(flatten)]
    own: Map<String, Value>,
}

/// Why the groups cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupsError {
    #[error("`{0}` is no cursor of this list; use the `next_cursor` of the page before")]
    Cursor(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigStore {
    /// The groups of a feature: all of them, or at most `limit` tenants after `cursor`.
    pub(crate) async fn groups(
        &self,
        feature_type: &FeatureType,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<GroupsPage, GroupsError> {
        let after = cursor.map(|cursor| {
            parse_cursor(cursor).ok_or_else(|| GroupsError::Cursor(cursor.to_owned()))
        });
        let after = after.transpose()?;
        // Both reads see one moment. The id first: a change between them would only come twice.
        let mut transaction = self.pool.begin().await.map_err(StoreError::new)?;
        let head: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
                .fetch_optional(&mut *transaction)
                .await
                .map_err(StoreError::new)?;
        let rows = sqlx::query(
            "SELECT tenant_id, preference, updated_at FROM preferences
             WHERE feature_type = ?1 AND enabled = 1 AND tenant_id > ?2 ORDER BY tenant_id LIMIT ?3",
        )
        .bind(feature_type.as_str())
        .bind(after.as_ref().map_or("", |(_, tenant)| tenant.as_str()))
        .bind(limit.map_or(-1, |limit| i64::from(limit) + 1))
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::new)?;
        transaction.rollback().await.map_err(StoreError::new)?;

        let as_of_id = after.map_or(head.unwrap_or(0), |(as_of_id, _)| as_of_id);
        let shown = limit.map_or(rows.len(), |limit| rows.len().min(limit as usize));
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut last = None;
        for row in &rows[..shown] {
            let (shared, tenant) = split(row)?;
            last = Some(tenant.tenant_id.clone());
            let key = Value::Object(shared.clone()).to_string();
            let group = groups.entry(key).or_insert_with(|| Group {
                shared,
                count: 0,
                tenants: Vec::new(),
            });
            group.count += 1;
            group.tenants.push(tenant);
        }
        Ok(GroupsPage {
            feature_type: feature_type.clone(),
            epoch: self.epoch.clone(),
            as_of_id,
            groups: groups.into_values().collect(),
            next_cursor: last
                .filter(|_| rows.len() > shown)
                .map(|tenant| format!("{as_of_id}.{tenant}")),
        })
    }

    /// The features that have preferences, with how many tenants have each switched on.
    pub(crate) async fn feature_types(&self) -> Result<Vec<(String, i64)>, StoreError> {
        sqlx::query("SELECT feature_type, sum(enabled) FROM preferences GROUP BY feature_type")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::new)?
            .iter()
            .map(|row| {
                Ok((
                    row.try_get(0).map_err(StoreError::new)?,
                    row.try_get(1).map_err(StoreError::new)?,
                ))
            })
            .collect()
    }
}

fn split(row: &sqlx::sqlite::SqliteRow) -> Result<(Map<String, Value>, Tenant), StoreError> {
    let preference: &str = row.try_get(1).map_err(StoreError::new)?;
    let mut own: Map<String, Value> = serde_json::from_str(preference).map_err(StoreError::new)?;
    own.remove("enabled");
    let shared = SHARED
        .into_iter()
        .map(|name| (name.to_owned(), own.remove(name).unwrap_or(Value::Null)))
        .collect();
    let tenant = Tenant {
        tenant_id: row.try_get(0).map_err(StoreError::new)?,
        updated_at: instant(row.try_get(2).map_err(StoreError::new)?)?,
        own,
    };
    Ok((shared, tenant))
}

fn parse_cursor(cursor: &str) -> Option<(i64, TenantId)> {
    let (as_of_id, tenant) = cursor.split_once('.')?;
    Some((as_of_id.parse().ok()?, TenantId::new(tenant).ok()?))
}
