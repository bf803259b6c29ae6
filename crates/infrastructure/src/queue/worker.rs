//! The worker: takes chunks from the queue and hands them to the processor. One message is one chunk; a
//! chunk that could not be brought to its end is delivered again, to any worker.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use apalis::{
    layers::WorkerBuilderExt,
    prelude::{BackendExt, BoxDynError, Data, Strategy, TaskId, WorkerBuilder},
};
use apalis_sqlite::SqliteStorage;
use futures::stream;
use punctual_application::{
    ActiveFailures, EnhancedBatchProcessor, Operation, ProcessError, ports::WorkQueue,
};
use punctual_domain::{Chunk, JobId};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{Instrument, debug, error, info, warn};
use uuid::Uuid;

use crate::{
    crash::crash_point,
    lateness::Lateness,
    spans,
    storage::{Store, job_of},
};

/// Chunks that one worker of apalis has in work at one time. Items are bounded by the processor; a few chunks keep it
/// busy while the last items of one are still running, and leave the rest to other processes. apalis has room for four
/// events per fetched message, and stands still once it is used up by chunks that end while it is being stopped.
const CHUNKS_PER_WORKER: usize = 4;
/// Workers of apalis on one queue; each makes one database call at a time.
const WORKERS_PER_QUEUE: usize = 2;
/// Chunks fetched at a time. With a second one fetched and no room for it, apalis sends no heartbeat.
const FETCH_BATCH_SIZE: usize = 1;
/// A worker that has shown no sign of life for three of these is dead, and its chunks are given to others.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Interval of looking for work without a notification: for chunks that other processes released or lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a queue may be empty before its consumer stops.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// How often messages of chunks that are done are removed from the queue.
const CLEANUP_INTERVAL: Duration = Duration::from_hours(1);
/// How long a chunk that cannot be worked on now is held before it goes back to the queue.
const FAILED_CHUNK_DELAY: Duration = Duration::from_secs(5);

/// How long a chunk stays in the queue whose items wait for others of their tenants, in seconds.
const WAITING_CHUNK_DELAY_SECONDS: i64 = 5;

/// Works on the queues of all jobs until it is asked to stop.
pub struct Worker {
    store: Store,
    queue: Arc<dyn WorkQueue>,
    processor: Arc<EnhancedBatchProcessor>,
    lateness: Lateness,
    failures: ActiveFailures,
}

/// Consumers of this process, by queue.
#[derive(Default)]
struct Consumers {
    by_queue: HashMap<String, Consumer>,
    /// Tasks of the consumers; each ends with the name of its queue.
    tasks: JoinSet<String>,
}

/// Consumer of one queue.
struct Consumer {
    stop: CancellationToken,
    /// The chunks in work.
    busy: TaskTracker,
    /// Since when there is nothing in it.
    idle_since: Option<Instant>,
}

impl Consumers {
    /// Starts a consumer for each queue that has chunks waiting and no consumer yet.
    fn open(
        &mut self,
        worker: &Arc<Worker>,
        waiting: &BTreeMap<String, bool>,
        paused: &BTreeSet<JobId>,
        stop: &CancellationToken,
    ) {
        for queue in waiting.keys().filter(|queue| may_run(queue, paused)) {
            if self.by_queue.contains_key(queue) {
                continue;
            }
            let (worker, queue, stopping) = (Arc::clone(worker), queue.clone(), stop.child_token());
            let busy = TaskTracker::new();
            let consumer = Consumer {
                stop: stopping.clone(),
                busy: busy.clone(),
                idle_since: None,
            };
            self.by_queue.insert(queue.clone(), consumer);
            self.tasks.spawn(async move {
                let workers =
                    (0..WORKERS_PER_QUEUE).map(|_| worker.consume(&queue, &stopping, &busy));
                futures::future::join_all(workers).await;
                queue
            });
        }
    }

