//! The port `OperatorKeys`: the API keys of operators, by their hash.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use punctual_application::ports::{OperatorKey, OperatorKeys, StoreError};

use crate::{
    Store,
    driver::{FromRow, Row, values},
    errors::failed,
};

const FORGET_EXPIRED: &str = "DELETE FROM @operator_keys WHERE name = $1 AND expires_at <= $2";

const ADD: &str =
    "INSERT INTO @operator_keys (hash, name, role, created_at, expires_at, created_by, last_used)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";

/// By the primary key: one look at an index.
const FIND: &str =
    "SELECT name, role, created_at, expires_at, created_by, last_used FROM @operator_keys
     WHERE hash = $1 AND (expires_at IS NULL OR expires_at > $2)";

const LIST: &str =
    "SELECT name, role, created_at, expires_at, created_by, last_used FROM @operator_keys
     WHERE expires_at IS NULL OR expires_at > $1 ORDER BY name";

const REVOKE: &str = "DELETE FROM @operator_keys WHERE name = $1";

const NOTE_USED: &str = "UPDATE @operator_keys SET last_used = $2
     WHERE hash = $1 AND (last_used IS NULL OR last_used < $2)";

/// The name of the secret of sessions among the secrets.
const SESSION_SECRET: &str = "session_secret";

impl FromRow for OperatorKey {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let key = Self {
            name: row.next()?,
            role: row.parse()?,
            created_at: row.next()?,
            expires_at: row.next()?,
            created_by: row.next()?,
            last_used: None,
        };
        let last_used: Option<String> = row.next()?;
        let last_used = last_used.map(|day| day.parse::<NaiveDate>());
        Ok(Self {
            last_used: last_used.transpose().map_err(failed)?,
            ..key
        })
    }
}

#[async_trait]
impl OperatorKeys for Store {
    async fn add_key(&self, hash: &str, key: &OperatorKey) -> Result<bool, StoreError> {
        let OperatorKey {
            name,
            role,
            created_at,
            expires_at,
            created_by,
            last_used,
        } = key;
        let last_used = last_used.map(|day| day.to_string());
        let row = values![
            hash,
            &**name,
            role.as_str(),
            *created_at,
            *expires_at,
            &**created_by,
            last_used
        ];
        let mut transaction = self.database.begin().await?;
        let expired = values![&**name, *created_at];
        transaction.execute(FORGET_EXPIRED, expired).await?;
        let added = transaction.execute(ADD, row).await?;
        transaction.commit().await?;
        Ok(added > 0)
    }

    async fn find_key(
        &self,
        hash: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<OperatorKey>, StoreError> {
        self.database.fetch_optional(FIND, values![hash, now]).await
    }

    async fn operator_keys(&self, now: DateTime<Utc>) -> Result<Vec<OperatorKey>, StoreError> {
        self.database.fetch(LIST, values![now]).await
    }

    async fn revoke_key(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.database.execute(REVOKE, values![name]).await? > 0)
    }

    async fn note_key_used(&self, hash: &str, day: NaiveDate) -> Result<(), StoreError> {
        let used = values![hash, day.to_string()];
        self.database.execute(NOTE_USED, used).await?;
        Ok(())
    }

    async fn session_secret(&self) -> Result<[u8; 32], StoreError> {
        self.drawn_secret(SESSION_SECRET).await
    }
}
