//! The port `OperatorKeys`, in memory.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::FakeStore;
use crate::ports::{OperatorKey, OperatorKeys, StoreError};

fn is_active(key: &OperatorKey, now: DateTime<Utc>) -> bool {
    key.expires_at.is_none_or(|until| until > now)
}

#[async_trait]
impl OperatorKeys for FakeStore {
    async fn add_key(&self, hash: &str, key: &OperatorKey) -> Result<bool, StoreError> {
        let keys = &mut self.tables().operator_keys;
        keys.retain(|_, known| known.name != key.name || is_active(known, key.created_at));
        if keys.values().any(|known| known.name == key.name) {
            return Ok(false);
        }
        keys.insert(hash.to_owned(), key.clone());
        Ok(true)
    }

    async fn find_key(
        &self,
        hash: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<OperatorKey>, StoreError> {
        let tables = self.tables();
        let found = tables.operator_keys.get(hash);
        Ok(found.filter(|key| is_active(key, now)).cloned())
    }

    async fn operator_keys(&self, now: DateTime<Utc>) -> Result<Vec<OperatorKey>, StoreError> {
        let tables = self.tables();
        let keys = tables.operator_keys.values();
        let mut active: Vec<OperatorKey> =
            keys.filter(|key| is_active(key, now)).cloned().collect();
        active.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(active)
    }

    async fn revoke_key(&self, name: &str) -> Result<bool, StoreError> {
        let keys = &mut self.tables().operator_keys;
        let before = keys.len();
        keys.retain(|_, key| key.name != name);
        Ok(keys.len() < before)
    }

    async fn note_key_used(&self, hash: &str, day: NaiveDate) -> Result<(), StoreError> {
        if let Some(key) = self.tables().operator_keys.get_mut(hash) {
            key.last_used = key.last_used.max(Some(day));
        }
        Ok(())
    }

    async fn session_secret(&self) -> Result<[u8; 32], StoreError> {
        let drawn = || {
            let mut secret = [0; 32];
            secret[..16].copy_from_slice(Uuid::new_v4().as_bytes());
            secret[16..].copy_from_slice(Uuid::new_v4().as_bytes());
            secret
        };
        Ok(*self.tables().session_secret.get_or_insert_with(drawn))
    }
}
