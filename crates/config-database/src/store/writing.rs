//! A write: configurations, their history, the preferences in them, and the feed, in bulk. Features are compared
//! before and after; every difference, and only differences, enters the feed. The preferences of members of organizations are
//! those that `members` makes of theirs and the organization's.

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, TenantId, same_schedule};
use serde_json::{Map, Value, json};
use sqlx::{Any, AnyConnection, Row, Transaction};

use super::{
    ConfigId, ConfigStore, StoreError,
    dialect::Dialect,
    feed::{ERASED, FeedState},
    groups::slot_of,
    members::{Members, Schedules},
    now,
    quarantine::note_problems,
    stored::ConfigRow,
};
use crate::{
    import::NewSchedules,
    validate::{CheckedConfig, FEATURE_PREFERENCES},
};

/// Versions of a configuration that are kept, beside the one that is stored.
pub(super) const MAX_VERSIONS: i64 = 1_000;
/// Characters of a configuration's kept versions together, and of one tenant's changes in the feed that newer ones have
/// replaced.
pub(super) const MAX_VERSION_CHARACTERS: i64 = 4 * 1024 * 1024;
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

/// Preferences of a tenant that a write edits, or that it keeps while the tenant moves to another organization.
#[derive(Debug)]
pub(super) struct Edited {
    pub(super) tenant_id: TenantId,
    pub(super) before: ConfigRow,
    config: Option<CheckedConfig>,
    pub(super) at: DateTime<Utc>,
    /// Since when those count that were not there before.
    pub(super) new_since: DateTime<Utc>,
    pub(super) is_edit: bool,
}

impl Edited {
    /// Those that stay as they are stored.
    pub(super) fn kept(tenant_id: TenantId, stored: ConfigRow, now: DateTime<Utc>) -> Self {
        Self {
            tenant_id,
            before: stored,
            config: None,
            at: now,
            new_since: now,
            is_edit: false,
        }
    }

    /// What is stored after the write.
    pub(super) fn value(&self) -> Option<&Map<String, Value>> {
        if self.is_edit {
            self.config.as_ref().map(|config| &config.value)
        } else {
            self.before.value.as_ref()
        }
    }

    /// What is known to be wrong with the preference for a feature.
    pub(super) fn problem(&self, feature: &str) -> Option<&str> {
        let problems = self.config.as_ref().map(|config| &config.problems);
        problems?.get(feature).map(String::as_str)
    }
}

/// What the table `preferences` holds for a tenant and a feature.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) preference: Value,
    pub(super) since: DateTime<Utc>,
    /// The tenant's organization, and which fields came from it.
    pub(super) organization: Option<Value>,
}

/// What it is to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'w> {
    pub(super) preference: &'w Value,
    pub(super) organization: Option<&'w Value>,
    /// What is known to be wrong with it.
    pub(super) problem: Option<&'w str>,
}

