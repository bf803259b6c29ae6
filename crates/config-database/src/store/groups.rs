//! Everyone who does not have a feature switched off, grouped by equal frequency, times, days, bounds and zone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use punctual_domain::{FeatureType, Membership, OrganizationId, PreferenceRecord, Shard, TenantId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{Row, any::AnyRow};
use utoipa::ToSchema;

use super::{
    ConfigStore, StoreError, configs::PageBudget, feed::FeedState, instant, stored::readable,
};

/// Most rows that are looked through for a page.
const MAX_SCANNED: i64 = 100_000;

/// What the tenants of a group have in common, `null` where it is not stored.
const SHARED: [&str; 4] = ["frequency", "preferred_time", "preferred_day", "timezone"];
/// The same, left out where it is not stored.
pub(crate) const RARELY_SHARED: [&str; 5] =
    ["interval", "date", "start_date", "end_date", "paused_until"];

/// The groups of a feature, or a page of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupsPage {
    /// The feature.
    pub(crate) feature_type: FeatureType,
    /// Another one: this is another database, read the groups anew.
    pub(crate) epoch: String,
    /// The newest change that the first page contains; changes after it follow in the feed.
    pub(crate) as_of_id: i64,
    /// The groups.
    pub(crate) groups: Vec<Group>,
    /// The `cursor` of the next page; `null`: this is the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Tenants who fall due together: all of them, or those of one page.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Group {
    /// The fields that say when, as the tenants of the group have stored them.
    #[serde(flatten)]
    #[schema(value_type = Shared)]
    pub(crate) shared: Map<String, Value>,
    /// Number of tenants listed.
    pub(crate) count: usize,
    /// The tenants.
    tenants: Vec<Tenant>,
}

/// The fields that say when the tenants of a group fall due, as they were stored; `null`: not stored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Group::shared` holds")]
struct Shared {
    /// `hourly`, `daily`, `weekly`, `biweekly`, `monthly` or `once`.
    frequency: Option<String>,
    /// The local time of day, or a list of times.
    preferred_time: Option<Value>,
    /// A day of the week or the month, or a list of days.
    preferred_day: Option<Value>,
    /// An IANA time zone.
    timezone: Option<String>,
    /// Every so many days, weeks or months from `start_date` on; left out: 1.
    interval: Option<u16>,
    /// The local date of `once`.
    date: Option<String>,
    /// The first local date; left out: there is none.
    start_date: Option<String>,
    /// The last local date; left out: there is none.
    end_date: Option<String>,
    /// The local date or the instant at which a pause ends; left out: nothing is paused.
    paused_until: Option<String>,
}

/// A tenant with what is their own.
#[derive(Debug, Serialize, ToSchema)]
struct Tenant {
    /// The tenant.
    tenant_id: String,
    /// When the preference was changed.
    updated_at: DateTime<Utc>,
    /// Since when the fields that say when the preference falls due have been as they are.
    schedule_since: DateTime<Utc>,
    /// The tenant's organization. Left out: the tenant belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<TenantOrganization>,
    /// `null`: the preference does not say whether it is on, so that the job's default holds. Left out: it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    enabled: Option<Value>,
    /// What the tenant wants to be different in the template; the feature's JSON Schema says what it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    template_overrides: Option<Value>,
    /// The fields of the preference that this version does not know, whatever their names are.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Option<Object>)]
    own_fields: Map<String, Value>,
}

/// A tenant's organization, whose preferences stand below the tenant's own.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct TenantOrganization {
    /// The organization.
    id: OrganizationId,
    /// Fields of the preference that came from the organization.
    fields: Vec<String>,
}

impl From<Membership> for TenantOrganization {
    fn from(membership: Membership) -> Self {
        Self {
            id: membership.id,
            fields: membership.fields,
        }
    }
}

impl From<TenantOrganization> for Membership {
    fn from(organization: TenantOrganization) -> Self {
        Self {
            id: organization.id,
            fields: organization.fields,
        }
    }
}

/// What a column `organization` holds.
pub(super) fn membership(column: Option<&str>) -> Result<Option<Membership>, StoreError> {
    let membership = column.map(serde_json::from_str).transpose();
    membership.map_err(StoreError::new)
}

