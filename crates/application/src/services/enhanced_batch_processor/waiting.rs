//! Calls that wait: a completion, a poll or the deadline brings them further, by the same rules as the answer of a handler. The
//! store decides which of them is taken where several come at one time.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    Completion, FailureKind, ItemId, ItemResult, ItemStatus, JobConfig, JobId, MAX_WAIT, Outcome,
    PurposeId, Waiting,
};
use tracing::debug;
use uuid::Uuid;

use super::{
    EnhancedBatchProcessor,
    failures::BatchFailures,
    prepare_ahead::settlement_ahead,
    then::{of_both, of_purpose},
    tokens_of,
};
use crate::{
    ports::{
        Completer, HandlerError, HandlerErrorKind, Settled, Settlement, Stage, StoreError,
        WaitingCall, WaitingChange, WaitingItems,
    },
    services::{
        batch_processor::ChunkReport,
        coalescer::Coalescer,
        completion_urls::CompletionUrls,
        handlers::Handlers,
        waiting::{accepted, deadline_passed},
    },
};

/// A handler that does not say what has become of a call is asked again after this.
const POLL_AGAIN_AFTER: TimeDelta = TimeDelta::minutes(1);
/// After so many polls in a row that a purpose's handler has not answered, one at a time is tried: those of other purposes shall not
/// wait for it.
const MAX_UNANSWERED: u32 = 5;

/// Calls that wait, as far as a processor has to do with them. Clones share them.
#[derive(Clone, Default)]
pub(super) struct WaitingCalls {
    store: Option<Arc<dyn WaitingItems>>,
    urls: Option<CompletionUrls>,
    /// Stores settlements that come at one time in one transaction.
    settlements: Arc<Coalescer<(Uuid, Settlement), Settled>>,
    failures: BatchFailures,
    silent: Arc<Mutex<HashMap<PurposeId, Silence>>>,
    settled: Arc<Mutex<BTreeMap<JobId, SettledItems>>>,
}

/// Polls of a purpose that got no answer.
struct Silence {
    in_a_row: u32,
    /// The last of them, or a poll that is tried since.
    last: DateTime<Utc>,
}

/// What has become of items of a job that waited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettledItems {
    /// Their outcomes.
    pub report: ChunkReport,
    /// The reason to pause the job, if so many of them have failed that its failure limit is reached.
    pub pause_reason: Option<String>,
}

/// What becomes of a call.
enum Decision {
    Settle(Settlement),
    KeepWaiting(WaitingChange),
}

impl WaitingCalls {
    /// How the next call is completed, should it wait.
    pub(super) fn completion(&self) -> Completion {
        let call_id = Uuid::new_v4();
        let url = self.urls.as_ref().and_then(|urls| urls.url(call_id));
        Completion { call_id, url }
    }

    /// Resets the counted failures of a job.
    pub(super) fn reset_failures(&self, job_id: &JobId) {
        self.failures.reset_failures(job_id);
    }

    /// Stores a settlement, together with others that come at the same time.
    async fn settle(
        &self,
        store: &Arc<dyn WaitingItems>,
        call_id: Uuid,
        settlement: Settlement,
        now: DateTime<Utc>,
    ) -> Result<Settled, StoreError> {
        let store = Arc::clone(store);
        let settle = move |settlements: Vec<(Uuid, Settlement)>| async move {
            store.settle_calls(&settlements, now).await
        };
        self.settlements.ask((call_id, settlement), settle).await
    }

    /// Whether the handler of a purpose is asked at `now`, in view of its silence so far.
    fn is_asked(&self, purpose: &PurposeId, now: DateTime<Utc>) -> bool {
        let mut silent = self.silent();
        match silent.get_mut(purpose) {
            Some(silence) if silence.in_a_row >= MAX_UNANSWERED => {
                let is_silent = (now - silence.last).abs() < POLL_AGAIN_AFTER;
                if !is_silent {
                    silence.last = now;
                }
                !is_silent
            }
            _ => true,
        }
    }

    fn note_polled(&self, purpose: &PurposeId, is_answered: bool, now: DateTime<Utc>) {
        let mut silent = self.silent();
        if is_answered {
            silent.remove(purpose);
            return;
        }
        let silence = silent.entry(purpose.clone()).or_insert(Silence {
            in_a_row: 0,
            last: now,
        });
        silence.in_a_row = silence.in_a_row.saturating_add(1);
        silence.last = now;
    }

