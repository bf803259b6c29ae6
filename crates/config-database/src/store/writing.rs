//! A write: configurations, their history, the preferences in them, and the feed, in bulk. Features are compared
//! before and after; every difference, and only differences, enters the feed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, TenantId, same_schedule};
use serde_json::{Map, Value, json};
use sqlx::{Any, AnyConnection, Transaction};

use super::{
    ConfigId, ConfigStore, StoreError, dialect::Dialect, feed::FeedState, groups::slot_of, now,
    quarantine::note_problems, stored::ConfigRow,
};
use crate::{
    import::NewSchedules,
    validate::{CheckedConfig, FEATURE_PREFERENCES},
};

/// Versions of a configuration that are kept, beside the one that is stored.
const MAX_VERSIONS: i64 = 1_000;
/// Characters of a configuration's kept versions together, and of one tenant's changes in the feed that newer ones have
/// replaced.
const MAX_VERSION_CHARACTERS: i64 = 4 * 1024 * 1024;
/// Changes of one tenant that are kept although newer ones have replaced them.
const MAX_REPLACED_CHANGES: i64 = 1_000;
/// How far back changes are looked at for that.
const MAX_CHANGES_EXAMINED: i64 = 100_000;
/// Old versions and changes are looked for with every so many versions of a configuration.
const CLEANUP_INTERVAL: i64 = 16;

/// What a configuration is to become.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) id: ConfigId,
    /// `None`: it is removed.
    pub(crate) config: Option<CheckedConfig>,
    /// When the system it comes from stored it. Later than now counts as now, before 1970 as 1970.
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) new_schedules: NewSchedules,
}

/// A write under way: the only one there is.
pub(super) struct Write {
    transaction: Transaction<'static, Any>,
    dialect: Dialect,
    now: DateTime<Utc>,
    /// The id of the newest change, those of this write included.
    head: i64,
    // Rows to be written, each an array in the order its statement reads.
    configs: Vec<Value>,
    stored_preferences: Vec<Value>,
    removed_preferences: Vec<Value>,
    changes: Vec<Value>,
    /// What old versions and changes are to be looked for of.
    to_tidy: Vec<Value>,
}

impl Write {
    pub(super) async fn begin(store: &ConfigStore) -> Result<Self, StoreError> {
        let begun = Self::begin_locked(store).await;
        if begun.is_err() {
            store.write_failure.note(&begun);
        }
        begun
    }

