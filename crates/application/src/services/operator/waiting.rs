//! Items whose work goes on elsewhere: their workers complete them, say that they failed, or ask for more time; operators list them.
//!
//! Workers are no operators: the audit log does not have what they say.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{MAX_PROGRESS_CHARACTERS, MAX_WAIT, Outcome, Progress};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::debug;
use uuid::Uuid;

use super::{Operator, OperatorError};
use crate::ports::{
    HandlerError, HandlerErrorKind, Page, Paged, Settled, StoreError, WaitingCall, WaitingChange,
    WaitingFilter,
};

/// Characters of the message of a failure that are kept.
const MAX_MESSAGE_CHARACTERS: usize = 2_000;
/// How often a call that does not wait yet is looked up, and how long after a change of the store at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(80);
const LOOK_AFTER_CHANGE: Duration = Duration::from_millis(20);

/// That the work of a call has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CallFailed {
    /// What can be done about it: `retryable` (the default), `permanent`, or `throttled` for a rate limit.
    #[serde(default = "retryable")]
    pub kind: HandlerErrorKind,
    /// What happened. It is stored and shown, so it must hold no secret. Of a long one the first 2,000 characters are kept.
    pub message: String,
    /// Least time until the next attempt, in seconds, at most 2,592,000 (30 days).
    #[serde(default)]
    pub retry_after_seconds: Option<u64>,
}

fn retryable() -> HandlerErrorKind {
    HandlerErrorKind::Retryable
}

/// How the waiting of a call goes on; at least one of the fields is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExtendCall {
    /// The new deadline, in seconds from now, 1 to 2,592,000 (30 days).
    #[serde(default)]
    pub seconds: Option<u64>,
    /// How far the work has come, for people. Of a long text the first 300 characters are kept.
    #[serde(default)]
    pub progress: Option<String>,
}

/// How a call waits by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExtendedCall {
    /// The deadline.
    pub until: DateTime<Utc>,
    /// The latest deadline that the call can have: 30 days after it began to wait.
    pub latest: DateTime<Utc>,
    /// Whether a later deadline was asked for than the call can have.
    pub limited: bool,
}

/// That a completion or a failure was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TakenCompletion {
    /// Always `taken`.
    pub status: String,
}

/// How long a worker that was faster than the store is kept until the store knows its call, and how many are at one time: one
/// more is to come again.
#[derive(Debug)]
pub struct Patience {
    length: Duration,
    at_once: Semaphore,
}

impl Patience {
    /// For so long, with so many at one time.
    #[must_use]
    pub fn new(length: Duration, at_once: usize) -> Self {
        Self {
            length,
            at_once: Semaphore::new(at_once),
        }
    }
}

impl Operator {
    /// The call that a token is of; `None`: the token is wrong, or the process takes no completions.
    #[must_use]
    pub fn call_of_token(&self, token: &str) -> Option<Uuid> {
        self.processor.completion_urls()?.call_id(token)
    }

    /// Completes a call, as its handler reads `body`. A worker may be faster than the store: `patience` is for that.
    ///
    /// # Errors
    /// The call does not wait, its batch has been cancelled, or the store fails.
    pub async fn complete_call(
        &self,
        call_id: Uuid,
        body: Value,
        patience: &Patience,
    ) -> Result<TakenCompletion, OperatorError> {
        let call = self.waiting_call(call_id, patience).await?;
        let outcome = self.handlers.completed(&call.purpose_id, body);
        self.settle(&call, outcome).await
    }

    /// Says that the work of a call has failed: it is called again where it has a retry left. `patience` is as for
    /// [`complete_call`](Self::complete_call).
    ///
    /// # Errors
    /// The message is blank, the time is too long, the call does not wait, its batch has been cancelled, or the store fails.
    pub async fn fail_call(
        &self,
        call_id: Uuid,
        failed: &CallFailed,
        patience: &Patience,
    ) -> Result<TakenCompletion, OperatorError> {
        let error = failed.error()?;
        let call = self.waiting_call(call_id, patience).await?;
        self.settle(&call, Err(error)).await
    }

