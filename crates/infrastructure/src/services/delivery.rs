//! Delivers the results of batches that are over to where their job says: page by page, remembering how far it has
//! come, so that everything arrives at least once whatever happens in between.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use punctual_application::{
    ActiveFailures, Operation,
    ports::{
        BatchReader, Clock, Deliveries, DueDelivery, Page, ResultFilter, ResultSink, StoreError,
        StoredResult,
    },
};
use punctual_domain::{Batch, Delivery, WebhookConfig};
use serde_json::json;
use tokio::{fs::OpenOptions, io::AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{crash::crash_point, handlers::webhook::Post};

/// Results that travel together, and those that are posted one by one before it is noted.
const PAGE: u32 = 500;
const PAGE_OF_EACH: u32 = 100;
/// Posts at one time, of results that are posted each by itself.
const AT_ONCE: usize = 8;
/// How long one page may take before somebody else may take it for lost.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// How often to look for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first wait after a failure; it doubles with every further one, up to an hour.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(2);
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);
/// A delivery that an earlier version queued is given up after so many failures in a row, three days or so.
const TRIES: u32 = 84;

/// Delivers results.
pub struct Deliverer {
    deliveries: Arc<dyn Deliveries>,
    reader: Arc<dyn BatchReader>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    sinks: HashMap<String, Arc<dyn ResultSink>>,
    failures: ActiveFailures,
}

impl Deliverer {
    /// Delivers what `deliveries` holds; paths of files count from `folder`.
    pub fn new(
        deliveries: Arc<dyn Deliveries>,
        reader: Arc<dyn BatchReader>,
        clock: Arc<dyn Clock>,
        folder: PathBuf,
    ) -> Self {
        Self {
            deliveries,
            reader,
            clock,
            folder,
            sinks: HashMap::new(),
            failures: ActiveFailures::default(),
        }
    }

    /// The same, which notes what fails in `failures`.
    #[must_use]
    pub fn with_failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    /// The same, with a sink for jobs that deliver to `{"sink": name}`.
    #[must_use]
    pub fn with_sink(mut self, name: impl Into<String>, sink: Arc<dyn ResultSink>) -> Self {
        self.sinks.insert(name.into(), sink);
        self
    }

