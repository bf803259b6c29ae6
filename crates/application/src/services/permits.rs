//! Who may run an item next. A limit over the whole process, shared fairly: the job with the highest priority
//! first, where waiting raises it, and among equals the one with the fewest items running. While there is more
//! than one job, none may take everything, so that the next to fall due begins at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use punctual_domain::{JobId, Priority};
use tokio::{sync::oneshot, time::Instant};

/// Waiting so long counts as much as one step of priority.
const AGES_EVERY: Duration = Duration::from_secs(30);
/// One part in so many is kept for jobs that are not running yet.
const KEPT_FOR_OTHERS: usize = 5;

/// The permits of a process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Permits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    total: usize,
    running: usize,
    jobs: BTreeMap<JobId, Lane>,
    /// Those who want to run with nothing beside them. They come first, or they would never.
    alone: VecDeque<oneshot::Sender<Permit>>,
    served: u64,
    /// Whether somebody runs alone.
    exclusive: bool,
    /// Whether there are other jobs, for whom permits are kept.
    others: bool,
}

#[derive(Debug, Default)]
struct Lane {
    running: usize,
    waiting: VecDeque<(oneshot::Sender<Permit>, Priority, Instant)>,
    /// When it was last let in, and as which of all.
    last_served: Option<(Instant, u64)>,
}

/// The right to run one item, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Permits,
    /// Whose it is; `None`: one to run alone.
    job_id: Option<JobId>,
}

