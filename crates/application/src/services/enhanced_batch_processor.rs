//! The processor for work that follows preferences. It owns a [`BatchProcessor`] and adds what that one does
//! not know: each tenant's own parameters at the moment the item starts, limits over the whole process and for
//! each purpose, retries, items that the process does not outlive, and the end of the process.

mod data;
mod failures;
mod organizations;
mod overlap;
mod prepare;
mod prepare_ahead;
mod preview;
mod retry;
mod then;
mod waiting;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, StreamExt, stream};
use punctual_domain::{
    Chunk, FailureLimit, Item, ItemId, ItemResult, ItemStatus, JobConfig, JobId, JobKind, Outcome,
    Overlap, Priority, PurposeId, SkipReason, Waiting, Zone,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

pub(crate) use self::preview::PreviewError;
use self::{
    data::{ChunkData, DataFetcher},
    failures::BatchFailures,
    organizations::{NotBegun, Turn, Turns},
    overlap::{RunningGuard, RunningItems},
    prepare::Prepared,
    prepare_ahead::{Preparation, of_preparation},
    then::{Next, Then},
    waiting::WaitingCalls,
};
pub use self::{
    preview::{Preview, PreviewContent, PreviewStatus, PreviewThen},
    retry::RetryPolicy,
    waiting::SettledItems,
};
use crate::{
    ports::{
        Attempts, ClaimLimits, ClaimedChunk, ConfigDatabase, HandlerError, HandlerErrorKind,
        ItemSource, PreferenceMirror, Stage, TenantData, WaitingItem,
    },
    services::{
        batch_processor::{BatchProcessor, ChunkReport, Claimed, ItemEnd, ProcessError},
        jobs::Jobs,
        log_limit::{LogLimit, LogLine},
        operator::amount,
        permits::Permits,
        waiting::{accepted, resumed},
    },
};

/// After this many crashes, a chunk's items run one at a time, in isolation.
const MAX_CRASHES_BEFORE_ISOLATION: u32 = 2;
/// An item that was running in isolation in this many crashes is a poison item: it fails without being run.
const MAX_CRASHES_IN_ISOLATION: u32 = 2;

/// An item that runs longer than this is noted in the store, so that other processes know.
const RECORD_RUNNING_AFTER: Duration = Duration::from_secs(1);
/// An item that was prepared longer ago than this takes the preference as it stands when it begins.
const MAX_PREPARED_AGE: TimeDelta = TimeDelta::seconds(1);

/// How much runs at once, and how failures are retried.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Items running at one time in the whole process, over all chunks; at least 1.
    pub max_concurrent_items: usize,
    /// Retries of a failed item.
    pub retry: RetryPolicy,
}

/// Runs chunks of any job with every tenant's own parameters.
#[derive(Clone)]
pub struct EnhancedBatchProcessor {
    base: BatchProcessor,
    config_database: Arc<dyn ConfigDatabase>,
    mirror: Option<Arc<dyn PreferenceMirror>>,
    item_source: Arc<dyn ItemSource>,
    tenant_data: DataFetcher,
    jobs: Jobs,
    default_zone: Zone,
    retry: RetryPolicy,
    permits: Permits,
    organizations: Turns,
    max_concurrent_items: usize,
    failures: BatchFailures,
    logged_failures: Arc<LogLimit>,
    running: RunningItems,
    waiting: WaitingCalls,
    /// Places of previews.
    previews: Arc<Semaphore>,
    stop: CancellationToken,
}

/// A chunk in this delivery, and what applies to all of its items.
struct ChunkRun<'a> {
    chunk: &'a Chunk,
    claimed: &'a Claimed,
    policy: RetryPolicy,
    priority: Priority,
    failure_limit: FailureLimit,
    overlap: Overlap,
    prepared_at: DateTime<Utc>,
    /// Whether there are other jobs, so that permits are reserved for them.
    reserve_for_other_jobs: bool,
    isolated: bool,
    /// Each tenant's own data; `None`: the job has none.
    data: Option<ChunkData>,
    /// The job's two purposes; `None`: it has one.
    then: Option<Then>,
    /// What is known of the preparation of a run; `None`: it runs its items.
    preparation: Option<Preparation>,
    /// Recipients of the aggregate's result; `None`: each item has a result of its own.
    recipients: Option<Vec<ItemId>>,
}

