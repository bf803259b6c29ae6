//! Agents: each a scheduler, a worker and what it keeps on disk, wired as the agent's process wires them.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Jobs, Limits, RetryPolicy, StatusHandle,
    ports::{
        ChangePage, Clock, ConfigDatabase, ConfigDatabaseError, Cursor, ErasedTenant, HandlerError,
        MockItemSource, PreferenceMirror, PurposeHandler, Removable, RemovedPortion, Retention,
        RetentionPolicy, SnapshotPages, StoreError, WaitingCall, WorkQueue,
    },
    testing::{FakeStore, ManualClock},
};
use punctual_domain::{
    FeatureType, Item, JobId, Outcome, PreferenceRecord, PurposeId, Sharding, SharedPreference,
    TenantId, Zone,
};
use punctual_infrastructure::{
    BatchScheduler, DynamicBatchScheduler, LastKnownGood, OfShards, RetentionService,
    SchedulerOptions, WaitingService,
};
use serde_json::json;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{
    database::SimulatedDatabase,
    faults::{FaultPlan, chance},
    faulty_store::FaultyStore,
    outcome::Bug,
    outside::Outside,
};

/// An agent's clock: the true time, and what a fault window adds to it.
pub struct AgentClock {
    pub time: Arc<ManualClock>,
    pub faults: FaultPlan,
    pub bug: Option<Bug>,
}

impl Clock for AgentClock {
    fn now(&self) -> DateTime<Utc> {
        let now = self.time.now();
        let off = match self.bug {
            Some(Bug::ClockIsOff) => TimeDelta::hours(-1),
            _ => TimeDelta::zero(),
        };
        let window = self.faults.at(now);
        now + off + window.map_or(TimeDelta::zero(), |window| window.clock)
    }
}

/// The clock by which old results are removed: that of the agent, which is set forward a year for a while and back again. An
/// agent that starts meanwhile could not know, and sees it as it was.
struct RetentionClock {
    clock: Arc<AgentClock>,
    started_at: DateTime<Utc>,
    year_ahead: Option<Range<DateTime<Utc>>>,
}

impl Clock for RetentionClock {
    fn now(&self) -> DateTime<Utc> {
        let (now, true_now) = (self.clock.now(), self.clock.time.now());
        let is_ahead = self
            .year_ahead
            .as_ref()
            .is_some_and(|ahead| self.started_at < ahead.start && ahead.contains(&true_now));
        now + TimeDelta::days(if is_ahead { 365 } else { 0 })
    }
}

/// A retention that goes by its clock, wherever that was set.
struct TrustsTheClock {
    retention: Arc<dyn Retention>,
    clock: RetentionClock,
}

#[async_trait]
impl Retention for TrustsTheClock {
    async fn remove(
        &self,
        policy: &RetentionPolicy,
        rows: u32,
        _: DateTime<Utc>,
    ) -> Result<RemovedPortion, StoreError> {
        let now = self.clock.now();
        self.retention.remove(policy, rows, now).await
    }

    async fn removable(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        self.retention.removable(policy, now).await
    }

    async fn removed_to(&self, job_id: &JobId) -> Result<Option<NaiveDate>, StoreError> {
        self.retention.removed_to(job_id).await
    }

    async fn remember(&self, jobs: &RetentionPolicy) -> Result<(), StoreError> {
        self.retention.remember(jobs).await
    }

    async fn remembered(&self) -> Result<RetentionPolicy, StoreError> {
        self.retention.remembered().await
    }

    async fn jobs(&self) -> Result<Vec<JobId>, StoreError> {
        self.retention.jobs().await
    }

    async fn begins_at(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.retention.begins_at().await
    }

    async fn is_busy(&self, since: DateTime<Utc>) -> Result<bool, StoreError> {
        self.retention.is_busy(since).await
    }
}

/// A handler's call, by the true clock.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: DateTime<Utc>,
    pub item: Item,
}