    /// Ends the work on queues that have been empty for long, or whose job is paused.
    fn close(&mut self, waiting: &BTreeMap<String, bool>, paused: &BTreeSet<JobId>) {
        for (queue, consumer) in &mut self.by_queue {
            if waiting.contains_key(queue) {
                consumer.idle_since = None;
            } else {
                consumer.idle_since.get_or_insert_with(Instant::now);
            }
            let idle = consumer
                .idle_since
                .is_some_and(|since| since.elapsed() >= IDLE_TIMEOUT);
            if idle || !may_run(queue, paused) {
                consumer.stop.cancel();
            }
        }
    }
}

/// Whether what is in a queue may run.
fn may_run(queue: &str, paused: &BTreeSet<JobId>) -> bool {
    job_of(queue).is_none_or(|job_id| !paused.contains(&job_id))
}

impl Worker {
    /// A worker on the queues of `store`.
    #[must_use]
    pub fn new(store: Store, processor: EnhancedBatchProcessor) -> Self {
        let mut lateness = Lateness::default();
        lateness.begin(processor.now());
        Self {
            queue: store.queue(),
            store,
            processor: Arc::new(processor),
            lateness,
            failures: ActiveFailures::default(),
        }
    }

    /// The same, which notes what fails in `failures`.
    #[must_use]
    pub fn with_failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    /// Works until `stop` is cancelled and the chunks in hand are given back or done. A failure of the store
    /// does not end it: it begins anew.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        tokio::join!(
            worker.supervise(&stop),
            worker.clean_up(&stop),
            worker.store.listen(&stop)
        );
        if let Err(error) = worker
            .store
            .note_stopped(worker.processor.process_id())
            .await
        {
            debug!(%error, "Failed to record that the worker stops: {error}");
        }
        info!("Worker stopped");
    }

    /// Keeps the queue from growing with what is done.
    async fn clean_up(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.store.delete_done_messages().await {
                warn!(%error, "Failed to remove finished chunks from the queue: {error}");
            }
            pause(CLEANUP_INTERVAL, stop).await;
        }
    }

    /// Keeps a consumer on every queue that has chunks waiting, unless its job is paused.
    async fn supervise(self: &Arc<Self>, stop: &CancellationToken) {
        let mut consumers = Consumers::default();
        let mut paused_before = BTreeSet::new();
        let mut pushed = self.store.pushed();
        while !stop.is_cancelled() {
            pushed.borrow_and_update();
            let read = tokio::try_join!(self.store.waiting(), self.queue.paused());
            let now = self.processor.now();
            self.failures.note(Operation::ReadQueues, &read, now);
            match read {
                Ok((waiting, paused)) => {
                    let paused: BTreeSet<JobId> = paused.into_keys().collect();
                    for job_id in paused_before.difference(&paused) {
                        self.processor.reset_failures(job_id);
                    }
                    consumers.open(self, &waiting, &paused, stop);
                    consumers.close(&waiting, &paused);
                    self.note_idle(&consumers, &waiting, &paused);
                    paused_before = paused;
                }
                Err(error) => warn!(%error, "Failed to read the queues: {error}"),
            }
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                Ok(()) = pushed.changed() => {}
                Some(Ok(queue)) = consumers.tasks.join_next() => {
                    consumers.by_queue.remove(&queue);
                }
                () = stop.cancelled() => {}
            }
        }
        while consumers.tasks.join_next().await.is_some() {}
    }

    /// Notes the jobs whose chunks wait although none is in work here. Chunks that begin clear it.
    fn note_idle(
        &self,
        consumers: &Consumers,
        waiting: &BTreeMap<String, bool>,
        paused: &BTreeSet<JobId>,
    ) {
        let now = self.processor.now();
        let mut idle = BTreeSet::new();
        for (queue, free) in waiting {
            let busy = consumers.by_queue.get(queue);
            let busy = busy.is_some_and(|consumer| !consumer.busy.is_empty());
            let job_id = job_of(queue).filter(|job_id| !paused.contains(job_id));
            if let (true, false, Some(job_id)) = (*free, busy, job_id) {
                idle.insert(Operation::BeginChunks(job_id));
            }
        }
        self.failures.forget(|operation| {
            matches!(operation, Operation::BeginChunks(_)) && !idle.contains(operation)
        });
        for operation in idle {
            self.failures
                .failed(operation, "chunks are waiting, and none begins", now);
        }
    }

    async fn consume(&self, queue: &str, stop: &CancellationToken, busy: &TaskTracker) {
        while !stop.is_cancelled() {
            // A name is never used twice: a worker's name is how the queue tells the living from the dead.
            let process = self.processor.process_id();
            let name = format!("punctual-{process}-{}", Uuid::new_v4());
            let outcome = match &self.store {
                Store::Sqlite(store) => {
                    let backend = SqliteStorage::<Chunk>::new(store.writer());
                    let config = apalis_sqlite::Config::default();
                    run_on!(self, backend, config, queue, name.as_str(), stop, busy)
                }
                #[cfg(feature = "postgres")]
                Store::Postgres(store) => {
                    let backend = apalis_postgres::PostgresStorage::<Chunk>::new(store.pool());
                    let config = apalis_postgres::Config::default();
                    run_on!(self, backend, config, queue, name.as_str(), stop, busy)
                }
            };
            if stop.is_cancelled() {
                break;
            }
            let reason = outcome
                .err()
                .map_or_else(|| "its stream ended".to_owned(), |e| e.to_string());
            error!(
                worker = name,
                reason, "Worker {name} on {queue} ended, starting a new one in 1 s: {reason}"
            );
            pause(Duration::from_secs(1), stop).await;
        }
    }

    fn context(&self, stop: &CancellationToken, busy: &TaskTracker) -> Context {
        Context {
            store: self.store.clone(),
            processor: Arc::clone(&self.processor),
            queue: Arc::clone(&self.queue),
            stop: stop.clone(),
            in_work: TaskTracker::new(),
            busy: busy.clone(),
            failures: self.failures.clone(),
            lateness: self.lateness.clone(),
        }
    }
}

