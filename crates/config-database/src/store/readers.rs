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
pub(crate) const READER_EXPIRES_AFTER: TimeDelta = TimeDelta::minutes(5);
/// Readers known at the same time, and those of one key for one feature; further ones are left out.
const MAX_READERS: usize = 1_000;
const MAX_READERS_PER_KEY: usize = 50;

/// Between the name of a key and the process that reads with it. Neither holds a control character.
const SEPARATOR: char = '\n';

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderAt {
    /// It has seen everything up to this change.
    pub(crate) since_id: i64,
    pub(crate) seen_at: DateTime<Utc>,
}

pub(super) type Readers = Arc<Mutex<HashMap<(String, String), ReaderAt>>>;

impl ConfigStore {
    /// Notes that `process` reads with the key named `key`, and asks for what came after `since_id`.
    pub(crate) fn note_reader(
        &self,
        key: &str,
        process: &str,
        feature: &FeatureType,
        since_id: i64,
    ) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = (format!("{key}{SEPARATOR}{process}"), feature.to_string());
        let of_key = |(name, of): &&(String, String)| {
            *of == reader.1 && name.split(SEPARATOR).next() == Some(key)
        };
        let room = || {
            readers.len() < MAX_READERS
                && readers.keys().filter(of_key).count() < MAX_READERS_PER_KEY
        };
        if readers.contains_key(&reader) || room() {
            let seen_at = now();
            readers.insert(reader, ReaderAt { since_id, seen_at });
        }
    }

    /// The readers of a feature that were seen after `seen_after`, by the name of their key. Of the processes that read
    /// with one key, the one that is furthest behind counts: what a process says of itself is not what tells two apart.
    pub(crate) async fn readers(
        &self,
        feature: &FeatureType,
        seen_after: DateTime<Utc>,
    ) -> Result<HashMap<String, ReaderAt>, StoreError> {
        let mut by_feature = self.readers_seen(Some(feature), seen_after).await?;
        Ok(by_feature.remove(feature.as_str()).unwrap_or_default())
    }

    /// How many readers each feature has that were seen after `seen_after`; a feature without any is left out.
    pub(crate) async fn reader_counts(
        &self,
        seen_after: DateTime<Utc>,
    ) -> Result<HashMap<String, usize>, StoreError> {
        let by_feature = self.readers_seen(None, seen_after).await?.into_iter();
        Ok(by_feature
            .map(|(feature, readers)| (feature, readers.len()))
            .collect())
    }

    /// The readers of a feature, or of all, by feature and by the name of their key.
    async fn readers_seen(
        &self,
        feature: Option<&FeatureType>,
        seen_after: DateTime<Utc>,
    ) -> Result<HashMap<String, HashMap<String, ReaderAt>>, StoreError> {
        let wanted = feature.map_or("", FeatureType::as_str);
        let rows = sqlx::query(
            "SELECT reader, feature_type, since_id, seen_at FROM readers
             WHERE ($1 = '' OR feature_type = $1) AND seen_at > $2",
        )
        .bind(wanted)
        .bind(seen_after.timestamp_micros())
        .fetch_all(&self.pool)
        .await?;
        let mut found: HashMap<(String, String), ReaderAt> = HashMap::new();
        for row in rows {
            let at = ReaderAt {
                since_id: row.try_get(2)?,
                seen_at: instant(row.try_get(3)?)?,
            };
            found.insert((row.try_get(0)?, row.try_get(1)?), at);
        }
        let here = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |((_, of), at): &(&(String, String), &ReaderAt)| {
            (wanted.is_empty() || of == wanted) && at.seen_at > seen_after
        };
        for (reader, at) in here.iter().filter(is_wanted) {
            let known = found.entry(reader.clone()).or_insert(*at);
            if known.seen_at < at.seen_at {
                *known = *at;
            }
        }
        let mut by_feature: HashMap<String, HashMap<String, ReaderAt>> = HashMap::new();
        for ((reader, feature), at) in found {
            let key = reader.split(SEPARATOR).next().unwrap_or_default();
            let by_key = by_feature.entry(feature).or_default();
            let behind = by_key.entry(key.to_owned()).or_insert(at);
            behind.since_id = behind.since_id.min(at.since_id);
        }
        Ok(by_feature)
    }

    /// Writes down what was noted since the last time, and forgets who is gone.
    pub(crate) async fn save_readers(&self, since: DateTime<Utc>) -> Result<(), StoreError> {
        let rows: Vec<Value> = {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.retain(|_, at| at.seen_at > now() - READER_EXPIRES_AFTER);
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
            .bind((now() - READER_EXPIRES_AFTER).timestamp_micros())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
