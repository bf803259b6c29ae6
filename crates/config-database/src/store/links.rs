//! What links need to be remembered: the key that signs them, where none is configured, and those that open once and have.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use uuid::Uuid;

use super::{ConfigStore, StoreError, now};

impl ConfigStore {
    /// The key that signs links: made when it is first asked for, the same for all processes. It never leaves the server.
    pub(crate) async fn link_key(&self) -> Result<SecretString, StoreError> {
        let made = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        sqlx::query("INSERT INTO link_key (id, secret) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
            .bind(made)
            .execute(&self.pool)
            .await?;
        let kept: String = sqlx::query_scalar("SELECT secret FROM link_key WHERE id = 1")
            .fetch_one(&self.pool)
            .await?;
        Ok(kept.into())
    }

    /// Notes that a link is used up; `false`: it was before. It is remembered until it expires.
    pub(crate) async fn use_link(
        &self,
        link: &blake3::Hash,
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        sqlx::query("DELETE FROM used_links WHERE expires_at <= $1")
            .bind(now().timestamp_micros())
            .execute(&self.pool)
            .await?;
        let noted = sqlx::query(
            "INSERT INTO used_links (link_hash, expires_at) VALUES ($1, $2) ON CONFLICT (link_hash) DO NOTHING",
        )
        .bind(link.to_hex().as_str())
        .bind(expires_at.timestamp_micros())
        .execute(&self.pool)
        .await?;
        Ok(noted.rows_affected() == 1)
    }
}