impl Permits {
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            total: total.max(1),
            running: 0,
            jobs: BTreeMap::new(),
            alone: VecDeque::new(),
            served: 0,
            exclusive: false,
            others: false,
        })))
    }

    /// Waits for a permit. `others`: whether there are other jobs, for whom some are kept.
    pub(crate) async fn acquire(
        &self,
        job_id: &JobId,
        priority: Priority,
        others: bool,
    ) -> Option<Permit> {
        let waiting = {
            let mut state = self.lock();
            state.others = others;
            let (sender, receiver) = oneshot::channel();
            let lane = state.jobs.entry(job_id.clone()).or_default();
            lane.waiting.push_back((sender, priority, Instant::now()));
            receiver
        };
        self.grant();
        waiting.await.ok()
    }

    /// Waits until nothing else runs, and keeps it so.
    pub(crate) async fn acquire_alone(&self) -> Option<Permit> {
        let (sender, receiver) = oneshot::channel();
        self.lock().alone.push_back(sender);
        self.grant();
        receiver.await.ok()
    }

    /// Gives what is free to those who wait.
    fn grant(&self) {
        loop {
            let mut state = self.lock();
            let Some((sender, job_id)) = state.next() else {
                return;
            };
            drop(state);
            let permit = Permit {
                permits: self.clone(),
                job_id,
            };
            // Who has gone meanwhile gives the permit back by dropping it, and that grants again.
            if sender.send(permit).is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next to run, already counted as running.
    fn next(&mut self) -> Option<(oneshot::Sender<Permit>, Option<JobId>)> {
        if self.exclusive {
            return None;
        }
        if !self.alone.is_empty() {
            if self.running > 0 {
                return None;
            }
            self.exclusive = true;
            return self.alone.pop_front().map(|sender| (sender, None));
        }
        if self.running >= self.total {
            return None;
        }
        let kept = if self.others || self.jobs.len() > 1 {
            self.total / KEPT_FOR_OTHERS
        } else {
            0
        };
        let (most, now) = (self.total - kept, Instant::now());
        let ready = self
            .jobs
            .iter()
            .filter(|(_, lane)| lane.running < most)
            .filter_map(|(job_id, lane)| {
                let (_, priority, since) = lane.waiting.front()?;
                // The job waits, not the item: one that is let in all the time does not age, however long its queue.
                let since = lane.last_served.map_or(*since, |(at, _)| at.max(*since));
                let waited = now.duration_since(since).as_secs() / AGES_EVERY.as_secs();
                let rank = *priority as u64 + waited;
                let turn = lane.last_served.map(|(_, turn)| turn);
                let order = std::cmp::Reverse((lane.running, turn));
                Some(((rank, order), job_id.clone()))
            });
        let (_, job_id) = ready.max_by_key(|(order, _)| *order)?;
        self.served += 1;
        let served = (now, self.served);
        let lane = self.jobs.get_mut(&job_id)?;
        let (sender, ..) = lane.waiting.pop_front()?;
        lane.running += 1;
        lane.last_served = Some(served);
        self.running += 1;
        Some((sender, Some(job_id)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.permits.lock();
            match &self.job_id {
                None => state.exclusive = false,
                Some(job_id) => {
                    state.running -= 1;
                    if let Some(lane) = state.jobs.get_mut(job_id) {
                        lane.running -= 1;
                        if lane.running == 0 && lane.waiting.is_empty() {
                            state.jobs.remove(job_id);
                        }
                    }
                }
            }
        }
        self.permits.grant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> JobId {
        JobId::new(name).unwrap()
    }

    /// Starts `count` waiters of a job; each tells its name when it is let in, and stays for `stay`.
    fn crowd(
        permits: &Permits,
        name: &'static str,
        priority: Priority,
        count: usize,
        stay: Duration,
        log: &Arc<Mutex<Vec<(&'static str, u128)>>>,
        began: Instant,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let enter = |_| {
            let (permits, log) = (permits.clone(), Arc::clone(log));
            tokio::spawn(async move {
                let permit = permits.acquire(&job(name), priority, true).await.unwrap();
                log.lock()
                    .unwrap()
                    .push((name, began.elapsed().as_millis()));
                tokio::time::sleep(stay).await;
                drop(permit);
            })
        };
        (0..count).map(enter).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_huge_job_of_slow_items_does_not_keep_another_from_starting() {
        let (permits, log, began) = (Permits::new(25), Arc::default(), Instant::now());
        let slow = Duration::from_secs(30);
        let huge = crowd(&permits, "huge", Priority::Medium, 1_000, slow, &log, began);
        // Permits have come back once by then.
        tokio::time::sleep(Duration::from_secs(37)).await;
        let fast = Duration::from_millis(200);
        let small = crowd(&permits, "small", Priority::Medium, 100, fast, &log, began);
        for task in small {
            task.await.unwrap();
        }
        let starts: Vec<u128> = log
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name == "small")
            .map(|(_, at)| at - 37_000)
            .collect();
        assert_eq!(starts.len(), 100);
        assert!(starts[98] < 5_000, "p99 of the start: {} ms", starts[98]);
        assert_eq!(starts[0], 0, "the first begins at once");
        huge.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn a_higher_priority_goes_first_and_a_lower_one_is_not_starved() {
        let (permits, log, began) = (Permits::new(2), Arc::default(), Instant::now());
        let stay = Duration::from_secs(1);
        let mut all = crowd(&permits, "low", Priority::Low, 3, stay, &log, began);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let urgent = crowd(
            &permits,
            "urgent",
            Priority::Critical,
            400,
            stay,
            &log,
            began,
        );
        all.extend(urgent);
        for task in all {
            task.await.unwrap();
        }
        let log = log.lock().unwrap();
        let third = log.iter().filter(|(name, _)| *name == "low").nth(2);
        let (_, waited) = third.unwrap();
        assert!(
            (90_000..=121_000).contains(waited),
            "the last of low waited {waited} ms"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_runs_alone_waits_for_the_others_and_keeps_them_out() {
        let permits = Permits::new(3);
        let a = permits.acquire(&job("a"), Priority::Low, false).await;
        let alone = tokio::spawn({
            let permits = permits.clone();
            async move { permits.acquire_alone().await }
        });
        tokio::task::yield_now().await;
        let later = tokio::spawn({
            let permits = permits.clone();
            async move { permits.acquire(&job("a"), Priority::Critical, false).await }
        });
        tokio::task::yield_now().await;
        assert!(!alone.is_finished() && !later.is_finished());
        drop(a);
        let alone = alone.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!later.is_finished());
        drop(alone);
        assert!(later.await.unwrap().is_some());
        assert_eq!(permits.lock().running, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_nothing_with_it() {
        let permits = Permits::new(1);
        let held = permits.acquire(&job("a"), Priority::Low, false).await;
        let wait = Duration::from_secs(1);
        let (a, b) = (job("a"), job("b"));
        let gone = tokio::time::timeout(wait, permits.acquire(&a, Priority::Low, false));
        assert!(gone.await.is_err());
        drop(held);
        let next = permits.acquire(&b, Priority::Low, false);
        assert!(tokio::time::timeout(wait, next).await.is_ok());
    }
}
