//! Options of handlers whose work may go on after their call: how long it may take, and what happens at the deadline.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    AtDeadline, Fields, Invalid, Item, Waiting,
    values::{duration_between, text},
};

/// How long work that goes on may take unless the purpose says otherwise.
const DEFAULT_TIME: TimeDelta = TimeDelta::hours(24);

/// Within what time work is completed that goes on after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CompletionOptions {
    within: TimeDelta,
    at_deadline: AtDeadline,
}

impl Default for CompletionOptions {
    fn default() -> Self {
        Self {
            within: DEFAULT_TIME,
            at_deadline: AtDeadline::default(),
        }
    }
}

impl CompletionOptions {
    /// Reads the options among the fields of a purpose; mistakes stay with `fields`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let within = fields.optional("completes_within", |value| {
            duration_between(value, "1s", "30d")
        });
        let at_deadline = fields.optional("on_deadline", |value| {
            let word = text(value)?.parse::<AtDeadline>();
            word.map_err(|_unknown| {
                let remedy = format!("use one of {}", AtDeadline::WORDS.join(", "));
                Invalid::new("is not known", remedy)
            })
        });
        Self {
            within: within.unwrap_or(DEFAULT_TIME),
            at_deadline: at_deadline.unwrap_or_default(),
        }
    }

    /// How an item waits whose call ended now.
    pub(super) fn waiting(self, now: DateTime<Utc>) -> Waiting {
        Waiting::until(now + self.within).at_deadline(self.at_deadline)
    }
}

/// The address at which the work of the item's call is completed; `None`: it has none.
pub(super) fn completion_url(item: &Item) -> Option<&str> {
    item.completion.as_ref()?.url.as_deref()
}
