//! The worker: claims chunks that wait and hands them to the processor, as many as there is room for. A chunk that could
//! not be brought to its end waits again, for any worker.
//!
//! Four loops work beside each other, so that none waits for another's statement: one claims, one says that the process is
//! alive, one surveys the queue and watches the other processes, and one listens to what they announce.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use punctual_application::{
    ActiveFailures, ChunkReport, EnhancedBatchProcessor, Operation, ProcessError, crash_point,
    ports::{
        ChunkQueue, ClaimLimits, ClaimedChunk, Heartbeat, PauseCause, StoreError, Survey, WorkQueue,
    },
};
use punctual_domain::{FailureKind, JobId};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, warn};
use uuid::Uuid;

use crate::{lateness::Lateness, spans};

/// Interval of heartbeats, and of looking at the queue without a notification.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A process that has been silent for so long, and at so many looks, has died. Its silence is measured by this process, so
/// no step of a clock makes it look dead; the looks keep one from looking dead whose store was away, or who was stopped
/// together with this process.
const DEAD_AFTER: Duration = Duration::from_secs(6);
const DEAD_AFTER_LOOKS: u32 = 4;
/// How long a chunk that cannot be worked on now keeps its place among those in work, and one whose items wait: replicas
/// whose clocks differ do not agree on how long it rests, and must not hand it to and fro.
const FAILED_CHUNK_DELAY: Duration = Duration::from_secs(5);
/// Short beside how long it rests: many of them keep no place from chunks that can begin.
const WAITING_CHUNK_DELAY: Duration = Duration::from_millis(250);
/// A claim whose answer did not come may still be committed for so long: longer than the store lets a transaction live.
const CLAIM_MAY_COMMIT_FOR: Duration = Duration::from_mins(2);
/// How long to wait after the store has failed.
const STORE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Works on the chunks of all jobs until it is asked to stop.
pub struct Worker {
    chunks: Arc<dyn ChunkQueue>,
    queue: Arc<dyn WorkQueue>,
    processor: EnhancedBatchProcessor,
    lateness: Lateness,
    failures: ActiveFailures,
    state: Mutex<State>,
    /// Wakes the loop that claims.
    wake: Notify,
}

/// What is in work, shared by the loops.
struct State {
    limits: ClaimLimits,
    /// The tokens of the claims in work.
    held: BTreeSet<Uuid>,
    /// Jobs that this process has paused, until chunks of them are claimed again.
    paused: BTreeSet<JobId>,
    /// Whether the store may know of claims that this process does not.
    forgotten: bool,
    /// Until when it may come to know of one.
    may_commit_until: Option<Instant>,
    /// Why the last claim failed; `None`: it did not.
    claim_error: Option<String>,
}

/// A chunk whose delivery has ended.
struct Ended {
    job_id: JobId,
    items: usize,
    token: Uuid,
    /// `None`: its items wait, which does not say how long chunks of its job take.
    took: Option<Duration>,
    /// Whether its claim has surely ended.
    released: bool,
}

/// How a delivery of a chunk has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// With its claim.
    Ended,
    /// The store may not have heard that the claim has ended.
    Unended,
    /// Nor may it have here; and items of the chunk wait.
    Waits,
}

