//! Waiting: an item whose work goes on elsewhere after its handler's call has ended. It holds nothing in the process; a
//! completion from outside, a poll of its handler or its deadline brings it to its end.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input::words::words;

/// An item waits for so long at most, from the answer of its handler on.
pub const MAX_WAIT: TimeDelta = TimeDelta::days(30);
/// So much state is kept of an item that waits, in bytes of JSON.
pub const MAX_WAITING_STATE_BYTES: usize = 256 * 1024;
/// Characters of a note of progress that are kept.
pub const MAX_PROGRESS_CHARACTERS: usize = 300;

/// How long an item waits, and for what.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The deadline: a completion after it comes too late. What is further away than [`MAX_WAIT`] is brought to that.
    pub until: DateTime<Utc>,
    /// What happens at the deadline.
    pub at_deadline: AtDeadline,
    /// When its handler is asked for the state of the work; `None`: never.
    pub poll_at: Option<DateTime<Utc>>,
    /// What the handler needs to know when it is asked, such as the id of the work elsewhere; at most
    /// [`MAX_WAITING_STATE_BYTES`]. It is stored and not shown.
    pub state: Value,
}

impl Waiting {
    /// Waits for a completion until this deadline, at which the item is called again if it has a retry left.
    #[must_use]
    pub fn until(until: DateTime<Utc>) -> Self {
        Self {
            until,
            at_deadline: AtDeadline::default(),
            poll_at: None,
            state: Value::Null,
        }
    }

    /// The same, with this done at the deadline.
    #[must_use]
    pub fn at_deadline(mut self, at_deadline: AtDeadline) -> Self {
        self.at_deadline = at_deadline;
        self
    }

    /// The same, with its handler asked at `at`.
    #[must_use]
    pub fn polled_at(mut self, at: DateTime<Utc>) -> Self {
        self.poll_at = Some(at);
        self
    }

    /// The same, with this state for the handler.
    #[must_use]
    pub fn with_state(mut self, state: Value) -> Self {
        self.state = state;
        self
    }
}

/// What happens to an item whose deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AtDeadline {
    /// The attempt has failed; the item is called again if it has a retry left.
    #[default]
    Retry,
    /// The item has failed for good.
    Fail,
}

words!(
    AtDeadline,
    "what to do at the deadline",
    Retry = "retry",
    Fail = "fail",
);

/// How far the work of an item that waits has come, as its worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// What the worker says, at most [`MAX_PROGRESS_CHARACTERS`].
    pub note: String,
    /// When it said so.
    pub at: DateTime<Utc>,
}

/// An item that waits, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitingStatus {
    /// Since when it has been waiting.
    pub since: DateTime<Utc>,
    /// Its deadline.
    pub until: DateTime<Utc>,
    /// How far the work has come; `None`: its worker has not said.
    pub progress: Option<Progress>,
}
