//! Who is signed in on the page. Only hashes are kept: of the cookie, and of the key it was signed in with.

use chrono::{DateTime, Utc};

use super::{ConfigStore, StoreError, now};

/// Sessions of one key at one time.
const MAX_SESSIONS_PER_KEY: i64 = 50;

impl ConfigStore {
    pub(crate) async fn add_session(
        &self,
        token: &blake3::Hash,
        key: &blake3::Hash,
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
            .bind(now().timestamp_micros())
            .execute(&self.pool)
            .await?;
        sqlx::query("INSERT INTO sessions (token_hash, key_hash, expires_at) VALUES ($1, $2, $3)")
            .bind(token.to_hex().as_str())
            .bind(key.to_hex().as_str())
            .bind(expires_at.timestamp_micros())
            .execute(&self.pool)
            .await?;
        // A key that signs in again and again ends its own oldest sessions.
        sqlx::query(
            "DELETE FROM sessions WHERE key_hash = $1 AND token_hash NOT IN
                 (SELECT token_hash FROM sessions WHERE key_hash = $1 ORDER BY expires_at DESC LIMIT $2)",
        )
        .bind(key.to_hex().as_str())
        .bind(MAX_SESSIONS_PER_KEY)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The hash of the key a session was signed in with.
    pub(crate) async fn session_key(
        &self,
        token: &blake3::Hash,
    ) -> Result<Option<blake3::Hash>, StoreError> {
        let key: Option<String> = sqlx::query_scalar(
            "SELECT key_hash FROM sessions WHERE token_hash = $1 AND expires_at > $2",
        )
        .bind(token.to_hex().as_str())
        .bind(now().timestamp_micros())
        .fetch_optional(&self.pool)
        .await?;
        key.map(|hex| blake3::Hash::from_hex(hex).map_err(StoreError::new))
            .transpose()
    }

    pub(crate) async fn end_session(&self, token: &blake3::Hash) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
            .bind(token.to_hex().as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
