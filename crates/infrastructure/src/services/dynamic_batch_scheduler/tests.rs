//! The scheduler against a fake store and a scripted Config Database, on paused time: exact to the second.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual_application::{
    Jobs, SchedulerStatus,
    ports::{
        BatchFilter, BatchReader, BatchStore, ChangePage, Claimant, Clock, ConfigDatabaseError,
        ConfigErrorKind, Cursor, Enqueued, ErasedRecords, ErasedTenant, Leadership,
        MockTenantRecords, MockWorkQueue, Page, PauseCause, Snapshot, SnapshotPages,
        StoreErrorKind, Unreadable, WorkQueue,
    },
    testing::{FakeItemSource, FakeStore, ManualClock},
};
use punctual_domain::{
    BatchConfig, Change, ChangeKind, ItemResult, ItemStatus, PreferenceRecord, Sharding,
    SkipReason, TenantId, Trigger,
};
use serde_json::{Value, json};

use super::*;
use crate::{Guarded, OfShards, SchedulerOptions};

fn paused_by_a_test() -> PauseCause {
    PauseCause::Operator {
        name: "a test".to_owned(),
        reason: None,
    }
}

/// Answers a snapshot at any time, and changes in the order they are pushed; with none it waits.
#[derive(Default)]
struct Scripted {
    records: Mutex<Vec<PreferenceRecord>>,
    changes: Mutex<VecDeque<Result<Change, ConfigErrorKind>>>,
    pushed: tokio::sync::Notify,
    snapshots: std::sync::atomic::AtomicUsize,
    /// It gives no snapshots.
    down: std::sync::atomic::AtomicBool,
    /// Its snapshots break off after the first page, which has one record.
    breaks_off: std::sync::atomic::AtomicBool,
    /// It gives no changes.
    unreachable: std::sync::atomic::AtomicBool,
    holds_nothing: std::sync::atomic::AtomicBool,
    /// Every page announces more.
    promises_more: std::sync::atomic::AtomicBool,
    /// Number of calls that will panic, and after these of calls that will never end.
    panics: std::sync::atomic::AtomicUsize,
    hangs: std::sync::atomic::AtomicUsize,
    /// The tenants that it lists as erased.
    erased: Mutex<Vec<ErasedTenant>>,
    /// When it was asked for anything.
    calls: Mutex<Vec<tokio::time::Instant>>,
    /// Number of times that the status of a job was made.
    shown: std::sync::atomic::AtomicUsize,
}

impl Scripted {
    fn store(&self, tenant: &str, preference: Value, updated_at: &str) {
        let mut records = self.records.lock().unwrap();
        records.retain(|record| record.tenant_id.as_str() != tenant);
        records.push(PreferenceRecord {
            tenant_id: TenantId::new(tenant).unwrap(),
            preference: Arc::new(preference.as_object().unwrap().clone()),
            updated_at: Some(updated_at.parse().unwrap()),
            schedule_since: None,
            organization: None,
        });
    }

    fn change(&self, tenant: &str, preference: Option<Value>, changed_at: &str) {
        match &preference {
            Some(preference) => self.store(tenant, preference.clone(), changed_at),
            None => self
                .records
                .lock()
                .unwrap()
                .retain(|record| record.tenant_id.as_str() != tenant),
        }
        let kind = match preference {
            Some(preference) => {
                ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone()))
            }
            None => ChangeKind::Deleted,
        };
        self.push(Ok(Change {
            tenant_id: TenantId::new(tenant).unwrap(),
            feature_type: FeatureType::new("instagram_posts").unwrap(),
            kind,
            changed_at: Some(changed_at.parse().unwrap()),
            schedule_since: None,
            organization: None,
        }));
    }

    /// Panics or hangs as often as a test asks for.
    async fn misbehave(&self) {
        let one_less = |calls: usize| calls.checked_sub(1);
        let order = std::sync::atomic::Ordering::SeqCst;
        assert!(
            self.panics.fetch_update(order, order, one_less).is_err(),
            "this test makes the Config Database panic"
        );
        if self.hangs.fetch_update(order, order, one_less).is_ok() {
            std::future::pending::<()>().await;
        }
    }

    fn push(&self, entry: Result<Change, ConfigErrorKind>) {
        self.changes.lock().unwrap().push_back(entry);
        self.pushed.notify_one();
    }
}

fn trouble(kind: ConfigErrorKind) -> ConfigDatabaseError {
    let message = "Error connecting to Config Database at http://x: refused".to_owned();
    ConfigDatabaseError::new(kind, message)
}

#[async_trait]
impl ConfigDatabase for Scripted {
    async fn snapshot(&self, _: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
        self.calls.lock().unwrap().push(tokio::time::Instant::now());
        self.misbehave().await;
        self.snapshots
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if self.down.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(trouble(ConfigErrorKind::Unavailable));
        }
        if self.breaks_off.load(std::sync::atomic::Ordering::SeqCst) {
            let first: Vec<_> = self.records.lock().unwrap()[..1].to_vec();
            let pages = [Ok(first), Err(trouble(ConfigErrorKind::Unavailable))];
            return Ok(SnapshotPages::new(
                Cursor::default(),
                futures::stream::iter(pages),
            ));
        }
        Ok(Snapshot {
            records: self.records.lock().unwrap().clone(),
            cursor: Cursor::default(),
            known_at: None,
        }
        .into())
    }

    async fn changes(
        &self,
        _: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        self.calls.lock().unwrap().push(tokio::time::Instant::now());
        self.misbehave().await;
        if self.unreachable.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(trouble(ConfigErrorKind::Unavailable));
        }
        let holds_nothing = self.holds_nothing.load(std::sync::atomic::Ordering::SeqCst);
        let has_more = self.promises_more.load(std::sync::atomic::Ordering::SeqCst);
        let wait = if holds_nothing || has_more {
            Duration::ZERO
        } else {
            wait
        };
        let _ = tokio::time::timeout(wait, async {
            while self.changes.lock().unwrap().is_empty() {
                self.pushed.notified().await;
            }
        })
        .await;
        let next = self
            .changes
            .lock()
            .unwrap()
            .pop_front()
            .transpose()
            .map_err(trouble)?;
        Ok(ChangePage {
            changes: next.into_iter().collect(),
            cursor: cursor.clone(),
            has_more,
            waited: true,
        })
    }

    async fn preferences(
        &self,
        _: &FeatureType,
        _: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        Err(trouble(ConfigErrorKind::Unavailable))
    }

    async fn erased(&self, _: &FeatureType) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        Ok(self.erased.lock().unwrap().clone())
    }

    fn unreadable(&self, _: &FeatureType) -> Arc<Unreadable> {
        self.shown.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Arc::default()
    }
}

