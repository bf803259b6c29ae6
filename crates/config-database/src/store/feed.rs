//! The feed of changes, in the order of their ids.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use punctual_domain::{Change, ChangeKind, FeatureType, Shard, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    ConfigStore, StoreError,
    configs::PageBudget,
    dialect::Dialect,
    groups::{TenantOrganization, is_of, membership},
    instant,
    retention::Pace,
    stored::readable,
};

/// Changes that are kept at most. Readers who have not seen those before them read the groups anew, which costs no more.
const CHANGES_KEPT: i64 = 2_000_000;

/// The change of a tenant that was erased.
pub(super) const ERASED: &str = "erased";

/// The changes up to `$1` that are forgotten. Those that say who was erased before `$2` only: agents that start ask for all others,
/// however many changes there were since.
pub(super) const TO_PURGE: &str =
    "changes WHERE id <= $1 AND (change <> 'erased' OR recorded_at < $2)";

/// Changes that are looked through at once for those of a shard.
const SCANNED: i64 = 10_000;

/// A page of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FeedPage {
    /// Identifies the database; when it changes, read the groups again.
    pub(crate) epoch: String,
    /// The changes, in the order of their ids.
    pub(crate) changes: Vec<FeedEntry>,
    /// Pass it as the next `since_id`.
    pub(crate) last_id: i64,
    /// Whether more changes are there now.
    pub(crate) has_more: bool,
}

/// A change of one preference.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FeedEntry {
    /// Grows with every change.
    id: i64,
    /// The tenant.
    tenant_id: String,
    /// Always `feature_preferences`.
    config_key: String,
    /// The feature.
    feature_type: String,
    /// `upserted`, `deleted`, or `erased`: deleted with everything that was held of the tenant, which readers erase as well.
    change: String,
    /// The preference as it was stored, with fields that this version does not know; `null` when it was deleted or erased.
    #[schema(value_type = Option<Object>)]
    preference: Option<Map<String, Value>>,
    /// Time at which the change was recorded.
    changed_at: DateTime<Utc>,
    /// Since when the fields that say when it falls due have been as they are; `null` when it was deleted.
    schedule_since: Option<DateTime<Utc>>,
    /// The tenant's organization. Left out: the tenant belongs to none, or the preference was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<TenantOrganization>,
}

impl FeedEntry {
    /// The change of the feature; `None`: no tenant can have this id.
    pub(crate) fn into_change(self, feature_type: &FeatureType) -> Option<Change> {
        Some(Change {
            tenant_id: TenantId::new(self.tenant_id).ok()?,
            feature_type: feature_type.clone(),
            kind: match self.preference {
                Some(preference) => ChangeKind::Upserted(Arc::new(preference)),
                None if self.change == ERASED => ChangeKind::Erased,
                None => ChangeKind::Deleted,
            },
            changed_at: Some(self.changed_at),
            schedule_since: self.schedule_since,
            organization: self
                .organization
                .map(|organization| Arc::new(organization.into())),
        })
    }
}

