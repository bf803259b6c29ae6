//! The handler `nats`: puts an item into a stream of NATS `JetStream`, from which workers in any language pull it. Their answers
//! come back by another stream, and bring the waiting item to its end.
//!
//! - `names`: what streams and subjects are called. `broker`: the connection and the streams. `answer`: what a worker says.
//! - The item's message is in the stream before the item waits: the server has acknowledged it. Its id holds the id of the call, so a
//!   publish that is repeated because its acknowledgement was lost is one message, and a later attempt is another one.
//! - An answer is acknowledged after the store has it: neither the end of this process nor that of the server loses one.

mod answer;
mod broker;
mod names;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind, Message, consumer::pull, context::PublishErrorKind, message::PublishMessage,
};
use async_trait::async_trait;
use chrono::SecondsFormat;
use futures::TryStreamExt;
use punctual_application::{
    LogLimit,
    ports::{Clock, Completer, HandlerError, PurposeHandler, Rendered, Settled, SystemClock},
};
use punctual_domain::{Fields, Item, Outcome};
use tokio::time::sleep;
use tracing::{debug, warn};

use self::{answer::Answer, broker::Broker, names::Names};
use super::{
    HandlerKind,
    completion::CompletionOptions,
    webhook::{content, unwritable},
};

/// So often one message is sent, where its acknowledgement does not come.
const MAX_PUBLISHES: u32 = 3;
/// Answers of workers that are handed on at one time. As many more are fetched: what lies here is delivered again after a while, and
/// each may be a megabyte.
const CONCURRENT_ANSWERS: usize = 32;
/// The server says so often that it is there, where it has no answers.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// An answer to a call that does not wait is looked at so often, as the call may not have been stored yet; so often it is tried to
/// move a message aside.
const MAX_DELIVERIES: i64 = 5;
/// Room for the headers of a message that is not an answer, in bytes: the reason is the longest.
const DEAD_HEADERS: usize = 2048;
/// How long to wait after a failure of the server or the store.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the options of a [`NatsHandler`].
pub(crate) struct NatsKind;

impl HandlerKind for NatsKind {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn read(&self, fields: &mut Fields<'_>, _: Duration) -> Option<Arc<dyn PurposeHandler>> {
        let names = Names::of(purpose_of(fields)).read(fields);
        let deadline = CompletionOptions::read(fields);
        let broker = Broker::read(fields, names)?;
        Some(Arc::new(NatsHandler {
            broker,
            deadline,
            clock: Arc::new(SystemClock),
            failures: LogLimit::default(),
        }))
    }

    fn target(&self, options: &mut Fields<'_>) -> Option<String> {
        let subject = options.raw("subject").and_then(serde_json::Value::as_str);
        let by_default = Names::of(purpose_of(options)).subject;
        Some(subject.map_or(by_default, str::to_owned))
    }
}

/// The purpose whose options these are: no name of one has characters that a pointer escapes.
fn purpose_of<'f>(options: &'f Fields<'_>) -> &'f str {
    options.pointer().rsplit('/').next().unwrap_or_default()
}

/// Hands items to workers through NATS.
struct NatsHandler {
    broker: Broker,
    deadline: CompletionOptions,
    clock: Arc<dyn Clock>,
    failures: LogLimit,
}

#[async_trait]
impl PurposeHandler for NatsHandler {
    /// The item waits from the moment at which its message is in the stream.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let content = content(item)?;
        let Some(completion) = &item.completion else {
            let problem = "the call has no id by which a worker could complete it";
            return Err(HandlerError::permanent(problem));
        };
        let key = item.idempotency_key();
        let call_id = completion.call_id.to_string();
        let waiting = self.deadline.waiting(self.clock.now());
        let deadline = waiting.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let message = PublishMessage::build()
            .payload(content.into())
            .message_id(format!("{key}/{call_id}"))
            .header("Punctual-Idempotency-Key", key)
            .header("Punctual-Call-Id", call_id)
            .header("Punctual-Deadline", deadline)
            .header(
                "Punctual-Completion-Subject",
                self.broker.names.completions_subject.as_str(),
            );
        self.publish(message).await?;
        Ok(Outcome::Waiting(waiting))
    }

    async fn preview(&self, item: &Item, _call: bool) -> Result<Option<Rendered>, HandlerError> {
        Ok(Some(Rendered {
            to: Some(self.broker.names.subject.clone()),
            body: Some(serde_json::to_value(item).map_err(unwritable)?),
            ..Rendered::default()
        }))
    }

    async fn listen(&self, completer: Arc<dyn Completer>) {
        loop {
            if let Err(error) = self.consume(completer.as_ref()).await {
                let purpose = &self.broker.names.purpose;
                if self.failures.next("listen").is_written() {
                    warn!(
                        "Failed to read the completions of purpose {purpose} from NATS, retrying in 1 s: {error}"
                    );
                }
            }
            sleep(PAUSE).await;
        }
    }
}

