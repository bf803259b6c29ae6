//! The records that a plain job works on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use punctual_domain::{Source, TenantId};
use serde_json::Value;

/// Reads the records of plain jobs.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ItemSource: Send + Sync {
    /// The records of each category, in the order of their source.
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError>;
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceItem {
    /// Its id: the record's `id`.
    pub id: TenantId,
    /// The whole record.
    pub data: Value,
}

/// Why the records cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ItemSourceError(pub String);
