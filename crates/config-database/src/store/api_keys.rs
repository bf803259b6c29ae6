//! API keys, by their hash.

use secrecy::SecretString;
use sqlx::Row;
use uuid::Uuid;

use super::{ConfigStore, StoreError, now};
use crate::keys::{Scope, hash};

impl ConfigStore {
    /// Makes a key and returns it: the only time it is seen.
    ///
    /// # Errors
    /// When the name is taken, or the store fails.
    pub async fn create_key(&self, name: &str, scope: Scope) -> Result<SecretString, StoreError> {
        let key = SecretString::from(format!(
            "pk_{}{}",
            Uuid::new_v4().simple(),
            Uuid::new_v4().simple()
        ));
        let inserted = sqlx::query(
            "INSERT INTO api_keys (hash, name, scope, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .bind(hash(&key).to_hex().as_str())
        .bind(name)
        .bind(scope.to_string())
        .bind(now().timestamp_micros())
        .execute(&self.pool)
        .await
        .map_err(StoreError::new)?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError(format!(
                "there is a key named `{name}` already; choose another name"
            )));
        }
        Ok(key)
    }

    /// Takes a key back. Returns whether there was one of that name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke_key(&self, name: &str) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM api_keys WHERE name = ?1")
            .bind(name)
            .execute(&self.pool)
            .await
            .map_err(StoreError::new)?;
        Ok(deleted.rows_affected() > 0)
    }

    /// The name and scope of the key with this hash. Looking a hash up tells nothing about a key through
    /// time: it cannot be chosen.
    pub(crate) async fn find_key(
        &self,
        hash: &blake3::Hash,
    ) -> Result<Option<(String, Scope)>, StoreError> {
        let row = sqlx::query("SELECT name, scope FROM api_keys WHERE hash = ?1")
            .bind(hash.to_hex().as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::new)?;
        let Some(row) = row else { return Ok(None) };
        let name = row.try_get(0).map_err(StoreError::new)?;
        let scope: &str = row.try_get(1).map_err(StoreError::new)?;
        Ok(Some((name, scope.parse().map_err(StoreError::new)?)))
    }
}
