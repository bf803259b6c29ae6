//! Provider batches of a purpose `chat`: collects what waits, sends it, looks for its end with back-off, reads the answers and
//! completes the calls. Each replica runs one; a provider batch is worked on by the one that has its lease.
//!
//! Before each call that begins something at the provider, the state that says so is stored. A process that finds this state
//! looks for what was begun in the provider's lists, and takes it, before it begins anything: nothing is paid twice. What ends without an
//! answer is completed as a retryable error, and its next attempt is a single call.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, TryStreamExt, future::try_join_all, stream};
use punctual_application::{
    LogLimit, ProviderBatchStore,
    backoff::Backoff,
    crash_point,
    ports::{
        AnsweredCall, Clock, CollectLimits, Completer, HandlerError, HandlerErrorKind,
        ProviderBatch, ProviderBatchState as State, ProviderBatches, StoreError,
    },
};
use punctual_domain::{Outcome, PurposeId};
use reqwest::{Body, Response};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    ChatHandler,
    batch_api::{BatchApi, RemoteBatch, RemoteState},
    lines::{Line, Lines},
    options::ChatBatchConfig,
    provider::{ChatProvider, tokens},
};
use crate::handlers::endpoint::{unanswered, without_key};

/// How long a provider batch belongs to a process that works on it, and how often it renews that.
const LEASE: TimeDelta = TimeDelta::seconds(20);
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How often a process looks for what waits and for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Waits between looks at a batch that is not over, and after failures.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));
/// Requests that are read from the store together.
const REQUESTS_PER_PAGE: usize = 32;
/// Answers that are completed and marked together, and how many of them at one time.
const ANSWERS_PER_GROUP: usize = 200;
const COMPLETIONS_AT_ONCE: usize = 32;
/// Longest line of results.
const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a request in a batch beside its JSON.
const BYTES_AROUND: u64 = 200;
/// Results that lack answers are read so many times.
const MAX_READS: u32 = 3;
/// A call that began to wait so long before the last one that was collected has been collected, unless its row came late; each
/// [`LOOK_AT_ALL_EVERY`], all are looked at.
const MAX_DELAY: TimeDelta = TimeDelta::minutes(10);
const LOOK_AT_ALL_EVERY: TimeDelta = TimeDelta::minutes(10);
/// Stands in place of a file's id where a batch was found by the number of its requests, which may be another's.
const FOUND_BY_NUMBER: &str = "found by its number of requests";

/// What a handler needs for its provider batches.
pub(super) struct Batches {
    pub(super) purpose: PurposeId,
    pub(super) config: ChatBatchConfig,
    pub(super) store: ProviderBatchStore,
    pub(super) api: BatchApi,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: LogLimit,
}

/// Why work on a provider batch stops before its end.
enum Stop {
    /// The store failed; the lease runs out, and the work goes on.
    Store(StoreError),
    /// A call of the provider failed.
    Call(HandlerError),
    /// Another process has the provider batch.
    LeaseLost,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<HandlerError> for Stop {
    fn from(error: HandlerError) -> Self {
        Self::Call(error)
    }
}

/// A provider batch that this process works on.
struct Lease<'a> {
    store: &'a dyn ProviderBatches,
    clock: &'a dyn Clock,
    batch: Mutex<ProviderBatch>,
}

impl Lease<'_> {
    async fn batch(&self) -> ProviderBatch {
        self.batch.lock().await.clone()
    }

    /// Stores a change; the work goes on, or after `wait`, with this or another process.
    async fn change(
        &self,
        wait: Option<Duration>,
        change: impl FnOnce(&mut ProviderBatch) + Send,
    ) -> Result<(), Stop> {
        let mut batch = self.batch.lock().await;
        let mut changed = batch.clone();
        change(&mut changed);
        let wait = wait.map_or(LEASE, |wait| TimeDelta::from_std(wait).unwrap_or(LEASE));
        let due_at = self.clock.now() + wait;
        if !self.store.save(&changed, due_at).await? {
            return Err(Stop::LeaseLost);
        }
        *batch = ProviderBatch { due_at, ..changed };
        Ok(())
    }

    /// Renews the lease until it is lost, or may be: after two failures in a row, the next renewal might come too late.
    async fn renew(&self) {
        let mut has_failed = false;
        loop {
            sleep(RENEW_EVERY).await;
            match timeout(RENEW_EVERY, self.change(None, |_| ())).await {
                Ok(Ok(())) => has_failed = false,
                Ok(Err(Stop::LeaseLost)) => return,
                _ if has_failed => return,
                _ => has_failed = true,
            }
        }
    }
}