    async fn begin_locked(store: &ConfigStore) -> Result<Self, StoreError> {
        let dialect = store.dialect;
        let mut transaction = store.begin(dialect.begin_write()).await?;
        let head = sqlx::query_scalar(dialect.lock_feed())
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Self {
            transaction,
            dialect,
            now: now(),
            head,
            configs: Vec::new(),
            stored_preferences: Vec::new(),
            removed_preferences: Vec::new(),
            changes: Vec::new(),
            to_tidy: Vec::new(),
        })
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Commits what was written through the connection.
    pub(super) async fn commit_rest(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// Adds an edit of what is `stored`, and returns what will be.
    pub(super) fn add(&mut self, edit: Edit, stored: ConfigRow) -> ConfigRow {
        let Edit {
            id,
            config,
            updated_at,
            new_schedules,
        } = edit;
        let value = config.as_ref().map(|config| &config.value);
        if value == stored.value.as_ref() {
            return stored;
        }
        let version = stored.version + 1;
        let at = updated_at.clamp(DateTime::UNIX_EPOCH, self.now);
        self.configs.push(json!([
            id.tenant_id,
            id.config_key,
            value,
            version,
            at.timestamp_micros()
        ]));
        if version % CLEANUP_INTERVAL == 0 {
            self.to_tidy.push(json!([id.tenant_id, id.config_key]));
        }
        let mut schedule_since = BTreeMap::new();
        if id.config_key == FEATURE_PREFERENCES {
            let new_since = match new_schedules {
                NewSchedules::SinceNow => self.now,
                NewSchedules::SinceUpdatedAt => at,
            };
            schedule_since = self.compare(&id.tenant_id, &stored, config.as_ref(), at, new_since);
        }
        ConfigRow {
            value: config.map(|config| config.value),
            version,
            updated_at: at,
            schedule_since,
        }
    }

    /// Finds what differs, feature by feature. Returns since when each schedule is as it is.
    fn compare(
        &mut self,
        tenant_id: &TenantId,
        stored: &ConfigRow,
        config: Option<&CheckedConfig>,
        at: DateTime<Utc>,
        new_since: DateTime<Utc>,
    ) -> BTreeMap<String, DateTime<Utc>> {
        let none = Map::new();
        let before = stored.value.as_ref().unwrap_or(&none);
        let mut schedules = BTreeMap::new();
        let features = config.map_or(&[][..], |config| &config.features);
        let problems = config.map(|config| &config.problems);
        let after = config.map(|config| &config.value);
        for (feature, enabled) in features {
            let feature = feature.as_str();
            let Some(preference) = after.and_then(|after| after.get(feature)) else {
                continue;
            };
            let old = before.get(feature);
            let since = match old {
                None => new_since,
                Some(old) if says_the_same_when(old, preference) => {
                    let since = stored.schedule_since.get(feature);
                    since.copied().unwrap_or(stored.updated_at)
                }
                Some(_) => self.now,
            };
            schedules.insert(feature.to_owned(), since);
            if old != Some(preference) {
                self.stored_preferences.push(json!([
                    feature,
                    tenant_id,
                    u8::from(*enabled),
                    slot_of(preference),
                    preference,
                    at.timestamp_micros(),
                    since.timestamp_micros(),
                    problems.and_then(|problems| problems.get(feature))
                ]));
                self.change(tenant_id, feature, Some((preference, since)));
            }
        }
        let gone = |feature: &&String| after.is_none_or(|after| !after.contains_key(*feature));
        for feature in before.keys().filter(gone) {
            self.removed_preferences.push(json!([feature, tenant_id]));
            self.change(tenant_id, feature, None);
        }
        schedules
    }

    fn change(
        &mut self,
        tenant_id: &TenantId,
        feature: &str,
        preference: Option<(&Value, DateTime<Utc>)>,
    ) {
        self.head += 1;
        self.changes.push(json!([
            self.head,
            tenant_id,
            feature,
            if preference.is_some() {
                "upserted"
            } else {
                "deleted"
            },
            preference.map(|(preference, _)| preference),
            self.now.timestamp_micros(),
            preference.map(|(_, since)| since.timestamp_micros())
        ]));
    }

    /// Writes everything and returns the id of the newest change.
    pub(super) async fn commit(self, store: &ConfigStore, actor: &str) -> Result<i64, StoreError> {
        if self.configs.is_empty() {
            return Ok(self.head);
        }
        let written = self.write(store, actor).await;
        store.write_failure.note(&written);
        written
    }

    async fn write(mut self, store: &ConfigStore, actor: &str) -> Result<i64, StoreError> {
        let dialect = self.dialect;
        let connection = &mut *self.transaction;
        let configs = Value::from(self.configs).to_string();
        sqlx::query(dialect.rows(
            "INSERT INTO config_history (tenant_id, config_key, config_value, version, changed_at, actor)
             SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT), $2
             FROM ROWS",
        ))
        .bind(configs.as_str())
        .bind(actor)
        .execute(&mut *connection)
        .await?;
        sqlx::query(dialect.rows(
            "INSERT INTO configs (tenant_id, config_key, config_value, version, updated_at)
             SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT)
             FROM ROWS WHERE true
             ON CONFLICT (tenant_id, config_key) DO UPDATE SET
                 config_value = excluded.config_value, version = excluded.version, updated_at = excluded.updated_at",
        ))
        .bind(configs)
        .execute(&mut *connection)
        .await?;
        let stored = self.stored_preferences.iter().map(|row| {
            let feature = row[0].as_str().and_then(|name| FeatureType::new(name).ok());
            let preference = row[4].as_object();
            let cannot_run = || {
                let (feature, preference) = feature.zip(preference)?;
                store.cannot_run(&feature, preference)
            };
            let known = row[7].as_str().map(str::to_owned);
            json!([row[0], row[1], known.or_else(cannot_run)])
        });
        let removed = self.removed_preferences.iter();
        let removed = removed.map(|row| json!([row[0], row[1], null]));
        let problems = stored.chain(removed).collect();
        note_problems(connection, dialect, problems).await?;
        if !self.stored_preferences.is_empty() {
            sqlx::query(dialect.rows(
                "INSERT INTO preferences
                     (feature_type, tenant_id, enabled, slot, preference, updated_at, schedule_since)
                 SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4,
                     CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT)
                 FROM ROWS WHERE true
                 ON CONFLICT (feature_type, tenant_id) DO UPDATE SET enabled = excluded.enabled,
                     slot = excluded.slot, preference = excluded.preference, updated_at = excluded.updated_at,
                     schedule_since = excluded.schedule_since",
            ))
            .bind(Value::from(self.stored_preferences).to_string())
            .execute(&mut *connection)
            .await?;
        }
        if !self.removed_preferences.is_empty() {
            sqlx::query(dialect.rows(
                "DELETE FROM preferences
                 WHERE (feature_type, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM ROWS)",
            ))
            .bind(Value::from(self.removed_preferences).to_string())
            .execute(&mut *connection)
            .await?;
        }
        if !self.changes.is_empty() {
            sqlx::query(dialect.rows(
                "INSERT INTO changes
                     (id, tenant_id, config_key, feature_type, change, preference, changed_at, recorded_at,
                      schedule_since)
                 SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, $2, value ->> 2, value ->> 3, value ->> 4,
                     CAST(value ->> 5 AS BIGINT), CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT)
                 FROM ROWS",
            ))
            .bind(Value::from(self.changes).to_string())
            .bind(FEATURE_PREFERENCES)
            .execute(&mut *connection)
            .await?;
            sqlx::query("UPDATE feed SET head = $1")
                .bind(self.head)
                .execute(&mut *connection)
                .await?;
            store.announce(connection).await?;
        }
        if !self.to_tidy.is_empty() {
            let configs = Value::from(self.to_tidy).to_string();
            delete_old(connection, dialect, configs, self.head).await?;
        }
        let state = FeedState::read(connection).await?;
        self.transaction.commit().await?;
        store.saw(state);
        Ok(self.head)
    }
}

