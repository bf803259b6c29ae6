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

/// Waiting time that counts as much as one step of priority.
const PRIORITY_AGING_INTERVAL: Duration = Duration::from_secs(30);
/// One permit in this many is reserved for jobs that are not running yet.
const RESERVED_FRACTION: usize = 5;

/// The permits of a process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Permits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    total: usize,
    running: usize,
    jobs: BTreeMap<JobId, JobQueue>,
    /// Waiters for exclusive access; served first so that they cannot starve.
    exclusive_waiters: VecDeque<oneshot::Sender<Permit>>,
    served: u64,
    /// Whether a permit for exclusive access is held.
    exclusive_held: bool,
    /// Whether there are other jobs, so that permits are reserved for them.
    reserve_for_other_jobs: bool,
}

#[derive(Debug, Default)]
struct JobQueue {
    running: usize,
    waiting: VecDeque<(oneshot::Sender<Permit>, Priority, Instant)>,
    /// Time of its last permit, and the number of that permit among all.
    last_served: Option<(Instant, u64)>,
}

/// The right to run one item, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Permits,
    /// Job that holds it; `None`: exclusive access.
    job_id: Option<JobId>,
}

impl Permits {
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            total: total.max(1),
            running: 0,
            jobs: BTreeMap::new(),
            exclusive_waiters: VecDeque::new(),
            served: 0,
            exclusive_held: false,
            reserve_for_other_jobs: false,
        })))
    }

    /// Waits for a permit. `reserve_for_other_jobs`: whether there are other jobs, for whom some are kept.
    pub(crate) async fn acquire(
        &self,
        job_id: &JobId,
        priority: Priority,
        reserve_for_other_jobs: bool,
    ) -> Option<Permit> {
        let waiting = {
            let mut state = self.lock();
            state.reserve_for_other_jobs = reserve_for_other_jobs;
            if state.take(job_id) {
                let job_id = Some(job_id.clone());
                let permits = self.clone();
                return Some(Permit { permits, job_id });
            }
            let (sender, receiver) = oneshot::channel();
            let queue = state.jobs.entry(job_id.clone()).or_default();
            queue.waiting.push_back((sender, priority, Instant::now()));
            receiver
        };
        self.grant();
        waiting.await.ok()
    }

    /// Waits until no item runs, and lets none begin until the permit is dropped.
    pub(crate) async fn acquire_exclusive(&self) -> Option<Permit> {
        let (sender, receiver) = oneshot::channel();
        self.lock().exclusive_waiters.push_back(sender);
        self.grant();
        receiver.await.ok()
    }

    /// Gives free permits to waiters.
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
            // A waiter that was cancelled drops the permit, and that grants it to the next one.
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
    /// How many permits one job may have.
    fn most_of_one_job(&self) -> usize {
        let kept = if self.reserve_for_other_jobs || self.jobs.len() > 1 {
            self.total / RESERVED_FRACTION
        } else {
            0
        };
        self.total - kept
    }

    /// Lets a job run one at once, if none waits for anything.
    fn take(&mut self, job_id: &JobId) -> bool {
        let none_waits = self.exclusive_waiters.is_empty()
            && self.jobs.values().all(|queue| queue.waiting.is_empty());
        if self.exclusive_held || !none_waits || self.running >= self.total {
            return false;
        }
        if !self.jobs.contains_key(job_id) {
            self.jobs.insert(job_id.clone(), JobQueue::default());
        }
        let most = self.most_of_one_job();
        let Some(queue) = self
            .jobs
            .get_mut(job_id)
            .filter(|queue| queue.running < most)
        else {
            return false;
        };
        self.served += 1;
        queue.running += 1;
        queue.last_served = Some((Instant::now(), self.served));
        self.running += 1;
        true
    }

    /// The next to run, already counted as running.
    fn next(&mut self) -> Option<(oneshot::Sender<Permit>, Option<JobId>)> {
        if self.exclusive_held {
            return None;
        }
        if !self.exclusive_waiters.is_empty() {
            if self.running > 0 {
                return None;
            }
            self.exclusive_held = true;
            return self
                .exclusive_waiters
                .pop_front()
                .map(|sender| (sender, None));
        }
        if self.running >= self.total {
            return None;
        }
        let (most, now) = (self.most_of_one_job(), Instant::now());
        let ready = self
            .jobs
            .iter()
            .filter(|(_, queue)| queue.running < most)
            .filter_map(|(job_id, queue)| {
                let (_, priority, since) = queue.waiting.front()?;
                // The job waits, not the item: one that is let in all the time does not age, however long its queue.
                let since = queue.last_served.map_or(*since, |(at, _)| at.max(*since));
                let waited =
                    now.duration_since(since).as_secs() / PRIORITY_AGING_INTERVAL.as_secs();
                let rank = *priority as u64 + waited;
                let turn = queue.last_served.map(|(_, turn)| turn);
                let order = std::cmp::Reverse((queue.running, turn));
                Some(((rank, order), job_id.clone()))
            });
        let (_, job_id) = ready.max_by_key(|(order, _)| *order)?;
        self.served += 1;
        let served = (now, self.served);
        let queue = self.jobs.get_mut(&job_id)?;
        let (sender, ..) = queue.waiting.pop_front()?;
        queue.running += 1;
        queue.last_served = Some(served);
        self.running += 1;
        Some((sender, Some(job_id)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.permits.lock();
            match &self.job_id {
                None => state.exclusive_held = false,
                Some(job_id) => {
                    state.running -= 1;
                    if let Some(queue) = state.jobs.get_mut(job_id) {
                        queue.running -= 1;
                        if queue.running == 0 && queue.waiting.is_empty() {
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
    fn spawn_waiters(
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
        let huge = spawn_waiters(&permits, "huge", Priority::Medium, 1_000, slow, &log, began);
        // Permits have come back once by then.
        tokio::time::sleep(Duration::from_secs(37)).await;
        let fast = Duration::from_millis(200);
        let small = spawn_waiters(&permits, "small", Priority::Medium, 100, fast, &log, began);
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
        let mut all = spawn_waiters(&permits, "low", Priority::Low, 3, stay, &log, began);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let urgent = spawn_waiters(
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
    async fn an_exclusive_permit_waits_for_running_items_and_blocks_new_ones() {
        let permits = Permits::new(3);
        let a = permits.acquire(&job("a"), Priority::Low, false).await;
        let alone = tokio::spawn({
            let permits = permits.clone();
            async move { permits.acquire_exclusive().await }
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
    async fn a_cancelled_waiter_takes_no_permit() {
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
