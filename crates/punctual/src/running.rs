//! Punctual at work, from its start to its end.

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use punctual_application::{Operator, OperatorError, TriggerRequest, TriggeredBatch};
use punctual_domain::{Firing, JobId};
use punctual_infrastructure::{FenceKeeper, Worker, note_settled};
use punctual_store::{HostConnection, Store};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error};
use uuid::Uuid;

use crate::{Builder, builder::Parts};

/// How long the last writes to the store may take.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(1);

/// Punctual at work: it schedules, runs what falls due and delivers results, until it is
/// [shut down](Self::shut_down). Dropping it stops it at once: what was running runs again in the next process, which
/// notices after six seconds.
#[must_use = "dropping it stops it"]
pub struct Punctual {
    operator: Operator,
    parts: JoinSet<&'static str>,
    store: Store,
    process: Uuid,
    stop: CancellationToken,
    _stops: DropGuard,
    /// Marks how far the store has come, until all others have ended.
    keeper: JoinHandle<&'static str>,
    keeper_stops: DropGuard,
}

impl fmt::Debug for Punctual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Punctual")
            .field("is_stopping", &self.stop.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Punctual {
    /// A builder with every default.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn run(
        parts: Parts,
        keeper: FenceKeeper,
        store: Store,
        stop: CancellationToken,
    ) -> Self {
        let Parts {
            scheduler,
            publisher,
            processor,
            deliverer,
            waiting,
            alerts,
            retention,
            operator,
        } = parts;
        let process = processor.process_id();
        let worker = Worker::new(store.chunks(), store.queue(), processor)
            .with_failures(operator.failures.clone());
        let mut parts = JoinSet::new();
        let scheduler = scheduler.run(stop.clone());
        parts.spawn(watched("the scheduler", stop.clone(), scheduler));
        parts.spawn(watched(
            "the publisher of jobs",
            stop.clone(),
            publisher.run(stop.clone()),
        ));
        parts.spawn(watched(
            "the worker",
            stop.clone(),
            worker.run(stop.clone()),
        ));
        let deliverer = deliverer.run(stop.clone());
        parts.spawn(watched("the delivery of results", stop.clone(), deliverer));
        let waiting = waiting.run(stop.clone());
        parts.spawn(watched("the care of waiting items", stop.clone(), waiting));
        let retention = retention.run(stop.clone());
        parts.spawn(watched(
            "the removal of old results",
            stop.clone(),
            retention,
        ));
        let alerts = alerts.run(stop.clone());
        parts.spawn(watched("the sending of alerts", stop.clone(), alerts));
        let keeper_stop = CancellationToken::new();
        let keeper = keeper.run(keeper_stop.clone());
        let keeper = watched("the keeper of the fence", keeper_stop.clone(), keeper);
        Self {
            keeper: tokio::spawn(keeper),
            keeper_stops: keeper_stop.drop_guard(),
            operator,
            parts,
            store,
            process,
            _stops: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Waits until the preferences have been read and everything due has been planned for the first time. Before that,
    /// [`Operator::trigger`] of a job that follows preferences is refused. Returns whether it is ready; it is not when it
    /// stops before.
    pub async fn ready(&self) -> bool {
        tokio::select! {
            () = is_ready(&self.operator) => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// What operators ask for: trigger, pause, backfill, explain, replay, and lists of everything.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Queues a run of a job as [`Operator::trigger`] does, within a transaction of the program around it: it runs if that is
    /// committed, and only then. The store must be [in the same database](Store::in_sqlite). The audit log does not have it.
    ///
    /// # Errors
    /// The job does not exist or has nothing to run, a tenant has stored no preference, or the store fails.
    pub async fn trigger_in(
        &self,
        connection: impl Into<HostConnection<'_>>,
        job_id: &JobId,
        request: &TriggerRequest,
    ) -> Result<TriggeredBatch, OperatorError> {
        let batch = self.operator.manual_batch(job_id, request).await?;
        let triggered = TriggeredBatch::of(&batch);
        let now = batch.scheduled_at;
        let firing = Firing {
            batches: vec![batch],
            positions: vec![],
        };
        self.store.enqueue_in(connection, firing, now).await?;
        Ok(triggered)
    }

    /// A token that is cancelled when it stops, for parts of the program that stop with it. Cancelling it stops it.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The operators' HTTP API and web page, to be served as it is or nested below a path without a slash at its end, such
    /// as `/ops`. When the [token](Self::stop_token) is cancelled, an open page ends, and `/health/ready` answers 503.
    #[cfg(feature = "operations")]
    pub fn router<S: Clone + Send + Sync + 'static>(
        &self,
        access: punctual_operations::Access,
    ) -> axum::Router<S> {
        self.operations(access).router()
    }

    /// What the [router](Self::router) is made of, to add metrics to it, to have it speak of the program, or to have it link to the
    /// Config Database.
    #[cfg(feature = "operations")]
    #[must_use]
    pub fn operations(
        &self,
        access: punctual_operations::Access,
    ) -> punctual_operations::Operations {
        punctual_operations::Operations {
            operator: self.operator.clone(),
            stop: self.stop.clone(),
            access,
            sign_in: punctual_operations::SignIn::default(),
            metrics: None,
            words: punctual_operations::Words::default(),
            config_database: None,
        }
    }

    /// Waits until one of its parts has ended, and names it. Unless it stops, that is a defect of Punctual; the log says more.
    pub async fn ended(&mut self) -> String {
        match self.parts.join_next().await {
            Some(Ok(part)) => part.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Stops: no further item begins, and items and deliveries that run have `grace` to end. What has not ended by then is
    /// aborted, and runs again in another process or the next one. Serve the router until it returns: workers complete at it what
    /// waits. Returns whether all of it has ended.
    pub async fn shut_down(mut self, grace: Duration) -> bool {
        self.stop.cancel();
        let ending = async { while self.parts.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(grace, ending).await.is_ok();
        if !ended {
            self.parts.shutdown().await;
            // Otherwise others notice only by its missing heartbeat.
            if let Err(error) = self.store.chunks().sign_off(self.process).await {
                debug!(%error, "Failed to record that the worker stops: {error}");
            }
        }
        drop(self.keeper_stops);
        // Workers elsewhere completed items meanwhile.
        let settled = note_settled(&self.operator.processor, &*self.operator.queue);
        let keeper = self.keeper;
        let last_writes = async { tokio::join!(settled, keeper) };
        // A store that does not answer keeps nothing from stopping.
        let _ = tokio::time::timeout(LAST_WRITES_TIMEOUT, last_writes).await;
        ended
    }
}

/// Waits until all jobs have been planned, by preferences that have been read.
pub(crate) async fn is_ready(operator: &Operator) {
    let known = operator.status.wait_for(|status| {
        status.planned_until.is_some() && status.jobs.values().all(|job| job.loaded)
    });
    known.await;
}

/// A part under its name, whose end before `stop` is logged.
async fn watched(
    name: &'static str,
    stop: CancellationToken,
    part: impl Future<Output = ()>,
) -> &'static str {
    let panicked = AssertUnwindSafe(part).catch_unwind().await.is_err();
    if panicked || !stop.is_cancelled() {
        error!(
            part = name,
            panicked, "{name} ended unexpectedly; restart the process"
        );
    }
    name
}
