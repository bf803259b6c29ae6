//! Everything that is held of one tenant: erased, and given out. What stays of an erasure is a row that names the tenant by a hash, and
//! an entry in the feed of each feature, from which agents learn to erase what they hold; the feed forgets it with its age.

use std::{collections::BTreeMap, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use punctual_application::tenant_hash;
use punctual_domain::{FeatureType, Shard, TenantId, visible};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row, any::AnyRow};
use utoipa::ToSchema;

use super::{
    ConfigStore, StoreError, features::FEATURE_NAMES, groups::is_of, instant, retention::Pace,
    writing::Write,
};

/// Characters of a reason.
const MAX_REASON: usize = 500;
/// Entries of a page of erased tenants.
const PAGE: u32 = 1_000;

/// Why a tenant is erased: text for those who read the list of erasures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

/// Text that cannot be a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the reason of an erasure needs 1 to {} characters, none of them a control character",
    MAX_REASON
)]
pub struct InvalidReason;

impl FromStr for Reason {
    type Err = InvalidReason;

    fn from_str(text: &str) -> Result<Self, InvalidReason> {
        let text = text.trim();
        let fits = !text.is_empty() && text.chars().count() <= MAX_REASON && visible(text) == text;
        fits.then(|| Self(text.to_owned())).ok_or(InvalidReason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an erasure has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erased {
    /// The first 16 characters of the BLAKE3 hash of the tenant's id, by which logs and the list of erasures name the tenant.
    pub tenant_hash: String,
    /// Time of the erasure.
    pub erased_at: DateTime<Utc>,
    /// Number of configurations, those that had been removed before among them.
    pub configurations: u64,
    /// Number of versions in their histories.
    pub versions: u64,
    /// Number of preferences, those that came from the tenant's organization alone among them.
    pub preferences: u64,
    /// Number of entries of the feed.
    pub changes: u64,
    /// Number of API keys.
    pub api_keys: u64,
}

impl Erased {
    /// Whether nothing was stored of the tenant. `changes` do not count: those that say `erased` stay.
    #[must_use]
    pub fn found_nothing(&self) -> bool {
        let kinds = [
            self.configurations,
            self.versions,
            self.preferences,
            self.api_keys,
        ];
        kinds.iter().all(|records| *records == 0)
    }
}

/// An erasure in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erasure {
    /// The first 16 characters of the BLAKE3 hash of the tenant's id.
    pub tenant_hash: String,
    /// Time of the erasure.
    pub erased_at: DateTime<Utc>,
    /// Name of the key that asked for it.
    pub actor: String,
    /// Why it was asked for.
    pub reason: String,
}

/// Everything that is held of a tenant: a list for each kind of record, such as `history`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(value_type = Object)]
pub struct TenantExport(pub BTreeMap<&'static str, Vec<Value>>);

/// A tenant that was erased, for agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErasedTenant {
    /// Id of the change that says so.
    id: i64,
    /// The tenant.
    pub(crate) tenant_id: String,
    /// Time of the erasure.
    pub(crate) erased_at: DateTime<Utc>,
}

/// A page of erased tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErasedPage {
    /// The tenants, in the order of their erasures.
    pub(crate) tenants: Vec<ErasedTenant>,
    /// Pass it as the next `since_id`.
    pub(crate) last_id: i64,
    /// Whether there are more.
    pub(crate) has_more: bool,
}

/// The erasures that the feed of the feature `$1` names after `$2`, `$3` of them, of tenants that have stored nothing since.
const ERASED_TENANTS: &str = "
    SELECT id, tenant_id, changed_at FROM changes
    WHERE change = 'erased' AND feature_type = $1 AND id > $2 AND NOT EXISTS (
        SELECT 1 FROM configs WHERE configs.tenant_id = changes.tenant_id AND config_value IS NOT NULL)
      AND NOT EXISTS (
        SELECT 1 FROM changes AS later
        WHERE later.tenant_id = changes.tenant_id AND later.id > changes.id AND later.change <> 'erased')
    ORDER BY id LIMIT $3";

/// How a column is shown.
#[derive(Clone, Copy)]
enum Column {
    Text,
    Number,
    Json,
    Instant,
}

/// A kind of record of an export.
struct Kind {
    name: &'static str,
    /// Reads the records of the tenant `$2`; `ROWS` stands for the features in `$1`, each `[feature]`.
    sql: &'static str,
    columns: &'static [(&'static str, Column)],
}

