//! Everything that a store holds of one tenant: to be erased, and to be given out.
//!
//! What is erased is gone for good. That its runs have been stays known by keyed hashes, so that none of them runs again.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;

/// Erases and exports what is held of a tenant.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait TenantRecords: Send + Sync {
    /// Erases everything that is held of the tenant, in portions; an erasure that was interrupted is asked for again. Items of the
    /// tenant that are queued, run or wait leave their batches, which end with the last item that is left, and nothing that they bring
    /// afterwards is stored. None of the runs until now runs again; those of later occurrences run as those of any tenant. What of
    /// others refers to the tenant, such as the audit log, says `erased tenant` in place of the id.
    ///
    /// # Errors
    /// The store fails.
    async fn erase(
        &self,
        tenant_id: &TenantId,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError>;

    /// The same for an erasure of the Config Database, by the time that it names. One that was carried out is remembered, by a keyed
    /// hash of the id, for longer than the Config Database names it. It is not repeated as long as no run of the tenant was queued
    /// since: then nothing is erased.
    ///
    /// # Errors
    /// The store fails.
    async fn erase_once(
        &self,
        tenant_id: &TenantId,
        erased_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError>;

    /// Everything that is held of the tenant.
    ///
    /// # Errors
    /// The store fails, or it is too much for one document.
    async fn export(&self, tenant_id: &TenantId) -> Result<TenantExport, StoreError>;
}

/// Numbers of what was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErasedRecords {
    /// Runs with an outcome.
    pub runs: u64,
    /// Items that were queued, ran or waited, and leave their batches.
    pub items: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Other rows, such as outputs that were kept or prepared, and entries of the audit log.
    pub others: u64,
}

/// What a store holds of a tenant, by the name of what it is, such as `results`: a list of JSON objects each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TenantExport(pub std::collections::BTreeMap<String, Vec<Value>>);
