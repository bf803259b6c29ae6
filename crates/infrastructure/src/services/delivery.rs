//! Delivers the results of batches that are over to where their job says: page by page, remembering how far it has
//! come, so that everything arrives at least once whatever happens in between.

mod to_email;
mod to_file;
#[cfg(feature = "http")]
mod to_url;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ActiveFailures, Handlers, Operation,
    backoff::Backoff,
    crash_point,
    ports::{
        BatchReader, Clock, Deliveries, DueDelivery, Page, ResultFilter, ResultSink, SinkError,
        StoreError, StoredResult,
    },
};
use punctual_domain::{Delivery, ItemStatus};
use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

#[cfg(feature = "http")]
use self::to_url::{Posts, ToUrl};
use self::{to_email::ToEmail, to_file::ToFile};
use crate::guard::guarded;

/// Results that travel together, and those that are posted one by one before it is noted.
const PAGE: u32 = 500;
const PAGE_OF_SINGLES: u32 = 100;
/// How long one page may take before somebody else may take it for lost.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// How often to look for what is due while something is being delivered, and for so long after it.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const ACTIVE_FOR: Duration = Duration::from_secs(10);
/// How often to look otherwise: for what other processes have left, and for retries. The end of a batch is announced.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(20);
/// Waits after failures in a row.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_hours(1));
/// The longest wait that a place may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// Timeout of a sink for one page. It is shorter than the lease, so that no other process takes the page meanwhile.
const TAKE_TIMEOUT: Duration = Duration::from_mins(4);
/// Places that are delivered to at one time, by this process.
const MAX_CONCURRENT_TARGETS: usize = 32;
/// A delivery that an earlier version queued is given up after so many failures in a row: three days or so, unless the
/// place asks for longer waits.
const MAX_FAILURES_IN_A_ROW: u32 = 84;

/// A page of results on its way.
struct DeliveryPage {
    due: DueDelivery,
    results: Vec<StoredResult>,
    /// Cursor of the next page.
    next: Option<String>,
}

/// Delivers results: to each place one page after the other, to different places at one time.
pub struct Deliverer {
    deliveries: Arc<dyn Deliveries>,
    reader: Arc<dyn BatchReader>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    sinks: HashMap<String, Arc<dyn ResultSink>>,
    handlers: Handlers,
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
            handlers: Handlers::default(),
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

    /// The same, with the handlers of the purposes that send e-mails.
    #[must_use]
    pub fn with_handlers(mut self, handlers: Handlers) -> Self {
        self.handlers = handlers;
        self
    }

    /// Delivers until `stop` is cancelled and the pages on their way have ended. A place that is slow, hangs or fails keeps no other one waiting.
    pub async fn run(self, stop: CancellationToken) {
        let deliverer = Arc::new(self);
        let mut at_work = JoinSet::new();
        let mut busy: HashMap<task::Id, Delivery> = HashMap::new();
        let mut changes = deliverer.reader.changes();
        let mut last_active = None;
        while !stop.is_cancelled() {
            changes.borrow_and_update();
            if busy.len() < MAX_CONCURRENT_TARGETS {
                let places = Vec::from_iter(busy.values().cloned());
                let begun = deliverer.begin(&places).await;
                deliverer.note(&begun);
                match begun {
                    Ok(Some(part)) => {
                        let place = part.due.target.clone();
                        let deliverer = Arc::clone(&deliverer);
                        let task = at_work.spawn(async move { deliverer.end(part).await });
                        busy.insert(task.id(), place);
                        last_active = Some(Instant::now());
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        warn!(%error, "Failed to read or record deliveries: {error}");
                        last_active = Some(Instant::now());
                    }
                }
            }
            tokio::select! {
                Some(ended) = at_work.join_next_with_id() => {
                    let task = ended.map_or_else(
                        |error| {
                            error!(%error, "A delivery task panicked: {error}");
                            error.id()
                        },
                        |(task, ())| task,
                    );
                    busy.remove(&task);
                    last_active = Some(Instant::now());
                }
                () = news(&mut changes, last_active) => {}
                () = stop.cancelled() => {}
            }
        }
        // What is on its way comes to its end; a page cut off would come twice.
        while at_work.join_next().await.is_some() {}
    }

    fn note<T>(&self, outcome: &Result<T, StoreError>) {
        let operation = Operation::TrackDeliveries;
        self.failures.note(operation, outcome, self.clock.now());
    }

    /// Takes the next page that is due for a place that is not `busy`.
    async fn begin(&self, busy: &[Delivery]) -> Result<Option<DeliveryPage>, StoreError> {
        let due = self.deliveries.take(self.clock.now(), LEASE, busy).await?;
        let Some(due) = due else { return Ok(None) };
        let filter = ResultFilter {
            batch_id: due.batch.batch_id,
            status: None,
        };
        let limit = match due.target {
            Delivery::Webhook { each: true, .. } => PAGE_OF_SINGLES,
            _ => PAGE,
        };
        let page = Page {
            cursor: due.cursor.clone(),
            limit,
        };
        let (mut results, next) = self.reader.results(&filter, &page).await?;
        results.retain(|stored| stored.result.status != ItemStatus::NothingToDo);
        Ok(Some(DeliveryPage { due, results, next }))
    }

