//! Tenants' configurations: read, changed under a condition, imported, and their history.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::{TryStreamExt, stream::BoxStream};
use punctual_domain::{FieldErrors, Invalid, LanguageTag, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AnyConnection, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{
    AnyConfig, AnyConfigId, ConfigStore, StoreError,
    groups::TenantOrganization,
    now,
    stored::ConfigRow,
    writing::{Edit, Write},
};
use crate::{
    import::NewSchedules,
    validate::{CheckedConfig, FEATURE_PREFERENCES, PROFILE, may_not_move, organization_of},
};

/// Configurations of one tenant, those that were removed among them.
const MAX_CONFIGS_PER_TENANT: i64 = 100;
/// Bytes of a page of the history or of an export, where more than one entry is on it.
pub(super) const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often a change is made anew because another one came between.
pub(super) const ATTEMPTS: usize = 100;

/// Identifies a configuration: tenant and configuration key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConfigId {
    pub(crate) tenant_id: TenantId,
    pub(crate) config_key: String,
}

impl ConfigId {
    /// That of a tenant's preferences.
    pub(crate) fn of_preferences(tenant_id: &TenantId) -> Self {
        Self {
            tenant_id: tenant_id.clone(),
            config_key: FEATURE_PREFERENCES.to_owned(),
        }
    }
}

/// A tenant's configuration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct StoredConfig {
    /// The tenant.
    pub(crate) tenant_id: TenantId,
    /// Which of the tenant's configurations.
    pub(crate) config_key: String,
    /// For `feature_preferences`: preferences by feature, as they were stored, with fields that this version does not know.
    #[schema(value_type = Object)]
    pub(crate) config_value: Map<String, Value>,
    /// Grows with every change; never comes again, not even after a removal.
    pub(crate) version: i64,
    /// When it was changed.
    pub(crate) updated_at: DateTime<Utc>,
    /// Of each feature, since when the fields that say when it falls due have been as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) schedule_since: BTreeMap<String, DateTime<Utc>>,
    /// With `effective`, for each feature: the tenant's organization, and which fields came from it. Left out: the tenant belongs to
    /// none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) organization: BTreeMap<String, TenantOrganization>,
}

/// An earlier version.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct PastConfig {
    /// The version.
    pub(crate) version: i64,
    /// The value it had, as it was stored; `null`: the configuration was removed.
    #[schema(value_type = Option<Object>)]
    pub(crate) config_value: Option<Map<String, Value>>,
    /// When it was changed.
    pub(crate) changed_at: DateTime<Utc>,
    /// Name of the key that made the change.
    pub(crate) actor: String,
}

/// What must be true of the stored configuration for a change to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// It is one of these.
    pub(crate) one_of: Option<Versions>,
    /// It is none of these.
    pub(crate) none_of: Option<Versions>,
    /// Its organization is that of the change: who changes it is let in to one tenant alone.
    pub(crate) same_organization: bool,
}

/// Versions of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Whichever there is.
    Any,
    Listed(Vec<i64>),
}

impl Versions {
    pub(crate) fn contain(&self, current: Option<i64>) -> bool {
        match self {
            Self::Any => current.is_some(),
            Self::Listed(versions) => current.is_some_and(|current| versions.contains(&current)),
        }
    }
}

impl Expected {
    /// Exactly what was seen, at this version.
    pub(super) fn seen(version: Option<i64>) -> Self {
        match version {
            Some(version) => Self {
                one_of: Some(Versions::Listed(vec![version])),
                ..Self::default()
            },
            None => Self {
                none_of: Some(Versions::Any),
                ..Self::default()
            },
        }
    }

    pub(super) fn check(&self, current: Option<i64>) -> Result<(), ChangeError> {
        let is_among = |versions: &Versions| versions.contain(current);
        if self.one_of.as_ref().is_none_or(is_among) && !self.none_of.as_ref().is_some_and(is_among)
        {
            return Ok(());
        }
        Err(ChangeError::Unexpected(current))
    }
}

