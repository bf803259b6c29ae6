//! How long a store keeps what has run.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// How many days a store keeps what has run, at least: it is removed some days later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeepDays {
    /// Days for results of items that succeeded or had nothing to do, and for items that were skipped.
    #[serde(rename = "keep_results_days")]
    pub results: u32,
    /// Days for results of items that failed, and for their dead letters.
    #[serde(rename = "keep_failures_days")]
    pub failures: u32,
}

impl Default for KeepDays {
    fn default() -> Self {
        Self {
            results: 90,
            failures: 365,
        }
    }
}

impl KeepDays {
    /// The fewest and the most days.
    pub const RANGE: std::ops::RangeInclusive<u64> = 1..=3_650;

    /// How much longer a run is kept: its tenants fall due within this. A date lasts 50 hours from the first time zone to the last,
    /// and jobs spread their items over at most a day.
    pub const SLACK: TimeDelta = TimeDelta::days(4);

    /// How long what has run is kept of a job that is not in effect, where no earlier days of it are known: of the usual days, the
    /// more for everything.
    #[must_use]
    pub fn of_unknown_job() -> Self {
        let usual = Self::default();
        let days = usual.results.max(usual.failures);
        Self {
            results: days,
            failures: days,
        }
    }

    /// How long everything of a run is kept.
    #[must_use]
    pub fn shortest(self) -> TimeDelta {
        TimeDelta::days(self.results.min(self.failures).into())
    }

    /// How long anything of a run is kept.
    #[must_use]
    pub fn longest(self) -> TimeDelta {
        TimeDelta::days(self.results.max(self.failures).into())
    }
}
