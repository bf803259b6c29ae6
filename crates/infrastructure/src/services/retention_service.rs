//! Removes what has been kept for long enough: once an hour, on the leader alone, in portions between which others write. The leader
//! also remembers how long its jobs are kept, for when they are not in effect any more.

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
/// How soon to retry to remember how long jobs are kept.
const REMEMBER_AFTER: Duration = Duration::from_mins(1);
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

    /// Remembers and removes until `stop` is cancelled. A failure of the store does not end it.
    pub async fn run(self, stop: CancellationToken) {
        let both = async { tokio::join!(self.keep_remembering(), self.keep_removing()) };
        stop.run_until_cancelled(both).await;
    }

    /// Remembers how long jobs are kept when this process becomes the leader, and whenever its jobs change meanwhile: what is
    /// remembered is what the last leader of a job removed by, so that one without the job removes no more.
    async fn keep_remembering(&self) {
        let mut changes = self.jobs.subscribe();
        loop {
            self.status.wait_for(|status| status.leads).await;
            changes.mark_unchanged();
            if let Err(error) = self.policy().await {
                warn!(%error, "Failed to remember how long jobs are kept, retrying in 1 min: {error}");
                sleep(REMEMBER_AFTER).await;
                continue;
            }
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = self.status.wait_for(|status| !status.leads) => {}
            }
        }
    }

    async fn keep_removing(&self) {
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

    /// How long runs are kept: as the jobs in effect say, which the leader remembers, and of other jobs, as is remembered.
    async fn policy(&self) -> Result<RetentionPolicy, StoreError> {
        let in_effect = RetentionPolicy::of(&self.jobs.current());
        let remembered = self.retention.remembered().await?;
        let changed = in_effect.changed_from(&remembered);
        if self.status.get().leads && !changed.jobs.is_empty() {
            self.retention.remember(&changed).await?;
        }
        Ok(in_effect.with_remembered(remembered))
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
        let policy = self.policy().await?;
        let removable = self.retention.removable(&policy, now).await?;
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
            let policy = self.policy().await?;
            let portion = self.retention.remove(&policy, rows, now).await?;
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
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use punctual_application::{
        SchedulerStatus,
        ports::{MockRetention, RemovedKind, RemovedPortion, StoreErrorKind},
        testing::ManualClock,
    };
    use punctual_domain::{BatchConfig, JobId, KeepDays, Zone};
    use serde_json::json;

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
            .expect_remembered()
            .returning(|| Ok(RetentionPolicy::default()));
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

    /// What replicas have remembered in one store, how often, and by what they have removed.
    #[derive(Default)]
    struct Remembering {
        remembered: Mutex<RetentionPolicy>,
        writes: AtomicU32,
        removed_by: Mutex<Vec<RetentionPolicy>>,
    }

    impl Remembering {
        /// The store, as one replica works on it. It fails so many times at first.
        fn store(self: &Arc<Self>, failures: u32) -> MockRetention {
            let mut retention = MockRetention::new();
            let (failed, shared) = (AtomicU32::new(0), self.clone());
            retention.expect_remembered().returning(move || {
                if failed.fetch_add(1, Ordering::Relaxed) < failures {
                    return Err(StoreError::new(StoreErrorKind::Unavailable, "a test"));
                }
                Ok(shared.remembered.lock().unwrap().clone())
            });
            let shared = self.clone();
            retention.expect_remember().returning(move |jobs| {
                shared.writes.fetch_add(1, Ordering::Relaxed);
                let mut remembered = shared.remembered.lock().unwrap();
                remembered.jobs.extend(jobs.jobs.clone());
                Ok(())
            });
            let shared = self.clone();
            retention.expect_remove().returning(move |policy, _, _| {
                shared.removed_by.lock().unwrap().push(policy.clone());
                Ok(portion(true))
            });
            retention
                .expect_removable()
                .returning(|_, _| Ok(Vec::new()));
            retention
        }

        /// How long the job `audit` is kept, as is remembered.
        fn days(&self) -> u32 {
            let remembered = self.remembered.lock().unwrap();
            remembered.of_job(&audit()).results
        }

        /// How long it was kept by removals since this was asked last.
        fn removed_by(&self) -> Vec<u32> {
            let policies = std::mem::take(&mut *self.removed_by.lock().unwrap());
            let days = policies.iter().map(|policy| policy.of_job(&audit()));
            days.map(|keep| keep.results).collect()
        }
    }

    fn audit() -> JobId {
        JobId::new("audit").unwrap()
    }

    /// A file with the job `audit`, which is kept for so many days, or without it.
    fn file(days: Option<u32>) -> BatchConfig {
        let job = |name: &str, days: u32| {
            json!({"job_id": name, "type": "individual_batch", "purpose_id": "p", "preference_based": true,
                "feature_type": "f", "keep_results_days": days, "keep_failures_days": days})
        };
        let audit = days.map(|days| job("audit", days));
        let jobs: Vec<_> = audit.into_iter().chain([job("posts", 7)]).collect();
        punctual_project::parse_batch_config(&json!({ "jobs": jobs }), &Zone::utc()).unwrap()
    }

    /// A service of a replica with these jobs.
    fn replica(retention: MockRetention, jobs: &Jobs, leads: bool) -> RetentionService {
        let status = StatusHandle::default();
        status.publish(SchedulerStatus {
            leads,
            ..SchedulerStatus::default()
        });
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        RetentionService::new(Arc::new(retention), jobs.clone(), status, clock)
    }

    /// Has two replicas of one store, the leader and another one, start and run for a minute.
    async fn run_two(store: &Arc<Remembering>, leader: Option<u32>, other: Option<u32>) {
        let start = |days: Option<u32>, leads: bool| {
            let mut retention = store.store(0);
            quiet(&mut retention);
            let service = replica(retention, &Jobs::from(file(days)), leads);
            service.run(CancellationToken::new())
        };
        let both = async { tokio::join!(start(leader, true), start(other, false)) };
        let minute = tokio::time::timeout(Duration::from_mins(1), both).await;
        assert!(minute.is_err(), "they run until they are stopped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_job_removes_no_more_of_it_than_the_leader_before() {
        let store: Arc<Remembering> = Arc::default();
        let unknown = KeepDays::of_unknown_job().results;
        for (leader, other, kept, why) in [
            (None, None, unknown, "no leader has had it yet"),
            (
                None,
                Some(3_650),
                unknown,
                "only the leader removes, and remembers",
            ),
            (Some(3_650), None, 3_650, "as its own file says"),
            (
                None,
                Some(3_650),
                3_650,
                "the new file has leadership first",
            ),
            (
                None,
                Some(90),
                3_650,
                "an older file that does not lead changes nothing",
            ),
            (Some(3_650), None, 3_650, "leadership goes back"),
            (None, None, 3_650, "all have the new file"),
            (
                Some(90),
                None,
                90,
                "it was put back, to be kept for a shorter time",
            ),
            (None, None, 90, "and taken out again"),
        ] {
            run_two(&store, leader, other).await;
            assert_eq!(store.removed_by(), [kept], "{why}");
        }
        // `posts` first, then `audit` twice.
        assert_eq!(store.writes.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reload_changes_is_remembered_before_the_next_pass_and_before_any_is_made() {
        let begins_at: [Option<DateTime<Utc>>; 2] = [None, "2026-03-02T09:00:00Z".parse().ok()];
        for begins_at in begins_at {
            let store: Arc<Remembering> = Arc::default();
            let mut retention = store.store(1);
            retention.expect_is_busy().returning(|_| Ok(false));
            retention
                .expect_begins_at()
                .returning(move || Ok(begins_at));
            let jobs = Jobs::from(file(Some(90)));
            let running = replica(retention, &jobs, true).run(CancellationToken::new());
            let edits = async {
                // The store has failed once, and is asked again after a minute.
                tokio::time::sleep(Duration::from_mins(2)).await;
                assert_eq!(store.days(), 90);
                jobs.replace(file(Some(3_650)));
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(store.days(), 3_650);
                jobs.replace(file(None));
                tokio::time::sleep(Duration::from_hours(2)).await;
            };
            tokio::select! {
                () = running => panic!("it runs until it is stopped"),
                () = edits => {}
            }
            assert_eq!(store.days(), 3_650);
            let last = begins_at.is_none().then_some(3_650);
            assert_eq!(store.removed_by().last().copied(), last);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_removed_while_what_is_remembered_cannot_be_read() {
        let store: Arc<Remembering> = Arc::default();
        let mut retention = store.store(u32::MAX);
        quiet(&mut retention);
        let jobs = Jobs::from(file(None));
        let running = replica(retention, &jobs, true).run(CancellationToken::new());
        let _ = tokio::time::timeout(Duration::from_hours(5), running).await;
        assert!(store.removed_by().is_empty());
    }
}
