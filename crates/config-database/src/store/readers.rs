//! Who follows the feed and how far each has come: what tells a user that a change has arrived. Kept in memory and
//! written down once a second, so that every replica knows of all readers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::FeatureType;
use serde_json::{Value, json};
use sqlx::Row;

use super::{ConfigStore, StoreError, instant, now};

/// Who has not been seen for so long is gone.
const GONE_AFTER: TimeDelta = TimeDelta::minutes(5);
/// Readers known at the same time; further ones are not told of.
const MOST: usize = 1_000;

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderAt {
    /// It has seen everything up to this change.
    pub(crate) since_id: i64,
    pub(crate) seen_at: DateTime<Utc>,
}

pub(super) type Readers = Arc<Mutex<HashMap<(String, String), ReaderAt>>>;

impl ConfigStore {
    /// Notes that a reader asks for what came after `since_id`.
    pub(crate) fn note_reader(&self, reader: &str, feature: &FeatureType, since_id: i64) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (reader.to_owned(), feature.to_string());
        if readers.len() < MOST || readers.contains_key(&key) {
            let seen_at = now();
            readers.insert(key, ReaderAt { since_id, seen_at });
        }
    }

    /// The readers of a feature, by name.
    pub(crate) async fn readers(
        &self,
        feature: &FeatureType,
    ) -> Result<HashMap<String, ReaderAt>, StoreError> {
        let rows = sqlx::query(
            "SELECT reader, since_id, seen_at FROM readers WHERE feature_type = $1 AND seen_at > $2",
        )
        .bind(feature.as_str())
        .bind((now() - GONE_AFTER).timestamp_micros())
        .fetch_all(&self.pool)
        .await?;
        let mut found = HashMap::new();
        for row in rows {
            let at = ReaderAt {
                since_id: row.try_get(1)?,
                seen_at: instant(row.try_get(2)?)?,
            };
            found.insert(row.try_get(0)?, at);
        }
        let here = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for ((reader, _), at) in here.iter().filter(|((_, of), _)| of == feature.as_str()) {
            let known = found.entry(reader.clone()).or_insert(*at);
            if known.seen_at < at.seen_at {
                *known = *at;
            }
        }
        Ok(found)
    }

    /// Writes down what was noted since the last time, and forgets who is gone.
    pub(crate) async fn save_readers(&self, since: DateTime<Utc>) -> Result<(), StoreError> {
        let rows: Vec<Value> = {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.retain(|_, at| at.seen_at > now() - GONE_AFTER);
            let new = readers.iter().filter(|(_, at)| at.seen_at >= since);
            new.map(|((reader, feature), at)| {
                json!([reader, feature, at.since_id, at.seen_at.timestamp_micros()])
            })
            .collect()
        };
        if rows.is_empty() {
            return Ok(());
        }
        sqlx::query(self.dialect.rows(
            "INSERT INTO readers (reader, feature_type, since_id, seen_at)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT)
             FROM ROWS WHERE true
             ON CONFLICT (reader, feature_type) DO UPDATE SET
                 since_id = excluded.since_id, seen_at = excluded.seen_at",
        ))
        .bind(Value::from(rows).to_string())
        .execute(&self.pool)
        .await?;
        sqlx::query("DELETE FROM readers WHERE seen_at < $1")
            .bind((now() - GONE_AFTER).timestamp_micros())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
