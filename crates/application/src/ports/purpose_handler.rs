//! What runs for an item. The trait to implement for work of your own.
//!
//! Implement [`run`](PurposeHandler::run) and bind it to a purpose with [`Handlers::bind`](crate::Handlers::bind). To test a
//! handler, call `run` with an [`Item`], for example `testing::item`; `testing::contract::purpose_handler` checks what every
//! handler keeps to. To test what is around it, `testing::FakeStore::work` runs a whole batch.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_domain::{FailureKind, Item, Outcome, Preference, Waiting};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Completer, Mailer, WaitingCall,
    cause::{Cause, error_chain},
    rendered::Rendered,
};

/// Runs one purpose.
///
/// It is called at least once for an item, and its result is committed once. Where an effect outside must
/// happen once, hand [`Item::idempotency_key`] on: it is the same on every attempt.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait PurposeHandler: Send + Sync {
    /// Does the item's work and returns its result, that there was [nothing to do](Outcome::NothingToDo), or that the work goes
    /// on elsewhere ([waiting](Outcome::Waiting)). A JSON value becomes a result by `into()`.
    ///
    /// Calls run concurrently. Overrides and records are in the item as they were stored, so a field may be missing or of
    /// another type than you expect. A call is dropped at the time limit of its binding, at any `await`, and a panic is
    /// caught; both count as retryable errors. An attempt calls a remote endpoint once: the processor retries.
    ///
    /// # Errors
    /// [`HandlerError`] says whether another attempt makes sense: throttled where the remote endpoint limits the rate,
    /// retryable where it cannot do it now, permanent where it never will.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError>;

    /// What [`run`](Self::run) would send for the item, found out without an effect; `None` (the default): the handler
    /// has no preview. It goes the way of a run up to the call of the remote endpoint, and stores nothing.
    ///
    /// With `call`, a handler whose call can be marked as one without an effect makes it once, such as with the header
    /// `Punctual-Dry-Run: 1`; [`Rendered::outcome`] says what came of it. Any other handler ignores `call`.
    ///
    /// # Errors
    /// [`HandlerError`], as a run: a template that fails, for example.
    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        let _ = (item, call);
        Ok(None)
    }

    /// What has become of the work of a call that [waits](Outcome::Waiting), at the time it has asked to be polled at.
    /// [`Outcome::Waiting`]: it goes on, to be polled again at its `poll_at`. Calls run concurrently, within the time limit of the
    /// binding. The default waits on without being polled again.
    ///
    /// # Errors
    /// The work has failed, as [`run`](Self::run) says it. Where only the question failed, return [`Outcome::Waiting`] with
    /// a later `poll_at`.
    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Waiting(Waiting {
            poll_at: None,
            ..call.waiting.clone()
        }))
    }

    /// What the body of a completion over HTTP means; by default it is the output.
    fn completed(&self, body: Value) -> Outcome {
        Outcome::Done(body)
    }

    /// Hears of completions by itself, and hands them on, until it is dropped. The process runs it once as long as the handler is
    /// bound; it should return only where there is nothing to hear (the default). What it hears of while it does not
    /// run, it must hear of later: the process may end at any time.
    async fn listen(&self, completer: Arc<dyn Completer>) {
        let _ = completer;
    }

    /// Names of parameters that every run needs, and that are neither in these defaults of a job nor in the item, as far
    /// as is known without a run. The check of a job asks for them; a handler that cannot know names none.
    fn missing_parameters(&self, defaults: &Preference) -> Vec<String> {
        let _ = defaults;
        Vec::new()
    }

    /// What sends plain e-mails, such as alerts, by the server and the sender of this handler; `None` (the default): it sends no
    /// e-mails.
    fn mailer(&self) -> Option<Arc<dyn Mailer>> {
        None
    }
}

#[async_trait]
impl<T: PurposeHandler + ?Sized> PurposeHandler for Arc<T> {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        (**self).run(item).await
    }

    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        (**self).preview(item, call).await
    }

    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        (**self).poll(call).await
    }

    fn completed(&self, body: Value) -> Outcome {
        (**self).completed(body)
    }

    async fn listen(&self, completer: Arc<dyn Completer>) {
        (**self).listen(completer).await;
    }

    fn missing_parameters(&self, defaults: &Preference) -> Vec<String> {
        (**self).missing_parameters(defaults)
    }

    fn mailer(&self) -> Option<Arc<dyn Mailer>> {
        (**self).mailer()
    }
}

/// Failure of an item's work.
///
/// Any error becomes a retryable one by `?`. Therefore it does not implement [`Error`] itself; [`source`](Self::source)
/// gives the error it was made from. Its text is stored and shown, so it must hold no secret: leave the URL out of an HTTP
/// client's error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HandlerError {
    /// What happened; stored with the result, so without secrets.
    pub message: String,
    /// Kind of the failure; it decides whether the item is retried.
    pub kind: HandlerErrorKind,
    /// How long the remote endpoint asked us to wait.
    pub retry_after: Option<Duration>,
    /// What did not work.
    pub(crate) failure_kind: FailureKind,
    cause: Option<Cause>,
}

/// What can be done about an item's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HandlerErrorKind {
    /// Another attempt may succeed.
    Retryable,
    /// No further attempt makes sense.
    Permanent,
    /// The remote endpoint limits the rate: the whole purpose slows down, and the item is retried.
    Throttled,
}

impl HandlerError {
    /// Another attempt may succeed.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::of_kind(HandlerErrorKind::Retryable, message.into(), None)
    }

    /// The remote endpoint limits the rate; `retry_after` is the wait that it asks for.
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
            failure_kind: FailureKind::Handler,
            cause: None,
        }
    }

    /// The same, with the least time until the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = retry_after.into();
        self
    }

    /// The same, with the error that caused it. `message` should contain its text.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }

    /// The error that caused it.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retryable(error_chain(&error)).with_source(error)
    }
}