/// Why a stretch of the feed cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// The reader has seen ids that this database has not given, so it followed another one.
    #[error("since_id {since_id} is ahead of the newest change, {head}; read the groups again")]
    Ahead { since_id: i64, head: i64 },
    /// The reader has fallen behind what is kept.
    #[error("changes up to {purged_until} are no longer kept; read the groups again")]
    Purged { purged_until: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Position of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FeedState {
    pub(super) epoch: String,
    pub(super) head: i64,
    purged_until: i64,
}

impl FeedState {
    pub(super) async fn read(connection: &mut AnyConnection) -> Result<Self, StoreError> {
        let row = sqlx::query("SELECT epoch, head, purged_until FROM feed")
            .fetch_one(connection)
            .await?;
        Ok(Self {
            epoch: row.try_get(0)?,
            head: row.try_get(1)?,
            purged_until: row.try_get(2)?,
        })
    }
}

impl ConfigStore {
    /// Forgets the changes that were recorded before `until`, and of all but the newest 2,000,000 those that do not say who was
    /// erased. Readers who have not seen them read the groups anew. Returns how many there were.
    ///
    /// # Errors
    /// The store failed.
    pub async fn purge_changes(&self, until: DateTime<Utc>) -> Result<u64, StoreError> {
        let last = self.last_to_purge(until).await?;
        let (mut purged, mut pace) = (0, Pace::new());
        loop {
            pace.begin();
            let mut transaction = self.begin(self.dialect.begin_write()).await?;
            let portion: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT max(id) FROM (SELECT id FROM {TO_PURGE} ORDER BY id LIMIT $3) AS oldest"
            )))
            .bind(last)
            .bind(until.timestamp_micros())
            .bind(pace.rows())
            .fetch_one(&mut *transaction)
            .await?;
            let Some(portion) = portion else {
                return Ok(purged);
            };
            sqlx::query("UPDATE feed SET purged_until = $1 WHERE purged_until < $1")
                .bind(portion)
                .execute(&mut *transaction)
                .await?;
            let deleted = sqlx::query(AssertSqlSafe(format!("DELETE FROM {TO_PURGE}")))
                .bind(portion)
                .bind(until.timestamp_micros())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            purged += deleted.rows_affected();
            pace.end().await;
        }
    }

    /// The newest change that was recorded before `until`, or stands behind more than are kept.
    pub(super) async fn last_to_purge(&self, until: DateTime<Utc>) -> Result<i64, StoreError> {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(id) FROM changes WHERE recorded_at < $1")
                .bind(until.timestamp_micros())
                .fetch_one(&self.pool)
                .await?;
        let head: i64 = sqlx::query_scalar("SELECT head FROM feed")
            .fetch_one(&self.pool)
            .await?;
        Ok(last.unwrap_or(0).max(head - CHANGES_KEPT))
    }

    /// The changes after `since_id`, of `shards` where there are any. With none, waits up to `wait` for one. Calls `reads` once the cursor is known to be
    /// one of this feed.
    pub(crate) async fn changes(
        &self,
        since_id: i64,
        feature_type: Option<&FeatureType>,
        shards: &[Shard],
        limit: u32,
        wait: Duration,
        reads: impl FnOnce(),
    ) -> Result<FeedPage, FeedError> {
        // Before the first look, so that a change between look and wait is not slept through.
        let mut seen = self.seen.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        let (mut reads, mut since_id) = (Some(reads), since_id);
        loop {
            seen.borrow_and_update();
            let read = self.read_changes(since_id, feature_type, shards, limit);
            let page = read.await?;
            if let Some(reads) = reads.take() {
                reads();
            }
            if !page.changes.is_empty() {
                return Ok(page);
            }
            // What is of others is not read again.
            since_id = page.last_id;
            if page.has_more {
                continue;
            }
            if tokio::time::timeout_at(deadline, seen.changed())
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
        feature_type: Option<&FeatureType>,
        shards: &[Shard],
        limit: u32,
    ) -> Result<FeedPage, FeedError> {
        // What is of others is passed over in large steps.
        let scanned = i64::from(limit).max(if shards.is_empty() { 0 } else { SCANNED });
        let mut snapshot = self.begin(self.dialect.begin_read()).await?;
        let state = FeedState::read(&mut snapshot).await?;
        if since_id > state.head {
            return Err(FeedError::Ahead {
                since_id,
                head: state.head,
            });
        }
        if since_id < state.purged_until {
            return Err(FeedError::Purged {
                purged_until: state.purged_until,
            });
        }
        let mut rows = sqlx::query(
            "SELECT id, tenant_id, config_key, feature_type, change, preference, changed_at, schedule_since,
                 organization
             FROM changes
             WHERE id > $1 AND ($2 = '' OR feature_type = $2) ORDER BY id LIMIT $3",
        )
        .bind(since_id)
        .bind(feature_type.map_or("", FeatureType::as_str))
        .bind(scanned + 1)
        .fetch(&mut *snapshot);
        let (mut changes, mut has_more, mut last, mut read) = (Vec::new(), false, since_id, 0);
        let mut room = PageBudget::new(limit);
        while let Some(row) = rows.try_next().await.map_err(StoreError::new)? {
            read += 1;
            let ours = is_of(shards, row.try_get(1).map_err(StoreError::new)?);
            let preference: Option<&str> = row.try_get(5).map_err(StoreError::new)?;
            if read > scanned || ours && !room.takes(preference.map_or(0, str::len)) {
                has_more = true;
                break;
            }
            last = row.try_get(0).map_err(StoreError::new)?;
            if ours {
                changes.push(entry(&row)?);
            }
        }
        drop(rows);
        snapshot.rollback().await.map_err(StoreError::new)?;
        // Up to the newest id nothing of this feature is left, whatever there is of others.
        let last_id = if has_more { last } else { state.head };
        Ok(FeedPage {
            epoch: state.epoch,
            changes,
            last_id,
            has_more,
        })
    }

    /// Looks at what other processes have written: changes, schemas, what is known of features, and a database put back to an older state,
    /// which then gets another epoch, because its ids will come a second time.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let before = self.seen.borrow().clone();
        let mut connection = self.pool.acquire().await?;
        let mut state = FeedState::read(&mut connection).await?;
        if state.epoch == before.epoch && state.head < before.head {
            let epoch = Uuid::new_v4().simple().to_string();
            let renewed = sqlx::query("UPDATE feed SET epoch = $1 WHERE epoch = $2")
                .bind(&epoch)
                .bind(&before.epoch)
                .execute(&mut *connection)
                .await?;
            if renewed.rows_affected() > 0 {
                tracing::warn!(
                    head = state.head,
                    before = before.head,
                    "The Config Database was restored to an older state: it begins a new epoch, and \
                     agents read everything again"
                );
            }
            // Another call or process may have been first: its epoch counts.
            state = FeedState::read(&mut connection).await?;
        }
        self.saw(state);
        self.load_schemas(&mut connection).await?;
        self.load_features(&mut connection).await
    }

    /// Tells those who wait here.
    pub(super) fn saw(&self, state: FeedState) {
        self.seen.send_if_modified(|seen| {
            let news = seen.epoch != state.epoch || seen.head < state.head;
            if news {
                *seen = state;
            }
            news
        });
    }

    /// Tells those who wait in other processes, when the transaction commits.
    pub(super) async fn announce(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        if self.dialect == Dialect::Postgres {
            sqlx::query("NOTIFY punctual_config_changes")
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

fn entry(row: &AnyRow) -> Result<FeedEntry, StoreError> {
    let preference: Option<&str> = row.try_get(5)?;
    Ok(FeedEntry {
        id: row.try_get(0)?,
        tenant_id: row.try_get(1)?,
        config_key: row.try_get(2)?,
        feature_type: row.try_get(3)?,
        change: row.try_get(4)?,
        preference: preference.map(readable).transpose()?,
        changed_at: instant(row.try_get(6)?)?,
        schedule_since: row.try_get::<Option<i64>, _>(7)?.map(instant).transpose()?,
        organization: membership(row.try_get(8)?)?.map(TenantOrganization::from),
    })
}