impl NatsHandler {
    /// Publishes the message until the server has acknowledged it.
    async fn publish(&self, message: PublishMessage) -> Result<(), HandlerError> {
        let subject = &self.broker.names.subject;
        let mut tries = 0;
        loop {
            let context = self.broker.streams().await?;
            tries += 1;
            let acknowledgement = match context.send_publish(subject.clone(), message.clone()).await
            {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            let Err(error) = acknowledgement else {
                return Ok(());
            };
            let problem = format!("{} did not take the item: {error}", self.broker.hosts());
            match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => {
                    return Err(HandlerError::permanent(problem).with_source(error));
                }
                // Whether it arrived is not known: the same id again is the same message.
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe
                    if tries < MAX_PUBLISHES => {}
                PublishErrorKind::StreamNotFound => {
                    self.broker.forget_streams();
                    return Err(HandlerError::retryable(problem).with_source(error));
                }
                _ => return Err(HandlerError::retryable(problem).with_source(error)),
            }
        }
    }

    /// Hands answers on until something fails.
    async fn consume(&self, completer: &dyn Completer) -> Result<(), HandlerError> {
        let consumer = self.broker.completions().await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(CONCURRENT_ANSWERS)
            .heartbeat(HEARTBEAT)
            .messages()
            .await;
        let messages: pull::Stream = messages.map_err(|error| self.broker.failed(&error))?;
        messages
            .map_err(|error| self.broker.failed(&error))
            .try_for_each_concurrent(CONCURRENT_ANSWERS, move |message| async move {
                self.take(completer, &message).await
            })
            .await
    }

    /// Hands one answer on, and acknowledges it once the store has it.
    async fn take(&self, completer: &dyn Completer, message: &Message) -> Result<(), HandlerError> {
        let answer = match Answer::read(&message.payload) {
            Ok(answer) => answer,
            Err(reason) => return self.bury(message, &reason).await,
        };
        let call_id = answer.call_id;
        loop {
            let settled = completer.complete(call_id, answer.outcome.clone()).await;
            match settled {
                Ok(Settled::Taken | Settled::Cancelled) => {
                    return self.acknowledge(message, AckKind::Ack).await;
                }
                Ok(Settled::NotWaiting) => {
                    if self.put_off(message).await? {
                        return Ok(());
                    }
                    debug!(%call_id, "Left out a completion whose call does not wait");
                    return self.acknowledge(message, AckKind::Ack).await;
                }
                Err(error) => {
                    if self.failures.next("complete").is_written() {
                        warn!("Failed to store a completion from NATS, retrying in 1 s: {error}");
                    }
                    // It stays with this process meanwhile.
                    self.acknowledge(message, AckKind::Progress).await?;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Has the message delivered again later; `false`: that has been done often enough.
    async fn put_off(&self, message: &Message) -> Result<bool, HandlerError> {
        let deliveries = message.info().map_or(MAX_DELIVERIES, |info| info.delivered);
        if deliveries >= MAX_DELIVERIES {
            return Ok(false);
        }
        let pause = PAUSE * 2_u32.pow(deliveries.clamp(1, MAX_DELIVERIES) as u32 - 1);
        self.acknowledge(message, AckKind::Nak(Some(pause))).await?;
        Ok(true)
    }

    /// Moves a message that is not an answer to the subject for those. One that cannot be moved is dropped in the end: it must not
    /// hold up answers.
    async fn bury(&self, message: &Message, reason: &str) -> Result<(), HandlerError> {
        let purpose = &self.broker.names.purpose;
        if self.failures.next("bury").is_written() {
            warn!("Refused a completion of purpose {purpose} from NATS: {reason}");
        }
        if let Err(error) = self.publish_dead(message, reason).await {
            self.broker.forget_streams();
            if self.put_off(message).await? {
                return Ok(());
            }
            if self.failures.next("drop").is_written() {
                warn!("Dropped a refused completion of purpose {purpose} from NATS: {error}");
            }
        }
        self.acknowledge(message, AckKind::Term).await
    }

    /// Publishes a message on the dead subject, with the reason. Its end is left out where it leaves no room for that.
    async fn publish_dead(&self, message: &Message, reason: &str) -> Result<(), HandlerError> {
        let context = self.broker.streams().await?;
        let room = context.client().max_payload().saturating_sub(DEAD_HEADERS);
        let payload = &message.payload;
        let dead = PublishMessage::build()
            .payload(payload.slice(..payload.len().min(room)))
            .header("Punctual-Reason", reason);
        let subject = self.broker.names.dead_subject.clone();
        let kept = match context.send_publish(subject, dead).await {
            Ok(sent) => sent.await,
            Err(error) => Err(error),
        };
        kept.map_err(|error| self.broker.failed(&error))?;
        Ok(())
    }

    async fn acknowledge(&self, message: &Message, kind: AckKind) -> Result<(), HandlerError> {
        let sent = message.ack_with(kind).await;
        sent.map_err(|error| self.broker.failed(&error))
    }
}

#[cfg(test)]
mod tests;