/// Failure to change a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("the configuration does not exist")]
    Missing,
    /// It is not what the caller took it for; the version it has, if any.
    #[error("the configuration has changed meanwhile")]
    Unexpected(Option<i64>),
    #[error("other callers keep changing the configuration; try again")]
    Busy,
    #[error(transparent)]
    Invalid(#[from] FieldErrors),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AnyConfigId for ConfigId {
    type Config = StoredConfig;

    const ROW: &'static str = "
        SELECT config_value, version, updated_at, SCHEDULES FROM configs
        WHERE tenant_id = $1 AND config_key = $2";

    const HISTORY: &'static str = "
        SELECT version, config_value, changed_at, actor FROM config_history
        WHERE tenant_id = $1 AND config_key = $2 AND version < $3 ORDER BY version DESC LIMIT $4";

    fn names(&self) -> (&str, &str) {
        (self.tenant_id.as_str(), &self.config_key)
    }

    fn config(&self, row: ConfigRow) -> Option<StoredConfig> {
        Some(StoredConfig {
            tenant_id: self.tenant_id.clone(),
            config_key: self.config_key.clone(),
            config_value: row.value?,
            version: row.version,
            updated_at: row.updated_at,
            schedule_since: row.schedule_since,
            organization: BTreeMap::new(),
        })
    }

    async fn check(
        &self,
        store: &ConfigStore,
        value: Value,
        stored: &Map<String, Value>,
    ) -> Result<CheckedConfig, ChangeError> {
        let layer = store.layer_below(self).await?;
        Ok(store
            .check_edit(&self.config_key, value, stored, layer.as_ref())
            .await?)
    }

    async fn change(
        &self,
        store: &ConfigStore,
        expected: &Expected,
        actor: &str,
        config: Option<CheckedConfig>,
    ) -> Result<(Option<StoredConfig>, i64), ChangeError> {
        let mut write = Write::begin(store).await?;
        let stored = ConfigRow::read(write.connection(), store.dialect, self).await?;
        let old = self.config(stored.clone());
        expected.check(old.as_ref().map(|old| old.version))?;
        if config.is_none() && old.is_none() {
            return Err(ChangeError::Missing);
        }
        if stored.version == 0 {
            check_config_count(write.connection(), self).await?;
        }
        let value = config.as_ref().map(|config| config.value.clone());
        if expected.same_organization && self.config_key == PROFILE {
            let of = |profile: Option<&Map<String, Value>>| profile.and_then(organization_of);
            let before = of(stored.value.as_ref());
            if of(value.as_ref()) != before {
                return Err(may_not_move(before.as_ref()).into());
            }
        }
        let edit = Edit {
            id: self.clone(),
            config,
            updated_at: now(),
            new_schedules: NewSchedules::SinceNow,
        };
        write.load_members(std::slice::from_ref(&edit)).await?;
        write.admit(&edit)?;
        let (version, updated_at) = write.add(edit, stored);
        let mut placed = write.settle(store).await?;
        let head = write.commit(store, actor).await?;
        let unchanged = || old.map(|old| old.schedule_since).unwrap_or_default();
        let schedule_since = placed.remove(&self.tenant_id).unwrap_or_else(unchanged);
        let after = self.config(ConfigRow {
            value,
            version,
            updated_at,
            schedule_since,
        });
        Ok((after, head))
    }
}

impl AnyConfig for StoredConfig {
    fn version(&self) -> i64 {
        self.version
    }

    fn retain(&mut self, may_see: impl Fn(&str) -> bool) {
        self.config_value.retain(|feature, _| may_see(feature));
        self.schedule_since.retain(|feature, _| may_see(feature));
        self.organization.retain(|feature, _| may_see(feature));
    }
}

impl ConfigStore {
    /// The language that a tenant reads, by the configuration `profile`. One that is not valid, as an earlier version stored it,
    /// counts as not named.
    pub(crate) async fn locale(
        &self,
        tenant_id: &TenantId,
    ) -> Result<Option<LanguageTag>, StoreError> {
        let id = ConfigId {
            tenant_id: tenant_id.clone(),
            config_key: PROFILE.to_owned(),
        };
        let profile = self.config(&id).await?;
        Ok(profile.and_then(|profile| profile.config_value.get("locale")?.as_str()?.parse().ok()))
    }

    /// Stores configurations; none comes twice. Returns how many were not stored already, and which are refused because their
    /// organization has no room, by their places.
    pub(crate) async fn import(
        &self,
        edits: Vec<Edit>,
        actor: &str,
    ) -> Result<(usize, Vec<(usize, FieldErrors)>), StoreError> {
        let mut write = Write::begin(self).await?;
        let stored = {
            let ids: Vec<&ConfigId> = edits.iter().map(|edit| &edit.id).collect();
            ConfigRow::read_many(write.connection(), self.dialect, &ids).await?
        };
        write.load_members(&edits).await?;
        let (mut changed, mut refused) = (0, Vec::new());
        for (place, (edit, stored)) in edits.into_iter().zip(stored).enumerate() {
            if let Err(errors) = write.admit(&edit) {
                refused.push((place, errors));
                continue;
            }
            let before = stored.version;
            let (version, _) = write.add(edit, stored);
            changed += usize::from(version != before);
        }
        write.settle(self).await?;
        write.commit(self, actor).await?;
        Ok((changed, refused))
    }

    /// Lets the database look at what it holds, so that it reads much that is new in the right way.
    pub(crate) async fn analyze(&self) -> Result<(), StoreError> {
        sqlx::query("ANALYZE").execute(&self.pool).await?;
        Ok(())
    }