impl ChunkRun<'_> {
    /// What an item has come to, or what the aggregate has for each recipient.
    fn distributed(&self, end: Option<ItemEnd>) -> Vec<Option<ItemEnd>> {
        match (&self.recipients, end) {
            (Some(recipients), Some(ItemEnd::Result(result))) if result.item_id.is_aggregate() => {
                let own = |id: &ItemId| {
                    Some(ItemEnd::Result(ItemResult {
                        item_id: id.clone(),
                        ..result.clone()
                    }))
                };
                recipients.iter().map(own).collect()
            }
            (Some(recipients), Some(ItemEnd::Waits(calls))) => {
                let of_recipients = |call: WaitingItem| {
                    let ids = if call.item_id.is_aggregate() {
                        recipients.clone()
                    } else {
                        vec![call.item_id.clone()]
                    };
                    ids.into_iter().map(move |item_id| WaitingItem {
                        item_id,
                        ..call.clone()
                    })
                };
                let all = calls.into_iter().flat_map(of_recipients).collect();
                vec![Some(ItemEnd::Waits(all))]
            }
            (_, end) => vec![end],
        }
    }

    /// The attempts at an item in calls that waited, and when the first began.
    fn resumed(&self, item_id: &ItemId) -> Option<(Attempts, DateTime<Utc>)> {
        resumed(&self.claimed.claim, item_id)
    }
}

impl EnhancedBatchProcessor {
    /// A processor of these jobs, on top of `base`. Once `stop` is cancelled, no further item
    /// begins.
    pub fn new(
        base: BatchProcessor,
        config_database: Arc<dyn ConfigDatabase>,
        item_source: Arc<dyn ItemSource>,
        jobs: impl Into<Jobs>,
        default_zone: Zone,
        limits: Limits,
        stop: CancellationToken,
    ) -> Self {
        let max_concurrent_items = limits.max_concurrent_items.max(1);
        Self {
            base,
            config_database,
            mirror: None,
            item_source,
            tenant_data: DataFetcher::default(),
            jobs: jobs.into(),
            default_zone,
            retry: limits.retry,
            permits: Permits::new(max_concurrent_items),
            organizations: Turns::default(),
            max_concurrent_items,
            failures: BatchFailures::default(),
            logged_failures: Arc::default(),
            running: RunningItems::default(),
            waiting: WaitingCalls::default(),
            previews: Arc::new(Semaphore::new(preview::MAX_PREVIEWS)),
            stop,
        }
    }

    /// Takes preferences from the scheduler's mirror, and asks the Config Database only for those it does not have.
    #[must_use]
    pub fn with_mirror(mut self, mirror: Arc<dyn PreferenceMirror>) -> Self {
        self.mirror = Some(mirror);
        self
    }

    /// Fetches the data of tenants for jobs that have `data`. Without, their items fail.
    #[must_use]
    pub fn with_tenant_data(mut self, tenant_data: Arc<dyn TenantData>) -> Self {
        self.tenant_data = DataFetcher::new(tenant_data);
        self
    }

