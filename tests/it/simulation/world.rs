//! A world: users who choose, and agents that come and go.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{BatchReader, Clock, HandlerError, MockItemSource, Page, PurposeHandler, TenantRuns},
    testing::ManualClock,
};
use punctual_domain::{BatchConfig, Item, PurposeId, TenantId, Zone};
use punctual_infrastructure::{BatchScheduler, DynamicBatchScheduler, SchedulerOptions};
use serde_json::{Map, Value, json};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    database::SimulatedDatabase,
    faults::Weather,
    faulty_store::FaultyStore,
    oracle::{Ran, judge},
};

/// A mistake put in on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Progress is stored, and the batches of the same tick are not, now and then.
    ProgressWithoutBatches,
    /// Progress is stored that has not been made.
    ProgressAhead,
    /// A read that fails is taken for 'nobody'.
    ErrorsReadAsNobody,
    /// The feed leaves out every fifth change, and calm times do not help.
    FeedLosesChanges,
    /// Results are committed for whoever is first in the chunk.
    ResultsOfAnother,
    /// The schedule takes the time an hour late.
    ClockIsOff,
}

impl Bug {
    pub const ALL: [Self; 6] = [
        Self::ProgressWithoutBatches,
        Self::ProgressAhead,
        Self::ErrorsReadAsNobody,
        Self::FeedLosesChanges,
        Self::ResultsOfAnother,
        Self::ClockIsOff,
    ];
}

/// What a simulation has shown.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Occurrences that had to run, and did unless `violations` says otherwise.
    pub required: usize,
    /// Occurrences that faults or changes may have kept from running.
    pub excused: usize,
    pub violations: Vec<String>,
    /// What happened, for whoever replays it.
    pub history: Vec<String>,
}

/// Times around which something is special: clock changes, ends of months and years, a leap day.
const STARTS: [&str; 6] = [
    "2026-03-28T03:00:00Z",
    "2026-10-24T12:00:00Z",
    "2026-11-01T00:00:00Z",
    "2026-12-31T06:00:00Z",
    "2028-02-28T18:00:00Z",
    "2026-06-15T00:00:00Z",
];
const HOURS: i64 = 44;
const SETTLE: TimeDelta = TimeDelta::hours(3);

/// An agent's clock: the true time, and what a storm adds to it.
struct AgentClock {
    time: Arc<ManualClock>,
    weather: Weather,
    bug: Option<Bug>,
}

impl Clock for AgentClock {
    fn now(&self) -> DateTime<Utc> {
        let now = self.time.now();
        let off = match self.bug {
            Some(Bug::ClockIsOff) => TimeDelta::hours(-1),
            _ => TimeDelta::zero(),
        };
        now + off
            + self
                .weather
                .at(now)
                .map_or(TimeDelta::zero(), |storm| storm.clock)
    }
}

/// Says whose item it was given, and whose parameters.
struct Echo;

#[async_trait]
impl PurposeHandler for Echo {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        let preference = item.preference.clone().unwrap_or_default();
        Ok(
            json!({"tenant": item.tenant_id, "of": preference["template_overrides"]["of"],
            "enabled": preference["enabled"]}),
        )
    }
}

/// A preference that a user may choose; `None` removes it.
fn choice(random: &mut fastrand::Rng, tenant: &str) -> Option<Map<String, Value>> {
    const ZONES: [&str; 6] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kathmandu",
        "Pacific/Auckland",
        "America/Sao_Paulo",
    ];
    let time = format!(
        "{:02}:{:02}",
        random.u8(..24),
        [0, 0, 15, 30][random.usize(..4)]
    );
    let mut preference = json!({"enabled": random.u8(..8) > 0, "frequency": "daily", "preferred_time": time,
        "timezone": ZONES[random.usize(..ZONES.len())], "template_overrides": {"of": tenant, "n": random.u8(..3)}});
    match random.u8(..12) {
        0 => return None,
        1 => preference["preferred_time"] = json!("25:00"),
        2..4 => {
            preference["frequency"] = json!("hourly");
        }
        4 => {
            preference["frequency"] = json!("weekly");
            preference["preferred_day"] = json!(["saturday", "sunday", "monday"]);
        }
        5 => {
            preference["frequency"] = json!("monthly");
            preference["preferred_day"] = json!([1, 29, "last"]);
        }
        _ => {}
    }
    preference.as_object().cloned()
}

