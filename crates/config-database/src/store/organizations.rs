//! Organizations: what they have stored for their members, with its history, and who their members are. A change of an
//! organization's preferences brings those of all members up to date in the same transaction; what a member gets is as if the
//! member had stored it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, OrganizationId, TenantId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{
    AnyConfig, AnyConfigId, ChangeError, ConfigId, ConfigStore, Expected, StoreError,
    configs::page_of,
    dialect::Dialect,
    members::{MEMBERS_AT_ONCE, unreadable},
    stored::ConfigRow,
    writing::{MAX_VERSION_CHARACTERS, MAX_VERSIONS, Placed, Wanted, Write},
};
use crate::{
    layers::Layer,
    validate::{CheckedConfig, FEATURE_PREFERENCES, too_many_at_once},
};

/// Preferences of members that one write of an organization's may change: every other writer waits for it. One feature of as many
/// members as there may be is always possible.
const MAX_PLACED_AT_ONCE: i64 = 20_000;

/// An organization's configuration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct OrganizationConfig {
    /// The organization.
    pub(crate) organization_id: OrganizationId,
    /// Always `feature_preferences`.
    pub(crate) config_key: String,
    /// Preferences by feature, as they were stored, with fields that this version does not know.
    #[schema(value_type = Object)]
    pub(crate) config_value: Map<String, Value>,
    /// Grows with every change; never comes again, not even after a removal.
    pub(crate) version: i64,
    /// When it was changed.
    pub(crate) updated_at: DateTime<Utc>,
}

/// An organization.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Organization {
    /// The organization.
    pub(crate) organization_id: OrganizationId,
    /// Number of members.
    pub(crate) members: i64,
    /// The features of which it has preferences.
    pub(crate) features: Vec<String>,
    /// Members, by their ids.
    pub(crate) member_ids: Vec<String>,
    /// Pass it as `after` to get the next members; `null`: there are none.
    pub(crate) next_after: Option<String>,
}

/// An organization in a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListedOrganization {
    pub(crate) organization_id: OrganizationId,
    pub(crate) members: i64,
    /// The features of which it has preferences.
    pub(crate) features: Vec<String>,
}

/// The organizations with ids from `$1` and below `$2`, `$3` of them, with their members and what they have stored. Each is found by
/// one look into two indexes: to read all members of each would take as long as there are members.
const ORGANIZATIONS: &str = "
    WITH RECURSIVE ids(id, place) AS (
        SELECT min(nearest.id), 1 FROM (
            SELECT min(organization_id) AS id FROM members
            WHERE organization_id >= $1 AND organization_id < $2
            UNION ALL
            SELECT min(organization_id) FROM organization_configs
            WHERE organization_id >= $1 AND organization_id < $2 AND config_value IS NOT NULL) AS nearest
        UNION ALL
        SELECT (SELECT min(nearest.id) FROM (
            SELECT min(organization_id) AS id FROM members
            WHERE organization_id > ids.id AND organization_id < $2
            UNION ALL
            SELECT min(organization_id) FROM organization_configs
            WHERE organization_id > ids.id AND organization_id < $2 AND config_value IS NOT NULL) AS nearest),
            ids.place + 1
        FROM ids WHERE ids.id IS NOT NULL AND ids.place < $3)
    SELECT ids.id, (SELECT count(*) FROM members WHERE members.organization_id = ids.id),
        organization_configs.config_value
    FROM ids LEFT JOIN organization_configs
        ON organization_configs.organization_id = ids.id AND organization_configs.config_key = 'feature_preferences'
    WHERE ids.id IS NOT NULL ORDER BY ids.place";

