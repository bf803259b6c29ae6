//! The API keys of operators, each with a name and a role, by their hash.
//!
//! `testing::contract::operator_keys` checks what an implementation keeps.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// What an operator may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read everything, and change nothing.
    View,
    /// Run, pause, cancel, replay, and whatever else is done to jobs, batches and items.
    Operate,
    /// Make and revoke keys, and what else is about people rather than work.
    Administer,
}

impl Role {
    /// Every role, in order.
    pub const ALL: [Self; 3] = [Self::View, Self::Operate, Self::Administer];

    /// Its word, as it is stored, sent and written in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid role `{0}`; expected view, operate or administer")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(word: &str) -> Result<Self, InvalidRole> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == word);
        known.ok_or_else(|| InvalidRole(word.to_owned()))
    }
}

/// Keeps the API keys of operators. A key is known by its hash, in hexadecimal digits: the key itself is never stored.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait OperatorKeys: Send + Sync {
    /// Adds a key with this hash, in place of one of its name that has expired by the time it was created. `false`: there is a key
    /// of that name, and nothing was added.
    async fn add_key(&self, hash: &str, key: &OperatorKey) -> Result<bool, StoreError>;

    /// The key with this hash; `None`: there is none, or it has expired by `now`.
    async fn find_key(
        &self,
        hash: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<OperatorKey>, StoreError>;

    /// The keys that have not expired by `now`, by name.
    async fn operator_keys(&self, now: DateTime<Utc>) -> Result<Vec<OperatorKey>, StoreError>;

    /// Removes the key of this name; `false`: there is none.
    async fn revoke_key(&self, name: &str) -> Result<bool, StoreError>;

    /// Notes that the key with this hash was used on a day, unless that is known of a later one.
    async fn note_key_used(&self, hash: &str, day: NaiveDate) -> Result<(), StoreError>;

    /// The secret that sessions are sealed with: drawn once for all processes.
    async fn session_secret(&self) -> Result<[u8; 32], StoreError>;
}

/// An API key of an operator, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorKey {
    /// Name of the key, by which the audit log names who uses it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When the key was created.
    pub created_at: DateTime<Utc>,
    /// When the key expires; `null`: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who created it, as the audit log names them.
    pub created_by: String,
    /// The day on which it was last used, in UTC; `null`: never.
    pub last_used: Option<NaiveDate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_read_as_they_are_written() {
        assert!(Role::View < Role::Operate && Role::Operate < Role::Administer);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        let error = "admin".parse::<Role>().unwrap_err().to_string();
        assert!(
            error.contains("`admin`") && error.contains("administer"),
            "{error}"
        );
    }
}