/// Runs a worker of apalis over one backend or the other: they share no trait that says all of this.
///
/// A worker of apalis that has been stopped no longer goes on with what it has begun in the database, and that may hold
/// a lock which the chunks in work need for their results. So they end first.
macro_rules! run_on {
    ($worker:expr, $backend:expr, $config:expr, $queue:expr, $name:expr, $stop:expr, $busy:expr) => {{
        let config = $config
            .queue($queue)
            .batch_size(FETCH_BATCH_SIZE)
            .lock_tasks(false)
            .heartbeat_interval(HEARTBEAT_INTERVAL)
            .missed_heartbeats(3);
        let wake = Strategy::new()
            .stream(Box::pin(wakes($worker.store.pushed())))
            .interval(POLL_INTERVAL);
        let backend = BackendExt::poll_with_strategy($backend.with_config(config), wake);
        let context = $worker.context($stop, $busy);
        let (stopped, in_work) = ($stop.clone(), context.in_work.clone());
        let worker = WorkerBuilder::new($name)
            .backend(backend)
            .data(context)
            .concurrency(CHUNKS_PER_WORKER)
            .build(deliver);
        let ended = worker.run_with_ctx(move |context| {
            let (stopped, in_work) = (stopped.clone(), in_work.clone());
            async move {
                stopped.cancelled().await;
                in_work.close();
                in_work.wait().await;
                while context.is_pending() {
                    tokio::task::yield_now().await;
                }
                context.stop()
            }
        });
        ended.await
    }};
}
use run_on;

