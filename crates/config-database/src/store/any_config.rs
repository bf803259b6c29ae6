//! What is the same for all configurations, a tenant's and an organization's: they are read, edited, and kept in a history.

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{Row, any::AnyRow};

use super::{
    ChangeError, ConfigStore, Expected, PastConfig, StoreError,
    configs::{ATTEMPTS, page_of},
    instant,
    stored::ConfigRow,
};
use crate::validate::CheckedConfig;

/// Identifies a configuration: one of a tenant's, or the preferences of an organization.
pub(crate) trait AnyConfigId {
    /// The configuration as it is stored.
    type Config: AnyConfig;

    /// Reads the columns of [`ConfigRow::of`] of the owner `$1` and the key `$2`, with `SCHEDULES` where there are any.
    const ROW: &'static str;

    /// Reads the version, value, time and actor of those of the owner `$1` and key `$2` before `$3`, newest first, `$4` of them.
    const HISTORY: &'static str;

    /// The owner and the key.
    fn names(&self) -> (&str, &str);

    /// The configuration in a row, if there is one.
    fn config(&self, row: ConfigRow) -> Option<Self::Config>;

    /// Checks what is to take the place of the value `stored`.
    async fn check(
        &self,
        store: &ConfigStore,
        value: Value,
        stored: &Map<String, Value>,
    ) -> Result<CheckedConfig, ChangeError>;

    /// Stores a configuration, or removes it, and brings up to date what depends on it. Returns what is stored now, and the newest
    /// change of the feed.
    async fn change(
        &self,
        store: &ConfigStore,
        expected: &Expected,
        actor: &str,
        config: Option<CheckedConfig>,
    ) -> Result<(Option<Self::Config>, i64), ChangeError>;
}

/// A configuration as it is stored.
pub(crate) trait AnyConfig: Serialize {
    fn version(&self) -> i64;

    /// Leaves out the features that may not be seen.
    fn retain(&mut self, may_see: impl Fn(&str) -> bool);
}

impl ConfigStore {
    pub(crate) async fn config<I: AnyConfigId>(
        &self,
        id: &I,
    ) -> Result<Option<I::Config>, StoreError> {
        Ok(id.config(self.row(id).await?))
    }

    async fn row(&self, id: &impl AnyConfigId) -> Result<ConfigRow, StoreError> {
        let mut connection = self.pool.acquire().await?;
        ConfigRow::read(&mut connection, self.dialect, id).await
    }

    /// Changes a configuration to what `make` makes of the value that is stored. It is made and checked before the store
    /// is locked, and made anew when another write comes between.
    pub(crate) async fn edit<I: AnyConfigId>(
        &self,
        id: &I,
        expected: &Expected,
        actor: &str,
        make: impl Fn(Option<&Map<String, Value>>) -> Result<Value, ChangeError>,
    ) -> Result<(Option<I::Config>, i64), ChangeError> {
        for _ in 0..ATTEMPTS {
            let seen = self.row(id).await?;
            let version = seen.current();
            expected.check(version)?;
            let made = make(seen.value.as_ref())?;
            let stored = seen.value.unwrap_or_default();
            let config = id.check(self, made, &stored).await?;
            let seen = Expected {
                same_organization: expected.same_organization,
                ..Expected::seen(version)
            };
            match id.change(self, &seen, actor, Some(config)).await {
                Err(ChangeError::Unexpected(_)) => {}
                changed => return changed,
            }
        }
        Err(ChangeError::Busy)
    }

    /// The versions before `before`, newest first, and whether there are more.
    pub(crate) async fn history<I: AnyConfigId>(
        &self,
        id: &I,
        before: i64,
        limit: u32,
    ) -> Result<(Vec<PastConfig>, bool), StoreError> {
        let (owner, key) = id.names();
        let rows = sqlx::query(I::HISTORY)
            .bind(owner)
            .bind(key)
            .bind(before)
            .bind(i64::from(limit) + 1)
            .fetch(&self.pool);
        let version = |row: &AnyRow, value: Option<&str>| -> Result<PastConfig, StoreError> {
            let value = value.map(serde_json::from_str).transpose();
            Ok(PastConfig {
                version: row.try_get(0)?,
                config_value: value.map_err(StoreError::new)?,
                changed_at: instant(row.try_get(2)?)?,
                actor: row.try_get(3)?,
            })
        };
        page_of(rows, limit, 1, version).await
    }

    /// The value at a version, `Some(None)` where it was removed or had not been stored yet; `None`: the version is not kept.
    pub(crate) async fn past(
        &self,
        id: &impl AnyConfigId,
        version: i64,
    ) -> Result<Option<Option<Map<String, Value>>>, StoreError> {
        if version == 0 {
            return Ok(Some(None));
        }
        let (past, _) = self.history(id, version.saturating_add(1), 1).await?;
        let past = past.into_iter().find(|past| past.version == version);
        Ok(past.map(|past| past.config_value))
    }
}