struct Bench {
    jobs: Jobs,
    clock: Arc<ManualClock>,
    config_database: Arc<Scripted>,
    store: Arc<FakeStore>,
    status: StatusHandle,
    stop: CancellationToken,
}

fn jobs() -> Value {
    json!({"jobs": [
        {"job_id": "posts", "type": "individual_batch", "purpose_id": "p", "preference_based": true,
         "feature_type": "instagram_posts"},
        {"job_id": "report", "type": "object_batch", "purpose_id": "p", "source": {"file": "x.json"},
         "schedule": {"frequency": "daily", "preferred_time": "06:00"}}
    ]})
}

/// Starts a scheduler at `now` on paused time.
fn start(config_database: Arc<Scripted>, store: Arc<FakeStore>, now: &str) -> Bench {
    start_with(config_database, store, now, || 1.0)
}

fn start_with(
    config_database: Arc<Scripted>,
    store: Arc<FakeStore>,
    now: &str,
    random: fn() -> f64,
) -> Bench {
    let jobs = Jobs::from(punctual_project::parse_batch_config(&jobs(), &Zone::utc()).unwrap());
    start_jobs(config_database, store, now, random, jobs)
}

fn start_jobs(
    config_database: Arc<Scripted>,
    store: Arc<FakeStore>,
    now: &str,
    random: fn() -> f64,
    jobs: Jobs,
) -> Bench {
    start_sharded(
        config_database,
        store,
        now,
        random,
        jobs,
        Sharding::default(),
    )
}

fn start_sharded(
    config_database: Arc<Scripted>,
    store: Arc<FakeStore>,
    now: &str,
    random: fn() -> f64,
    jobs: Jobs,
    sharding: Sharding,
) -> Bench {
    let clock = Arc::new(ManualClock::starting_at(now));
    let queue: Arc<dyn WorkQueue> = store.clone();
    let scheduler = scheduler(
        config_database.clone(),
        queue,
        clock.clone(),
        random,
        jobs.clone(),
        sharding,
    );
    let (status, stop) = (scheduler.status(), CancellationToken::new());
    tokio::spawn(scheduler.run(stop.clone()));
    Bench {
        jobs,
        clock,
        config_database,
        store,
        status,
        stop,
    }
}

fn scheduler(
    config_database: Arc<Scripted>,
    queue: Arc<dyn WorkQueue>,
    clock: Arc<ManualClock>,
    random: fn() -> f64,
    jobs: Jobs,
    sharding: Sharding,
) -> DynamicBatchScheduler {
    let items = FakeItemSource::default();
    items.put("x.json", ["1"]);
    let options = SchedulerOptions {
        chunk_size: 500,
        look_back: TimeDelta::zero(),
    };
    let base = BatchScheduler::new(jobs, Arc::new(items), queue, clock, options)
        .with_sharding(sharding.clone());
    DynamicBatchScheduler::new(
        base,
        Arc::new(Guarded(OfShards::new(config_database, sharding))),
        Duration::from_mins(1),
        &Zone::utc(),
        random,
    )
}