    /// Configurations in the order of their tenants and keys, after one of them.
    pub(crate) async fn export(
        &self,
        after_tenant: &str,
        after_key: &str,
        limit: u32,
    ) -> Result<Vec<StoredConfig>, StoreError> {
        // An import takes no `schedule_since`, so an export has none.
        let rows = sqlx::query(
            "SELECT config_value, version, updated_at, CAST(NULL AS TEXT), tenant_id, config_key FROM configs
             WHERE (tenant_id, config_key) > ($1, $2) AND config_value IS NOT NULL
             ORDER BY tenant_id, config_key LIMIT $3",
        )
        .bind(after_tenant)
        .bind(after_key)
        .bind(i64::from(limit))
        .fetch(&self.pool);
        exported(rows, limit).await
    }

    /// The profiles of those who belong to an organization, in the order of the tenants, after one of them.
    pub(crate) async fn export_profiles_of_members(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredConfig>, StoreError> {
        let rows = sqlx::query(
            "SELECT config_value, version, updated_at, CAST(NULL AS TEXT), members.tenant_id, config_key FROM members
             JOIN configs ON configs.tenant_id = members.tenant_id AND config_key = $2
             WHERE members.tenant_id > $1 AND config_value IS NOT NULL ORDER BY members.tenant_id LIMIT $3",
        )
        .bind(after)
        .bind(PROFILE)
        .bind(i64::from(limit))
        .fetch(&self.pool);
        exported(rows, limit).await
    }

    /// The tenants whose id begins with `prefix`, after `after`, with whatever configurations they have.
    pub(crate) async fn tenants(
        &self,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        if [prefix, after].iter().any(|text| text.contains('\0')) {
            // No id has this character, and PostgreSQL takes no text with it.
            return Ok(Vec::new());
        }
        // One bound on either side, so that the index serves the range: SQLite would take the lower of two and read on from
        // there. The upper one is the character after all those of an id.
        Ok(sqlx::query_scalar(
            "SELECT DISTINCT tenant_id FROM configs
             WHERE tenant_id >= $1 AND tenant_id < $2 AND tenant_id <> $3 AND config_value IS NOT NULL
             ORDER BY tenant_id LIMIT $4",
        )
        .bind(prefix.max(after))
        .bind(format!("{prefix}~"))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }
}

/// A page of an export, of rows with the columns of [`ConfigRow::of`], the tenant and the key.
async fn exported(
    rows: BoxStream<'_, Result<AnyRow, sqlx::Error>>,
    limit: u32,
) -> Result<Vec<StoredConfig>, StoreError> {
    let config = |row: &AnyRow, _: Option<&str>| -> Result<Option<StoredConfig>, StoreError> {
        let id = ConfigId {
            tenant_id: TenantId::new(row.try_get::<&str, _>(4)?).map_err(StoreError::new)?,
            config_key: row.try_get(5)?,
        };
        Ok(id.config(ConfigRow::of(row, 0)?))
    };
    let (configs, _) = page_of(rows, limit, 0, config).await?;
    Ok(configs.into_iter().flatten().collect())
}

/// The rows that a page has room for, each as `read` reads it, and whether there are more. The text in the column `value` takes the
/// room, and `read` gets it.
pub(super) async fn page_of<T>(
    mut rows: BoxStream<'_, Result<AnyRow, sqlx::Error>>,
    limit: u32,
    value: usize,
    read: impl Fn(&AnyRow, Option<&str>) -> Result<T, StoreError>,
) -> Result<(Vec<T>, bool), StoreError> {
    let (mut page, mut room) = (Vec::new(), PageBudget::new(limit));
    while let Some(row) = rows.try_next().await? {
        let value: Option<&str> = row.try_get(value)?;
        if !room.takes(value.map_or(0, str::len)) {
            return Ok((page, true));
        }
        page.push(read(&row, value)?);
    }
    Ok((page, false))
}

/// What a page still has room for: a number of entries, and their bytes. The first entry always finds room.
pub(super) struct PageBudget {
    entries: u32,
    bytes: usize,
    empty: bool,
}

impl PageBudget {
    pub(super) fn new(entries: u32) -> Self {
        Self {
            entries,
            bytes: PAGE_BYTES,
            empty: true,
        }
    }

    /// Whether an entry of this length goes on the page; then it is on it.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.entries > 0 && (bytes <= self.bytes || self.empty);
        if fits {
            self.entries -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            self.empty = false;
        }
        fits
    }
}

async fn check_config_count(
    connection: &mut AnyConnection,
    id: &ConfigId,
) -> Result<(), ChangeError> {
    let configs: i64 = sqlx::query_scalar("SELECT count(*) FROM configs WHERE tenant_id = $1")
        .bind(id.tenant_id.as_str())
        .fetch_one(connection)
        .await
        .map_err(StoreError::new)?;
    if configs < MAX_CONFIGS_PER_TENANT {
        return Ok(());
    }
    let problem = Invalid::new(
        format!("exceeds the limit of {MAX_CONFIGS_PER_TENANT} configurations per tenant"),
        "use an existing config_key",
    );
    let error = problem.at("/config_key", Some(&Value::from(id.config_key.as_str())));
    Err(FieldErrors(vec![error]).into())
}