impl Worker {
    /// A worker on the chunks of a store, `chunks` and `queue`, which `processor` works on, too.
    #[must_use]
    pub fn new(
        chunks: Arc<dyn ChunkQueue>,
        queue: Arc<dyn WorkQueue>,
        processor: EnhancedBatchProcessor,
    ) -> Self {
        let mut lateness = Lateness::default();
        lateness.begin(processor.now());
        let state = State {
            limits: processor.claim_limits(),
            held: BTreeSet::new(),
            paused: BTreeSet::new(),
            forgotten: false,
            may_commit_until: None,
            claim_error: None,
        };
        Self {
            chunks,
            queue,
            processor,
            lateness,
            failures: ActiveFailures::default(),
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    /// The same, which notes what fails in `failures`.
    #[must_use]
    pub fn with_failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    /// Works until `stop` is cancelled and the chunks in work are released or done. A failure of the store does not end
    /// it.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        // The heartbeats go on until nothing is in work any more.
        let ended = CancellationToken::new();
        let working = async {
            worker.claim_and_run(&stop).await;
            ended.cancel();
        };
        tokio::join!(
            working,
            worker.beat(&ended),
            worker.watch(&stop),
            stop.run_until_cancelled(worker.chunks.listen())
        );
        let signed_off = worker.chunks.sign_off(worker.processor.process_id()).await;
        if let Err(error) = signed_off {
            debug!(%error, "Failed to record that the worker stops: {error}");
        }
        info!("Worker stopped");
    }

    /// Claims what there is room for, and runs it.
    async fn claim_and_run(self: &Arc<Self>, stop: &CancellationToken) {
        let process = self.processor.process_id();
        let mut arrivals = self.chunks.arrivals();
        let mut tasks = JoinSet::new();
        let mut more = self.begin_heartbeats(process, stop).await;
        while !stop.is_cancelled() {
            if more {
                arrivals.borrow_and_update();
                more = match self.claim(process).await {
                    Ok(claimed) => {
                        let any = !claimed.is_empty();
                        for claimed in claimed {
                            self.begin(&mut tasks, claimed, stop);
                        }
                        any
                    }
                    Err(error) => {
                        warn!(%error, "Failed to claim chunks: {error}");
                        self.note_failed_claim(&error);
                        pause(STORE_RETRY_INTERVAL, stop).await;
                        true
                    }
                };
            }
            while let Some(ended) = tasks.try_join_next() {
                self.end(ended.ok());
                more = true;
            }
            if more {
                continue;
            }
            tokio::select! {
                Some(ended) = tasks.join_next() => {
                    self.end(ended.ok());
                    more = true;
                }
                Ok(()) = arrivals.changed() => more = true,
                () = self.wake.notified() => more = true,
                () = stop.cancelled() => {}
            }
        }
        while let Some(ended) = tasks.join_next().await {
            self.end(ended.ok());
        }
    }

    /// Sends the first heartbeat, before anything is claimed: a process that dies without one is never missed. `false`: the
    /// worker stops.
    async fn begin_heartbeats(&self, process: Uuid, stop: &CancellationToken) -> bool {
        while !stop.is_cancelled() {
            let Err(error) = self.chunks.heartbeat(process).await else {
                return true;
            };
            warn!(%error, "Failed to send a heartbeat: {error}");
            pause(STORE_RETRY_INTERVAL, stop).await;
        }
        false
    }

    async fn claim(&self, process: Uuid) -> Result<Vec<ClaimedChunk>, StoreError> {
        let now = self.processor.now();
        let (limits, forgotten, paused) = {
            let mut state = self.state();
            state.limits.begin(self.processor.priorities());
            state.limits.set_held_up(self.processor.held_up());
            let held: Vec<Uuid> = state.held.iter().copied().collect();
            let forgotten = state.forgotten || state.may_commit();
            let paused = state.paused.clone();
            (state.limits.clone(), forgotten.then_some(held), paused)
        };
        if let Some(held) = forgotten {
            self.chunks.release_forgotten(process, &held).await?;
            self.state().forgotten = false;
        }
        let claimed = self.chunks.claim_next(process, &limits, now).await?;
        let mut state = self.state();
        state.claim_error = None;
        for ClaimedChunk {
            chunk,
            token,
            claim,
        } in &claimed
        {
            state.limits.add(&chunk.job_id, chunk.items.len());
            state.held.insert(*token);
            // It was paused before the claim, so it has been resumed. What is cancelled is claimed of a paused job, too.
            if !claim.cancelled
                && paused.contains(&chunk.job_id)
                && state.paused.remove(&chunk.job_id)
            {
                self.processor.reset_failures(&chunk.job_id);
            }
        }
        Ok(claimed)
    }

    /// The answer to a claim that was made may be lost.
    fn note_failed_claim(&self, error: &StoreError) {
        let mut state = self.state();
        state.claim_error = Some(error.to_string());
        state.may_commit_until = Some(Instant::now() + CLAIM_MAY_COMMIT_FOR);
    }

    /// Begins a chunk, in a task of its own: chunks in work share the cores.
    fn begin(
        self: &Arc<Self>,
        tasks: &mut JoinSet<Ended>,
        claimed: ClaimedChunk,
        stop: &CancellationToken,
    ) {
        let span = spans::of(&claimed.chunk);
        let (worker, stop) = (Arc::clone(self), stop.clone());
        let work = async move {
            let mut ended = Ended {
                job_id: claimed.chunk.job_id.clone(),
                items: claimed.chunk.items.len(),
                token: claimed.token,
                took: None,
                released: true,
            };
            let began = Instant::now();
            let delivery = AssertUnwindSafe(worker.deliver(claimed, &stop)).catch_unwind();
            let delivery = match delivery.await {
                Ok(delivery) => delivery,
                Err(_panic) => {
                    worker.note_failure(&ended.job_id, &ProcessError::Panicked);
                    pause(FAILED_CHUNK_DELAY, &stop).await;
                    Delivery::Unended
                }
            };
            ended.released = delivery == Delivery::Ended;
            ended.took = (delivery != Delivery::Waits).then(|| began.elapsed());
            ended
        };
        tasks.spawn(work.instrument(span));
    }

    /// Counts a chunk whose delivery has ended; `None`: which one is unknown.
    fn end(&self, ended: Option<Ended>) {
        let mut state = self.state();
        if let Some(ended) = &ended {
            state.limits.remove(&ended.job_id, ended.items, ended.took);
            state.held.remove(&ended.token);
        }
        state.forgotten |= ended.is_none_or(|ended| !ended.released);
    }

    /// One delivery of a chunk.
    async fn deliver(&self, claimed: ClaimedChunk, stop: &CancellationToken) -> Delivery {
        let chunk = &claimed.chunk;
        let (job_id, chunk_id) = (chunk.job_id.clone(), chunk.chunk_id.clone());
        self.failures
            .succeeded(&Operation::BeginChunks(job_id.clone()));
        // What prepares a run is never late: the run is. What is cancelled does not start.
        if chunk.is_first() && chunk.prepares.is_none() && !claimed.claim.cancelled {
            let now = self.processor.now();
            self.lateness
                .record(&job_id, "started", chunk.scheduled_at, now);
        }
        let error = match self.processor.run(claimed).await {
            Ok(report) => {
                crash_point!("chunk-after-end");
                self.note_success(&job_id, report);
                return Delivery::Ended;
            }
            Err(error) => error,
        };
        match &error {
            ProcessError::Interrupted => {
                info!(
                    chunk_id,
                    "Returned chunk {chunk_id} to the queue: the worker is stopping"
                );
            }
            ProcessError::Waiting(ended) => {
                self.note_success(&job_id, *ended);
                debug!(
                    chunk_id,
                    "Items of chunk {chunk_id} wait for other items of the same tenants or organizations"
                );
                pause(WAITING_CHUNK_DELAY, stop).await;
                return Delivery::Waits;
            }
            // The process that has claimed it now will end it.
            ProcessError::Superseded => {}
            ProcessError::Failing(reason) => self.pause_job(&job_id, reason).await,
            error => {
                self.note_failure(&job_id, error);
                pause(FAILED_CHUNK_DELAY, stop).await;
            }
        }
        Delivery::Unended
    }

    fn note_success(&self, job_id: &JobId, report: ChunkReport) {
        self.failures
            .succeeded(&Operation::PrepareChunks(job_id.clone()));
        self.failures
            .succeeded(&Operation::StoreResults(job_id.clone()));
        count_items(job_id, report);
    }

    fn note_failure(&self, job_id: &JobId, error: &ProcessError) {
        let operation = match error {
            ProcessError::Store(_) => Operation::StoreResults(job_id.clone()),
            _ => Operation::PrepareChunks(job_id.clone()),
        };
        self.failures.failed(operation, error, self.processor.now());
        warn!(%job_id, %error, "Returned a chunk of {job_id} to the queue: {error}");
    }

    /// Pauses a job so much of which has failed.
    async fn pause_job(&self, job_id: &JobId, reason: &str) {
        if pause_job(&*self.queue, job_id, reason, self.processor.now()).await {
            self.state().paused.insert(job_id.clone());
        }
    }

    /// Says every now and then that the process is alive.
    async fn beat(&self, ended: &CancellationToken) {
        while !ended.is_cancelled() {
            if let Err(error) = self.chunks.heartbeat(self.processor.process_id()).await {
                debug!(%error, "Failed to send a heartbeat: {error}");
            }
            pause(HEARTBEAT_INTERVAL, ended).await;
        }
    }

    /// Looks every now and then for what waits and for processes that have died.
    async fn watch(&self, stop: &CancellationToken) {
        let mut silences = Silences::default();
        while !stop.is_cancelled() {
            let now = self.processor.now();
            let survey = self.chunks.survey(now).await;
            self.failures.note(Operation::ReadQueues, &survey, now);
            match survey {
                Ok(survey) => {
                    for lost in silences.lost(&survey, self.processor.process_id()) {
                        self.release_lost(&lost).await;
                    }
                    self.note_idle(&survey);
                    if !survey.waiting.is_empty() || self.state().may_commit() {
                        self.wake.notify_one();
                    }
                }
                Err(error) => warn!(%error, "Failed to read the queues: {error}"),
            }
            pause(HEARTBEAT_INTERVAL, stop).await;
        }
    }

    /// Releases what a process had claimed that has died or signed off.
    async fn release_lost(&self, last: &Heartbeat) {
        let process = last.process;
        match self.chunks.release_lost(last).await {
            Ok(0) => {}
            Ok(chunks) => info!(
                %process, chunks,
                "Process {process} has ended with {chunks} chunks in work, they wait again"
            ),
            Err(error) => warn!(
                %process, %error,
                "Failed to release the chunks of process {process}, which has ended: {error}"
            ),
        }
    }

    /// Notes the jobs whose chunks wait although none is in work here. Chunks that begin clear it.
    fn note_idle(&self, survey: &Survey) {
        let idle: BTreeSet<Operation> = {
            let state = self.state();
            let waiting = survey.waiting.iter();
            let idle = waiting.filter(|job_id| !state.limits.has_work(job_id));
            idle.cloned().map(Operation::BeginChunks).collect()
        };
        self.failures.forget(|operation| {
            matches!(operation, Operation::BeginChunks(_)) && !idle.contains(operation)
        });
        let now = self.processor.now();
        let reason = match &self.state().claim_error {
            Some(error) => format!("chunks are waiting, and none begins: {error}"),
            None => "chunks are waiting, and none begins".to_owned(),
        };
        for operation in idle {
            self.failures.failed(operation, &reason, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a claim whose answer did not come may still be committed.
    fn may_commit(&self) -> bool {
        self.may_commit_until
            .is_some_and(|until| Instant::now() < until)
    }
}

/// The silences of other processes, as this one has seen them.
#[derive(Default)]
struct Silences(HashMap<Uuid, Silence>);

#[derive(Clone, Copy)]
struct Silence {
    last_seen: i64,
    since: Instant,
    looks: u32,
}

impl Silences {
    /// The last heartbeats of the processes that have ended.
    fn lost(&mut self, survey: &Survey, own: Uuid) -> Vec<Heartbeat> {
        let others = survey.working.iter().filter(|beat| beat.process != own);
        let silences = others.map(|beat| {
            let known = self.0.get(&beat.process).copied();
            let mut silence = known
                .filter(|known| known.last_seen == beat.last_seen)
                .unwrap_or_else(|| Silence {
                    last_seen: beat.last_seen,
                    since: Instant::now(),
                    looks: 0,
                });
            silence.looks += 1;
            (beat.process, silence)
        });
        self.0 = silences.collect();
        let ended = self.0.iter().filter(|(_, silence)| silence.has_ended());
        let beat = |(&process, silence): (&Uuid, &Silence)| Heartbeat {
            process,
            last_seen: silence.last_seen,
        };
        ended.map(beat).collect()
    }
}

impl Silence {
    fn has_ended(&self) -> bool {
        let signed_off = self.last_seen == 0;
        signed_off || self.since.elapsed() >= DEAD_AFTER && self.looks >= DEAD_AFTER_LOOKS
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

/// Pauses a job so much of which has failed, and says whether it could.
pub(crate) async fn pause_job(
    queue: &dyn WorkQueue,
    job_id: &JobId,
    reason: &str,
    now: DateTime<Utc>,
) -> bool {
    error!(%job_id, reason, "Job {job_id} is paused: {reason}. Find out why, then resume it; its dead letters \
        say what failed");
    let cause = PauseCause::Failures(reason.to_owned());
    let paused = queue.set_paused(job_id, Some(cause), now).await;
    if let Err(error) = &paused {
        error!(%job_id, %error, "Failed to pause job {job_id}: {error}");
    }
    paused.is_ok()
}

/// Counts items that have ended, for the metric.
pub(crate) fn count_items(job_id: &JobId, report: ChunkReport) {
    let failed_handler = report.failed.saturating_sub(report.failed_data);
    for (status, kind, count) in [
        ("succeeded", "", report.succeeded),
        ("failed", FailureKind::Handler.as_str(), failed_handler),
        ("failed", FailureKind::Data.as_str(), report.failed_data),
        ("nothing_to_do", "", report.nothing_to_do),
        ("skipped", "", report.skipped),
    ] {
        let job_id = job_id.to_string();
        metrics::counter!("punctual_items_total", "job_id" => job_id, "status" => status, "failure_kind" => kind)
            .increment(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use punctual_application::{
        BatchProcessor, Handlers, Limits, RetryPolicy,
        ports::{BatchReader, MockChunkQueue},
        testing::{FakeConfigDatabase, FakeItemSource, FakeStore, ManualClock},
    };
    use punctual_domain::{BatchStatus, Firing, ItemId, NewBatch, Priority, Trigger, Zone};
    use tokio::sync::watch;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_lost_when_it_signs_off_or_has_been_silent_for_long() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut silences = Silences::default();
        let mut lost = |last_seen| {
            let beat = |process| Heartbeat { process, last_seen };
            let survey = Survey {
                waiting: vec![],
                working: vec![beat(own), beat(other)],
            };
            !silences.lost(&survey, own).is_empty()
        };
        assert!(!lost(9_000_000));
        // The clock steps back: it neither makes a process look dead nor hides that it is.
        for _ in 0..3 {
            tokio::time::advance(HEARTBEAT_INTERVAL).await;
            assert!(!lost(1_000_000));
        }
        tokio::time::advance(HEARTBEAT_INTERVAL).await;
        assert!(lost(1_000_000));
        assert!(!lost(2_000_000));
        assert!(lost(0));
        // Both were stopped, or the store was away.
        assert!(!lost(3_000_000));
        tokio::time::advance(10 * HEARTBEAT_INTERVAL).await;
        assert!(!lost(3_000_000));
    }

    /// What a queue with nothing in it was asked.
    fn idle_queue(asked: &Arc<Mutex<BTreeMap<&'static str, u32>>>) -> MockChunkQueue {
        let note = |what: &'static str| {
            let asked = Arc::clone(asked);
            move || *asked.lock().unwrap().entry(what).or_default() += 1
        };
        let mut chunks = MockChunkQueue::new();
        let (claims, beats, surveys) = (note("claims"), note("heartbeats"), note("surveys"));
        chunks.expect_claim_next().returning(move |_, _, _| {
            claims();
            Ok(vec![])
        });
        chunks.expect_heartbeat().returning(move |_| {
            beats();
            Ok(())
        });
        chunks.expect_survey().returning(move |_| {
            surveys();
            Ok(Survey::default())
        });
        let arrivals = watch::Sender::new(());
        chunks
            .expect_arrivals()
            .returning(move || arrivals.subscribe());
        chunks.expect_listen().returning(|| ());
        chunks.expect_sign_off().returning(|_| Ok(()));
        chunks
    }

    /// A processor of so many jobs, `job0` and on.
    fn processor(
        jobs: usize,
        store: &Arc<FakeStore>,
        stop: &CancellationToken,
    ) -> EnhancedBatchProcessor {
        let jobs = (0..jobs).map(|n| {
            serde_json::json!({"job_id": format!("job{n}"), "type": "individual_batch", "purpose_id": "p",
                "schedule": {"frequency": "daily"}, "source": {"ids": ["a"]}})
        });
        let jobs = serde_json::json!({"jobs": jobs.collect::<Vec<_>>()});
        let config = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let items = FakeItemSource::default();
        items.put("the listed ids", ["a"]);
        EnhancedBatchProcessor::new(
            BatchProcessor::new(Handlers::default(), store.clone(), clock),
            Arc::new(FakeConfigDatabase::default()),
            Arc::new(items),
            config,
            Zone::utc(),
            Limits {
                max_concurrent_items: 10,
                retry: RetryPolicy::new(0, || 0.0),
            },
            stop.clone(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_batch_of_a_job_that_paused_itself_is_skipped_and_does_not_resume_the_job()
    {
        let store = Arc::new(FakeStore::default());
        let stop = CancellationToken::new();
        let processor = processor(1, &store, &stop);
        let (now, process) = (processor.now(), processor.process_id());
        let job_id = JobId::new("job0").unwrap();
        let batch = |day: &str| {
            let due = format!("{day}T09:00:00Z").parse().unwrap();
            NewBatch::new(
                &job_id,
                Priority::Medium,
                "daily 09:00 UTC".to_owned(),
                due,
                day.parse().unwrap(),
                Trigger::Schedule,
                now,
                &[ItemId::new("a").unwrap()],
                10,
            )
        };
        let batches = ["2026-02-28", "2026-03-01"].map(batch);
        let cancelled = batches[0].batch_id;
        let kept = batches[1].batch_id;
        let firing = Firing {
            batches: batches.to_vec(),
            positions: vec![],
        };
        store.enqueue(firing, now).await.unwrap();
        let worker = Worker::new(store.clone(), store.clone(), processor);
        worker.pause_job(&job_id, "half of it has failed").await;
        assert_eq!(worker.claim(process).await.unwrap(), []);

        assert!(store.cancel(cancelled).await.unwrap());
        let claimed = worker.claim(process).await.unwrap();
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].chunk.batch_id, cancelled);
        assert!(worker.state().paused.contains(&job_id));
        for one in claimed {
            assert!(worker.deliver(one, &stop).await == Delivery::Ended);
        }
        let batch = store.batch(cancelled).await.unwrap().unwrap();
        assert_eq!((batch.skipped, batch.status), (1, BatchStatus::Cancelled));
        assert!(batch.finished_at.is_some());

        store.set_paused(&job_id, None, now).await.unwrap();
        let claimed = worker.claim(process).await.unwrap();
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].chunk.batch_id, kept);
        assert!(worker.state().paused.is_empty(), "it was resumed");
    }

    #[tokio::test(start_paused = true)]
    async fn with_nothing_to_do_it_asks_once_a_second_however_many_jobs_there_are() {
        let asked = Arc::default();
        let chunks = Arc::new(idle_queue(&asked));
        let store = Arc::new(FakeStore::default());
        let stop = CancellationToken::new();
        let processor = processor(1_000, &store, &stop);
        let working = tokio::spawn(Worker::new(chunks, store, processor).run(stop.clone()));
        sleep(Duration::from_mins(1)).await;
        stop.cancel();
        working.await.unwrap();
        let asked = asked.lock().unwrap().clone();
        let statements: u32 = asked.values().sum();
        assert_eq!(asked["claims"], 1, "{asked:?}");
        assert!((60..=64).contains(&statements), "{asked:?}");
    }
}