/// Everything that names a tenant, erased below.
const KINDS: [Kind; 8] = [
    Kind {
        name: "configs",
        sql: "SELECT config_key, config_value, version, updated_at FROM configs
              WHERE tenant_id = $2 AND $1 <> '' ORDER BY config_key",
        columns: &[
            ("config_key", Column::Text),
            ("config_value", Column::Json),
            ("version", Column::Number),
            ("updated_at", Column::Instant),
        ],
    },
    Kind {
        name: "history",
        sql: "SELECT config_key, version, config_value, changed_at, actor FROM config_history
              WHERE tenant_id = $2 AND $1 <> '' ORDER BY config_key, version",
        columns: &[
            ("config_key", Column::Text),
            ("version", Column::Number),
            ("config_value", Column::Json),
            ("changed_at", Column::Instant),
            ("actor", Column::Text),
        ],
    },
    Kind {
        name: "preferences",
        sql: "SELECT feature_type, preference, updated_at, schedule_since, organization FROM ROWS
              CROSS JOIN preferences WHERE feature_type = rows.value ->> 0 AND tenant_id = $2 ORDER BY feature_type",
        columns: &[
            ("feature_type", Column::Text),
            ("preference", Column::Json),
            ("updated_at", Column::Instant),
            ("schedule_since", Column::Instant),
            ("organization", Column::Json),
        ],
    },
    Kind {
        name: "invalid_preferences",
        sql: "SELECT feature_type, reason FROM ROWS
              CROSS JOIN invalid_preferences WHERE feature_type = rows.value ->> 0 AND tenant_id = $2
              ORDER BY feature_type",
        columns: &[("feature_type", Column::Text), ("reason", Column::Text)],
    },
    Kind {
        name: "changes",
        sql: "SELECT id, feature_type, change, preference, changed_at, organization FROM changes
              WHERE tenant_id = $2 AND $1 <> '' ORDER BY id",
        columns: &[
            ("id", Column::Number),
            ("feature_type", Column::Text),
            ("change", Column::Text),
            ("preference", Column::Json),
            ("changed_at", Column::Instant),
            ("organization", Column::Json),
        ],
    },
    Kind {
        name: "organizations",
        sql: "SELECT organization_id FROM members WHERE tenant_id = $2 AND $1 <> ''",
        columns: &[("organization_id", Column::Text)],
    },
    Kind {
        name: "api_keys",
        sql: "SELECT name, scope, created_at, expires_at FROM api_keys
              WHERE tenant_id = $2 AND $1 <> '' ORDER BY name, created_at",
        columns: &[
            ("name", Column::Text),
            ("scope", Column::Text),
            ("created_at", Column::Instant),
            ("expires_at", Column::Instant),
        ],
    },
    Kind {
        name: "sessions",
        sql: "SELECT name, sessions.expires_at FROM sessions JOIN api_keys ON hash = key_hash
              WHERE tenant_id = $2 AND $1 <> '' ORDER BY name, sessions.expires_at",
        columns: &[("api_key", Column::Text), ("expires_at", Column::Instant)],
    },
];

