//! The suppression list: addresses that no e-mail is sent to, because mail to them bounced or their owner complained.
//!
//! `testing::contract::suppressions` checks what an implementation keeps.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::EmailAddress;
use serde::{Deserialize, Serialize};

use super::{Page, Paged, StoreError};

/// Keeps the suppression list. Addresses are the same where their [keys](EmailAddress::key) are.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Suppressions: Send + Sync {
    /// Adds addresses. One that is there already stays as it is. Returns how many are new.
    async fn suppress(&self, suppressions: &[Suppression]) -> Result<u64, StoreError>;

    /// The entry of an address; `None`: it is not on the list.
    async fn suppressed(&self, address: &EmailAddress) -> Result<Option<Suppression>, StoreError>;

    /// Removes an address; `false`: it is not on the list.
    async fn unsuppress(&self, address: &EmailAddress) -> Result<bool, StoreError>;

    /// The list, newest entries first.
    async fn suppressions(&self, page: &Page) -> Result<Paged<Suppression>, StoreError>;
}

/// An address that no e-mail is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Suppression {
    /// The address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: EmailAddress,
    /// Why nothing is sent to it, such as what its server answered.
    pub reason: String,
    /// Time at which it was added.
    pub at: DateTime<Utc>,
    /// Who added it: an operator, as the audit log names them, or the job whose e-mail bounced.
    pub by: String,
}
