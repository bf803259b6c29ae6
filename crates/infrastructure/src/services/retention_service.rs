//! Removes what has been kept for long enough: once an hour, on the leader alone, in portions between which others write.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    Jobs, StatusHandle,
    ports::{Clock, Retention, RetentionPolicy, StoreError},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time between the end of a pass and the next one.
const INTERVAL: Duration = Duration::from_hours(1);
/// How soon to try again after the store has failed.
const RETRY_AFTER: Duration = Duration::from_mins(10);
/// By so much at least the clock is set, and not slewed. Whether it was wrong before or is wrong now is not known.
const CLOCK_STEP: TimeDelta = TimeDelta::days(1);
/// For so long nothing is removed after it: time to set it right.
const AFTER_CLOCK_STEP: Duration = Duration::from_hours(24);
/// How often a process that is not the leader looks whether it is.
const LEADER_POLL_INTERVAL: Duration = Duration::from_secs(15);
/// How long a portion should keep others from writing: less than half of 50 ms, as the next one may take longer than the last.
const GOAL: Duration = Duration::from_millis(20);
/// Rows of the first portion, and of any.
const FIRST_ROWS: u32 = 200;
const FEWEST_ROWS: u32 = 10;
const MOST_ROWS: u32 = 10_000;
/// The shortest pause between two portions.
const PAUSE: Duration = Duration::from_millis(5);
/// For so long after it fell due, work that is not over holds the removal up, and so long before, work that is to come.
const BUSY_FOR: TimeDelta = TimeDelta::minutes(1);
const BUSY_BEFORE: TimeDelta = TimeDelta::seconds(2);
/// How long the removal is held up at a time, and how long it then goes on.
const TURN: Duration = Duration::from_mins(1);
/// How often it looks whether work is over.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Removes what has been kept for long enough.
pub struct RetentionService {
    retention: Arc<dyn Retention>,
    jobs: Jobs,
    status: StatusHandle,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for RetentionService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetentionService").finish_non_exhaustive()
    }
}