impl Bench {
    async fn sleep(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// What is queued, oldest first, as `job occurrence items [late]`.
    async fn queued(&self) -> Vec<String> {
        let (mut batches, _) = self
            .store
            .batches(&BatchFilter::default(), &Page::default())
            .await
            .unwrap();
        batches.reverse();
        let line = |batch: &punctual_domain::Batch| {
            let late = if batch.trigger == Trigger::LateChange {
                " late"
            } else {
                ""
            };
            format!(
                "{} {} {}{late}",
                batch.job_id,
                batch.scheduled_at.format("%d %H:%M"),
                batch.total
            )
        };
        batches.iter().map(line).collect()
    }
}

mod prepare_ahead;

fn daily(time: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

#[tokio::test(start_paused = true)]
async fn slots_fire_at_their_second_and_fixed_schedules_beside_them() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("05:30"), LONG_AGO);
    scripted.store("b", daily("05:30"), LONG_AGO);
    let bench = start(scripted, Arc::default(), "2026-03-01T05:29:30Z");
    bench.sleep(29).await;
    assert!(bench.queued().await.is_empty());
    bench.sleep(2).await;
    assert_eq!(bench.queued().await, ["posts 01 05:30 2"]);
    bench.sleep(3600).await;
    assert_eq!(
        bench.queued().await,
        ["posts 01 05:30 2", "report 01 06:00 1"]
    );
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_change_moves_a_tenant_and_a_deletion_stops_them() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    scripted.store("b", daily("09:00"), LONG_AGO);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(60).await;
    bench
        .config_database
        .change("a", Some(daily("08:05")), "2026-03-01T08:01:00Z");
    bench
        .config_database
        .change("b", None, "2026-03-01T08:01:00Z");
    bench.sleep(2 * 3600).await;
    assert_eq!(bench.queued().await, ["posts 01 08:05 1"]);
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_preference_stored_in_time_but_seen_late_still_runs() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:59:00Z");
    bench.sleep(80).await;
    bench
        .config_database
        .change("b", Some(daily("09:00")), "2026-03-01T08:59:50Z");
    bench
        .config_database
        .change("c", Some(daily("09:00")), "2026-03-01T09:00:10Z");
    bench.sleep(5).await;
    assert_eq!(
        bench.queued().await,
        ["posts 01 09:00 1", "posts 01 09:00 1 late"]
    );
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_was_settled_does_not_run_after_a_restart() {
    for (is_cancelled, skipped_as, runs_again) in [
        // The process ends before it has skipped the item.
        (true, None, false),
        (true, Some(SkipReason::Cancelled), false),
        (false, Some(SkipReason::JobRemoved), false),
        (false, Some(SkipReason::Disabled), true),
    ] {
        let scripted = Arc::new(Scripted::default());
        let store: Arc<FakeStore> = Arc::default();
        let first = start(scripted.clone(), store.clone(), "2026-03-01T08:58:00Z");
        first.sleep(40).await;
        scripted.change("a", Some(daily("09:00")), "2026-03-01T08:58:30Z");
        first.sleep(85).await;
        assert_eq!(first.queued().await, ["posts 01 09:00 1"]);
        let [chunk] = store.pending().try_into().unwrap();
        if is_cancelled {
            assert!(store.cancel(chunk.batch_id).await.unwrap());
        }
        if let Some(reason) = skipped_as {
            let claimant = Claimant {
                process: uuid::Uuid::nil(),
                token: uuid::Uuid::nil(),
            };
            let now = "2026-03-01T09:00:05Z".parse().unwrap();
            let claim = store.claim(&chunk, claimant, now).await.unwrap();
            let skipped = ItemResult {
                item_id: claim.items[0].clone(),
                status: ItemStatus::Skipped,
                failure_kind: None,
                attempts: 0,
                preference: None,
                output: None,
                error: Some(reason.as_str().to_owned()),
                started_at: now,
                finished_at: Some(now),
                waiting: None,
            };
            let skipped = store.commit(&chunk, claimant.token, &[skipped]).await;
            assert_eq!(skipped.unwrap().taken, 1);
        }
        first.stop.cancel();
        first.sleep(1).await;

        let second = start(scripted, store, "2026-03-01T09:01:00Z");
        second.sleep(10).await;
        let again = ["posts 01 09:00 1", "posts 01 09:00 1 late"];
        let expected = &again[..=usize::from(runs_again)];
        let mut queued = second.queued().await;
        queued.sort();
        assert_eq!(queued, expected, "{skipped_as:?}");
        second.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_a_fixed_schedule_costs_and_doubles_no_run() {
    let file = |schedule: &Value| {
        let mut file = jobs();
        file["jobs"][1]["schedule"] = schedule.clone();
        Jobs::from(punctual_project::parse_batch_config(&file, &Zone::utc()).unwrap())
    };
    let at = |time: &str| json!({"frequency": "daily", "preferred_time": time});
    let cron = |text: &str| json!({ "cron": text });
    let edited_at: DateTime<Utc> = "2026-03-01T05:55:00Z".parse().unwrap();
    for restarts in [false, true] {
        for (before, after, expected) in [
            (at("06:00"), at("05:30"), "report 01 05:30 1 late"),
            (at("05:50"), at("05:30"), "report 01 05:50 1"),
            (at("06:00"), at("06:30"), "report 01 06:30 1"),
            // A cron expression names no date whose run was to come.
            (cron("0 6 * * *"), cron("30 5 * * *"), ""),
        ] {
            let store: Arc<FakeStore> = Arc::default();
            let begin = |schedule: &Value, now: &str| {
                let jobs = file(schedule);
                start_jobs(Arc::default(), store.clone(), now, || 1.0, jobs)
            };
            let mut bench = begin(&before, "2026-03-01T05:40:00Z");
            bench.sleep(15 * 60).await;
            if restarts {
                bench.stop.cancel();
                bench.sleep(1).await;
                bench = begin(&after, "2026-03-01T05:55:00Z");
            } else {
                bench.jobs.replace((*file(&after).current()).clone());
            }
            bench.sleep(5).await;
            let report = JobId::new("report").unwrap();
            let position = store.position(&report).await.unwrap().unwrap();
            assert!(position.began >= Some(edited_at), "explain says so");
            bench.sleep(4 * 3600).await;
            let queued = bench.queued().await.join(", ");
            assert_eq!(queued, expected, "{before} {after}");
            bench.stop.cancel();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_before_a_fixed_schedule_was_edited_follows_catch_up() {
    let all = [
        "report 01 05:30 1 late",
        "report 02 05:30 1",
        "report 03 05:30 1",
        "report 04 05:30 1",
    ];
    for (policy, restarted_at, expected) in [
        ("skip", "2026-03-04T05:00:00Z", &all[..0]),
        ("latest", "2026-03-04T05:00:00Z", &all[2..3]),
        ("all", "2026-03-04T05:00:00Z", &all[..3]),
        // The run of the day is still to come by the old schedule.
        ("skip", "2026-03-04T05:50:00Z", &all[3..]),
        ("latest", "2026-03-04T05:50:00Z", &all[3..]),
        ("all", "2026-03-04T05:50:00Z", &all[..]),
    ] {
        let store: Arc<FakeStore> = Arc::default();
        let begin = |time: &str, now: &str| {
            let mut file = jobs();
            file["jobs"][1]["schedule"]["preferred_time"] = json!(time);
            file["jobs"][1]["catch_up"] = json!({ "policy": policy });
            let file = punctual_project::parse_batch_config(&file, &Zone::utc()).unwrap();
            let jobs = Jobs::from(file);
            start_jobs(Arc::default(), store.clone(), now, || 1.0, jobs)
        };
        let first = begin("06:00", "2026-03-01T05:55:00Z");
        first.sleep(60).await;
        first.stop.cancel();
        first.sleep(1).await;
        let second = begin("05:30", restarted_at);
        second.sleep(10).await;
        let mut queued = second.queued().await;
        queued.sort();
        assert_eq!(queued, expected, "{policy} {restarted_at}");
        second.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_when_the_job_began_keeps_no_choice_from_being_late() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let bench = start(scripted, Arc::default(), "2026-03-01T12:00:00Z");
    bench.sleep(5).await;
    bench.clock.step(TimeDelta::minutes(-182));
    bench.sleep(140).await;
    bench
        .config_database
        .change("b", Some(daily("09:00")), "2026-03-01T08:59:50Z");
    bench.sleep(5).await;
    assert_eq!(
        bench.queued().await,
        ["posts 01 09:00 1", "posts 01 09:00 1 late"]
    );
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_latest_missed_run_is_made_once_and_nothing_twice() {
    let store = Arc::new(FakeStore::default());
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let first = start(scripted.clone(), store.clone(), "2026-03-01T08:59:00Z");
    first.sleep(120).await;
    first.stop.cancel();
    first.sleep(1).await;

    scripted.store("new", daily("09:00"), "2026-03-04T08:00:00Z");
    scripted.store("after", daily("09:00"), "2026-03-04T09:30:00Z");
    let second = start(scripted.clone(), store.clone(), "2026-03-04T10:00:00Z");
    second.sleep(10).await;
    let queued = second.queued().await;
    assert_eq!(
        queued,
        ["posts 01 09:00 1", "report 04 06:00 1", "posts 04 09:00 2"]
    );
    second.stop.cancel();
    second.sleep(1).await;

    let third = start(scripted, store, "2026-03-04T10:01:00Z");
    third.sleep(10).await;
    assert_eq!(third.queued().await, queued);
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_nothing_of_the_feature_runs_and_fixed_schedules_go_on() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("05:30"), LONG_AGO);
    scripted
        .down
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let bench = start(scripted, Arc::default(), "2026-03-01T05:29:00Z");
    bench.sleep(3600).await;
    assert_eq!(bench.queued().await, ["report 01 06:00 1"]);
    let status = bench.status.get();
    let job = &status.jobs[&JobId::new("posts").unwrap()];
    assert!(!job.loaded && job.trouble.as_ref().unwrap().contains("Error connecting"));

    bench
        .config_database
        .down
        .store(false, std::sync::atomic::Ordering::SeqCst);
    bench.sleep(61).await;
    assert_eq!(
        bench.status.get().jobs[&JobId::new("posts").unwrap()].tenants,
        1
    );
    // It first saw the job after its time had passed, so the next run is tomorrow's.
    bench.sleep(24 * 3600).await;
    assert!(
        bench
            .queued()
            .await
            .contains(&"posts 02 05:30 1".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_config_database_that_panics_or_hangs_is_asked_again() {
    let order = std::sync::atomic::Ordering::SeqCst;
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    scripted.panics.store(2, order);
    scripted.hangs.store(1, order);
    let bench = start(scripted, Arc::default(), "2026-03-01T06:30:00Z");
    bench.sleep(60).await;
    let status = bench.status.get();
    assert!(!status.jobs[&JobId::new("posts").unwrap()].loaded);
    // Two snapshots panic, the third never ends and is given up after an hour.
    bench.sleep(3600).await;
    let status = bench.status.get();
    assert!(status.jobs[&JobId::new("posts").unwrap()].loaded);

    bench.config_database.panics.store(1, order);
    bench.config_database.hangs.store(1, order);
    bench.sleep(900).await;
    assert_eq!(bench.config_database.panics.load(order), 0);
    assert_eq!(bench.config_database.hangs.load(order), 0);
    bench
        .config_database
        .change("a", Some(daily("08:30")), "2026-03-01T07:50:00Z");
    bench.sleep(3600).await;
    assert_eq!(bench.queued().await, ["posts 01 08:30 1"]);
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_feed_change_nothing_and_a_lost_cursor_takes_a_new_snapshot() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(1).await;
    for kind in [ConfigErrorKind::Unavailable, ConfigErrorKind::Unauthorized] {
        bench.config_database.push(Err(kind));
        bench.sleep(1).await;
        let status = bench.status.get();
        assert_eq!(
            status.jobs[&JobId::new("posts").unwrap()].tenants,
            1,
            "{kind:?}"
        );
    }
    bench
        .config_database
        .store("b", daily("09:00"), "2026-03-01T08:01:00Z");
    bench.config_database.push(Err(ConfigErrorKind::CursorLost));
    bench.sleep(200).await;
    assert_eq!(
        bench.status.get().jobs[&JobId::new("posts").unwrap()].tenants,
        2
    );
    assert_eq!(
        bench
            .config_database
            .snapshots
            .load(std::sync::atomic::Ordering::SeqCst),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_read_leads_to_a_full_read() {
    let scripted = Arc::new(Scripted::default());
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(1).await;
    bench
        .config_database
        .store("b", daily("09:00"), "2026-03-01T08:01:00Z");
    bench.config_database.push(Err(ConfigErrorKind::Malformed));
    bench.sleep(5).await;
    assert_eq!(
        bench.status.get().jobs[&JobId::new("posts").unwrap()].tenants,
        1
    );
    // With a page that stays so, there are no more full reads than polls.
    for _ in 0..1000 {
        bench.config_database.push(Err(ConfigErrorKind::Malformed));
    }
    bench.sleep(600).await;
    let snapshots = bench
        .config_database
        .snapshots
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!(
        (8..=20).contains(&snapshots),
        "{snapshots} snapshots in ten minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_promises_more_for_ever_is_read_as_a_whole() {
    let scripted = Arc::new(Scripted::default());
    scripted
        .promises_more
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(60).await;
    let calls = bench.config_database.calls.lock().unwrap().len();
    let snapshots = bench
        .config_database
        .snapshots
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!((4..=10).contains(&snapshots), "{snapshots} snapshots");
    assert!(calls <= snapshots * 10_002, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_full_read_every_hour_repairs_what_the_feed_missed() {
    let scripted = Arc::new(Scripted::default());
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(60).await;
    bench
        .config_database
        .store("silent", daily("12:00"), "2026-03-01T08:10:00Z");
    bench.sleep(3700).await;
    assert_eq!(
        bench.status.get().jobs[&JobId::new("posts").unwrap()].tenants,
        1
    );
    bench.sleep(4 * 3600).await;
    assert_eq!(bench.queued().await, ["posts 01 12:00 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_can_never_be_followed_is_not_read_in_a_hot_loop() {
    let scripted = Arc::new(Scripted::default());
    for _ in 0..1000 {
        scripted.push(Err(ConfigErrorKind::CursorLost));
    }
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(600).await;
    let snapshots = bench
        .config_database
        .snapshots
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!(
        (5..=20).contains(&snapshots),
        "{snapshots} snapshots in ten minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_read_that_fails_does_not_end_the_following_of_changes() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("20:00"), LONG_AGO);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(60).await;
    bench
        .config_database
        .down
        .store(true, std::sync::atomic::Ordering::SeqCst);
    bench.sleep(2 * 3600).await;
    bench
        .config_database
        .change("b", Some(daily("12:00")), "2026-03-01T10:01:00Z");
    bench.sleep(120).await;
    assert_eq!(
        bench.status.get().jobs[&JobId::new("posts").unwrap()].tenants,
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_breaks_off_loads_nothing_at_first_and_removes_nothing_later() {
    let scripted = Arc::new(Scripted::default());
    for tenant in ["a", "b", "c"] {
        scripted.store(tenant, daily("08:30"), LONG_AGO);
    }
    let order = std::sync::atomic::Ordering::SeqCst;
    scripted.breaks_off.store(true, order);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    let posts = JobId::new("posts").unwrap();
    bench.sleep(60).await;
    assert!(!bench.status.get().jobs[&posts].loaded);
    bench.config_database.breaks_off.store(false, order);
    bench.sleep(600).await;
    let job = bench.status.get().jobs[&posts].clone();
    assert_eq!((job.loaded, job.tenants, job.trouble), (true, 3, None));

    bench.config_database.breaks_off.store(true, order);
    bench.sleep(2 * 3600).await;
    assert_eq!(bench.status.get().jobs[&posts].tenants, 3);
    assert_eq!(bench.queued().await, ["posts 01 08:30 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_hold_its_calls_is_asked_no_more_than_every_poll_interval() {
    let scripted = Arc::new(Scripted::default());
    scripted
        .holds_nothing
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let bench = start(scripted, Arc::default(), "2026-03-01T08:00:00Z");
    bench.sleep(601).await;
    let polls = bench.config_database.calls.lock().unwrap().len();
    assert!((11..=13).contains(&polls), "{polls} calls in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn fifty_agents_that_lost_their_server_together_do_not_come_back_together() {
    fastrand::seed(50);
    let scripted = Arc::new(Scripted::default());
    let down = |down| {
        for flag in [&scripted.down, &scripted.unreachable] {
            flag.store(down, std::sync::atomic::Ordering::SeqCst);
        }
    };
    scripted
        .holds_nothing
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let agents: Vec<Bench> = (0..50)
        .map(|_| {
            let now = "2026-03-01T08:00:00Z";
            start_with(scripted.clone(), Arc::default(), now, fastrand::f64)
        })
        .collect();
    agents[0].sleep(300).await;
    down(true);
    agents[0].sleep(300).await;
    down(false);
    scripted.calls.lock().unwrap().clear();
    let back_at = tokio::time::Instant::now();
    agents[0].sleep(600).await;
    let mut in_ten_seconds = [0_u32; 60];
    for called_at in scripted.calls.lock().unwrap().iter() {
        in_ten_seconds[((*called_at - back_at).as_secs() / 10) as usize] += 1;
    }
    let mean = f64::from(in_ten_seconds.iter().sum::<u32>()) / 60.0;
    let peak = f64::from(*in_ten_seconds.iter().max().unwrap());
    assert!(
        mean > 5.0 && peak / mean <= 3.0,
        "peak {peak}, mean {mean}: {in_ten_seconds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_falls_due_while_a_job_is_paused_is_left_out_and_not_made_up() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let store: Arc<FakeStore> = Arc::default();
    let job = JobId::new("posts").unwrap();
    let now = "2026-03-01T05:30:00Z".parse().unwrap();
    store
        .set_paused(&job, Some(paused_by_a_test()), now)
        .await
        .unwrap();
    let bench = start(scripted, store, "2026-03-01T05:30:00Z");
    bench.sleep(4 * 3600).await;
    assert_eq!(bench.queued().await, ["report 01 06:00 1"]);
    bench.store.set_paused(&job, None, now).await.unwrap();
    bench.sleep(3600).await;
    assert_eq!(bench.queued().await, ["report 01 06:00 1"]);
    bench.sleep(24 * 3600).await;
    assert_eq!(bench.queued().await[2..], ["posts 02 09:00 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_pause_has_left_out_is_not_made_up_after_a_restart() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let store: Arc<FakeStore> = Arc::default();
    let bench = start(scripted.clone(), store.clone(), "2026-03-01T08:30:00Z");
    bench.sleep(25 * 60).await;
    scripted.change("b", Some(daily("09:02")), "2026-03-01T08:55:00Z");
    bench.sleep(2 * 60).await;
    let job = JobId::new("posts").unwrap();
    let cause = Some(paused_by_a_test());
    let now = "2026-03-01T08:57:00Z".parse().unwrap();
    store.set_paused(&job, cause, now).await.unwrap();
    bench.sleep(10 * 60).await;
    store.set_paused(&job, None, now).await.unwrap();
    bench.stop.cancel();
    bench.sleep(1).await;
    assert_eq!(bench.queued().await, [""; 0]);

    let restarted = start(scripted, store, "2026-03-01T09:08:00Z");
    restarted.sleep(60).await;
    assert_eq!(restarted.queued().await, [""; 0]);
    restarted.sleep(24 * 3600).await;
    assert_eq!(
        restarted.queued().await,
        ["report 02 06:00 1", "posts 02 09:00 1", "posts 02 09:02 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn jobs_that_are_replaced_go_on_where_they_were_and_new_ones_begin_now() {
    let scripted = Arc::new(Scripted::default());
    scripted.store(
        "a",
        json!({"enabled": true, "frequency": "daily"}),
        LONG_AGO,
    );
    let bench = start(scripted, Arc::default(), "2026-03-01T05:30:00Z");
    bench.sleep(3 * 3600).await;
    // At half past eight, the default time moves from nine to ten, the report to noon, and a job comes.
    let mut changed = jobs();
    changed["jobs"][0]["default_preferences"] = json!({"preferred_time": "10:00"});
    changed["jobs"][1]["schedule"]["preferred_time"] = json!("12:00");
    let mut new = changed["jobs"][0].clone();
    new["job_id"] = json!("more");
    new["default_preferences"] = json!({"preferred_time": "11:00"});
    changed["jobs"].as_array_mut().unwrap().push(new);
    bench
        .jobs
        .replace(punctual_project::parse_batch_config(&changed, &Zone::utc()).unwrap());
    bench.sleep(4 * 3600).await;
    let expected = [
        "report 01 06:00 1",
        "posts 01 10:00 1",
        "more 01 11:00 1",
        "report 01 12:00 1",
    ];
    assert_eq!(bench.queued().await, expected);
    // Without it, nothing of it runs.
    bench
        .jobs
        .replace(punctual_project::parse_batch_config(&jobs(), &Zone::utc()).unwrap());
    bench.sleep(24 * 3600).await;
    assert_eq!(
        bench.queued().await[4..],
        ["report 02 06:00 1", "posts 02 09:00 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_spread_that_is_edited_at_its_middle_costs_and_doubles_no_run() {
    for how in [
        "while it runs",
        "over a restart",
        "out of the file and back",
    ] {
        let scripted = Arc::new(Scripted::default());
        for number in 0..40 {
            scripted.store(&format!("t{number}"), daily("09:00"), LONG_AGO);
        }
        let file = |minutes: u32| {
            let mut file = jobs();
            file["jobs"][0]["spread_minutes"] = json!(minutes);
            Jobs::from(punctual_project::parse_batch_config(&file, &Zone::utc()).unwrap())
        };
        let store: Arc<FakeStore> = Arc::default();
        let begin =
            |jobs: Jobs, now: &str| start_jobs(scripted.clone(), store.clone(), now, || 1.0, jobs);
        let bench = begin(file(60), "2026-03-01T08:00:00Z");
        bench.sleep(80 * 60).await;
        let before = bench.queued().await.len();
        assert!((1..21).contains(&before), "{before} minutes");
        let bench = if how == "over a restart" {
            bench.stop.cancel();
            bench.sleep(1).await;
            begin(file(0), "2026-03-01T09:21:00Z")
        } else {
            if how == "out of the file and back" {
                bench.jobs.replace(BatchConfig::default());
                bench.sleep(5).await;
            }
            bench.jobs.replace((*file(0).current()).clone());
            bench
        };
        bench.sleep(60).await;
        let at_once = bench.queued().await;
        assert_eq!(at_once.len(), before + 1, "{how}: {at_once:?}");
        bench.sleep(3600).await;
        let runs = runs(&store).await;
        assert!(
            runs.len() == 40 && runs.values().all(|count| *count == 1),
            "{how}: {runs:?}"
        );
        bench.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_choice_from_before_an_edit_of_the_job_file_is_not_late_after_a_restart() {
    let scripted = Arc::new(Scripted::default());
    let file = |time: &str| {
        let mut file = jobs();
        file["jobs"][0]["default_preferences"] = json!({"preferred_time": time});
        Jobs::from(punctual_project::parse_batch_config(&file, &Zone::utc()).unwrap())
    };
    let store: Arc<FakeStore> = Arc::default();
    let begin =
        |jobs: Jobs, now: &str| start_jobs(scripted.clone(), store.clone(), now, || 1.0, jobs);
    let bench = begin(file("09:00"), "2026-03-01T09:00:30Z");
    bench.sleep(90).await;
    // 09:00 has passed when it is chosen; by the new file it would be 09:04.
    let on = json!({"enabled": true, "frequency": "daily"});
    scripted.change("a", Some(on), "2026-03-01T09:02:00Z");
    bench.sleep(5 * 60).await;
    bench.jobs.replace((*file("09:04").current()).clone());
    bench.sleep(2 * 60).await;
    assert_eq!(bench.queued().await, [""; 0]);
    bench.stop.cancel();
    bench.sleep(1).await;

    let restarted = begin(file("09:04"), "2026-03-01T09:10:00Z");
    restarted.sleep(60).await;
    assert_eq!(restarted.queued().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_back_after_a_step_of_the_clock_runs_nothing_early() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let file = |minutes: u32| {
        let mut file = jobs();
        file["jobs"][0]["spread_minutes"] = json!(minutes);
        Jobs::from(punctual_project::parse_batch_config(&file, &Zone::utc()).unwrap())
    };
    let jobs = file(240);
    let bench = start_jobs(
        scripted,
        Arc::default(),
        "2026-03-01T08:30:00Z",
        || 1.0,
        jobs,
    );
    bench.sleep(25 * 60).await;
    // By a clock that is ten minutes ahead 09:00 has passed, and the spread leaves the tenant to come.
    bench.clock.step(TimeDelta::minutes(10));
    bench.sleep(120).await;
    bench.jobs.replace(BatchConfig::default());
    bench.sleep(5).await;
    bench.clock.step(TimeDelta::minutes(-10));
    bench.jobs.replace((*file(0).current()).clone());
    bench.sleep(60).await;
    assert_eq!(bench.queued().await, [""; 0], "it is 08:58");
    bench.sleep(5 * 60).await;
    assert_eq!(bench.queued().await, ["posts 01 09:00 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_takes_up_another_feature_begins_anew_with_its_tenants() {
    for how in ["over a restart", "while it runs, and a restart follows"] {
        let scripted = Arc::new(Scripted::default());
        let file = |feature: &str| {
            let mut file = jobs();
            file["jobs"][0]["feature_type"] = json!(feature);
            Jobs::from(punctual_project::parse_batch_config(&file, &Zone::utc()).unwrap())
        };
        let store: Arc<FakeStore> = Arc::default();
        let begin =
            |jobs: Jobs, now: &str| start_jobs(scripted.clone(), store.clone(), now, || 1.0, jobs);
        let bench = begin(file("instagram_posts"), "2026-03-01T08:00:00Z");
        bench.sleep(50 * 60).await;
        // Tenants of the other feature: the feed of this one does not tell of them.
        scripted.store("a", daily("08:45"), "2026-03-01T08:40:00Z");
        scripted.store("b", daily("09:00"), "2026-03-01T08:40:00Z");
        if how != "over a restart" {
            bench.jobs.replace((*file("mail").current()).clone());
            bench.sleep(5 * 60).await;
        }
        bench.stop.cancel();
        bench.sleep(1).await;
        let bench = begin(file("mail"), "2026-03-01T08:56:00Z");
        bench.sleep(3600).await;
        assert_eq!(bench.queued().await, ["posts 01 09:00 1"], "{how}");
        bench.stop.cancel();
    }
}

/// Runs everything that is queued, and counts the runs of each occurrence.
async fn runs(store: &FakeStore) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let claimant = Claimant {
        process: uuid::Uuid::nil(),
        token: uuid::Uuid::nil(),
    };
    for chunk in store.pending() {
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        for tenant in store.claim(&chunk, claimant, now).await.unwrap().items {
            *counts
                .entry(format!("{} {tenant} {}", chunk.job_id, chunk.occurrence))
                .or_default() += 1;
        }
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_by_an_hour_or_a_day_and_back_skips_nothing_and_doubles_nothing() {
    for step in [3_600, -3_600, 86_400, -86_400] {
        for at in [60, 45 * 60, 5 * 3_600] {
            let scripted = Arc::new(Scripted::default());
            scripted.store("a", daily("09:00"), LONG_AGO);
            let hourly = json!({"enabled": true, "frequency": "hourly", "preferred_time": "00:30"});
            scripted.store("b", hourly, LONG_AGO);
            let bench = start(scripted, Arc::default(), "2026-03-02T08:15:00Z");
            bench.sleep(at).await;
            bench.clock.step(TimeDelta::seconds(step));
            bench.sleep(20 * 60).await;
            bench.clock.step(TimeDelta::seconds(-step));
            bench.sleep(48 * 3_600 - at - 20 * 60).await;

            let runs = runs(&bench.store).await;
            assert!(
                runs.values().all(|count| *count == 1),
                "{step} at {at}: {runs:?}"
            );
            let mut due = vec![
                "posts a 2026-03-02".to_owned(),
                "posts a 2026-03-03".to_owned(),
                "report * 2026-03-03".to_owned(),
                "report * 2026-03-04".to_owned(),
            ];
            due.extend((0..47).map(|hour| {
                let instant = "2026-03-02T08:30:00Z".parse::<DateTime<Utc>>().unwrap();
                let instant = instant + TimeDelta::hours(hour);
                format!("posts b {}", instant.format("%Y-%m-%dT%H:%M:%SZ"))
            }));
            for occurrence in due {
                assert!(
                    runs.contains_key(&occurrence),
                    "{step} at {at}: {occurrence} is missing"
                );
            }
            bench.stop.cancel();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shards_divide_tenants_and_records_and_each_runs_its_own() {
    let scripted = Arc::new(Scripted::default());
    for n in 0..30 {
        scripted.store(&format!("t{n}"), daily("09:00"), LONG_AGO);
    }
    let (now, mut tenants) = ("2026-03-01T05:59:00Z", Vec::new());
    let (mut mirrored, mut records) = (0, 0);
    for shard in ["1/3", "2/3", "3/3"] {
        let store: Arc<FakeStore> = Arc::default();
        let assignment = shard.parse().unwrap();
        let sharding = store.assign(&assignment, now.parse().unwrap()).await;
        let jobs = punctual_project::parse_batch_config(&jobs(), &Zone::utc()).unwrap();
        let (scripted, jobs) = (scripted.clone(), Jobs::from(jobs));
        let bench = start_sharded(scripted, store, now, || 1.0, jobs, sharding.unwrap());
        bench.sleep(3600).await;
        // A change of one of the others is not taken in.
        for n in 30..36 {
            let tenant = format!("t{n}");
            bench
                .config_database
                .change(&tenant, Some(daily("09:00")), "2026-03-01T06:58:00Z");
        }
        bench.sleep(3 * 3600).await;
        bench.stop.cancel();
        mirrored += bench.status.get().jobs[&JobId::new("posts").unwrap()].tenants;
        let queued = bench.queued().await;
        records += queued
            .iter()
            .filter(|line| line.starts_with("report"))
            .count();
        let posts = queued
            .iter()
            .find_map(|line| line.strip_prefix("posts 01 09:00 "));
        tenants.push(posts.unwrap().parse::<usize>().unwrap());
    }
    assert_eq!(
        (tenants.iter().sum::<usize>(), mirrored, records),
        (36, 36, 1)
    );
    assert!(tenants.iter().all(|tenants| *tenants > 6), "{tenants:?}");
}

/// So many jobs, each of a feature of its own.
fn many_jobs(jobs: usize) -> Jobs {
    let job = |number| {
        json!({"job_id": format!("job{number}"), "type": "individual_batch", "purpose_id": "p",
            "preference_based": true, "feature_type": format!("feature{number}")})
    };
    let jobs = json!({"jobs": (0..jobs).map(job).collect::<Vec<_>>()});
    Jobs::from(punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap())
}

/// Starts so many jobs, and sleeps until a second later.
async fn start_many(jobs: usize, now: &str) -> Bench {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("09:00"), LONG_AGO);
    let bench = start_jobs(scripted, Arc::default(), now, || 1.0, many_jobs(jobs));
    bench.sleep(1).await;
    bench
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_changes_costs_a_look_at_its_own_feature() {
    const JOBS: usize = 40;
    let bench = start_many(JOBS, "2026-03-01T07:00:00Z").await;
    let shown = || {
        bench
            .config_database
            .shown
            .load(std::sync::atomic::Ordering::SeqCst)
    };
    let planned_until = |status: &SchedulerStatus| {
        let of_job = |job: &JobStatus| job.mirror.read(|mirror| mirror.position().cloned());
        status.jobs.values().map(of_job).collect::<Vec<_>>()
    };
    let (before, shown_before) = (bench.status.get(), shown());
    let plans = planned_until(&before);
    // Each feature is answered once, after half a minute.
    bench.sleep(30).await;
    let after = bench.status.get();
    assert_eq!(shown() - shown_before, JOBS);
    assert_eq!(planned_until(&after), plans, "nothing was planned");
    assert_eq!(after.next_due, before.next_due);
    assert!(after.planned_until > before.planned_until);
    let job = JobId::new("job7").unwrap();
    for tens in 0..300 {
        bench.sleep(10).await;
        let now = bench.clock.now();
        if tens % 5 == 0 {
            // A change is planned with at once, and the positions are stored in time all the same.
            let change = (Some(daily("09:00")), now.to_rfc3339());
            bench.config_database.change("b", change.0, &change.1);
        }
        let stored = bench.store.position(&job).await.unwrap().unwrap();
        let seen_until = bench.status.get().jobs[&job].seen_until.unwrap();
        let (stored, seen) = (now - stored.planned_until, now - seen_until);
        assert!(
            stored.max(seen) <= TimeDelta::seconds(60),
            "{stored} and {seen} at {now}"
        );
    }
    assert!(shown() - shown_before <= JOBS * 104, "{}", shown());
    assert!(bench.queued().await.is_empty());
    bench.sleep(2 * 3_600).await;
    assert_eq!(bench.queued().await.len(), JOBS);
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_changes_shows_that_the_clock_has_stepped() {
    let bench = start_many(3, "2026-03-01T08:00:00Z").await;
    bench.clock.step(TimeDelta::hours(-2));
    bench.sleep(30).await;
    let job = JobId::new("job1").unwrap();
    let stored = bench.store.position(&job).await.unwrap().unwrap();
    assert!(stored.planned_until <= bench.clock.now(), "{stored:?}");
    bench.clock.step(TimeDelta::hours(4));
    bench.sleep(30).await;
    assert_eq!(bench.queued().await.len(), 3);
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_every_three_seconds_however_many_answers_come() {
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = calls.clone();
    let mut queue = MockWorkQueue::new();
    queue.expect_lead().returning(move |_, _| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(Leadership::Granted)
    });
    queue.expect_position().returning(|_| Ok(None));
    queue
        .expect_enqueue()
        .returning(|_, _| Ok(Enqueued::default()));
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T07:00:00Z"));
    let scheduler = scheduler(
        Arc::default(),
        Arc::new(queue),
        clock,
        || 1.0,
        many_jobs(40),
        Sharding::default(),
    );
    let stop = CancellationToken::new();
    tokio::spawn(scheduler.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = calls.load(std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let renewals = calls.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!((200..=220).contains(&renewals), "{renewals}");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_planned_is_retried_with_the_next_answer() {
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T07:00:00Z"));
    let (began, planned) = (tokio::time::Instant::now(), Arc::new(Mutex::new(0)));
    let counted = planned.clone();
    let mut queue = MockWorkQueue::new();
    queue.expect_lead().returning(|_, _| Ok(Leadership::Always));
    queue.expect_position().returning(move |_| {
        let is_down = began.elapsed() < Duration::from_secs(10);
        let down = || StoreError::new(StoreErrorKind::Unavailable, "a test");
        if is_down { Err(down()) } else { Ok(None) }
    });
    queue.expect_enqueue().returning(move |firing, _| {
        *counted.lock().unwrap() += firing.positions.len();
        Ok(Enqueued::default())
    });
    let scheduler = scheduler(
        Arc::default(),
        Arc::new(queue),
        clock,
        || 1.0,
        many_jobs(2),
        Sharding::default(),
    );
    let stop = CancellationToken::new();
    tokio::spawn(scheduler.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(*planned.lock().unwrap(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*planned.lock().unwrap(), 2);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_begins_to_lead_carries_out_again_what_is_listed_as_erased() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    let scripted = Arc::new(Scripted::default());
    scripted.erased.lock().unwrap().push(ErasedTenant {
        tenant_id: TenantId::new("gone").unwrap(),
        erased_at: LONG_AGO.parse().unwrap(),
    });
    let (leads, erasures) = (
        Arc::new(AtomicBool::default()),
        Arc::new(AtomicUsize::default()),
    );
    let mut queue = MockWorkQueue::new();
    let is_free = leads.clone();
    queue.expect_lead().returning(move |_, _| {
        Ok(if is_free.load(SeqCst) {
            Leadership::Granted
        } else {
            Leadership::Refused
        })
    });
    queue.expect_position().returning(|_| Ok(None));
    queue
        .expect_enqueue()
        .returning(|_, _| Ok(Enqueued::default()));
    let mut records = MockTenantRecords::new();
    let counted = erasures.clone();
    records.expect_erase_once().returning(move |_, _, _| {
        counted.fetch_add(1, SeqCst);
        Ok(ErasedRecords::default())
    });
    let scheduler = scheduler(
        scripted,
        Arc::new(queue),
        Arc::new(ManualClock::starting_at("2026-03-01T07:00:00Z")),
        || 1.0,
        many_jobs(1),
        Sharding::default(),
    );
    let scheduler = scheduler.with_tenant_records(Arc::new(records));
    let stop = CancellationToken::new();
    tokio::spawn(scheduler.run(stop.clone()));
    let hours = |hours: u64| tokio::time::sleep(Duration::from_mins(hours * 60 + 2));
    hours(2).await;
    assert_eq!(erasures.load(SeqCst), 1);
    leads.store(true, SeqCst);
    hours(1).await;
    assert_eq!(erasures.load(SeqCst), 2);
    hours(2).await;
    assert_eq!(erasures.load(SeqCst), 2);
    stop.cancel();
}