/// A write under way: the only one there is.
pub(super) struct Write {
    transaction: Transaction<'static, Any>,
    dialect: Dialect,
    now: DateTime<Utc>,
    /// The id of the newest change, those of this write included.
    head: i64,
    /// The highest version that a configuration of an erased tenant has had.
    version_floor: i64,
    /// Whether this write has made a change.
    changes_feed: bool,
    members: Members,
    /// The preferences that it edits, until they are placed.
    edited: Vec<Edited>,
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
        let feed = sqlx::query(dialect.lock_feed())
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Self {
            dialect,
            now: now(),
            head: feed.try_get(0)?,
            version_floor: feed.try_get(1)?,
            transaction,
            changes_feed: false,
            members: Members::default(),
            edited: Vec::new(),
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

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The moment of the write.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(super) fn members(&mut self) -> &mut Members {
        &mut self.members
    }

    pub(super) fn take_edited(&mut self) -> Vec<Edited> {
        std::mem::take(&mut self.edited)
    }

    /// Commits what was written through the connection.
    pub(super) async fn commit_rest(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// Adds an edit of what is `stored`, and returns the version and the time of what will be. What follows for the feed is found when
    /// the write is [settled](Self::settle).
    pub(super) fn add(&mut self, edit: Edit, stored: ConfigRow) -> (i64, DateTime<Utc>) {
        let Edit {
            id,
            config,
            updated_at,
            new_schedules,
        } = edit;
        let value = config.as_ref().map(|config| &config.value);
        if value == stored.value.as_ref() {
            return (stored.version, stored.updated_at);
        }
        // What was erased does not come again with a version that it had.
        let before = if stored.version == 0 {
            self.version_floor
        } else {
            stored.version
        };
        let version = before + 1;
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
        if id.config_key == FEATURE_PREFERENCES {
            self.edited.push(Edited {
                tenant_id: id.tenant_id,
                before: stored,
                config,
                at,
                new_since: match new_schedules {
                    NewSchedules::SinceNow => self.now,
                    NewSchedules::SinceUpdatedAt => at,
                },
                is_edit: true,
            });
        }
        (version, at)
    }

    /// Places the preferences of a tenant without an organization, feature by feature. Returns since when each schedule is as it is.
    pub(super) fn compare(&mut self, edited: &Edited) -> Schedules {
        let none = Map::new();
        let before = edited.before.value.as_ref().unwrap_or(&none);
        let (tenant_id, after) = (edited.tenant_id.as_str(), edited.value());
        let times = (edited.at, edited.new_since);
        let placed = |feature: &str| {
            let since = edited.before.schedule_since.get(feature).copied();
            Some(Placed {
                preference: before.get(feature)?.clone(),
                since: since.unwrap_or(edited.before.updated_at),
                organization: None,
            })
        };
        let mut schedules = Schedules::new();
        let features = edited
            .config
            .as_ref()
            .map_or(&[][..], |config| &config.features);
        for feature in features {
            let feature = feature.as_str();
            let Some(preference) = after.and_then(|after| after.get(feature)) else {
                continue;
            };
            let wanted = Wanted {
                preference,
                organization: None,
                problem: edited.problem(feature),
            };
            let placed = placed(feature);
            let since = self.place(tenant_id, feature, placed.as_ref(), Some(wanted), times);
            schedules.extend(since.map(|since| (feature.to_owned(), since)));
        }
        let gone = |feature: &&String| after.is_none_or(|after| !after.contains_key(*feature));
        for feature in before.keys().filter(gone) {
            self.place(tenant_id, feature, placed(feature).as_ref(), None, times);
        }
        schedules
    }

    /// Puts what is wanted of a tenant for a feature in place of what there is, and into the feed where it differs. `times` are when it
    /// was changed, and since when it counts where there was nothing. Returns since when its schedule is as it is.
    pub(super) fn place(
        &mut self,
        tenant_id: &str,
        feature: &str,
        before: Option<&Placed>,
        wanted: Option<Wanted<'_>>,
        times: (DateTime<Utc>, DateTime<Utc>),
    ) -> Option<DateTime<Utc>> {
        let Some(wanted) = wanted else {
            if before.is_some() {
                self.removed_preferences.push(json!([feature, tenant_id]));
                self.change(tenant_id, feature, "deleted", None);
            }
            return None;
        };
        let (at, new_since) = times;
        let since = match before {
            None => new_since,
            Some(before) if says_the_same_when(&before.preference, wanted.preference) => {
                before.since
            }
            Some(_) => self.now,
        };
        let is_there = before.is_some_and(|before| {
            before.preference == *wanted.preference
                && before.organization.as_ref() == wanted.organization
        });
        if !is_there {
            let is_off = wanted.preference.get("enabled") == Some(&Value::Bool(false));
            self.stored_preferences.push(json!([
                feature,
                tenant_id,
                u8::from(!is_off),
                slot_of(wanted.preference),
                wanted.preference,
                at.timestamp_micros(),
                since.timestamp_micros(),
                wanted.problem,
                wanted.organization
            ]));
            self.change(tenant_id, feature, "upserted", Some((wanted, since)));
        }
        Some(since)
    }

    /// Says in the feed of a feature that the tenant was erased.
    pub(super) fn say_erased(&mut self, tenant_id: &str, feature: &str) {
        self.change(tenant_id, feature, ERASED, None);
    }

    /// The highest version that a configuration of an erased tenant has had.
    pub(super) fn version_floor(&self) -> i64 {
        self.version_floor
    }

    fn change(
        &mut self,
        tenant_id: &str,
        feature: &str,
        change: &str,
        wanted: Option<(Wanted<'_>, DateTime<Utc>)>,
    ) {
        self.head += 1;
        self.changes.push(json!([
            self.head,
            tenant_id,
            feature,
            change,
            wanted.map(|(wanted, _)| wanted.preference),
            self.now.timestamp_micros(),
            wanted.map(|(_, since)| since.timestamp_micros()),
            wanted.and_then(|(wanted, _)| wanted.organization)
        ]));
    }

    /// Writes everything and returns the id of the newest change.
    pub(super) async fn commit(self, store: &ConfigStore, actor: &str) -> Result<i64, StoreError> {
        if self.configs.is_empty() && !self.members.have_moved() {
            return Ok(self.head);
        }
        let written = self.write(store, actor).await;
        store.write_failure.note(&written);
        written
    }

    /// The same, where something was written through the connection.
    pub(super) async fn commit_all(
        self,
        store: &ConfigStore,
        actor: &str,
    ) -> Result<i64, StoreError> {
        let written = self.write(store, actor).await;
        store.write_failure.note(&written);
        written
    }

    async fn write(mut self, store: &ConfigStore, actor: &str) -> Result<i64, StoreError> {
        let dialect = self.dialect;
        let connection = &mut *self.transaction;
        let configs = Value::from(std::mem::take(&mut self.configs)).to_string();
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
        self.flush(store).await?;
        let connection = &mut *self.transaction;
        if self.changes_feed {
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

    /// Writes the preferences and the changes that were found until now, so that they need not be kept.
    pub(super) async fn flush(&mut self, store: &ConfigStore) -> Result<(), StoreError> {
        let dialect = self.dialect;
        let stored_preferences = std::mem::take(&mut self.stored_preferences);
        let removed_preferences = std::mem::take(&mut self.removed_preferences);
        let changes = std::mem::take(&mut self.changes);
        let connection = &mut *self.transaction;
        let stored = stored_preferences.iter().map(|row| {
            let feature = row[0].as_str().and_then(|name| FeatureType::new(name).ok());
            let preference = row[4].as_object();
            let cannot_run = || {
                let (feature, preference) = feature.zip(preference)?;
                store.cannot_run(&feature, preference)
            };
            let known = row[7].as_str().map(str::to_owned);
            json!([row[0], row[1], known.or_else(cannot_run)])
        });
        let removed = removed_preferences.iter();
        let removed = removed.map(|row| json!([row[0], row[1], null]));
        let problems = stored.chain(removed).collect();
        note_problems(connection, dialect, problems).await?;
        if !stored_preferences.is_empty() {
            sqlx::query(dialect.rows(
                "INSERT INTO preferences
                     (feature_type, tenant_id, enabled, slot, preference, updated_at, schedule_since, organization)
                 SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4,
                     CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), value ->> 8
                 FROM ROWS WHERE true
                 ON CONFLICT (feature_type, tenant_id) DO UPDATE SET enabled = excluded.enabled,
                     slot = excluded.slot, preference = excluded.preference, updated_at = excluded.updated_at,
                     schedule_since = excluded.schedule_since, organization = excluded.organization",
            ))
            .bind(Value::from(stored_preferences).to_string())
            .execute(&mut *connection)
            .await?;
        }
        if !removed_preferences.is_empty() {
            sqlx::query(dialect.rows(
                "DELETE FROM preferences
                 WHERE (feature_type, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM ROWS)",
            ))
            .bind(Value::from(removed_preferences).to_string())
            .execute(&mut *connection)
            .await?;
        }
        if !changes.is_empty() {
            self.changes_feed = true;
            sqlx::query(dialect.rows(
                "INSERT INTO changes
                     (id, tenant_id, config_key, feature_type, change, preference, changed_at, recorded_at,
                      schedule_since, organization)
                 SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, $2, value ->> 2, value ->> 3, value ->> 4,
                     CAST(value ->> 5 AS BIGINT), CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT),
                     value ->> 7
                 FROM ROWS",
            ))
            .bind(Value::from(changes).to_string())
            .bind(FEATURE_PREFERENCES)
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
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
