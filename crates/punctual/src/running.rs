//! Punctual at work, from its start to its end.

use std::time::Duration;

use punctual_application::Operator;
use punctual_infrastructure::{Store, Worker};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use crate::{Builder, builder::Parts};

/// Punctual at work: schedules, runs what falls due and delivers results, until it is
/// [shut down](Self::shut_down) or dropped.
pub struct Punctual {
    operator: Operator,
    parts: JoinSet<&'static str>,
    stop: CancellationToken,
    /// What is dropped stops too, and hands back what was running.
    _stops: DropGuard,
}

impl Punctual {
    /// Begins to put one together.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn run(parts: Parts, store: Store, stop: CancellationToken) -> Self {
        let Parts {
            scheduler,
            processor,
            deliverer,
            operator,
        } = parts;
        let worker = Worker::new(store, processor).with_failures(operator.failures.clone());
        let mut parts = JoinSet::new();
        parts.spawn(named("the scheduler", scheduler.run(stop.clone())));
        parts.spawn(named("the worker", worker.run(stop.clone())));
        parts.spawn(named(
            "the delivery of results",
            deliverer.run(stop.clone()),
        ));
        Self {
            operator,
            parts,
            _stops: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Waits until the preferences have been read and everything due has been planned for the first time. Before that,
    /// [`Operator::trigger`] of a job that follows preferences is refused.
    pub async fn ready(&self) {
        is_ready(&self.operator).await;
    }

    /// What operators ask for: trigger, pause, backfill, explain, replay, and lists of everything.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Is cancelled when it stops, for parts of the program that stop with it.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The operators' HTTP API and web page. Nest it below a path of your choice, or serve it as it is.
    #[cfg(feature = "operations")]
    pub fn router<S: Clone + Send + Sync + 'static>(
        &self,
        access: punctual_operations::Access,
    ) -> axum::Router<S> {
        self.router_with_metrics(access, None)
    }

    /// The same, with `/metrics` for Prometheus beside them.
    #[cfg(feature = "operations")]
    pub fn router_with_metrics<S: Clone + Send + Sync + 'static>(
        &self,
        access: punctual_operations::Access,
        metrics: Option<punctual_operations::Metrics>,
    ) -> axum::Router<S> {
        let operations = punctual_operations::Operations {
            operator: self.operator.clone(),
            stop: self.stop.clone(),
            access,
            metrics,
        };
        operations.router()
    }

    /// Waits until a part of it has ended, which happens by itself only through a mistake in Punctual, and names it.
    pub async fn ended(&mut self) -> String {
        match self.parts.join_next().await {
            Some(Ok(part)) => part.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Stops: nothing more begins, and what runs has `grace` to come to its end. What has not ended by then is dropped, and
    /// runs again in the next process. Returns whether all of it has ended.
    pub async fn shut_down(mut self, grace: Duration) -> bool {
        self.stop.cancel();
        let ending = async { while self.parts.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(grace, ending).await.is_ok();
        if !ended {
            info!("What was running when the time was up runs again in the next process");
        }
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

async fn named(name: &'static str, part: impl Future<Output = ()>) -> &'static str {
    part.await;
    name
}
