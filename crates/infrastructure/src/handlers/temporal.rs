//! The handler `temporal`: starts a workflow of Temporal for an item, and asks for its result until it has ended.
//!
//! - `server`: the connection and the calls. `ending`: what the last event of a workflow means for its item.
//! - The id of the workflow is the idempotency key, and a workflow that runs under it, or has completed, is taken over: an item
//!   that is called again after a crash, or after its deadline, starts no second one. One that has failed makes room for a new one.
//! - Nothing there is cancelled from here.

mod ending;
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual_application::{
    LogLimit,
    ports::{Clock, HandlerError, PurposeHandler, Rendered, SystemClock, WaitingCall},
};
use punctual_domain::{
    Fields, Invalid, Item, Outcome, Waiting,
    values::{text, whole_number},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::warn;

use self::{
    ending::Ending,
    server::{Server, Started},
};
use super::{
    HandlerKind,
    completion::CompletionOptions,
    webhook::{content, unwritable},
};

/// How long after its start a workflow is asked for first, unless the purpose says so.
const DEFAULT_POLL_SECONDS: u64 = 5;
/// Workflows that go on for long are asked for so often at least.
const MAX_POLL: TimeDelta = TimeDelta::minutes(1);
/// A workflow is asked for again when it has run for this part longer.
const GROWTH: i32 = 4;
/// A workflow that continues as new is followed so far in one poll.
const MAX_RUNS: usize = 20;
/// So long may an answer take: calls of other purposes that wait fall due meanwhile, and few are polled at one time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that has not answered is not asked for so long, in seconds.
const SILENCE: i64 = 10;

/// Reads the options of a [`TemporalHandler`].
pub(crate) struct TemporalKind;

impl HandlerKind for TemporalKind {
    fn name(&self) -> &'static str {
        "temporal"
    }

    fn read(&self, fields: &mut Fields<'_>, _: Duration) -> Option<Arc<dyn PurposeHandler>> {
        let server = Server::read(fields);
        let remedy = "add the task queue that the workers poll";
        let task_queue = fields.required("task_queue", remedy, name);
        let remedy = "add the type of the workflow, as its worker registers it";
        let workflow = fields.required("workflow", remedy, name);
        let poll = fields.optional("poll_seconds", |value| whole_number(value, 1..=3_600));
        let deadline = CompletionOptions::read(fields);
        Some(Arc::new(TemporalHandler {
            server: server?,
            task_queue: task_queue?,
            workflow: workflow?,
            poll: TimeDelta::seconds(poll.unwrap_or(DEFAULT_POLL_SECONDS) as i64),
            deadline,
            silent_since: AtomicI64::default(),
            clock: Arc::new(SystemClock),
            failures: LogLimit::default(),
        }))
    }

    fn target(&self, options: &mut Fields<'_>) -> Option<String> {
        let workflow = options.raw("workflow")?.as_str()?;
        let address = options.raw("address")?.as_str()?;
        Some(format!("{workflow} at {address}"))
    }
}

/// A name that Temporal knows something by.
fn name(value: &Value) -> Result<String, Invalid> {
    let name = text(value)?;
    if (1..=200).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let remedy = "use 1 to 200 bytes without control characters";
    Err(Invalid::new("is not a valid name", remedy))
}

/// Starts workflows.
struct TemporalHandler {
    server: Server,
    task_queue: String,
    workflow: String,
    /// The shortest time between two questions.
    poll: TimeDelta,
    deadline: CompletionOptions,
    /// When the server did not answer last, in seconds of Unix time.
    silent_since: AtomicI64,
    clock: Arc<dyn Clock>,
    failures: LogLimit,
}

/// What is kept of an item that waits.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct State {
    workflow_id: String,
    run_id: String,
}

#[async_trait]
impl PurposeHandler for TemporalHandler {
    /// The item waits from the moment at which the server has the workflow.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let input = content(item)?;
        let workflow_id = item.idempotency_key();
        let memo = [
            ("tenant_id", json!(item.item_id)),
            ("job_id", json!(item.job_id)),
            ("purpose_id", json!(item.purpose_id)),
            ("occurrence", json!(item.occurrence)),
        ];
        let request_id = item
            .completion
            .as_ref()
            .map(|completion| completion.call_id);
        let started = Started {
            workflow_id: &workflow_id,
            workflow: &self.workflow,
            task_queue: &self.task_queue,
            request_id: request_id.unwrap_or_else(uuid::Uuid::new_v4),
            input,
        };
        let run_id = self.server.start(started, &memo).await?;
        let now = self.clock.now();
        let state = State {
            workflow_id,
            run_id,
        };
        Ok(Outcome::Waiting(
            self.deadline
                .waiting(now)
                .polled_at(now + self.poll)
                .with_state(json!(state)),
        ))
    }

    async fn preview(&self, item: &Item, _call: bool) -> Result<Option<Rendered>, HandlerError> {
        let to = format!(
            "{} in the task queue {} of {}",
            self.workflow,
            self.task_queue,
            self.server.place()
        );
        Ok(Some(Rendered {
            to: Some(to),
            body: Some(serde_json::to_value(item).map_err(unwritable)?),
            ..Rendered::default()
        }))
    }

    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        let state = serde_json::from_value::<State>(call.waiting.state.clone());
        let State {
            workflow_id,
            mut run_id,
        } = state.map_err(|error| {
            HandlerError::permanent(format!(
                "the item's state does not name a workflow: {error}"
            ))
        })?;
        for _ in 0..MAX_RUNS {
            match self.ask(&workflow_id, &run_id).await {
                Ok(Ending::Of(outcome)) => return outcome,
                Ok(Ending::None) => break,
                Ok(Ending::GoesOn(next)) => run_id = next,
                Err(error) => {
                    if self.failures.next("poll").is_written() {
                        warn!("Failed to ask Temporal for a workflow, asking again later: {error}");
                    }
                    break;
                }
            }
        }
        let state = State {
            workflow_id,
            run_id,
        };
        Ok(Outcome::Waiting(self.again(call, &state)))
    }
}

impl TemporalHandler {
    /// How far a run has come. While the server does not answer, it counts as going on.
    async fn ask(&self, workflow_id: &str, run_id: &str) -> Result<Ending, HandlerError> {
        let silent_for = self.clock.now().timestamp() - self.silent_since.load(Ordering::Relaxed);
        if (0..SILENCE).contains(&silent_for) {
            return Ok(Ending::None);
        }
        let asked = timeout(ANSWER_TIMEOUT, self.server.ending(workflow_id, run_id)).await;
        asked.unwrap_or_else(|_elapsed| {
            let now = self.clock.now().timestamp();
            self.silent_since.store(now, Ordering::Relaxed);
            let seconds = ANSWER_TIMEOUT.as_secs();
            let problem = format!("{} did not answer within {seconds} s", self.server.place());
            Err(HandlerError::retryable(problem))
        })
    }

    /// Waits on: the longer the workflow has run, the later it is asked for again.
    fn again(&self, call: &WaitingCall, state: &State) -> Waiting {
        let now = self.clock.now();
        let grown = ((now - call.since) / GROWTH).min(MAX_POLL);
        call.waiting
            .clone()
            .polled_at(now + grown.max(self.poll))
            .with_state(json!(state))
    }
}

#[cfg(test)]
mod tests;