/// Writes its calls down, answers with whose item and parameters it was given, fails now and then, and hands some work on.
pub struct Echo {
    pub time: Arc<ManualClock>,
    pub seed: u64,
    pub calls: Mutex<Vec<Call>>,
    /// Calls of the second purpose.
    pub sent: Mutex<Vec<Call>>,
    pub outside: Arc<Outside>,
}

#[async_trait]
impl PurposeHandler for Echo {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let call = Call {
            at: self.time.now(),
            item: item.clone(),
        };
        self.calls.lock().unwrap().push(call);
        let what = (&item.job_id, &item.item_id, item.occurrence);
        match chance(self.seed, self.time.now(), what).u8(..20) {
            0 => return Err(HandlerError::permanent("simulated")),
            1 => return Ok(Outcome::nothing_to_do("simulated")),
            _ => {}
        }
        let overrides = json!(item.overrides());
        let output = json!({"tenant": item.item_id, "of": overrides["of"], "n": overrides["n"],
            "enabled": item.preference().map(|preference| preference.enabled)});
        Ok(self.outside.later(item, output))
    }

    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        self.outside.ask(call)
    }
}

/// The second purpose of a job: writes its calls down, and fails more often than the first.
struct Sender(Arc<Echo>);

#[async_trait]
impl PurposeHandler for Sender {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let call = Call {
            at: self.0.time.now(),
            item: item.clone(),
        };
        self.0.sent.lock().unwrap().push(call);
        let what = ("send", &item.job_id, &item.item_id, item.occurrence);
        match chance(self.0.seed, self.0.time.now(), what).u8(..20) {
            0..3 => Err(HandlerError::permanent("simulated")),
            3 => Ok(Outcome::nothing_to_do("simulated")),
            _ => Ok(self.0.outside.later(item, json!({"sent": item.item_id}))),
        }
    }

    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        self.0.outside.ask(call)
    }
}

/// What agents have in common.
#[derive(Clone)]
pub struct Surroundings {
    pub clock: Arc<AgentClock>,
    pub database: Arc<SimulatedDatabase>,
    pub store: Arc<FaultyStore>,
    pub jobs: Jobs,
    pub handler: Arc<Echo>,
    /// Whether agents keep on disk what they last knew.
    pub remembers: bool,
    /// What of the tenants the store serves.
    pub sharding: Sharding,
    /// When the clock by which old results are removed is a year ahead.
    pub year_ahead: Option<Range<DateTime<Utc>>>,
    pub bug: Option<Bug>,
}

impl Surroundings {
    pub fn handlers(&self) -> Handlers {
        let mut handlers = Handlers::default();
        let purpose = PurposeId::new("echo").unwrap();
        handlers.bind(purpose, self.handler.clone(), Handlers::DEFAULT_TIMEOUT);
        let (purpose, send) = (
            PurposeId::new("send").unwrap(),
            Sender(self.handler.clone()),
        );
        handlers.bind(purpose, Arc::new(send), Handlers::DEFAULT_TIMEOUT);
        handlers
    }

    /// What removes old results, in the agent that `status` is of.
    fn retention(&self, status: StatusHandle) -> RetentionService {
        let ahead = RetentionClock {
            clock: self.clock.clone(),
            started_at: self.clock.time.now(),
            year_ahead: self.year_ahead.clone(),
        };
        let jobs = self.jobs.clone();
        if self.bug == Some(Bug::RetentionTrustsTheClock) {
            let trusting = TrustsTheClock {
                retention: self.store.clone(),
                clock: ahead,
            };
            return RetentionService::new(Arc::new(trusting), jobs, status, self.clock.clone());
        }
        RetentionService::new(self.store.clone(), jobs, status, Arc::new(ahead))
    }
}

/// Items of a chunk.
pub const CHUNK: usize = 3;

/// A process.
pub struct Agent {
    pub number: usize,
    scheduler: AbortHandle,
    /// Ends the feeds, which the scheduler's task does not take with it.
    stop: CancellationToken,
    worker: Option<AbortHandle>,
    /// Looks after the items that wait.
    waiting: AbortHandle,
    /// Removes old results.
    retention: AbortHandle,
    outside: Arc<Outside>,
    pub status: StatusHandle,
    pub config_database: Arc<dyn ConfigDatabase>,
}