#[derive(Clone)]
struct Context {
    store: Store,
    processor: Arc<EnhancedBatchProcessor>,
    queue: Arc<dyn WorkQueue>,
    stop: CancellationToken,
    /// The chunks whose items may be running.
    in_work: TaskTracker,
    /// The same, of every worker on the queue.
    busy: TaskTracker,
    failures: ActiveFailures,
    lateness: Lateness,
}

/// One delivery of a chunk. An error puts it back in the queue.
async fn deliver(chunk: Chunk, context: Data<Context>, message: TaskId) -> Result<(), BoxDynError> {
    let Context {
        store,
        processor,
        queue,
        stop,
        in_work,
        busy,
        failures,
        lateness,
    } = &*context;
    if stop.is_cancelled() {
        in_work.wait().await;
        return Err(ProcessError::Interrupted.into());
    }
    let _working = (in_work.token(), busy.token());
    let job_id = &chunk.job_id;
    failures.succeeded(&Operation::BeginChunks(job_id.clone()));
    if chunk.is_first() {
        lateness.record(
            &chunk.job_id,
            "started",
            chunk.scheduled_at,
            processor.now(),
        );
    }
    // A task of its own: chunks in work share the cores.
    let work = tokio::spawn({
        let (processor, chunk) = (Arc::clone(processor), chunk.clone());
        let span = spans::of(&chunk);
        async move { processor.process(&chunk).await }.instrument(span)
    });
    let worked = AbortOnDropHandle::new(work).await;
    match worked.unwrap_or(Err(ProcessError::Panicked)) {
        Ok(report) => {
            crash_point!("chunk-before-ack");
            failures.succeeded(&Operation::PrepareChunks(job_id.clone()));
            failures.succeeded(&Operation::StoreResults(job_id.clone()));
            for (status, count) in [
                ("succeeded", report.succeeded),
                ("failed", report.failed),
                ("skipped", report.skipped),
            ] {
                metrics::counter!("punctual_items_total", "job_id" => chunk.job_id.to_string(), "status" => status)
                    .increment(count as u64);
            }
            Ok(())
        }
        Err(ProcessError::Interrupted) => {
            info!(
                chunk_id = chunk.chunk_id,
                "Returned chunk {} to the queue: the worker is stopping", chunk.chunk_id
            );
            Err(ProcessError::Interrupted.into())
        }
        Err(ProcessError::Waiting) => {
            debug!(
                chunk_id = chunk.chunk_id,
                "Items of chunk {} wait for earlier items of the same tenants", chunk.chunk_id
            );
            store
                .defer_message(&message.to_string(), WAITING_CHUNK_DELAY_SECONDS)
                .await?;
            Err(ProcessError::Waiting.into())
        }
        // The process that has claimed it now will end it.
        Err(ProcessError::Superseded) => Ok(()),
        Err(ProcessError::Failing(reason)) => {
            error!(%job_id, reason, "Job {job_id} is paused: {reason}. Find out why, then resume it; its dead letters \
                say what failed");
            let pausing = queue.set_paused(job_id, Some(reason), processor.now());
            if let Err(error) = pausing.await {
                error!(%job_id, %error, "Failed to pause job {job_id}: {error}");
            }
            Err(ProcessError::Interrupted.into())
        }
        Err(error) => {
            let operation = match &error {
                ProcessError::Store(_) => Operation::StoreResults(job_id.clone()),
                _ => Operation::PrepareChunks(job_id.clone()),
            };
            failures.failed(operation, &error, processor.now());
            warn!(chunk_id = chunk.chunk_id, %error, "Returned chunk {} to the queue: {error}", chunk.chunk_id);
            pause(FAILED_CHUNK_DELAY, stop).await;
            Err(error.into())
        }
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

fn wakes(pushed: watch::Receiver<()>) -> impl futures::Stream<Item = ()> + Send + Sync {
    stream::unfold(pushed, |mut pushed| async {
        pushed.changed().await.ok()?;
        Some(((), pushed))
    })
}