    /// Moves the deadline of a call, which is 30 days after it began to wait at the latest, and no later than the run
    /// that it prepares, or says how far its work has come.
    /// `patience` is as for [`complete_call`](Self::complete_call).
    ///
    /// # Errors
    /// Nothing is asked for, the time is not from 1 s to 30 days, the call does not wait, its batch has been cancelled, or the store
    /// fails.
    pub async fn extend_call(
        &self,
        call_id: Uuid,
        asked: &ExtendCall,
        patience: &Patience,
    ) -> Result<ExtendedCall, OperatorError> {
        let by = asked.by()?;
        let call = self.waiting_call(call_id, patience).await?;
        let now = self.clock.now();
        let latest = call.latest();
        let wanted = by.map(|by| now + by);
        let until = wanted.map(|until| until.min(latest));
        let urls = self.processor.completion_urls();
        let note = asked.progress.as_deref().map(|note| match urls {
            Some(urls) => urls.without_token(call_id, note),
            None => note.to_owned(),
        });
        let change = WaitingChange {
            until,
            progress: note.map(|note| Progress {
                note: in_one_line(&note, MAX_PROGRESS_CHARACTERS),
                at: now,
            }),
            ..WaitingChange::default()
        };
        if !self.waiting.keep_waiting(call_id, &change).await? {
            return Err(not_waiting());
        }
        let until = until.unwrap_or(call.waiting.until);
        debug!(%call_id, job_id = %call.job_id, %until, "A worker extended a call of {}", call.job_id);
        Ok(ExtendedCall {
            until,
            latest,
            limited: wanted.is_some_and(|wanted| wanted > latest),
        })
    }

    /// A page of the calls that wait, the longest first.
    ///
    /// # Errors
    /// The cursor is not one of this list, or the store fails.
    pub async fn waiting_calls(
        &self,
        filter: &WaitingFilter,
        page: &Page,
    ) -> Result<Paged<WaitingCall>, StoreError> {
        self.waiting.waiting_calls(filter, page).await
    }

    /// The call, once it waits.
    async fn waiting_call(
        &self,
        call_id: Uuid,
        patience: &Patience,
    ) -> Result<WaitingCall, OperatorError> {
        let mut call = self.waiting.waiting_call(call_id).await?;
        if call.is_none() {
            let Ok(_permit) = patience.at_once.try_acquire() else {
                return Err(OperatorError::Unavailable(
                    "too many workers at one time answer calls that do not wait yet, or not any more; send this again"
                        .to_owned(),
                ));
            };
            let began = timeout(patience.length, self.begun_to_wait(call_id)).await;
            call = began.ok().transpose()?;
        }
        match call {
            None => Err(not_waiting_yet()),
            Some(call) if call.is_cancelled => Err(cancelled()),
            Some(call) => Ok(call),
        }
    }