impl Agent {
    /// Starts the agent of this number, that keeps what it last knew in a folder of its own.
    pub async fn start(number: usize, around: &Surroundings, folder: &Path) -> Self {
        let database: Arc<dyn ConfigDatabase> = around.database.clone();
        let folder = folder.join(number.to_string());
        let config_database = match around.bug {
            Some(Bug::TruncatedReadsAreTaken) => database,
            _ if around.remembers => loop {
                let (clock, folder) = (around.clock.clone(), folder.clone());
                let source = format!("simulated {:?}", around.sharding.shards());
                match LastKnownGood::new(database.clone(), clock, folder, source) {
                    Ok(remembering) => {
                        let inner: Arc<dyn ConfigDatabase> = Arc::new(remembering);
                        break Arc::new(InOrder { inner, number }) as Arc<dyn ConfigDatabase>;
                    }
                    // The process that has crashed is not quite gone.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            },
            _ => database,
        };
        let config_database: Arc<dyn ConfigDatabase> =
            Arc::new(OfShards::new(config_database, around.sharding.clone()));
        let base = BatchScheduler::new(
            around.jobs.clone(),
            Arc::new(MockItemSource::new()),
            around.store.clone(),
            around.clock.clone(),
            SchedulerOptions {
                chunk_size: CHUNK,
                look_back: TimeDelta::zero(),
            },
        )
        .with_sharding(around.sharding.clone());
        let scheduler = DynamicBatchScheduler::new(
            base,
            config_database.clone(),
            Duration::from_mins(1),
            &Zone::utc(),
            || 0.5,
        )
        .with_tenant_records(around.store.clone());
        let status = scheduler.status();
        let stop = CancellationToken::new();
        let running = tokio::spawn(scheduler.run(stop.clone()));
        let mirror = Arc::new(status.clone());
        let processor = processor(around, config_database.clone(), mirror);
        let outside = around.handler.outside.clone();
        outside.open(number, processor.clone());
        // It never hears that something has changed, and looks by itself.
        let waiting = WaitingService::new(
            around.store.clone(),
            Arc::<FakeStore>::default(),
            around.store.clone(),
            processor,
        );
        let waiting = tokio::spawn(waiting.run(stop.clone()));
        let retention = around.retention(status.clone());
        let retention = tokio::spawn(retention.run(stop.clone()));
        Self {
            number,
            scheduler: running.abort_handle(),
            stop,
            worker: None,
            waiting: waiting.abort_handle(),
            retention: retention.abort_handle(),
            outside,
            status,
            config_database,
        }
    }

    pub fn crash(&self) {
        self.scheduler.abort();
        self.stop.cancel();
        self.waiting.abort();
        self.retention.abort();
        self.outside.close(self.number);
        self.worker.iter().for_each(AbortHandle::abort);
    }

    /// Works on what is queued, or stops to.
    pub fn work(&mut self, works: bool, around: &Surroundings) {
        match (&self.worker, works) {
            (None, true) => {
                let mirror: Arc<dyn PreferenceMirror> = Arc::new(self.status.clone());
                let mirror: Arc<dyn PreferenceMirror> = match around.bug {
                    Some(Bug::ItemsKeepOldPreferences) => Arc::new(OldPreferences {
                        mirror,
                        first: Mutex::default(),
                    }),
                    Some(Bug::OrganizationsAreLost) => Arc::new(WithoutOrganizations(mirror)),
                    _ => mirror,
                };
                let working =
                    tokio::spawn(work(around.clone(), self.config_database.clone(), mirror));
                self.worker = Some(working.abort_handle());
            }
            (Some(worker), false) => {
                worker.abort();
                self.worker = None;
            }
            _ => {}
        }
    }
}

/// What runs the items of an agent.
pub fn processor(
    around: &Surroundings,
    config_database: Arc<dyn ConfigDatabase>,
    mirror: Arc<dyn PreferenceMirror>,
) -> EnhancedBatchProcessor {
    EnhancedBatchProcessor::new(
        BatchProcessor::new(
            around.handlers(),
            around.store.clone(),
            around.clock.clone(),
        ),
        config_database,
        Arc::new(MockItemSource::new()),
        around.jobs.clone(),
        Zone::utc(),
        Limits {
            max_concurrent_items: 2,
            // Of what handlers do themselves, nothing is worth a retry.
            retry: RetryPolicy::new(2, || 0.5),
        },
        CancellationToken::new(),
    )
    .with_mirror(mirror)
    .with_waiting_items(around.store.clone())
}

async fn work(
    around: Surroundings,
    config_database: Arc<dyn ConfigDatabase>,
    mirror: Arc<dyn PreferenceMirror>,
) {
    let processor = processor(&around, config_database, mirror);
    let store = around.store;
    let (mut seen, mut again) = (0, true);
    loop {
        let wakes = store.wakes();
        if again || wakes > seen {
            (seen, again) = (wakes, false);
            let paused = store.inner.paused().await.unwrap();
            for chunk in store.inner.pending() {
                // What is left is delivered again.
                again |=
                    paused.contains_key(&chunk.job_id) || processor.process(&chunk).await.is_err();
            }
        }
        let moment = tokio::time::sleep(Duration::from_secs(20));
        if again {
            moment.await;
        } else {
            // It looks soon after something has been queued, as a queue that is asked now and then.
            store.work.notified().await;
            moment.await;
        }
    }
}

/// What an agent remembers is read and written by other threads. An answer waits until the virtual clock has moved on,
/// which it does only when those have ended, so the order of answers does not depend on the speed of the machine.
struct InOrder {
    inner: Arc<dyn ConfigDatabase>,
    /// The agent's.
    number: usize,
}

impl InOrder {
    /// Ends at another moment for each agent and feature.
    async fn turn(&self, feature: &FeatureType) {
        let place = 2 * self.number as u64 + u64::from(feature.as_str() == "mail");
        tokio::time::sleep(Duration::from_millis(1 + place)).await;
    }
}

#[async_trait]
impl ConfigDatabase for InOrder {
    async fn snapshot(&self, feature: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
        let snapshot = self.inner.snapshot(feature).await;
        self.turn(feature).await;
        snapshot
    }

    async fn changes(
        &self,
        feature: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let page = self.inner.changes(feature, cursor, wait).await;
        self.turn(feature).await;
        page
    }

    async fn preferences(
        &self,
        feature: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let read = self.inner.preferences(feature, tenants).await;
        self.turn(feature).await;
        read
    }

    async fn erased(
        &self,
        feature: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        self.inner.erased(feature).await
    }

    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        // It writes the files that the feeds write: after the turns of both agents' features.
        let place = 2 * self.number as u64;
        tokio::time::sleep(Duration::from_millis(6 + place)).await;
        let forgotten = self.inner.forget(erased).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        forgotten
    }
}

/// A mirror that never learns of a change.
struct OldPreferences {
    mirror: Arc<dyn PreferenceMirror>,
    first: Mutex<HashMap<(JobId, TenantId), Option<SharedPreference>>>,
}

impl PreferenceMirror for OldPreferences {
    fn preferences(&self, job_id: &JobId, tenants: &[TenantId]) -> Vec<Option<SharedPreference>> {
        let now = self.mirror.preferences(job_id, tenants);
        let mut first = self.first.lock().unwrap();
        let mut old = |(tenant, now): (&TenantId, Option<SharedPreference>)| {
            let key = (job_id.clone(), tenant.clone());
            first.entry(key).or_insert(now).clone()
        };
        tenants.iter().zip(now).map(&mut old).collect()
    }
}

/// A mirror that knows of no organization.
struct WithoutOrganizations(Arc<dyn PreferenceMirror>);

impl PreferenceMirror for WithoutOrganizations {
    fn preferences(&self, job_id: &JobId, tenants: &[TenantId]) -> Vec<Option<SharedPreference>> {
        let without = |known: SharedPreference| {
            SharedPreference::from((*known).clone().of_organization(None))
        };
        let known = self.0.preferences(job_id, tenants).into_iter();
        known.map(|known| known.map(without)).collect()
    }
}
