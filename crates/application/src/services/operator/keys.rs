//! Keys of operators: who has one, and what it may do.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::visible;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Actor, Operator, OperatorError};
use crate::ports::{OperatorKey, Role};

/// The name of the key that the configuration of a service holds.
pub const OPERATOR_KEY: &str = "operator";

/// Characters of a name at most.
const MAX_NAME: usize = 128;
/// Days after which a key may expire at most.
const MAX_DAYS: u32 = 3_650;

/// A key to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewOperatorKey {
    /// Name of the key, by which the audit log names who uses it.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 128))]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Days until the key expires; absent: it does not.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3650))]
    pub expires_in_days: Option<u32>,
}

/// A new key; it cannot be shown again.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedKey {
    /// Name of the key.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When the key expires; `null`: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The key, as it is sent in `Authorization: Bearer KEY`.
    pub key: String,
}

/// Without the key.
impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Whether a key may have this name. `.` and `..` stand for something else in an address: no client could revoke their keys.
fn is_name(name: &str) -> bool {
    let is_plain = visible(name) == name && name.trim() == name;
    is_plain && !["", ".", ".."].contains(&name) && name.chars().count() <= MAX_NAME
}

impl Operator {
    /// Makes a key and returns it: the only time it is seen.
    ///
    /// # Errors
    /// The name cannot be used or is taken, the days are none or too many, or the store fails.
    pub async fn add_key(
        &self,
        actor: &Actor,
        new: &NewOperatorKey,
    ) -> Result<CreatedKey, OperatorError> {
        let NewOperatorKey {
            name,
            role,
            expires_in_days,
        } = new;
        if !is_name(name) {
            return Err(OperatorError::Invalid(format!(
                "a key needs a name of 1 to {MAX_NAME} characters, none of them a control character, without spaces at the ends, other \
                 than `.` and `..`"
            )));
        }
        if name == OPERATOR_KEY {
            return Err(OperatorError::Conflict(format!(
                "`{OPERATOR_KEY}` is the key of the configuration; choose another name"
            )));
        }
        if let Some(days) = expires_in_days
            && !(1..=MAX_DAYS).contains(days)
        {
            return Err(OperatorError::Invalid(format!(
                "expires_in_days is {days}; expected a whole number from 1 to {MAX_DAYS}"
            )));
        }
        let now = self.clock.now();
        let expires_at = expires_in_days.map(|days| now + TimeDelta::days(days.into()));
        let key = format!("pk_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let stored = OperatorKey {
            name: name.clone(),
            role: *role,
            created_at: now,
            expires_at,
            created_by: actor.name.clone(),
            last_used: None,
        };
        let detail = match expires_in_days {
            Some(days) => format!("{role}, for {}", super::amount(u64::from(*days), "day")),
            None => role.to_string(),
        };
        self.record(actor, "add_key", name, &detail).await?;
        let hash = blake3::hash(key.as_bytes()).to_hex();
        let added = self.noted(self.keys.add_key(&hash, &stored).await)?;
        if !added {
            return Err(OperatorError::Conflict(format!(
                "a key named `{name}` already exists; choose another name, or revoke that key"
            )));
        }
        Ok(CreatedKey {
            name: name.clone(),
            role: *role,
            expires_at,
            key,
        })
    }

    /// The keys that have not expired, by name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn active_keys(&self) -> Result<Vec<OperatorKey>, OperatorError> {
        Ok(self.keys.operator_keys(self.clock.now()).await?)
    }

    /// Revokes the key of this name, and with it the sessions that began with it.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub async fn revoke_key(&self, actor: &Actor, name: &str) -> Result<(), OperatorError> {
        if name == OPERATOR_KEY {
            return Err(OperatorError::Conflict(format!(
                "`{OPERATOR_KEY}` is the key of the configuration; change it there"
            )));
        }
        // Not every store takes each text.
        if is_name(name) {
            self.record(actor, "revoke_key", name, "").await?;
            if self.noted(self.keys.revoke_key(name).await)? {
                return Ok(());
            }
        }
        Err(OperatorError::NotFound(format!(
            "key `{}` does not exist; `GET /api/v1/keys` lists the keys",
            visible(name)
        )))
    }

    /// The key with this hash, if it is active; that it was used today is noted.
    ///
    /// # Errors
    /// The store fails.
    pub async fn key(&self, hash: &blake3::Hash) -> Result<Option<OperatorKey>, OperatorError> {
        let (hash, now) = (hash.to_hex(), self.clock.now());
        let Some(key) = self.keys.find_key(&hash, now).await? else {
            return Ok(None);
        };
        let today = now.date_naive();
        if key.last_used.is_none_or(|day| day < today) {
            // A store that cannot note it keeps no one out.
            let _ = self.noted(self.keys.note_key_used(&hash, today).await);
        }
        Ok(Some(key))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use punctual_domain::BatchConfig;

    use super::*;
    use crate::testing::{self, FakeStore};

    fn operator() -> Operator {
        let store: Arc<FakeStore> = Arc::default();
        let jobs = BatchConfig { jobs: Vec::new() };
        testing::operator(&store, jobs, "2026-03-01T09:00:00Z")
    }

    fn new(name: &str, days: Option<u32>) -> NewOperatorKey {
        NewOperatorKey {
            name: name.to_owned(),
            role: Role::Operate,
            expires_in_days: days,
        }
    }

    #[tokio::test]
    async fn a_key_is_shown_once_found_by_its_hash_and_ends_when_it_is_revoked() {
        let (operator, ann) = (operator(), Actor::from("ann (key)").because("on call"));
        let made = operator.add_key(&ann, &new("bob", Some(30))).await.unwrap();
        assert!(!format!("{made:?}").contains(&made.key));
        let hash = blake3::hash(made.key.as_bytes());
        let found = operator.key(&hash).await.unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.created_by.as_str()),
            ("bob", "ann (key)")
        );
        let listed = operator.active_keys().await.unwrap();
        assert_eq!(listed[0].last_used, Some(operator.clock.now().date_naive()));
        operator.revoke_key(&ann, "bob").await.unwrap();
        assert_eq!(operator.key(&hash).await.unwrap(), None);
        let again = operator.revoke_key(&ann, "bob").await.unwrap_err();
        assert!(matches!(again, OperatorError::NotFound(_)), "{again}");
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_used_or_is_taken_is_refused() {
        let (operator, ann) = (operator(), Actor::from("ann"));
        let long = "a".repeat(MAX_NAME + 1);
        for name in [
            "",
            " ",
            " a",
            "a\u{1b}[31m",
            "a\u{202e}b",
            "a\0",
            ".",
            "..",
            &long,
        ] {
            let refused = operator.add_key(&ann, &new(name, None)).await.unwrap_err();
            assert!(
                matches!(refused, OperatorError::Invalid(_)),
                "{name:?}: {refused}"
            );
            let none = operator.revoke_key(&ann, name).await.unwrap_err();
            assert!(matches!(none, OperatorError::NotFound(_)), "{none}");
        }
        for days in [0, MAX_DAYS + 1] {
            let refused = operator.add_key(&ann, &new("bob", Some(days))).await;
            assert!(refused.unwrap_err().to_string().contains("expires_in_days"));
        }
        operator.add_key(&ann, &new("bob", None)).await.unwrap();
        for taken in ["bob", OPERATOR_KEY] {
            let refused = operator.add_key(&ann, &new(taken, None)).await.unwrap_err();
            assert!(matches!(refused, OperatorError::Conflict(_)), "{refused}");
        }
    }
}
