//! The worker: takes chunks from the queue and hands them to the processor. One message is one chunk; a
//! chunk that could not be brought to its end is delivered again, to whoever is there.

use std::{sync::Arc, time::Duration};

use apalis::{
    layers::WorkerBuilderExt,
    prelude::{BoxDynError, Data, Strategy, WorkerBuilder},
};
use apalis_sqlite::{Config, SqliteStorage};
use futures::stream;
use punctual_application::{EnhancedBatchProcessor, ProcessError};
use punctual_domain::Chunk;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    lateness::Lateness,
    storage::sqlite::{QUEUE, SqliteStore},
};

/// Chunks in work at one time. Items are bounded by the processor; a few chunks keep it busy while the last
/// items of one are still running.
const CHUNKS_AT_ONCE: usize = 4;
/// A worker that has shown no sign of life for three of these is dead, and its chunks are given to others.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often to look for work without being woken: for chunks handed back by or taken from others.
const POLL: Duration = Duration::from_secs(1);
/// How often messages of chunks that are done are removed from the queue.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// How long a chunk that cannot be worked on now is held before it goes back to the queue.
const HOLD: Duration = Duration::from_secs(5);

/// Works on the queue until it is told to stop.
pub struct Worker {
    store: SqliteStore,
    processor: Arc<EnhancedBatchProcessor>,
    lateness: Lateness,
}

impl Worker {
    /// A worker on the queue of `store`.
    #[must_use]
    pub fn new(store: SqliteStore, processor: EnhancedBatchProcessor) -> Self {
        let mut lateness = Lateness::default();
        lateness.begin(processor.now());
        Self {
            store,
            processor: Arc::new(processor),
            lateness,
        }
    }

    /// Works until `stop` is cancelled and the chunks in hand are given back or done. A failure of the store
    /// does not end it: it begins anew.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.work_for_ever(&stop), self.tidy(&stop));
        info!("The worker has stopped");
    }

    /// Keeps the queue from growing with what is done.
    async fn tidy(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.store.forget_done_chunks().await {
                warn!(%error, "The queue cannot be tidied now: {error}");
            }
            pause(TIDY_EVERY, stop).await;
        }
    }

    async fn work_for_ever(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            // A name is never used twice: a worker's name is how the queue tells the living from the dead.
            let name = format!("punctual-{}", Uuid::new_v4());
            let outcome = self.work(&name, stop).await;
            if stop.is_cancelled() {
                break;
            }
            let reason = outcome
                .err()
                .map_or_else(|| "its stream ended".to_owned(), |e| e.to_string());
            error!(
                worker = name,
                reason, "Worker {name} ended ({reason}); a new one begins in 1 s"
            );
            pause(Duration::from_secs(1), stop).await;
        }
    }

    async fn work(&self, name: &str, stop: &CancellationToken) -> Result<(), BoxDynError> {
        let config = Config::default()
            .queue(QUEUE)
            .batch_size(1)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(3);
        let wake = Strategy::new()
            .stream(Box::pin(wakes(Arc::clone(self.store.pushed()))))
            .interval(POLL);
        let backend = SqliteStorage::<Chunk>::new(self.store.pool()).with_config(config);
        let in_work = TaskTracker::new();
        let worker = WorkerBuilder::new(name)
            .backend(apalis::prelude::BackendExt::poll_with_strategy(
                backend, wake,
            ))
            .data(Context {
                processor: Arc::clone(&self.processor),
                stop: stop.clone(),
                in_work: in_work.clone(),
                lateness: self.lateness.clone(),
            })
            .concurrency(CHUNKS_AT_ONCE)
            .build(deliver);
        // A worker of apalis that has been stopped no longer goes on with what it has begun in the database, and
        // that holds the write lock which the chunks in work need for their results. So they end first.
        let stopped = stop.clone();
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
        Ok(ended.await?)
    }
}

#[derive(Clone)]
struct Context {
    processor: Arc<EnhancedBatchProcessor>,
    stop: CancellationToken,
    /// The chunks whose items may be running.
    in_work: TaskTracker,
    lateness: Lateness,
}

/// One delivery of a chunk. An error puts it back in the queue.
async fn deliver(chunk: Chunk, context: Data<Context>) -> Result<(), BoxDynError> {
    let Context {
        processor,
        stop,
        in_work,
        lateness,
    } = &*context;
    if stop.is_cancelled() {
        in_work.wait().await;
        return Err(ProcessError::Interrupted.into());
    }
    let _working = in_work.token();
    if chunk.is_first() {
        lateness.tell(
            &chunk.job_id,
            "started",
            chunk.scheduled_at,
            processor.now(),
        );
    }
    match processor.process(&chunk).await {
        Ok(report) => {
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
                "Chunk {} goes back to the queue: stopping", chunk.chunk_id
            );
            Err(ProcessError::Interrupted.into())
        }
        // Whoever has it now will end it.
        Err(ProcessError::Superseded) => Ok(()),
        Err(error) => {
            warn!(chunk_id = chunk.chunk_id, %error, "Chunk {} goes back to the queue: {error}", chunk.chunk_id);
            pause(HOLD, stop).await;
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

fn wakes(pushed: Arc<Notify>) -> impl futures::Stream<Item = ()> + Send + Sync {
    stream::unfold(pushed, |pushed| async {
        pushed.notified().await;
        Some(((), pushed))
    })
}