    /// The time on the clock that results are stamped with.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.base.clock().now()
    }

    /// Runs what is left to run of a chunk.
    ///
    /// # Errors
    /// [`ProcessError`]; the chunk must be delivered again. What was committed before stays.
    pub async fn process(&self, chunk: &Chunk) -> Result<ChunkReport, ProcessError> {
        let claimed = self.base.claim(chunk).await?;
        self.process_claimed(chunk, &claimed).await
    }

    /// Runs a chunk that has been [claimed](crate::ports::ChunkQueue::claim_next) already.
    ///
    /// # Errors
    /// [`ProcessError`]; the claim has been released, unless the store failed.
    pub async fn run(&self, claimed: ClaimedChunk) -> Result<ChunkReport, ProcessError> {
        let ClaimedChunk {
            chunk,
            token,
            claim,
        } = claimed;
        self.process_claimed(&chunk, &Claimed::new(token, claim))
            .await
    }

    async fn process_claimed(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
    ) -> Result<ChunkReport, ProcessError> {
        let report = self.run_claimed(chunk, claimed).await;
        let report = self.base.end_claim(chunk, claimed, report).await?;
        info!(
            chunk_id = %chunk.chunk_id, job_id = %chunk.job_id, succeeded = report.succeeded,
            failed = report.failed, nothing_to_do = report.nothing_to_do, skipped = report.skipped,
            waiting = report.waiting,
            "Chunk {} of {} is done: {} succeeded, {} failed, {} had nothing to do, {} skipped, {} wait",
            chunk.chunk_id, chunk.job_id, report.succeeded, report.failed, report.nothing_to_do, report.skipped,
            report.waiting
        );
        Ok(report)
    }

    /// The limits of a worker of this processor that has claimed nothing.
    #[must_use]
    pub fn claim_limits(&self) -> ClaimLimits {
        ClaimLimits::new(self.max_concurrent_items)
    }

    /// Number of chunks of each job in work whose items that have not begun all wait for their organization's turn or share.
    #[must_use]
    pub fn held_up(&self) -> BTreeMap<JobId, usize> {
        self.organizations.held_up()
    }

    /// The priority of each job.
    #[must_use]
    pub fn priorities(&self) -> BTreeMap<JobId, Priority> {
        let jobs = self.jobs.current();
        let priority = |job: &JobConfig| (job.job_id.clone(), job.priority);
        jobs.jobs.iter().map(priority).collect()
    }

    /// The id that this process claims chunks with.
    #[must_use]
    pub fn process_id(&self) -> uuid::Uuid {
        self.base.process_id()
    }

    /// Resets the counted failures of a job that is resumed.
    pub fn reset_failures(&self, job_id: &JobId) {
        self.failures.reset_failures(job_id);
        self.waiting.reset_failures(job_id);
    }

    async fn run_claimed(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
    ) -> Result<ChunkReport, ProcessError> {
        let prepared_at = self.now();
        let mut prepared = self.prepare(chunk, &claimed.claim.items).await?;
        let jobs = self.jobs.current();
        let job = jobs.job(&chunk.job_id);
        let data = job.and_then(|job| job.data.as_ref());
        // Only the first purpose is prepared.
        let runs = job.filter(|_| chunk.prepares.is_none());
        let then = runs.and_then(Then::of);
        if let Some(then) = &then {
            self.add_written(chunk, claimed, then, &mut prepared)
                .await?;
        }
        let ready = self
            .take_ready(chunk, claimed, job, then.as_ref(), &mut prepared)
            .await?;
        self.add_previous(chunk, job, &mut prepared).await?;
        for item in prepared.iter_mut().filter_map(Prepared::item) {
            if let Some((attempts, _)) = resumed(&claimed.claim, &item.item_id) {
                item.attempt = attempts.made.saturating_add(1);
            }
        }
        let run = ChunkRun {
            chunk,
            claimed,
            policy: self.retry.with_limit(job.and_then(|job| job.retry_limit)),
            priority: job.map(|job: &JobConfig| job.priority).unwrap_or_default(),
            failure_limit: job.map(|job| job.failure_limit).unwrap_or_default(),
            overlap: match job.map(|job| job.overlap).unwrap_or_default() {
                _ if chunk.prepares.is_some() => Overlap::Allow,
                Overlap::Skip if chunk.makes_up() || !chunk.after.is_empty() => Overlap::Wait,
                overlap => overlap,
            },
            prepared_at,
            reserve_for_other_jobs: jobs.jobs.len() > 1,
            data: data.map(|config| ChunkData::new(config, chunk, &prepared)),
            then,
            preparation: chunk.prepares.map(|_| Preparation::default()),
            isolated: claimed.claim.crash_count >= MAX_CRASHES_BEFORE_ISOLATION,
            recipients: job
                .filter(|job| job.kind != JobKind::Individual)
                .map(|_| recipients_of(claimed, &prepared)),
        };
        let ready = self.end_ready(&run, ready).await?;
        if run.isolated {
            let prepared = self.without_poison(&run, prepared);
            let mut report = self.run_isolated(&run, prepared).await?;
            report += ready;
            return run.unless_failed(report);
        }
        let most = job.and_then(|job| job.max_concurrent_items_per_organization);
        let purposes = job.map_or_else(Vec::new, |job| job.purposes().cloned().collect());
        let calls = (self.base.handlers(), purposes);
        let items = self
            .organizations
            .items(&chunk.job_id, most, calls, prepared);
        let results = self
            .turns(&run, items)
            .map(|(prepared, turn)| self.run_to_outcome(&run, prepared, turn))
            .buffer_unordered(self.max_concurrent_items)
            .flat_map(|result| stream::iter(run.distributed(result)));
        let mut report = self.base.commit_all(chunk, claimed, results).await?;
        report += ready;
        let report = run.unless_failed(report)?;
        match self.failures.pause_reason(chunk) {
            Some(reason) if !claimed.is_cancelled() => Err(ProcessError::Failing(reason)),
            _ => Ok(report),
        }
    }

    /// The items of a chunk as they may begin, each with its organization's turn. Those that have to wait for other chunks are
    /// left for later.
    fn turns(
        &self,
        run: &ChunkRun<'_>,
        items: NotBegun,
    ) -> impl Stream<Item = (Prepared, Option<Turn>)> {
        stream::unfold(items, move |mut items| async move {
            if run.claimed.is_cancelled() || run.chunk.is_expired(self.now()) {
                items.end_limit();
            }
            let next = self.unless_stopping(items.next()).await?;
            if next.is_none() && !items.is_empty() {
                run.claimed.note_waiting();
            }
            run.claimed.stored().await;
            self.may_begin(run).then_some((next?, items))
        })
    }

    fn may_begin(&self, run: &ChunkRun<'_>) -> bool {
        !self.stop.is_cancelled()
            && !run.keeps_nothing()
            && (self.failures.pause_reason(run.chunk).is_none() || run.claimed.is_cancelled())
    }

    /// Runs the items of a chunk that was in work in several crashes, each in isolation and committed at once, so that
    /// the poison item is found.
    async fn run_isolated(
        &self,
        run: &ChunkRun<'_>,
        prepared: Vec<Prepared>,
    ) -> Result<ChunkReport, ProcessError> {
        let (chunk, claimed) = (run.chunk, run.claimed);
        warn!(chunk_id = %chunk.chunk_id, lost = claimed.claim.crash_count,
            "Chunk {} was running when {} processes crashed; its items now run one at a time",
            chunk.chunk_id, claimed.claim.crash_count);
        let poison_item = claimed.claim.poison_candidate.as_ref();
        let poison_item = poison_item.filter(|(_, deaths)| *deaths >= MAX_CRASHES_IN_ISOLATION);
        let mut report = ChunkReport::default();
        for prepared in prepared {
            if !self.may_begin(run) {
                break;
            }
            let mut exclusive = None;
            let result = match prepared {
                Prepared::Run(item) if poison_item.is_some_and(|(id, _)| *id == item.item_id) => {
                    error!(tenant_id = %item.item_id, job_id = %item.job_id,
                        "Poison item of {} in {}: the process crashed each time it ran alone; it \
                         does not run again",
                        item.item_id, item.job_id);
                    let message =
                        "the process crashed each time this item ran, even when it ran alone";
                    let outcome = Err(HandlerError::permanent(message));
                    Some(ItemEnd::Result(self.base.result(
                        &item,
                        self.now(),
                        outcome,
                    )))
                }
                Prepared::Run(item) => {
                    let mut progress = Progress::new(run, &item, None);
                    // Other items run while it waits for its data.
                    match self.with_data(run, item, &mut progress).await {
                        Some(Prepared::Run(item)) => {
                            exclusive = self.permits.acquire_exclusive().await;
                            if exclusive.is_none() {
                                break;
                            }
                            self.base
                                .mark_poison_candidate(chunk, claimed, &item.item_id)
                                .await?;
                            self.call(run, item, &mut progress).await
                        }
                        Some(Prepared::Skip(result)) => Some(ItemEnd::Result(result)),
                        None => None,
                    }
                }
                Prepared::Skip(result) => Some(ItemEnd::Result(result)),
            };
            let one = stream::iter(run.distributed(result));
            report += self.base.commit_all(chunk, claimed, one).await?;
            // Until its result is stored it is the poison candidate, so no other item may run.
            drop(exclusive);
        }
        Ok(report)
    }

    /// Brings one item to its end. `None` when it has not come to it: the process stops, or the item waits for another
    /// occurrence of its tenant.
    async fn run_to_outcome(
        &self,
        run: &ChunkRun<'_>,
        prepared: Prepared,
        turn: Option<Turn>,
    ) -> Option<ItemEnd> {
        let item = match prepared {
            Prepared::Run(item) => item,
            Prepared::Skip(result) => return Some(ItemEnd::Result(result)),
        };
        let mut progress = Progress::new(run, &item, turn);
        match self.with_data(run, item, &mut progress).await? {
            Prepared::Run(item) => self.call(run, item, &mut progress).await,
            Prepared::Skip(result) => Some(ItemEnd::Result(result)),
        }
    }

    /// Calls the handler of an item that has its data, until the item has ended or waits. `None`: it is left for later.
    async fn call(
        &self,
        run: &ChunkRun<'_>,
        mut item: Item,
        progress: &mut Progress,
    ) -> Option<ItemEnd> {
        let mut bound = self.base.handlers().of(&item.purpose_id);
        let mut begun: Option<(DateTime<Utc>, Option<RunningGuard>)> = None;
        // Of the purpose that is called.
        let mut first_attempt = true;
        loop {
            let first_call = begun.is_none();
            if first_call {
                item = match self.recheck(run, item, progress).await? {
                    Prepared::Run(item) => item,
                    Prepared::Skip(result) => return Some(ItemEnd::Result(result)),
                };
            }
            let begun_at = begun.as_ref().map(|(began, _)| *began);
            // An isolated item holds the exclusive permit already, and must not wait for items that wait for theirs.
            let (call_permit, permit) = match &bound {
                Some(bound) if !run.isolated => {
                    let turn = bound.throttle.acquire();
                    let call_permit = match begun_at {
                        // The item has begun, and may wait for the limits of its second purpose.
                        Some(began) if first_attempt => {
                            let turn = self.noted_if_long(run, &item, began, turn);
                            self.unless_stopping(turn).await?
                        }
                        _ => self.unless_stopping(turn).await?,
                    };
                    let permit = self.permits.acquire(
                        &run.chunk.job_id,
                        run.priority,
                        run.reserve_for_other_jobs,
                    );
                    (
                        Some(call_permit),
                        Some(self.unless_stopping(permit).await??),
                    )
                }
                _ => (None, None),
            };
            if first_call {
                item = match self.recheck(run, item, progress).await? {
                    Prepared::Run(item) => item,
                    Prepared::Skip(result) => return Some(ItemEnd::Result(result)),
                };
                let in_work = self.running.begin(&item);
                if in_work.is_none() && run.overlap != Overlap::Allow {
                    continue;
                }
                let began = progress.started_at.unwrap_or_else(|| self.now());
                begun = Some((began, in_work));
            }
            let began = begun
                .as_ref()
                .map_or_else(|| self.now(), |(began, _)| *began);
            let turn = progress.turn.as_mut();
            let is_counted = turn.is_some_and(|turn| turn.begin_call(&item.purpose_id));
            if let (false, Some(bound), Some(id)) = (is_counted, &bound, item.organization()) {
                bound.throttle.organizations.begin(id);
            }
            item.completion = Some(self.waiting.completion());
            let outcome = self.attempt(run, &item, began, first_attempt).await;
            drop(permit);
            if let Some(bound) = &bound {
                let tokens = outcome.as_ref().map(tokens_of);
                bound.throttle.note(tokens, item.organization());
            }
            drop(call_permit);
            let since = self.now();
            let outcome = accepted(outcome, since);
            let outcome = self.seal(run, &item, outcome).await?;
            if let Ok(Outcome::Waiting(waiting)) = outcome {
                let waits = begins_to_wait(run, &item, progress, began, since, waiting);
                return Some(ItemEnd::Waits(vec![waits]));
            }
            let Some(delay) = progress.delay_before_retry(run, &item, &outcome) else {
                match self.after_call(run, item, outcome, progress).await? {
                    Next::Call(second) => item = second,
                    Next::End(item, outcome) => {
                        return Some(ItemEnd::Result(self.ended(run, &item, began, outcome)));
                    }
                }
                bound = self.base.handlers().of(&item.purpose_id);
                first_attempt = true;
                continue;
            };
            if first_attempt {
                self.base
                    .record_running(run.chunk, run.claimed, &item.item_id, began)
                    .await;
            }
            self.unless_stopping(tokio::time::sleep(delay)).await?;
            item.attempt += 1;
            first_attempt = false;
        }
    }

    /// What becomes of an item that has not begun: it runs as its preference stands now, or is skipped. `None`: it is left for
    /// later.
    async fn recheck(
        &self,
        run: &ChunkRun<'_>,
        item: Item,
        progress: &mut Progress,
    ) -> Option<Prepared> {
        match self.start_blocker(run, &item) {
            Some(StartBlocker::Skip(reason)) => {
                return Some(Prepared::Skip(self.skipped(&item.item_id, reason)));
            }
            Some(StartBlocker::Wait) => {
                run.claimed.note_waiting();
                return None;
            }
            None => {}
        }
        if !self.may_begin(run) {
            return None;
        }
        if self.now() - progress.prepared_at <= MAX_PREPARED_AGE {
            return Some(Prepared::Run(item));
        }
        progress.prepared_at = self.now();
        Some(self.prepare_again(run.chunk, item).await)
    }

    /// The result of an item that has ended, which counts for the failure limit.
    fn ended(
        &self,
        run: &ChunkRun<'_>,
        item: &Item,
        began: DateTime<Utc>,
        outcome: Result<Outcome, HandlerError>,
    ) -> ItemResult {
        let result = self.base.result(item, began, outcome);
        if run.preparation.is_some() {
            return of_preparation(result);
        }
        let failed = result.status == ItemStatus::Failed;
        // Most tenants of a digest may have nothing to do: they say nothing about those who have.
        if result.status != ItemStatus::NothingToDo {
            let (job_id, batch_id) = (&run.chunk.job_id, run.chunk.batch_id);
            self.failures
                .count(job_id, batch_id, failed, run.failure_limit);
        }
        if let (true, Some(error)) = (failed, &result.error) {
            // Failures of one of two purposes hide none of the other.
            let purpose = run.then.as_ref().map(|_| &item.purpose_id);
            self.log_failure(&item.job_id, purpose, &result, error);
        }
        result
    }

    fn log_failure(
        &self,
        job_id: &JobId,
        purpose: Option<&PurposeId>,
        result: &ItemResult,
        error: &str,
    ) {
        let subject = match purpose {
            Some(purpose) => format!("purpose `{purpose}` of {job_id}"),
            None => job_id.to_string(),
        };
        let line = self.logged_failures.next(&subject);
        if line.is_written() {
            let (item_id, attempts) = (&result.item_id, result.attempts);
            let tries = amount(attempts.into(), "attempt");
            warn!(tenant_id = %item_id, %job_id, attempts, error,
                "Item of {item_id} in {job_id} failed for good after {tries}: {error}");
        }
        if line == LogLine::WriteLast {
            warn!(%job_id, "Leaving out more failed items of {subject} for a minute: its dead letters have them all");
        }
    }

    /// Returns the reason why an item must not begin now.
    fn start_blocker(&self, run: &ChunkRun<'_>, item: &Item) -> Option<StartBlocker> {
        if run.claimed.is_cancelled() {
            let reason = if run.claimed.claim.restored {
                SkipReason::Restored
            } else {
                SkipReason::Cancelled
            };
            return Some(StartBlocker::Skip(reason));
        }
        // What has been called before, and waited, has begun in time.
        let has_begun = run.preparation.is_none() && run.resumed(&item.item_id).is_some();
        if run.chunk.is_expired(self.now()) && !has_begun {
            return Some(StartBlocker::Skip(run.too_late()));
        }
        // Only the store knows whether a run counts: what this process still has running may have been given to another
        // one long ago. So such an item waits, and its next claim asks the store.
        let noted = run.claimed.claim.overlapping.contains(&item.item_id);
        match run.overlap {
            Overlap::Skip if noted && !has_begun => Some(StartBlocker::Skip(SkipReason::Overlap)),
            Overlap::Skip | Overlap::Wait if noted || self.running.has_other_occurrence(item) => {
                Some(StartBlocker::Wait)
            }
            _ => None,
        }
    }

    /// One attempt, noted in the store if it takes long.
    async fn attempt(
        &self,
        run: &ChunkRun<'_>,
        item: &Item,
        began: DateTime<Utc>,
        first_attempt: bool,
    ) -> Result<Outcome, HandlerError> {
        let attempt = self.base.handlers().attempt(item);
        if first_attempt {
            return self.noted_if_long(run, item, began, attempt).await;
        }
        attempt.await
    }

    /// Waits for something, during which the item is noted in the store as running if that takes long.
    async fn noted_if_long<T>(
        &self,
        run: &ChunkRun<'_>,
        item: &Item,
        began: DateTime<Utc>,
        waits: impl Future<Output = T>,
    ) -> T {
        let mut waits = std::pin::pin!(waits);
        tokio::select! {
            biased;
            done = &mut waits => return done,
            () = tokio::time::sleep(RECORD_RUNNING_AFTER) => {}
        }
        let noted = self
            .base
            .record_running(run.chunk, run.claimed, &item.item_id, began);
        let (done, ()) = futures::join!(waits, noted);
        done
    }

    /// Waits for something, unless the process stops before.
    async fn unless_stopping<T>(&self, waits: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = waits => Some(outcome),
            () = self.stop.cancelled() => None,
        }
    }
}

