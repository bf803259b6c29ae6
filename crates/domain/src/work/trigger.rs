//! What brought a batch about.

use serde::{Deserialize, Serialize};

use crate::input::words::words;

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
    /// What falls due soon is prepared.
    Prepare,
}

words!(
    Trigger,
    "trigger",
    Schedule = "schedule",
    LateChange = "late_change",
    ClockStep = "clock_step",
    Manual = "manual",
    Backfill = "backfill",
    Replay = "replay",
    Prepare = "prepare",
);
