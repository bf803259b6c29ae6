//! A write: configurations, their history, the preferences in them, and the feed, in bulk. Features are compared
//! before and after; every difference, and only differences, enters the feed.

use chrono::{DateTime, Utc};
use punctual_domain::TenantId;
use serde_json::{Map, Value, json};
use sqlx::{Any, AnyConnection, Transaction};

use super::{
    ConfigId, ConfigStore, StoreError, dialect::Dialect, feed::FeedState, groups::slot_of, now,
    stored::Stored,
};
use crate::validate::{CheckedConfig, FEATURE_PREFERENCES};

/// What a configuration is to become.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) id: ConfigId,
    /// `None`: it is removed.
    pub(crate) config: Option<CheckedConfig>,
    /// When the system it comes from stored it. Later than now counts as now.
    pub(crate) updated_at: DateTime<Utc>,
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
        })
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Adds an edit of what is `stored`, and returns what will be.
    pub(super) fn add(&mut self, edit: Edit, stored: Stored) -> Stored {
        let Edit {
            id,
            config,
            updated_at,
        } = edit;
        let value = config.as_ref().map(|config| &config.value);
        if value == stored.value.as_ref() {
            return stored;
        }
        let version = stored.version + 1;
        let at = updated_at.min(self.now);
        self.configs.push(json!([
            id.tenant_id,
            id.config_key,
            value,
            version,
            at.timestamp_micros()
        ]));
        if id.config_key == FEATURE_PREFERENCES {
            let before = stored.value.unwrap_or_default();
            self.compare(&id.tenant_id, &before, config.as_ref(), at);
        }
        Stored {
            value: config.map(|config| config.value),
            version,
            updated_at: at,
        }
    }

    fn compare(
        &mut self,
        tenant_id: &TenantId,
        before: &Map<String, Value>,
        config: Option<&CheckedConfig>,
        at: DateTime<Utc>,
    ) {
        let features = config.map_or(&[][..], |config| &config.features);
        let after = config.map(|config| &config.value);
        for (feature, enabled) in features {
            let feature = feature.as_str();
            let Some(preference) = after.and_then(|after| after.get(feature)) else {
                continue;
            };
            if before.get(feature) != Some(preference) {
                self.stored_preferences.push(json!([
                    feature,
                    tenant_id,
                    u8::from(*enabled),
                    slot_of(preference),
                    preference,
                    at.timestamp_micros()
                ]));
                self.change(tenant_id, feature, Some(preference), at);
            }
        }
        let gone = |feature: &&String| after.is_none_or(|after| !after.contains_key(*feature));
        for feature in before.keys().filter(gone) {
            self.removed_preferences.push(json!([feature, tenant_id]));
            self.change(tenant_id, feature, None, at);
        }
    }

    fn change(
        &mut self,
        tenant_id: &TenantId,
        feature: &str,
        preference: Option<&Value>,
        at: DateTime<Utc>,
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
            preference,
            at.timestamp_micros()
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
        let recorded_at = self.now.timestamp_micros();
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
        if !self.stored_preferences.is_empty() {
            sqlx::query(dialect.rows(
                "INSERT INTO preferences (feature_type, tenant_id, enabled, slot, preference, updated_at)
                 SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4,
                     CAST(value ->> 5 AS BIGINT)
                 FROM ROWS WHERE true
                 ON CONFLICT (feature_type, tenant_id) DO UPDATE SET enabled = excluded.enabled,
                     slot = excluded.slot, preference = excluded.preference, updated_at = excluded.updated_at",
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
                     (id, tenant_id, config_key, feature_type, change, preference, changed_at, recorded_at)
                 SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, $2, value ->> 2, value ->> 3, value ->> 4,
                     CAST(value ->> 5 AS BIGINT), $3
                 FROM ROWS",
            ))
            .bind(Value::from(self.changes).to_string())
            .bind(FEATURE_PREFERENCES)
            .bind(recorded_at)
            .execute(&mut *connection)
            .await?;
            sqlx::query("UPDATE feed SET head = $1")
                .bind(self.head)
                .execute(&mut *connection)
                .await?;
            store.announce(connection).await?;
        }
        let state = FeedState::read(connection).await?;
        self.transaction.commit().await?;
        store.saw(state);
        Ok(self.head)
    }
}