impl ConfigStore {
    /// Erases everything that is held of a tenant, and says so in the feed of every feature. It may be repeated, also where nothing is
    /// held: agents then erase once more what they hold.
    ///
    /// # Errors
    /// The store failed: then the erasure is to be repeated.
    pub async fn erase(
        &self,
        tenant_id: &TenantId,
        actor: &str,
        reason: &Reason,
    ) -> Result<Erased, StoreError> {
        // Most of what there may be, in portions, so that other writers are not kept waiting.
        let mut versions = 0;
        let mut pace = Pace::new();
        loop {
            pace.begin();
            let deleted = sqlx::query(
                "DELETE FROM config_history WHERE (tenant_id, config_key, version) IN (
                     SELECT tenant_id, config_key, version FROM config_history WHERE tenant_id = $1
                     ORDER BY config_key, version LIMIT $2)",
            )
            .bind(tenant_id.as_str())
            .bind(pace.rows())
            .execute(&self.pool)
            .await?;
            versions += deleted.rows_affected();
            if deleted.rows_affected() == 0 {
                break;
            }
            pace.end().await;
        }
        let mut write = Write::begin(self).await?;
        let erased = write.erase(tenant_id, actor, reason, versions).await;
        if erased.is_err() {
            self.write_failure.note(&erased);
        }
        let erased = erased?;
        write.commit_all(self, actor).await?;
        Ok(erased)
    }

    /// Everything that is held of a tenant, as it is at one moment. Secrets of keys and links are held as hashes alone, and are not
    /// shown.
    ///
    /// # Errors
    /// The store failed.
    pub async fn export_tenant(&self, tenant_id: &TenantId) -> Result<TenantExport, StoreError> {
        let mut snapshot = self.begin(self.dialect.begin_read()).await?;
        let features = features_of(&mut snapshot, tenant_id).await?;
        let features: Vec<Value> = features.iter().map(|name| json!([name])).collect();
        let features = Value::from(features).to_string();
        let mut export = BTreeMap::new();
        for kind in &KINDS {
            let rows = sqlx::query(self.dialect.rows(kind.sql))
                .bind(features.as_str())
                .bind(tenant_id.as_str())
                .fetch_all(&mut *snapshot)
                .await?;
            let records = rows.iter().map(|row| record(row, kind.columns));
            export.insert(kind.name, records.collect::<Result<_, _>>()?);
        }
        snapshot.rollback().await?;
        Ok(TenantExport(export))
    }

    /// Erasures, newest first: those before `before`, and whether there are more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn erasures(
        &self,
        before: Option<DateTime<Utc>>,
        limit: u32,
    ) -> Result<(Vec<Erasure>, bool), StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_hash, erased_at, actor, reason FROM erasures WHERE erased_at < $1
             ORDER BY erased_at DESC, tenant_hash LIMIT $2",
        )
        .bind(before.map_or(i64::MAX, |before| before.timestamp_micros()))
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.pool)
        .await?;
        let has_more = rows.len() > limit as usize;
        let erasures = rows.iter().take(limit as usize).map(|row| {
            Ok(Erasure {
                tenant_hash: row.try_get(0)?,
                erased_at: instant(row.try_get(1)?)?,
                actor: row.try_get(2)?,
                reason: row.try_get(3)?,
            })
        });
        Ok((erasures.collect::<Result<_, StoreError>>()?, has_more))
    }

    /// The tenants that the feed of a feature says were erased after the change `since_id`, and that have stored nothing since, of
    /// `shards` where there are any.
    pub(crate) async fn erased_tenants(
        &self,
        feature_type: &FeatureType,
        since_id: i64,
        shards: &[Shard],
    ) -> Result<ErasedPage, StoreError> {
        let rows = sqlx::query(ERASED_TENANTS)
            .bind(feature_type.as_str())
            .bind(since_id)
            .bind(i64::from(PAGE) + 1)
            .fetch_all(&self.pool)
            .await?;
        let page = PAGE as usize;
        let (mut tenants, mut last_id) = (Vec::new(), since_id);
        for row in rows.iter().take(page) {
            let erased = ErasedTenant {
                id: row.try_get(0)?,
                tenant_id: row.try_get(1)?,
                erased_at: instant(row.try_get(2)?)?,
            };
            last_id = erased.id;
            if is_of(shards, &erased.tenant_id) {
                tenants.push(erased);
            }
        }
        Ok(ErasedPage {
            tenants,
            last_id,
            has_more: rows.len() > page,
        })
    }
}

