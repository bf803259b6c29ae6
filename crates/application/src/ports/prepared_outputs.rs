//! What is prepared for runs to come, as [`BatchStore`](super::BatchStore) keeps it.

use chrono::{DateTime, Utc};
use punctual_domain::Fingerprint;
use serde_json::Value;
use uuid::Uuid;

/// What has been prepared for an item's run.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPrepared {
    /// The fingerprint of the parameters that it was prepared with.
    pub fingerprint: Fingerprint,
    /// What came of the call.
    pub work: PreparedWork,
    /// When.
    pub at: DateTime<Utc>,
}

/// What came of a call that prepares an item's run.
#[derive(Debug, Clone, PartialEq)]
pub enum PreparedWork {
    /// The output.
    Output(Value),
    /// The call with this id waits: its work goes on elsewhere.
    Waits(Uuid),
}

/// The output that has been prepared for an item's run.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedOutput {
    /// The fingerprint of the parameters that it was prepared with.
    pub fingerprint: Fingerprint,
    /// The output of the job's first purpose.
    pub output: Value,
}

/// How far an item's run has been prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedState {
    /// The fingerprint of the parameters that it is prepared with.
    pub fingerprint: Fingerprint,
    /// Since when it is as it is.
    pub since: DateTime<Utc>,
    /// Whether there is an output; otherwise the work for it goes on elsewhere.
    pub is_ready: bool,
}
