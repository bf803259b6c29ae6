//! Why a store failed: the one error of the ports [`WorkQueue`](super::WorkQueue), [`BatchStore`](super::BatchStore),
//! [`BatchReader`](super::BatchReader), [`Deliveries`](super::Deliveries) and [`OperatorStore`](super::OperatorStore).

use std::error::Error;

use super::cause::Cause;

/// Why the store failed: what happened, of which kind it is, and the error of the database beneath.
///
/// Its text is complete, so a log needs nothing else; [`source`](Error::source) is for code that looks for one cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    #[source]
    cause: Option<Cause>,
}

/// The kinds of a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// A cursor is not one of the list it was given for.
    InvalidCursor,
    /// The URL of the store cannot be understood.
    InvalidUrl,
    /// The store is not in the state that the call expects, for example a dead letter is settled already.
    Conflict,
    /// What the call is about does not exist.
    NotFound,
    /// The store cannot be reached, is overloaded or too slow.
    Unavailable,
    /// The store's disk is full.
    Full,
    /// The store takes no writes: a read-only file or server.
    ReadOnly,
    /// The store refuses the credentials, or they do not allow the call.
    Denied,
    /// Stored data cannot be read.
    Corrupt,
    /// The tables belong to another program, or to another version of this one.
    Incompatible,
    /// Anything else: most likely a mistake in the adapter.
    Internal,
}

impl StoreError {
    /// An error of this kind; `message` says what happened.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// The store cannot be reached; a later call may succeed.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unavailable, message)
    }

    /// The same, with the error that caused it. `message` should contain its text.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without a change to the store's contents or to the caller's request.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Unavailable | StoreErrorKind::Full | StoreErrorKind::ReadOnly
        )
    }

    /// Whether the caller can correct the request; otherwise the store failed.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::InvalidCursor | StoreErrorKind::InvalidUrl | StoreErrorKind::Conflict
        )
    }
}