impl ConfigRow {
    /// Writes it, and its version into the history.
    async fn write(
        &self,
        connection: &mut AnyConnection,
        organization: &OrganizationId,
        actor: &str,
    ) -> Result<(), StoreError> {
        let value = self.value.clone();
        let value = value.map(|value| Value::Object(value).to_string());
        sqlx::query(
            "INSERT INTO organization_configs (organization_id, config_key, config_value, version, updated_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (organization_id, config_key) DO UPDATE SET config_value = excluded.config_value,
                 version = excluded.version, updated_at = excluded.updated_at",
        )
        .bind(organization.as_str())
        .bind(FEATURE_PREFERENCES)
        .bind(value.as_deref())
        .bind(self.version)
        .bind(self.updated_at.timestamp_micros())
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "INSERT INTO organization_config_history
                 (organization_id, config_key, config_value, version, changed_at, actor)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(organization.as_str())
        .bind(FEATURE_PREFERENCES)
        .bind(value.as_deref())
        .bind(self.version)
        .bind(self.updated_at.timestamp_micros())
        .bind(actor)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "DELETE FROM organization_config_history WHERE organization_id = $1 AND config_key = $2 AND version IN (
                 SELECT version FROM (
                     SELECT version, row_number() OVER newest_first AS place,
                         sum(length(config_value)) OVER newest_first AS total
                     FROM organization_config_history WHERE organization_id = $1 AND config_key = $2
                     WINDOW newest_first AS (ORDER BY version DESC)) AS versions
                 WHERE place > 1 AND (place > $3 OR total > $4))",
        )
        .bind(organization.as_str())
        .bind(FEATURE_PREFERENCES)
        .bind(MAX_VERSIONS)
        .bind(MAX_VERSION_CHARACTERS)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Its preferences, all that it has stored.
impl AnyConfigId for OrganizationId {
    type Config = OrganizationConfig;

    const ROW: &'static str = "
        SELECT config_value, version, updated_at, CAST(NULL AS TEXT) FROM organization_configs
        WHERE organization_id = $1 AND config_key = $2";

    const HISTORY: &'static str = "
        SELECT version, config_value, changed_at, actor FROM organization_config_history
        WHERE organization_id = $1 AND config_key = $2 AND version < $3 ORDER BY version DESC LIMIT $4";

    fn names(&self) -> (&str, &str) {
        (self.as_str(), FEATURE_PREFERENCES)
    }

    fn config(&self, row: ConfigRow) -> Option<OrganizationConfig> {
        Some(OrganizationConfig {
            organization_id: self.clone(),
            config_key: FEATURE_PREFERENCES.to_owned(),
            config_value: row.value?,
            version: row.version,
            updated_at: row.updated_at,
        })
    }

    async fn check(
        &self,
        store: &ConfigStore,
        value: Value,
        stored: &Map<String, Value>,
    ) -> Result<CheckedConfig, ChangeError> {
        Ok(store.check_organization(value, stored).await?)
    }

    /// Brings the preferences of all members up to date as well.
    async fn change(
        &self,
        store: &ConfigStore,
        expected: &Expected,
        actor: &str,
        config: Option<CheckedConfig>,
    ) -> Result<(Option<OrganizationConfig>, i64), ChangeError> {
        let mut write = Write::begin(store).await?;
        let stored = ConfigRow::read(write.connection(), store.dialect, self).await?;
        let current = stored.current();
        expected.check(current)?;
        if config.is_none() && current.is_none() {
            return Err(ChangeError::Missing);
        }
        let value = config.map(|config| config.value);
        if value == stored.value {
            let head = write.commit(store, actor).await?;
            return Ok((self.config(stored), head));
        }
        let changed = ConfigRow {
            value,
            version: stored.version + 1,
            updated_at: write.now(),
            ..ConfigRow::default()
        };
        let layer = |row: &ConfigRow| Layer {
            organization: self.clone(),
            preferences: row.value.clone().unwrap_or_default(),
        };
        let (before, after) = (layer(&stored), layer(&changed));
        let different = different(&before, &after);
        let members = count_members(write.connection(), self).await?;
        let features = i64::try_from(different.len()).unwrap_or(i64::MAX);
        if features.saturating_mul(members) > MAX_PLACED_AT_ONCE {
            return Err(too_many_at_once(different.len(), members, MAX_PLACED_AT_ONCE).into());
        }
        changed.write(write.connection(), self, actor).await?;
        for feature in different {
            let mut last = Some(String::new());
            while let Some(member) = last {
                last = write.place_members(&after, &feature, &member).await?;
                write.flush(store).await?;
            }
        }
        let head = write.commit_all(store, actor).await?;
        Ok((self.config(changed), head))
    }
}

impl AnyConfig for OrganizationConfig {
    fn version(&self) -> i64 {
        self.version
    }

