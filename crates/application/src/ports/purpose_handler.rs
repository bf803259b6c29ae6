//! What runs for an item. The one trait to implement for work of your own.

use std::time::Duration;

use async_trait::async_trait;
use punctual_domain::Item;
use serde_json::Value;

/// Runs one purpose.
///
/// It is called at least once for an item, and its result is committed once. Where an effect outside must
/// happen once, hand [`Item::idempotency_key`] on: it is the same on every attempt.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait PurposeHandler: Send + Sync {
    /// Does the item's work and returns its result.
    ///
    /// # Errors
    /// [`HandlerError`] says whether another attempt makes sense.
    async fn run(&self, item: &Item) -> Result<Value, HandlerError>;
}

/// Why an item's work failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HandlerError {
    /// What happened; stored with the result, so without secrets.
    pub message: String,
    /// What can be done about it.
    pub kind: HandlerErrorKind,
    /// How long the far side asked us to wait.
    pub retry_after: Option<Duration>,
}

/// What can be done about an item's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlerErrorKind {
    /// Another attempt may succeed.
    Retryable,
    /// No further attempt makes sense.
    Permanent,
    /// The far side is asked too much: the whole purpose slows down, and the item is tried again.
    Throttled,
}

impl HandlerError {
    /// Another attempt may succeed.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::of_kind(HandlerErrorKind::Retryable, message.into(), None)
    }

    /// The far side is asked too much; `retry_after` is how long it asked to be left alone.
    pub fn throttled(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self::of_kind(HandlerErrorKind::Throttled, message.into(), retry_after)
    }

    /// No further attempt makes sense.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::of_kind(HandlerErrorKind::Permanent, message.into(), None)
    }

    fn of_kind(kind: HandlerErrorKind, message: String, retry_after: Option<Duration>) -> Self {
        Self {
            message,
            kind,
            retry_after,
        }
    }
}