impl RetentionService {
    /// A service that keeps runs as `jobs` say, in the process whose scheduler `status` is of.
    #[must_use]
    pub fn new(
        retention: Arc<dyn Retention>,
        jobs: Jobs,
        status: StatusHandle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            retention,
            jobs,
            status,
            clock,
        }
    }

    /// Removes until `stop` is cancelled. A failure of the store does not end it.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_removing()).await;
    }

    async fn keep_removing(self) {
        let mut is_announced = false;
        let mut ticking = Ticking::new(self.clock.now());
        loop {
            let wait = self.take_turn(&mut is_announced, &mut ticking).await;
            let wait = wait.unwrap_or_else(|error| {
                warn!(%error, "Failed to remove what was kept long enough, retrying in 10 min: {error}");
                RETRY_AFTER
            });
            sleep(wait).await;
        }
    }

    fn policy(&self) -> RetentionPolicy {
        RetentionPolicy::of(&self.jobs.current())
    }

    /// Goes over the store, if it is time. Returns when to do so again.
    async fn take_turn(
        &self,
        is_announced: &mut bool,
        ticking: &mut Ticking,
    ) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        if let Some(step) = ticking.step_until(now) {
            let hours = step.num_hours();
            warn!(
                hours, %now,
                "The clock was set by {hours} hours, to {now}: no old results are removed for 24 hours"
            );
        }
        if let Some(left) = ticking.left() {
            return Ok(left);
        }
        if !self.status.get().leads {
            return Ok(LEADER_POLL_INTERVAL);
        }
        let begins_at = self.retention.begins_at().await?;
        if let Some(begins_at) = begins_at.filter(|begins_at| *begins_at > now) {
            if !*is_announced {
                self.announce(begins_at, now).await?;
                *is_announced = true;
            }
            let left = (begins_at - now).to_std().unwrap_or_default();
            return Ok(left.min(INTERVAL));
        }
        let removed = self.pass(ticking).await?;
        if removed > 0 {
            info!(
                rows = removed,
                "Removed {removed} rows that were kept long enough"
            );
        }
        Ok(INTERVAL)
    }

    /// Says what will be removed of a store that has been in use.
    async fn announce(
        &self,
        begins_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let removable = self.retention.removable(&self.policy(), now).await?;
        let rows: u64 = removable.iter().map(|one| one.rows).sum();
        let megabytes = removable.iter().map(|one| one.bytes).sum::<u64>() / 1_000_000;
        let oldest = removable.iter().filter_map(|one| one.oldest).min();
        if let Some(oldest) = oldest {
            info!(
                rows, megabytes, %oldest, %begins_at,
                "This version removes old results: {rows} rows, about {megabytes} MB, from {begins_at} on. To keep them longer, \
                 set keep_results_days and keep_failures_days in the jobs before; the page of replicas shows more"
            );
        }
        Ok(())
    }

    /// Goes over the store once, or until the clock is set. Returns the number of rows that have been removed.
    async fn pass(&self, ticking: &Ticking) -> Result<u64, StoreError> {
        let (mut rows, mut removed) = (FIRST_ROWS, 0);
        let mut goes_on_until = Instant::now();
        while self.status.get().leads {
            self.wait_for_quiet(&mut goes_on_until).await?;
            let now = self.clock.now();
            if ticking.is_off(now) {
                break;
            }
            let portion = self.retention.remove(&self.policy(), rows, now).await?;
            let of_portion: u64 = portion.rows.values().sum();
            if of_portion > 0 {
                metrics::histogram!("punctual_removal_seconds").record(portion.held.as_secs_f64());
            }
            for (kind, rows) in portion.rows {
                metrics::counter!("punctual_removed_rows_total", "kind" => kind.as_str())
                    .increment(rows);
            }
            removed += of_portion;
            if portion.is_last {
                break;
            }
            rows = adapted(rows, of_portion, portion.held);
            sleep(portion.held.max(PAUSE)).await;
        }
        Ok(removed)
    }

    /// Waits while work has fallen due just now, or is about to. Where that takes as long as a turn, the removal goes on for one.
    async fn wait_for_quiet(&self, goes_on_until: &mut Instant) -> Result<(), StoreError> {
        let began = Instant::now();
        if began < *goes_on_until {
            return Ok(());
        }
        while self.is_busy().await? {
            if began.elapsed() >= TURN {
                *goes_on_until = Instant::now() + TURN;
                break;
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn is_busy(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let next = self.status.get().next_due;
        if next.is_some_and(|next| next <= now + BUSY_BEFORE) {
            return Ok(true);
        }
        self.retention.is_busy(now - BUSY_FOR).await
    }
}

/// The clock, beside time that passes evenly: what is old enough is judged by it, and cannot be brought back.
struct Ticking {
    /// What it showed once, and when that was.
    showed: (DateTime<Utc>, Instant),
    /// Until when nothing is removed.
    rests_until: Instant,
}

impl Ticking {
    fn new(now: DateTime<Utc>) -> Self {
        let at = Instant::now();
        Self {
            showed: (now, at),
            rests_until: at,
        }
    }

    /// By how much it was set.
    fn off(&self, now: DateTime<Utc>) -> TimeDelta {
        let (showed, at) = self.showed;
        let passed = TimeDelta::from_std(at.elapsed()).unwrap_or_default();
        now - showed - passed
    }

    fn is_off(&self, now: DateTime<Utc>) -> bool {
        self.off(now).abs() >= CLOCK_STEP
    }

    /// By how much it was set, if it was since it was asked for last.
    fn step_until(&mut self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let off = self.off(now);
        let was_set = self.is_off(now);
        let at = Instant::now();
        self.showed = (now, at);
        if !was_set {
            return None;
        }
        self.rests_until = at + AFTER_CLOCK_STEP;
        Some(off)
    }

    /// How long nothing is removed, at most an hour: it may be set again.
    fn left(&self) -> Option<Duration> {
        let left = self.rests_until.duration_since(Instant::now());
        Some(left.min(INTERVAL)).filter(|left| !left.is_zero())
    }
}

/// Rows of the next portion, after one of `rows` that has removed so many in this time.
fn adapted(rows: u32, removed: u64, held: Duration) -> u32 {
    let factor = GOAL.as_secs_f64() / held.as_secs_f64().max(0.001);
    // What a small portion took says nothing of a large one.
    let most = if removed * 2 < u64::from(rows) {
        1.0
    } else {
        1.5
    };
    let next = f64::from(rows) * factor.clamp(0.25, most);
    (next as u32).clamp(FEWEST_ROWS, MOST_ROWS)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use punctual_application::{
        SchedulerStatus,
        ports::{MockRetention, RemovedKind, RemovedPortion, StoreErrorKind},
        testing::ManualClock,
    };
    use punctual_domain::BatchConfig;

    use super::*;

    #[test]
    fn portions_come_to_take_as_long_as_they_should() {
        // A store that takes 0.1 ms for a row.
        let took = |rows: u32| Duration::from_micros(100) * rows;
        for first in [FEWEST_ROWS, FIRST_ROWS, MOST_ROWS] {
            let mut rows = first;
            for _ in 0..20 {
                rows = adapted(rows, rows.into(), took(rows));
            }
            assert!((190..=210).contains(&rows), "{rows}");
        }
        let slow = Duration::from_secs(1);
        assert_eq!(adapted(FEWEST_ROWS, 10, slow), FEWEST_ROWS);
        assert_eq!(adapted(MOST_ROWS, 10_000, Duration::ZERO), MOST_ROWS);
        assert_eq!(
            adapted(1_000, 3, Duration::ZERO),
            1_000,
            "it was the end of a run"
        );
    }

    /// Runs a service on what `retention` answers for a while. Returns how many portions it removes.
    async fn portions_within(
        length: Duration,
        leads: bool,
        setup: impl FnOnce(&mut MockRetention),
        answer: impl Fn(u32) -> Result<RemovedPortion, StoreError> + Send + Sync + 'static,
    ) -> u32 {
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        portions_by(clock, length, leads, setup, answer).await
    }

    /// The same, with a clock that may be set.
    async fn portions_by(
        clock: Arc<ManualClock>,
        length: Duration,
        leads: bool,
        setup: impl FnOnce(&mut MockRetention),
        answer: impl Fn(u32) -> Result<RemovedPortion, StoreError> + Send + Sync + 'static,
    ) -> u32 {
        let asked: Arc<AtomicU32> = Arc::default();
        let mut retention = MockRetention::new();
        setup(&mut retention);
        let count = asked.clone();
        retention
            .expect_remove()
            .returning(move |_, _, _| answer(count.fetch_add(1, Ordering::Relaxed) + 1));
        let status = StatusHandle::default();
        status.publish(SchedulerStatus {
            leads,
            ..SchedulerStatus::default()
        });
        let service = RetentionService::new(
            Arc::new(retention),
            Jobs::from(BatchConfig::default()),
            status,
            clock,
        );
        let stop = CancellationToken::new();
        let running = service.run(stop.clone());
        let _ = tokio::time::timeout(length, running).await;
        asked.load(Ordering::Relaxed)
    }

    fn portion(is_last: bool) -> RemovedPortion {
        RemovedPortion {
            rows: [(RemovedKind::Results, 100)].into(),
            held: Duration::from_millis(20),
            is_last,
        }
    }

    fn quiet(retention: &mut MockRetention) {
        retention.expect_begins_at().returning(|| Ok(None));
        retention.expect_is_busy().returning(|_| Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_goes_over_the_store_after_the_start_and_once_an_hour() {
        let (hours, minutes) = (Duration::from_hours(3), Duration::from_mins(1));
        let every_third = |number: u32| Ok(portion(number.is_multiple_of(3)));
        let asked = portions_within(minutes, true, quiet, every_third).await;
        assert_eq!(asked, 3);
        let asked = portions_within(hours + minutes, true, quiet, every_third).await;
        assert_eq!(asked, 12);
        let asked = portions_within(hours, false, |_| {}, every_third).await;
        assert_eq!(asked, 0, "another process leads");
    }

    #[tokio::test(start_paused = true)]
    async fn it_writes_at_most_half_of_the_time() {
        let endless = |_| Ok(portion(false));
        let asked = portions_within(Duration::from_secs(10), true, quiet, endless).await;
        // Time stands while a portion is removed, so what passes are the pauses.
        assert!((490..=502).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_and_a_busy_minute_is_left_alone() {
        let fails = |number: u32| match number {
            1 => Err(StoreError::new(StoreErrorKind::Unavailable, "a test")),
            _ => Ok(portion(true)),
        };
        let asked = portions_within(Duration::from_mins(9), true, quiet, fails).await;
        assert_eq!(asked, 1);
        let asked = portions_within(Duration::from_mins(11), true, quiet, fails).await;
        assert_eq!(asked, 2);

        let busy = |retention: &mut MockRetention| {
            retention.expect_begins_at().returning(|| Ok(None));
            retention.expect_is_busy().returning(|_| Ok(true));
        };
        let last = |_| Ok(portion(true));
        let asked = portions_within(Duration::from_secs(59), true, busy, last).await;
        assert_eq!(asked, 0);
        let asked = portions_within(Duration::from_secs(62), true, busy, last).await;
        assert_eq!(
            asked, 1,
            "a store that is always busy is not left alone for ever"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_removed_for_a_day_after_the_clock_was_set() {
        for days in [3_650, -2] {
            let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
            let set = clock.clone();
            // In the middle of a pass, which then ends.
            let answer = move |number: u32| {
                if number == 2 {
                    set.step(TimeDelta::days(days));
                }
                Ok(portion(number > 5))
            };
            let length = Duration::from_hours(24);
            let asked = portions_by(clock, length, true, quiet, answer).await;
            assert_eq!(asked, 2, "{days} days");
        }
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let set = clock.clone();
        let answer = move |number: u32| {
            if number == 2 {
                set.step(TimeDelta::hours(23));
            }
            Ok(portion(number > 5))
        };
        let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
        let asked = portions_by(clock, hour / 2, true, quiet, answer).await;
        assert_eq!(asked, 6, "a smaller step does not count");
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let set = clock.clone();
        let answer = move |number: u32| {
            if number == 1 {
                set.step(TimeDelta::days(10));
            }
            Ok(portion(true))
        };
        let asked = portions_by(clock, day + hour * 3 / 2, true, quiet, answer).await;
        assert_eq!(asked, 2, "it goes on after a day");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_in_use_is_left_alone_until_it_may_begin() {
        let tomorrow = |retention: &mut MockRetention| {
            let begins_at: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
            retention
                .expect_begins_at()
                .returning(move || Ok(Some(begins_at)));
            retention
                .expect_removable()
                .times(1)
                .returning(|_, _| Ok(Vec::new()));
        };
        let last = |_| Ok(portion(true));
        let asked = portions_within(Duration::from_hours(5), true, tomorrow, last).await;
        assert_eq!(asked, 0);
    }
}