    fn retain(&mut self, may_see: impl Fn(&str) -> bool) {
        self.config_value.retain(|feature, _| may_see(feature));
    }
}

impl Layer {
    /// The organization of a tenant, with its preferences; `None`: the tenant belongs to none.
    pub(super) async fn read_of(
        connection: &mut AnyConnection,
        dialect: Dialect,
        tenant: &TenantId,
    ) -> Result<Option<Self>, StoreError> {
        let organization: Option<String> =
            sqlx::query_scalar("SELECT organization_id FROM members WHERE tenant_id = $1")
                .bind(tenant.as_str())
                .fetch_optional(&mut *connection)
                .await?;
        let Some(organization) = organization else {
            return Ok(None);
        };
        let organization = OrganizationId::new(organization).map_err(StoreError::new)?;
        let row = ConfigRow::read(connection, dialect, &organization).await?;
        Ok(Some(Self {
            organization,
            preferences: row.value.unwrap_or_default(),
        }))
    }
}

impl ConfigStore {
    /// The organization of a tenant, with its preferences; `None`: the tenant belongs to none.
    pub(crate) async fn layer_of(&self, tenant: &TenantId) -> Result<Option<Layer>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Layer::read_of(&mut connection, self.dialect, tenant).await
    }

    /// The organization below a configuration: preferences alone have one.
    pub(crate) async fn layer_below(&self, id: &ConfigId) -> Result<Option<Layer>, StoreError> {
        if id.config_key == FEATURE_PREFERENCES {
            self.layer_of(&id.tenant_id).await
        } else {
            Ok(None)
        }
    }

    /// An organization with a page of its members, those after `after`.
    pub(crate) async fn organization(
        &self,
        organization: &OrganizationId,
        after: &str,
        limit: u32,
    ) -> Result<Organization, StoreError> {
        let mut snapshot = self.begin(self.dialect.begin_read()).await?;
        let members = count_members(&mut snapshot, organization).await?;
        let mut member_ids: Vec<String> = sqlx::query_scalar(
            "SELECT tenant_id FROM members WHERE organization_id = $1 AND tenant_id > $2
             ORDER BY tenant_id LIMIT $3",
        )
        .bind(organization.as_str())
        .bind(after)
        .bind(i64::from(limit) + 1)
        .fetch_all(&mut *snapshot)
        .await?;
        let row = ConfigRow::read(&mut snapshot, self.dialect, organization).await?;
        snapshot.rollback().await?;
        let layer = Layer {
            organization: organization.clone(),
            preferences: row.value.unwrap_or_default(),
        };
        let more = member_ids.len() > limit as usize;
        member_ids.truncate(limit as usize);
        Ok(Organization {
            organization_id: organization.clone(),
            members,
            features: layer.features().cloned().collect(),
            next_after: member_ids.last().filter(|_| more).cloned(),
            member_ids,
        })
    }

    /// Number of members of an organization.
    pub(crate) async fn members_of(
        &self,
        organization: &OrganizationId,
    ) -> Result<i64, StoreError> {
        let mut connection = self.pool.acquire().await?;
        count_members(&mut connection, organization).await
    }

    /// The organizations whose id begins with `prefix`, after `after`, and whether there are more: those that have members or
    /// preferences.
    pub(crate) async fn organizations(
        &self,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<ListedOrganization>, bool), StoreError> {
        if [prefix, after].iter().any(|text| text.contains('\0')) {
            // No id has this character, and PostgreSQL takes no text with it.
            return Ok((Vec::new(), false));
        }
        // `!` comes before all characters of an id, and `~` after them.
        let next = if after.is_empty() {
            String::new()
        } else {
            format!("{after}!")
        };
        let rows = sqlx::query(ORGANIZATIONS)
            .bind(prefix.max(next.as_str()))
            .bind(format!("{prefix}~"))
            .bind(i64::from(limit) + 1)
            .fetch(&self.pool);
        let listed =
            |row: &AnyRow, value: Option<&str>| -> Result<ListedOrganization, StoreError> {
                let preferences = value.map(serde_json::from_str).transpose();
                let layer = Layer {
                    organization: OrganizationId::new(row.try_get::<&str, _>(0)?)
                        .map_err(StoreError::new)?,
                    preferences: preferences.map_err(StoreError::new)?.unwrap_or_default(),
                };
                Ok(ListedOrganization {
                    members: row.try_get(1)?,
                    features: layer.features().cloned().collect(),
                    organization_id: layer.organization,
                })
            };
        page_of(rows, limit, 2, listed).await
    }

    /// The preferences of organizations, in the order of their ids, after one of them.
    pub(crate) async fn export_organizations(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<OrganizationConfig>, StoreError> {
        let rows = sqlx::query(
            "SELECT organization_id, config_value, version, updated_at, CAST(NULL AS TEXT) FROM organization_configs
             WHERE organization_id > $1 AND config_key = $2 AND config_value IS NOT NULL
             ORDER BY organization_id LIMIT $3",
        )
        .bind(after)
        .bind(FEATURE_PREFERENCES)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let mut configs = Vec::new();
        for row in &rows {
            let organization = OrganizationId::new(row.try_get::<&str, _>(0)?);
            let organization = organization.map_err(StoreError::new)?;
            configs.extend(organization.config(ConfigRow::of(row, 1)?));
        }
        Ok(configs)
    }
}

