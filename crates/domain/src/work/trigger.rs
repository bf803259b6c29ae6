//! What brought a batch about.

use serde::{Deserialize, Serialize};

/// Trigger of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its slot fell due.
    #[default]
    Schedule,
    /// A preference stored in time was seen after its slot had fired for the others.
    LateChange,
    /// Its slot fell due, and may have been fired before the clock stepped back; who has run does not run again.
    ClockStep,
    /// Somebody asked for it.
    Manual,
    /// Somebody asked for what fell due on dates that have passed and was not run.
    Backfill,
    /// Somebody asked for items that had failed for good to be run again.
    Replay,
}

impl Trigger {
    const ALL: [Self; 6] = [
        Self::Schedule,
        Self::LateChange,
        Self::ClockStep,
        Self::Manual,
        Self::Backfill,
        Self::Replay,
    ];

    /// The word in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::LateChange => "late_change",
            Self::ClockStep => "clock_step",
            Self::Manual => "manual",
            Self::Backfill => "backfill",
            Self::Replay => "replay",
        }
    }
}

impl std::str::FromStr for Trigger {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let known = |trigger: &Self| trigger.as_str() == word;
        Self::ALL.into_iter().find(known).ok_or(())
    }
}