/// Runs one seed to its end.
pub fn simulate(seed: u64, bug: Option<Bug>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async { World::new(seed, bug).run().await })
}

struct World {
    random: fastrand::Rng,
    time: Arc<ManualClock>,
    clock: Arc<AgentClock>,
    weather: Weather,
    database: Arc<SimulatedDatabase>,
    store: Arc<FaultyStore>,
    config: Arc<BatchConfig>,
    schedulers: Vec<AbortHandle>,
    worker: Option<AbortHandle>,
    history: Vec<String>,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let start = STARTS[random.usize(..STARTS.len())];
        let time = Arc::new(ManualClock::starting_at(start));
        let weather = Weather::draw(&mut random, time.now(), HOURS);
        let clock = AgentClock {
            time: time.clone(),
            weather: weather.clone(),
            bug,
        };
        let database = SimulatedDatabase::new(time.clone(), weather.clone(), random.u64(..), bug);
        let store = FaultyStore::new(time.clone(), weather.clone(), random.u64(..), bug);
        let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "echo",
            "preference_based": true, "feature_type": "posts"}]});
        Self {
            clock: Arc::new(clock),
            database: Arc::new(database),
            store: Arc::new(store),
            config: Arc::new(BatchConfig::parse(&jobs, &Zone::utc()).unwrap()),
            history: weather.0.iter().map(|storm| format!("{storm:?}")).collect(),
            weather,
            time,
            random,
            schedulers: Vec::new(),
            worker: None,
        }
    }

    async fn run(mut self) -> Outcome {
        let end = self.time.now() + TimeDelta::hours(HOURS);
        let tenants: Vec<String> = (0..self.random.usize(4..14))
            .map(|n| format!("t{n}"))
            .collect();
        for tenant in &tenants {
            self.choose(tenant);
        }
        // Whoever schedules first looks no further back than its start.
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.start_scheduler();
        self.start_worker();
        let start = self.time.now();
        let mut crash_at = None;
        while self.time.now() < end {
            let pause = TimeDelta::milliseconds(self.random.i64(1..600_000));
            let now = self.time.now();
            let change = self.weather.changes_after(now).map(|change| change - now);
            let pause = change.map_or(pause, |change| change.min(pause));
            tokio::time::sleep(pause.to_std().unwrap()).await;
            if self.random.u8(..6) == 0 {
                let tenant = tenants[self.random.usize(..tenants.len())].clone();
                self.choose(&tenant);
            }
            self.follow_the_weather(&mut crash_at);
        }
        // Calm, until all that was late has come.
        tokio::time::sleep(SETTLE.to_std().unwrap()).await;
        self.schedulers.iter().for_each(AbortHandle::abort);
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.judge(start, end).await
    }

    fn choose(&mut self, tenant: &str) {
        let preference = choice(&mut self.random, tenant);
        self.history.push(format!(
            "{} {tenant} chooses {}",
            self.time.now(),
            json!(preference)
        ));
        self.database
            .store(&TenantId::new(tenant).unwrap(), preference);
    }

    /// Lets schedulers crash, rest, and be two, as the storm says.
    fn follow_the_weather(&mut self, crash_at: &mut Option<DateTime<Utc>>) {
        let now = self.time.now();
        let storm = self.weather.at(now).copied();
        let every = storm.and_then(|storm| storm.crash_every);
        match (*crash_at, every) {
            (Some(at), Some(every)) if now >= at => {
                self.history.push(format!("{now} crash"));
                self.schedulers
                    .drain(..)
                    .for_each(|scheduler| scheduler.abort());
                if let Some(worker) = self.worker.take() {
                    worker.abort();
                }
                *crash_at = Some(now + every);
            }
            (None, Some(every)) => *crash_at = Some(now + every),
            (_, None) => *crash_at = None,
            _ => {}
        }
        let wanted = match storm {
            Some(storm) if storm.down => 0,
            Some(storm) if storm.two_schedulers => 2,
            _ => 1,
        };
        while self.schedulers.len() > wanted {
            self.schedulers.remove(0).abort();
        }
        while self.schedulers.len() < wanted {
            self.start_scheduler();
        }
        if self.worker.is_none() {
            self.start_worker();
        }
    }

    fn start_scheduler(&mut self) {
        self.history
            .push(format!("{} a scheduler starts", self.time.now()));
        let base = BatchScheduler::new(
            self.config.clone(),
            Arc::new(MockItemSource::new()),
            self.store.clone(),
            self.clock.clone(),
            SchedulerOptions {
                chunk_size: 3,
                look_back: TimeDelta::zero(),
            },
        );
        let scheduler = DynamicBatchScheduler::new(
            base,
            self.database.clone(),
            Duration::from_secs(60),
            &Zone::utc(),
            fastrand::f64,
        );
        let running = tokio::spawn(scheduler.run(CancellationToken::new()));
        self.schedulers.push(running.abort_handle());
    }

    fn start_worker(&mut self) {
        let mut handlers = Handlers::default();
        let purpose = PurposeId::new("echo").unwrap();
        handlers.bind(purpose, Arc::new(Echo), Handlers::DEFAULT_TIMEOUT);
        let processor = EnhancedBatchProcessor::new(
            BatchProcessor::new(handlers, self.store.clone(), self.clock.clone()),
            self.database.clone(),
            Arc::new(MockItemSource::new()),
            self.config.clone(),
            Zone::utc(),
            Limits {
                max_concurrent_items: 2,
                retry: RetryPolicy::new(0, fastrand::f64),
            },
            tokio::sync::watch::channel(false).1,
        );
        let store = self.store.clone();
        let working = tokio::spawn(async move {
            let (mut seen, mut failed) = (0, true);
            loop {
                let queued = store.queued.lock().unwrap().len();
                if failed || queued > seen {
                    (seen, failed) = (queued, false);
                    for chunk in store.inner.pending() {
                        // It is delivered again.
                        failed |= processor.process(&chunk).await.is_err();
                    }
                }
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        });
        self.worker = Some(working.abort_handle());
    }

    async fn judge(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Outcome {
        let queued: HashMap<Uuid, DateTime<Utc>> =
            self.store.queued.lock().unwrap().iter().copied().collect();
        let versions = self.database.versions();
        let mut runs = Vec::new();
        for tenant_id in versions.keys() {
            let filter = TenantRuns {
                tenant_id: tenant_id.clone(),
                job_id: None,
            };
            let page = Page {
                cursor: None,
                limit: 1_000,
            };
            let (found, _) = self.store.inner.tenant_runs(&filter, &page).await.unwrap();
            for stored in found {
                let queued_at = queued[&stored.batch_id];
                self.history.push(format!(
                    "{queued_at} queued: {tenant_id} for {} due {}: {:?} {:?}",
                    stored.occurrence,
                    stored.scheduled_at,
                    stored.result.status,
                    stored.result.error
                ));
                runs.push(Ran { stored, queued_at });
            }
        }
        let mut outcome = Outcome::default();
        judge(&versions, &runs, &self.weather, start..end, &mut outcome);
        if !self.store.inner.pending().is_empty() {
            outcome
                .violations
                .push("chunks are left in the queue".into());
        }
        self.history.sort();
        outcome.history = self.history;
        outcome
    }
}