/// Why the groups cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupsError {
    #[error("invalid cursor `{0}`; pass the `next_cursor` of the previous page")]
    Cursor(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigStore {
    /// The groups of a feature: all of them, or at most `limit` tenants after `cursor` and fewer where they are large. Of
    /// `shards`, where there are any.
    pub(crate) async fn groups(
        &self,
        feature_type: &FeatureType,
        shards: &[Shard],
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<GroupsPage, GroupsError> {
        let after = cursor.map(|cursor| {
            parse_cursor(cursor).ok_or_else(|| GroupsError::Cursor(cursor.to_owned()))
        });
        let after = after.transpose()?;
        // About as many rows as hold a page of the shards.
        let parts = shards.iter().map(|shard| i64::from(shard.count()));
        let scanned = limit.map(|limit| {
            let limit = i64::from(limit);
            limit
                .saturating_mul(parts.min().unwrap_or(1))
                .min(MAX_SCANNED)
        });
        let mut snapshot = self.begin(self.dialect.begin_read()).await?;
        let state = FeedState::read(&mut snapshot).await?;
        let mut rows = sqlx::query(
            "SELECT tenant_id, preference, updated_at, schedule_since, organization FROM preferences
             WHERE feature_type = $1 AND enabled = 1 AND tenant_id > $2 ORDER BY tenant_id LIMIT $3",
        )
        .bind(feature_type.as_str())
        .bind(after.as_ref().map_or("", |(_, tenant)| tenant.as_str()))
        .bind(scanned.map_or(i64::MAX, |scanned| scanned + 1))
        .fetch(&mut *snapshot);
        let as_of_id = after.map_or(state.head, |(as_of_id, _)| as_of_id);
        let mut room = limit.map(PageBudget::new);
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let (mut last, mut more, mut read) = (None, false, 0);
        while let Some(row) = rows.try_next().await.map_err(StoreError::new)? {
            read += 1;
            if scanned.is_some_and(|scanned| read > scanned) {
                more = true;
                break;
            }
            let tenant_id: &str = row.try_get(0).map_err(StoreError::new)?;
            if !is_of(shards, tenant_id) {
                last = Some(tenant_id.to_owned());
                continue;
            }
            let preference: &str = row.try_get(1).map_err(StoreError::new)?;
            if room
                .as_mut()
                .is_some_and(|room| !room.takes(preference.len()))
            {
                more = true;
                break;
            }
            let (shared, tenant) = split(&row)?;
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
        drop(rows);
        snapshot.rollback().await.map_err(StoreError::new)?;
        Ok(GroupsPage {
            feature_type: feature_type.clone(),
            epoch: state.epoch,
            as_of_id,
            groups: groups.into_values().collect(),
            next_cursor: last
                .filter(|_| more)
                .map(|tenant| format!("{as_of_id}.{tenant}")),
        })
    }

    /// Everyone who does not have a feature switched off, with the epoch and the newest change that this contains.
    pub(crate) async fn enabled(
        &self,
        feature_type: &FeatureType,
    ) -> Result<(String, i64, Vec<PreferenceRecord>), StoreError> {
        let mut snapshot = self.begin(self.dialect.begin_read()).await?;
        let state = FeedState::read(&mut snapshot).await?;
        let rows = sqlx::query(
            "SELECT tenant_id, preference, updated_at, schedule_since, organization FROM preferences
             WHERE feature_type = $1 AND enabled = 1",
        )
        .bind(feature_type.as_str())
        .fetch_all(&mut *snapshot)
        .await?;
        snapshot.rollback().await?;
        let records = rows.iter().filter_map(|row| record(row).transpose());
        Ok((state.epoch, state.head, records.collect::<Result<_, _>>()?))
    }

    /// What these tenants have stored for a feature, switched on or off.
    pub(crate) async fn of_tenants(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<Vec<PreferenceRecord>, StoreError> {
        let ids: Vec<Value> = tenants.iter().map(|id| json!([id])).collect();
        let statement = self
            .dialect
            .preferences_of("tenant_id, preference, updated_at, schedule_since, organization");
        let rows = sqlx::query(statement)
            .bind(Value::from(ids).to_string())
            .bind(feature_type.as_str())
            .fetch_all(&self.pool)
            .await?;
        let records = rows.iter().filter_map(|row| record(row).transpose());
        records.collect()
    }

    /// The groups of a feature without their tenants, the largest first, and how many tenants each has.
    pub(crate) async fn group_sizes(
        &self,
        feature_type: &FeatureType,
        limit: u32,
    ) -> Result<Vec<(Map<String, Value>, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT slot, tenants FROM group_counts WHERE feature_type = $1
             ORDER BY tenants DESC, slot LIMIT $2",
        )
        .bind(feature_type.as_str())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let slot: &str = row.try_get(0)?;
                Ok((
                    serde_json::from_str(slot).map_err(StoreError::new)?,
                    row.try_get(1)?,
                ))
            })
            .collect()
    }

    /// The features that have preferences, a schema or a description, with how many tenants have each switched on. Cheap, however
    /// many tenants there are.
    pub(crate) async fn feature_types(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sqlx::query("SELECT feature_type, enabled FROM feature_counts")
            .fetch_all(&self.pool)
            .await?;
        let counted = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let counted = counted.collect::<Result<HashMap<String, i64>, StoreError>>()?;
        let names = self.feature_names().await?.into_iter();
        Ok(names
            .map(|name| {
                let enabled = counted.get(&name).copied().unwrap_or_default();
                (name, enabled)
            })
            .collect())
    }
}

/// Whether a tenant is of these shards; of none: all are.
pub(super) fn is_of(shards: &[Shard], tenant_id: &str) -> bool {
    shards.is_empty() || shards.iter().any(|shard| shard.contains(tenant_id))
}

/// What a preference's group has in common, as text.
pub(super) fn slot_of(preference: &Value) -> String {
    let field = |name: &str| (name.to_owned(), preference[name].clone());
    let set = |name: &&str| !preference[*name].is_null();
    let rare = RARELY_SHARED.into_iter().filter(set);
    Value::Object(SHARED.into_iter().chain(rare).map(field).collect()).to_string()
}

/// The record of a row of `preferences`; `None`: no tenant can have this id.
fn record(row: &AnyRow) -> Result<Option<PreferenceRecord>, StoreError> {
    let Ok(tenant_id) = TenantId::new(row.try_get::<&str, _>(0)?) else {
        return Ok(None);
    };
    Ok(Some(PreferenceRecord {
        tenant_id,
        preference: Arc::new(readable(row.try_get(1)?)?),
        updated_at: Some(instant(row.try_get(2)?)?),
        schedule_since: Some(instant(row.try_get(3)?)?),
        organization: membership(row.try_get(4)?)?.map(Arc::new),
    }))
}

fn split(row: &AnyRow) -> Result<(Map<String, Value>, Tenant), StoreError> {
    let preference: &str = row.try_get(1)?;
    let mut own = readable(preference)?;
    let is_on = own.remove("enabled") == Some(Value::Bool(true));
    let mut shared: Map<String, Value> = SHARED
        .into_iter()
        .map(|name| (name.to_owned(), own.remove(name).unwrap_or(Value::Null)))
        .collect();
    for name in RARELY_SHARED {
        if let Some(value) = own.remove(name).filter(|value| !value.is_null()) {
            shared.insert(name.to_owned(), value);
        }
    }
    let tenant = Tenant {
        tenant_id: row.try_get(0)?,
        updated_at: instant(row.try_get(2)?)?,
        schedule_since: instant(row.try_get(3)?)?,
        organization: membership(row.try_get(4)?)?.map(TenantOrganization::from),
        enabled: (!is_on).then_some(Value::Null),
        template_overrides: own.remove("template_overrides"),
        own_fields: own,
    };
    Ok((shared, tenant))
}

fn parse_cursor(cursor: &str) -> Option<(i64, TenantId)> {
    let (as_of_id, tenant) = cursor.split_once('.')?;
    Some((as_of_id.parse().ok()?, TenantId::new(tenant).ok()?))
}
