//! The records that a plain job works on.
//!
//! An implementation reads all categories or fails: records that are missing because a file cannot be read would be taken
//! for records that are gone. Ids are unique within a category. A call is repeated for each chunk, so it should be cheap
//! or cached, and bring the same records in the same order until the source changes. `testing::contract::item_source`
//! checks one.

use std::{collections::BTreeMap, error::Error};

use async_trait::async_trait;
use punctual_domain::{ItemId, Source};
use serde_json::Value;

use super::cause::Cause;

/// Reads the records of plain jobs.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ItemSource: Send + Sync {
    /// The records of each category that its source wants, in the order of the source: [`Source::choose`] applies the
    /// filters and the limit. A call may take five minutes; one that takes longer is dropped at any `await`.
    ///
    /// # Errors
    /// [`ItemSourceError`] names the source, without a part of a URL that may hold a secret, and says of which kind the
    /// trouble is.
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError>;
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceItem {
    /// Its id: the record's `id`, which [`ItemId::record`] checks.
    pub id: ItemId,
    /// The whole record.
    pub data: Value,
}

/// Why the records cannot be read: what happened, of which kind it is, and the error beneath. Its text is complete.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ItemSourceError {
    kind: ItemSourceErrorKind,
    message: String,
    #[source]
    cause: Option<Cause>,
}

/// The kinds of an [`ItemSourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ItemSourceErrorKind {
    /// There is nothing where the job says that the records are.
    Missing,
    /// The records, or what the job says of their place, are not valid: somebody has to correct them.
    Invalid,
    /// The records cannot be read for now.
    Unavailable,
}

impl ItemSourceError {
    /// An error of this kind; `message` says which source it is and what happened.
    pub fn new(kind: ItemSourceErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// The same, with the error that caused it. `message` should contain its text.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }

    /// The same, of the source `place`.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ItemSourceErrorKind {
        self.kind
    }
}
