//! Looks after the items that wait: has handlers polled, passes deadlines, and lets handlers listen for completions of their
//! own. What waits is in the store alone: a process leases the calls that fall due, works on a few at a time, and holds nothing
//! of the others.

mod listeners;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use punctual_application::{
    EnhancedBatchProcessor, LogLimit, LogLine,
    ports::{BatchReader, StoreError, WaitingCall, WaitingItems, WorkQueue},
};
use punctual_domain::JobId;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::queue::worker::{count_items, pause_job};

/// How long the calls that this process has taken are its own. A handler that takes longer to answer may be polled twice.
const LEASE: TimeDelta = TimeDelta::minutes(1);
const LEASE_TIME: Duration = Duration::from_mins(1);
/// Calls that are leased together.
const MAX_LEASED: usize = 200;
/// Calls that are worked on at one time.
const MAX_AT_WORK: usize = 25;
/// The shortest time between two looks at what falls due, and the longest.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How often the items that wait are counted, for the metric.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);

/// Brings items that wait further when their time has come.
pub struct WaitingService {
    waiting: Arc<dyn WaitingItems>,
    reader: Arc<dyn BatchReader>,
    queue: Arc<dyn WorkQueue>,
    processor: EnhancedBatchProcessor,
    logged: LogLimit,
}

/// What has been taken from the store, and when to look at it again.
struct Looks {
    /// Calls that are leased and have not begun.
    leased: VecDeque<WaitingCall>,
    last: Instant,
    next: Instant,
    counted: Option<Instant>,
    /// The jobs whose number is shown.
    shown: BTreeSet<JobId>,
}

impl WaitingService {
    /// A service for what waits in a store, `waiting`, `reader` and `queue`, which `processor` works on, too.
    #[must_use]
    pub fn new(
        waiting: Arc<dyn WaitingItems>,
        reader: Arc<dyn BatchReader>,
        queue: Arc<dyn WorkQueue>,
        processor: EnhancedBatchProcessor,
    ) -> Self {
        Self {
            waiting,
            reader,
            queue,
            processor,
            logged: LogLimit::default(),
        }
    }

    /// Works until `stop` is cancelled and the calls at work have ended. A failure of the store does not end it.
    pub async fn run(self, stop: CancellationToken) {
        let service = Arc::new(self);
        tokio::join!(
            service.look_after(&stop),
            listeners::run(&service.processor, &stop)
        );
    }

    async fn look_after(self: &Arc<Self>, stop: &CancellationToken) {
        let mut changes = self.reader.changes();
        let mut at_work = JoinSet::new();
        let mut looks = Looks::begin();
        while !stop.is_cancelled() {
            if looks.are_possible(&at_work) && Instant::now() >= looks.next {
                changes.borrow_and_update();
                self.look(&mut looks).await;
            }
            while at_work.len() < MAX_AT_WORK
                && let Some(call) = looks.pop()
            {
                let service = Arc::clone(self);
                at_work.spawn(async move { service.bring_further(call).await });
            }
            let possible = looks.are_possible(&at_work);
            let soonest = looks.last + LOOK_INTERVAL;
            tokio::select! {
                Some(ended) = at_work.join_next() => note_panic(ended),
                () = sleep_until(looks.next), if possible => {}
                Ok(()) = changes.changed(), if possible && looks.next > soonest => looks.next = soonest,
                () = stop.cancelled() => {}
            }
        }
        while let Some(ended) = at_work.join_next().await {
            note_panic(ended);
        }
        self.note_settled().await;
    }

    /// Takes what has fallen due.
    async fn look(&self, looks: &mut Looks) {
        looks.last = Instant::now();
        let now = self.processor.now();
        let due = self.waiting.due(now, LEASE, MAX_LEASED).await;
        let wait = match due {
            Ok(due) => {
                let is_all = due.calls.len() < MAX_LEASED;
                looks.leased = due.calls.into();
                let until_next = due.next.map(|next| (next - now).to_std());
                match until_next {
                    _ if !is_all => Duration::ZERO,
                    Some(wait) => wait
                        .unwrap_or_default()
                        .clamp(LOOK_INTERVAL, IDLE_LOOK_INTERVAL),
                    None => IDLE_LOOK_INTERVAL,
                }
            }
            Err(error) => {
                self.note_failure("Failed to read the items that wait", &error);
                LOOK_INTERVAL
            }
        };
        looks.next = looks.last + wait;
        self.note_settled().await;
        if looks
            .counted
            .is_none_or(|counted| counted.elapsed() >= COUNT_INTERVAL)
        {
            looks.counted = Some(looks.last);
            self.count_waiting(&mut looks.shown).await;
        }
    }

    /// Has a call polled, or passes its deadline.
    async fn bring_further(&self, call: WaitingCall) {
        let brought = if call.waiting.until <= self.processor.now() {
            self.processor.pass_deadline(call).await
        } else {
            self.processor.poll(call).await
        };
        if let Err(error) = brought {
            self.note_failure(
                "Failed to store what has become of an item that waits",
                &error,
            );
        }
    }

    /// A failure of the store: what it was about falls due again when its lease ends.
    fn note_failure(&self, problem: &'static str, error: &StoreError) {
        let line = self.logged.next(problem);
        if line.is_written() {
            warn!(%error, "{problem}, retrying: {error}");
        }
        if line == LogLine::WriteLast {
            warn!("Leaving out more failures of this kind, for a minute");
        }
    }

    async fn note_settled(&self) {
        note_settled(&self.processor, &*self.queue).await;
    }

    async fn count_waiting(&self, shown: &mut BTreeSet<JobId>) {
        let counts = match self.waiting.waiting_counts().await {
            Ok(counts) => counts,
            Err(error) => return self.note_failure("Failed to count the items that wait", &error),
        };
        shown.extend(counts.keys().cloned());
        shown.retain(|job_id| {
            let count = counts.get(job_id).copied();
            metrics::gauge!("punctual_waiting_items", "job_id" => job_id.to_string())
                .set(count.unwrap_or_default() as f64);
            count.is_some()
        });
    }
}

/// Counts the items that have ended after they had waited, however that was heard of, and pauses jobs so many of whose have
/// failed. To be called once more when the service has ended, by a process that takes completions until its end.
pub async fn note_settled(processor: &EnhancedBatchProcessor, queue: &dyn WorkQueue) {
    for (job_id, settled) in processor.take_settled() {
        count_items(&job_id, settled.report);
        let Some(reason) = settled.pause_reason else {
            continue;
        };
        if pause_job(queue, &job_id, &reason, processor.now()).await {
            // Once it is resumed, it counts anew.
            processor.reset_failures(&job_id);
        }
    }
}

impl Looks {
    fn begin() -> Self {
        let now = Instant::now();
        Self {
            leased: VecDeque::new(),
            last: now,
            next: now,
            counted: None,
            shown: BTreeSet::new(),
        }
    }

    /// Whether what is leased has begun, and there is room for more.
    fn are_possible(&self, at_work: &JoinSet<()>) -> bool {
        self.leased.is_empty() && at_work.len() < MAX_AT_WORK
    }

    /// The next call to begin. Where the others took too long, another process may have taken what is left.
    fn pop(&mut self) -> Option<WaitingCall> {
        if self.last.elapsed() >= LEASE_TIME {
            self.leased.clear();
        }
        self.leased.pop_front()
    }
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "A task of an item that waits panicked: {error}");
    }
}

#[cfg(test)]
mod tests;
