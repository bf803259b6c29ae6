//! API keys, by their hash: created, listed, rotated with a time in which both keys are valid, and revoked.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{TenantId, visible};
use punctual_web::key::hash;
use secrecy::SecretString;
use serde::Serialize;
use sqlx::{AnyConnection, Row, any::AnyRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ConfigStore, StoreError, instant, now};
use crate::keys::Scope;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is called in histories and lists.
    pub name: String,
    /// Scope of the key.
    pub scope: Scope,
    /// The only tenant that the key gives access to; `None`: all tenants.
    pub tenant_id: Option<TenantId>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ApiKey {
    /// Name of the key. During a rotation the old and the new key share it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// The only tenant that the key gives access to; `None`: all tenants.
    pub tenant_id: Option<TenantId>,
    /// When the key was created.
    pub created_at: DateTime<Utc>,
    /// When the key expires; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "name, scope, tenant_id, created_at, expires_at";

impl ConfigStore {
    /// Makes a key and returns it: the only time it is seen.
    ///
    /// # Errors
    /// When the name is invalid or taken, or the store fails.
    pub async fn create_key(&self, new: &NewKey) -> Result<SecretString, KeyError> {
        let hidden = visible(&new.name) != new.name;
        if hidden || new.name.trim().is_empty() || new.name.chars().count() > 128 {
            return Err(KeyError::Name);
        }
        let mut transaction = self.begin(self.dialect.begin_write()).await?;
        sqlx::query(self.dialect.lock_feed())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from)?;
        if newest(&mut transaction, &new.name).await?.is_some() {
            return Err(KeyError::Taken(new.name.clone()));
        }
        let key = insert(&mut transaction, new).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(key)
    }

    /// Makes a key that takes the place of the one of this name, which goes on holding for `overlap`. `None`: there
    /// is none of that name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn rotate_key(
        &self,
        name: &str,
        overlap: TimeDelta,
    ) -> Result<Option<SecretString>, StoreError> {
        let mut transaction = self.begin(self.dialect.begin_write()).await?;
        sqlx::query(self.dialect.lock_feed())
            .execute(&mut *transaction)
            .await?;
        let Some(old) = newest(&mut transaction, name).await? else {
            return Ok(None);
        };
        let until = (now() + overlap).timestamp_micros();
        sqlx::query(
            "UPDATE api_keys SET expires_at = $1 WHERE name = $2 AND (expires_at IS NULL OR expires_at > $1)",
        )
        .bind(until)
        .bind(name)
        .execute(&mut *transaction)
        .await?;
        let new = NewKey {
            name: old.name,
            scope: old.scope,
            tenant_id: old.tenant_id,
        };
        let key = insert(&mut transaction, &new).await?;
        transaction.commit().await?;
        Ok(Some(key))
    }

    /// Takes the keys of a name back. Returns whether there was one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revoke_key(&self, name: &str) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM api_keys WHERE name = $1")
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() > 0)
    }

    /// Active keys, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM api_keys WHERE expires_at IS NULL OR expires_at > $1 ORDER BY name, created_at"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(now().timestamp_micros())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(api_key).collect()
    }

    /// The key with this hash, if it holds. Looking a hash up tells nothing about a key through time: it cannot
    /// be chosen.
    pub(crate) async fn find_key(&self, hash: &blake3::Hash) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM api_keys WHERE hash = $1 AND (expires_at IS NULL OR expires_at > $2)"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(hash.to_hex().as_str())
            .bind(now().timestamp_micros())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(api_key).transpose()
    }
}

/// Failure to create a key.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The name is blank, too long or contains a character that cannot be shown.
    #[error("a key needs a name of 1 to 128 characters, none of them a control character")]
    Name,
    /// There is one.
    #[error("a key named `{0}` already exists; choose another name, or rotate that key")]
    Taken(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn newest(connection: &mut AnyConnection, name: &str) -> Result<Option<ApiKey>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM api_keys WHERE name = $1 AND (expires_at IS NULL OR expires_at > $2)
         ORDER BY created_at DESC LIMIT 1"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(name)
        .bind(now().timestamp_micros())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(api_key).transpose()
}

async fn insert(connection: &mut AnyConnection, new: &NewKey) -> Result<SecretString, StoreError> {
    let key = SecretString::from(format!(
        "pk_{}{}",
        Uuid::new_v4().simple(),
        Uuid::new_v4().simple()
    ));
    sqlx::query(
        "INSERT INTO api_keys (hash, name, scope, tenant_id, created_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(hash(&key).to_hex().as_str())
    .bind(&new.name)
    .bind(new.scope.to_string())
    .bind(new.tenant_id.as_ref().map(TenantId::as_str))
    .bind(now().timestamp_micros())
    .execute(connection)
    .await?;
    Ok(key)
}

fn api_key(row: &AnyRow) -> Result<ApiKey, StoreError> {
    let (scope, tenant): (&str, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
    Ok(ApiKey {
        name: row.try_get(0)?,
        scope: scope.parse().map_err(StoreError::new)?,
        tenant_id: tenant
            .map(TenantId::new)
            .transpose()
            .map_err(StoreError::new)?,
        created_at: instant(row.try_get(3)?)?,
        expires_at: row.try_get::<Option<i64>, _>(4)?.map(instant).transpose()?,
    })
}