    /// Delivers a page and notes how it went.
    async fn end(&self, part: DeliveryPage) {
        let noted = self.deliver_and_note(&part).await;
        self.note(&noted);
        if let Err(error) = noted {
            warn!(%error, "Failed to read or record deliveries: {error}");
        }
    }

    async fn deliver_and_note(&self, part: &DeliveryPage) -> Result<(), StoreError> {
        let DeliveryPage { due, results, next } = part;
        let (batch_id, job_id) = (due.batch.batch_id, &due.batch.job_id);
        let Err(error) = self.deliver(due, results, next.is_none()).await else {
            if next.is_none() {
                info!(%batch_id, %job_id, "Delivered the results of batch {batch_id} of {job_id}");
            }
            crash_point!("delivery-before-note");
            let now = self.clock.now();
            let noted = self.deliveries.advance(due, next.clone(), now).await?;
            warn_if_lost(noted, due);
            return Ok(());
        };
        let reason = error.to_string();
        let again = again(&error, due.tries, due.until, self.clock.now());
        match again {
            Some(at) => {
                warn!(%batch_id, %job_id, reason, "Failed to deliver the results of batch \
                    {batch_id} of {job_id}, retrying at {at}: {reason}");
            }
            None => {
                error!(%batch_id, %job_id, reason, "Gave up delivering the results of batch \
                    {batch_id} of {job_id}: {reason}. The store keeps them");
            }
        }
        let noted = self.deliveries.postpone(due, again, &reason).await?;
        warn_if_lost(noted, due);
        Ok(())
    }

    async fn deliver(
        &self,
        due: &DueDelivery,
        results: &[StoredResult],
        last: bool,
    ) -> Result<(), SinkError> {
        if results.is_empty() && !last {
            // All of them had nothing to do.
            return Ok(());
        }
        let batch = &due.batch;
        match &due.target {
            Delivery::File(path) => {
                let file = ToFile(self.folder.join(path));
                file.take(batch, results, last).await
            }
            Delivery::Sink(name) => {
                let Some(sink) = self.sinks.get(name) else {
                    let message = format!("this process has no sink `{name}`");
                    return Err(SinkError::retryable(message));
                };
                let taken = async { sink.take(batch, results, last).await };
                match guarded("ResultSink::take", TAKE_TIMEOUT, taken).await {
                    Ok(taken) => taken,
                    Err(unanswered) => {
                        let message = format!("the sink `{name}` {unanswered}");
                        Err(SinkError::retryable(message))
                    }
                }
            }
            Delivery::Email(purpose) => {
                let email = ToEmail {
                    handlers: &self.handlers,
                    purpose,
                };
                email.take(results, due.tries).await
            }
            #[cfg(feature = "http")]
            Delivery::Webhook { config, each } => {
                let posts = match each {
                    true => Posts::Each,
                    false => Posts::Page(due.cursor.clone()),
                };
                let url = ToUrl::new(config, posts, Arc::clone(&self.clock))?;
                url.take(batch, results, last).await
            }
            #[cfg(not(feature = "http"))]
            Delivery::Webhook { .. } => Err(SinkError::retryable(
                "this program is built without the feature `http` and cannot deliver to a URL",
            )),
        }
    }
}

/// Says that a page took longer than its lease, and is delivered by another process, or was by now.
fn warn_if_lost(noted: bool, due: &DueDelivery) {
    if !noted {
        let (batch_id, job_id) = (due.batch.batch_id, &due.batch.job_id);
        warn!(%batch_id, %job_id, "Lost the lease on a delivery of batch {batch_id} of {job_id}: it took longer than {} min",
            LEASE.num_minutes());
    }
}

/// When to try again after so many failures before this one: a last time when it is given up, which is at `until`, or
/// after a fixed number of failures. Never after an error that is permanent.
fn again(
    error: &SinkError,
    tries: u32,
    until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if !error.is_retryable() {
        return None;
    }
    let asked = error.retry_after().unwrap_or_default();
    let wait = BACKOFF.after(tries.saturating_add(1));
    let again = now + wait.max(asked.min(MAX_RETRY_AFTER));
    match until {
        Some(until) => (now < until).then(|| again.min(until)),
        None => (tries + 1 < MAX_FAILURES_IN_A_ROW).then_some(again),
    }
}

/// Waits until something may have come to be delivered: at most once a second, however often batches change.
async fn news(changes: &mut watch::Receiver<()>, last_active: Option<Instant>) {
    tokio::time::sleep(POLL_INTERVAL).await;
    if last_active.is_none_or(|last| last.elapsed() > ACTIVE_FOR) {
        let _ = tokio::time::timeout(IDLE_POLL_INTERVAL, changes.changed()).await;
    }
}

#[cfg(test)]
mod tests;