    /// Delivers until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let step = tokio::select! {
                step = self.step() => step,
                () = stop.cancelled() => return,
            };
            let operation = Operation::TrackDeliveries;
            self.failures.note(operation, &step, self.clock.now());
            let found = match step {
                Ok(found) => found,
                Err(error) => {
                    warn!(%error, "What is to be delivered cannot be read now: {error}");
                    false
                }
            };
            if !found {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Delivers one page of one batch. Returns whether there was any.
    async fn step(&self) -> Result<bool, StoreError> {
        let Some(due) = self.deliveries.take(self.clock.now(), LEASE).await? else {
            return Ok(false);
        };
        let filter = ResultFilter {
            batch_id: due.batch.batch_id,
            status: None,
        };
        let limit = match due.target {
            Delivery::Webhook { each: true, .. } => PAGE_OF_EACH,
            _ => PAGE,
        };
        let page = Page {
            cursor: due.cursor.clone(),
            limit,
        };
        let (results, next) = self.reader.results(&filter, &page).await?;
        let (batch_id, job_id) = (due.batch.batch_id, &due.batch.job_id);
        match self.deliver(&due, &results, next.is_none()).await {
            Ok(()) => {
                if next.is_none() {
                    info!(%batch_id, %job_id, "The results of batch {batch_id} of {job_id} are delivered");
                }
                crash_point!("delivery-before-note");
                self.deliveries
                    .advance(due.id, next, self.clock.now())
                    .await?;
            }
            Err(reason) => {
                let again = again(due.tries, due.until, self.clock.now());
                match again {
                    Some(at) => {
                        warn!(%batch_id, %job_id, reason, "The results of batch {batch_id} of {job_id} cannot \
                        be delivered ({reason}); again at {at}")
                    }
                    None => {
                        error!(%batch_id, %job_id, reason, "The results of batch {batch_id} of {job_id} are not \
                        delivered: {reason}. It is not tried again; `punctual-agent results --batch` prints them")
                    }
                }
                self.deliveries.postpone(due.id, again, &reason).await?;
            }
        }
        Ok(true)
    }

    async fn deliver(
        &self,
        due: &DueDelivery,
        results: &[StoredResult],
        last: bool,
    ) -> Result<(), String> {
        match &due.target {
            Delivery::File(path) => self.append(path, results).await,
            Delivery::Sink(name) => match self.sinks.get(name) {
                Some(sink) => sink.take(&due.batch, results, last).await,
                None => Err(format!("there is no sink `{name}` in this process")),
            },
            Delivery::Webhook { config, each: true } => {
                let post = self.post(config)?;
                let post = &post;
                let sends = results.iter().cloned();
                stream::iter(sends.map(|result| async move { post_one(post, &result).await }))
                    .buffer_unordered(AT_ONCE)
                    .try_collect()
                    .await
            }
            Delivery::Webhook {
                config,
                each: false,
            } => {
                let post = self.post(config)?;
                let part = due.cursor.as_deref().unwrap_or("first");
                let id = format!("{}/{part}", due.batch.batch_id);
                let body = part_of(&due.batch, results, last);
                let sent = post.send(&id, "application/json", body).await;
                sent.map(|_| ()).map_err(|error| error.message)
            }
        }
    }

    async fn append(&self, path: &str, results: &[StoredResult]) -> Result<(), String> {
        let path = self.folder.join(path);
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(fail)?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .await
            .map_err(fail)?;
        let lines: String = results
            .iter()
            .map(|result| format!("{}\n", json!(result)))
            .collect();
        file.write_all(lines.as_bytes()).await.map_err(fail)?;
        file.sync_all().await.map_err(fail)
    }

    fn post(&self, config: &WebhookConfig) -> Result<Post, String> {
        let post = Post::configured(config, "/deliver", Arc::clone(&self.clock));
        post.map_err(|error| error.to_string())
    }
}

async fn post_one(post: &Post, result: &StoredResult) -> Result<(), String> {
    let tenant = &result.result.tenant_id;
    let id = result.delivery_id();
    let body = json!(result).to_string().into_bytes();
    let sent = post.send(&id, "application/json", body).await;
    sent.map(|_| ())
        .map_err(|error| format!("{tenant}: {}", error.message))
}

fn part_of(batch: &Batch, results: &[StoredResult], last: bool) -> Vec<u8> {
    json!({
        "batch_id": batch.batch_id, "job_id": batch.job_id, "scheduled_at": batch.scheduled_at,
        "status": batch.status, "total": batch.total, "succeeded": batch.succeeded, "failed": batch.failed,
        "skipped": batch.skipped, "results": results, "last": last,
    })
    .to_string()
    .into_bytes()
}

/// When to try again after so many failures before this one: a last time when it is given up, which is at `until`, or
/// after a fixed number of failures.
fn again(tries: u32, until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let again = now + (FIRST_WAIT * 2_i32.pow(tries.min(12))).min(LONGEST_WAIT);
    match until {
        Some(until) => (now < until).then(|| again.min(until)),
        None => (tries + 1 < TRIES).then_some(again),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_retried_until_its_bound_and_once_at_it() {
        let now: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
        let after = |tries, until: Option<i64>| {
            let until = until.map(|seconds| now + TimeDelta::seconds(seconds));
            again(tries, until, now).map(|at| (at - now).num_seconds())
        };
        assert_eq!(after(0, Some(3600)), Some(2));
        assert_eq!(
            after(200, Some(7200)),
            Some(3600),
            "however often it has failed"
        );
        assert_eq!(after(9, Some(60)), Some(60));
        assert_eq!(after(9, Some(0)), None);
        assert_eq!((after(82, None), after(83, None)), (Some(3600), None));
    }
}