async fn count_members(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<i64, StoreError> {
    let members: i64 =
        sqlx::query_scalar("SELECT count(*) FROM members WHERE organization_id = $1")
            .bind(organization.as_str())
            .fetch_one(connection)
            .await?;
    Ok(members)
}

/// The features of which two layers do not say the same.
fn different(one: &Layer, other: &Layer) -> BTreeSet<FeatureType> {
    let names = one.preferences.keys().chain(other.preferences.keys());
    let differ = names.filter(|name| one.of(name) != other.of(name));
    differ
        .filter_map(|name| FeatureType::new(name).ok())
        .collect()
}

impl Write {
    /// Brings the preferences that the next members after `member` have for a feature up to date with what their organization says of
    /// it. Returns the last of them; `None`: there are no more.
    async fn place_members(
        &mut self,
        layer: &Layer,
        feature: &FeatureType,
        member: &str,
    ) -> Result<Option<String>, StoreError> {
        let statement = self.dialect().preferences_of_members();
        let rows = sqlx::query(statement)
            .bind(layer.organization.as_str())
            .bind(feature.as_str())
            .bind(member)
            .bind(i64::from(MEMBERS_AT_ONCE))
            .fetch_all(self.connection())
            .await?;
        let times = (self.now(), self.now());
        for row in &rows {
            let tenant: &str = row.try_get(0)?;
            let own: Option<&str> = row.try_get(1)?;
            let own: Option<Value> = own
                .map(serde_json::from_str)
                .transpose()
                .map_err(StoreError::new)?;
            let preference: Option<&str> = row.try_get(2)?;
            let before = preference
                .map(|preference| Placed::read(preference, row.try_get(3)?, row.try_get(4)?))
                .transpose()?;
            let merged = layer.merge(feature.as_str(), own.as_ref().and_then(Value::as_object));
            let (merged, membership) = merged.unzip();
            let problem = merged.as_ref().and_then(unreadable);
            let membership = membership.map(|membership| json!(membership));
            let merged = merged.map(Value::Object);
            let wanted = merged.as_ref().map(|preference| Wanted {
                preference,
                organization: membership.as_ref(),
                problem: problem.as_deref(),
            });
            self.place(tenant, feature.as_str(), before.as_ref(), wanted, times);
        }
        let last = rows.last().map(|row| row.try_get(0));
        Ok(last.transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_of_organizations_reads_no_whole_table() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!(
            "EXPLAIN QUERY PLAN {ORGANIZATIONS}"
        )))
        .bind("")
        .bind("~")
        .bind(61_i64)
        .fetch_all(&store.pool)
        .await
        .unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let of_tables =
            |step: &&String| step.contains("members") || step.contains("organization_configs");
        let read: Vec<&String> = steps.iter().filter(of_tables).collect();
        assert!(read.len() >= 6, "{steps:?}");
        for step in read {
            assert!(
                step.starts_with("SEARCH") && step.contains("organization_id"),
                "{steps:?}"
            );
        }
    }
}