/// How far an item has come.
struct Progress {
    /// When its preference was read.
    prepared_at: DateTime<Utc>,
    /// Attempts so far that were refused because of a rate limit.
    refusals: u32,
    /// Attempts at the first of two purposes, which has ended.
    first_attempts: u32,
    /// When its first attempt began, in a call that waited; `None`: it has not been called.
    started_at: Option<DateTime<Utc>>,
    /// The turn of its organization, which it keeps to its end.
    turn: Option<Turn>,
}

impl Progress {
    fn new(run: &ChunkRun<'_>, item: &Item, turn: Option<Turn>) -> Self {
        let resumed = run.resumed(&item.item_id);
        let (before, started_at) = resumed.unzip();
        let before = before.unwrap_or_default();
        Self {
            prepared_at: run.prepared_at,
            refusals: before.refused,
            first_attempts: before.of_first,
            started_at,
            turn,
        }
    }

    /// How long the item waits for its next attempt; `None`: it has ended with this outcome.
    fn delay_before_retry(
        &mut self,
        run: &ChunkRun<'_>,
        item: &Item,
        outcome: &Result<Outcome, HandlerError>,
    ) -> Option<Duration> {
        let Err(error) = outcome else { return None };
        self.refusals += u32::from(error.kind == HandlerErrorKind::Throttled);
        let policy = &run.policy;
        policy.delay_before_retry(item.attempt, self.refusals, error)
    }
}