/// What the results of a batch contained.
#[derive(Debug, Default)]
struct Read {
    /// Lines about calls of the batch that were not answered before.
    answers: usize,
    /// Lines that cannot be read, are about no call of the batch, or about one that is answered.
    others: usize,
}

/// Runs the provider batches of a handler.
pub(super) struct Collector<'a> {
    handler: &'a ChatHandler,
    batches: &'a Batches,
    store: Arc<dyn ProviderBatches>,
    completer: Arc<dyn Completer>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        handler: &'a ChatHandler,
        batches: &'a Batches,
        store: Arc<dyn ProviderBatches>,
        completer: Arc<dyn Completer>,
    ) -> Self {
        Self {
            handler,
            batches,
            store,
            completer,
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(&self) {
        let (mut from, mut all_looked_at) = (None, self.now());
        loop {
            if self.now() - all_looked_at > LOOK_AT_ALL_EVERY {
                (from, all_looked_at) = (None, self.now());
            }
            if let Err(error) = self.collect(&mut from).await {
                self.warn_of_store(&error);
            }
            if let Err(error) = self.work_on_due().await {
                self.warn_of_store(&error);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn warn_of_store(&self, error: &StoreError) {
        let purpose = &self.batches.purpose;
        if self.batches.log.next("the store").is_written() {
            warn!(%purpose, %error, "Failed to keep provider batches of {purpose}, retrying in {} s: {error}",
                LOOK_EVERY.as_secs());
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.batches.clock.now()
    }

    /// Makes provider batches of what waits.
    async fn collect(&self, from: &mut Option<DateTime<Utc>>) -> Result<(), StoreError> {
        let purpose = &self.batches.purpose;
        let (requests, bytes) = self.batches.api.provider.batch_limits();
        loop {
            let limits = CollectLimits {
                requests,
                bytes: bytes - BYTES_AROUND,
                bytes_around: BYTES_AROUND,
                collect_for: self.batches.config.collect_for,
                from: *from,
            };
            let collected = self.store.collect(purpose, &limits, self.now()).await?;
            let Some(collected) = collected else {
                // What has been waiting for longer would have been collected.
                let from_now = self.now() - self.batches.config.collect_for - MAX_DELAY;
                *from = Some(from_now);
                return Ok(());
            };
            *from = Some(collected.last_since - MAX_DELAY);
            info!(%purpose, provider_batch = %collected.id, calls = collected.calls, "Collected a provider batch");
        }
    }

    /// Works on every provider batch that is due.
    async fn work_on_due(&self) -> Result<(), StoreError> {
        let purpose = &self.batches.purpose;
        while let Some(batch) = self.store.take(purpose, self.now(), LEASE).await? {
            let lease = Lease {
                store: &*self.store,
                clock: &*self.batches.clock,
                batch: Mutex::new(batch),
            };
            let work = async {
                match self.work_on(&lease).await {
                    Err(Stop::Call(error)) => self.failed(&lease, error).await,
                    other => other,
                }
            };
            let stopped = tokio::select! {
                stopped = work => stopped,
                () = lease.renew() => Err(Stop::LeaseLost),
            };
            match stopped {
                Ok(()) => {}
                Err(Stop::Store(error)) => return Err(error),
                Err(Stop::Call(error)) => debug!(%purpose, "Failed to note a failure: {error}"),
                Err(Stop::LeaseLost) => {
                    debug!(%purpose, "Another process has taken a provider batch over");
                }
            }
        }
        Ok(())
    }

    /// A call of the provider has failed: the work goes on later, or the calls are made singly.
    async fn failed(&self, lease: &Lease<'_>, error: HandlerError) -> Result<(), Stop> {
        let batch = lease.batch().await;
        let (purpose, provider_batch) = (&batch.purpose_id, batch.id);
        // Nothing else comes of a request that is refused, or of what is not over at the deadline.
        let is_refused = error.kind == HandlerErrorKind::Permanent && batch.remote_id.is_none();
        let is_late = match batch.remote_id {
            None => self.is_overdue(&batch),
            Some(_) => self.now() > batch.first_since + self.batches.config.complete_within,
        };
        if is_refused || is_late {
            warn!(%purpose, %provider_batch, state = batch.state.as_str(), %error,
                "Failed to use a provider batch, its calls are retried singly: {error}");
            return self.end(lease, "given_up", &error.message).await;
        }
        let wait = BACKOFF.after(batch.looks + 1);
        let wait = wait.max(error.retry_after.unwrap_or_default());
        let wait = self.no_later_than_on_time(&batch, wait);
        let line = self.batches.log.next(purpose.as_str());
        if line.is_written() {
            warn!(%purpose, %provider_batch, state = batch.state.as_str(), %error,
                "Failed to work on a provider batch, retrying in {} s: {error}", wait.as_secs());
        }
        lease.change(Some(wait), |batch| batch.looks += 1).await
    }

    /// Whether what is not answered yet is to be called singly, so that it is on time.
    fn is_overdue(&self, batch: &ProviderBatch) -> bool {
        self.now() >= batch.first_since + self.batches.config.on_time()
    }

    /// The wait, cut short so that a batch is looked at when it has to be stopped.
    fn no_later_than_on_time(&self, batch: &ProviderBatch, wait: Duration) -> Duration {
        let on_time = batch.first_since + self.batches.config.on_time() - self.now();
        match on_time.to_std() {
            Ok(on_time) if batch.state < State::Cancelling => wait.min(on_time),
            _ => wait,
        }
    }

    /// Whether any of its calls still waits for an answer.
    async fn is_awaited(&self, batch: &ProviderBatch) -> Result<bool, StoreError> {
        Ok(!self.store.requests(batch.id, None, 1).await?.is_empty())
    }

    /// Brings a provider batch as far as it can be brought now.
    async fn work_on(&self, lease: &Lease<'_>) -> Result<(), Stop> {
        let api = &self.batches.api;
        // Whether nothing can have been begun at the provider in this state.
        let mut is_fresh = false;
        loop {
            let batch = lease.batch().await;
            match (batch.state, batch.remote_id.as_deref()) {
                (State::Collected | State::Uploading, _) if self.is_overdue(&batch) => {
                    return self.end(lease, "given_up", "it was not sent in time").await;
                }
                (State::Collected, _) => {
                    let next = match api.provider {
                        ChatProvider::OpenAi => State::Uploading,
                        ChatProvider::Anthropic => State::Creating,
                    };
                    lease.change(None, |batch| batch.state = next).await?;
                    is_fresh = true;
                }
                (State::Uploading, _) => {
                    let found = if is_fresh {
                        None
                    } else {
                        api.find_file(&batch).await?
                    };
                    let file_id = match found {
                        Some(file_id) => Some(file_id),
                        None => self.upload(&batch).await?,
                    };
                    let Some(file_id) = file_id else {
                        return self.end(lease, "given_up", "none of its calls waits").await;
                    };
                    crash_point!("provider-batch-after-upload");
                    let created = |batch: &mut ProviderBatch| {
                        batch.state = State::Creating;
                        batch.file_id = Some(file_id);
                        batch.looks = 0;
                    };
                    lease.change(None, created).await?;
                    is_fresh = true;
                }
                (State::Creating | State::Submitted | State::Cancelling | State::Reading, None) => {
                    let mut found = None;
                    if !is_fresh {
                        found = self.find_batch(&batch).await?;
                    }
                    let by_number = found.is_some() && api.provider == ChatProvider::Anthropic;
                    let remote = match found {
                        Some(found) => Some(found),
                        None if self.is_overdue(&batch) => {
                            return self.end(lease, "given_up", "it was not sent in time").await;
                        }
                        None => self.create(lease, &batch).await?,
                    };
                    let Some(remote) = remote else {
                        return self.end(lease, "given_up", "none of its calls waits").await;
                    };
                    crash_point!("provider-batch-after-create");
                    info!(purpose = %batch.purpose_id, provider_batch = %batch.id, remote = remote.id, "Sent a provider batch");
                    let submitted = |batch: &mut ProviderBatch| {
                        // The number of looks stays: it makes the waits longer while the provider is busy.
                        batch.state = State::Submitted;
                        batch.remote_id = Some(remote.id);
                        if by_number {
                            batch.file_id = Some(FOUND_BY_NUMBER.to_owned());
                        }
                    };
                    return lease.change(Some(BACKOFF.after(1)), submitted).await;
                }
                (_, Some(remote_id)) => {
                    let remote = api.look(remote_id).await?;
                    if self.look(lease, &batch, remote).await? {
                        return Ok(());
                    }
                    is_fresh = false;
                }
            }
        }
    }

    /// Goes by how far the batch at the provider has come. `true`: there is nothing more to do now.
    async fn look(
        &self,
        lease: &Lease<'_>,
        batch: &ProviderBatch,
        remote: RemoteBatch,
    ) -> Result<bool, Stop> {
        let wait = BACKOFF.after(batch.looks.saturating_add(1));
        let wait = Some(self.no_later_than_on_time(batch, wait));
        match remote.state {
            RemoteState::Working => {
                let is_ours = batch.file_id.as_deref() != Some(FOUND_BY_NUMBER);
                if batch.state == State::Submitted
                    && is_ours
                    && (self.is_overdue(batch) || !self.is_awaited(batch).await?)
                {
                    self.batches.api.cancel(&remote.id).await?;
                    let cancelling = |batch: &mut ProviderBatch| {
                        batch.state = State::Cancelling;
                        batch.looks = 0;
                    };
                    lease.change(Some(BACKOFF.after(1)), cancelling).await?;
                    return Ok(true);
                }
                // Its calls pass their deadlines by now, and are retried.
                if self.now() > batch.first_since + self.batches.config.complete_within {
                    self.end(lease, "given_up", "it did not end in time")
                        .await?;
                    return Ok(true);
                }
                lease.change(wait, |batch| batch.looks += 1).await?;
                Ok(true)
            }
            RemoteState::Busy if self.is_overdue(batch) => {
                let problem = remote.problem.unwrap_or_default();
                self.end(lease, "given_up", &problem).await?;
                Ok(true)
            }
            RemoteState::Busy => {
                let again = |batch: &mut ProviderBatch| {
                    batch.state = State::Creating;
                    batch.remote_id = None;
                    // The waits go on from where they are: the provider is asked less and less often.
                    batch.looks = batch.looks.saturating_add(4);
                };
                lease.change(wait, again).await?;
                Ok(true)
            }
            RemoteState::Ended(how) => {
                if batch.state != State::Reading {
                    let reading = |batch: &mut ProviderBatch| {
                        batch.state = State::Reading;
                        batch.looks = 0;
                    };
                    lease.change(None, reading).await?;
                }
                self.read_and_end(lease, &remote, how).await
            }
        }
    }

    /// Reads the results of a batch that is over at the provider. `false`: it is another's.
    async fn read_and_end(
        &self,
        lease: &Lease<'_>,
        remote: &RemoteBatch,
        how: &'static str,
    ) -> Result<bool, Stop> {
        let batch = lease.batch().await;
        let mut read = Read::default();
        for path in &remote.results {
            self.read(&batch, path, &mut read).await?;
        }
        let left = self.store.unanswered(batch.id, None, batch.calls as usize);
        let left = left.await?.len() as u64;
        let may_be_anothers = batch.file_id.as_deref() == Some(FOUND_BY_NUMBER);
        if may_be_anothers && read.others > 0 && left == batch.calls {
            let others = |batch: &mut ProviderBatch| {
                batch.others.extend(batch.remote_id.take());
                batch.file_id = None;
                batch.state = State::Creating;
            };
            lease.change(None, others).await?;
            return Ok(false);
        }
        debug!(provider_batch = %batch.id, answers = read.answers, others = read.others, "Read results of a provider batch");
        let may_be_cut = left > 0 && how == "completed" && batch.looks + 1 < MAX_READS;
        if may_be_cut && self.is_awaited(&batch).await? {
            let problem = format!(
                "the results lack {left} of {} answers; they may be cut off",
                batch.calls
            );
            return Err(HandlerError::retryable(problem).into());
        }
        crash_point!("provider-batch-before-end");
        let problem = match &remote.problem {
            Some(problem) => {
                format!("the provider's batch ended as {how} without an answer: {problem}")
            }
            None => format!("the provider's batch ended as {how} without an answer"),
        };
        self.end(lease, how, &problem).await?;
        Ok(true)
    }

    /// Reads a file of results and completes the calls in it.
    async fn read(&self, batch: &ProviderBatch, path: &str, read: &mut Read) -> Result<(), Stop> {
        let host = &self.batches.api.host;
        let mut response: Response = self.batches.api.results(path).await?;
        let mut lines = Lines::new(MAX_LINE_BYTES);
        let mut group = Vec::new();
        loop {
            let piece = response.chunk().await;
            let piece = piece.map_err(|error| unanswered(host, error))?;
            match &piece {
                Some(piece) => lines.push(piece),
                None => lines.end(),
            }
            while let Some(line) = lines.next() {
                match self.answer_in(line) {
                    Some(answer) => group.push(answer),
                    None => read.others += 1,
                }
                if group.len() == ANSWERS_PER_GROUP {
                    self.complete(batch, &mut group, read).await?;
                }
            }
            if piece.is_none() {
                return self.complete(batch, &mut group, read).await;
            }
        }
    }

    /// What a line says about a call; `None`: nothing that can be read.
    fn answer_in(&self, line: Line) -> Option<Completed> {
        let Line::Text(line) = line else { return None };
        let api = &self.batches.api;
        let line = without_key(line, api.api_key.as_ref());
        let answer = api.provider.batch_answer(&api.host, &line)?;
        let (input_tokens, output_tokens) = answer
            .answer
            .as_ref()
            .map_or((0, 0), |answer| tokens(&answer.usage));
        Some(Completed {
            call: AnsweredCall {
                call_id: answer.call_id,
                input_tokens,
                output_tokens,
            },
            outcome: answer
                .answer
                .and_then(|answer| self.handler.outcome(answer)),
        })
    }

    /// Completes the calls of a group that are in the batch and not answered, each once.
    async fn complete(
        &self,
        batch: &ProviderBatch,
        group: &mut Vec<Completed>,
        read: &mut Read,
    ) -> Result<(), Stop> {
        let mut group = std::mem::take(group);
        let lines = group.len();
        let ids: Vec<Uuid> = group.iter().map(|answer| answer.call.call_id).collect();
        let unanswered = self.store.unanswered_of(batch.id, &ids).await?;
        let mut unanswered: HashSet<Uuid> = unanswered.into_iter().collect();
        group.retain(|answer| unanswered.remove(&answer.call.call_id));
        read.answers += group.len();
        read.others += lines - group.len();
        let calls: Vec<AnsweredCall> = group.iter().map(|answer| answer.call).collect();
        let outcomes = group.into_iter();
        let outcomes = outcomes.map(|answer| (answer.call.call_id, answer.outcome));
        self.complete_all(outcomes.collect()).await?;
        crash_point!("provider-batch-before-mark");
        self.store.mark_answered(batch.id, &calls).await?;
        Ok(())
    }

    async fn complete_all(
        &self,
        mut outcomes: Vec<(Uuid, Result<Outcome, HandlerError>)>,
    ) -> Result<(), StoreError> {
        while !outcomes.is_empty() {
            let rest = outcomes.split_off(outcomes.len().min(COMPLETIONS_AT_ONCE));
            let piece = std::mem::replace(&mut outcomes, rest).into_iter();
            // A call that does not wait any more has its outcome already.
            let completions =
                piece.map(|(call_id, outcome)| self.completer.complete(call_id, outcome));
            try_join_all(completions).await?;
        }
        Ok(())
    }

    /// Completes what is not answered, to be called singly, and ends the provider batch.
    async fn end(&self, lease: &Lease<'_>, how: &'static str, problem: &str) -> Result<(), Stop> {
        let batch = lease.batch().await;
        let mut after = None;
        loop {
            let left = self.store.unanswered(batch.id, after, ANSWERS_PER_GROUP);
            let left = left.await?;
            let Some(last) = left.last() else { break };
            after = Some(*last);
            let failed = |call_id| (call_id, Err(HandlerError::retryable(problem)));
            self.complete_all(left.into_iter().map(failed).collect())
                .await?;
        }
        // The lease may have been renewed meanwhile.
        let mut ended = lease.batch.lock().await;
        ended.looks = 0;
        let totals = self.store.end(&ended, self.now()).await?;
        let totals = totals.ok_or(Stop::LeaseLost)?;
        let (purpose, purpose_id) = (&batch.purpose_id, batch.purpose_id.to_string());
        metrics::counter!("punctual_provider_batches_total", "purpose_id" => purpose_id.clone(), "outcome" => how)
            .increment(1);
        for (kind, tokens) in [
            ("input", totals.input_tokens),
            ("output", totals.output_tokens),
        ] {
            metrics::counter!("punctual_provider_batch_tokens_total", "purpose_id" => purpose_id.clone(), "kind" => kind)
                .increment(tokens);
        }
        let cost = self.batches.config.cost(&totals);
        info!(%purpose, provider_batch = %batch.id, remote = batch.remote_id, outcome = how, calls = totals.calls,
            answered = totals.answered, input_tokens = totals.input_tokens, output_tokens = totals.output_tokens, cost,
            "Provider batch ended as {how}: {} of {} calls answered", totals.answered, totals.calls);
        Ok(())
    }

    async fn find_batch(&self, batch: &ProviderBatch) -> Result<Option<RemoteBatch>, Stop> {
        let mut batch = batch.clone();
        if self.batches.api.provider == ChatProvider::Anthropic {
            batch.others.extend(self.store.remote_ids().await?);
        }
        Ok(self.batches.api.find_batch(&batch).await?)
    }

    /// Sends the file of requests. `None`: none of its calls waits any more.
    async fn upload(&self, batch: &ProviderBatch) -> Result<Option<String>, Stop> {
        let (_, length) = self.size(batch).await?;
        if length == 0 {
            return Ok(None);
        }
        crash_point!("provider-batch-before-upload");
        let body = Body::wrap_stream(self.body(batch));
        Ok(Some(self.batches.api.upload(batch, body, length).await?))
    }

    /// Begins the batch at the provider. `None`: none of its calls waits any more.
    async fn create(
        &self,
        lease: &Lease<'_>,
        batch: &ProviderBatch,
    ) -> Result<Option<RemoteBatch>, Stop> {
        let api = &self.batches.api;
        if let (ChatProvider::OpenAi, Some(file_id)) = (api.provider, &batch.file_id) {
            // The file may have been sent long ago.
            if !self.is_awaited(batch).await? {
                return Ok(None);
            }
            crash_point!("provider-batch-before-create");
            return Ok(Some(api.create(batch, file_id).await?));
        }
        let (requests, length) = self.size(batch).await?;
        if requests == 0 {
            return Ok(None);
        }
        // By this number, it is found again.
        lease.change(None, |batch| batch.calls = requests).await?;
        let body = Body::wrap_stream(self.body(batch));
        Ok(Some(api.create_with(body, length).await?))
    }

    /// Number of the requests that are sent, and their bytes. What stops waiting meanwhile is not sent: the call then fails for the
    /// length that it announced, and is made again.
    async fn size(&self, batch: &ProviderBatch) -> Result<(u64, u64), StoreError> {
        let mut pages = pin!(self.pages(batch));
        let (mut requests, mut length) = (0, 0);
        while let Some(page) = pages.try_next().await? {
            requests += page.requests as u64;
            length += page.bytes.len() as u64;
        }
        Ok((requests, length))
    }

    /// The requests as they are sent.
    fn body(
        &self,
        batch: &ProviderBatch,
    ) -> impl Stream<Item = Result<Vec<u8>, StoreError>> + Send + use<> {
        self.pages(batch).map_ok(|page| page.bytes)
    }

    /// The requests as they are sent, page by page.
    fn pages(
        &self,
        batch: &ProviderBatch,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send + use<> {
        let (store, batch) = (Arc::clone(&self.store), batch.id);
        let provider = self.batches.api.provider;
        let next = move |place| page(Arc::clone(&store), provider, batch, place);
        stream::try_unfold(Place::Beginning, next)
    }
}

/// Requests as they are sent.
struct Page {
    bytes: Vec<u8>,
    requests: usize,
}

/// A call that the provider has answered, and what its handler would have returned.
struct Completed {
    call: AnsweredCall,
    outcome: Result<Outcome, HandlerError>,
}

/// How far the requests have been read.
enum Place {
    Beginning,
    After(Option<Uuid>),
    End,
}

/// The next piece of the requests; `None`: the last one has been read.
async fn page(
    store: Arc<dyn ProviderBatches>,
    provider: ChatProvider,
    batch: Uuid,
    place: Place,
) -> Result<Option<(Page, Place)>, StoreError> {
    let around = |text: &str| Page {
        bytes: text.as_bytes().to_vec(),
        requests: 0,
    };
    let is_list = provider == ChatProvider::Anthropic;
    let after = match place {
        Place::Beginning if is_list => {
            return Ok(Some((around("{\"requests\":["), Place::After(None))));
        }
        Place::Beginning => None,
        Place::After(after) => after,
        Place::End => return Ok(None),
    };
    let calls = store.requests(batch, after, REQUESTS_PER_PAGE).await?;
    let Some(last) = calls.last().map(|call| call.call_id) else {
        return Ok(is_list.then(|| (around("]}"), Place::End)));
    };
    let requests = calls.len();
    let mut bytes = Vec::new();
    for (number, call) in calls.into_iter().enumerate() {
        if is_list && (number > 0 || after.is_some()) {
            bytes.push(b',');
        }
        bytes.extend_from_slice(provider.entry(call).to_string().as_bytes());
        if !is_list {
            bytes.push(b'\n');
        }
    }
    Ok(Some((Page { bytes, requests }, Place::After(Some(last)))))
}

#[cfg(test)]
mod tests {
    use punctual_application::{ports::MockProviderBatches, testing::ManualClock};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_stops_before_a_lease_ends_that_cannot_be_renewed() {
        let clock = ManualClock::starting_at("2026-03-01T09:00:00Z");
        let now = clock.now();
        let batch = ProviderBatch {
            id: Uuid::from_u128(1),
            purpose_id: PurposeId::new("write").unwrap(),
            state: State::Submitted,
            calls: 1,
            first_since: now,
            created_at: now,
            due_at: now + LEASE,
            looks: 0,
            file_id: None,
            remote_id: None,
            others: Vec::new(),
        };
        let mut store = MockProviderBatches::new();
        store
            .expect_save()
            .returning(|_, _| Err(StoreError::unavailable("the database is away")));
        let lease = Lease {
            store: &store,
            clock: &clock,
            batch: Mutex::new(batch),
        };
        let renewed = timeout(LEASE.to_std().unwrap(), lease.renew()).await;
        assert!(renewed.is_ok(), "it goes on without a lease");
    }
}