    fn silent(&self) -> MutexGuard<'_, HashMap<PurposeId, Silence>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self) -> MutexGuard<'_, BTreeMap<JobId, SettledItems>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EnhancedBatchProcessor {
    /// Brings calls that wait in this store further. Without, items begin to wait as well, and another process does that.
    #[must_use]
    pub fn with_waiting_items(mut self, store: Arc<dyn WaitingItems>) -> Self {
        self.waiting.store = Some(store);
        self
    }

    /// Gives each call an address at which it can be completed.
    #[must_use]
    pub fn with_completion_urls(mut self, urls: CompletionUrls) -> Self {
        self.waiting.urls = Some(urls);
        self
    }

    /// The addresses at which calls can be completed.
    #[must_use]
    pub fn completion_urls(&self) -> Option<&CompletionUrls> {
        self.waiting.urls.as_ref()
    }

    /// The handlers that it calls.
    #[must_use]
    pub fn handlers(&self) -> &Handlers {
        self.base.handlers()
    }

    /// What has become of items that waited since this was last asked, for metrics and to pause jobs that fail.
    #[must_use]
    pub fn take_settled(&self) -> BTreeMap<JobId, SettledItems> {
        mem::take(&mut *self.waiting.settled())
    }

    /// Asks the handler of a call what has become of it, and brings it further by the answer. Where it does not answer, it is asked
    /// again later. No limits of the purpose apply.
    ///
    /// # Errors
    /// The store fails.
    pub async fn poll(&self, call: WaitingCall) -> Result<(), StoreError> {
        let Some(store) = &self.waiting.store else {
            return Ok(());
        };
        if call.is_cancelled {
            return Ok(());
        }
        let answer = match self.base.handlers().of(&call.purpose_id) {
            Some(bound) if self.waiting.is_asked(&call.purpose_id, self.now()) => {
                let answer = bound.poll(&call).await;
                let is_answered = answer.is_ok();
                self.waiting
                    .note_polled(&call.purpose_id, is_answered, self.now());
                answer
            }
            Some(_) => Err("its handler has not answered the polls before it".to_owned()),
            None => Err("its purpose has no handler in this process".to_owned()),
        };
        match answer {
            Ok(outcome) => {
                self.bring_further(&call, outcome).await?;
            }
            Err(problem) => {
                let (job_id, purpose_id) = (&call.job_id, &call.purpose_id);
                debug!(%job_id, %purpose_id, "Failed to poll a call of {job_id} that waits: {problem}");
                let change = WaitingChange {
                    poll_at: Some(Some(self.now() + POLL_AGAIN_AFTER)),
                    ..WaitingChange::default()
                };
                store.keep_waiting(call.call_id, &change).await?;
            }
        }
        Ok(())
    }

    /// Ends the attempt of a call whose deadline has passed, unless it has been extended meanwhile.
    ///
    /// # Errors
    /// The store fails.
    pub async fn pass_deadline(&self, call: WaitingCall) -> Result<(), StoreError> {
        let Some(store) = &self.waiting.store else {
            return Ok(());
        };
        let Some(call) = store.waiting_call(call.call_id).await? else {
            return Ok(());
        };
        if call.is_cancelled || call.waiting.until > self.now() {
            return Ok(());
        }
        let passed = Err(deadline_passed(&call.waiting));
        self.bring_further(&call, passed).await?;
        Ok(())
    }

    /// Brings a call that has just been looked up further by an outcome, as [`complete`](Completer::complete) does.
    ///
    /// # Errors
    /// The store fails.
    pub async fn bring_further(
        &self,
        call: &WaitingCall,
        outcome: Result<Outcome, HandlerError>,
    ) -> Result<Settled, StoreError> {
        let Some(store) = &self.waiting.store else {
            return Ok(Settled::NotWaiting);
        };
        if call.is_cancelled {
            return Ok(Settled::Cancelled);
        }
        let now = self.now();
        let jobs = self.jobs.current();
        let job = jobs.job(&call.job_id);
        let outcome = accepted(outcome, now);
        let tokens = outcome.as_ref().map(tokens_of).map_err(Clone::clone);
        let settlement = match self.decide(call, job, outcome, now) {
            Decision::KeepWaiting(change) => {
                let waits = store.keep_waiting(call.call_id, &change).await?;
                return Ok(if waits {
                    Settled::Taken
                } else {
                    Settled::NotWaiting
                });
            }
            Decision::Settle(settlement) => settlement,
        };
        let settlement = match call.stage {
            Stage::Prepare => settlement_ahead(settlement),
            Stage::Only | Stage::First | Stage::Second => settlement,
        };
        let ended = match &settlement {
            Settlement::End(result) => Some((**result).clone()),
            Settlement::CallSecond(_) | Settlement::CallAgain { .. } => None,
        };
        let settled = self
            .waiting
            .settle(store, call.call_id, settlement, now)
            .await?;
        if settled == Settled::Taken {
            if let Some(bound) = self.base.handlers().of(&call.purpose_id) {
                bound.throttle.note(tokens.as_ref().copied(), None);
            }
            if let Some(result) = ended {
                self.note_settled(call, job, &result);
            }
        }
        Ok(settled)
    }

    fn decide(
        &self,
        call: &WaitingCall,
        job: Option<&JobConfig>,
        outcome: Result<Outcome, HandlerError>,
        now: DateTime<Utc>,
    ) -> Decision {
        let ends = |status, output, error, failure_kind| {
            let result = ended(call, now, status, output, error, failure_kind);
            Decision::Settle(Settlement::End(Box::new(result)))
        };
        match outcome {
            Ok(Outcome::Waiting(waiting)) => Decision::KeepWaiting(change(call, waiting)),
            Ok(Outcome::Done(output)) => {
                let has_second = job.is_none_or(|job| job.then.is_some());
                match (call.stage, &call.written) {
                    (Stage::First, _) if has_second => {
                        Decision::Settle(Settlement::CallSecond(output))
                    }
                    (Stage::Second, Some(written)) => {
                        let both = of_both(written, &output);
                        ends(ItemStatus::Succeeded, Some(both), None, None)
                    }
                    _ => ends(ItemStatus::Succeeded, Some(output), None, None),
                }
            }
            Ok(Outcome::NothingToDo(reason)) => {
                ends(ItemStatus::NothingToDo, None, Some(reason), None)
            }
            Err(error) => {
                let is_refusal = error.kind == HandlerErrorKind::Throttled;
                let refused = call.attempts.refused + u32::from(is_refusal);
                let policy = self.retry.with_limit(job.and_then(|job| job.retry_limit));
                let delay = policy.delay_before_retry(call.attempts.made, refused, &error);
                if let Some(delay) = delay {
                    // A retry in the process comes within a minute. This one holds nothing, so it comes when it was asked for.
                    let delay = delay.max(error.retry_after.unwrap_or_default());
                    let delay =
                        TimeDelta::from_std(delay).map_or(MAX_WAIT, |delay| delay.min(MAX_WAIT));
                    let at = now + delay;
                    return Decision::Settle(Settlement::CallAgain { at, refused });
                }
                let message = match call.stage {
                    Stage::Only | Stage::Prepare => error.message,
                    Stage::First | Stage::Second => of_purpose(&call.purpose_id, &error.message),
                };
                let kind = error.failure_kind;
                ends(ItemStatus::Failed, None, Some(message), Some(kind))
            }
        }
    }

    /// Counts the items of a call that have ended.
    fn note_settled(&self, call: &WaitingCall, job: Option<&JobConfig>, result: &ItemResult) {
        let failed = result.status == ItemStatus::Failed;
        let failures = &self.waiting.failures;
        // A preparation says nothing about the batch that the job works on.
        if result.status != ItemStatus::NothingToDo && call.stage != Stage::Prepare {
            let limit = job.map(|job| job.failure_limit).unwrap_or_default();
            failures.count(&call.job_id, call.batch_id, failed, limit);
        }
        if let (true, Some(error)) = (failed, &result.error) {
            let purpose = (call.stage != Stage::Only).then_some(&call.purpose_id);
            self.log_failure(&call.job_id, purpose, result, error);
        }
        let mut settled = self.waiting.settled();
        let of_job = settled.entry(call.job_id.clone()).or_default();
        for _ in &call.items {
            of_job.report.count(std::slice::from_ref(result));
        }
        if failed {
            let reason = failures.pause_reason_of_last(&call.job_id);
            of_job.pause_reason = reason.or(of_job.pause_reason.take());
        }
    }
}

#[async_trait]
impl Completer for EnhancedBatchProcessor {
    async fn complete(
        &self,
        call_id: Uuid,
        outcome: Result<Outcome, HandlerError>,
    ) -> Result<Settled, StoreError> {
        let Some(store) = &self.waiting.store else {
            return Ok(Settled::NotWaiting);
        };
        match store.waiting_call(call_id).await? {
            Some(call) => self.bring_further(&call, outcome).await,
            None => Ok(Settled::NotWaiting),
        }
    }
}

/// The result of the items of a call.
fn ended(
    call: &WaitingCall,
    now: DateTime<Utc>,
    status: ItemStatus,
    output: Option<serde_json::Value>,
    error: Option<String>,
    failure_kind: Option<FailureKind>,
) -> ItemResult {
    let first = call.items.first().cloned();
    ItemResult {
        item_id: first.unwrap_or_else(ItemId::aggregate),
        status,
        failure_kind,
        attempts: call.attempts.made + call.attempts.of_first,
        preference: call.preference.clone(),
        output,
        error,
        started_at: call.started_at,
        finished_at: Some(now),
        waiting: None,
    }
}

/// What is different about how a call waits. A deadline that the handler leaves as it was is not written: a worker may have
/// extended it meanwhile.
fn change(call: &WaitingCall, waiting: Waiting) -> WaitingChange {
    let until = waiting.until.min(call.latest());
    WaitingChange {
        until: (until != call.waiting.until).then_some(until),
        poll_at: Some(waiting.poll_at),
        state: (waiting.state != call.waiting.state).then_some(waiting.state),
        progress: None,
    }
}