/// Reason why an item must not begin now.
enum StartBlocker {
    Skip(SkipReason),
    /// It waits for another occurrence of its tenant.
    Wait,
}

/// An item that begins to wait after a call.
fn begins_to_wait(
    run: &ChunkRun<'_>,
    item: &Item,
    progress: &Progress,
    began: DateTime<Utc>,
    since: DateTime<Utc>,
    waiting: Waiting,
) -> WaitingItem {
    let completion = item.completion.as_ref();
    WaitingItem {
        call_id: completion.map_or_else(Uuid::new_v4, |completion| completion.call_id),
        item_id: item.item_id.clone(),
        purpose_id: item.purpose_id.clone(),
        stage: match (&run.then, &item.written) {
            (None, _) if run.preparation.is_some() => Stage::Prepare,
            (None, _) => Stage::Only,
            (Some(_), None) => Stage::First,
            (Some(_), Some(_)) => Stage::Second,
        },
        attempts: Attempts {
            made: item.attempt,
            refused: progress.refusals,
            of_first: progress.first_attempts,
        },
        preference: item.preference_json(),
        started_at: began,
        since,
        waiting,
    }
}

/// Items of a claim that get the aggregate's result: all but those that were skipped.
fn recipients_of(claimed: &Claimed, prepared: &[Prepared]) -> Vec<ItemId> {
    let skipped: HashSet<&ItemId> = prepared.iter().filter_map(Prepared::skipped).collect();
    let items = claimed.claim.items.iter();
    items.filter(|id| !skipped.contains(id)).cloned().collect()
}

/// The tokens that a call has used, as far as its result says.
fn tokens_of(outcome: &Outcome) -> u64 {
    let output = outcome.output();
    let tokens = output.and_then(|output| output["usage"]["total_tokens"].as_u64());
    tokens.unwrap_or(0)
}

#[cfg(test)]
mod tests;
