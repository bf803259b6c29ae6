//! The feed of changes, in the order of their ids.

use std::time::Duration;

use chrono::{DateTime, Utc};
use punctual_domain::FeatureType;
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;

use super::{ConfigStore, StoreError, instant};

/// A stretch of the feed.
#[derive(Debug, Serialize)]
pub(crate) struct FeedPage {
    epoch: String,
    changes: Vec<FeedEntry>,
    last_id: i64,
    has_more: bool,
}

#[derive(Debug, Serialize)]
struct FeedEntry {
    id: i64,
    tenant_id: String,
    config_key: String,
    feature_type: String,
    change: String,
    preference: Option<Value>,
    changed_at: DateTime<Utc>,
}

/// Why a stretch of the feed cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// The reader has seen ids that this database has not given, so it followed another one.
    #[error("since_id {since_id} is ahead of the newest change, {head}; read the groups anew")]
    Ahead { since_id: i64, head: i64 },
    /// The reader has fallen behind what is kept.
    #[error("changes up to {purged_until} are no longer kept; read the groups anew")]
    Purged { purged_until: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigStore {
    /// Forgets the changes that were recorded before `until`. Readers who have not seen them read the groups
    /// anew. Returns how many there were.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn purge_changes(&self, until: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut transaction = self.write().await?;
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(id) FROM changes WHERE recorded_at < ?1")
                .bind(until.timestamp_micros())
                .fetch_one(&mut *transaction)
                .await
                .map_err(StoreError::new)?;
        let Some(last) = last else { return Ok(0) };
        let purged = sqlx::query("DELETE FROM changes WHERE id <= ?1")
            .bind(last)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::new)?;
        sqlx::query("UPDATE meta SET value = ?1 WHERE name = 'purged_until'")
            .bind(last.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::new)?;
        transaction.commit().await.map_err(StoreError::new)?;
        Ok(purged.rows_affected())
    }

    async fn purged_until(&self) -> Result<i64, StoreError> {
        let value: String =
            sqlx::query_scalar("SELECT value FROM meta WHERE name = 'purged_until'")
                .fetch_one(&self.pool)
                .await
                .map_err(StoreError::new)?;
        value.parse().map_err(StoreError::new)
    }

    /// The changes after `since_id`. With none, waits up to `wait` for one.
    pub(crate) async fn changes(
        &self,
        since_id: i64,
        feature_type: Option<&FeatureType>,
        limit: u32,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        // Before the first look, so that a change between look and wait is not slept through.
        let mut head = self.head.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let newest = *head.borrow_and_update();
            if since_id > newest {
                return Err(FeedError::Ahead {
                    since_id,
                    head: newest,
                });
            }
            // After the read: what is purged meanwhile is then noticed, not skipped.
            let page = self
                .read_changes(since_id, newest, feature_type, limit)
                .await?;
            let purged_until = self.purged_until().await?;
            if since_id < purged_until {
                return Err(FeedError::Purged { purged_until });
            }
            if !page.changes.is_empty() {
                return Ok(page);
            }
            if tokio::time::timeout_at(deadline, head.changed())
                .await
                .is_err()
            {
                return Ok(page);
            }
        }
    }

    async fn read_changes(
        &self,
        since_id: i64,
        newest: i64,
        feature_type: Option<&FeatureType>,
        limit: u32,
    ) -> Result<FeedPage, StoreError> {
        let rows = sqlx::query(
            "SELECT id, tenant_id, config_key, feature_type, change, preference, changed_at FROM changes
             WHERE id > ?1 AND id <= ?2 AND (?3 IS NULL OR feature_type = ?3) ORDER BY id LIMIT ?4",
        )
        .bind(since_id)
        .bind(newest)
        .bind(feature_type.map(FeatureType::as_str))
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::new)?;
        let has_more = rows.len() > limit as usize;
        let changes = rows
            .iter()
            .take(limit as usize)
            .map(entry)
            .collect::<Result<Vec<_>, _>>()?;
        // Up to the newest id nothing of this feature is left, whatever there is of others.
        let last_id = match changes.last() {
            Some(last) if has_more => last.id,
            _ => newest,
        };
        Ok(FeedPage {
            epoch: self.epoch.clone(),
            changes,
            last_id,
            has_more,
        })
    }

    /// The id of the newest change ever made.
    pub(super) async fn read_head(&self) -> Result<i64, StoreError> {
        let head: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::new)?;
        Ok(head.unwrap_or(0))
    }

    /// Tells those who wait that there is something new.
    pub(super) async fn publish_head(&self) -> Result<(), StoreError> {
        let newest = self.read_head().await?;
        self.head.send_if_modified(|head| {
            let grew = newest > *head;
            *head = newest.max(*head);
            grew
        });
        Ok(())
    }
}

fn entry(row: &sqlx::sqlite::SqliteRow) -> Result<FeedEntry, StoreError> {
    let preference: Option<String> = row.try_get(5).map_err(StoreError::new)?;
    Ok(FeedEntry {
        id: row.try_get(0).map_err(StoreError::new)?,
        tenant_id: row.try_get(1).map_err(StoreError::new)?,
        config_key: row.try_get(2).map_err(StoreError::new)?,
        feature_type: row.try_get(3).map_err(StoreError::new)?,
        change: row.try_get(4).map_err(StoreError::new)?,
        preference: preference
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(StoreError::new)?,
        changed_at: instant(row.try_get(6).map_err(StoreError::new)?)?,
    })
}