impl Write {
    /// Erases what is left of a tenant. `versions` have been erased before.
    async fn erase(
        &mut self,
        tenant_id: &TenantId,
        actor: &str,
        reason: &Reason,
        versions: u64,
    ) -> Result<Erased, StoreError> {
        let (dialect, at, floor) = (self.dialect(), self.now(), self.version_floor());
        let connection = self.connection();
        let features = features_of(connection, tenant_id).await?;
        let highest: i64 = sqlx::query_scalar(
            "SELECT max(version) FROM (
                 SELECT version FROM configs WHERE tenant_id = $1
                 UNION ALL SELECT version FROM config_history WHERE tenant_id = $1
                 UNION ALL SELECT CAST($2 AS BIGINT)) AS versions",
        )
        .bind(tenant_id.as_str())
        .bind(floor)
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query("UPDATE feed SET version_floor = $1")
            .bind(highest)
            .execute(&mut *connection)
            .await?;
        let of_tenant: Vec<Value> = features
            .iter()
            .map(|feature| json!([feature, tenant_id]))
            .collect();
        let of_tenant = Value::from(of_tenant).to_string();
        let mut by_feature = [0; 2];
        for (deleted, table) in by_feature
            .iter_mut()
            .zip(["preferences", "invalid_preferences"])
        {
            let statement = format!(
                "DELETE FROM {table} WHERE (feature_type, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM ROWS)"
            );
            let done = sqlx::query(dialect.rows(&statement))
                .bind(of_tenant.as_str())
                .execute(&mut *connection)
                .await?;
            *deleted = done.rows_affected();
        }
        let mut deleted = [0; 6];
        let statements = [
            "DELETE FROM sessions WHERE key_hash IN (SELECT hash FROM api_keys WHERE tenant_id = $1)",
            "DELETE FROM api_keys WHERE tenant_id = $1",
            "DELETE FROM members WHERE tenant_id = $1",
            "DELETE FROM changes WHERE tenant_id = $1",
            "DELETE FROM config_history WHERE tenant_id = $1",
            "DELETE FROM configs WHERE tenant_id = $1",
        ];
        for (deleted, statement) in deleted.iter_mut().zip(statements) {
            let done = sqlx::query(statement)
                .bind(tenant_id.as_str())
                .execute(&mut *connection)
                .await?;
            *deleted = done.rows_affected();
        }
        let tenant_hash = tenant_hash(tenant_id);
        sqlx::query(
            "INSERT INTO erasures (tenant_hash, erased_at, actor, reason) VALUES ($1, $2, $3, $4)
             ON CONFLICT (erased_at, tenant_hash) DO NOTHING",
        )
        .bind(tenant_hash.as_str())
        .bind(at.timestamp_micros())
        .bind(actor)
        .bind(reason.0.as_str())
        .execute(connection)
        .await?;
        for feature in &features {
            self.say_erased(tenant_id.as_str(), feature);
        }
        let [_, api_keys, _, changes, rest, configurations] = deleted;
        Ok(Erased {
            tenant_hash,
            erased_at: at,
            configurations,
            versions: versions + rest,
            preferences: by_feature[0],
            changes,
            api_keys,
        })
    }
}

/// The features that there are, and those that the feed names of a tenant.
async fn features_of(
    connection: &mut AnyConnection,
    tenant_id: &TenantId,
) -> Result<Vec<String>, StoreError> {
    let mut features: Vec<String> = sqlx::query_scalar(FEATURE_NAMES)
        .fetch_all(&mut *connection)
        .await?;
    let named: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT feature_type FROM changes WHERE tenant_id = $1")
            .bind(tenant_id.as_str())
            .fetch_all(connection)
            .await?;
    features.extend(named);
    features.sort_unstable();
    features.dedup();
    Ok(features)
}

/// A row as a JSON object.
fn record(row: &AnyRow, columns: &[(&str, Column)]) -> Result<Value, StoreError> {
    let field = |(index, (name, column)): (usize, &(&str, Column))| -> Result<_, StoreError> {
        let value = match column {
            Column::Text => json!(row.try_get::<Option<String>, _>(index)?),
            Column::Number => json!(row.try_get::<Option<i64>, _>(index)?),
            Column::Json => {
                let text: Option<&str> = row.try_get(index)?;
                let value = text.map(serde_json::from_str::<Value>).transpose();
                json!(value.map_err(StoreError::new)?)
            }
            Column::Instant => {
                let micros: Option<i64> = row.try_get(index)?;
                json!(micros.map(instant).transpose()?)
            }
        };
        Ok(((*name).to_owned(), value))
    };
    let fields = columns.iter().enumerate().map(field);
    Ok(Value::Object(fields.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_short_text_that_can_be_shown() {
        for text in ["request of the person", "  Artikel 17 DSGVO  "] {
            let reason: Reason = text.parse().unwrap();
            assert_eq!(reason.to_string(), text.trim());
        }
        for text in ["", "  ", "two\nlines", &"x".repeat(MAX_REASON + 1)] {
            assert_eq!(text.parse::<Reason>(), Err(InvalidReason), "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_list_of_erased_tenants_reads_no_other_change() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!(
            "EXPLAIN QUERY PLAN {ERASED_TENANTS}"
        )))
        .bind("posts")
        .bind(0_i64)
        .bind(10_i64)
        .fetch_all(&store.pool)
        .await
        .unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(
            steps.iter().any(|step| step.contains("changes_erased")),
            "{steps:?}"
        );
    }
}