/// Whether two stored preferences say the same about when.
fn says_the_same_when(one: &Value, other: &Value) -> bool {
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => same_schedule(one, other),
        _ => false,
    }
}

/// Forgets old versions of `configs`, and changes of their tenants that newer ones have replaced: a reader who comes late
/// sees the newer ones. So the store does not grow without end, whatever a tenant writes.
async fn delete_old(
    connection: &mut AnyConnection,
    dialect: Dialect,
    configs: String,
    head: i64,
) -> Result<(), StoreError> {
    sqlx::query(dialect.rows(
        "DELETE FROM config_history WHERE (tenant_id, config_key, version) IN (
             SELECT tenant_id, config_key, version FROM (
                 SELECT tenant_id, config_key, version,
                     row_number() OVER newest_first AS place, sum(length(config_value)) OVER newest_first AS total
                 FROM ROWS JOIN config_history ON tenant_id = rows.value ->> 0 AND config_key = rows.value ->> 1
                 WINDOW newest_first AS (PARTITION BY tenant_id, config_key ORDER BY version DESC)) AS versions
             WHERE place > 1 AND (place > $2 OR total > $3))",
    ))
    .bind(configs.as_str())
    .bind(MAX_VERSIONS)
    .bind(MAX_VERSION_CHARACTERS)
    .execute(&mut *connection)
    .await?;
    sqlx::query(dialect.rows(
        "DELETE FROM changes WHERE id IN (
             SELECT id FROM (
                 SELECT id, row_number() OVER newest_first AS place, sum(length(preference)) OVER newest_first AS total,
                     row_number() OVER (PARTITION BY tenant_id, feature_type ORDER BY id DESC) AS of_feature
                 FROM changes WHERE tenant_id IN (SELECT rows.value ->> 0 FROM ROWS) AND id > $4
                 WINDOW newest_first AS (PARTITION BY tenant_id ORDER BY id DESC)) AS own
             WHERE of_feature > 1 AND (place > $2 OR total > $3))",
    ))
    .bind(configs)
    .bind(MAX_REPLACED_CHANGES)
    .bind(MAX_VERSION_CHARACTERS)
    .bind(head - MAX_CHANGES_EXAMINED)
    .execute(connection)
    .await?;
    Ok(())
}
