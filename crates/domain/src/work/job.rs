//! What a job says about its items, wherever they come from and whenever they are due.

use serde::{Deserialize, Serialize};

/// When so much of a batch has failed that the job is paused: both must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimit {
    /// Of the items that have ended, in percent.
    pub percent: u32,
    /// In items.
    pub at_least: u64,
}

impl FailureLimit {
    /// Whether `failed` of `ended` items are too many.
    #[must_use]
    pub fn is_reached(self, failed: u64, ended: u64) -> bool {
        failed >= self.at_least && failed * 100 >= ended * u64::from(self.percent)
    }
}

impl Default for FailureLimit {
    fn default() -> Self {
        Self {
            percent: 50,
            at_least: 100,
        }
    }
}

/// What happens to an occurrence while another one of the same job and tenant is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// It stays queued until the other one has ended.
    Wait,
    /// It runs beside the other one.
    Allow,
}

/// How the items of a job are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum JobKind {
    /// One item per tenant, or per record of the source.
    #[serde(rename = "individual_batch")]
    Individual,
    /// All records of the source as one item.
    #[serde(rename = "object_batch")]
    Object,
    /// All records of several sources as one item.
    #[serde(rename = "combined_batch")]
    Combined,
}