    /// Ends when the call waits.
    async fn begun_to_wait(&self, call_id: Uuid) -> Result<WaitingCall, StoreError> {
        let mut changes = self.reader.changes();
        loop {
            changes.mark_unchanged();
            if let Some(call) = self.waiting.waiting_call(call_id).await? {
                return Ok(call);
            }
            // Changes come in bursts.
            sleep(LOOK_AFTER_CHANGE).await;
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn settle(
        &self,
        call: &WaitingCall,
        outcome: Result<Outcome, HandlerError>,
    ) -> Result<TakenCompletion, OperatorError> {
        let (call_id, job_id) = (call.call_id, &call.job_id);
        let settled = self.processor.bring_further(call, outcome).await?;
        debug!(%call_id, %job_id, ?settled, "A worker answered a call of {job_id}");
        match settled {
            Settled::Taken => Ok(TakenCompletion {
                status: "taken".to_owned(),
            }),
            Settled::NotWaiting => Err(not_waiting()),
            Settled::Cancelled => Err(cancelled()),
        }
    }
}

fn not_waiting() -> OperatorError {
    OperatorError::Conflict(
        "not waiting: the call has been completed, its deadline has passed, or it is called again; nothing was changed, do \
         not send this again"
            .to_owned(),
    )
}

fn not_waiting_yet() -> OperatorError {
    OperatorError::NotYet(
        "not waiting: the call has been completed, its deadline has passed, it is called again, or the agent has not stored \
         yet that it waits; nothing was changed, send this again for a minute if you answered the call just now"
            .to_owned(),
    )
}

fn cancelled() -> OperatorError {
    OperatorError::Conflict(
        "cancelled: the batch of the call has been cancelled, and its item is skipped; nothing was changed, do not send \
         this again"
            .to_owned(),
    )
}

impl CallFailed {
    fn error(&self) -> Result<HandlerError, OperatorError> {
        let message = in_one_line(&self.message, MAX_MESSAGE_CHARACTERS);
        if message.is_empty() {
            return Err(OperatorError::Invalid(
                "message is blank; say what happened".to_owned(),
            ));
        }
        let after = self.retry_after_seconds;
        let after = after.map(|seconds| length_of("retry_after_seconds", seconds, 0));
        let after = after.transpose()?.and_then(|after| after.to_std().ok());
        Ok(match self.kind {
            HandlerErrorKind::Retryable => HandlerError::retryable(message),
            HandlerErrorKind::Permanent => HandlerError::permanent(message),
            HandlerErrorKind::Throttled => HandlerError::throttled(message, None),
        }
        .with_retry_after(after))
    }
}

impl ExtendCall {
    /// By how much from now on the deadline is moved.
    fn by(&self) -> Result<Option<TimeDelta>, OperatorError> {
        if self.seconds.is_none() && self.progress.is_none() {
            return Err(OperatorError::Invalid(
                "nothing is asked for; send {\"seconds\": 3600}, {\"progress\": \"7 of 9\"}, or both"
                    .to_owned(),
            ));
        }
        let by = self.seconds;
        by.map(|seconds| length_of("seconds", seconds, 1))
            .transpose()
    }
}

fn length_of(field: &str, seconds: u64, least: u64) -> Result<TimeDelta, OperatorError> {
    let most = MAX_WAIT.num_seconds();
    let length = i64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= most);
    match length {
        Some(length) if seconds >= least => Ok(TimeDelta::seconds(length)),
        _ => Err(OperatorError::Invalid(format!(
            "{field} is {seconds}; send a whole number from {least} to {most} (30 days)"
        ))),
    }
}

/// The beginning of a text, without characters that are not shown and that a store may refuse.
fn in_one_line(text: &str, most: usize) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let text = text.trim();
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_what_its_worker_says_within_bounds() {
        let failed = |kind, message: &str, retry_after_seconds| {
            let failed = CallFailed {
                kind,
                message: message.to_owned(),
                retry_after_seconds,
            };
            failed.error()
        };
        let kind = HandlerErrorKind::Throttled;
        let error = failed(kind, " busy\n\0now ", Some(90)).unwrap();
        assert_eq!((error.kind, error.message.as_str()), (kind, "busy  now"));
        assert_eq!(error.retry_after, Some(Duration::from_secs(90)));
        let long = failed(HandlerErrorKind::Permanent, &"ö".repeat(5_000), None).unwrap();
        assert_eq!(long.message.chars().count(), MAX_MESSAGE_CHARACTERS);
        let blank = failed(kind, " \u{7}", None).unwrap_err().to_string();
        assert!(blank.contains("message is blank"), "{blank}");
        for seconds in [2_592_001, u64::MAX] {
            let long = failed(kind, "busy", Some(seconds)).unwrap_err().to_string();
            assert!(long.contains(&format!("retry_after_seconds is {seconds}")));
        }
    }

    #[test]
    fn a_deadline_moves_by_one_second_to_thirty_days() {
        let by = |seconds| {
            let asked = ExtendCall {
                seconds: Some(seconds),
                progress: None,
            };
            asked.by()
        };
        assert_eq!(by(1).unwrap(), Some(TimeDelta::seconds(1)));
        assert_eq!(by(2_592_000).unwrap(), Some(MAX_WAIT));
        for seconds in [0, 2_592_001, u64::MAX] {
            assert!(by(seconds).is_err(), "{seconds}");
        }
        assert!(ExtendCall::default().by().is_err());
    }
}
