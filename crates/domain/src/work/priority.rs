//! How urgent a job is.

use serde::{Deserialize, Serialize};

use crate::input::words::words;

/// Order among items that fall due together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After everything else.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before medium.
    High,
    /// First.
    Critical,
}

words!(
    Priority,
    "priority",
    Low = "low",
    Medium = "medium",
    High = "high",
    Critical = "critical",
);
